"""
`Plan`: what a company subscribes to, with a fee, prices, limits and features.

In Stripe, a plan is one licensed price for its fee, and one metered price for each of its meters. Their lookup keys
contain the plan's name and a hash of what they cost: an amount that changes becomes a new price, and subscriptions keep
the old one until they are moved.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from meterkit.errors import ConfigurationError
from meterkit.metering.meter import Meter
from meterkit.pricing.plan_checks import (
    check_amounts,
    check_intervals,
    check_trial,
    checked_currency,
    checked_features,
    checked_fee,
    checked_includes,
    checked_prices_of,
)
from meterkit.pricing.price import Money, Price, Tier

if TYPE_CHECKING:
    from meterkit.governance.policy import Quota

PREFIX = "meterkit:plan:"
"""Prefix of the lookup keys of all plans."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")


@dataclass(frozen=True)
class Amounts:
    """
    What a `Plan` costs in a further currency.

    Attributes:
        fee: Fee in whole currency; required if the plan has a fee.
        prices: Prices in this currency, for the same meters as those of the plan.
    """

    _: KW_ONLY
    fee: Money | None = None
    prices: Iterable[Price] = ()


@dataclass(frozen=True, slots=True)
class Fee:
    """
    The fee of a plan in one currency: a licensed price in Stripe, billed in advance.

    Attributes:
        plan: Name of the plan.
        amount: Fee for each interval, in whole currency.
        currency: Three-letter currency code, lower case.
        interval: Billing interval: ``day``, ``week``, ``month`` or ``year``.
    """

    plan: str
    amount: Decimal
    currency: str
    interval: str

    @property
    def lookup_key(self) -> str:
        """Lookup key of the price in Stripe."""
        return f"{PREFIX}{self.plan}:fee:{self.currency}:{self.interval}:{_hash(_text(self.amount))}"


@dataclass(frozen=True)
class Plan:
    """
    What a company subscribes to. A meter may have a price in each plan, and one in a plan.

    Attributes:
        name: Name of the plan: letters, digits, ``-`` and ``_``, at most 40 characters.
        prices: Prices of meters, one for each meter.
        fee: Fee for each interval, in whole currency, billed in advance; None for none.
        currency: Three-letter code of the currency of *fee* and *prices*; by default that of the prices, or ``usd``.
        interval: Billing interval of the fee; by default that of the prices, or ``month``. A yearly fee goes with
            monthly prices.
        includes: Units in each billing interval that are free, by meter. They come in front of its price: the tiers
            begin after them. Not for volume and package prices.
        trial_days: Days that a new subscription costs nothing, at most 730; None for no trial.
        limits: Quotas of the companies on this plan. For them, each replaces a quota of ``Governance`` with the same
            meter and ``per=``; the others of those stay.
        features: Names of what the plan allows, for `meterkit.MeterKit.can`.
        currencies: What the plan costs in further currencies, by their three-letter codes.

    Raises:
        ConfigurationError: An argument is wrong; the message says how to correct it.
    """

    name: str
    _: KW_ONLY
    prices: Iterable[Price] = ()
    fee: Money | None = None
    currency: str | None = None
    interval: str | None = None
    includes: Mapping[Meter, int] = field(default_factory=dict)
    trial_days: int | None = None
    limits: Iterable[Quota] = ()
    features: Iterable[str] = ()
    currencies: Mapping[str, Amounts] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise ConfigurationError(
                "Plan(name) must be 1 to 40 letters, digits, '-' or '_', such as 'pro', because it is part of the "
                f"prices' lookup keys in Stripe; not {self.name!r:.100}"
            )
        prices = checked_prices_of(self.prices, f"{self}: prices=")
        object.__setattr__(self, "prices", prices)
        currency = self.currency if self.currency is not None else prices[0].currency if prices else "usd"
        object.__setattr__(self, "currency", checked_currency(currency, f"{self}: currency="))
        interval = self.interval if self.interval is not None else prices[0].interval if prices else "month"
        object.__setattr__(self, "interval", interval)
        check_intervals(interval, str(self), fee=self.fee, prices=prices)
        object.__setattr__(self, "includes", checked_includes(self.includes, str(self), prices))
        check_trial(self.trial_days, str(self))
        if isinstance(self.limits, str) or not isinstance(self.limits, Iterable):
            raise ConfigurationError(f"{self}: limits= must be a list of Quota, not {self.limits!r:.200}")
        object.__setattr__(self, "limits", tuple(self.limits))
        object.__setattr__(self, "features", checked_features(self.features, str(self)))
        object.__setattr__(self, "fee", checked_fee(self.fee, str(self.currency), f"{self}: fee="))
        check_amounts(prices, str(self), currency=str(self.currency), fee=self.fee)
        object.__setattr__(self, "currencies", _currencies(self))

    def __str__(self) -> str:
        return f"Plan({self.name!r})"

    @property
    def sold_in(self) -> tuple[str, ...]:
        """Three-letter codes of the currencies that the plan is sold in, its own first."""
        return (str(self.currency), *self.currencies)

    @property
    def version(self) -> str:
        """Hash of what the plan costs. Trial, limits and features are not part of it: they change without a move."""
        keys = [key for currency in self.sold_in for key in self.lookup_keys(currency)]
        return _hash(json.dumps(keys))

    def prices_in(self, currency: str | None = None) -> tuple[Price, ...]:
        """
        Return the metered prices as they are in Stripe: with the included units in front, and with lookup keys.

        Args:
            currency: One of `sold_in`; None for the plan's own.
        """
        own = currency in (None, self.currency)
        given = self.prices if own else self.currencies[str(currency)].prices
        return tuple(_provisioned(self, price) for price in given)

    def fee_in(self, currency: str | None = None) -> Fee | None:
        """
        Return the fee, or None.

        Args:
            currency: One of `sold_in`; None for the plan's own.
        """
        code = str(self.currency if currency is None else currency)
        amount = self.fee if code == self.currency else self.currencies[code].fee
        return None if amount is None else Fee(self.name, Decimal(amount), code, str(self.interval))

    def lookup_keys(self, currency: str | None = None) -> tuple[str, ...]:
        """
        Return the lookup keys of the fee and the prices: what a subscription to the plan consists of.

        Args:
            currency: One of `sold_in`; None for the plan's own.
        """
        fee = self.fee_in(currency)
        keys = [] if fee is None else [fee.lookup_key]
        return (*keys, *(str(price.lookup_key) for price in self.prices_in(currency)))


