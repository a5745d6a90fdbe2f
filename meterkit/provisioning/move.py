"""
Move subscriptions from one plan or price to another.

Each subscription is moved by a single request, so it is either on the old prices or on the new ones, and a run that was
broken off is continued by the next. In flexible billing mode, Stripe bills the usage so far at the old price. In
classic mode it would not be billed at all, so these subscriptions are not moved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal, localcontext
from typing import Any, Literal

import stripe

from meterkit.errors import ConfigurationError, UsageError
from meterkit.metering.meter import Meter
from meterkit.pricing.plan import Plan, plan_in
from meterkit.pricing.price import EXACT
from meterkit.pricing.stripe_price import price_of
from meterkit.provisioning.subscription import ENDED, prices_of
from meterkit.provisioning.writer import REPLACES
from meterkit.stripe_api.catalog import Catalog
from meterkit.stripe_api.idempotency import create_once
from meterkit.stripe_api.outcomes import naming_failures
from meterkit.stripe_api.transport import PAGE_SIZE, plain


@dataclass(frozen=True, slots=True)
class Move:
    """
    What becomes of one subscription.

    Attributes:
        companies: Ids of the companies that its customer pays for.
        customer: Id of the Stripe customer.
        subscription: Id of the subscription.
        state: ``planned``; ``moved``; or ``left``, because it cannot be moved now.
        why: Why it is left, and the cure; empty otherwise.
        leaves: Lookup keys, or else ids, of the prices that it leaves.
        takes: Lookup keys, or else ids, of the prices that it takes.
        currency: Three-letter currency code of the amounts.
        old: What these prices cost for the usage of the last full month, in whole currency; None if it is not known.
        new: What the new ones would have cost.
    """

    companies: tuple[str, ...]
    customer: str
    subscription: str
    state: Literal["planned", "moved", "left"]
    why: str
    leaves: tuple[str, ...]
    takes: tuple[str, ...]
    currency: str
    old: Decimal | None
    new: Decimal | None
    items: tuple[Mapping[str, Any], ...] = field(default=(), repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Route:
    """
    From where to where subscriptions are moved.

    Attributes:
        leaves: Function that returns whether a subscription leaves a price, given Stripe's.
        old: Ids of the prices that they leave.
        takes: Function that returns the prices that a subscription takes, given its currency; None if there are none.
    """

    leaves: Callable[[Mapping[str, Any]], bool]
    old: tuple[str, ...]
    takes: Callable[[str], list[dict[str, Any]] | None]


def route_of_plans(client: stripe.StripeClient, old: str, new: Plan) -> Route:
    """
    Return the way from any version of the plan named *old* to the present version of *new*.

    Raises:
        UsageError: No price in Stripe belongs to the plan *old*.
        StripeFailedError: Stripe failed or refused.
    """
    by_currency: dict[str, list[dict[str, Any]] | None] = {}

    def takes(currency: str) -> list[dict[str, Any]] | None:
        if currency not in new.sold_in:
            return None
        if currency not in by_currency:
            keys = new.lookup_keys(currency)
            by_currency[currency] = [plain(price) for price in prices_of(client, keys)] if keys else []
        return by_currency[currency]

    with naming_failures("move", retries_refused=False):
        listed = client.v1.prices.list({"limit": PAGE_SIZE}).auto_paging_iter()
        of_old = {price.id for price in listed if plan_in(price.lookup_key) == old}
    if not of_old:
        raise UsageError(f"no price in Stripe belongs to a plan {old!r:.60}", reason="move_wrong")
    return Route(lambda price: price["id"] in of_old, tuple(sorted(of_old)), takes)


def route_of_prices(client: stripe.StripeClient, old: str, new: str) -> Route:
    """
    Return the way from one price to another, each given by its lookup key or id.

    From a lookup key to the same, it leads from the prices that the present one has replaced.

    Raises:
        UsageError: There is no such price.
        StripeFailedError: Stripe failed or refused.
    """
    with naming_failures("move", retries_refused=False):
        target = _price(client, new)
        if old == new:
            left = str(target["metadata"].get(REPLACES, "")).split()
            if not left:
                raise UsageError(f"the price {new} has replaced none, so there is nothing to move", reason="move_wrong")
        else:
            left = [_price(client, old)["id"]]
    return Route(
        lambda price: price["id"] in left,
        tuple(left),
        lambda currency: (
            [target] if currency in {target["currency"], *(target.get("currency_options") or ())} else None
        ),
    )


class Mover:
    """
    Moves subscriptions along a `Route`.

    Args:
        client: Client of stripe-python.
        route: From where to where.
        meters: Meters of the kit, by name.
        used: Usage of each company in the last full month, by meter name.
        companies_of: Function that returns the companies that a customer pays for.
    """

    def __init__(
        self,
        client: stripe.StripeClient,
        route: Route,
        *,
        meters: Mapping[str, Meter],
        used: Mapping[str, Mapping[str, int]],
        companies_of: Callable[[str], set[str]],
    ) -> None:
        self._v1 = client.v1
        self._catalog = Catalog(client)
        self._route = route
        self._meters = {meter.event_name: meter for meter in meters.values()}
        self._used = used
        self._companies_of = companies_of

    def plan(self, *, company: str | None = None) -> list[Move]:
        """
        Return what would be done, without doing it, by subscription.

        Args:
            company: Only the subscriptions that pay for this company; None takes all.

        Raises:
            StripeFailedError: Stripe failed or refused.
        """
        with naming_failures("move", retries_refused=False):
            found: dict[str, stripe.Subscription] = {}
            for price in self._route.old:
                for each in self._v1.subscriptions.list({"price": price, "limit": PAGE_SIZE}).auto_paging_iter():
                    if each.status not in ENDED:
                        found[each.id] = each
            moves = []
            for subscription in sorted(found.values(), key=lambda each: (each.created, each.id)):
                if company is None or company in self._companies_of(_customer(subscription)):
                    move = self._plan(subscription)
                    if move is not None:
                        moves.append(move)
            return moves

    def apply(self, move: Move) -> Move:
        """
        Move one subscription that is ``planned``, and return what became of it.

        Raises:
            StripeFailedError: Stripe failed or refused; what was moved stays, and another run continues.
        """
        params = {"subscription": move.subscription, "items": list(move.items)}

        def update(given: Any, options: Any) -> Any:
            changes: Any = {"items": given["items"], "proration_behavior": "create_prorations"}
            return self._v1.subscriptions.update(given["subscription"], changes, options)

        def look(_: Any) -> Any:
            found = self._v1.subscriptions.retrieve(move.subscription)
            return found if _has(found, move.items) else None

        with naming_failures(f"move {move.subscription}", retries_refused=False):
            create_once("move", update, params, look=look)
        return replace(move, state="moved")

    def _plan(self, subscription: stripe.Subscription) -> Move | None:
        """Return what becomes of *subscription*; None if it has the new prices already."""
        items = [plain(item) for item in subscription["items"].auto_paging_iter()]
        wanted = self._route.takes(subscription.currency)
        if wanted is None:
            return self._left(subscription, f"the new prices are not sold in {subscription.currency.upper()}: add them")
        ids = {price["id"] for price in wanted}
        leaving = [item for item in items if self._route.leaves(item["price"]) and item["price"]["id"] not in ids]
        if not leaving:
            return None
        there = {item["price"]["id"] for item in items}
        taking = [price for price in wanted if price["id"] not in there]
        why = self._why_not(subscription, items, leaving, wanted)
        if why:
            return self._left(subscription, why, leaving, taking)
        changes = _changes(leaving, taking)
        seats = next((item["quantity"] for item in leaving if item["quantity"] is not None), 1)  # an item keeps them
        companies = tuple(sorted(self._companies_of(_customer(subscription))))
        return Move(
            companies=companies,
            customer=_customer(subscription),
            subscription=subscription.id,
            state="planned",
            why="",
            leaves=tuple(_name(item["price"]) for item in leaving),
            takes=tuple(map(_name, taking)),
            currency=subscription.currency,
            old=self._cost([(each["price"], each["quantity"]) for each in leaving], subscription.currency, companies),
            new=self._cost([(price, seats) for price in taking], subscription.currency, companies),
            items=tuple(changes),
        )

    def _why_not(
        self,
        subscription: stripe.Subscription,
        items: list[dict[str, Any]],
        leaving: list[dict[str, Any]],
        wanted: list[dict[str, Any]],
    ) -> str:
        """Return why *subscription* cannot be moved, and the cure; empty if it can."""
        staying = [item["price"] for item in items if item not in leaving]
        if not wanted and not staying:
            return "the new plan costs nothing, and a subscription needs a price: cancel it at the end of its period"
        mode = getattr(subscription.billing_mode, "type", "classic")
        if mode != "flexible" and any(_meter_of(item["price"]) for item in leaving):
            return (
                "it is in classic billing mode, in which Stripe does not bill what was used before a move: migrate it "
                "to flexible mode (POST /v1/subscriptions/{id}/migrate with billing_mode[type]=flexible), and run this "
                "again"
            )
        if subscription.schedule is not None:
            return "a schedule changes its prices: release it, or change it there"
        rhythms = {_rhythm(item["price"]) for item in leaving}
        if not {_rhythm(price) for price in wanted} <= rhythms | {_rhythm(price) for price in staying}:
            return (
                "the new prices are billed in another interval: cancel it at the end of its period, and subscribe anew"
            )
        ids = {price["id"] for price in wanted}
        meters = {_meter_of(price) for price in wanted} - {None}
        twice = next((price for price in staying if price["id"] not in ids and _meter_of(price) in meters), None)
        if twice is not None:
            return (
                f"it has {twice['id']} for the same meter, too, so each unit would be billed twice: remove that first"
            )
        return ""

    def _left(
        self,
        subscription: stripe.Subscription,
        why: str,
        leaving: Iterable[dict[str, Any]] = (),
        taking: Iterable[dict[str, Any]] = (),
    ) -> Move:
        return Move(
            companies=tuple(sorted(self._companies_of(_customer(subscription)))),
            customer=_customer(subscription),
            subscription=subscription.id,
            state="left",
            why=why.replace("{id}", subscription.id),
            leaves=tuple(_name(item["price"]) for item in leaving),
            takes=tuple(map(_name, taking)),
            currency=subscription.currency,
            old=None,
            new=None,
        )

    def _cost(
        self, prices: Iterable[tuple[dict[str, Any], int | None]], currency: str, companies: Iterable[str]
    ) -> Decimal | None:
        """Return what the usage of the last full month costs at *prices*, with their quantities; None if unknown."""
        total = Decimal(0)
        try:
            for price, quantity in prices:
                known = self._catalog.price(price["id"], currency)
                meter = _meter_of(price)
                if meter is None:
                    units, priced = quantity or 0, Meter("licensed")
                else:
                    event_name = self._catalog.event_name(meter)
                    priced = self._meters.get(event_name) or Meter(event_name)
                    units = sum(self._used.get(company, {}).get(priced.name, 0) for company in companies)
                with localcontext(EXACT):
                    total += price_of(known, priced).amount(max(0, units))
        except (ConfigurationError, KeyError):
            return None
        return total


def _changes(leaving: list[dict[str, Any]], taking: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the changes of items: each new price takes the place of an old one of its meter, if there is one."""
    left = list(leaving)
    changes: list[dict[str, Any]] = []
    for price in taking:
        item = next((each for each in left if _meter_of(each["price"]) == _meter_of(price)), None)
        if item is None:
            changes.append({"price": price["id"]})
        else:
            left.remove(item)
            changes.append({"id": item["id"], "price": price["id"]})
    return [*changes, *({"id": item["id"], "deleted": True} for item in left)]


