"""Usage that comes when its invoice is final: it is named with its amount, or billed with the next invoice, once."""

from __future__ import annotations

import json

import pytest
from followed_account import (  # noqa: F401 - fixtures
    api,
    kit,
    make_following_kit,
    make_shown_kit,
    price,
    shown,
    stripe,
)

from meterkit import ConfigurationError
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
def too_late(make_following_kit, api, clock, customer):
    """A function that makes a kit, lets acme use 90 in time and 20 in an hour that comes to light when all is final."""

    def too_late(**options):
        kit = make_following_kit(**options)
        kit.sync()
        kit.record("calls", "acme", 90)
        clock.advance(30 * DAY)
        kit.report()
        forgotten = int(clock.now) - 5 * HOUR
        clock.advance(3 * DAY)
        api.invoices.list({"customer": customer})  # lets the sandbox bring itself up to date
        kit.sync()
        kit.process().ledger().fold("forgotten", [(("calls", "calls", "acme", "", forgotten), 20, forgotten)])
        return kit

    return too_late


def totals(api, customer):
    """What each of the customer's cycles asks for, in cents, oldest first."""
    return [invoice.total for invoice in api.invoices.list({"customer": customer}).data[::-1]]


def books(kit):
    return {place: quantity for place, quantity in kit.health()["books"]["calls"].items() if quantity}


def test_it_is_named_with_its_amount(too_late, api, customer, stripe, clock):
    """Stripe has it, and bills it nowhere: ten at $5 and ten at $3."""
    kit = too_late()
    kit.report()
    (named,) = [each for each in kit.health()["attention"] if "not on any invoice" in each]

    clock.advance(36 * DAY)

    assert "20 calls of acme, 80.00 usd, arrived after invoice" in named
    assert [] == [each for each in kit.health()["attention"] if "not on any invoice" in each]  # it is old news then
    assert 110 == stripe.usage("calls", customer)
    assert 45_000 == totals(api, customer)[0]


def test_it_is_billed_with_the_next_invoice(too_late, api, customer, stripe, clock):
    """As what it is, and not as usage of the new period; nothing is left to be named."""
    kit = too_late(late="next_invoice")
    summary = kit.report()
    kit.record("calls", "acme", 1)
    clock.advance(HOUR)
    kit.report()
    named = [each for each in kit.health()["attention"] if "not on any invoice" in each]
    clock.advance(32 * DAY)

    assert (1, []) == (summary.invoiced, named)
    assert [45_000, 8_000 + 500] == totals(api, customer)
    assert 91 == stripe.usage("calls", customer)
    assert {"counted": 111, "sent": 91, "invoiced": 20, "balanced": True} == books(kit)
    (item,) = [line for line in api.invoices.list().data[0].lines.data if line.parent.type == "invoice_item_details"]
    assert "20 calls, reported after invoice" in item.description


def test_two_that_come_one_after_the_other(too_late, api, customer, clock):
    """Each costs what it adds: the tiers go on where the first has ended."""
    kit = too_late(late="next_invoice")
    kit.report()
    late = int(clock.now) - 4 * DAY
    kit.process().ledger().fold("more", [(("calls", "calls", "acme", "", late), 10, late)])
    kit.report()

    assert [8_000, 3_000] == [item.amount for item in api.invoice_items.list({"customer": customer}).data[::-1]]


@pytest.mark.parametrize("fault", ["reset_after", "reset_before", "502_after", "timeout_before", "500"])
@pytest.mark.parametrize("silence", [HOUR, 26 * HOUR])
def test_an_answer_that_is_lost(too_late, api, customer, stripe, clock, fault, silence):
    """It is billed once, also when Stripe has forgotten the request."""
    kit = too_late(late="next_invoice")
    stripe.fail(fault, path="/v1/invoiceitems", times=retry.TRIES, after=0)
    kit.report()
    stripe.heal()
    clock.advance(silence)
    kit.report()
    kit.report()

    assert [8_000] == [item.amount for item in api.invoice_items.list({"customer": customer}).data]
    assert {"counted": 110, "sent": 90, "invoiced": 20, "balanced": True} == books(kit)


def test_in_the_stream(too_late, api, customer, stripe):
    """What is late does not go there."""
    kit = too_late(late="next_invoice", report_via="stream")
    kit.report()

    assert (90, [8_000]) == (
        stripe.usage("calls", customer),
        [item.amount for item in api.invoice_items.list({"customer": customer}).data],
    )


def test_a_word_that_is_none(make_kit):
    """It fails while building."""
    with pytest.raises(ConfigurationError, match="'report' or 'next_invoice'"):
        make_kit(late="never")


