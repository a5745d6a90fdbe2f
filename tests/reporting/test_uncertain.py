"""When it is too late to send an event again, Stripe is asked what it has; only what is certain is done."""

from __future__ import annotations

import contextlib
import threading

import pytest
import stripe as stripe_python
from fake_clock import Clock
from guard import GUARD
from stripe_types import wrong_requests

from meterkit import Meter
from meterkit.sandbox import Sandbox
from meterkit.stripe_api import event_summaries, retry

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("impatient")]

HOUR = 3600
DAY = 24 * HOUR


@pytest.fixture(params=[{}, {"rejected_consumes_identifier": True}], ids=["", "rejected_consumes_identifier"])
def stripe(request, clock):
    """A Stripe account in which the meter ``calls`` exists."""
    with Sandbox(now=clock, event_lag=120, **request.param) as sandbox:
        make_meter(sandbox, "calls")
        yield sandbox
        assert [] == wrong_requests(sandbox)


def api(sandbox):
    return stripe_python.StripeClient(sandbox.api_key, base_addresses={"api": sandbox.url}).v1


def make_meter(sandbox, event_name):
    return api(sandbox).billing.meters.create(
        {"display_name": event_name, "event_name": event_name, "default_aggregation": {"formula": "sum"}}
    )


@pytest.fixture
def customer(stripe):
    """A Stripe customer, by id."""
    return api(stripe).customers.create({"name": "Acme"}).id


@pytest.fixture
def kit(make_kit, stripe):
    """A kit that reports to the sandbox."""
    return make_kit(Meter("calls"), Meter("egress"), stripe_key=stripe.api_key, stripe_base=stripe.url)


def use(kit, clock, customer, quantity):
    """Usage of this hour, which then ends."""
    kit.record("calls", customer, quantity)
    clock.advance(HOUR)


def lose_the_answer(kit, stripe, fault="reset_after"):
    """Report, and get no answer, however often it is tried."""
    stripe.fail(fault, times=retry.TRIES)
    kit.report()
    stripe.heal()


@contextlib.contextmanager
def in_background(call):
    """Let *call* work meanwhile, and wait for its end."""
    thread = threading.Thread(target=call)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def events_of(stripe):
    return [event.value for event in stripe.meter_events]


def attempts(stripe):
    return [request.params for request in stripe.requests if request.path == "/v1/billing/meter_events"]


def questions(stripe):
    return [request for request in stripe.requests if request.path.endswith("/event_summaries")]


def books(kit):
    return {place: quantity for place, quantity in kit.health()["books"]["calls"].items() if quantity}


def test_what_is_there_is_not_sent_again(kit, stripe, customer, clock):
    """Another event of the same customer and hour, which is known to be there, does not confuse it."""
    use(kit, clock, customer, 5)
    kit.report()
    clock.advance(-HOUR)
    use(kit, clock, customer, 7)
    lose_the_answer(kit, stripe)
    tried = len(attempts(stripe))

    clock.advance(DAY)
    kit.report()

    assert tried == len(attempts(stripe))
    assert [5, 7] == events_of(stripe)
    assert {"counted": 12, "sent": 12, "balanced": True} == books(kit)


def test_what_is_not_there_is_sent(kit, stripe, customer, clock):
    """Under the identifier that it has had from the beginning: if a clock has deceived us, Stripe takes it but once."""
    use(kit, clock, customer, 5)
    lose_the_answer(kit, stripe, "reset_before")

    clock.advance(DAY)
    kit.report()

    assert [5] == events_of(stripe)
    assert 1 == len({params["identifier"] for params in attempts(stripe)})
    assert {"counted": 5, "sent": 5, "balanced": True} == books(kit)


