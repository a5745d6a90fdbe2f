"""Subscriptions become invoices: lines 40 to 45 of the fidelity checklist."""

# ruff: noqa: RUF001 - Stripe puts a multiplication sign between quantity and product

from __future__ import annotations

from datetime import datetime, timezone
from decimal import Decimal

import pytest
import stripe
from sandbox_shop import APRIL, DAY, HOUR, START

CLASSICAL = [
    {"up_to": 100, "unit_amount": 500},
    {"up_to": 1000, "unit_amount": 300},
    {"up_to": "inf", "unit_amount": 200},
]


def tiered(shop, meter, tiers=CLASSICAL, mode="graduated", **params):
    return shop.price(meter, billing_scheme="tiered", tiers_mode=mode, tiers=tiers, **params)


def refused(call, *args, **params):
    """The 400 that a call gets."""
    with pytest.raises(stripe.InvalidRequestError) as caught:
        call(*args, **params)
    assert caught.value.http_status == 400
    return caught.value


def bill(shop, price, used, **subscription):
    """The invoice for one month in which a customer used that much at that price."""
    customer = shop.customer()
    shop.subscribe(customer, price, **subscription)
    shop.send(customer, used)
    shop.sandbox.advance(to=APRIL + HOUR)
    (invoice,) = shop.invoices(customer)
    return invoice


def lines(invoice):
    return [(line.description, line.quantity, line.amount) for line in invoice.lines.data]


def day(month, number, year=2026):
    return int(datetime(year, month, number, tzinfo=timezone.utc).timestamp())


def test_line_40_a_metered_item_has_no_quantity(shop):
    """Stripe's words."""
    price = shop.price(shop.meter(), unit_amount=1)

    error = refused(
        shop.v1.subscriptions.create,
        {"customer": shop.customer().id, "items": [{"price": price.id, "quantity": 1}]},
    )

    assert error.user_message == (
        "Quantity should not be specified where usage_type is `metered`. Remove quantity from `items[0]`"
    )


def test_line_40_twenty_items_are_enough(shop):
    """One more is refused."""
    customer, product = shop.customer(), shop.product().id
    prices = [shop.price(product=product, unit_amount=1) for _ in range(21)]

    error = refused(shop.subscribe, customer, *prices)

    assert error.param == "items"
    assert len(shop.subscribe(customer, *prices[:20]).items.data) == 20


def test_line_40_items_must_go_together(shop):
    """No price twice, one currency, one interval; only recurring, active prices of active meters; one at least."""
    customer, meter = shop.customer(), shop.meter()
    good, euro, year = (
        shop.price(meter, unit_amount=1),
        shop.price(unit_amount=1, currency="eur"),
        shop.price(unit_amount=1, recurring={"interval": "year"}),
    )
    once = shop.v1.prices.create({"currency": "usd", "unit_amount": 1, "product": good.product})
    gone = shop.v1.prices.update(shop.price(unit_amount=1).id, {"active": False})

    for others in ([good, good], [good, euro], [good, year], [once], [gone]):
        assert refused(shop.subscribe, customer, *others).param.startswith("items[")
    assert refused(shop.subscribe, customer, good, currency="eur").param == "currency"
    shop.v1.billing.meters.deactivate(meter.id)
    assert "inactive" in refused(shop.subscribe, customer, good).user_message
    assert refused(shop.subscribe, customer).param == "items"
    assert shop.v1.subscriptions.list().data == []


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


@pytest.mark.parametrize(
    ("used", "total", "expected"),
    [
        (80, 40_000, [("80 query × Credit Score (Tier 1 at $5.00 / month)", 80, 40_000)]),
        (100, 50_000, [("100 query × Credit Score (Tier 1 at $5.00 / month)", 100, 50_000)]),
        (
            1500,
            420_000,
            [
                ("100 query × Credit Score (Tier 1 at $5.00 / month)", 100, 50_000),
                ("900 query × Credit Score (Tier 2 at $3.00 / month)", 900, 270_000),
                ("500 query × Credit Score (Tier 3 at $2.00 / month)", 500, 100_000),
            ],
        ),
    ],
)
def test_line_42_the_classical_example(shop, used, total, expected):
    """1 to 100 at $5, to 1,000 at $3, then $2: 1,500 queries are $4,200.00, 80 are $400.00."""
    invoice = bill(shop, tiered(shop, shop.meter()), used)

    assert lines(invoice) == expected
    assert (invoice.total, invoice.subtotal, invoice.amount_due, invoice.currency) == (total, total, total, "usd")


