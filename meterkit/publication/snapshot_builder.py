"""What the ledger says of all companies, read after each flush, for `meterkit.publication.publisher`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import partial

from meterkit.accounts.billing_periods import Calendar, Periods
from meterkit.accounts.news import NewsReader
from meterkit.accounts.period_usage import Pair, UsageByPeriod, used_by
from meterkit.accounts.standing import Standings, standings
from meterkit.core.periods import DAY, Period
from meterkit.governance.limits.limit_cache import LimitCache
from meterkit.governance.policy import Governance, Quota
from meterkit.governance.refusal import Block
from meterkit.ledger.database import Database
from meterkit.metering.meter import Meter
from meterkit.pricing.cost import CostCalculator
from meterkit.pricing.price import Price, digits


@dataclass(frozen=True, slots=True)
class QuotaUsage:
    """
    A quota's limits, and the usage that counts against them.

    Attributes:
        quota: Quota.
        meter: Name of the quota's meter.
        limits: Limit of each company.
        used: Quantity by company and meter, as of the last refresh.
    """

    quota: Quota
    meter: str
    limits: LimitCache
    used: Mapping[Pair, int]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """
    What the ledger says. Immutable, except that usage and limits grow as they are refreshed.

    Attributes:
        blocks: Companies that are blocked whatever they request, and why.
        warned: Those of them that are only warned about, because not all is known that the block depends on.
        standings: Standing of each company.
        quotas: Quotas with their usage, in the order of the governance.
    """

    blocks: Mapping[str, Block]
    warned: frozenset[str]
    standings: Standings
    quotas: tuple[QuotaUsage, ...]


class SnapshotBuilder:
    """
    Builds snapshots. Not safe for several threads.

    Args:
        database: Database of the ledger.
        governance: Rules to check against.
        usage: Usage of this process's ledger, by kind of period.
        limits: Limit caches, in the order of the quotas.
        prices: Prices of the kit, for companies without a known subscription.
        meters: Meters of the kit, by name.

    Attributes:
        changed: Companies whose usage, limits or spending may have changed; the caller empties it.
    """

    def __init__(
        self,
        database: Database,
        governance: Governance,
        *,
        usage: UsageByPeriod,
        limits: Iterable[LimitCache],
        prices: Iterable[Price],
        meters: Mapping[str, Meter],
    ) -> None:
        self._database = database
        self._governance = governance
        self._spending = CostCalculator(prices, meters, used_since=used_by)
        self._usage = {kind: usage[kind] for kind in sorted({quota.per for quota in governance.quotas})}
        self._quotas = tuple(
            QuotaUsage(
                quota,
                quota.meter.name,
                of_quota,
                self._usage[quota.per].used,
            )
            for quota, of_quota in zip(governance.quotas, limits, strict=True)
        )
        if governance.spending_cap is not None:
            self._usage["period"] = usage["period"]
        self._changes = {kind: each.changes() for kind, each in self._usage.items()}
        self.changed: set[str] = set()
        self._caps: dict[str, Block] = {}
        self._warned: set[str] = set()
        self._news = NewsReader()

    def build(self, now: int) -> Snapshot:
        """
        Read everything that may have changed, and return a new snapshot.

        Args:
            now: Current time, Unix seconds.

        Raises:
            LedgerError: The ledger could not be read; build again.
        """
        with self._database.snapshot() as connection:
            found = standings(connection, now=now)
            news = self._news.read(connection, now)
        for usage in self._usage.values():
            usage.refresh(now)
        pending = {kind: changes.pending() for kind, changes in self._changes.items()}
        for each in self._quotas:
            companies = {company for company, meter in pending[each.quota.per] if meter == each.meter}
            each.limits.refresh(companies, anew=news.companies)
            self.changed |= companies
        self.changed |= news.companies
        if self._governance.spending_cap is not None:
            self._update_caps({company for company, _ in pending["period"]} | self._spenders(news.companies), now)
        for kind, changes in self._changes.items():
            changes.settle(pending[kind])
        self._news.settle(news)
        if found.is_foreign:  # what a ledger of Stripe's other mode knows, prices included, says nothing of this one
            return Snapshot({}, frozenset(), found, self._quotas)
        hard = _blocks(found, self._governance, now)
        return Snapshot({**self._caps, **hard}, frozenset(self._warned - hard.keys()), found, self._quotas)

    def _spenders(self, companies: set[str]) -> set[str]:
        """Return those of *companies* that have usage, so that they may have reached the cap."""
        return companies & {company for company, _ in self._usage["period"].pairs()} if companies else set()

    def _update_caps(self, companies: set[str], now: int) -> None:
        """
        Compute what the usage of *companies* costs, and block those that have reached the cap.

        Those that have reached it as far as is known, and may owe less, are only warned about.
        """
        cap, currency = Decimal(self._governance.spending_cap or 0), self._governance.currency
        usage = self._usage["period"]
        used = usage.of_companies(companies)
        with self._database.snapshot() as connection:
            found = self._spending.spending(
                connection, used, currency, now=now, period_of=partial(_period_of_meter, usage.periods, now)
            )
        for company, spending in found.items():
            self._caps.pop(company, None)
            self._warned.discard(company)
            if spending.possible < cap:
                continue
            unit, cost = currency.upper(), digits(spending.possible)
            detail = f"Spending this period ({cost} {unit}) has reached the cap of {digits(cap)} {unit}."
            if spending.certain < cap:
                self._warned.add(company)
                detail += f" It may be less: {'; '.join(spending.unknown) or 'the price was changed in the period'}."
            self._caps[company] = Block("spending_cap", company, detail, amount=cost, currency=currency)


def _period_of_meter(periods: Periods | Calendar, now: int, company: str, meter: str) -> Period:
    return periods.of(company, now, meter)


def _blocks(found: Standings, governance: Governance, now: int) -> dict[str, Block]:
    """Return the blocks for overdue invoices and missing subscriptions; if both apply, for the invoice."""
    blocks = {}
    if governance.subscription:
        for company in found.known - found.subscribed:
            blocks[company] = Block("no_subscription", company, f"Company {company} has no active subscription.")
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
