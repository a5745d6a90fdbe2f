"""The reporter: what Stripe receives, whatever happens on the way. Stripe is the sandbox, over HTTP."""

from __future__ import annotations

import itertools
import json
import logging
import os
import signal
import subprocess
import sys
import threading

import pytest
import stripe as stripe_python
from guard import GUARD
from stripe_account import api, make_meter
from thorough import first

from meterkit import Meter
from meterkit.outbox.outbox import Outbox
from meterkit.reporting import meter_events, worker_pool
from meterkit.reporting.meter_events import _send_event
from meterkit.stripe_api import retry
from meterkit.wsgi import MeterMiddleware

pytestmark = pytest.mark.usefixtures("impatient")

CALLS = Meter("calls")
HOUR = 3600


@pytest.fixture
def make_reporting_kit(make_kit, stripe):
    """A function that makes kits which report to the sandbox."""

    def make(*meters, **options):
        return make_kit(*meters, **{"stripe_key": stripe.api_key, "stripe_base": stripe.url, **options})

    return make


@pytest.fixture
def kit(make_reporting_kit):
    """A kit with the meter ``calls`` that reports to the sandbox."""
    return make_reporting_kit()


def events_sent(sandbox):
    return [request for request in sandbox.requests if request.path == "/v1/billing/meter_events"]


def test_an_hour_that_has_ended_is_one_meter_event(kit, stripe, customer, clock):
    """Three counts of two users become one event, stamped with the last usage of the window."""
    kit.record("calls", customer, 2, user="anna")
    clock.advance(60)
    kit.record("calls", customer, 3, user="bert")
    last_used = int(clock.now)
    clock.advance(HOUR)

    summary = kit.report()

    (event,) = stripe.meter_events
    assert ("calls", customer, 5, last_used) == (event.event_name, event.customer, event.value, event.timestamp)
    assert (1, 1, 0) == (summary.sealed, summary.sent, summary.postponed)


def test_only_five_things_leave_the_process(kit, stripe, customer, clock):
    """Event name, customer, quantity, timestamp and identifier: no user, no company name, no path, no body."""
    kit.link("Acme & Sons", customer)
    kit.record("calls", "Acme & Sons", 2, user="anna@example.com")
    clock.advance(HOUR)
    kit.report()

    (request,) = events_sent(stripe)
    assert {"event_name", "identifier", "payload", "timestamp"} == set(request.params)
    assert {"stripe_customer_id": customer, "value": "2"} == request.params["payload"]
    assert {
        "accept-encoding",
        "authorization",
        "content-length",
        "content-type",
        "host",
        "idempotency-key",
        "stripe-version",
        "user-agent",
    } == {name.lower() for name in request.headers}
    everything = json.dumps([request.params, request.headers, request.path], default=str)
    assert "anna" not in everything
    assert "Sons" not in everything


def test_the_request_is_what_stripes_description_says(kit, stripe, customer, clock):
    """Against the parameters of the installed stripe-python, which is generated from Stripe's OpenAPI description."""
    described = stripe_python.params.billing.MeterEventCreateParams
    kit.record("calls", customer, 2)
    clock.advance(HOUR)
    kit.report()

    (request,) = events_sent(stripe)
    assert described.__required_keys__ <= set(request.params) <= set(described.__annotations__)
    assert all(isinstance(value, str) and len(value) <= 100 for value in request.params["payload"].values())
    assert len(request.params["identifier"]) <= 100
    assert request.params["timestamp"].isdigit()
    assert "application/x-www-form-urlencoded" in {value.lower() for value in request.headers.values()}


def test_the_identifier_is_the_idempotency_key(kit, stripe, customer, clock):
    """Stripe's error reports name one of them, and which one is not documented."""
    kit.record("calls", customer)
    clock.advance(HOUR)
    kit.report()

    (request,) = events_sent(stripe)
    headers = {name.lower(): value for name, value in request.headers.items()}
    assert request.params["identifier"] == headers["idempotency-key"]
    assert len(request.params["identifier"]) <= 100