def test_line_42_the_gitpod_invoice(shop):
    """A real one: 1,031 credits, 1,000 of them in a $9 flat fee, the others at 3.6 cents: $10.12."""
    product = shop.product(name="Gitpod", unit_label="credit").id
    tiers = [
        {"up_to": 1000, "unit_amount": 0, "flat_amount": 900},
        {"up_to": "inf", "unit_amount_decimal": "3.6", "flat_amount": 0},
    ]
    invoice = bill(shop, tiered(shop, shop.meter(), tiers, product=product), 1031)

    assert lines(invoice) == [
        ("1000 credit × Gitpod (Tier 1 at $0.00 / month)", 1000, 0),
        ("Gitpod (Tier 1 at $9.00 / month)", 0, 900),
        ("31 credit × Gitpod (Tier 2 at $0.036 / month)", 31, 112),
        ("Gitpod (Tier 2 at $0.00 / month)", 0, 0),
    ]
    assert invoice.total == 1012


def test_line_42_the_playpost_invoice(shop, sandbox):
    """A real one: no usage at all still pays the first tier's flat fee, $9.99 a day."""
    product = shop.product(name="Basic", unit_label="character").id
    tiers = [{"up_to": 100000, "flat_amount": 999}, {"up_to": "inf", "unit_amount_decimal": "0.02"}]
    customer = shop.customer()
    shop.subscribe(customer, tiered(shop, shop.meter(), tiers, product=product, recurring={"interval": "day"}))
    sandbox.advance(seconds=DAY + HOUR)

    (invoice,) = shop.invoices(customer)
    assert lines(invoice) == [
        ("0 character × Basic (Tier 1 at $0.00 / day)", 0, 0),
        ("Basic (Tier 1 at $9.99 / day)", 0, 999),
    ]
    assert invoice.total == 999


@pytest.mark.parametrize(
    ("used", "expected"),
    [
        (100, [("100 query × Credit Score (Tier 1 at $5.00 / month)", 100, 50_000)]),
        (101, [("101 query × Credit Score (Tier 2 at $3.00 / month)", 101, 30_300)]),
        (1500, [("1500 query × Credit Score (Tier 3 at $2.00 / month)", 1500, 300_000)]),
    ],
)
def test_line_42_by_volume_all_units_cost_what_the_last_one_costs(shop, used, expected):
    """One line at the price of the reached tier."""
    assert lines(bill(shop, tiered(shop, shop.meter(), mode="volume"), used)) == expected


@pytest.mark.parametrize(
    ("used", "decimal", "amount"),
    [
        ("30", "0.05", 2),
        ("29", "0.05", 1),
        ("31", "3.6", 112),
        ("2.5", "100", 250),
        ("0.000001", "500000", 1),
        ("-5", "100", None),
    ],
)
def test_line_43_each_line_is_rounded_half_up(shop, used, decimal, amount):
    """1.5 cents are 2, 1.45 are 1; a negative total is nothing."""
    price = shop.price(shop.meter(), unit_amount_decimal=decimal)
    customer = shop.customer()
    shop.subscribe(customer, price)
    shop.send(customer, used)
    shop.sandbox.advance(to=APRIL + HOUR)

    assert [invoice.total for invoice in shop.invoices(customer)] == ([] if amount is None else [amount])


@pytest.mark.parametrize(("rounding", "amount"), [("half_up", 3), ("half_even", 2)])
def test_line_43_how_halves_are_rounded_is_a_switch(make_shop, rounding, amount):
    """2.5 cents: both would fit what was observed."""
    shop = make_shop(rounding=rounding)

    assert bill(shop, shop.price(shop.meter(), unit_amount_decimal="0.5"), 5).total == amount