def test_several_of_one_hour_are_looked_at_together(kit, stripe, customer, clock):
    """All of them are there, or none."""
    for quantity in (5, 7):
        use(kit, clock, customer, quantity)
        lose_the_answer(kit, stripe)
        clock.advance(-HOUR)

    clock.advance(DAY + HOUR)
    kit.report()

    assert [5, 7] == events_of(stripe)
    assert {"counted": 12, "sent": 12, "balanced": True} == books(kit)


def test_what_cannot_be_told_is_held(kit, stripe, customer, clock):
    """Somebody else has written an event for the same customer and hour: a human decides, with Stripe's figure."""
    use(kit, clock, customer, 5)
    counted_at = int(clock.now) - HOUR
    lose_the_answer(kit, stripe, "reset_before")
    payload = {"stripe_customer_id": customer, "value": "3"}
    api(stripe).billing.meter_events.create({"event_name": "calls", "payload": payload, "timestamp": counted_at})

    clock.advance(DAY)
    summary = kit.report()

    assert [3] == events_of(stripe)
    assert (1, 0) == (summary.uncertain, summary.sent)
    assert {"counted": 5, "uncertain": 5, "balanced": True} == books(kit)
    (refused,) = kit.health()["refused"]
    assert "Stripe's sum for this customer and hour is 3; the ledger accounts for 0" in refused["error"]


@pytest.mark.parametrize(("arrived", "events"), [(True, [3]), (False, [3, 5])])
def test_a_human_decides(kit, stripe, customer, clock, arrived, events):
    """Whether Stripe has it; if not, it goes out again, and nothing else is touched."""
    use(kit, clock, customer, 5)
    counted_at = int(clock.now) - HOUR
    lose_the_answer(kit, stripe, "reset_before")
    payload = {"stripe_customer_id": customer, "value": "3"}
    api(stripe).billing.meter_events.create({"event_name": "calls", "payload": payload, "timestamp": counted_at})
    clock.advance(DAY)
    kit.report()
    (refused,) = kit.health()["refused"]

    assert kit.decide(refused["identifier"], arrived=arrived)
    assert not kit.decide(refused["identifier"], arrived=not arrived)
    clock.advance(HOUR)
    kit.report()
    assert events == sorted(events_of(stripe))
    assert {"counted": 5, "sent": 5, "balanced": True} == books(kit)
    assert kit.health()["ok"]


def test_what_cannot_be_told_is_asked_once_a_day(kit, stripe, customer, clock):
    """Stripe counts reads; and as soon as it can be told, it is settled."""
    use(kit, clock, customer, 5)
    counted_at = int(clock.now) - HOUR
    lose_the_answer(kit, stripe, "reset_before")
    payload = {"stripe_customer_id": customer, "value": "3"}
    event = {"event_name": "calls", "payload": payload, "timestamp": counted_at, "identifier": "a mistake"}
    api(stripe).billing.meter_events.create(event)
    clock.advance(DAY)
    for _ in range(20):
        kit.report()
        clock.advance(HOUR)
    asked = len(questions(stripe))
    clock.advance(-20 * HOUR)
    api(stripe).billing.meter_event_adjustments.create(
        {"event_name": "calls", "type": "cancel", "cancel": {"identifier": "a mistake"}}
    )

    clock.advance(DAY)
    kit.report()

    assert 1 == asked
    assert 5 == stripe.usage("calls", customer)
    assert {"counted": 5, "sent": 5, "balanced": True} == books(kit)


def test_two_ledgers_of_one_customer_do_not_take_each_others_usage(make_kit, stripe, customer, clock, tmp_path):
    """Where each machine has its own, an equal quantity of the other's is not taken for what got no answer."""
    address = {"stripe_key": stripe.api_key, "stripe_base": stripe.url}
    kits = [make_kit(Meter("calls"), data_dir=tmp_path / name, **address) for name in ("one", "other")]
    for kit in kits:
        kit.record("calls", customer, 5)
    clock.advance(HOUR)
    lose_the_answer(kits[0], stripe, "reset_before")
    kits[1].report()
    clock.advance(300)

    kits[0].report()

    assert [5, 5] == events_of(stripe)


