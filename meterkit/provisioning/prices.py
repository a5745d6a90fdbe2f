"""
Plan the product and the prices of one meter.

A price of Stripe's never changes in what it costs. So a price that changes in the code becomes a new one, which takes
the lookup key over and names, in its metadata, what it replaces: a later run archives that, once nobody has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import stripe

from meterkit.metering.meter import Meter
from meterkit.pricing.price import Price
from meterkit.pricing.stripe_price import costs_the_same
from meterkit.provisioning.plan import Step
from meterkit.provisioning.writer import REPLACED_BY, REPLACES, CatalogWriter, lookup_key_of, product_id_of
from meterkit.stripe_api.transport import PAGE_SIZE, plain

KEYS = 10
"""Stripe: so many lookup keys can be asked for at once."""

EXPANDED = ["data.tiers", "data.product", "data.currency_options"]

CONTRADICTED = frozenset(("ugx",))
"""
Stripe: listed among the currencies without decimals, and among the exceptions that are sent with two all the same.
Wrong by a hundred either way is nothing to try out.
"""

Known = Mapping[str, Any]


class PricePlanner:
    """
    Compares the prices of meters with what Stripe has.

    Args:
        client: Of stripe-python.
        writes: What makes and changes objects; knows the ids of meters.
        event_names: Those of the account's meters, by id.
    """

    def __init__(self, client: stripe.StripeClient, writes: CatalogWriter, event_names: Mapping[str, str]) -> None:
        self._v1 = client.v1
        self._writes = writes
        self._event_names = event_names

    def steps(self, meter: Meter, prices: list[Price]) -> list[Step]:
        """
        What becomes of the product and the prices of *meter*.

        Raises:
            stripe.StripeError: Stripe did not answer, or refuses.
        """
        known = self._known(meter, prices)
        there = [_there(price, known, self._writes.meters.get(meter.event_name)) for price in prices]
        # New prices join those that are there, so that an account that was set up by hand keeps its product.
        product = next((found["product"] for found in there if found is not None), None)
        steps: list[Step] = []
        for price, found in zip(prices, there, strict=True):
            steps += self._price(price, found, known, product_id_of(meter) if product is None else product["id"])
        products = {found["product"]["id"]: found["product"] for found in there if found is not None}
        return [*self._products(meter, products, steps), *steps]

    def _known(self, meter: Meter, prices: list[Price]) -> list[Known]:
        """Stripe's prices that have one of our lookup keys, or are of our meter; oldest first."""
        keys = [lookup_key_of(price) for price in prices]
        found: dict[str, Known] = {}
        asked: list[Any] = [{"lookup_keys": keys[start : start + KEYS]} for start in range(0, len(keys), KEYS)]
        identity = self._writes.meters.get(meter.event_name)
        if identity is not None:
            asked.append({"recurring": {"meter": identity, "usage_type": "metered"}})
        for which in asked:
            which |= {"limit": PAGE_SIZE, "expand": EXPANDED}
            listed = self._v1.prices.list(which)
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
        if price.currency in CONTRADICTED:
            return [_untold(price, key)]
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
            why = f"{there['id']} costs the same: it gets the lookup key"
            # It may have been replaced once, and be wanted again.
            params: Any = {"lookup_key": key, "metadata": {REPLACED_BY: ""}}
            return [Step("adopt", "price", key, why, act=lambda: self._writes.update(there["id"], params))]
        wrong = self._another_kind(price, there)
        if wrong:
            return [_drift(key, there["id"], wrong)]
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

    def _another_kind(self, price: Price, there: Known) -> str:
        """Why *there* cannot be replaced by *price* under its lookup key; empty if it can."""
        recurring = there["recurring"] or {}
        if recurring.get("usage_type") != "metered":
            return "is not metered"
        event_name = self._event_names.get(str(_meter_of(there)))
        if event_name != price.meter.event_name:
            return f"is fed by the meter {event_name!r}"
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
        left = f"subscriptions on {old['id']} keep it, until you move them"
        if _meter_of(old) != self._writes.meters.get(price.meter.event_name):
            left += f"; they bill by {_meter_of(old)}, which takes no usage any more"
        change = Step(
            "change",
            "price",
            key,
            f"it costs something else than {old['id']}: a new price gets the lookup key",
            (left, *kept),
            act=lambda: self._writes.create_price(price, key, old["product"]["id"], replaces=old),
        )
        return [change, *archived]

    def _left_behind(self, old: Iterable[Known | str], known: list[Known], key: str) -> tuple[list[str], list[Step]]:
        """What keeps replaced prices for sale, and the steps that archive those that nothing keeps."""
        kept: list[str] = []
        steps: list[Step] = []
        by_id = {price["id"]: price for price in known}
        for each in old:
            price = (by_id.get(each) or self._retrieved(each)) if isinstance(each, str) else each
            if not price["active"] or price["lookup_key"] not in (None, key) or REPLACED_BY in price["metadata"]:
                continue  # archived; sold under another key; or taken up again by a human
            reason = self._kept(price)
            if reason:
                kept.append(f"{price['id']} stays for sale, for {reason}")
            else:
                why = "it is replaced, and no subscription has it: it is archived"
                steps.append(Step("change", "price", price["id"], why, act=self._archiving(price["id"], key)))
        return kept, steps

    def _kept(self, price: Known) -> str:
        if price["product"].get("default_price") == price["id"]:
            return f"it is the default price of {price['product']['id']}"
        try:
            having = self._v1.subscriptions.list({"price": price["id"], "limit": 1}).data
        except stripe.PermissionError:
            return "this key may not read whether subscriptions have it"
        return "subscriptions have it" if having else ""

    def _retrieved(self, identity: str) -> Known:
        return plain(self._v1.prices.retrieve(identity, {"expand": ["product"]}))

    def _archiving(self, price: str, key: str) -> Any:
        return lambda: self._writes.update(price, {"active": False, "metadata": {REPLACED_BY: key}})

    def _unarchiving(self, product: str) -> Any:
        return lambda: self._writes.unarchive(product)