def test_line_43_lines_are_rounded_before_they_are_added(shop):
    """Twice 0.5 cents are 2 cents."""
    customer = shop.customer()
    prices = [shop.price(shop.meter(name), unit_amount_decimal="0.5") for name in ("queries", "rows")]
    shop.subscribe(customer, *prices)
    shop.send(customer, 1)
    shop.send(customer, 1, event_name="rows")
    shop.sandbox.advance(to=APRIL + HOUR)

    (invoice,) = shop.invoices(customer)
    assert [line.amount for line in invoice.lines.data] == [1, 1]
    assert invoice.total == 2


def test_line_43_decimal_usage_is_truncated_beside_its_exact_quantity(shop):
    """`quantity` 2, `quantity_decimal` 2.75."""
    (line,) = bill(shop, shop.price(shop.meter(), unit_amount=100), "2.75").lines.data

    assert (line.quantity, line.quantity_decimal, line.amount) == (2, Decimal("2.75"), 275)
    assert line.description == "2.75 query × Credit Score (at $1.00 / month)"


@pytest.mark.parametrize(
    ("used", "rounding", "amount"),
    [(9892, "up", 1320), (9892, "down", 1312), (60, "up", 8), (60, "down", 8), (59, "down", 0)],
)
def test_line_43_packages_are_begun_or_full(shop, used, rounding, amount):
    """8 cents per 60 units: the quantity is what was used, the amount is of packages."""
    price = shop.price(shop.meter(), unit_amount=8, transform_quantity={"divide_by": 60, "round": rounding})
    invoice = bill(shop, price, used)

    assert lines(invoice) == [(f"{used} query × Credit Score (at $0.08 per 60 units / month)", used, amount)]


@pytest.mark.parametrize(
    ("currency", "recurring", "amount", "text"),
    [
        ("eur", {}, 123450, "(at €1,234.50 / month)"),
        ("jpy", {}, 500, "(at ¥500 / month)"),
        ("chf", {"interval_count": 3}, 500, "(at CHF 5.00 / every 3 months)"),
    ],
)
def test_line_43_a_description_says_the_price(shop, currency, recurring, amount, text):
    """In its currency and rhythm, without a unit where the product has none."""
    product = shop.product(unit_label="").id
    price = shop.price(shop.meter(), product=product, currency=currency, unit_amount=amount, recurring=recurring)
    customer = shop.customer()
    shop.subscribe(customer, price)
    shop.send(customer, 1)

    preview = shop.v1.invoices.create_preview({"customer": customer.id})

    assert preview.lines.data[0].description == f"1 × Credit Score {text}"


def test_line_44_lines_have_the_new_shape(shop):
    """`pricing` and `parent` instead of `price` and `plan`."""
    price = shop.price(shop.meter(), unit_amount=500)
    invoice = bill(shop, price, 3, metadata={"company": "7"})
    (line,) = shop.v1.invoices.line_items.list(invoice.id).data

    assert line.pricing.to_dict() == {
        "price_details": {"price": price.id, "product": price.product},
        "type": "price_details",
        "unit_amount_decimal": Decimal(500),
    }
    details = line.parent.subscription_item_details
    assert details.subscription == invoice.parent.subscription_details.subscription
    assert details.subscription_item.startswith("si_")
    assert details.proration is False
    assert invoice.parent.subscription_details.metadata.to_dict() == {"company": "7"}
    assert (line.period.start, line.period.end, line.subtotal, line.taxes) == (START, APRIL, 1500, [])
    assert not {"price", "plan", "type", "proration"} & set(line.to_dict())


def test_line_44_periods_are_the_items_business(shop):
    """The subscription itself has none; flexible billing is the default."""
    subscription = shop.subscribe(shop.customer(), shop.price(shop.meter(), unit_amount=1))

    assert subscription.billing_mode.type == "flexible"
    assert "current_period_end" not in subscription.to_dict()
    (item,) = subscription.items.data
    assert (item.current_period_start, item.current_period_end) == (START, APRIL)
    assert (item.subscription, item.quantity, item.plan.usage_type) == (subscription.id, None, "metered")
    assert shop.v1.subscription_items.retrieve(item.id).id == item.id
    assert [each.id for each in shop.v1.subscription_items.list({"subscription": subscription.id}).data] == [item.id]