def test_stripe_is_not_asked_before_it_has_added_up(kit, stripe, customer, clock):
    """An attempt of a few minutes ago may be there and not be seen yet."""
    use(kit, clock, customer, 5)
    lose_the_answer(kit, stripe)
    clock.advance(22 * HOUR)
    lose_the_answer(kit, stripe)
    clock.advance(HOUR + 60)  # the first attempt is 23 hours old now, the latest an hour
    clock.advance(-90)
    kit.report()
    assert [] == questions(stripe)

    clock.advance(120)
    kit.report()

    assert [5] == events_of(stripe)
    assert {"counted": 5, "sent": 5, "balanced": True} == books(kit)


def test_while_stripe_does_not_tell_nothing_is_done(kit, stripe, customer, clock):
    """The question is asked again in the next report."""
    use(kit, clock, customer, 5)
    lose_the_answer(kit, stripe)
    clock.advance(DAY)
    stripe.fail("500", path="/v1/billing/meters", after=1)
    summary = kit.report()

    assert {"counted": 5, "uncertain": 5, "balanced": True} == books(kit)
    assert "500" in summary.error
    kit.report()
    assert {"counted": 5, "sent": 5, "balanced": True} == books(kit)
    assert [5] == events_of(stripe)


def test_a_key_that_may_not_read_holds_nothing_up(make_kit, stripe, customer, clock, monkeypatch):
    """What is uncertain stays so, and says that the key has to be allowed to read; the others go on."""
    kit = make_kit(Meter("calls"), stripe_key=stripe.api_key, stripe_base=stripe.url)
    use(kit, clock, customer, 5)
    lose_the_answer(kit, stripe)
    clock.advance(DAY)
    refused = stripe_python.PermissionError("The provided key does not have the required permissions.", http_status=403)
    monkeypatch.setattr(event_summaries.Summaries, "_meters_of", raiser(refused))
    kit.record("calls", customer, 7)
    clock.advance(HOUR)

    kit.report()

    assert {"counted": 12, "uncertain": 5, "sent": 7, "balanced": True} == books(kit)
    (shown,) = kit.health()["refused"]
    assert "the Stripe key has no permission to read meters" in shown["error"]


def raiser(error):
    def fail(*_):
        raise error

    return fail


@pytest.mark.parametrize(("wrong_then", "wrong_now"), [(DAY, 0), (0, -DAY), (2 * DAY, DAY)])
def test_the_clock_of_this_machine_does_not_tell_how_old_an_attempt_is(
    make_kit, stripe, customer, clock, wrong_then, wrong_now
):
    """By one that was set, an attempt of 30 hours ago may look like one of 6; Stripe has forgotten its identifier."""
    own = Clock(clock.now)
    kit = make_kit(Meter("calls"), stripe_key=stripe.api_key, stripe_base=stripe.url, clock=own)
    use(kit, own, customer, 5)
    clock.now, own.now = own.now, own.now + wrong_then
    lose_the_answer(kit, stripe)
    tried = len(attempts(stripe))
    clock.advance(30 * HOUR)
    own.now = clock.now + wrong_now
    kit.report()

    assert tried == len(attempts(stripe))
    assert [5] == events_of(stripe)
    assert {"counted": 5, "sent": 5, "balanced": True} == books(kit)


def test_while_stripe_does_not_tell_the_time_nothing_is_sent(kit, stripe, customer, clock):
    """What is refused instead tells it as well; only no answer, or a proxy's, does not."""
    use(kit, clock, customer, 5)
    stripe.fail("502", path="/v1/billing/meters", times=retry.TRIES)
    silent = kit.report()
    stripe.fail("500", path="/v1/billing/meters")
    kit.report()

    assert (1, 0, True) == (silent.postponed, silent.sent, "this response is not from Stripe" in silent.error)
    assert [5] == events_of(stripe)


