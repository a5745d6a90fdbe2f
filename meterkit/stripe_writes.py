"""
Edges: the requests that make meters, products and prices in Stripe.

Each can be repeated: until what it made can be found, Stripe knows the request by its Idempotency-Key.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from typing import Any

import stripe

from meterkit.meter import Meter
from meterkit.pricing import Price
from meterkit.stripe_price import params_of
from meterkit.verdict import is_stripes

TRIES = 3
"""Of a request that Stripe answers with an error of its own."""


class Writes:
    """
    Makes and changes objects.

    Args:
        client: Of stripe-python.

    Attributes:
        meters: The ids of meters, of those that are there and those that have been made, by event name.
    """

    def __init__(self, client: stripe.StripeClient) -> None:
        self._v1 = client.v1
        self.meters: dict[str, str] = {}

    def create_meter(self, meter: Meter) -> None:
        """One that adds up what it is sent."""
        params: Any = {
            "display_name": meter.name,
            "event_name": meter.event_name,
            "default_aggregation": {"formula": "sum"},
        }
        made = _send(self._v1.billing.meters.create, params, _key("meter", params))
        self.meters[meter.event_name] = made.id

    def reactivate(self, meter: str) -> None:
        """Let a meter take events again."""
        self._v1.billing.meters.reactivate(meter)

    def create_product(self, meter: Meter) -> None:
        """What the prices of *meter* belong to."""
        name = meter.name.replace("_", " ")
        params: Any = {"id": product_id_of(meter), "name": name[:1].upper() + name[1:]}
        try:
            _send(self._v1.products.create, params, _key("product", params))
        except stripe.InvalidRequestError as error:
            if error.code != "resource_already_exists":  # by another run, at the same time
                raise

    def unarchive(self, product: str) -> None:
        """Let a product be sold again."""
        self._v1.products.update(product, {"active": True})

    def update(self, price: str, params: Any) -> None:
        """Change what may change about a price."""
        self._v1.prices.update(price, params)

    def create_price(self, price: Price, key: str, *, replaces: str | None) -> None:
        """Sell *price* under the lookup key *key*, which the price that it *replaces* loses."""
        params = params_of(price)
        params["recurring"]["meter"] = self.meters[price.meter.event_name]
        params |= {"product": product_id_of(price.meter), "lookup_key": key}
        if replaces is not None:
            params["transfer_lookup_key"] = True
        # With what it replaces: back to an earlier price within a day is another request than that of then.
        _send(self._v1.prices.create, params, _key("price", {**params, "replaces": replaces}))


def _send(create: Callable[..., Any], params: Any, key: str) -> Any:
    """Stripe repeats a stored error of its own for as long as it knows the key; then the key gets a number."""
    for number in range(TRIES):
        try:
            return create(params, options={"idempotency_key": f"{key}-{number}" if number else key})
        except stripe.APIError as error:
            if not is_stripes(error) or (error.http_status or 0) < 500 or number == TRIES - 1:
                raise
    raise AssertionError("unreachable")


def lookup_key_of(price: Price) -> str:
    """Under which *price* is found in Stripe: its own, or one of its meter, currency and interval."""
    return price.lookup_key or f"meterkit:{price.meter.event_name}:{price.currency}:{price.interval}"


def product_id_of(meter: Meter) -> str:
    """Of the product that a meter's prices belong to; Stripe takes letters, digits, dashes and underscores."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", meter.event_name)
    if plain != meter.event_name:
        plain += "_" + hashlib.sha256(meter.event_name.encode()).hexdigest()[:8]
    return f"meterkit_{plain}"


def _key(what: str, params: Any) -> str:
    """An Idempotency-Key, derived from what the request does."""
    canonical = json.dumps(params, sort_keys=True)
    return f"meterkit-{what}-{hashlib.sha256(canonical.encode()).hexdigest()[:40]}"