def test_line_44_metered_items_make_no_first_invoice_and_no_empty_ones(shop, sandbox):
    """Flexible billing: nothing used at no fixed price is no invoice."""
    customer = shop.customer()
    subscription = shop.subscribe(customer, shop.price(shop.meter(), unit_amount=1))
    sandbox.advance(to=day(6, 1))

    assert shop.invoices(customer) == []
    assert shop.v1.subscriptions.retrieve(subscription.id).latest_invoice is None
    assert shop.events("invoice.created") == []


def test_line_44_classic_billing_makes_empty_invoices(shop, sandbox):
    """At the beginning and at the end of each period."""
    customer = shop.customer()
    shop.subscribe(customer, shop.price(shop.meter(), unit_amount=1), billing_mode={"type": "classic"})
    sandbox.advance(to=APRIL + HOUR)

    found = [(invoice.billing_reason, invoice.total, invoice.status) for invoice in shop.invoices(customer)]
    assert found == [("subscription_cycle", 0, "paid"), ("subscription_create", 0, "paid")]


def test_line_44_licensed_items_are_paid_in_advance(shop, sandbox):
    """At once for the first period, with the last month's usage for each later one."""
    customer = shop.customer()
    flat, metered = shop.price(unit_amount=1000), shop.price(shop.meter(), unit_amount=1)
    shop.v1.subscriptions.create(
        {"customer": customer.id, "items": [{"price": flat.id, "quantity": 2}, {"price": metered.id}]}
    )
    shop.send(customer, 5)
    sandbox.advance(to=APRIL + HOUR)

    cycle, first = shop.invoices(customer)
    assert (first.billing_reason, first.status, first.total, first.created) == (
        "subscription_create",
        "paid",
        2000,
        START,
    )
    assert [(line.amount, line.period.start, line.period.end) for line in first.lines.data] == [(2000, START, APRIL)]
    assert [(line.amount, line.period.start, line.period.end) for line in cycle.lines.data] == [
        (5, START, APRIL),
        (2000, APRIL, day(5, 1)),
    ]


def test_line_45_a_preview_follows_the_usage(shop, sandbox):
    """By customer or by subscription; it is not kept."""
    customer = shop.customer()
    subscription = shop.subscribe(customer, tiered(shop, shop.meter()))
    totals = []
    for used in (80, 1420):
        shop.send(customer, used)
        totals.append(shop.v1.invoices.create_preview({"customer": customer.id}).total)
    preview = shop.v1.invoices.create_preview({"subscription": subscription.id, "preview_mode": "next"})

    assert totals == [40_000, 420_000]
    assert preview.id.startswith("upcoming_in_")
    assert (preview.billing_reason, preview.status, preview.total) == ("upcoming", "draft", 420_000)
    assert (preview.period_start, preview.period_end) == (START, APRIL)
    assert shop.invoices(customer) == []


def test_line_45_a_preview_lags_like_summaries(make_shop):
    """What is still being processed is not on it; what is final has it all."""
    shop = make_shop(event_lag=600, invoice_grace=60)
    customer = shop.customer()
    shop.subscribe(customer, shop.price(shop.meter(), unit_amount=1))
    shop.send(customer, 5)
    early = shop.v1.invoices.create_preview({"customer": customer.id}).total
    shop.sandbox.advance(seconds=600)
    later = shop.v1.invoices.create_preview({"customer": customer.id}).total
    shop.sandbox.advance(to=APRIL + 30)
    shop.send(customer, 20, timestamp=APRIL - 1)
    shop.sandbox.advance(seconds=60)

    assert (early, later, shop.invoices(customer)[0].total) == (0, 5, 25)


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


def test_line_45_a_preview_includes_the_next_licence(shop):
    """As the invoice will."""
    customer = shop.customer()
    shop.subscribe(customer, shop.price(unit_amount=1000))

    (line,) = shop.v1.invoices.create_preview({"customer": customer.id}).lines.data

    assert (line.amount, line.period.start, line.period.end) == (1000, APRIL, day(5, 1))


def test_line_45_a_preview_of_what_is_not_yet(shop):
    """What would a subscription cost? Nothing of it is kept."""
    customer, price = shop.customer(), shop.price(unit_amount=1000)

    preview = shop.v1.invoices.create_preview(
        {"customer": customer.id, "subscription_details": {"items": [{"price": price.id, "quantity": 3}]}}
    )

    assert preview.total == 3000
    assert preview.parent.subscription_details.subscription is None
    assert shop.v1.subscriptions.list().data == []


