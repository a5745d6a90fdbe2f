# ruff: noqa: RUF001 - Stripe puts a multiplication sign between quantity and product
"""Subscriptions become invoices: lines 39 to 45 of the fidelity checklist."""

from __future__ import annotations

import pytest
from sandbox_shop import START

CLASSIC = [
    {"up_to": 100, "unit_amount": 500},
    {"up_to": 1000, "unit_amount": 300},
    {"up_to": "inf", "unit_amount": 200},
]


def graduated(shop, meter, tiers=CLASSIC, **params):
    return shop.price(meter, billing_scheme="tiered", tiers_mode="graduated", tiers=tiers, **params)


@pytest.mark.parametrize(
    ("used", "total", "lines"),
    [
        (80, 40_000, [("80 query × Credit Score (Tier 1 at $5.00 / month)", 80, 40_000)]),
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
def test_line_42_the_classical_example(shop, sandbox, used, total, lines):
    """1 to 100 at $5, to 1,000 at $3, then $2: 1,500 units are $4,200.00, 80 units are $400.00."""
    customer, meter = shop.customer(), shop.meter()
    shop.subscribe(customer, graduated(shop, meter))
    shop.send(customer, used)

    sandbox.advance(to=START + 40 * 86400)

    (invoice,) = shop.invoices(customer)
    assert [(line.description, line.quantity, line.amount) for line in invoice.lines.data] == lines
    assert (invoice.total, invoice.status, invoice.currency) == (total, "paid", "usd")
