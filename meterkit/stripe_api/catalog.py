"""Look-ups of prices, meters and discounts, which the objects that refer to them do not include."""

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
        self._prices: dict[tuple[str, str], dict[str, Any]] = {}
        self._event_names: dict[str, str] = {}

    def price(self, identity: str, currency: str = "") -> dict[str, Any]:
        """
        Return the `PRICE_FIELDS` of a price, by its id. No other object includes the tiers.

        Args:
            identity: Price id, ``price_...``.
            currency: Three-letter currency code in which its amounts are wanted; a price that has none in this
                currency is returned in its own.

        Raises:
            stripe.StripeError: The request failed.
        """
        key = (identity, currency)
        if key not in self._prices:
            known = plain(self._client.v1.prices.retrieve(identity, {"expand": ["tiers"]}))
            if currency and currency != known.get("currency"):
                known = {**known, **self._in_currency(identity, currency)}
            self._prices[key] = {name: known.get(name) for name in PRICE_FIELDS}
        return self._prices[key]

    def _in_currency(self, identity: str, currency: str) -> dict[str, Any]:
        """Return the amounts of a price in another currency than its own; empty if it has none."""
        price = self._client.v1.prices.retrieve(identity, {"expand": ["currency_options"]})
        options = (plain(price).get("currency_options") or {}).get(currency)
        if options is None:
            return {}
        if price.billing_scheme == "tiered":
            expand = f"currency_options.{currency}.tiers"
            price = self._client.v1.prices.retrieve(identity, {"expand": ["currency_options", expand]})
            options = plain(price)["currency_options"][currency]
        amounts = {name: options.get(name) for name in ("unit_amount_decimal", "tiers")}
        return {"currency": currency, **amounts}

    def event_name(self, meter: str) -> str:
        """
        Return the event name of the meter with the id *meter*.

        Raises:
            stripe.StripeError: The request failed.
        """
        if meter not in self._event_names:
            self._event_names[meter] = self._client.v1.billing.meters.retrieve(meter).event_name
        return self._event_names[meter]

    def discounts_of_subscription(self, identity: str) -> list[dict[str, Any]]:
        """
        Return the discounts of a subscription, with their coupons and what these apply to.

        Raises:
            stripe.StripeError: The request failed.
        """
        return _discounts(self._client.v1.subscriptions.retrieve(identity, {"expand": [_COUPON]}))

    def discounts_of_item(self, identity: str) -> list[dict[str, Any]]:
        """
        Return the discounts of a subscription item, with their coupons and what these apply to.

        Raises:
            stripe.StripeError: The request failed.
        """
        return _discounts(self._client.v1.subscription_items.retrieve(identity, {"expand": [_COUPON]}))

    def discounts_of_customer(self, identity: str) -> list[dict[str, Any]]:
        """
        Return the discount of a customer, with its coupon and what that applies to.

        Raises:
            stripe.StripeError: The request failed.
        """
        expand = _COUPON.replace("discounts", "discount", 1)
        found = plain(self._client.v1.customers.retrieve(identity, {"expand": [expand]})).get("discount")
        return [found] if found else []


_COUPON = "discounts.source.coupon.applies_to"
"""What to expand; a list of subscriptions or items cannot be expanded so deep."""


def _discounts(found: stripe.StripeObject) -> list[dict[str, Any]]:
    return [each for each in plain(found)["discounts"] if isinstance(each, dict)]
