"""
The demo's Stripe account, through stripe-python.

It has a meter, a product, a price, and a customer with a subscription for each company; a month later, the invoices.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import stripe

from meterkit.metering.meter import Meter
from meterkit.pricing.price import Price
from meterkit.stripe_api.transport import HTTPXClient


@dataclass(frozen=True)
class Line:
    """
    One line of an invoice, as Stripe returned it.

    Attributes:
        description: Stripe's text.
        quantity: Number of units.
        amount: Amount in dollars.
    """

    description: str
    quantity: int
    amount: Decimal


@dataclass(frozen=True)
class Invoice:
    """
    A month's invoice.

    Attributes:
        number: Invoice number, as the customer sees it.
        status: Stripe's status; ``paid`` in a sandbox in which every payment succeeds.
        total: Total in dollars.
        lines: Lines in Stripe's order.
    """

    number: str
    status: str
    total: Decimal
    lines: tuple[Line, ...]


class StripeAccount:
    """
    Creates the objects, and reads the invoices.

    Args:
        api_key: Stripe secret key.
        base: Base URL of the Stripe API: the sandbox's.
    """

    def __init__(self, api_key: str, base: str) -> None:
        self._http = HTTPXClient()
        self._v1 = stripe.StripeClient(api_key, base_addresses={"api": base}, http_client=self._http).v1
        self.customers: dict[str, str] = {}
        """Stripe customer ids (``cus_...``) by company."""
        self.period_end = 0
        """Unix second at which the last subscription's billing period ends."""

    def sell(self, price: Price, companies: Iterable[str]) -> None:
        """Create the meter, the product and the price, and a customer with a subscription for each of *companies*."""
        meter = self._create_meter(price.meter)
        price_id = self._create_price(price, meter)
        for company in companies:
            customer = self._v1.customers.create({"name": company})
            subscription = self._v1.subscriptions.create({"customer": customer.id, "items": [{"price": price_id}]})
            self.customers[company] = customer.id
            end = subscription["items"]["data"][0]["current_period_end"]
            self.period_end = max(self.period_end, end)

    def invoice(self, company: str) -> Invoice:
        """Return the invoice for the month's usage of *company*."""
        of_customer = self._v1.invoices.list({"customer": self.customers[company]})
        invoice = next(each for each in of_customer.auto_paging_iter() if each.billing_reason == "subscription_cycle")
        lines = tuple(
            Line(line.description or "", line.quantity or 0, _dollars(line.amount))
            for line in invoice.lines.auto_paging_iter()
        )
        return Invoice(invoice.number or "", invoice.status or "", _dollars(invoice.total), lines)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _create_meter(self, meter: Meter) -> str:
        created = self._v1.billing.meters.create(
            {
                "display_name": meter.name,
                "event_name": meter.event_name,
                "default_aggregation": {"formula": "sum"},  # "count" would bill an hour with 120 queries as 1
            }
        )
        return created.id

    def _create_price(self, price: Price, meter: str) -> str:
        product = self._v1.products.create({"name": "Credit score", "unit_label": "query"})
        tiers: list[Any] = [
            {"up_to": tier.up_to or "inf", "unit_amount_decimal": str(Decimal(tier.unit_price).scaleb(2))}
            for tier in price.tiers
        ]
        created = self._v1.prices.create(
            {
                "currency": price.currency,
                "product": product.id,
                "billing_scheme": "tiered",
                "tiers_mode": "graduated",
                "tiers": tiers,
                "recurring": {"interval": "month", "usage_type": "metered", "meter": meter},
            }
        )
        return created.id


def _dollars(cents: int) -> Decimal:
    return Decimal(cents).scaleb(-2)
