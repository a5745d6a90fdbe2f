"""Usage that is reversed after its invoice was final: nothing is credited by itself, and what is to be is named."""

from __future__ import annotations

from datetime import datetime, timezone
from decimal import Decimal

import pytest
from followed_account import api, make_following_kit, price, stripe  # noqa: F401 - fixtures

from meterkit import Notify
from meterkit.stripe_api import retry

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("impatient")]

HOUR = 3600
DAY = 24 * HOUR


@pytest.fixture
def customer(api, price):
    """A customer who pays for acme, on the classical price."""
    customer = api.customers.create({"metadata": {"company": "acme"}}).id
    api.subscriptions.create({"customer": customer, "items": [{"price": price}]})
    return customer


@pytest.fixture
def told():
    """The notices to the team."""
    return []


@pytest.fixture
def bill(make_following_kit, api, clock, customer, told):
    """A function that makes a kit whose acme used 10 in the last hour of a period; some hours after its end."""

    def bill(hours, **options):
        kit = make_following_kit(notify=[Notify.unbilled(to=told.append)], **options)
        kit.sync()
        end = kit.customers()[0].subscriptions[0][2]
        clock.now = end - HOUR
        kit.record("calls", "acme", 10)
        clock.now = end + 60
        kit.report()
        clock.advance(hours * HOUR)
        api.invoices.list({})  # lets the sandbox bring itself up to date
        kit.sync()
        kit.used_at = datetime.fromtimestamp(end - HOUR, timezone.utc)
        return kit

    return bill


def correct(kit, quantity, clock):
    """Reverse some of it, and let two hours pass, with their reports."""
    found = kit.correct("calls", "acme", quantity, at=kit.used_at, reason="a test")
    for _ in range(2):
        clock.advance(HOUR)
        kit.report()
    return found


@pytest.mark.parametrize("via", ["v1", "stream"])
@pytest.mark.parametrize("late", ["report", "next_invoice"])
@pytest.mark.parametrize(("quantity", "amount"), [(10, "50.00"), (4, "20.00")])
def test_the_invoice_is_final(bill, api, stripe, customer, clock, told, late, quantity, amount, via):
    """The same in every way: a negative event, no item, no cancellation, and the amount is named until it is old."""
    kit = bill(2, late=late, report_via=via)
    found = correct(kit, quantity, clock)
    attention = [each for each in kit.health()["attention"] if "reversed" in each]
    kit.process().dispatcher.evaluate()
    kit.process().dispatcher.deliver(next(iter(kit.process().dispatcher._channels)))
    (invoice,) = api.invoices.list({}).data
    (due,) = kit.credits_due()

    assert ("done", None, [], []) == (found.state, found.report, stripe.adjustments, api.invoice_items.list({}).data)
    assert ("open", 5_000) == (invoice.status.replace("paid", "open"), invoice.total)
    assert (10 - quantity, 0) == (stripe.usage("calls", customer), sum(kit.customers()[0].unbilled.values()))
    (said,) = attention
    assert said.startswith(
        f"{quantity} calls of acme were reversed after invoice {invoice.number} was final, which has "
    )
    assert f"credit {amount} usd in Stripe" in said
    assert "by hand" not in said
    assert (quantity, Decimal(amount), "usd", invoice.number) == (due.quantity, due.amount, due.currency, due.number)
    assert [("credit_due", "acme", amount)] == [(each.kind, each.company, each.fields["amount"]) for each in told]
    clock.advance(36 * DAY)
    assert [] == [each for each in kit.health()["attention"] if "reversed" in each]


@pytest.mark.parametrize("late", ["report", "next_invoice"])
def test_the_invoice_is_not_final_yet(bill, api, stripe, clock, late):
    """Its event is canceled, and the invoice has nothing to credit."""
    kit = bill(0, late=late)
    found = correct(kit, 10, clock)

    assert ("done", 1) == (found.state, len(stripe.adjustments))
    assert ([], []) == (kit.credits_due(), kit.health()["attention"])
    assert [0] == [invoice.total for invoice in api.invoices.list({}).data]


def test_several_corrections_cost_what_they_add_up_to(bill, clock):
    """Each is priced after the one before."""
    kit = bill(2)
    correct(kit, 4, clock)
    correct(kit, 6, clock)

    assert [Decimal("20.00"), Decimal("30.00")] == [each.amount for each in kit.credits_due()]
    assert ["a test", "a test"] == [each.reason for each in kit.corrections()]


def test_reversed_and_used_again(bill, clock):
    """What is left of both is late usage, and no credit."""
    kit = bill(2)
    kit.correct("calls", "acme", 4, at=kit.used_at, reason="a test")
    kit.record("calls", "acme", 5, at=kit.used_at)
    clock.advance(HOUR)
    kit.report()
    (said,) = [each for each in kit.health()["attention"] if "after invoice" in each]

    assert [] == kit.credits_due()
    assert said.startswith("1 calls of acme, 5.00 usd, arrived after invoice ")


def test_nothing_is_due_for_what_was_free(bill, api, clock):
    """The invoice was voided."""
    kit = bill(2)
    correct(kit, 4, clock)
    due = kit.credits_due()
    with kit.process().database().transaction() as connection:
        connection.exec_driver_sql("UPDATE meterkit_invoices SET status = 'void'")

    assert ([Decimal("20.00")], []) == ([each.amount for each in due], kit.credits_due())


def test_nothing_is_due_for_what_costs_nothing(bill, api, customer, price, clock):
    """Reversed in a tier that is free."""
    recurring = api.prices.retrieve(price).recurring
    free = api.prices.create(
        {
            "currency": "usd",
            "product_data": {"name": "Free"},
            "recurring": {"interval": "month", "usage_type": "metered", "meter": recurring.meter},
            "billing_scheme": "tiered",
            "tiers_mode": "graduated",
            "tiers": [{"up_to": 100, "unit_amount": 0}, {"up_to": "inf", "unit_amount": 5}],
        }
    )
    (subscription,) = api.subscriptions.list({"customer": customer}).data
    fee = {"currency": "usd", "unit_amount": 700, "recurring": {"interval": "month"}, "product_data": {"name": "Fee"}}
    items = [
        {"id": subscription["items"].data[0].id, "price": free.id},
        {"price": api.prices.create(fee).id},
    ]
    api.subscriptions.update(subscription.id, {"items": items})
    kit = bill(2)
    correct(kit, 4, clock)

    assert [] == kit.credits_due()


def test_it_is_due_before_it_is_reported(bill, stripe, clock):
    """While Stripe does not answer: what it does with the negative event changes nothing."""
    kit = bill(2)
    clock.advance(HOUR)
    kit.correct("calls", "acme", 4, at=kit.used_at, reason="a test")
    stripe.fail("500", path="/v1/billing/meter_events", times=retry.TRIES, after=0)
    kit.report()

    assert [Decimal("20.00")] == [each.amount for each in kit.credits_due()]
