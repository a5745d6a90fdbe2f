"""The billing cycle, from a period's end to a final invoice: line 41 of the fidelity checklist."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from sandbox_shop import (
    APRIL,
    DAY,
    HOUR,
    START,
    day,
    refused,
)

pytestmark = pytest.mark.long


def test_line_41_the_periods_end_drafts_an_invoice_and_an_hour_later_it_is_final(shop, sandbox):
    """Created as a draft, finalised after the grace period, paid at once; with the events of each."""
    customer, price = shop.customer(), shop.price(shop.meter(), unit_amount=500)
    subscription = shop.subscribe(customer, price)
    shop.send(customer, 3)

    sandbox.advance(to=APRIL - 1)
    assert shop.invoices(customer) == []
    sandbox.advance(seconds=1)
    (draft,) = shop.invoices(customer)
    sandbox.advance(seconds=HOUR - 1)
    assert shop.v1.invoices.retrieve(draft.id).status == "draft"
    sandbox.advance(seconds=1)
    final = shop.v1.invoices.retrieve(draft.id)

    assert (draft.status, draft.billing_reason, draft.number) == ("draft", "subscription_cycle", None)
    assert (draft.created, draft.automatically_finalizes_at) == (APRIL, APRIL + HOUR)
    assert (draft.period_start, draft.period_end, draft.total) == (START, APRIL, 1500)
    assert (final.status, final.amount_paid, final.amount_remaining) == ("paid", 1500, 0)
    assert (final.status_transitions.finalized_at, final.automatically_finalizes_at) == (APRIL + HOUR, None)
    assert final.status_transitions.paid_at == APRIL + HOUR
    assert final.number == f"{customer.invoice_prefix}-0001"
    assert shop.v1.subscriptions.retrieve(subscription.id).latest_invoice == draft.id
    assert shop.events("invoice.created", "invoice.finalized", "invoice.paid", "invoice.payment_succeeded") == [
        "invoice.created",
        "invoice.finalized",
        "invoice.paid",
        "invoice.payment_succeeded",
    ]


def test_line_41_usage_counts_until_the_invoice_is_final(shop, sandbox):
    """What arrives in the grace hour for the old period is on its invoice; what arrives later is on none."""
    customer, price = shop.customer(), shop.price(shop.meter(), unit_amount=1)
    shop.subscribe(customer, price)
    shop.send(customer, 1, timestamp=START)
    sandbox.advance(to=APRIL + HOUR - 1)
    shop.send(customer, 20, timestamp=APRIL - 1)
    shop.send(customer, 300, timestamp=APRIL)
    (draft,) = shop.invoices(customer)
    sandbox.advance(seconds=1)
    shop.send(customer, 4000, timestamp=APRIL - 1)
    sandbox.advance(to=day(5, 2))

    assert draft.total == 21
    assert [invoice.total for invoice in shop.invoices(customer)] == [300, 21]


def test_line_41_a_grace_draft_appears_with_its_first_usage(shop, sandbox):
    """Usage that is reported only after the period's end is billed, though there was nothing to draft before."""
    customer, price = shop.customer(), shop.price(shop.meter(), unit_amount=1)
    shop.subscribe(customer, price)
    sandbox.advance(to=APRIL + 10)
    assert shop.invoices(customer) == []
    shop.send(customer, 7, timestamp=APRIL - 1)

    assert [(invoice.status, invoice.total) for invoice in shop.invoices(customer)] == [("draft", 7)]
    sandbox.advance(seconds=HOUR)
    assert [(invoice.status, invoice.total) for invoice in shop.invoices(customer)] == [("paid", 7)]


@pytest.mark.parametrize("grace", [0, 72 * HOUR])
def test_line_41_the_grace_is_a_switch(make_shop, grace):
    """0 to 72 hours."""
    shop = make_shop(invoice_grace=grace)
    customer, price = shop.customer(), shop.price(shop.meter(), unit_amount=1)
    shop.subscribe(customer, price)
    shop.send(customer)
    shop.sandbox.advance(to=APRIL + max(grace, 1) - 1)
    before = shop.invoices(customer)[0].status
    shop.sandbox.advance(to=APRIL + grace + 1)

    assert (before, shop.invoices(customer)[0].status) == ("paid" if grace == 0 else "draft", "paid")


