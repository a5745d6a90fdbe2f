"""Invoice items for late usage that no invoice takes in: named, until one does."""

from __future__ import annotations

import pytest
from followed_account import (  # noqa: F401 - fixtures
    api,
    events,
    make_following_kit,
    make_shown_kit,
    price,
    shown,
    stripe,
    tell,
)

from meterkit import Notify

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("impatient")]

HOUR = 3600
DAY = 24 * HOUR


@pytest.fixture
def subscription(api, price):
    """The subscription of the customer who pays for acme."""
    customer = api.customers.create({"metadata": {"company": "acme"}}).id
    return api.subscriptions.create({"customer": customer, "items": [{"price": price}]})


@pytest.fixture
def told():
    """The notices to the team."""
    return []


@pytest.fixture
def kit(make_shown_kit, api, clock, subscription, told):
    """A kit that has made an item of 20 late calls, for the invoice after next month's."""
    kit = make_shown_kit(late="next_invoice", notify=[Notify.unbilled(to=told.append)])
    kit.sync()
    kit.record("calls", "acme", 90)
    clock.advance(30 * DAY)
    kit.report()
    forgotten = int(clock.now) - 5 * HOUR
    clock.advance(3 * DAY)
    api.invoices.list({})  # lets the sandbox bring itself up to date
    kit.sync()
    kit.process().ledger().fold("forgotten", [(("calls", "calls", "acme", "", forgotten), 20, forgotten)])
    assert 1 == kit.report().invoiced
    return kit


def named(kit):
    return [each for each in kit.health()["attention"] if "pending invoice item" in each]


def test_the_subscription_ends_before_its_next_invoice(kit, api, subscription, clock, tell, events, told):
    """Nothing is said while it waits, nor in the hours in which a last invoice may come."""
    waiting = named(kit)
    clock.advance(4 * DAY)
    api.subscriptions.cancel(subscription.id)
    tell(kit, *events())
    at_once = named(kit)
    clock.advance(3 * HOUR)
    (said,) = named(kit)
    kit.process().dispatcher.evaluate()
    kit.process().dispatcher.deliver(next(iter(kit.process().dispatcher._channels)))

    assert ([], []) == (waiting, at_once)
    assert said.startswith("20 calls of acme, 80.00 usd, arrived after invoice ")
    assert f"subscription {subscription.id} has ended" in said
    assert [("unbilled", "acme", "80.00")] == [(each.kind, each.company, each.fields["amount"]) for each in told]


def test_the_subscription_ends_with_a_last_invoice(kit, api, subscription, clock, tell, events):
    """It takes the item in."""
    clock.advance(4 * DAY)
    api.subscriptions.cancel(subscription.id, {"invoice_now": True})
    clock.advance(3 * HOUR)
    tell(kit, *events())

    assert [] == named(kit)


def test_the_next_invoice_takes_it_in(kit, api, clock):
    clock.advance(35 * DAY)
    api.invoices.list({})
    kit.sync()

    assert [] == named(kit)


def without_items(invoice):
    """An invoice without the lines that are invoice items, as when somebody has deleted those in Stripe."""
    lines = [line for line in invoice["lines"]["data"] if line["parent"]["type"] != "invoice_item_details"]
    invoice["lines"]["data"] = lines


def test_the_next_invoice_is_there_without_it(kit, api, shown, subscription, clock):
    shown.rewrite("invoice", without_items)
    clock.advance(35 * DAY)
    api.invoices.list({})
    kit.sync()
    (said,) = named(kit)

    assert f"subscription {subscription.id} has begun another period since" in said


def test_invoices_whose_lines_were_never_read(kit, api, shown, clock):
    """Of them it cannot be known."""
    shown.rewrite("invoice", lambda invoice: invoice["lines"].update(data=[]))
    clock.advance(35 * DAY)
    api.invoices.list({})
    kit.sync()

    assert [] == named(kit)


def test_while_the_next_invoice_may_come(kit, api, shown, clock):
    """Nothing is said in the first hours of a period."""
    ((_, _, end),) = kit.customers()[0].subscriptions
    shown.rewrite("invoice", without_items)
    clock.now = end + HOUR
    api.invoices.list({})
    kit.sync()
    at_once = named(kit)
    clock.advance(2 * HOUR)

    assert ([], 1) == (at_once, len(named(kit)))


def test_an_invoice_with_another_item(kit, api, shown, clock):
    """Of two items, somebody has deleted the one."""
    late = int(clock.now) - 4 * DAY
    kit.process().ledger().fold("more", [(("calls", "calls", "acme", "", late), 10, late)])
    kit.report()

    def without_the_first(invoice):
        lines = invoice["lines"]["data"]
        invoice["lines"]["data"] = [line for line in lines if "20 calls, " not in (line["description"] or "")]

    shown.rewrite("invoice", without_the_first)
    clock.advance(35 * DAY)
    api.invoices.list({})
    kit.sync()
    (said,) = named(kit)

    assert said.startswith("20 calls of acme")


def test_what_was_free_in_the_end(kit, api, shown, clock):
    """The invoice that the usage had missed was voided since, so nobody misses the item."""

    def without_items_and_void(invoice):
        without_items(invoice)
        invoice["status"] = "void" if invoice["total"] == 45_000 else invoice["status"]

    shown.rewrite("invoice", without_items_and_void)
    clock.advance(35 * DAY)
    api.invoices.list({})
    kit.sync()

    assert [] == named(kit)


def test_what_cost_nothing(make_shown_kit, api, price, clock):
    """There is no item of it, so none can be lost."""
    meter = api.prices.retrieve(price).recurring.meter
    tiered = {"billing_scheme": "tiered", "tiers_mode": "graduated"}
    free = api.prices.create(
        {
            "currency": "usd",
            "product_data": {"name": "Free to begin with"},
            "recurring": {"interval": "month", "usage_type": "metered", "meter": meter},
            **tiered,
            "tiers": [{"up_to": 100, "unit_amount": 0}, {"up_to": "inf", "unit_amount": 100}],
        }
    )
    customer = api.customers.create({"metadata": {"company": "acme"}}).id
    api.subscriptions.create({"customer": customer, "items": [{"price": free.id}]})
    kit = make_shown_kit(late="next_invoice")
    kit.sync()
    forgotten = int(clock.now) + DAY
    kit.record("calls", "acme", 1)
    clock.advance(HOUR)
    kit.report()
    clock.advance(33 * DAY)
    api.invoices.list({})
    clock.advance(2 * HOUR)
    api.invoices.list({})
    kit.sync()
    kit.process().ledger().fold("forgotten", [(("calls", "calls", "acme", "", forgotten), 20, forgotten)])
    summary = kit.report()
    clock.advance(33 * DAY)
    api.invoices.list({})
    kit.sync()

    assert ("", 1) == (summary.error, summary.invoiced)
    assert [] == api.invoice_items.list({"customer": customer}).data
    assert [] == named(kit)
