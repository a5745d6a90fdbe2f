"""What another program has reported to Stripe, imported: it counts wherever usage counts, and is never sent."""

from __future__ import annotations

from datetime import datetime, timezone
from decimal import Decimal

import pytest
from followed_account import api, events, kit, make_following_kit, price, stripe, tell  # noqa: F401 - fixtures
from guard import GUARD
from plain_exchange import PlainExchange
from thorough import first

from meterkit import Governance, Meter, Quota, UsageError, unique

HOUR, DAY = 3600, 24 * 3600

BEFORE = [700, 500, 200, 100]
"""What the other program has reported."""


@pytest.fixture
def begun(clock):
    """When the customer subscribed."""
    return int(clock.now)


@pytest.fixture
def customer(api, price, clock, begun):
    """A customer who pays for acme; another program has reported 1,500 of this month, on four days."""
    customer = api.customers.create({"metadata": {"company": "acme"}}).id
    api.subscriptions.create({"customer": customer, "items": [{"price": price}]})
    for quantity in BEFORE:
        report(api, clock, customer, quantity)
        clock.advance(2 * DAY)
    return customer


@pytest.fixture
def write(tmp_path, begun):
    """A function that writes what the other program has reported, from the first day on, to a file."""

    def write(*quantities, after=0, company="acme", meter="calls"):
        path = tmp_path / f"{company}-{meter}-{after}.csv"
        lines = [
            f"{meter},{company},{quantity},{begun + (after + at) * 2 * DAY}," for at, quantity in enumerate(quantities)
        ]
        path.write_text("\n".join(["meter,company,quantity,at,user", *lines]))
        return path

    return write


def report(api, clock, customer, quantity, event_name="calls"):
    """The other program reports."""
    payload = {"stripe_customer_id": customer, "value": str(quantity)}
    api.billing.meter_events.create({"event_name": event_name, "payload": payload, "timestamp": int(clock.now)})


def upcoming(api, customer):
    """What Stripe would bill."""
    return Decimal(api.invoices.create_preview({"customer": customer}).total).scaleb(-2)


def sent(stripe):
    """The quantities that Stripe received, of whomever."""
    return [event.value for event in stripe.meter_events]


def total(kit):
    (preview,) = kit.preview("acme")
    return preview.total


@pytest.mark.parametrize("portion", first([BEFORE], among=[BEFORE, [700, 500], [500], [1]]))
def test_a_subscription_that_was_seen_before(kit, api, clock, stripe, customer, write, portion):
    """The opening balance had it: a part of it may be imported, or all."""
    kit.sync()
    before = total(kit)
    after = 1 if portion == [500] else 0
    kit.backfill(write(*portion, after=after), already_reported=True)

    assert Decimal("4200.00") == before == total(kit) == upcoming(api, customer)

    kit.record("calls", "acme", 10)
    clock.advance(HOUR)
    kit.report()

    assert Decimal("4220.00") == total(kit) == upcoming(api, customer)
    assert [*BEFORE, 10] == sent(stripe)


@pytest.mark.parametrize("portion", first([[700, 500]], among=[BEFORE, [700, 500]]))
def test_a_subscription_that_is_seen_afterwards(kit, api, clock, stripe, customer, write, portion):
    """Its opening balance is what was not imported."""
    kit.link("acme", customer)
    kit.backfill(write(*portion), already_reported=True)
    kit.sync()
    kit.record("calls", "acme", 10)
    clock.advance(HOUR)
    kit.report()
    kit.sync()

    assert Decimal("4220.00") == total(kit) == upcoming(api, customer)
    assert [*BEFORE, 10] == sent(stripe)


@pytest.mark.long
def test_what_was_reported_after_the_first_sync(kit, api, clock, stripe, customer, write):
    """No balance has it."""
    kit.sync()
    report(api, clock, customer, 40)
    clock.advance(HOUR)
    kit.backfill(write(40, after=4), already_reported=True)

    assert Decimal("4280.00") == total(kit) == upcoming(api, customer)


