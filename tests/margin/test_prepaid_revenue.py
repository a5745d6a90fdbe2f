"""What wallets pay for is revenue when it is used, at what was paid for each unit of the grant that it comes from."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from followed_account import api, events, stripe, tell  # noqa: F401 - fixtures
from hosted_browser import Browser
from signed import SECRET

from meterkit import Cost, Meter, Pack, Price, Wallet, Webhook
from meterkit.webhooks.purchases import _paid

DAY = 24 * 3600
CALLS = Meter("calls", http=False, billable=False)
IMAGES = Meter("images", http=False, billable=False)
SEATS = Meter("seats", http=False)
SMALL = Pack("1,000 credits", amount=1_000, price="10.00")
LARGE = Pack("12,000 credits", amount=12_000, price="90.00", expires_days=10)
CREDITS = Wallet("credits", unit="credits", spends={CALLS: 2, IMAGES: 5}, packs=[SMALL, LARGE])
COSTS = [Cost.per_unit(CALLS, "0.005"), Cost.per_unit(IMAGES, "0.01")]


@pytest.fixture
def kit(make_kit, stripe):
    """A kit that sells packs, with the prices of these in Stripe."""
    kit = make_kit(
        CALLS,
        IMAGES,
        SEATS,
        wallets=[CREDITS],
        prices=[Price.per_unit(SEATS, "3.00")],
        costs=COSTS,
        stripe_key=stripe.api_key,
        stripe_base=stripe.url,
        customer_ids=False,
        webhook=Webhook(None, secret=SECRET),
    )
    kit.provision()
    return kit


def buy(kit, pack=SMALL, company="acme"):
    """Pay for a pack in Checkout."""
    with Browser() as browser:
        browser.open(kit.checkout_url(company, pack=pack, success_url="https://shop.example/paid"))
        fields = {"card_number": "4242424242424242", "email": f"ann@{company}.example"}
        (form,) = browser.forms
        browser.press("Pay", **{name: value for name, value in fields.items() if name in form.fields})
    kit.sync()


def amounts(report):
    """Name, revenue, cost and margin of each row."""
    return sorted((row.name, *(str(each) for each in (row.revenue, row.cost, row.margin))) for row in report.rows)


def said(report, company="acme"):
    """What is noted of a company, without what is noted of all that have no subscription."""
    (row,) = (row for row in report.rows if row.company == company)
    return [note for note in row.notes if "subscription" not in note]


def test_what_was_paid_is_revenue_when_it_is_used(kit, clock):
    """In the month of the usage, beside what is billed; not when the pack is bought."""
    buy(kit)
    bought = amounts(kit.margin())
    kit.record(CALLS, "acme", 100)
    kit.record(IMAGES, "acme", 10)
    kit.record(SEATS, "acme", 2)
    march = kit.margin()
    clock.advance(31 * DAY)
    kit.record(CALLS, "acme", 50)
    april = kit.margin()

    assert [] == bought
    assert [("acme", "8.5", "0.6", "7.9")] == amounts(march)  # 200 + 50 credits of a cent each, and two seats
    assert [("acme", "1", "0.25", "0.75")] == amounts(april)
    assert [("acme", "8.5", "0.6", "7.9")] == amounts(kit.margin(month="2026-03"))
    assert [("calls", "2", "0.5", "1.5"), ("images", "0.5", "0.1", "0.4"), ("seats", "6", "0", "6")] == amounts(
        kit.margin(company="acme", month="2026-03", by="meter")
    )
    assert [] == said(march)
    assert any("is revenue when it is used" in note for note in march.notes)


def test_each_unit_at_what_was_paid_for_its_grant(kit):
    """The one that expires is spent first; it has cost less."""
    buy(kit, SMALL)
    buy(kit, LARGE)
    kit.record(CALLS, "acme", 6_100)

    assert [("acme", "92", "30.5", "61.5")] == amounts(kit.margin())


def test_grants_that_nobody_paid_for(kit):
    """They bring in nothing, which is said of the company and of all."""
    kit.grant("acme", "credits", 100, priority=0)
    buy(kit)
    kit.record(CALLS, "acme", 75)
    report = kit.margin()

    assert [("acme", "0.5", "0.375", "0.125")] == amounts(report)
    assert ["100 credits spent of grants that nobody is known to have paid for, which bring in nothing"] == said(report)
    assert f"Of wallets: {said(report)[0]}." in report.notes


def test_a_grant_by_hand_that_was_paid_elsewhere(kit):
    """As by a bank transfer: each unit is worth its share."""
    kit.grant("acme", "credits", 1_000, paid="7.50")
    kit.record(CALLS, "acme", 100)
    report = kit.margin()

    assert [("acme", "1.5", "0.5", "1.0")] == amounts(report)
    assert [] == said(report)


def test_what_no_balance_covered(kit):
    """It is named, and brings in nothing; also of who never had a balance."""
    buy(kit)
    kit.record(CALLS, "acme", 520)
    kit.record(CALLS, "globex", 4)
    report = kit.margin()

    assert [("acme", "10", "2.6", "7.4"), ("globex", "0", "0.02", "-0.02")] == amounts(report)
    assert ["usage worth 40 credits that no balance covered brings in nothing"] == said(report)
    assert ["usage worth 8 credits that no balance covered brings in nothing"] == said(report, "globex")
    assert "Of wallets: usage worth 48 credits that no balance covered brings in nothing." in report.notes


def test_what_expires_is_shown_apart(kit, clock):
    """With what was paid for it, in the month in which it expires."""
    buy(kit, LARGE)
    kit.record(CALLS, "acme", 3_000)
    kit.flush()
    clock.advance(11 * DAY)
    kit.flush()
    kit.record(CALLS, "acme", 1)
    report = kit.margin()

    assert [("acme", "45", "15.005", "29.995")] == amounts(report)
    assert [
        "usage worth 2 credits that no balance covered brings in nothing",
        "6,000 credits expired unspent, for which 45.00 usd was paid; not in the revenue",
    ] == said(report)


def test_what_is_refunded_is_shown_apart(kit, api, tell, events):
    """With the part for what had been spent, of which the revenue stays."""
    buy(kit)
    kit.record(CALLS, "acme", 100)
    kit.flush()
    api.refunds.create({"payment_intent": api.invoice_payments.list().data[0].payment.payment_intent})
    tell(kit, *events())
    report = kit.margin()

    assert [("acme", "2", "0.5", "1.5")] == amounts(report)
    (note,) = said(report)
    assert note.startswith(
        "1,000 credits taken back, for which 10.00 usd was paid, of which 2.00 usd for what had been"
    )
    assert note.endswith("spent; revenue is not less by that")


def test_reversed_usage_brings_in_nothing(kit, clock):
    """What it had spent is given back."""
    buy(kit)
    kit.record(CALLS, "acme", 100)
    kit.flush()
    kit.correct("calls", "acme", 80, at=datetime.fromtimestamp(clock(), timezone.utc), reason="outage")

    assert [("acme", "0.4", "0.1", "0.3")] == amounts(kit.margin())


def test_usage_of_the_last_hour_of_a_month_that_is_counted_in_the_next(kit, clock):
    """Belongs to the month in which it was used."""
    buy(kit)
    last = datetime(2026, 3, 31, 23, 30, tzinfo=timezone.utc)
    clock.advance(int(last.timestamp() - clock()) + 3600)
    kit.record(CALLS, "acme", 100, at=last)

    assert [("acme", "2", "0.5", "1.5")] == amounts(kit.margin(month="2026-03"))
    assert [] == amounts(kit.margin(month="2026-04"))


def test_what_was_paid_for_a_line():
    """Without its discounts, and without tax that is included in its price."""
    line = {
        "amount": 1_200,
        "discount_amounts": [{"amount": 100}],
        "taxes": [{"amount": 183, "tax_behavior": "inclusive"}, {"amount": 50, "tax_behavior": "exclusive"}],
    }

    assert 917 == _paid(line)
    assert 1_200 == _paid({"amount": 1_200})
