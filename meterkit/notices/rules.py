"""
`Notify`: rules that say who is notified of what.

A `Notify` names something that may happen, and where it is told; `meterkit.notices.dispatcher` sees to it that each
is told once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, TypeAlias

from meterkit.core.validation import MAX_QUANTITY
from meterkit.errors import ConfigurationError
from meterkit.governance.policy import Governance
from meterkit.metering.meter import Meter
from meterkit.notices.notice import Channel, Kind, Notice, channel_of
from meterkit.pricing.price import Price, money

To: TypeAlias = "Channel | Callable[[Notice], object] | Iterable[Channel | Callable[[Notice], object]]"


@dataclass(frozen=True)
class Notify:
    """
    Something that is told to somebody. Made by the class methods, of which each says when.

    What concerns usage is told once for each company and billing period: of each tier, threshold or quota.

    Attributes:
        kinds: Of notices that it makes.
        to: Where they go: channels of `meterkit.channels`, or functions that take a `Notice`.
        meter: Only of this one; None for all.
        share: Of a tier or a quota, at which it is near.
        units: How many units are left, or used.
        amount: How much is spent, in whole currency.
        currency: Of the amount.
        tier: Only of this one, from 1; None for all.
        every: After so many calls.
        days: Before the period ends, or before it is too late.
    """

    kinds: tuple[Kind, ...]
    to: tuple[Channel, ...]
    _: KW_ONLY
    meter: Meter | None = None
    share: Decimal | None = None
    units: int | None = None
    amount: Decimal | None = None
    currency: str = "usd"
    tier: int | None = None
    every: int = 1
    days: int = 0

    @classmethod
    def tier_near(
        cls,
        *,
        to: To,
        meter: Meter | None = None,
        tier: int | None = None,
        share: str | Decimal | None = None,
        units: int | None = None,
    ) -> Notify:
        """
        The next tier of a price is near: *share* of the current one is used, by default 0.8, or *units* are left.

        Args:
            to: Where it is told.
            meter: Only of this one.
            tier: Only of the tier with this number, from 2.
            share: From 0 to 1, as text or Decimal.
            units: Instead of a share.

        Raises:
            ConfigurationError: An argument is wrong; the message says the cure.
        """
        if share is not None and units is not None:
            raise ConfigurationError("Notify.tier_near() takes share= or units=, not both")
        part = None if units is not None else _share("0.8" if share is None else share, "Notify.tier_near(share=...)")
        left = None if units is None else _count(units, "Notify.tier_near(units=...)")
        return cls(("tier_near",), _channels(to), meter=_meter(meter), share=part, units=left, tier=_tier(tier))

    @classmethod
    def tier_crossed(cls, *, to: To, meter: Meter | None = None, tier: int | None = None) -> Notify:
        """
        The usage of a period has reached another tier of its price; of several at once, the last is told.

        Args:
            to: Where it is told.
            meter: Only of this one.
            tier: Only of the tier with this number, from 2.

        Raises:
            ConfigurationError: An argument is wrong; the message says the cure.
        """
        return cls(("tier_crossed",), _channels(to), meter=_meter(meter), tier=_tier(tier))

    @classmethod
    def threshold(
        cls,
        *,
        to: To,
        meter: Meter | None = None,
        units: int | None = None,
        amount: str | Decimal | None = None,
        currency: str = "usd",
    ) -> Notify:
        """
        So many *units* of a meter are used, or usage costs so much, in a period.

        Args:
            to: Where it is told.
            meter: Of which *units* are counted.
            units: How many.
            amount: In whole currency, of all meters; instead of *units*.
            currency: Of *amount*.

        Raises:
            ConfigurationError: An argument is wrong; the message says the cure.
        """
        if (units is None) == (amount is None) or (units is not None) != (meter is not None):
            raise ConfigurationError("Notify.threshold() takes meter= and units=, or amount=")
        return cls(
            ("threshold",),
            _channels(to),
            meter=_meter(meter),
            units=None if units is None else _count(units, "Notify.threshold(units=...)"),
            amount=None if amount is None else money(amount, "Notify.threshold(amount=...)"),
            currency=currency.lower(),
        )

    @classmethod
    def quota(cls, *, to: To, meter: Meter | None = None, share: str | Decimal = "0.8") -> Notify:
        """
        A quota of ``governance=`` is near, by a *share* from 0 to 1; and it is reached.

        Raises:
            ConfigurationError: An argument is wrong; the message says the cure.
        """
        part = _share(share, "Notify.quota(share=...)")
        return cls(("quota_near", "quota_reached"), _channels(to), meter=_meter(meter), share=part)

    @classmethod
    def overdue(cls, *, to: To) -> Notify:
        """An invoice is overdue; and then, none is any more. Known from webhooks."""
        return cls(("overdue", "recovered"), _channels(to))

    @classmethod
    def invoice_upcoming(cls, *, to: To, days: int = 3) -> Notify:
        """
        A billing period ends in so many *days*; with what its usage costs so far.

        Raises:
            ConfigurationError: An argument is wrong; the message says the cure.
        """
        return cls(("invoice_upcoming",), _channels(to), days=_count(days, "Notify.invoice_upcoming(days=...)"))

    @classmethod
    def calls(cls, meter: Meter, *, to: To, every: int = 1) -> Notify:
        """
        Each unit of *meter*, or each n-th, in a period. Told some seconds later, one by one, by their numbers.

        Raises:
            ConfigurationError: An argument is wrong; the message says the cure.
        """
        number = _count(every, "Notify.calls(every=...)")
        if number == 0 or not isinstance(meter, Meter):
            raise ConfigurationError("Notify.calls(meter, every=...) takes a Meter, and 1 or more")
        return cls(("calls",), _channels(to), meter=meter, every=number)

    @classmethod
    def rejected(cls, *, to: To) -> Notify:
        """Stripe has rejected a meter event: its usage is billed to nobody until you act."""
        return cls(("rejected",), _channels(to))

    @classmethod
    def waiting(cls, *, to: To, days: int = 7) -> Notify:
        """
        A company has usage and no Stripe customer; and its usage is too old for Stripe in so many *days*.

        Raises:
            ConfigurationError: An argument is wrong; the message says the cure.
        """
        return cls(("waiting", "too_old"), _channels(to), days=_count(days, "Notify.waiting(days=...)"))

    @classmethod
    def trouble(cls, *, to: To) -> Notify:
        """The journal, the ledger or reporting fails; for each kind of trouble once a day."""
        return cls(("trouble",), _channels(to))


def checked_notify(
    given: Any, meters: Mapping[str, Meter], prices: Iterable[Price], governance: Governance | None
) -> tuple[Notify, ...]:
    """What is to be told, of meters, tiers and quotas that there are; each channel under a name of its own."""
    if isinstance(given, Notify) or not isinstance(given, Iterable):
        raise ConfigurationError(
            f"notify= is a list of Notify, such as [Notify.tier_crossed(to=...)], not {given!r:.200}"
        )
    rules = tuple(given)
    tiers = {
        name: max((len(price.tiers) for price in prices if price.meter.name == name), default=0) for name in meters
    }
    by_name: dict[str, Channel] = {}
    for rule in rules:
        if not isinstance(rule, Notify):
            raise ConfigurationError(f"notify= is a list of Notify; {rule!r:.200} is none")
        if rule.meter is not None and meters.get(rule.meter.name) != rule.meter:
            raise ConfigurationError(f"there is a Notify for {rule.meter}, which is not in meters=; add it there")
        if rule.tier is not None:
            most = tiers[rule.meter.name] if rule.meter is not None else max(tiers.values(), default=0)
            if most and rule.tier > most:
                raise ConfigurationError(
                    f"there is a Notify for tier {rule.tier}, and the last tier of prices= is {most}"
                )
        if "quota_near" in rule.kinds and not _has_quota(rule, governance):
            raise ConfigurationError(
                "Notify.quota() tells of a quota, and governance= has none: add Quota(meter, limit)"
            )
        for channel in rule.to:
            if by_name.setdefault(channel.name, channel) is not channel and by_name[channel.name] != channel:
                raise ConfigurationError(
                    f"two channels are named {channel.name!r:.100}, by which the ledger remembers what each has "
                    "delivered: use one of them twice, or give one another name="
                )
    return rules


def _has_quota(rule: Notify, governance: Governance | None) -> bool:
    quotas = () if governance is None else governance.quotas
    return any(rule.meter in (None, quota.meter) for quota in quotas)


def _channels(to: Any) -> tuple[Channel, ...]:
    several = to if isinstance(to, list | tuple | set) else [to]
    if not several:
        raise ConfigurationError("Notify(to=...) is empty, so nobody would be told; give it a channel")
    return tuple(channel_of(each) for each in several)


def _meter(meter: Any) -> Meter | None:
    if meter is not None and not isinstance(meter, Meter):
        raise ConfigurationError(f"Notify(meter=...) is a Meter, not {meter!r:.200}")
    return meter


def _tier(tier: Any) -> int | None:
    if tier is not None and (isinstance(tier, bool) or not isinstance(tier, int) or tier < 2):
        raise ConfigurationError(
            f"Notify(tier=...) is the number of a tier that can be crossed into, from 2, not {tier!r}"
        )
    return tier


def _count(number: Any, what: str) -> int:
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= MAX_QUANTITY:
        raise ConfigurationError(f"{what} is a whole number, not {number!r:.200}")
    return number


def _share(share: Any, what: str) -> Decimal:
    try:
        part = Decimal(share) if isinstance(share, str | Decimal) else None
    except InvalidOperation:
        part = None
    if part is None or not 0 < part < 1:
        raise ConfigurationError(f"{what} is a part such as '0.8', as text or Decimal, not {share!r:.200}")
    return part