def _there(price: Price, known: list[Known], meter: str | None) -> Known | None:
    """What has its lookup key; else what has none, is for sale, and costs the same."""
    key = lookup_key_of(price)
    held = next((each for each in known if each["lookup_key"] == key), None)
    if held is not None or meter is None:
        return held
    return next((each for each in _equal(price, known, meter) if each["lookup_key"] is None), None)


def _equal(price: Price, known: list[Known], meter: str | None) -> list[Known]:
    return [each for each in known if each["active"] and _meter_of(each) == meter and costs_the_same(each, price)]


def _alike(price: Price, known: list[Known]) -> str:
    """A hint at a price that costs the same under a lookup key of somebody's."""
    for each in known:
        if each["active"] and each["lookup_key"] and costs_the_same(each, price):
            return f"{each['id']} costs the same; to sell that one, write lookup_key={each['lookup_key']!r}"
    return ""


def _drift(key: str, held: str, wrong: str) -> Step:
    choices = ("give the price another lookup_key= in the code", f"take the lookup key off {held} in Stripe")
    return Step("drift", "price", key, f"{held} has the lookup key, and {wrong}", choices)


def _untold(price: Price, key: str) -> Step:
    why = (
        f"Stripe contradicts itself about the unit of {price.currency.upper()}, so amounts could be wrong by a hundred"
    )
    return Step("drift", "price", key, why, ("make this price in Stripe by hand, and take it out of prices=",))


def _meter_of(price: Known) -> str | None:
    meter: str | None = (price["recurring"] or {}).get("meter")
    return meter


def replaced_by(price: Known) -> list[str]:
    """The ids of the prices that it replaces."""
    return str(price["metadata"].get(REPLACES, "")).split()
