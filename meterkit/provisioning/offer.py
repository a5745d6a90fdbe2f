"""Choose what a company subscribes to: a plan, some prices by their lookup keys, or all prices of the kit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from meterkit.errors import UsageError
from meterkit.pricing.plan import Plan
from meterkit.pricing.plan_checks import MOST_ITEMS
from meterkit.pricing.price import Price
from meterkit.provisioning.writer import lookup_key_of


@dataclass(frozen=True, slots=True)
class Offer:
    """
    What a company subscribes to.

    Attributes:
        lookup_keys: Lookup keys of the prices in Stripe.
        plan: The plan that they make up, or None.
        is_any_currency: Whether the plan may be taken in another currency that the customer is billed in.
    """

    lookup_keys: tuple[str, ...]
    plan: Plan | None = None
    is_any_currency: bool = False

    def for_currency(self, currency: str | None) -> Offer:
        """Return this offer in the currency that the customer is billed in, if there is one, and it is sold in that."""
        if self.plan is None or not self.is_any_currency or currency not in self.plan.sold_in:
            return self
        return Offer(self.plan.lookup_keys(currency), self.plan)


def offer_of(
    prices: Iterable[Price],
    plans: Mapping[str, Plan],
    *,
    plan: str | None,
    keys: Iterable[str],
    currency: str | None,
) -> Offer:
    """
    Return what was chosen.

    Args:
        prices: Prices of the kit outside of plans.
        plans: Plans of the kit, by name.
        plan: Name of the plan that was chosen, or None.
        keys: Lookup keys of the prices that were chosen; empty for a plan, or for all prices.
        currency: Currency of the plan that was chosen; None for the customer's, or else the plan's own.

    Raises:
        UsageError: The choice is missing, contradicts itself, or is more than a subscription can have.
    """
    keys = tuple(dict.fromkeys([keys] if isinstance(keys, str) else keys))
    if plan is not None:
        if keys:
            raise _wrong("choose a plan or prices, not both")
        return _of_plan(plan_named(plan, plans), currency)
    if currency is not None:
        raise _wrong("a currency is chosen with a plan; a price has its own")
    if keys:
        _check_number(len(keys))
        return Offer(keys)
    if plans:
        raise _wrong(f"choose a plan: --plan {', --plan '.join(plans)} (in code, plan=)")
    return Offer(_all_of(list(prices)))


def plan_named(name: str, plans: Mapping[str, Plan]) -> Plan:
    """
    Return the plan of this name.

    Raises:
        UsageError: There is none.
    """
    if name not in plans:
        among = f"only {', '.join(plans)}" if plans else "because plans= is empty"
        raise _wrong(f"this kit has no plan {name!r:.60}, {among}")
    return plans[name]


def _of_plan(plan: Plan, currency: str | None) -> Offer:
    code = None if currency is None else currency.lower()
    if code is not None and code not in plan.sold_in:
        raise _wrong(f"{plan} is not sold in {code!r:.20}, only in {', '.join(plan.sold_in)}: add it to currencies=")
    keys = plan.lookup_keys(code)
    if not keys:
        raise _wrong(
            f"{plan} has neither fee= nor prices=, so there is nothing to subscribe to: with "
            f"default_plan={plan.name!r}, companies without a subscription are on it"
        )
    return Offer(keys, plan, is_any_currency=code is None)


def _all_of(prices: list[Price]) -> tuple[str, ...]:
    by_meter: dict[str, list[str]] = {}
    for price in prices:
        by_meter.setdefault(price.meter.name, []).append(lookup_key_of(price))
    for meter, keys in by_meter.items():
        if len(keys) > 1:
            raise _wrong(
                f"{meter} has {len(keys)} prices, and with both, each unit would be billed twice: choose with "
                f"--price {' or --price '.join(keys)} (in code, prices=)"
            )
    for name in ("currency", "interval"):
        values = sorted({getattr(price, name) for price in prices})
        if len(values) > 1 and values != ["month", "year"]:
            raise _wrong(
                f"the prices have more than one {name} ({', '.join(values)}), and do not fit on one subscription: "
                "choose some with --price (in code, prices=)"
            )
    _check_number(len(prices))
    return tuple(lookup_key_of(price) for price in prices)


def _check_number(number: int) -> None:
    if number > MOST_ITEMS:
        raise _wrong(
            f"{number} prices do not fit on one subscription, which has at most {MOST_ITEMS} in Stripe: choose some "
            "with --price (in code, prices=)"
        )


def _wrong(message: str) -> UsageError:
    return UsageError(message, reason="offer_wrong")