def test_line_45_no_preview_without_a_subscription(shop):
    """404 for a customer without, 400 for nobody and for somebody else."""
    ada, bob = shop.customer(), shop.customer()
    subscription = shop.subscribe(bob, shop.price(shop.meter(), unit_amount=1))
    preview = shop.v1.invoices.create_preview

    with pytest.raises(stripe.InvalidRequestError) as caught:
        preview({"customer": ada.id})
    assert (caught.value.http_status, caught.value.code) == (404, "invoice_upcoming_none")
    assert refused(preview, {}).code == "parameter_missing"
    assert refused(preview, {"customer": ada.id, "subscription": subscription.id}).param == "subscription"
    assert refused(preview, {"subscription_details": {"items": [{"price": "p"}]}})


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


def test_invoices_are_listed_by_what_they_are(shop, sandbox):
    """Of a customer, of a subscription, by status."""
    meter = shop.meter()
    price = shop.price(meter, unit_amount=1)
    ada, bob = shop.customer(), shop.customer()
    theirs = [shop.subscribe(each, price) for each in (ada, bob)]
    for each in (ada, bob):
        shop.send(each, 1)
    sandbox.advance(to=APRIL)
    shop.v1.invoices.finalize_invoice(shop.invoices(bob)[0].id)

    def owners(**params):
        return [invoice.customer for invoice in shop.v1.invoices.list(params).data]

    assert owners(subscription=theirs[0].id) == [ada.id]
    assert owners(status="draft") == [ada.id]
    assert owners(status="paid", customer=bob.id) == [bob.id]
    assert sorted(owners(created={"gte": APRIL})) == sorted([ada.id, bob.id])
    assert refused(shop.v1.invoices.finalize_invoice, shop.invoices(bob)[0].id)


def test_an_invoice_with_many_lines_shows_ten_and_lists_all(shop, sandbox):
    """`lines.has_more` says so."""
    customer, product = shop.customer(), shop.product().id
    shop.subscribe(customer, *[shop.price(product=product, unit_amount=n + 1) for n in range(12)])

    (invoice,) = shop.invoices(customer)
    listed = shop.v1.invoices.line_items.list(invoice.id, {"limit": 100}).data

    assert (len(invoice.lines.data), invoice.lines.has_more, invoice.lines.total_count) == (10, True, 12)
    assert [line.amount for line in listed] == list(range(1, 13))
    assert [line.id for line in invoice.lines.auto_paging_iter()] == [line.id for line in listed]


def test_a_draft_keeps_the_ids_of_its_lines(shop, sandbox):
    """It is the same line with another quantity."""
    customer = shop.customer()
    shop.subscribe(customer, shop.price(shop.meter(), unit_amount=1))
    shop.send(customer, 1)
    sandbox.advance(to=APRIL)
    before = shop.invoices(customer)[0].lines.data[0]
    shop.send(customer, 1, timestamp=APRIL - 1)
    after = shop.invoices(customer)[0].lines.data[0]

    assert (after.id, before.amount, after.amount) == (before.id, 1, 2)


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


def test_subscriptions_can_be_changed_a_little(shop):
    """Metadata, description and whether they end; not their items."""
    subscription = shop.subscribe(shop.customer(), shop.price(shop.meter(), unit_amount=1), metadata={"a": "b"})
    update = shop.v1.subscriptions.update

    changed = update(subscription.id, {"metadata": {"c": "d"}, "description": "x", "cancel_at_period_end": True})
    kept = update(subscription.id, {"cancel_at_period_end": False})

    assert (changed.metadata.to_dict(), changed.description) == ({"a": "b", "c": "d"}, "x")
    assert (changed.cancel_at_period_end, changed.cancel_at, changed.canceled_at) == (True, APRIL, START)
    assert (kept.cancel_at_period_end, kept.cancel_at, kept.canceled_at) == (False, None, None)
    assert refused(update, subscription.id, {"items": [{"price": "p"}]}).code == "parameter_unknown"