def test_the_invoice(kit, api, clock, stripe, customer, write):
    """What the customer pays in the end is what the preview has said; nothing of it is late."""
    kit.sync()
    kit.backfill(write(*BEFORE), already_reported=True)
    kit.record("calls", "acme", 10)
    clock.advance(HOUR)
    kit.report()
    previewed = total(kit)
    clock.advance(31 * DAY)
    kit.report()
    kit.sync()
    invoices = [each for each in api.invoices.list({"customer": customer}).data if each.total]

    assert [422_000] == [each.total for each in invoices]
    assert (Decimal("4220.00"), Decimal("0.00")) == (previewed, total(kit))
    assert [] == kit.health()["attention"]
    assert [*BEFORE, 10] == sent(stripe)


@pytest.mark.parametrize("late", first(["report"], among=["report", "next_invoice"]))
def test_of_a_period_whose_invoice_is_final(make_following_kit, api, clock, stripe, customer, write, late):
    """It is on that invoice, which the other program has reported it in time for."""
    clock.advance(24 * DAY)
    api.invoices.list({"customer": customer})  # lets the sandbox bring itself up to date
    kit = make_following_kit(late=late)
    kit.sync()
    kit.backfill(write(*BEFORE), already_reported=True)
    kit.report()

    assert [] == kit.health()["attention"]
    assert [] == api.invoice_items.list({"customer": customer, "pending": True}).data
    assert BEFORE == sent(stripe)
    assert Decimal(0) == total(kit)


@pytest.mark.long
def test_late_usage_costs_what_the_tier_costs_that_was_reached(make_following_kit, api, clock, customer, write):
    """With what was imported."""
    kit = make_following_kit(late="next_invoice")
    kit.sync()
    kit.backfill(write(*BEFORE), already_reported=True)
    late = int(clock.now)
    clock.advance(24 * DAY)
    api.invoices.list({"customer": customer})
    kit.sync()
    kit.process().ledger().fold("forgotten", [(("calls", "calls", "acme", "", late), 10, late)])
    kit.report()

    assert [2_000] == [item.amount for item in api.invoice_items.list({"customer": customer}).data]


@pytest.mark.long
def test_usage_that_was_late_before_the_import(kit, api, clock, customer, write):
    """It goes on costing what it did."""
    kit.sync()
    late = int(clock.now)
    clock.advance(24 * DAY)
    api.invoices.list({"customer": customer})
    kit.sync()
    kit.process().ledger().fold("forgotten", [(("calls", "calls", "acme", "", late), 10, late)])
    kit.report()
    before = kit.health()["attention"]
    kit.backfill(write(*BEFORE), already_reported=True)

    assert [True] == ["10 calls of acme, 20.00 usd, arrived after" in line for line in before]
    assert before == kit.health()["attention"]


@pytest.mark.long
def test_what_was_used_before_the_period(kit, api, clock, customer, write):
    """No balance of this period has it."""
    kit.sync()
    kit.backfill(write(5, after=-1), already_reported=True)

    assert Decimal("4200.00") == total(kit) == upcoming(api, customer)


@pytest.mark.long
def test_more_than_a_balance_has(kit, customer, write):
    """What is imported counts, and a balance is never less than nothing."""
    kit.sync()
    kit.backfill(write(700, 900), already_reported=True)

    assert Decimal("4400.00") == total(kit)


def test_the_books_the_history_and_stripe(kit, api, clock, stripe, customer, write):
    """It is in all of them, once; the same file counts once."""
    kit.sync()
    path = write(*BEFORE)
    first = kit.backfill(path, already_reported=True)
    again = kit.backfill(path, already_reported=True)
    other = kit.backfill(path)
    kit.report()
    books = kit.health()["books"]["calls"]

    assert [(4, 4, 0), (4, 0, 4), (4, 0, 4)] == [
        (each.rows, each.counted, each.known) for each in (first, again, other)
    ]
    assert (1500, 1500, True) == (books["counted"], books["sent"], books["balanced"])
    assert [(each, each) for each in BEFORE] == [(row.quantity, row.reported) for row in kit.usage()]
    assert all(each.agree for each in kit.reconcile(month="2026-03"))
    assert BEFORE == [
        event.report.quantity for each in kit.explain("acme", "calls", month="2026-03") for event in each.events
    ]
    assert BEFORE == sent(stripe)


