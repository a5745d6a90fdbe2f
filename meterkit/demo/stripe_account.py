"""
What the demo has in its Stripe account, all of it made with stripe-python.

A meter, a product, a price, and for each company a customer with a subscription; and, a month later, the invoices.
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
    One line of an invoice, as Stripe made it.

    Attributes:
        description: Stripe's words.
        quantity: Units.
        amount: In dollars.
    """

    description: str
    quantity: int
    amount: Decimal


@dataclass(frozen=True)
class Invoice:
    """
    A month's invoice.

    Attributes:
        number: As the customer sees it.
        status: ``paid`` in a sandbox where every payment succeeds.
        total: In dollars.
        lines: In Stripe's order.
    """

    number: str
    status: str
    total: Decimal
    lines: tuple[Line, ...]


class StripeAccount:
    """
    Creates the objects, and reads the invoices.

    Args:
        api_key: Stripe's secret key.
        base: Stripe's base address: the sandbox's.
    """

    def __init__(self, api_key: str, base: str) -> None:
        self._http = HTTPXClient()
        self._v1 = stripe.StripeClient(api_key, base_addresses={"api": base}, http_client=self._http).v1
        self.customers: dict[str, str] = {}
        """By company: ``cus_...``."""
        self.period_end = 0
        """When the month of the last subscription is over, in unix seconds."""

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
        """The invoice over the month's usage of *company*."""
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
                "default_aggregation": {"formula": "sum"},  # "count" would bill an hour of 120 queries as 1
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
