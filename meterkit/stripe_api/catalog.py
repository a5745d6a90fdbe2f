"""Cached look-ups of prices and meters."""

from __future__ import annotations

from typing import Any

import stripe

from meterkit.stripe_api.transport import plain

PRICE_FIELDS = (
    "id",
    "product",
    "currency",
    "billing_scheme",
    "tiers_mode",
    "tiers",
    "unit_amount_decimal",
    "transform_quantity",
    "recurring",
    "lookup_key",
)
"""What of a price an invoice depends on."""


class Catalog:
    """
    Prices and meters, each asked for once: neither ever changes in what matters here.

    Args:
        client: Of stripe-python.
    """

    def __init__(self, client: stripe.StripeClient) -> None:
        self._client = client
        self._prices: dict[str, dict[str, Any]] = {}
        self._event_names: dict[str, str] = {}

    def price(self, identity: str) -> dict[str, Any]:
        """
        What an invoice depends on, and the tiers, which no other object shows.

        Raises:
            stripe.StripeError: Stripe did not answer.
        """
        if identity not in self._prices:
            price = self._client.v1.prices.retrieve(identity, {"expand": ["tiers"]})
            known = plain(price)
            self._prices[identity] = {name: known.get(name) for name in PRICE_FIELDS}
        return self._prices[identity]

    def event_name(self, meter: str) -> str:
        """
        Under which usage reaches *meter*.

        Raises:
            stripe.StripeError: Stripe did not answer.
        """
        if meter not in self._event_names:
            self._event_names[meter] = self._client.v1.billing.meters.retrieve(meter).event_name
        return self._event_names[meter]