def test_line_41_one_long_jump_bills_every_month(shop, sandbox):
    """Advancing runs everything that is due on the way, each at its own time."""
    customer, price = shop.customer(), shop.price(shop.meter(), unit_amount=100)
    shop.subscribe(customer, price)
    shop.send(customer, 1)
    sandbox.advance(to=APRIL)
    shop.send(customer, 2)
    sandbox.advance(to=datetime(2026, 7, 15, tzinfo=timezone.utc))

    found = [(invoice.created, invoice.effective_at, invoice.total) for invoice in shop.invoices(customer)]

    assert found == [(day(5, 1), day(5, 1) + HOUR, 200), (APRIL, APRIL + HOUR, 100)]
    assert shop.v1.subscriptions.list().data[0].items.data[0].current_period_start == day(7, 1)


def test_line_41_months_are_counted_from_the_anchor(make_shop):
    """31 January is followed by the end of February, then by 31 March."""
    shop = make_shop(now=day(1, 31))
    subscription = shop.subscribe(shop.customer(), shop.price(shop.meter(), unit_amount=1))
    ends = []
    for _ in range(4):
        (item,) = shop.v1.subscriptions.retrieve(subscription.id).items.data
        ends.append(item.current_period_end)
        shop.sandbox.advance(to=item.current_period_end)

    assert ends == [day(2, 28), day(3, 31), day(4, 30), day(5, 31)]


@pytest.mark.parametrize(
    ("interval", "count", "end"),
    [("day", 1, START + DAY), ("week", 2, START + 14 * DAY), ("month", 3, day(6, 1)), ("year", 1, day(3, 1, 2027))],
)
def test_line_41_periods_are_days_weeks_months_or_years(shop, interval, count, end):
    """And multiples of them."""
    price = shop.price(shop.meter(), unit_amount=1, recurring={"interval": interval, "interval_count": count})
    (item,) = shop.subscribe(shop.customer(), price).items.data

    assert (item.current_period_start, item.current_period_end) == (START, end)


def test_line_45_an_invoice_may_appear_only_when_it_is_final(make_shop):
    """If all its usage was still being processed while it could have been a draft."""
    shop = make_shop(event_lag=2 * HOUR)
    customer = shop.customer()
    shop.subscribe(customer, shop.price(shop.meter(), unit_amount=1))
    shop.sandbox.advance(to=APRIL - 1)
    shop.send(customer, 5)
    shop.sandbox.advance(to=APRIL + 1)
    drafts = shop.invoices(customer)
    shop.sandbox.advance(seconds=HOUR)

    assert drafts == []
    assert [(invoice.total, invoice.status) for invoice in shop.invoices(customer)] == [(5, "paid")]
    assert shop.events("invoice.created", "invoice.finalized") == ["invoice.created", "invoice.finalized"]


def test_line_33_a_cancellation_reduces_a_draft_but_no_final_invoice(shop, sandbox):
    """What is frozen stays."""
    customer = shop.customer()
    shop.subscribe(customer, shop.price(shop.meter(), unit_amount=1))
    sandbox.advance(to=APRIL - 10)
    for identifier, value in (("a", 1), ("b", 20), ("c", 300)):
        shop.send(customer, value, identifier=identifier)

    def take_back(identifier):
        shop.v1.billing.meter_event_adjustments.create(
            {"type": "cancel", "event_name": "queries", "cancel": {"identifier": identifier}}
        )
        return shop.invoices(customer)[0].total

    sandbox.advance(to=APRIL)
    drafted = take_back("c")
    sandbox.advance(seconds=HOUR)
    finalised = take_back("b")

    assert (drafted, finalised) == (21, 21)


def test_sent_invoices_stay_open_until_they_are_due(shop, sandbox):
    """`send_invoice` needs its days; the invoice is open with a due date, nothing is charged."""
    customer, price = shop.customer(), shop.price(shop.meter(), unit_amount=1)
    refused(shop.subscribe, customer, price, collection_method="send_invoice")
    refused(shop.subscribe, customer, price, days_until_due=7)
    shop.subscribe(customer, price, collection_method="send_invoice", days_until_due=7)
    shop.send(customer, 5)
    sandbox.advance(to=APRIL + HOUR)

    (invoice,) = shop.invoices(customer)
    assert (invoice.status, invoice.amount_remaining, invoice.attempted) == ("open", 5, False)
    assert invoice.due_date == APRIL + HOUR + 7 * DAY
