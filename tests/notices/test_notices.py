"""What happens is told: once for each crossing and period, by one process of many, until somebody has heard it."""

from __future__ import annotations

import threading
from datetime import datetime, timezone

import pytest
from fake_clock import NOON
from guard import GUARD
from stripe_account import api as api_of

from meterkit import ConfigurationError, Governance, Meter, Notify, Price, Quota, Tier

HOUR, DAY = 3600, 24 * 3600
CALLS = Meter("calls", path="/calls")
PRICE = Price.graduated(CALLS, Tier(up_to=100, unit_price="5"), Tier(up_to=1000, unit_price="3"), Tier(unit_price="2"))


class Told:
    """A channel that remembers, and fails when it is told to."""

    def __init__(self, name="told"):
        self.name = name
        self.notices = []
        self.fails = 0

    def deliver(self, notice):
        if self.fails:
            self.fails -= 1
            raise OSError("the line is dead")
        self.notices.append(notice)

    @property
    def titles(self):
        return [notice.title for notice in self.notices]


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def telling(make_kit):
    """A function that makes kits which tell of what happens."""
    return lambda *rules, **options: make_kit(CALLS, **{"prices": [PRICE], "notify": rules, **options})


def tell(kit, *channels):
    """One flush interval: flush, look, and deliver."""
    kit.flush()
    dispatcher = kit.process().dispatcher
    dispatcher.evaluate()
    for channel in channels or ["told"]:
        dispatcher.deliver(channel)


def use(kit, quantity, company="acme", **when):
    kit.record("calls", company, quantity, **when)


def test_a_tier_is_near_and_crossed(telling, told):
    """Each once, though usage goes on."""
    kit = telling(Notify.tier_near(to=told), Notify.tier_crossed(to=told))
    for quantity in (79, 1, 10, 11, 1, 700, 198, 1, 1):
        use(kit, quantity)
        tell(kit)

    assert [
        "acme is near tier 2 of calls",
        "acme has reached tier 2 of calls",
        "acme is near tier 3 of calls",
        "acme has reached tier 3 of calls",
    ] == told.titles
    assert {"used": 101, "tier": 2, "unit_price": "3", "currency": "usd", "meter": "calls"}.items() <= told.notices[
        1
    ].fields.items()
    assert len({notice.key for notice in told.notices}) == 4


def test_of_several_tiers_at_once_the_last_is_told(telling, told):
    """And a new period begins anew."""
    kit = telling(Notify.tier_crossed(to=told), Notify.tier_near(to=told, units=10))
    use(kit, 5000)
    tell(kit)
    kit.clock.advance(31 * DAY)
    use(kit, 95)
    tell(kit)

    assert ["acme has reached tier 3 of calls", "acme is near tier 2 of calls"] == told.titles


def test_only_what_was_asked_for(telling, told):
    """One tier of one meter."""
    kit = telling(Notify.tier_crossed(to=told, meter=CALLS, tier=3))
    use(kit, 500)
    tell(kit)
    use(kit, 501)
    tell(kit)

    assert ["acme has reached tier 3 of calls"] == told.titles


def test_thresholds(telling, told):
    """In units, and in money."""
    kit = telling(Notify.threshold(to=told, meter=CALLS, units=50), Notify.threshold(to=told, amount="503.00"))
    for quantity in (49, 1, 50, 1):
        use(kit, quantity)
        tell(kit)

    assert ["acme has used 50 calls", "acme has spent 503.00 USD"] == told.titles
    assert "costs 503.00 USD so far" in told.notices[1].text


def test_a_small_price_is_written_out(telling, told):
    """In digits, however small it is."""
    price = Price.graduated(CALLS, Tier(up_to=1, unit_price="1"), Tier(unit_price="0.00000015"))
    kit = telling(Notify.tier_crossed(to=told), prices=[price])
    use(kit, 2)
    tell(kit)

    assert "0.00000015" == told.notices[0].fields["unit_price"]
    assert "0.00000015 USD" in told.notices[0].text


def test_quotas(telling, told):
    """Near and reached, of whatever period they are; each day anew."""
    governance = Governance(quotas=[Quota(CALLS, 10, per="day")])
    kit = telling(Notify.quota(to=told), governance=governance, identify=lambda exchange: None)
    for quantity in (7, 1, 1, 1):
        use(kit, quantity)
        tell(kit)
    kit.clock.advance(DAY)
    use(kit, 8)
    tell(kit)

    assert [
        "acme has nearly used up its quota of calls",
        "acme has used up its quota of calls",
        "acme has nearly used up its quota of calls",
    ] == told.titles