def test_an_open_hour_waits(kit, stripe, customer):
    """Usage of the hour that has not ended is not reported yet."""
    kit.record("calls", customer, 2)

    kit.report()

    assert [] == stripe.meter_events


def test_an_open_hour_is_reported_on_request_and_its_later_usage_is_a_further_event(kit, stripe, customer, clock):
    """The first event is never changed; the second has an identifier of its own."""
    kit.record("calls", customer, 2)
    kit.report(include_open=True)
    kit.record("calls", customer, 3)
    clock.advance(HOUR)
    kit.report()

    assert [2, 3] == [event.value for event in stripe.meter_events]
    assert 2 == len({event.identifier for event in stripe.meter_events})
    assert 5 == stripe.usage("calls", customer)


def test_a_report_without_news_sends_nothing(kit, stripe, customer, clock):
    """What is sent is sent."""
    kit.record("calls", customer, 2)
    clock.advance(HOUR)

    kit.report()
    kit.report()
    kit.report(include_open=True)

    assert 1 == len(events_sent(stripe))


def test_late_usage_keeps_its_hour(kit, make_reporting_kit, stripe, customer, clock):
    """A process that flushes late adds an event to the window in which the usage was."""
    sleepy = make_reporting_kit()
    sleepy.record("calls", customer, 7)
    counted_at = int(clock.now)
    kit.record("calls", customer, 1)
    clock.advance(2 * HOUR)
    kit.report()

    sleepy.flush()
    kit.report()

    assert [(1, counted_at), (7, counted_at)] == [(event.value, event.timestamp) for event in stripe.meter_events]


@pytest.mark.parametrize(
    "fault",
    [
        "409",
        "429",
        "500",
        "500_after",
        "502",
        "502_after",
        "empty",
        "html",
        "lock_timeout",
        "reset_after",
        "reset_before",
        "timeout_after",
        "timeout_before",
    ],
)
@pytest.mark.parametrize("times", first([3], among=[1, 3, 6]))
def test_whatever_goes_wrong_it_is_billed_once(kit, stripe, customer, clock, fault, times):
    """Once or often, before or after Stripe did its work: the sum is what was counted."""
    kit.record("calls", customer, 5)
    clock.advance(HOUR)
    stripe.fail(fault, times=times)

    for _ in range(3):
        kit.report()

    assert 5 == stripe.usage("calls", customer)
    books = kit.health()["books"]["calls"]
    assert books["sent"] == books["counted"] == 5


def test_requests_are_not_logged_one_by_one(kit, stripe, customer, clock, caplog):
    """An application that logs at INFO would get a line of httpx's for each meter event."""
    caplog.set_level(logging.INFO)
    kit.record("calls", customer, 5)
    clock.advance(HOUR)
    kit.report()

    assert 5 == stripe.usage("calls", customer)
    assert [] == [record for record in caplog.records if record.name.startswith("httpx")]


def test_a_reporter_that_is_killed_after_stripe_processed_does_not_bill_twice(kit, stripe, customer, clock, tmp_path):
    """SIGKILL between the event and its acknowledgement: the next reporter learns that it is delivered."""
    kit.record("calls", customer, 5)
    clock.advance(HOUR)
    kit.flush()
    held = stripe.fail("timeout_after")
    script = (
        "import sys; from meterkit import Meter, MeterKit\n"
        "MeterKit(meters=[Meter('calls')], data_dir=sys.argv[1], stripe_key=sys.argv[2], stripe_base=sys.argv[3],"
        " customer_ids=True, clock=lambda: float(sys.argv[4])).report()"
    )
    arguments = [str(tmp_path / "meterkit"), stripe.api_key, stripe.url, str(clock.now)]
    child = subprocess.Popen([sys.executable, "-c", script, *arguments])
    assert held.wait(GUARD)

    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    held.release()
    assert "another process is reporting now" == kit.report().error
    clock.advance(120)
    kit.report()

    assert 5 == stripe.usage("calls", customer)
    assert 5 == kit.health()["books"]["calls"]["sent"]