def _price(client: stripe.StripeClient, name: str) -> dict[str, Any]:
    """Return the price with this lookup key or id."""
    found = client.v1.prices.list({"lookup_keys": [name]}).data
    if found:
        return plain(found[0])
    try:
        return plain(client.v1.prices.retrieve(name))
    except stripe.InvalidRequestError as error:
        if error.http_status != 404:
            raise
        raise UsageError(f"Stripe has no price with the lookup key or id {name!r:.200}", reason="move_wrong") from None


def _has(subscription: stripe.Subscription, changes: Iterable[Mapping[str, Any]]) -> bool:
    """Return whether *subscription* has these changes of items."""
    prices = {item.id: item.price.id for item in subscription["items"].auto_paging_iter()}
    return all(
        each["id"] not in prices
        if "deleted" in each
        else prices.get(each["id"]) == each["price"]
        if "id" in each
        else each["price"] in prices.values()
        for each in changes
    )


def _customer(subscription: stripe.Subscription) -> str:
    return str(getattr(subscription.customer, "id", subscription.customer))


def _name(price: Mapping[str, Any]) -> str:
    return str(price["lookup_key"] or price["id"])


def _meter_of(price: Mapping[str, Any]) -> str | None:
    meter: str | None = price["recurring"].get("meter")
    return meter


def _rhythm(price: Mapping[str, Any]) -> tuple[str, int]:
    return price["recurring"]["interval"], price["recurring"]["interval_count"]
