"""Keep: all that decides who may pass, looked at again after each flush, for requests to read without a wait."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from meterkit.accounts.billing_periods import Calendar, Periods
from meterkit.accounts.period_usage import Consumption, Pair
from meterkit.accounts.standing import Standings, standings
from meterkit.core.periods import DAY, Period, day_of, month_of
from meterkit.governance.policy import Governance, Quota
from meterkit.governance.refusal import Block
from meterkit.ledger.database import Database
from meterkit.metering.meter import Meter
from meterkit.pricing.cost import Spending, spent
from meterkit.pricing.price import Price

ASK_AGAIN_SECONDS = 600
"""For how long a limit that a function answered holds, which may follow from a plan that changes."""


@dataclass(slots=True)
class Limits:
    """
    What a quota allows, and what is used of it.

    Attributes:
        quota: It.
        used: By company and meter; grows while it is read.
        of: By company, as a function answered.
        period: From a company and a moment to the period that *used* is of.
    """

    quota: Quota
    used: Mapping[Pair, int]
    period: Callable[[str, int], Period]
    of: dict[str, int | None] = field(default_factory=dict)

    def limit(self, company: str) -> int | None:
        """How much *company* may use; None for no limit, or for one that is not known yet."""
        return self.of.get(company) if callable(self.quota.limit) else self.quota.limit


@dataclass(frozen=True, slots=True)
class View:
    """
    What was found. Never changed, but for what is used.

    Attributes:
        blocks: Companies that may not pass, whatever they ask for.
        standings: Whose customers are known, and who is overdue.
        limits: In the order of the quotas.
        looked: Somebody has looked.
    """

    blocks: Mapping[str, Block] = field(default_factory=dict)
    standings: Standings = field(default_factory=Standings)
    limits: tuple[Limits, ...] = ()
    looked: bool = False


class Oversight:
    """
    Looks. For one thread.

    Args:
        database: Where the ledger is kept.
        governance: What it decides by.
        prices: Of the kit.
        meters: Of the kit, by name.
        note: Told when a function of the user's fails.
    """

    def __init__(
        self,
        database: Database,
        governance: Governance,
        *,
        prices: Iterable[Price],
        meters: Mapping[str, Meter],
        note: Callable[[str, str], None],
    ) -> None:
        self._database = database
        self._governance = governance
        self._spending = Spending(prices, meters)
        self._note = note
        self._billed = Consumption(database, Periods())
        self._followed = {"period": self._billed}
        for name, period_of in {"month": month_of, "day": day_of}.items():
            self._followed[name] = Consumption(database, Calendar(period_of))
        self._limits = tuple(
            Limits(quota, self._followed[quota.per].used, self._followed[quota.per].periods.of)
            for quota in governance.quotas
        )
        self._asked_at = 0
        self._caps: dict[str, Block] = {}

    def look(self, now: int) -> View:
        """
        Look at everything that may have changed.

        Raises:
            LedgerError: The ledger cannot be read.
        """
        governance = self._governance
        with self._database.snapshot() as connection:
            found = standings(connection, now=now)
        needed = {limits.quota.per for limits in self._limits}
        if governance.spending_cap is not None:
            needed.add("period")
        changed = {name: self._followed[name].refresh(now) for name in sorted(needed)}
        for limits in self._limits:
            self._ask(limits, changed[limits.quota.per], now)
        if governance.spending_cap is not None:
            self._add_up({company for company, _ in changed["period"]})
        blocks = {**self._caps, **_blocks(found, governance, now)}
        return View(blocks, found, self._limits, looked=True)

    def _ask(self, limits: Limits, changed: Iterable[Pair], now: int) -> None:
        """The function of the user's for the limits of whom it does not know yet; of all, from time to time."""
        function = limits.quota.limit
        if not callable(function):
            return
        companies = {company for company, meter in changed if meter == limits.quota.meter.name} - limits.of.keys()
        if now >= self._asked_at + ASK_AGAIN_SECONDS:
            companies |= limits.of.keys()
            self._asked_at = now
        for company in companies:
            try:
                limits.of[company] = function(company)
            except Exception as error:
                self._note("limit_raised", f"{limits.quota}: the limit of {company!r:.100} raised {error!r:.200}")

    def _add_up(self, companies: set[str]) -> None:
        """What the usage of *companies* costs, and who of them has reached the cap."""
        cap, currency = Decimal(self._governance.spending_cap or 0), self._governance.currency
        used: dict[str, dict[str, int]] = {company: {} for company in companies}
        for (company, meter), quantity in self._billed.used.items():
            if company in used:
                used[company][meter] = quantity
        with self._database.snapshot() as connection:
            prices = self._spending.prices_of(connection, companies)
        for company in companies:
            cost = spent(prices[company], used[company], currency)
            self._caps.pop(company, None)
            if cost >= cap:
                detail = f"{cost} {currency.upper()} of {cap} are spent in this billing period."
                self._caps[company] = Block("spending_cap", company, detail, amount=str(cost), currency=currency)


def _blocks(found: Standings, governance: Governance, now: int) -> dict[str, Block]:
    """Return why companies are blocked for what they owe or lack; an overdue invoice says more than no subscription."""
    blocks = {}
    if governance.subscription:
        for company in found.known - found.subscribed:
            blocks[company] = Block("no_subscription", company, "There is no active subscription.")
    if governance.overdue_days is not None:
        latest = now - governance.overdue_days * DAY
        for company, invoices in found.overdue.items():
            oldest = next((each for each in invoices if each.since <= latest), None)
            if oldest is not None:
                blocks[company] = Block(
                    "overdue",
                    company,
                    str(oldest),
                    settle_url=oldest.url,
                    amount=str(oldest.amount),
                    currency=oldest.currency,
                    invoice=oldest.number,
                )
    return blocks