@pytest.mark.parametrize("fault", ["reset_after", "reset_before"])
def test_what_stripe_may_have_is_compared_after_its_dedup_window(kit, stripe, customer, clock, fault):
    """Stripe knows identifiers for 24 h; later it is asked what it has, and only what it has not is sent again."""
    kit.record("calls", customer, 5)
    clock.advance(HOUR)
    stripe.fail(fault, times=4)
    kit.report()

    clock.advance(23 * HOUR)
    sent_before = len(events_sent(stripe))
    kit.report()
    kit.report()

    assert sent_before + (fault == "reset_before") == len(events_sent(stripe))
    assert 5 == kit.health()["books"]["calls"]["sent"]
    assert 5 == stripe.usage("calls", customer)


def test_what_stripe_cannot_have_is_sent_however_late(kit, stripe, customer, clock):
    """A refused connection or a limiter's answer leaves no doubt, so the 24 h do not begin."""
    kit.record("calls", customer, 5)
    clock.advance(HOUR)
    stripe.fail("429", times=4)
    kit.report()

    clock.advance(30 * HOUR)
    kit.report()

    assert 5 == stripe.usage("calls", customer)


def test_a_rejected_event_is_kept_and_holds_up_no_other(kit, stripe, customer, clock):
    """The customer that does not exist is named with Stripe's words; the others are billed."""
    kit.record("calls", "cus_gone", 3)
    kit.record("calls", customer, 5)
    clock.advance(HOUR)

    summary = kit.report()

    assert 5 == stripe.usage("calls", customer)
    assert (1, 1) == (summary.sent, summary.rejected)
    health = kit.health()
    assert 3 == health["books"]["calls"]["rejected"]
    (refused,) = health["refused"]
    assert "No such customer" in refused["error"]
    assert not health["ok"]


def test_an_event_without_a_meter_waits_until_it_is_made(make_reporting_kit, stripe, customer, clock):
    """It is the account that has to be mended, not the event; and a stored answer is not replayed for it."""
    kit = make_reporting_kit(Meter("egress"), CALLS)
    kit.record("egress", customer, 3)
    kit.record("calls", customer, 1)
    clock.advance(HOUR)
    summary = kit.report()
    assert (1, 1) == (summary.sent, summary.postponed)
    assert "No active meter" in summary.error

    make_meter(stripe, "egress")
    kit.report()

    assert 3 == stripe.usage("egress", customer)


def test_with_a_revoked_key_usage_is_kept(make_reporting_kit, stripe, customer, clock):
    """One request is enough to see it; with a good key everything goes out."""
    revoked = make_reporting_kit(stripe_key="sk_test_revoked")
    revoked.record("calls", customer, 3)
    revoked.record("calls", "cus_other", 1)
    clock.advance(HOUR)

    summary = revoked.report()

    assert (0, 2) == (summary.sent, summary.postponed)
    assert "stripe_key=" in summary.error
    assert 1 == len(events_sent(stripe))
    make_reporting_kit().report()
    assert 3 == stripe.usage("calls", customer)


def test_without_a_key_usage_is_kept_and_that_is_said(make_kit, make_reporting_kit, stripe, customer, clock):
    """Nothing is sent anywhere."""
    keyless = make_kit(stripe_base=stripe.url)
    requests_before = len(stripe.requests)
    keyless.record("calls", customer, 3)
    clock.advance(HOUR)

    summary = keyless.report()

    assert "STRIPE_SECRET_KEY" in summary.error
    assert any("STRIPE_SECRET_KEY" in sentence for sentence in keyless.health()["attention"])
    assert requests_before == len(stripe.requests)
    make_reporting_kit().report()
    assert 3 == stripe.usage("calls", customer)


def test_while_stripe_cannot_be_reached_usage_is_kept(make_reporting_kit, clock, customer, stripe):
    """The summary says why, and the next report sends it."""
    unreachable = make_reporting_kit(stripe_base="http://127.0.0.1:9")
    unreachable.record("calls", customer, 3)
    clock.advance(HOUR)

    summary = unreachable.report()

    assert (0, 1) == (summary.sent, summary.postponed)
    assert "ConnectError" in summary.error
    clock.advance(40 * HOUR)
    make_reporting_kit().report()
    assert 3 == stripe.usage("calls", customer)