def test_each_nth_call(telling, told):
    """Whatever the steps in which they are seen, also by a process that starts later."""
    rule = Notify.calls(CALLS, every=3, to=told)
    kit = telling(rule)
    use(kit, 7)
    tell(kit)
    use(kit, 1)
    tell(kit)
    kit.close()
    other = telling(rule)
    use(other, 4)
    tell(other)

    assert [3, 6, 9, 12] == [notice.fields["used"] for notice in told.notices]


def test_many_processes_tell_once(telling, told):
    """Each of them looks, in any order, and again after a restart."""
    kits = [telling(Notify.tier_crossed(to=told)) for _ in range(4)]
    for kit in kits:
        use(kit, 30)
    threads = [threading.Thread(target=tell, args=(kit,)) for kit in kits * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for kit in kits:
        kit.close()
    tell(telling(Notify.tier_crossed(to=told)))

    assert ["acme has reached tier 2 of calls"] == told.titles


def test_what_could_not_be_told_is_tried_again(telling, told, clock):
    """After a pause that grows; another channel is not held up; and it has the same key each time."""
    other = Told("other")
    kit = telling(Notify.threshold(to=[told, other], meter=CALLS, units=1))
    told.fails = 2
    use(kit, 1)
    tell(kit, "told", "other")
    at_once = list(told.notices)
    failed = kit.health()["problems"]["channel_failed"]["message"]
    for seconds in (29, 1, 59, 1):
        clock.advance(seconds)
        tell(kit, "told", "other")

    assert ([], 1) == (at_once, len(other.notices))
    assert "OSError: the line is dead" in failed
    assert [other.notices[0].key] == [notice.key for notice in told.notices]
    assert [("other", "delivered", 1), ("told", "delivered", 3)] == [
        (each.channel, each.state, each.attempts) for each in kit.notices()
    ]
    assert "channel_failed" not in kit.health()["problems"]


def test_a_channel_that_hangs_harms_no_other(make_kit, told):
    """Nor a request, nor a flush; the notice is taken up when its process is gone, or has been too long."""
    hangs, entered = threading.Event(), threading.Event()

    class Hanging:
        name = "hanging"

        def deliver(self, notice):
            entered.set()
            hangs.wait(GUARD)

    rules = [Notify.threshold(to=[Hanging(), told], meter=CALLS, units=1)]
    kit = make_kit(CALLS, notify=rules, flush_interval=0.01)
    arrived = threading.Event()
    told.deliver = lambda notice: arrived.set()
    use(kit, 1)
    assert entered.wait(GUARD)
    assert arrived.wait(GUARD)
    use(kit, 1)
    kit.flush()

    assert 2 == sum(row.quantity for row in kit.usage())
    hangs.set()


def test_a_delivery_that_nobody_finished(telling, told, clock):
    """Its process died: another one takes it up after two minutes."""
    kit = telling(Notify.threshold(to=told, meter=CALLS, units=1))
    use(kit, 1)
    kit.flush()
    kit.process().dispatcher.evaluate()
    kit.process().dispatcher._notices().claim("told")
    other = telling(Notify.threshold(to=told, meter=CALLS, units=1))
    tell(other)
    at_once = list(told.notices)
    clock.advance(121)
    tell(other)

    assert ([], 1) == (at_once, len(told.notices))


def test_it_is_given_up_after_days(telling, told, clock):
    """And that can be seen."""
    kit = telling(Notify.threshold(to=told, meter=CALLS, units=1))
    told.fails = 10**6
    use(kit, 1)
    for _ in range(80):
        tell(kit)
        clock.advance(HOUR)
    told.fails = 0
    tell(kit)

    assert [] == told.notices
    assert [("given_up", "OSError: the line is dead")] == [(each.state, each.error) for each in kit.notices()]


@pytest.fixture
def subscribed(stripe):
    """Acme's customer at Stripe, with a base fee a month."""
    api = api_of(stripe)
    customer = api.customers.create({"metadata": {"company": "acme"}}).id
    recurring = {"interval": "month"}
    price = api.prices.create(
        {"currency": "usd", "unit_amount": 700, "recurring": recurring, "product_data": {"name": "Base"}}
    ).id
    api.subscriptions.create({"customer": customer, "items": [{"price": price}]})
    return customer


def test_overdue_and_recovered(telling, told, stripe, subscribed, clock):
    """Once for each time, with the invoice and where to pay it."""
    kit = telling(Notify.overdue(to=told), stripe_key=stripe.api_key, stripe_base=stripe.url)

    def look():
        kit.sync()
        clock.advance(61)
        tell(kit)

    look()
    stripe.payments(subscribed, "fail")
    stripe.advance(seconds=32 * DAY)
    look()
    look()
    (invoice,) = api_of(stripe).invoices.list({"status": "open"}).data
    api_of(stripe).invoices.pay(invoice.id, {"paid_out_of_band": True})
    look()
    look()

    assert ["acme is overdue", "acme is no longer overdue"] == told.titles
    assert (invoice.number, "7.00", invoice.hosted_invoice_url) == tuple(
        told.notices[0].fields[name] for name in ("invoice", "amount", "url")
    )


def test_an_invoice_is_near(telling, told, clock):
    """With what it costs so far; of companies that have used something."""
    kit = telling(Notify.invoice_upcoming(to=told, days=3))
    use(kit, 10)
    tell(kit)
    clock.advance(28 * DAY)
    tell(kit)
    clock.advance(61)
    tell(kit)

    assert ["Upcoming invoice for acme"] == told.titles
    assert "50.00 USD" in told.notices[0].text


def test_rejected_usage(telling, told, stripe, clock):
    """With Stripe's reason, and the cure."""
    kit = telling(Notify.rejected(to=told), stripe_key=stripe.api_key, stripe_base=stripe.url)
    kit.link("acme", "cus_gone")
    use(kit, 7)
    clock.advance(HOUR)
    kit.report()
    tell(kit)

    assert ["Stripe has rejected 7 calls of acme"] == told.titles
    assert "No such customer" in told.notices[0].text
    assert "meterkit retry" in told.notices[0].text


def test_usage_that_waits(telling, told, clock):
    """That nobody pays, and that it is too old soon: each once."""
    kit = telling(Notify.waiting(to=told, days=7))
    use(kit, 7)
    for _ in range(2):
        tell(kit)
        clock.advance(61)
    clock.advance(28 * DAY)
    for _ in range(2):
        tell(kit)
        clock.advance(61)

    assert [
        "acme has usage but no Stripe customer",
        "Usage of acme will soon be too old for Stripe",
    ] == told.titles


def test_trouble(telling, told, stripe):
    """Reporting fails: told once a day."""
    kit = telling(Notify.trouble(to=told), stripe_key="sk_test_wrong", stripe_base=stripe.url)
    kit.link("acme", "cus_1")
    use(kit, 1)
    kit.clock.advance(HOUR)
    kit.flush()
    kit.process().stripe_jobs._report_in_background()
    for seconds in (0, 60, DAY):
        kit.clock.advance(seconds)
        tell(kit)

    assert ["meterkit has a problem: report_failed"] * 2 == told.titles


def test_trouble_of_the_ledger_is_told_without_it(telling, told, tmp_path):
    """Once in a while, by each process."""
    arrived = threading.Event()
    told.deliver = lambda notice: (told.notices.append(notice), arrived.set())
    kit = telling(Notify.trouble(to=told))
    use(kit, 1)
    kit.flush()
    (tmp_path / "meterkit" / "ledger.sqlite").rename(tmp_path / "elsewhere")
    use(kit, 1)
    kit.process().try_flush()
    for _ in range(2):
        kit.process().flusher._notify_in_background()

    assert arrived.wait(GUARD)
    assert ["meterkit has a problem: flush_failed"] == told.titles
    assert "no longer exists" in told.notices[0].text


@pytest.mark.parametrize(
    ("make", "cure"),
    [
        (lambda to: [Notify.tier_near(to=to, share="1.5")], "a share such as '0.8'"),
        (lambda to: [Notify.tier_near(to=to, share=0.8)], "as text or Decimal"),
        (lambda to: [Notify.tier_near(to=to, share="0.5", units=3)], "not both"),
        (lambda to: [Notify.tier_crossed(to=to, tier=4)], "the last tier of prices= is 3"),
        (lambda to: [Notify.tier_crossed(to=to, tier=1)], "from 2"),
        (lambda to: [Notify.tier_crossed(to=to, meter=Meter("other"))], "not in meters="),
        (lambda to: [Notify.threshold(to=to, units=5)], "meter= and units=, or amount="),
        (lambda to: [Notify.threshold(to=to, amount=5.0)], "a float is not exact"),
        (lambda to: [Notify.quota(to=to)], "governance= has none"),
        (lambda to: [Notify.calls(CALLS, to=to, every=0)], "1 or more"),
        (lambda to: [Notify.overdue(to=[to, Told()])], "two channels are named 'told'"),
        (lambda to: [to], "is not a Notify"),
        (lambda to: Notify.overdue(to=to), "must be a list of Notify, such as"),
    ],
)
def test_what_is_wrong_is_said_while_building(telling, told, make, cure):
    """With the cure."""
    with pytest.raises(ConfigurationError, match=cure):
        telling(prices=[PRICE], notify=make(told))


def test_usage_of_the_past_belongs_to_its_period(telling, told):
    """Of the month before, it crosses nothing in this one."""
    kit = telling(Notify.tier_crossed(to=told))
    use(kit, 500, at=datetime.fromtimestamp(NOON - 5 * DAY, timezone.utc))
    tell(kit)

    assert [] == told.titles