def test_an_attempt_grows_too_old_within_one_report(make_kit, stripe, customer, clock):
    """A machine that sleeps for a day between an attempt and the next asks Stripe for the time when it wakes up."""
    own = Clock(clock.now)
    kit = make_kit(Meter("calls"), stripe_key=stripe.api_key, stripe_base=stripe.url, clock=own)
    use(kit, own, customer, 5)
    clock.now = own.now
    stripe.fail("reset_after")
    asked = stripe.fail("slow", path="/v1/billing/meters", after=1)
    with in_background(kit.report):
        assert asked.wait(GUARD)
        clock.advance(30 * HOUR)
        asked.release()

    assert 1 == len(attempts(stripe))
    assert {"counted": 5, "uncertain": 5, "balanced": True} == books(kit)


def test_a_pass_with_nothing_to_send_asks_stripe_nothing(kit, stripe, customer, clock):
    """Stripe counts how often it is asked."""
    use(kit, clock, customer, 5)
    kit.report()
    asked = len(stripe.requests)
    clock.advance(HOUR)
    kit.report()

    assert asked == len(stripe.requests)


def test_what_was_refused_is_not_mistaken_for_its_successor(kit, stripe, customer, clock):
    """Stripe may use up the identifier of an event that it refuses; so the next attempt has another."""
    kit.record("egress", customer, 3)
    clock.advance(HOUR)
    kit.report()
    clock.advance(HOUR)
    kit.report()
    make_meter(stripe, "egress")

    clock.advance(HOUR)
    kit.report()

    assert 3 == stripe.usage("egress", customer)
    assert 3 == len({params["identifier"] for params in attempts(stripe)})
    assert 3 == kit.health()["books"]["egress"]["sent"]


def test_a_duplicate_is_verified(kit, stripe, customer, clock):
    """It means that Stripe has the event, and does so in the books at once; an hour later Stripe's sum confirms it."""
    use(kit, clock, customer, 5)
    stripe.fail("500_after")  # under another Idempotency-Key, which is no replay
    kit.report()
    assert {"counted": 5, "sent": 5, "balanced": True} == books(kit)
    assert [] == questions(stripe)

    for _ in range(3):
        clock.advance(2 * HOUR)
        kit.report()

    assert 1 == len(questions(stripe))
    assert {"counted": 5, "sent": 5, "balanced": True} == books(kit)
    assert [5] == events_of(stripe)


@pytest.mark.parametrize("fault", ["502_after", "reset_after"])
def test_a_refusal_that_was_not_heard_is_not_taken_for_a_delivery(kit, stripe, customer, clock, fault):
    """If refused events use up their identifiers, the next attempt is a duplicate of what was never counted."""
    kit.record("egress", customer, 3)
    clock.advance(HOUR)
    lose_the_answer(kit, stripe, fault)
    make_meter(stripe, "egress")
    kit.report()
    for _ in range(2):
        clock.advance(2 * HOUR)
        kit.report()

    assert 3 == stripe.usage("egress", customer)
    assert 3 == kit.health()["books"]["egress"]["sent"]


def test_an_event_of_stripes_future_waits(make_kit, stripe, customer, clock):
    """The clock of this machine is ahead: the event is not refused for good, and the cure is named."""
    address = {"stripe_key": stripe.api_key, "stripe_base": stripe.url}
    kit = make_kit(Meter("calls"), clock=lambda: clock() + 90 * 60, **address)
    kit.record("calls", customer, 5)
    clock.advance(30 * 60)
    summary = kit.report()
    assert {"counted": 5, "pending": 5, "balanced": True} == books(kit)
    assert "a clock is ahead of Stripe's: set it" in summary.error

    clock.advance(HOUR)
    kit.report()

    assert [5] == events_of(stripe)
    assert {"counted": 5, "sent": 5, "balanced": True} == books(kit)