def test_a_quota_of_a_process_that_runs(make_following_kit, api, clock, customer, write):
    """It neither counts twice, nor is it missed."""
    kit = make_following_kit(identify=lambda _: "acme", governance=Governance(quotas=[Quota(Meter("calls"), 1505)]))
    kit.sync()
    kit.governor.begin()
    assert kit.governor.ready.wait(GUARD)
    kit.flush()
    clock.advance(HOUR)
    kit.flush()
    before = kit.process().usage()["period"].used["acme", "calls"]
    kit.backfill(write(*BEFORE), already_reported=True)
    kit.flush()
    after = kit.process().usage()["period"].used["acme", "calls"]
    report(api, clock, customer, 10)
    clock.advance(HOUR)
    kit.backfill(write(10, after=4), already_reported=True)
    kit.flush()
    exchange = PlainExchange("GET", "/anything")
    exchange.publish(kit)
    refused = kit.governor.check(exchange)
    kit.recorder.refuse(exchange)

    assert (1500, 1500, 429) == (before, after, refused.status)


@pytest.mark.long
def test_a_customer_of_two_companies(kit, api, clock, stripe, customer, write):
    """The opening balance is nobody's; what is imported has a company."""
    kit.sync()
    kit.link("globex", customer)
    kit.backfill(write(700, 500), already_reported=True)
    kit.backfill(write(200, 100, after=2, company="globex"), already_reported=True)

    assert Decimal("4200.00") == total(kit) == upcoming(api, customer)


@pytest.mark.long
def test_a_meter_of_values(make_kit, api, clock, stripe, customer, write, tmp_path, begun):
    """What they add to their period was reported."""
    kit = make_kit(
        Meter("calls", value=unique("seat")), stripe_key=stripe.api_key, stripe_base=stripe.url, webhook=None
    )
    kit.link("acme", customer)
    path = tmp_path / "seats.csv"
    path.write_text(f"meter,company,quantity,at,user\ncalls,acme,1,{begun},ann\ncalls,acme,1,{begun + HOUR},ann\n")
    kit.backfill(path, already_reported=True)
    kit.report()

    assert [(1, 1)] == [(row.quantity, row.reported) for row in kit.usage()]
    assert BEFORE == sent(stripe)


@pytest.mark.long
def test_a_correction(kit, api, clock, stripe, customer, write, begun):
    """A negative event follows: the other program's own cannot be cancelled by its identifier, which nobody knows."""
    kit.sync()
    kit.backfill(write(*BEFORE), already_reported=True)
    at = datetime.fromtimestamp(begun + 6 * DAY, timezone.utc)
    kit.correct("calls", "acme", 100, at=at, reason="a test of theirs")
    kit.report()

    assert [*BEFORE, -100] == sent(stripe)
    assert Decimal("4000.00") == total(kit) == upcoming(api, customer)


@pytest.mark.long
def test_whose_customer_nobody_knows(kit, stripe, write, clock):
    """Nobody can say for whom it was reported, so nothing is counted, of anybody."""
    clock.advance(7 * DAY)
    kit.link("acme", "cus_1")
    path = write(*BEFORE)
    line = path.read_text().rpartition("\n")[2]
    with path.open("a") as file:
        file.write(f"\n{line}" * 500 + "\n" + line.replace("acme", "globex"))  # in another portion
    with pytest.raises(
        UsageError, match="usage of globex was reported for; link it first, with meterkit link"
    ) as error:
        kit.backfill(path, already_reported=True)

    assert "company_not_linked" == error.value.reason
    assert [] == kit.usage()
