"""
Plan the product and the prices of one meter.

The amounts of a Stripe price can never change. So a price that changes in the code becomes a new one, which takes over
the lookup key and names, in its metadata, the price that it replaces: a later run archives that one, once no
subscription uses it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import stripe

from meterkit.metering.meter import Meter
from meterkit.pricing.price import Price
from meterkit.pricing.stripe_price import costs_the_same
from meterkit.provisioning.steps import Step
from meterkit.provisioning.writer import REPLACED_BY, REPLACES, CatalogWriter, lookup_key_of, product_id_of
from meterkit.stripe_api.transport import PAGE_SIZE, plain

KEYS = 10
"""Stripe: most lookup keys in one request."""

EXPANDED = ["data.tiers", "data.product", "data.currency_options"]

Known = Mapping[str, Any]


class PricePlanner:
    """
    Compares the prices of meters with what Stripe has.

    Args:
        client: Client of stripe-python.
        writes: Writer of objects, which also has the ids of meters.
        event_names: Event names of the account's meters, by id.
    """

    def __init__(self, client: stripe.StripeClient, writes: CatalogWriter, event_names: Mapping[str, str]) -> None:
        self._v1 = client.v1
        self._writes = writes
        self._event_names = event_names

    def steps(self, meter: Meter, prices: list[Price]) -> list[Step]:
        """
        Return the steps for the product and the prices of *meter*.

        Raises:
            stripe.StripeError: Stripe failed or refused.
        """
        known = self._known(meter, prices)
        there: list[Known | None] = []
        for price in prices:
            free = [each for each in known if each not in there]  # two plans may cost the same
            there.append(_there(price, free, self._writes.meters.get(meter.event_name)))
        # New prices join existing ones, so that an account that was set up by hand keeps its product.
        product = next((found["product"] for found in there if found is not None), None)
        steps: list[Step] = []
        for price, found in zip(prices, there, strict=True):
            steps += self._price(price, found, known, product_id_of(meter) if product is None else product["id"])
        products = {found["product"]["id"]: found["product"] for found in there if found is not None}
        return [*self._products(meter, products, steps), *steps]

    def _known(self, meter: Meter, prices: list[Price]) -> list[Known]:
        """Return the Stripe prices that have one of the lookup keys, or belong to the meter; oldest first."""
        keys = [lookup_key_of(price) for price in prices]
        found: dict[str, Known] = {}
        queries: list[Any] = [{"lookup_keys": keys[start : start + KEYS]} for start in range(0, len(keys), KEYS)]
        identity = self._writes.meters.get(meter.event_name)
        if identity is not None:
            queries.append({"recurring": {"meter": identity, "usage_type": "metered"}})
        for query in queries:
            query |= {"limit": PAGE_SIZE, "expand": EXPANDED}
            listed = self._v1.prices.list(query)
            found |= {price.id: plain(price) for price in listed.auto_paging_iter()}
        return sorted(found.values(), key=lambda price: (price["created"], price["id"]))

    def _products(self, meter: Meter, known: dict[str, Known], steps: list[Step]) -> list[Step]:
        found = [
            Step("change", "product", name, "it is archived", act=self._unarchiving(name))
            for name, product in known.items()
            if not product["active"]
        ]
        changing = any(step.kind in ("create", "change") for step in steps)
        if not known and changing:
            name = product_id_of(meter)
            product = self._writes.product(name)
            if product is None:
                return [Step("create", "product", name, act=lambda: self._writes.create_product(meter))]
            if not product.active:
                return [Step("change", "product", name, "it is archived", act=self._unarchiving(name))]
            return [Step("unchanged", "product", name)]
        return found or [Step("unchanged", "product", name) for name in known if changing]

    def _price(self, price: Price, there: Known | None, known: list[Known], product: str) -> list[Step]:
        key = lookup_key_of(price)
        if there is None:
            return [
                Step(
                    "create",
                    "price",
                    key,
                    _alike(price, known),
                    act=lambda: self._writes.create_price(price, key, product),
                )
            ]
        if there["lookup_key"] != key:
            why = f"{there['id']} costs the same, and is given the lookup key"
            # It may have been replaced before.
            params: Any = {"lookup_key": key, "metadata": {REPLACED_BY: ""}}
            return [Step("adopt", "price", key, why, act=lambda: self._writes.update(there["id"], params))]
        mismatch = self._mismatch(price, there)
        if mismatch:
            return [_drift(key, there["id"], mismatch)]
        if not self._is_same(price, there):
            return self._replaced(price, key, there)
        if not there["active"]:
            params = {"active": True, "metadata": {REPLACED_BY: ""}}
            return [
                Step("change", "price", key, "it is archived", act=lambda: self._writes.update(there["id"], params)),
            ]
        kept, archived = self._left_behind(replaced_by(there), known, key)
        return [Step("unchanged", "price", key, "; ".join(kept)), *archived]

    def _is_same(self, price: Price, there: Known) -> bool:
        return _meter_of(there) == self._writes.meters.get(price.meter.event_name) and costs_the_same(there, price)

    def _mismatch(self, price: Price, there: Known) -> str:
        """Return why *price* cannot replace *there* under its lookup key; empty if it can."""
        recurring = there["recurring"] or {}
        if recurring.get("usage_type") != "metered":
            return "is not metered"
        event_name = self._event_names.get(str(_meter_of(there)))
        if event_name != price.meter.event_name:
            return f"belongs to the meter {event_name!r}"
        every = (recurring.get("interval_count", 1), recurring.get("interval"))
        if every != (1, price.interval):
            return f"is billed every {every[0]} {every[1]}, not every {price.interval}"
        if there["currency"] != price.currency:
            return f"is in {there['currency']}, not {price.currency}"
        if len(there.get("currency_options") or ()) > 1 and not self._is_same(price, there):
            return "has amounts in other currencies, which a new price would lack"
        return ""

    def _replaced(self, price: Price, key: str, old: Known) -> list[Step]:
        kept, archived = self._left_behind([old], [old], key)
        left = f"subscriptions on {old['id']} keep it until you move them"
        if _meter_of(old) != self._writes.meters.get(price.meter.event_name):
            left += f"; they are billed by {_meter_of(old)}, which no longer receives usage"
        change = Step(
            "change",
            "price",
            key,
            f"it costs something else than {old['id']}: a new price is given the lookup key",
            (left, *kept),
            act=lambda: self._writes.create_price(price, key, old["product"]["id"], replaces=old),
        )
        return [change, *archived]

    def _left_behind(self, old: Iterable[Known | str], known: list[Known], key: str) -> tuple[list[str], list[Step]]:
        """Return why some replaced prices stay active, and the steps that archive the others."""
        kept: list[str] = []
        steps: list[Step] = []
        by_id = {price["id"]: price for price in known}
        for each in old:
            price = (by_id.get(each) or self._retrieved(each)) if isinstance(each, str) else each
            if not price["active"] or price["lookup_key"] not in (None, key) or REPLACED_BY in price["metadata"]:
                continue  # archived; in use under another key; or reactivated by a human
            reason = self._reason_to_keep(price)
            if reason:
                kept.append(f"{price['id']} stays active, because {reason}")
            else:
                why = "it has been replaced and no subscription uses it, so it is archived"
                steps.append(Step("change", "price", price["id"], why, act=self._archiving(price["id"], key)))
        return kept, steps

    def _reason_to_keep(self, price: Known) -> str:
        if price["product"].get("default_price") == price["id"]:
            return f"it is the default price of {price['product']['id']}"
        try:
            users = self._v1.subscriptions.list({"price": price["id"], "limit": 1}).data
        except stripe.PermissionError:
            return "this key may not read whether subscriptions use it"
        return "subscriptions use it" if users else ""

    def _retrieved(self, identity: str) -> Known:
        return plain(self._v1.prices.retrieve(identity, {"expand": ["product"]}))

    def _archiving(self, price: str, key: str) -> Any:
        return lambda: self._writes.update(price, {"active": False, "metadata": {REPLACED_BY: key}})

    def _unarchiving(self, product: str) -> Any:
        return lambda: self._writes.unarchive(product)


def _there(price: Price, known: list[Known], meter: str | None) -> Known | None:
    """Return the price with its lookup key; else an active one that has none and costs the same; else None."""
    key = lookup_key_of(price)
    found = next((each for each in known if each["lookup_key"] == key), None)
    if found is not None or meter is None:
        return found
    return next((each for each in _equal(price, known, meter) if each["lookup_key"] is None), None)


def _equal(price: Price, known: list[Known], meter: str | None) -> list[Known]:
    return [each for each in known if each["active"] and _meter_of(each) == meter and costs_the_same(each, price)]


def _alike(price: Price, known: list[Known]) -> str:
    """Return a hint at a price that costs the same under another lookup key; empty if there is none."""
    for each in known:
        if each["active"] and each["lookup_key"] and costs_the_same(each, price):
            return f"{each['id']} costs the same; to use that one, set lookup_key={each['lookup_key']!r}"
    return ""


def _drift(key: str, holder: str, mismatch: str) -> Step:
    choices = ("give the price another lookup_key= in the code", f"remove the lookup key from {holder} in Stripe")
    return Step("drift", "price", key, f"{holder} has the lookup key, but {mismatch}", choices)


def _meter_of(price: Known) -> str | None:
    meter: str | None = (price["recurring"] or {}).get("meter")
    return meter


def replaced_by(price: Known) -> list[str]:
    """Return the ids of the prices that *price* replaces."""
    return str(price["metadata"].get(REPLACES, "")).split()
