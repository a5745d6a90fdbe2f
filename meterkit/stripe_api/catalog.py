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
"""Fields of a price that an invoice depends on."""


class Catalog:
    """
    Prices and meters, each requested once: the fields that matter here never change.

    Args:
        client: Client of stripe-python.
    """

    def __init__(self, client: stripe.StripeClient) -> None:
        self._client = client
        self._prices: dict[str, dict[str, Any]] = {}
        self._event_names: dict[str, str] = {}

    def price(self, identity: str) -> dict[str, Any]:
        """
        Return the `PRICE_FIELDS` of a price, by its id. No other object includes the tiers.

        Raises:
            stripe.StripeError: The request failed.
        """
        if identity not in self._prices:
            price = self._client.v1.prices.retrieve(identity, {"expand": ["tiers"]})
            known = plain(price)
            self._prices[identity] = {name: known.get(name) for name in PRICE_FIELDS}
        return self._prices[identity]

    def event_name(self, meter: str) -> str:
        """
        Return the event name of the meter with the id *meter*.

        Raises:
            stripe.StripeError: The request failed.
        """
        if meter not in self._event_names:
            self._event_names[meter] = self._client.v1.billing.meters.retrieve(meter).event_name
        return self._event_names[meter]