def test_a_subscription_that_ends_with_its_period_bills_its_usage(shop, sandbox):
    """A last invoice, and no next licence."""
    customer = shop.customer()
    subscription = shop.subscribe(
        customer, shop.price(shop.meter(), unit_amount=1), shop.price(unit_amount=1000), cancel_at_period_end=True
    )
    shop.send(customer, 5)
    sandbox.advance(to=day(6, 1))

    ended = shop.v1.subscriptions.retrieve(subscription.id)
    assert (subscription.cancel_at_period_end, subscription.cancel_at) == (True, APRIL)
    assert (ended.status, ended.ended_at) == ("canceled", APRIL)
    assert [invoice.total for invoice in shop.invoices(customer)] == [5, 1000]
    assert shop.events("customer.subscription.deleted") == ["customer.subscription.deleted"]


@pytest.mark.parametrize(("params", "totals"), [({}, []), ({"invoice_now": True}, [5])])
def test_a_subscription_that_ends_at_once_bills_its_usage_only_when_asked(shop, sandbox, params, totals):
    """Else the usage is lost, as with Stripe."""
    customer = shop.customer()
    subscription = shop.subscribe(customer, shop.price(shop.meter(), unit_amount=1))
    shop.send(customer, 5)
    sandbox.advance(seconds=DAY)

    canceled = shop.v1.subscriptions.cancel(subscription.id, params)
    sandbox.advance(to=day(6, 1))

    assert (canceled.status, canceled.canceled_at, canceled.ended_at) == ("canceled", START + DAY, START + DAY)
    assert [invoice.total for invoice in shop.invoices(customer)] == totals
    with pytest.raises(stripe.InvalidRequestError):
        shop.v1.subscriptions.cancel(subscription.id)
    refused(shop.v1.subscriptions.update, subscription.id, {"description": "x"})


def test_licensed_prices_are_not_prorated(shop):
    """The sandbox says so instead of making an amount up."""
    subscription = shop.subscribe(shop.customer(), shop.price(unit_amount=1000))

    assert "prorate" in refused(shop.v1.subscriptions.cancel, subscription.id, {"prorate": True}).user_message


def test_subscriptions_are_listed_by_what_they_are(shop):
    """Canceled ones only when asked for."""
    customer, price, other = shop.customer(), shop.price(unit_amount=1), shop.price(unit_amount=2)
    one, two = shop.subscribe(customer, price), shop.subscribe(shop.customer(), other)
    shop.v1.subscriptions.cancel(one.id)

    def ids(**params):
        return [each.id for each in shop.v1.subscriptions.list(params).data]

    assert ids() == [two.id]
    assert ids(status="all") == [two.id, one.id]
    assert ids(status="canceled") == ids(status="ended") == [one.id]
    assert ids(status="active", price=other.id) == [two.id]
    assert ids(customer=customer.id) == []


def test_a_backdated_subscription_bills_what_was_used_before_it(shop, sandbox):
    """Usage needs no subscription when it is reported."""
    customer = shop.customer()
    price = shop.price(shop.meter(), unit_amount=1)
    shop.send(customer, 5, timestamp=START - 9 * DAY)
    shop.send(customer, 20, timestamp=START - 11 * DAY)
    shop.subscribe(customer, price, backdate_start_date=START - 10 * DAY)
    sandbox.advance(to=APRIL)

    (invoice,) = shop.invoices(customer)
    assert (invoice.total, invoice.period_start, invoice.period_end) == (5, START - 10 * DAY, day(3, 19))
    refused(shop.subscribe, customer, price, backdate_start_date=sandbox.now + 1)


def test_a_billing_cycle_anchor_makes_a_short_first_period(shop):
    """Up to the anchor, at most a whole period away; licensed prices would have to be prorated, and are refused."""
    customer, price = shop.customer(), shop.price(shop.meter(), unit_amount=1)

    (item,) = shop.subscribe(customer, price, billing_cycle_anchor=day(3, 15)).items.data

    assert (item.current_period_start, item.current_period_end) == (START, day(3, 15))
    refused(shop.subscribe, customer, price, billing_cycle_anchor=day(4, 2))
    assert (
        "prorate"
        in refused(shop.subscribe, customer, shop.price(unit_amount=1), billing_cycle_anchor=day(3, 15)).user_message
    )