def test_one_event_that_always_fails_holds_up_no_other(kit, stripe, customer, clock):
    """Stripe's own errors on one event do not end the pass, but it is no use to go on for ever."""
    other = api(stripe).customers.create({"name": "Globex"}).id
    kit.link("a", customer)
    kit.link("b", other)
    kit.record("calls", "a", 1)
    kit.record("calls", "b", 2)
    clock.advance(HOUR)
    path = "/v1/billing/meter_events"
    stripe.fail("500", path=path)
    stripe.fail("500", path=path, after=1, times=2 * retry.TRIES - 1)

    kit.report()

    assert (0, 2) == (stripe.usage("calls", customer), stripe.usage("calls", other))
    kit.report()
    assert (1, 2) == (stripe.usage("calls", customer), stripe.usage("calls", other))


@pytest.fixture
def customers(stripe):
    """So many customers that their reports are sent in several portions."""
    customers = api(stripe).customers
    return [customers.create({}).id for _ in range(230)]


def use(kit, clock, customers):
    for quantity, each in enumerate(customers, 1):
        kit.record("calls", each, quantity)
    clock.advance(HOUR)


@pytest.mark.long
def test_many_customers_are_reported_side_by_side(kit, stripe, customers, clock, monkeypatch):
    """Two requests are under way at the same time, once all went well for a while."""
    monkeypatch.setattr(worker_pool, "MOST_COMPUTING", 1e9)  # as with a Stripe that is far away
    use(kit, clock, customers)
    one, another = (stripe.fail("slow", path="/v1/billing/meter_events", after=130) for _ in range(2))
    report = threading.Thread(target=kit.report)
    report.start()

    assert one.wait(GUARD)
    assert another.wait(GUARD)
    one.release()
    another.release()
    report.join()

    assert [*range(1, 231)] == [stripe.usage("calls", each) for each in customers]


def test_two_events_of_a_customer_are_never_under_way_at_once(kit, stripe, customers, clock):
    """Stripe refuses the second. They arrive in the order of their hours, however long one takes."""
    payers = customers[:2]
    companies = [(f"{number} of {payer}", payer) for payer in payers for number in range(60)]
    for company, payer in companies:
        kit.link(company, payer)
    for _ in range(3):
        for company, _ in companies:
            kit.record("calls", company)
        clock.advance(HOUR)
    for after in (130, 80, 60):
        stripe.fail("slow", path="/v1/billing/meter_events", after=after, seconds=0.2)

    summary = kit.report()

    assert (360, "", 360) == (summary.sent, summary.error, len(events_sent(stripe)))
    for payer in payers:
        of_hours = [event.timestamp for event in stripe.meter_events if event.customer == payer]
        assert (180, sorted(of_hours)) == (len(of_hours), of_hours)


@pytest.mark.long
def test_a_limiter_is_given_way_to(kit, stripe, customers, clock):
    """Its refusals end no pass as long as others get through."""
    use(kit, clock, customers)
    for after in (145, 60, 30):
        stripe.fail("429", path="/v1/billing/meter_events", after=after, times=5)

    summary = kit.report()

    assert (230, 0, "") == (summary.sent, summary.postponed, summary.error)
    assert [*range(1, 231)] == [stripe.usage("calls", each) for each in customers]


@pytest.mark.long
def test_who_is_down_is_not_asked_for_every_customer(kit, stripe, customers, clock):
    """A few failures in a row are enough to see it."""
    use(kit, clock, customers)
    stripe.fail("500", path="/v1/billing/meter_events", times=10_000)

    summary = kit.report()

    assert (0, 230) == (summary.sent, summary.postponed)
    asked = len(events_sent(stripe))
    assert asked <= 3 * retry.TRIES
    stripe.heal()
    clock.advance(24 * HOUR)
    kit.report()
    compared = [request for request in stripe.requests if "event_summaries" in request.path]
    assert 0 < len(compared) <= asked  # what was not sent is in no doubt
    assert [*range(1, 231)] == [stripe.usage("calls", each) for each in customers]


