"""Invoice lines and their arithmetic: lines 42 to 44 of the fidelity checklist."""

# ruff: noqa: RUF001 - Stripe puts a multiplication sign between quantity and product

from __future__ import annotations

from decimal import Decimal

import pytest
from sandbox_shop import (
    APRIL,
    DAY,
    HOUR,
    START,
    bill,
    lines,
    refused,
    tiered,
)


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


def test_items_of_a_draft(shop, sandbox):
    """They are lines of it; a final invoice takes none, nor does that of somebody else, in another currency or full."""
    customer, other = shop.customer(), shop.customer()
    shop.subscribe(customer, shop.price(shop.meter(), unit_amount=1))
    shop.send(customer, 1)
    sandbox.advance(to=APRIL)
    (draft,) = shop.invoices(customer)
    params = {"customer": customer.id, "invoice": draft.id, "amount": 2, "currency": "usd"}
    create = shop.v1.invoice_items.create
    create({**params, "description": "300 tokens"})
    whose = refused(create, {**params, "customer": other.id})
    currency = refused(create, {**params, "currency": "eur"})
    for _ in range(249):
        create(params)
    full = refused(create, params)
    sandbox.advance(to=APRIL + HOUR)
    (final,) = shop.invoices(customer)
    late = refused(create, params)

    assert ("300 tokens", 2) in [(line.description, line.amount) for line in final.lines.data]
    assert 1 + 250 * 2 == final.total
    assert ["invoice", "currency", "invoice", "invoice"] == [each.param for each in (whose, currency, full, late)]
    assert "invoice_not_editable" == late.code
