"""
`Governance` and `Quota`: which companies may use the API, and how much.

A `Governance` says what keeps a company's requests from passing; `meterkit.governance.governor` decides by it,
before the app runs.
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
    What is known of a company when one of its requests comes in.

    Attributes:
        company: As `identify=` answered.
        standing: ``good``, ``overdue``, or ``unknown``: Stripe has told nothing of it.
        used: By meter, in the current billing period; only of meters that have a quota.
    """

    company: str
    standing: Literal["good", "overdue", "unknown"]
    used: Mapping[str, int]


@dataclass(frozen=True)
class Quota:
    """
    How much of a meter a company may use.

    Only requests that may count for the meter are held up: its method and its path are looked at, and of a route what
    is not variable.

    Attributes:
        meter: Whose usage.
        limit: How much may be used; a function is called with each company's id, in the background, and answers None
            for no limit. Until it has answered, the company passes.
        per: The company's billing ``period`` as Stripe told it, or else the calendar month; or the calendar ``month``,
            or the ``day``, both in UTC.
        hard: Whether it blocks; a soft one adds a header to the response, and is counted. It may be overrun by what is
            under way, and by what other processes have counted since their last flush, unless it is *exact*.
        exact: Take each unit in the ledger before the request passes, in a transaction that all processes wait for:
            milliseconds for each such request, and none passes too many. What a single request counts beyond one unit
            may overrun it. A ledger that fails makes it one that is not exact.

    Raises:
        ConfigurationError: An attribute is wrong; the message says the cure.
    """

    meter: Meter
    limit: Limit
    _: KW_ONLY
    per: Literal["period", "month", "day"] = "period"
    hard: bool = True
    exact: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.meter, Meter):
            raise ConfigurationError(f"Quota(meter, limit) is for a Meter, not {self.meter!r:.200}")
        if self.exact and not self.hard:
            raise ConfigurationError(f"{self}: a soft quota stops nobody, so it needs no exact=")
        if self.exact and isinstance(self.meter.value, Aggregation):
            raise ConfigurationError(
                f"{self}: what a request adds to unique() or maximum() is known after a flush; take exact= away"
            )
        if callable(self.limit):
            _check_plain(self.limit, f"{self}: limit=")
        elif isinstance(self.limit, bool) or not isinstance(self.limit, int) or not 0 <= self.limit <= MAX_QUANTITY:
            raise ConfigurationError(f"{self}: the limit is a whole number of units, not {self.limit!r:.200}")
        if self.per not in ("period", "month", "day"):
            raise ConfigurationError(f"{self}: per= is 'period', 'month' or 'day', not {self.per!r:.200}")

    def __str__(self) -> str:
        return f"Quota of {self.meter}"


@dataclass(frozen=True)
class Governance:
    """
    Who may pass. Decided before the app runs, from what this process knows: no request waits for Stripe.

    Attributes:
        overdue_days: Block when an invoice has been overdue for so many days, 0 for at once; None never does.
        subscription: Block whose customer has no subscription that is active, in trial or past due.
        quotas: What may be used of meters.
        spending_cap: Block when the usage of the billing period costs so much, in whole currency.
        currency: Of *spending_cap*; companies that are billed in another are not held up by it.
        check: A function of yours, ``(Exchange, Known) -> str | None``, called with each request: None lets it pass,
            and a sentence says why not. It must not wait for anything.
        exempt: Paths that always pass, with ``*`` for any characters: whoever is blocked has to reach the place to pay.
        unknown: What becomes of requests of which nobody has said whose they are, or of companies that Stripe has told
            nothing of: ``pass`` or ``block``.
        mode: ``enforce``; or ``warn``, which blocks nothing, and adds a header to the response: the way to go live.
        settle_url: Where to pay, unless an open invoice has a page of its own; may have fields, such as ``{company}``.
        refusals: How to answer, by reason: ``overdue``, ``no_subscription``, ``quota``, ``spending_cap``, ``check``,
            ``unknown``.

    Raises:
        ConfigurationError: It cannot work like this; the message says the cure.
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
    settle_url: str | None = None
    refusals: Mapping[Reason, Refusal] = field(default_factory=dict)

    def __post_init__(self) -> None:
        days = self.overdue_days
        if days is not None and (isinstance(days, bool) or not isinstance(days, int | float) or not 0 <= days <= 365):
            raise ConfigurationError(f"Governance(overdue_days=...) is 0 to 365 days of grace, not {days!r:.200}")
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
                    f"Governance({name}=...) is {' or '.join(map(repr, words))}, not {given!r:.200}"
                )
        _check_refusals(self.refusals, self.settle_url)
        rules = (self.quotas, self.spending_cap, self.check, self.subscription, self.unknown == "block")
        if days is None and not any(rules):
            raise ConfigurationError(
                "Governance() has no rule, and would let everybody pass: give it overdue_days=, subscription=True, "
                "quotas=, spending_cap= or check="
            )


def check_governance(governance: Any, meters: Mapping[str, Meter]) -> None:
    """
    It is a `Governance` whose quotas are for the kit's *meters*.

    Raises:
        ConfigurationError: It is not.
    """
    if not isinstance(governance, Governance):
        raise ConfigurationError(f"governance= is a Governance, not {governance!r:.200}")
    for quota in governance.quotas:
        if meters.get(quota.meter.name) != quota.meter:
            raise ConfigurationError(f"there is a quota for {quota.meter}, which is not in meters=; add it there")


def _check_plain(function: Any, what: str) -> None:
    if not callable(function) or inspect.iscoroutinefunction(function):
        raise ConfigurationError(f"{what} is a plain function, not {function!r:.200}: nothing may be awaited here")


def _tuple_of(given: Any, kind: type, what: str) -> tuple[Any, ...]:
    found = () if isinstance(given, kind | str) or not isinstance(given, Iterable) else tuple(given)
    if (not found and given != ()) or not all(isinstance(each, kind) for each in found):
        if isinstance(given, list | tuple) and not given:
            return ()
        raise ConfigurationError(f"Governance({what}=...) is a list of {kind.__name__}, not {given!r:.200}")
    return found


def _paths(given: Any) -> tuple[str, ...]:
    paths = (given,) if isinstance(given, str) else tuple(given)
    for path in paths:
        if not isinstance(path, str) or not path.startswith(("/", "*")):
            raise ConfigurationError(
                f"Governance(exempt=...) is a list of paths such as '/billing/*', not {path!r:.200}"
            )
    return paths


def _check_refusals(refusals: Any, settle_url: Any) -> None:
    if not isinstance(refusals, Mapping) or not all(isinstance(each, Refusal) for each in refusals.values()):
        raise ConfigurationError(f"Governance(refusals=...) is a dict of Refusal by reason, not {refusals!r:.200}")
    for reason in refusals:
        if reason not in REASONS:
            raise ConfigurationError(
                f"Governance(refusals=...) has {reason!r:.100}, which is no reason; there are {', '.join(REASONS)}"
            )
    if settle_url is not None:
        Refusal.check_text(settle_url, "Governance(settle_url=...)")
