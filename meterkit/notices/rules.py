"""
`Notify`: rules that say who is notified of what.

A `Notify` says when a notice is due, and to which channels it goes; `meterkit.notices.dispatcher` sends each one once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, TypeAlias

from meterkit.core.validation import MAX_QUANTITY
from meterkit.errors import ConfigurationError, UsageError
from meterkit.governance.policy import Governance
from meterkit.metering.meter import Meter
from meterkit.notices.notice import Channel, Kind, Notice, channel_of
from meterkit.pricing.price import Price, money
from meterkit.wallets.amounts import Amount, millionths
from meterkit.wallets.amounts import amount as in_whole
from meterkit.wallets.wallet import Wallet

To: TypeAlias = "Channel | Callable[[Notice], object] | Iterable[Channel | Callable[[Notice], object]]"


@dataclass(frozen=True)
class Notify:
    """
    A rule for notices. Build it with one of the class methods; each says when its notices are due.

    A notice about usage is sent once for each company, billing period and tier, threshold, quota or budget.

    Attributes:
        kinds: Kinds of notices that the rule creates.
        to: Channels that they go to: `meterkit.channels`, or functions that take a `Notice`.
        meter: Meter that the rule is limited to, or None for all.
        share: Share of a tier or quota at which it is near, between 0 and 1, or None.
        units: Number of units left or used, or None.
        amount: Amount spent, in whole currency, or None.
        currency: Three-letter code of the currency of *amount*, lower case.
        tier: Number of the tier that the rule is limited to, from 2, or None for all.
        every: Number of units from one notice to the next.
        days: Number of days before the period ends, before usage is too old, or before a grant expires.
        wallet: Name of the wallet that the rule is about, or None.
        low: Balance under which it is low, in the wallet's unit or in whole currency, or None.
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
    wallet: str | None = None
    low: Decimal | None = None

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
        Notify when the next tier of a price is near: *share* of the current one is used, or *units* are left.

        Args:
            to: Channel or channels.
            meter: Only this meter.
            tier: Only the tier with this number, from 2.
            share: Share of the tier, between 0 and 1, as text or Decimal; by default 0.8.
            units: Number of units left, instead of *share*.

        Raises:
            ConfigurationError: An argument is wrong; the message says how to correct it.
        """
        if share is not None and units is not None:
            raise ConfigurationError("Notify.tier_near() takes share= or units=, not both")
        part = None if units is not None else _share("0.8" if share is None else share, "Notify.tier_near(share=...)")
        left = None if units is None else _count(units, "Notify.tier_near(units=...)")
        return cls(("tier_near",), _channels(to), meter=_meter(meter), share=part, units=left, tier=_tier(tier))

    @classmethod
    def tier_crossed(cls, *, to: To, meter: Meter | None = None, tier: int | None = None) -> Notify:
        """
        Notify when usage has reached another tier of its price; if several at once, only of the last.

        Args:
            to: Channel or channels.
            meter: Only this meter.
            tier: Only the tier with this number, from 2.

        Raises:
            ConfigurationError: An argument is wrong; the message says how to correct it.
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
        Notify when *units* of a meter are used in a billing period, or its usage costs *amount*.

        Args:
            to: Channel or channels.
            meter: Meter of *units*.
            units: Number of units used.
            amount: Cost of the usage of all meters, in whole currency; instead of *meter* and *units*.
            currency: Three-letter code of the currency of *amount*.

        Raises:
            ConfigurationError: An argument is wrong; the message says how to correct it.
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
        Notify when *share* of a quota of ``governance=`` is used, and again when it is used up.

        Args:
            to: Channel or channels.
            meter: Only quotas of this meter.
            share: Share of the quota, between 0 and 1, as text or Decimal.

        Raises:
            ConfigurationError: An argument is wrong; the message says how to correct it.
        """
        part = _share(share, "Notify.quota(share=...)")
        return cls(("quota_near", "quota_reached"), _channels(to), meter=_meter(meter), share=part)

    @classmethod
    def pace(
        cls,
        *,
        to: To,
        meter: Meter | None = None,
        units: int | None = None,
        amount: str | Decimal | None = None,
        currency: str = "usd",
    ) -> Notify:
        """
        Notify when a limit will be reached before its period ends, if usage goes on as in the last weeks.

        By default of each quota per month or billing period, and of the spending cap of ``governance=``; with *units*
        or *amount*, of that budget of each company. Once for each limit and period, however the pace changes; from a
        tenth of the limit on, and not before a company has used the meter for a week.

        Args:
            to: Channel or channels.
            meter: Only quotas of this meter; or the meter of *units*.
            units: Number of units that should last for a billing period.
            amount: Cost of the usage of all meters, in whole currency, that a billing period should not exceed.
            currency: Three-letter code of the currency of *amount*.

        Raises:
            ConfigurationError: An argument is wrong; the message says how to correct it.
        """
        if amount is not None and (units is not None or meter is not None):
            raise ConfigurationError("Notify.pace(amount=...) is for all meters: remove meter= and units=")
        if units is not None and meter is None:
            raise ConfigurationError("Notify.pace(units=...) needs the meter= whose units they are")
        budget = None if amount is None else money(amount, "Notify.pace(amount=...)")
        if budget == 0:
            raise ConfigurationError("Notify.pace(amount=...) must be more than 0")
        return cls(
            ("pace",),
            _channels(to),
            meter=_meter(meter),
            units=None if units is None else _positive(units, "Notify.pace(units=...)"),
            amount=budget,
            currency=currency.lower(),
        )

    @classmethod
    def overdue(cls, *, to: To) -> Notify:
        """Notify when a company is overdue, and again when it no longer is. Needs webhooks or `MeterKit.sync`."""
        return cls(("overdue", "recovered"), _channels(to))

    @classmethod
    def invoice_upcoming(cls, *, to: To, days: int = 3) -> Notify:
        """
        Notify when a billing period ends within *days* days, with what its usage costs so far.

        Raises:
            ConfigurationError: An argument is wrong; the message says how to correct it.
        """
        return cls(("invoice_upcoming",), _channels(to), days=_count(days, "Notify.invoice_upcoming(days=...)"))

    @classmethod
    def invoice_paid(cls, *, to: To) -> Notify:
        """
        Notify when an invoice of more than nothing is paid. Needs webhooks.

        A rule that is new also tells of those that were paid in the last day.
        """
        return cls(("invoice_paid",), _channels(to))

    @classmethod
    def calls(cls, meter: Meter, *, to: To, every: int = 1) -> Notify:
        """
        Notify of every unit of *meter* in a billing period, or every n-th; one by one, some seconds later.

        Args:
            meter: Meter whose units count.
            to: Channel or channels.
            every: Number of units from one notice to the next, 1 or more.

        Raises:
            ConfigurationError: An argument is wrong; the message says how to correct it.
        """
        if not isinstance(meter, Meter):
            raise ConfigurationError(f"Notify.calls(meter) must be a Meter, not {meter!r:.200}")
        return cls(("calls",), _channels(to), meter=meter, every=_positive(every, "Notify.calls(every=...)"))

    @classmethod
    def rejected(cls, *, to: To) -> Notify:
        """Notify when Stripe has rejected a meter event, whose usage is not billed until you act."""
        return cls(("rejected",), _channels(to))

    @classmethod
    def unbilled(cls, *, to: To) -> Notify:
        """
        Notify when Stripe has usage that no price of the customer bills, so that it will be on no invoice.

        Once a month for each company and meter, while it goes on. Also when usage was reversed that a final invoice
        has, so that you credit it. Needs webhooks or `MeterKit.sync`.
        """
        return cls(("unbilled", "credit_due"), _channels(to))

    @classmethod
    def waiting(cls, *, to: To, days: int = 7) -> Notify:
        """
        Notify when an unlinked company has usage, and again *days* days before the usage is too old for Stripe.

        Raises:
            ConfigurationError: An argument is wrong; the message says how to correct it.
        """
        return cls(("waiting", "too_old"), _channels(to), days=_count(days, "Notify.waiting(days=...)"))

    @classmethod
    def balance(cls, wallet: Wallet | str, *, low: Amount, to: To) -> Notify:
        """
        Notify when a company's balance is under *low*, and again when it is used up; anew after each grant.

        Args:
            wallet: Wallet, or its name.
            low: Balance under which it is low, more than 0, in the wallet's unit or in whole currency.
            to: Channel or channels.

        Raises:
            ConfigurationError: An argument is wrong; the message says how to correct it.
        """
        name = wallet.name if isinstance(wallet, Wallet) else wallet
        if not isinstance(name, str):
            raise ConfigurationError(f"Notify.balance(wallet) must be a Wallet or its name, not {wallet!r:.200}")
        try:
            under = millionths(low, "Notify.balance(low=...)")
        except UsageError as error:
            raise ConfigurationError(str(error)) from None
        if not under:
            raise ConfigurationError("Notify.balance(low=...) must be more than 0")
        return cls(("balance_low", "balance_empty"), _channels(to), wallet=name, low=in_whole(under))

    @classmethod
    def grant_expiring(cls, *, to: To, days: int = 7) -> Notify:
        """
        Notify when something of a grant expires within *days* days; once for each grant.

        Raises:
            ConfigurationError: An argument is wrong; the message says how to correct it.
        """
        return cls(("grant_expiring",), _channels(to), days=_count(days, "Notify.grant_expiring(days=...)"))

    @classmethod
    def top_up_failed(cls, *, to: To) -> Notify:
        """
        Notify when an automatic top-up of a wallet has failed, such as for a card that was declined; once for each.

        Raises:
            ConfigurationError: An argument is wrong; the message says how to correct it.
        """
        return cls(("top_up_failed",), _channels(to))

    @classmethod
    def trouble(cls, *, to: To) -> Notify:
        """
        Notify when the journal, the ledger, reporting or syncing fails; once a day for each kind of trouble.

        Also of unbilled usage and credits, as `unbilled` does.
        """
        return cls(("trouble", "unbilled", "credit_due"), _channels(to))


def checked_notify(
    given: Any,
    meters: Mapping[str, Meter],
    prices: Iterable[Price],
    governance: Governance | None,
    *,
    wallets: Mapping[str, Wallet],
) -> tuple[Notify, ...]:
    """
    Return the rules of ``notify=``, checked against the kit.

    Raises:
        ConfigurationError: A meter, tier or quota does not exist, or two channels share a name.
    """
    if isinstance(given, Notify) or not isinstance(given, Iterable):
        raise ConfigurationError(
            f"notify= must be a list of Notify, such as [Notify.tier_crossed(to=...)], not {given!r:.200}"
        )
    rules = tuple(given)
    tiers = {
        name: max((len(price.tiers) for price in prices if price.meter.name == name), default=0) for name in meters
    }
    by_name: dict[str, Channel] = {}
    for rule in rules:
        if not isinstance(rule, Notify):
            raise ConfigurationError(f"notify= must be a list of Notify; {rule!r:.200} is not a Notify")
        _check_wallet(rule, wallets)
        if rule.meter is not None and meters.get(rule.meter.name) != rule.meter:
            raise ConfigurationError(f"there is a Notify for {rule.meter}, which is not in meters=; add it there")
        if rule.tier is not None:
            most = tiers[rule.meter.name] if rule.meter is not None else max(tiers.values(), default=0)
            if most and rule.tier > most:
                raise ConfigurationError(
                    f"there is a Notify for tier {rule.tier}, but the last tier of prices= is {most}"
                )
        _check_limits(rule, governance)
        for channel in rule.to:
            if by_name.setdefault(channel.name, channel) is not channel and by_name[channel.name] != channel:
                raise ConfigurationError(
                    f"two channels are named {channel.name!r:.100}, but the ledger records deliveries by channel name: "
                    "use one channel for both, or give one another name="
                )
    return rules


def _check_limits(rule: Notify, governance: Governance | None) -> None:
    """
    Check that there is a limit that *rule* can be about.

    Raises:
        ConfigurationError: There is none.
    """
    if "quota_near" in rule.kinds and not _has_quota(rule, governance):
        raise ConfigurationError("Notify.quota() needs a quota, but governance= has none: add Quota(meter, limit)")
    if "pace" in rule.kinds and not _has_limit(rule, governance):
        raise ConfigurationError(
            "Notify.pace() needs a quota per month or billing period, or a spending cap, and governance= has none: add "
            "one, or give it meter= and units=, or amount="
        )


def _has_quota(rule: Notify, governance: Governance | None) -> bool:
    quotas = () if governance is None else governance.quotas
    return any(rule.meter in (None, quota.meter) for quota in quotas)


def _check_wallet(rule: Notify, wallets: Mapping[str, Wallet]) -> None:
    if rule.wallet is not None and rule.wallet not in wallets:
        raise ConfigurationError(
            f"there is a Notify for the wallet {rule.wallet!r}, which is not in wallets=; add it there"
        )


def _has_limit(rule: Notify, governance: Governance | None) -> bool:
    """Return whether there is anything that *rule*, about the pace, can be about."""
    if rule.units is not None or rule.amount is not None:
        return True
    if governance is None:
        return False
    quotas = [quota for quota in governance.quotas if quota.per != "day" and rule.meter in (None, quota.meter)]
    return bool(quotas) or (rule.meter is None and governance.spending_cap is not None)


def _channels(to: Any) -> tuple[Channel, ...]:
    several = to if isinstance(to, list | tuple | set) else [to]
    if not several:
        raise ConfigurationError("Notify(to=...) is empty, so nobody would be notified; give it a channel")
    return tuple(channel_of(each) for each in several)


def _meter(meter: Any) -> Meter | None:
    if meter is not None and not isinstance(meter, Meter):
        raise ConfigurationError(f"Notify(meter=...) must be a Meter, not {meter!r:.200}")
    return meter


def _tier(tier: Any) -> int | None:
    if tier is not None and (isinstance(tier, bool) or not isinstance(tier, int) or tier < 2):
        raise ConfigurationError(f"Notify(tier=...) must be the number of a tier, from 2, not {tier!r}")
    return tier


def _count(number: Any, what: str) -> int:
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= MAX_QUANTITY:
        raise ConfigurationError(f"{what} must be a whole number, 0 or more, not {number!r:.200}")
    return number


def _positive(number: Any, what: str) -> int:
    if _count(number, what) == 0:
        raise ConfigurationError(f"{what} must be 1 or more")
    return int(number)


def _share(share: Any, what: str) -> Decimal:
    try:
        part = Decimal(share) if isinstance(share, str | Decimal) else None
    except InvalidOperation:
        part = None
    if part is None or not 0 < part < 1:
        raise ConfigurationError(f"{what} must be a share such as '0.8', as text or Decimal, not {share!r:.200}")
    return part