@pytest.mark.long
def test_a_bad_event_among_many_is_refused_alone(kit, stripe, customers, clock):
    """The others of its portion are billed."""
    use(kit, clock, [*customers[:120], "cus_gone", *customers[120:]])

    summary = kit.report()

    assert (230, 1) == (summary.sent, summary.rejected)
    assert ["cus_gone"] == [
        each.customer for each in Outbox(kit.process().database(), clock=kit.clock).reports(state="rejected")
    ]


@pytest.mark.parametrize("call", first([120], among=[1, 120, 220]))
def test_what_nobody_thought_of_is_raised_and_bills_nothing_twice(kit, stripe, customers, clock, monkeypatch, call):
    """In whichever thread it happens, when Stripe has the event: all that was under way is taken for unknown."""
    use(kit, clock, customers)
    calls = itertools.count(1)

    def send_and_break(client, report, payload):
        verdict = _send_event(client, report, payload)
        if next(calls) == call:
            raise ZeroDivisionError
        return verdict

    monkeypatch.setattr(meter_events, "_send_event", send_and_break)
    with pytest.raises(ZeroDivisionError):
        kit.report()
    for _ in range(2):
        clock.advance(2 * HOUR)
        kit.report()

    assert [*range(1, 231)] == [stripe.usage("calls", each) for each in customers]
    books = kit.health()["books"]["calls"]
    assert books["sent"] == books["counted"] == sum(range(1, 231))


@pytest.mark.long
def test_a_report_that_is_killed_amidst_many(kit, stripe, customers, clock, tmp_path):
    """Its portion is sent again, under the same identifiers; what had not been sent is not in doubt for that."""
    use(kit, clock, customers)
    kit.flush()
    held = stripe.fail("timeout_after", path="/v1/billing/meter_events", after=150)
    script = (
        "import sys; from meterkit import Meter, MeterKit\n"
        "MeterKit(meters=[Meter('calls')], data_dir=sys.argv[1], stripe_key=sys.argv[2], stripe_base=sys.argv[3],"
        " customer_ids=True, clock=lambda: float(sys.argv[4])).report()"
    )
    arguments = [str(tmp_path / "meterkit"), stripe.api_key, stripe.url, str(clock.now)]
    child = subprocess.Popen([sys.executable, "-c", script, *arguments])
    assert held.wait(GUARD)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    held.release()
    clock.advance(120)
    kit.report()
    clock.advance(2 * HOUR)
    kit.report()

    assert [*range(1, 231)] == [stripe.usage("calls", each) for each in customers]
    books = kit.health()["books"]["calls"]
    assert books["sent"] == books["counted"] == sum(range(1, 231))


def test_two_reporters_take_turns(kit, make_reporting_kit, stripe, customer, clock):
    """While one holds the lease, the other sends nothing, and says why."""
    kit.record("calls", customer, 5)
    clock.advance(HOUR)
    kit.flush()
    held = stripe.fail("slow")
    first = threading.Thread(target=kit.report)
    first.start()
    assert held.wait(GUARD)

    summary = make_reporting_kit().report()

    assert "another process" in summary.error
    held.release()
    first.join()
    assert 5 == stripe.usage("calls", customer)


def test_usage_waits_for_its_customer(kit, stripe, customer, clock):
    """A company without a link is shown, and goes out with its own timestamp when the link comes."""
    kit.record("calls", "acme", 4)
    counted_at = int(clock.now)
    clock.advance(5 * HOUR)
    kit.report()
    assert 4 == kit.health()["books"]["calls"]["unlinked"]

    kit.link("acme", customer)
    kit.report()

    (event,) = stripe.meter_events
    assert (customer, 4, counted_at) == (event.customer, event.value, event.timestamp)


