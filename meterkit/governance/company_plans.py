"""Which plan each company is on, in memory: by the lookup keys of its running subscriptions' prices."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from meterkit.core import threads
from meterkit.core.problems import Problems
from meterkit.errors import LedgerError, UsageError
from meterkit.pricing.plan import Plan
from meterkit.snapshot.file_format import OTHER_PLAN
from meterkit.snapshot.reader import SnapshotSource

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from meterkit.accounts.news import NewsReader
    from meterkit.ledger.database import Database


class CompanyPlans:
    """
    The plans of all companies. Safe for several threads.

    Args:
        plans: Plans of the kit, by name.
        default: Plan of companies that are on none, or None.
        source: Snapshot that is read while another process publishes it.
        read_names: Function that takes a connection to the ledger, and the companies to look for or None for all, and
            returns the name of the plan of each that is on one.
        begin: Function that starts the flushes of this process, which refresh this.
        database: Function that opens and returns the ledger's database.
        problems: Where plans that are not in the code are reported.
        clock: Function that returns Unix seconds.

    Attributes:
        default: Plan of companies that are on none, or None.
        names: Name of the plan of each company that is on one, as far as this process has read the ledger.
        follows: Whether another process reads the ledger, and publishes what it finds.
    """

    def __init__(
        self,
        plans: Mapping[str, Plan],
        default: Plan | None,
        *,
        source: SnapshotSource,
        read_names: Callable[[Connection, Iterable[str] | None], dict[str, str]],
        begin: Callable[[], object],
        database: Callable[[], Database],
        problems: Problems,
        clock: Callable[[], float],
    ) -> None:
        self._plans = plans
        self.default = default
        self.names: dict[str, str] = {}
        self.follows = False
        self._source = source
        self._read_names = read_names
        self._order = tuple(plans)
        self._numbers = {name: number for number, name in enumerate(plans, 1)}
        self._changed: set[str] = set()
        self._is_read = False
        self._begin = begin
        self._database = database
        self._problems = problems
        self._clock = clock
        self._features = frozenset(feature for plan in plans.values() for feature in plan.features)
        self._lock = threads.rlock()
        self._news: NewsReader | None = None
        self._is_begun = False

    def of(self, company: str) -> Plan | None:
        """Return the plan of *company*; None if it is on none, nothing has been read yet, or the code lacks it."""
        name = self.name_of(company)
        return self.default if name is None else self._plans.get(name)

    def name_of(self, company: str) -> str | None:
        """Return the name of the plan of *company*; None if it is on none, or nothing has been read yet."""
        if not self.follows:
            return self.names.get(company)
        file = self._source.current
        number = 0 if file is None else file.plan(company)
        if not number:
            return None
        return "" if number == OTHER_PLAN else self._order[number - 1]

    def number_of(self, company: str) -> int:
        """Return the number of the plan of *company*, as this process has read it, for the snapshot."""
        name = self.names.get(company)
        return 0 if name is None else self._numbers.get(name, OTHER_PLAN)

    def looked_up(self, company: str) -> Plan | None:
        """
        Return the plan of *company*, for application code; the first call in a process reads the ledger.

        Raises:
            LedgerError: It is the first call, and the ledger cannot be read.
        """
        if not self._is_begun:
            self._begin()
            if not self._is_known:
                self.refresh(self._database())
            self._is_begun = True
        return self.of(company)

    def read(self, company: str) -> Plan | None:
        """
        Return the plan of *company*, for operators: starts no flushes of this process.

        Raises:
            LedgerError: Nothing has been read yet, and the ledger cannot be read.
        """
        if not self._is_known:
            self.refresh(self._database())
        return self.of(company)

    @property
    def _is_known(self) -> bool:
        return self._is_read or (self.follows and self._source.current is not None)

    def is_free(self, company: str) -> bool:
        """
        Return whether *company* is on the default plan, and that has no prices.

        Raises:
            LedgerError: Nothing has been read yet, and the ledger cannot be read.
        """
        if self.default is None or self.default.prices:
            return False
        return self.read(company) is self.default

    def can(self, company: str, feature: str) -> bool:
        """
        Return whether the plan of *company* has *feature*. What is not known is allowed.

        Raises:
            UsageError: No plan has such a feature.
        """
        if feature not in self._features:
            among = ", ".join(sorted(self._features)) or "none"
            raise UsageError(
                f"no plan has the feature {feature!r:.100}, only {among}: add it to features= of a plan",
                reason="feature_unknown",
            )
        try:
            plan = self.looked_up(company)
        except LedgerError as error:
            message = f"can() allowed {feature!r:.100} without knowing the plan: {error}"
            self._problems.note("plan_not_read", message, company=company)
            return True
        return plan is not None and feature in plan.features

    def refresh(self, database: Database) -> None:
        """
        Read what has changed. Called by the flushing thread after a flush.

        Raises:
            LedgerError: The ledger cannot be read; what was read before stays.
        """
        now = int(self._clock())
        from meterkit.accounts.news import NewsReader

        with self._lock:
            if self._news is None:
                self._news = NewsReader()
            with database.snapshot() as connection:
                news = self._news.read(connection, now)
                found = self._read_names(connection, news.companies if self._is_read else None)
            if self._is_read:
                for company in news.companies - found.keys():
                    self.names.pop(company, None)
            self.names.update(found)
            self._changed |= news.companies | found.keys()
            self._is_read = True
            self._news.settle(news)
        self._note_unknown(found)

    def read_some(self, connection: Connection, companies: Iterable[str]) -> dict[str, str]:
        """Return the name of the plan of each of *companies* that is on one. Unlike `refresh`, it reads no others."""
        found = self._read_names(connection, companies)
        if not self._is_read:  # without the lock, which `refresh` may hold for seconds
            self.names.update(found)
        return found

    def take_changed(self) -> set[str]:
        """Return the companies whose plan may have changed since the last call."""
        with self._lock:
            changed, self._changed = self._changed, set()
            return changed

    def follow(self) -> None:
        """Read what another process publishes from now on, and forget what this one has read."""
        if not self.follows:
            self.follows = True
            self._forget()

    def reset(self) -> None:
        """Begin anew in a forked child, or after the runtime was closed; what was read stays."""
        self._lock = threads.rlock()
        self._is_begun = False

    def forget(self) -> None:
        """Forget what was read: another ledger follows."""
        self.reset()
        self._forget()
        self.follows = False

    def _forget(self) -> None:
        with self._lock:
            self._news, self.names, self._is_read, self._changed = None, {}, False, set()

    def _note_unknown(self, found: Mapping[str, str]) -> None:
        for name in sorted(set(found.values()) - self._plans.keys()):
            self._problems.note(
                "plan_unknown",
                f"companies are on the plan {name!r:.60}, which is not in plans=, so they have none of its limits and "
                "features: keep it in the code as long as it has subscriptions, or move them",
                plan=name,
            )