def trial(subscription):
    start = subscription["start_date"]
    subscription.update(trial_start=start, trial_end=start + 31 * DAY)


def void(invoice):
    invoice["status"] = "void" if invoice["status"] == "paid" else invoice["status"]


def uncollectible(invoice):
    invoice["status"] = "uncollectible" if invoice["status"] == "paid" else invoice["status"]


@pytest.mark.parametrize(
    ("kind", "shows", "why"),
    [
        ("subscription", trial, "the trial lasted until"),
        ("invoice", void, "was voided"),
        ("invoice", uncollectible, "was marked as uncollectible"),
        ("subscription", {"pause_collection": {"behavior": "void", "resumes_at": None}}, "collection was paused"),
    ],
)
def test_what_was_free_is_not_billed(too_late, api, customer, shown, kind, shows, why):
    """It is named, with the reason, and nobody is asked to bill it."""
    shown.rewrite(kind, shows)
    kit = too_late(late="next_invoice", stripe_base=shown.url)
    summary = kit.report()
    (named,) = kit.health()["free"]

    assert (0, []) == (summary.invoiced, api.invoice_items.list({"customer": customer}).data)
    assert "20 calls of acme" in named
    assert why in named
    assert not [each for each in kit.health()["attention"] if "not on any invoice" in each]


def test_it_costs_what_it_cost_when_it_was_used(too_late, api, customer, price, shown, clock):
    """The price was changed after the period."""
    kit = too_late(late="next_invoice", stripe_base=shown.url)
    before = api.prices.retrieve(price)
    dear = api.prices.create(
        {
            "currency": "usd",
            "product_data": {"name": "Dear"},
            "recurring": {"interval": "month", "usage_type": "metered", "meter": before.recurring.meter},
            "unit_amount": 9900,
        }
    )
    shown.rewrite("subscription_item", {"price": json.loads(str(dear))})
    kit.sync()
    kit.report()

    assert [8_000] == [item.amount for item in api.invoice_items.list({"customer": customer}).data]


def test_it_costs_what_the_currency_of_the_invoice_costs(too_late, api, customer, price, shown):
    """Of a price in several currencies; without amounts in that one, it is named without a figure, and not billed."""
    shown.rewrite("subscription", {"currency": "eur"})
    shown.rewrite("invoice", {"currency": "eur"})
    kit = too_late(late="next_invoice", stripe_base=shown.url)
    summary = kit.report()
    (named,) = [each for each in kit.health()["attention"] if "not on any invoice" in each]

    assert (0, []) == (summary.invoiced, api.invoice_items.list({"customer": customer}).data)
    assert named.startswith("20 calls of acme arrived after invoice")


@pytest.mark.parametrize(("reset", "items"), [(True, [10_000]), (False, [])])
def test_usage_before_an_invoice_that_a_threshold_made_due(make_following_kit, api, clock, customer, reset, items):
    """It is late if that ended the period; otherwise the invoice at the period's end bills it."""
    (subscription,) = api.subscriptions.list({"customer": customer}).data
    thresholds = {"amount_gte": 20_000, "reset_billing_cycle_anchor": reset}
    api.subscriptions.update(subscription.id, {"billing_thresholds": thresholds})
    kit = make_following_kit(late="next_invoice")
    kit.sync()
    clock.advance(2 * DAY)
    forgotten = int(clock.now) - DAY
    kit.record("calls", "acme", 50)
    clock.advance(HOUR)
    kit.report()
    clock.advance(3 * HOUR)
    api.invoices.list({"customer": customer})  # makes the draft
    clock.advance(2 * HOUR)
    invoices = {each.billing_reason: each.status for each in api.invoices.list({"customer": customer}).data}
    kit.sync()
    kit.process().ledger().fold("forgotten", [(("calls", "calls", "acme", "", forgotten), 20, forgotten)])
    kit.report()

    assert invoices["subscription_threshold"] == "paid"
    assert items == [item.amount for item in api.invoice_items.list({"customer": customer}).data]


def test_a_subscription_that_has_ended(too_late, api, customer, stripe, clock):
    """Stripe takes no item for it, so the usage is named, and nothing is refused."""
    kit = too_late(late="next_invoice")
    (subscription,) = api.subscriptions.list({"customer": customer}).data
    api.subscriptions.cancel(subscription.id)
    kit.sync()
    summary = kit.report()
    (named,) = [each for each in kit.health()["attention"] if "after invoice" in each]

    assert (1, 0, 0) == (summary.sent, summary.invoiced, summary.rejected)
    assert named.startswith("20 calls of acme, 80.00 usd, arrived after invoice ")
    assert named.endswith("Bill it by hand")