def test_companies_that_look_alike_when_joined_are_billed_apart(kit, stripe, customer, clock):
    """Two companies of one customer, whose names contain what a careless key would be joined with."""
    for company in ("a/b", "a", "a,b", 'a","b', "a:b"):
        kit.link(company, customer)
        kit.record("calls", company, 1)
    clock.advance(HOUR)

    kit.report()

    assert 5 == stripe.usage("calls", customer)
    assert 5 == len({event.identifier for event in stripe.meter_events})


def test_usage_of_nobody_is_never_sent(kit, stripe, clock):
    """It is counted and shown, and there is nobody to bill."""

    def app(environ, start_response):
        start_response("200 OK", [])
        return [b"hello"]

    MeterMiddleware(app, kit)({"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, lambda *_: None)
    clock.advance(HOUR)

    kit.report()

    assert [] == stripe.meter_events
    assert 1 == kit.health()["books"]["calls"]["unattributed"]


def test_a_quantity_beyond_stripes_digits_is_sent_in_parts(kit, stripe, customer, clock):
    """Stripe: a value has at most 15 digits."""
    for _ in range(3):
        kit.record("calls", customer, 999_999_999_999_999)
    clock.advance(HOUR)

    kit.report()

    assert 3 * 999_999_999_999_999 == stripe.usage("calls", customer)
    assert 3 == len(stripe.meter_events)


def test_a_clock_that_was_set_back_sends_no_future_timestamp(kit, stripe, customer, clock):
    """Stripe refuses timestamps more than five minutes ahead."""
    kit.record("calls", customer, 1)
    clock.advance(-9 * 60)

    kit.report(include_open=True)

    (event,) = stripe.meter_events
    assert int(clock.now) == event.timestamp


def test_a_meter_that_has_left_the_code_is_still_reported(kit, make_reporting_kit, stripe, customer, clock):
    """The ledger knows under which event name."""
    kit.record("calls", customer, 5)
    kit.close()
    clock.advance(HOUR)

    make_reporting_kit(Meter("another")).report()

    assert 5 == stripe.usage("calls", customer)


def test_the_settings_of_stripe_python_are_left_alone(kit, stripe, customer, clock):
    """They belong to the application."""
    names = ("api_key", "api_base", "app_info", "enable_telemetry", "max_network_retries", "default_http_client", "log")
    before = {name: getattr(stripe_python, name) for name in names}
    kit.record("calls", customer)
    clock.advance(HOUR)

    kit.report()

    assert 1 == stripe.usage("calls", customer)
    assert before == {name: getattr(stripe_python, name) for name in names}


@pytest.mark.long
@pytest.mark.parametrize("fault", ["reset_after", "reset_before", "500"])
def test_payload_keys_that_leave_the_code_too_early(make_reporting_kit, stripe, clock, fault):
    """An event that is tried again without them is refused, as Stripe has it or not; with them, it counts once."""
    own = {"customer_key": "customer_id", "value_key": "tokens"}
    api(stripe).billing.meters.create(
        {
            "display_name": "Tokens",
            "event_name": "tokens",
            "default_aggregation": {"formula": "sum"},
            "customer_mapping": {"type": "by_id", "event_payload_key": "customer_id"},
            "value_settings": {"event_payload_key": "tokens"},
        }
    )
    customer = api(stripe).customers.create({}).id
    with_keys = make_reporting_kit(Meter("tokens", **own))
    with_keys.record("tokens", customer, 5)
    clock.advance(HOUR)
    stripe.fail(fault, path="/v1/billing/meter_events", times=retry.TRIES, after=0)
    with_keys.report()
    with_keys.close()
    stripe.heal()
    without = make_reporting_kit(Meter("tokens"))
    without.report()
    attention = " ".join(without.health()["attention"])
    without.close()
    kit = make_reporting_kit(Meter("tokens", **own))
    kit.report()
    kit.retry()
    kit.report()
    clock.advance(HOUR)
    kit.report()

    assert attention
    assert 5 == stripe.usage("tokens", customer)
    books = kit.health()["books"]["tokens"]
    assert (5, 5, True) == (books["counted"], books["sent"], books["balanced"])