def plan_in(lookup_key: str | None) -> str | None:
    """Return the name of the plan that a price with this lookup key belongs to, in any version; None if to none."""
    return lookup_key[len(PREFIX) :].split(":", 1)[0] if lookup_key and lookup_key.startswith(PREFIX) else None


def checked_plans(
    plans: Any, default_plan: Any, *, meters: Mapping[str, Meter], prices: Iterable[Price]
) -> dict[str, Plan]:
    """
    Return the plans of a kit by name.

    Args:
        plans: ``plans=`` as it was given.
        default_plan: ``default_plan=`` as it was given.
        meters: Meters of the kit, by name.
        prices: Prices of the kit outside of plans.

    Raises:
        ConfigurationError: Two plans share a name, a price is for a meter of another kit, there are prices outside of
            the plans, or the default is none of them.
    """
    if isinstance(plans, Plan) or not isinstance(plans, Iterable):
        raise ConfigurationError(f"plans= must be a list of Plan; {plans!r:.200} is not a list")
    found: dict[str, Plan] = {}
    for plan in plans:
        if not isinstance(plan, Plan):
            raise ConfigurationError(f"plans= must be a list of Plan; {plan!r:.200} is not a Plan")
        if plan.name in found:
            raise ConfigurationError(f"there are two plans named {plan.name!r}; rename one of them")
        for price in plan.prices:
            _check_meter(plan, price, meters)
        found[plan.name] = plan
    if found and tuple(prices):
        raise ConfigurationError(
            "plans= and prices= exclude each other: a company would be billed by both. Put the prices into the plans, "
            "or into a plan of their own"
        )
    if default_plan is not None and default_plan not in found:
        among = f"one of {', '.join(map(repr, found))}" if found else "the name of a plan, and plans= is empty"
        raise ConfigurationError(f"default_plan= must be {among}; not {default_plan!r:.100}")
    return found


def _check_meter(plan: Plan, price: Price, meters: Mapping[str, Meter]) -> None:
    if meters.get(price.meter.name) != price.meter:
        raise ConfigurationError(f"{plan} has a Price for {price.meter}, which is not in meters=; add it there")
    if not price.meter.billable:
        raise ConfigurationError(
            f"{plan} has a Price for {price.meter}, which is never reported to Stripe: remove the price, or "
            "billable=False"
        )


def _currencies(plan: Plan) -> dict[str, Amounts]:
    if not isinstance(plan.currencies, Mapping):
        raise ConfigurationError(
            f"{plan}: currencies= must be a dict such as {{'eur': Amounts(...)}}, not {plan.currencies!r:.200}"
        )
    found: dict[str, Amounts] = {}
    for code, amounts in plan.currencies.items():
        currency = checked_currency(code, f"{plan}: a key of currencies=")
        what = f"{plan}: currencies[{currency!r}]"
        if currency == plan.currency or currency in found:
            raise ConfigurationError(f"{what} is there twice; {plan.currency} is the plan's own currency. Remove one")
        if not isinstance(amounts, Amounts):
            raise ConfigurationError(f"{what} must be Amounts(fee=..., prices=[...]), not {amounts!r:.200}")
        prices = checked_prices_of(amounts.prices, f"{what}: prices=")
        fee = checked_fee(amounts.fee, currency, f"{what}: fee=")
        check_amounts(prices, str(plan), currency=currency, fee=fee)
        if (fee is None) != (plan.fee is None):
            raise ConfigurationError(f"{what} must have a fee= exactly if the plan has one")
        own = {(price.meter, price.interval) for price in plan.prices}
        if {(price.meter, price.interval) for price in prices} != own:
            raise ConfigurationError(f"{what} must have a price for each meter of the plan, at the same interval")
        for price in prices:
            if price.meter in plan.includes and price.scheme in ("volume", "package"):
                raise ConfigurationError(f"{what}: a {price.scheme} price of {price.meter} cannot have includes=")
        found[currency] = Amounts(fee=fee, prices=prices)
    return found


def _provisioned(plan: Plan, price: Price) -> Price:
    """Return *price* as it is in Stripe: with the included units in front, and its lookup key."""
    free = plan.includes.get(price.meter)
    if free is not None:
        shifted = (replace(tier, up_to=None if tier.up_to is None else tier.up_to + free) for tier in price.tiers)
        price = replace(price, scheme="graduated", tiers=(Tier(up_to=free), *shifted))
    key = f"{PREFIX}{plan.name}:usage:{price.currency}:{price.interval}:{_terms(price)}:{price.meter.event_name}"
    return replace(price, lookup_key=key)


def _terms(price: Price) -> str:
    tiers = [
        (tier.up_to, _text(tier.unit_price), None if tier.flat_price is None else _text(tier.flat_price))
        for tier in price.tiers
    ]
    return _hash(json.dumps([price.scheme, tiers, price.size, price.round]))


def _text(amount: Money) -> str:
    return f"{Decimal(amount).normalize():f}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
