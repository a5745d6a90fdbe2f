"""
Edges: makes Stripe's meters, products and prices match the code.

First a plan, then its steps, one after the other. Each can be repeated: what is there is found again, a meter by its
event name, a product by its id, a price by its lookup key; and until it can be found, Stripe knows the request by its
Idempotency-Key. What Stripe cannot change is drift: it is named, with the choices that are left, and not touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import stripe

from meterkit.errors import ConfigurationError
from meterkit.meter import Meter
from meterkit.pricing import Price
from meterkit.stripe_price import costs_the_same
from meterkit.stripe_writes import Writes, lookup_key_of, product_id_of
from meterkit.transport import plain
from meterkit.verdict import naming_failures

Kind: TypeAlias = Literal["create", "adopt", "change", "unchanged", "drift"]

PAGE = 100
"""Stripe: a page of a list has 100 objects at most."""

WAYS = {
    "formula": "sum",
    "event_time_window": None,
    "customer key": "stripe_customer_id",
    "value key": "value",
}
"""
How a meter has to be. Hourly sums of an hour are added up: any other formula, or a window in which only the last event
counts, would lose usage.
"""


@dataclass(slots=True)
class Step:
    """
    One object, and what becomes of it.

    Attributes:
        kind: ``create``; ``adopt``: it is there, and gets our lookup key; ``change``; ``unchanged``; ``drift``: Stripe
            cannot change it into what the code says.
        what: ``meter``, ``product`` or ``price``.
        name: By which it is found.
        why: What is different.
        choices: What can be done about drift, and about what a change leaves behind.
    """

    kind: Kind
    what: str
    name: str
    why: str = ""
    choices: tuple[str, ...] = ()
    act: Callable[[], None] | None = field(default=None, repr=False)


@dataclass(slots=True)
class Plan:
    """
    All steps, in their order.

    Attributes:
        livemode: Whether it is about the account's real money.
        steps: For each meter, its own, then its product's and its prices'.
    """

    livemode: bool
    steps: list[Step]

    @property
    def drift(self) -> list[Step]:
        """What has to be decided by a human."""
        return [step for step in self.steps if step.kind == "drift"]

    @property
    def changes(self) -> list[Step]:
        """What applying it does."""
        return [step for step in self.steps if step.act is not None]


class Provisioning:
    """
    Compares the code with an account, and makes the account match.

    Args:
        client: Of stripe-python.
        livemode: Whether the key is a live one.
    """

    def __init__(self, client: stripe.StripeClient, *, livemode: bool) -> None:
        self._v1 = client.v1
        self._livemode = livemode
        self._writes = Writes(client)

    def plan(self, meters: Iterable[Meter], prices: Iterable[Price]) -> Plan:
        """
        Say what would be done. Only reads.

        Raises:
            StripeFailedError: Stripe did not answer, or refuses.
            ConfigurationError: Two prices have the same lookup key.
        """
        with naming_failures():
            there: dict[str, list[Any]] = {}
            for found in self._v1.billing.meters.list({"limit": PAGE}).auto_paging_iter():
                there.setdefault(found.event_name, []).append(found)
            steps: list[Step] = []
            prices = list(prices)
            _check_keys(prices)
            for meter in meters:
                own = [price for price in prices if price.meter.name == meter.name]
                step = self._plan_meter(meter, there.get(meter.event_name, []))
                steps.append(step)
                if own and step.kind != "drift":
                    steps += self._plan_prices(meter, own)
            return Plan(self._livemode, steps)

    def apply(self, plan: Plan, *, done: Callable[[Step], None] = lambda _: None) -> None:
        """
        Take the steps of *plan*, but for drift.

        Args:
            plan: Made a moment ago.
            done: Called after each step.

        Raises:
            StripeFailedError: Stripe did not answer, or refuses; what was done stays, and another run goes on.
        """
        for step in plan.changes:
            assert step.act is not None
            with naming_failures(f"{step.kind} {step.what} {step.name}"):
                step.act()
            done(step)

    def _plan_meter(self, meter: Meter, found: list[Any]) -> Step:
        name = meter.event_name
        if not found:
            return Step("create", "meter", name, act=lambda: self._writes.create_meter(meter))
        # Of several with one name, at most one is active.
        known = next((each for each in found if each.status == "active"), found[-1])
        wrong = [f"{what} is {is_!r}, not {WAYS[what]!r}" for what, is_ in _ways_of(known).items() if is_ != WAYS[what]]
        if wrong:
            return Step(
                "drift",
                "meter",
                name,
                f"{known.id}: {'; '.join(wrong)}; Stripe cannot change that",
                (
                    "give the meter another event_name= in the code",
                    f"deactivate {known.id} in Stripe, if nobody uses it",
                ),
            )
        self._writes.meters[name] = known.id
        if known.status != "active":
            return Step("change", "meter", name, "it is inactive", act=lambda: self._writes.reactivate(known.id))
        return Step("unchanged", "meter", name)

    def _plan_prices(self, meter: Meter, prices: list[Price]) -> list[Step]:
        known = self._prices(meter, prices)
        steps = [self._plan_price(price, known) for price in prices]
        if any(step.kind == "create" for step in steps) or any(step.kind == "change" for step in steps):
            steps.insert(0, self._plan_product(meter))
        return steps

    def _plan_product(self, meter: Meter) -> Step:
        identity = product_id_of(meter)
        try:
            product = self._v1.products.retrieve(identity)
        except stripe.InvalidRequestError as error:
            if error.http_status != 404:
                raise
            return Step("create", "product", identity, act=lambda: self._writes.create_product(meter))
        if getattr(product, "deleted", False) or not product.active:
            return Step("change", "product", identity, "it is archived", act=lambda: self._writes.unarchive(identity))
        return Step("unchanged", "product", identity)

    def _prices(self, meter: Meter, prices: list[Price]) -> list[Any]:
        """Stripe's prices that have one of our lookup keys, or our meter."""
        keys = [lookup_key_of(price) for price in prices]
        found: dict[str, Any] = {}
        for start in range(0, len(keys), 10):
            by_key = self._v1.prices.list(
                {"lookup_keys": keys[start : start + 10], "limit": PAGE, "expand": ["data.tiers"]}
            )
            found |= {price.id: plain(price) for price in by_key.auto_paging_iter()}
        if meter.event_name in self._writes.meters:
            of_meter = self._v1.prices.list(
                {
                    "recurring": {"meter": self._writes.meters[meter.event_name], "usage_type": "metered"},
                    "active": True,
                    "limit": PAGE,
                    "expand": ["data.tiers"],
                }
            )
            found |= {price.id: plain(price) for price in of_meter.auto_paging_iter()}
        return list(found.values())

    def _plan_price(self, price: Price, known: list[Any]) -> Step:
        key = lookup_key_of(price)
        meter = self._writes.meters.get(price.meter.event_name)
        held = next((each for each in known if each["lookup_key"] == key), None)
        same = [each for each in known if costs_the_same(each, price) and each["recurring"]["meter"] == meter]
        if held is None:
            twin = next((each for each in same if each["lookup_key"] is None), None)
            if twin is not None:
                why = f"{twin['id']} costs the same: it gets the lookup key"
                return Step(
                    "adopt", "price", key, why, act=lambda: self._writes.update(twin["id"], {"lookup_key": key})
                )
            return Step("create", "price", key, act=lambda: self._writes.create_price(price, key, replaces=None))
        if held in same:
            if held["active"]:
                return Step("unchanged", "price", key)
            return Step(
                "change", "price", key, "it is archived", act=lambda: self._writes.update(held["id"], {"active": True})
            )
        recurring = held["recurring"] or {}
        if (recurring.get("usage_type"), recurring.get("interval"), held["currency"]) != (
            "metered",
            price.interval,
            price.currency,
        ):
            return Step(
                "drift",
                "price",
                key,
                f"{held['id']} has the lookup key, and is {_said(held)}",
                ("give the price another lookup_key= in the code", f"take the lookup key off {held['id']} in Stripe"),
            )
        return Step(
            "change",
            "price",
            key,
            f"it costs something else than {held['id']}: a new price gets the lookup key",
            (f"subscriptions on {held['id']} keep it, until you move them",),
            act=lambda: self._writes.create_price(price, key, replaces=held["id"]),
        )


def _check_keys(prices: list[Price]) -> None:
    keys = [lookup_key_of(price) for price in prices]
    for key in keys:
        if keys.count(key) > 1:
            raise ConfigurationError(f"two prices have the lookup key {key!r}: give one of them another lookup_key=")


def _ways_of(meter: Any) -> dict[str, str | None]:
    return {
        "formula": meter.default_aggregation.formula,
        "event_time_window": meter.event_time_window,
        "customer key": meter.customer_mapping.event_payload_key,
        "value key": meter.value_settings.event_payload_key,
    }


def _said(price: Any) -> str:
    recurring = price["recurring"] or {}
    return (
        f"{recurring.get('usage_type', 'one-time')}, {price['currency']}, by the {recurring.get('interval', 'piece')}"
    )
