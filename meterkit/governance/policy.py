"""
`Governance` and `Quota`: which companies may use the API, and how much.

A `Governance` says what blocks a company's requests; `meterkit.governance.governor` applies it before the app runs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from meterkit.core.validation import MAX_QUANTITY
from meterkit.errors import ConfigurationError
from meterkit.governance.refusal import REASONS, Reason, Refusal
from meterkit.metering.aggregation import Aggregation
from meterkit.metering.meter import Meter
from meterkit.pricing.price import money

if TYPE_CHECKING:
    from meterkit.metering.exchange import Exchange

Limit: TypeAlias = "int | Callable[[str], int | None]"
Check: TypeAlias = "Callable[[Exchange, Known], str | None]"


@dataclass(frozen=True, slots=True)
class Known:
    """
    What is known about a company when it sends a request.

    Attributes:
        company: Company id that ``identify=`` returned.
        standing: ``good``, ``overdue``, or ``unknown`` if Stripe has reported nothing about the company.
        used: Usage in the current period by meter name, in the meter's unit; only for meters that have a quota.
    """

    company: str
    standing: Literal["good", "overdue", "unknown"]
    used: Mapping[str, int]


@dataclass(frozen=True)
class Quota:
    """
    How much of a meter a company may use.

    Only requests that may count for the meter are blocked: those that match its method, its path and its route. Django
    has resolved the route by then; elsewhere, the path must fit the template.

    Attributes:
        meter: Meter whose usage is limited.
        limit: Units that may be used in a period; or a function that is called with a company id, in the background,
            and returns the limit, or None for no limit. Until it has returned, the company is allowed.
        per: ``period``, the company's billing period, or the calendar month if Stripe has reported none; or calendar
            ``month``, or ``day``, both in UTC.
        hard: Whether requests are blocked; a soft quota adds a header to the response, and counts. Unless *exact*, a
            quota can be exceeded by requests in flight, and by what other processes have not flushed yet.
        exact: Whether a request takes its units before it is allowed, from those that its process has drawn of the
            ledger: only what a single request counts beyond what the company's recent ones did can exceed the quota.
            While the ledger fails, the quota is not exact.

    Raises:
        ConfigurationError: An argument is wrong; the message says how to correct it.
    """

    meter: Meter
    limit: Limit
    _: KW_ONLY
    per: Literal["period", "month", "day"] = "period"
    hard: bool = True
    exact: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.meter, Meter):
            raise ConfigurationError(f"Quota(meter, limit): meter must be a Meter, not {self.meter!r:.200}")
        if self.exact and not self.hard:
            raise ConfigurationError(f"{self}: a soft quota blocks nothing; remove exact=True or hard=False")
        if self.exact and isinstance(self.meter.value, Aggregation):
            raise ConfigurationError(
                f"{self}: what a request adds to unique() or maximum() is only known after a flush; remove exact=True"
            )
        if callable(self.limit):
            _check_plain(self.limit, f"{self}: limit=")
        elif isinstance(self.limit, bool) or not isinstance(self.limit, int) or not 0 <= self.limit <= MAX_QUANTITY:
            raise ConfigurationError(f"{self}: limit must be a whole number of units, not {self.limit!r:.200}")
        if self.per not in ("period", "month", "day"):
            raise ConfigurationError(f"{self}: per= must be 'period', 'month' or 'day', not {self.per!r:.200}")

    def __str__(self) -> str:
        return f"Quota of {self.meter}"


@dataclass(frozen=True)
class Governance:
    """
    Rules for which requests are allowed, checked in memory before the app runs: no request waits for Stripe.

    Attributes:
        overdue_days: Block companies with an invoice that has been overdue for this many days, 0 for at once; None
            never does.
        subscription: Block companies without a subscription that is active, in trial or past due.
        quotas: Quotas of meters.
        spending_cap: Block companies whose usage in the billing period costs this much or more, in whole currency.
        currency: Three-letter code of the currency of *spending_cap*; companies billed in another are not blocked.
        check: Function ``(Exchange, Known) -> str | None``, called with each request: None allows it, a sentence
            blocks it and says why. It must not wait for anything.
        exempt: Paths that are always allowed, without the prefix of a mount, with ``*`` for any characters: a blocked
            company must be able to pay.
        unknown: ``pass`` or ``block``, for requests without a company, and for companies that Stripe has reported
            nothing about.
        mode: ``enforce``; or ``warn``, which blocks nothing and adds a header to the response, for going live.
        rate_limit_headers: Whether responses to a company with a quota say what is left, in ``RateLimit`` and
            ``RateLimit-Policy``.
        settle_url: URL at which to pay, unless an open invoice has a page of its own; with fields such as
            ``{company}``.
        refusals: Responses by reason: ``overdue``, ``no_subscription``, ``quota``, ``balance``, ``spending_cap``,
            ``check``, ``unknown``, ``feature``.

    Raises:
        ConfigurationError: An argument is wrong; the message says how to correct it.
    """

    _: KW_ONLY
    overdue_days: float | None = None
    subscription: bool = False
    quotas: Iterable[Quota] = ()
    spending_cap: str | Decimal | None = None
    currency: str = "usd"
    check: Check | None = None
    exempt: Iterable[str] = ()
    unknown: Literal["pass", "block"] = "pass"
    mode: Literal["enforce", "warn"] = "enforce"
    rate_limit_headers: bool = False
    settle_url: str | None = None
    refusals: Mapping[Reason, Refusal] = field(default_factory=dict)

    def __post_init__(self) -> None:
        days = self.overdue_days
        if days is not None and (isinstance(days, bool) or not isinstance(days, int | float) or not 0 <= days <= 365):
            raise ConfigurationError(f"Governance(overdue_days=...) must be 0 to 365 days, not {days!r:.200}")
        object.__setattr__(self, "quotas", _tuple_of(self.quotas, Quota, "quotas"))
        object.__setattr__(self, "exempt", _paths(self.exempt))
        if self.spending_cap is not None:
            cap = money(self.spending_cap, "Governance(spending_cap=...)")
            object.__setattr__(self, "spending_cap", cap)
        object.__setattr__(self, "currency", str(self.currency).lower())
        if self.check is not None:
            _check_plain(self.check, "Governance(check=...)")
        for name, words in {"unknown": ("pass", "block"), "mode": ("enforce", "warn")}.items():
            if getattr(self, name) not in words:
                given = getattr(self, name)
                raise ConfigurationError(
                    f"Governance({name}=...) must be {' or '.join(map(repr, words))}, not {given!r:.200}"
                )
        if not isinstance(self.rate_limit_headers, bool):
            given = self.rate_limit_headers
            raise ConfigurationError(f"Governance(rate_limit_headers=...) must be True or False, not {given!r:.200}")
        _check_refusals(self.refusals, self.settle_url)


def check_governance(governance: Any, meters: Mapping[str, Meter], *, has_wallets: bool = False) -> None:
    """
    Check that *governance* is a `Governance` with a rule, whose quotas are for the kit's *meters*.

    Args:
        governance: What to check.
        meters: Meters of the kit, by name.
        has_wallets: Whether the kit has wallets, so that a governance without rules says how these block requests.

    Raises:
        ConfigurationError: It is not; the message says how to correct it.
    """
    if not isinstance(governance, Governance):
        raise ConfigurationError(f"governance= must be a Governance, not {governance!r:.200}")
    about = (governance.quotas, governance.spending_cap, governance.check, governance.subscription)
    if governance.overdue_days is None and governance.unknown == "pass" and not any(about) and not has_wallets:
        raise ConfigurationError(
            "Governance() has no rule, so it would allow everything: add overdue_days=, subscription=True, "
            "quotas=, spending_cap=, check= or unknown='block'"
        )
    for quota in governance.quotas:
        if meters.get(quota.meter.name) != quota.meter:
            raise ConfigurationError(f"there is a Quota for {quota.meter}, which is not in meters=; add it there")
        if not quota.meter.http and quota.meter.event_type is None and not quota.exact:  # which holds take from
            raise ConfigurationError(
                f"there is a Quota for {quota.meter}, for which no request counts, so it would block none: remove the "
                "quota, and use check= to block requests by what was recorded; or make it exact=True, and take from it "
                "with kit.hold()"
            )


def check_published(governance: Governance, *, has_wallets: bool = False) -> None:
    """
    Check that *governance* can be used while usage is on its way through JetStream.

    Args:
        governance: What to check.
        has_wallets: Whether the kit has wallets.

    Raises:
        ConfigurationError: A quota is exact, or there are wallets.
    """
    if has_wallets:
        raise ConfigurationError(
            "with jetstream= usage is on its way between the journal and the ledger, which balances are drawn from: "
            "remove wallets=, or jetstream="
        )
    for quota in governance.quotas:
        if quota.exact:
            raise ConfigurationError(
                f"{quota} is exact, and with jetstream= usage is on its way between the journal and the ledger, which "
                "its units are drawn from: remove exact=True, or jetstream="
            )


def _check_plain(function: Any, what: str) -> None:
    if not callable(function) or inspect.iscoroutinefunction(function):
        raise ConfigurationError(f"{what} must be a plain function, not {function!r:.200}: nothing can be awaited here")


def _tuple_of(given: Any, kind: type, what: str) -> tuple[Any, ...]:
    found = () if isinstance(given, kind | str) or not isinstance(given, Iterable) else tuple(given)
    if (not found and given != ()) or not all(isinstance(each, kind) for each in found):
        if isinstance(given, list | tuple) and not given:
            return ()
        raise ConfigurationError(f"Governance({what}=...) must be a list of {kind.__name__}, not {given!r:.200}")
    return found


def _paths(given: Any) -> tuple[str, ...]:
    paths = (given,) if isinstance(given, str) else tuple(given)
    for path in paths:
        if not isinstance(path, str) or not path.startswith(("/", "*")):
            raise ConfigurationError(
                f"Governance(exempt=...) must be a list of paths such as '/billing/*', not {path!r:.200}"
            )
    return paths


def _check_refusals(refusals: Any, settle_url: Any) -> None:
    if not isinstance(refusals, Mapping) or not all(isinstance(each, Refusal) for each in refusals.values()):
        raise ConfigurationError(f"Governance(refusals=...) must be a dict of Refusal by reason, not {refusals!r:.200}")
    for reason in refusals:
        if reason not in REASONS:
            raise ConfigurationError(
                f"Governance(refusals=...): unknown reason {reason!r:.100}; choose from {', '.join(REASONS)}"
            )
    if settle_url is not None:
        Refusal.check_text(settle_url, "Governance(settle_url=...)")