@pytest.mark.parametrize("late", ["report", "next_invoice"])
def test_two_subscriptions_on_one_meter(too_late, api, customer, price, late, clock):
    """Stripe bills all usage on both; what is late is billed, or named, once."""
    clock.advance(1)
    api.subscriptions.create({"customer": customer, "items": [{"price": price}]})
    kit = too_late(late=late)
    kit.report()
    clock.advance(35 * DAY)
    api.invoices.list({"customer": customer})
    kit.sync()
    late_lines = [
        line.amount
        for invoice in api.invoices.list({"customer": customer}).data
        for line in invoice.lines.data
        if line.parent.type == "invoice_item_details"
    ]

    assert ([8_000] if late == "next_invoice" else []) == late_lines
    assert [] == [each for each in kit.health()["attention"] if "pending invoice item" in each]


def test_two_subscriptions_are_named_once(too_late, api, customer, price, clock):
    clock.advance(1)
    api.subscriptions.create({"customer": customer, "items": [{"price": price}]})
    kit = too_late()
    kit.report()

    assert 1 == len([each for each in kit.health()["attention"] if "not on any invoice" in each])


def test_a_pause_after_the_invoice(too_late, api, customer, clock):
    """Collection was not paused when the invoice was made."""
    kit = too_late(late="next_invoice")
    (subscription,) = api.subscriptions.list({"customer": customer}).data
    api.subscriptions.update(subscription.id, {"pause_collection": {"behavior": "void"}})
    kit.sync()
    kit.report()

    assert [8_000] == [item.amount for item in api.invoice_items.list({"customer": customer}).data]


def used_in_time(kit, clock):
    """Without anything, there would be no invoice."""
    kit.record("calls", "acme", 2)
    clock.advance(HOUR)
    assert 1 == kit.report().sent


def test_it_costs_what_the_price_of_its_day_costs(make_following_kit, api, clock, customer, price):
    """The price was changed within the period, before the usage: the former one is over."""
    kit = make_following_kit(late="next_invoice")
    kit.sync()
    (subscription,) = api.subscriptions.list({"customer": customer}).data
    meter = api.prices.retrieve(price).recurring.meter
    dear = api.prices.create(
        {
            "currency": "usd",
            "product_data": {"name": "Dear"},
            "recurring": {"interval": "month", "usage_type": "metered", "meter": meter},
            "unit_amount": 900,
        }
    )
    clock.advance(5 * DAY)
    api.subscription_items.update(subscription["items"].data[0].id, {"price": dear.id})
    kit.sync()
    forgotten = int(clock.now) + 10 * DAY
    used_in_time(kit, clock)
    clock.advance(28 * DAY)
    api.invoices.list({"customer": customer})  # lets the sandbox bring itself up to date
    clock.advance(2 * HOUR)
    api.invoices.list({"customer": customer})
    kit.sync()
    kit.process().ledger().fold("forgotten", [(("calls", "calls", "acme", "", forgotten), 20, forgotten)])
    kit.report()

    assert [18_000] == [item.amount for item in api.invoice_items.list({"customer": customer}).data]


def test_an_amount_that_stripe_can_charge(make_following_kit, api, clock, price):
    """Of a currency with three decimals, the last one must be 0: 15 times 0.005 dinars are 0.08."""
    meter = api.prices.retrieve(price).recurring.meter
    dinars = api.prices.create(
        {
            "currency": "kwd",
            "product_data": {"name": "Credit score"},
            "recurring": {"interval": "month", "usage_type": "metered", "meter": meter},
            "unit_amount": 5,
        }
    )
    customer = api.customers.create({"metadata": {"company": "acme"}}).id
    api.subscriptions.create({"customer": customer, "items": [{"price": dinars.id}]})
    kit = make_following_kit(late="next_invoice")
    kit.sync()
    forgotten = int(clock.now) + DAY
    used_in_time(kit, clock)
    clock.advance(33 * DAY)
    api.invoices.list({"customer": customer})
    clock.advance(2 * HOUR)
    api.invoices.list({"customer": customer})
    kit.sync()
    kit.process().ledger().fold("forgotten", [(("calls", "calls", "acme", "", forgotten), 15, forgotten)])
    summary = kit.report()

    assert ("", 1) == (summary.error, summary.invoiced)
    assert [80] == [item.amount for item in api.invoice_items.list({"customer": customer}).data]
