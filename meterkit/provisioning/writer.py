"""
The requests that create and change meters, products and prices.

Each can be repeated: until its object can be found, Stripe recognises the request by its Idempotency-Key.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import stripe

from meterkit.metering.meter import CUSTOMER_KEY, VALUE_KEY, Meter
from meterkit.pricing.plan import Fee
from meterkit.pricing.price import Price
from meterkit.pricing.stripe_price import costs_the_same, minor, params_of
from meterkit.stripe_api.idempotency import create_once
from meterkit.stripe_api.transport import plain
from meterkit.wallets.pack import Pack, key_of, promised_in

REPLACES = "meterkit_replaces"
"""Metadata key of a price: the ids of the prices that it replaces, latest first."""

REPLACED_BY = "meterkit_replaced_by"
"""Metadata key of an archived price: the lookup key of the price that replaced it."""

MAX_REPLACED = 12
"""Number of ids that are kept: Stripe accepts 500 characters."""


class CatalogWriter:
    """
    Creates and changes meters, products and prices.

    Args:
        client: Client of stripe-python.

    Attributes:
        meters: Ids of existing and created meters, by event name.
    """

    def __init__(self, client: stripe.StripeClient) -> None:
        self._v1 = client.v1
        self.meters: dict[str, str] = {}

    def create_meter(self, meter: Meter) -> None:
        """Create a meter that adds up its events."""
        params: Any = {
            "display_name": meter.name,
            "event_name": meter.event_name,
            "default_aggregation": {"formula": "sum"},
        }
        if (meter.customer_key, meter.value_key) != (CUSTOMER_KEY, VALUE_KEY):
            params["customer_mapping"] = {"type": "by_id", "event_payload_key": meter.customer_key}
            params["value_settings"] = {"event_payload_key": meter.value_key}
        create = self._v1.billing.meters.create
        made = create_once("meter", create, params, look=lambda _: self._meter(meter.event_name))
        self.meters[meter.event_name] = made.id

    def reactivate(self, meter: str) -> None:
        """Make a meter accept events again."""
        self._v1.billing.meters.reactivate(meter)

    def create_product(self, meter: Meter) -> None:
        """Create the product of *meter*, to which its prices belong."""
        name = meter.name.replace("_", " ")
        params: Any = {"id": product_id_of(meter), "name": name[:1].upper() + name[1:]}
        create_once("product", self._v1.products.create, params, look=lambda _: self.product(params["id"]))

    def create_plan(self, plan: str) -> None:
        """Create the product of a plan, to which its fees belong."""
        name = plan.replace("_", " ").replace("-", " ")
        params: Any = {"id": product_of_plan(plan), "name": name[:1].upper() + name[1:]}
        create_once("product", self._v1.products.create, params, look=lambda _: self.product(params["id"]))

    def create_fee(self, fee: Fee) -> None:
        """Create the licensed price of a plan's fee, whose product exists."""
        params: Any = {
            "currency": fee.currency,
            "unit_amount_decimal": minor(fee.amount, fee.currency),
            "recurring": {"interval": fee.interval, "usage_type": "licensed"},
            "product": product_of_plan(fee.plan),
            "lookup_key": fee.lookup_key,
        }
        create_once("price", self._v1.prices.create, params, look=lambda _: self._with_key(fee.lookup_key))

    def create_named(self, identity: str, name: str) -> None:
        """Create a product."""
        params: Any = {"id": identity, "name": name}
        create_once("product", self._v1.products.create, params, look=lambda _: self.product(identity))

    def create_pack(self, wallet: str, pack: Pack) -> None:
        """Create the price of a wallet's pack, whose product exists; its metadata are what it promises."""
        key = key_of(wallet, pack)
        params: Any = {
            "currency": pack.currency,
            "unit_amount_decimal": minor(pack.price, pack.currency),
            "product": product_of_pack(key),
            "lookup_key": key,
            "metadata": promised_in(wallet, pack),
        }
        create_once("price", self._v1.prices.create, params, look=lambda _: self._with_key(key))

    def _with_key(self, key: str) -> Any | None:
        return next(iter(self._v1.prices.list({"lookup_keys": [key], "active": True}).data), None)

    def product(self, identity: str) -> Any | None:
        """Return the product with this id, or None."""
        try:
            found = self._v1.products.retrieve(identity)
        except stripe.InvalidRequestError as error:
            if error.http_status != 404:
                raise
            return None
        return None if getattr(found, "deleted", False) else found

    def unarchive(self, product: str) -> None:
        """Make an archived product active again."""
        self._v1.products.update(product, {"active": True})

    def update(self, price: str, params: Any) -> None:
        """Change the mutable fields of a price."""
        self._v1.prices.update(price, params)

    def create_price(self, price: Price, key: str, product: str, *, replaces: Mapping[str, Any] | None = None) -> None:
        """
        Create *price* under the lookup key *key*.

        Args:
            price: Price to create.
            key: Lookup key by which it is found.
            product: Id of the product that it belongs to.
            replaces: Stripe price that has the lookup key now; the new price takes over its other settings.
        """
        params = params_of(price)
        params["recurring"]["meter"] = self.meters[price.meter.event_name]
        params |= {"product": product, "lookup_key": key}
        if replaces is not None:
            params |= {"transfer_lookup_key": True, **_passed_on(replaces)}
        create_once("price", self._v1.prices.create, params, look=lambda _: self._price(price, key))

    def _meter(self, event_name: str) -> Any | None:
        active = self._v1.billing.meters.list({"status": "active", "limit": 100}).auto_paging_iter()
        return next((meter for meter in active if meter.event_name == event_name), None)

    def _price(self, price: Price, key: str) -> Any | None:
        found = self._v1.prices.list({"lookup_keys": [key], "active": True, "expand": ["data.tiers"]}).data
        meter = self.meters[price.meter.event_name]
        return next(
            (
                each
                for each in found
                if costs_the_same(plain(each), price) and plain(each)["recurring"]["meter"] == meter
            ),
            None,
        )


def _passed_on(old: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {name: value for name, value in old["metadata"].items() if name != REPLACED_BY}
    metadata[REPLACES] = " ".join([old["id"], *str(metadata.get(REPLACES, "")).split()][:MAX_REPLACED])
    params: dict[str, Any] = {"metadata": metadata}
    if old.get("nickname"):
        params["nickname"] = old["nickname"]
    if old.get("tax_behavior") in ("inclusive", "exclusive"):
        params["tax_behavior"] = old["tax_behavior"]
    return params


def lookup_key_of(price: Price) -> str:
    """Return the lookup key of *price* in Stripe: its own, or one derived from its meter, currency and interval."""
    return price.lookup_key or f"meterkit:{price.meter.event_name}:{price.currency}:{price.interval}"


def product_id_of(meter: Meter) -> str:
    """Return the id of a meter's product; Stripe accepts letters, digits, dashes and underscores."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", meter.event_name)
    if plain != meter.event_name:
        plain += "_" + hashlib.sha256(meter.event_name.encode()).hexdigest()[:8]
    return f"meterkit_{plain}"


def product_of_plan(plan: str) -> str:
    """Return the id of the product of the plan named *plan*."""
    return f"meterkit_plan_{plan}"


def product_of_pack(key: str) -> str:
    """Return the id of the product of the pack whose price has the lookup key *key*."""
    return f"meterkit_pack_{hashlib.sha256(key.encode()).hexdigest()[:20]}"
