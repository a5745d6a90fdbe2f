"""Which plan each company is on, in memory: by the lookup keys of its running subscriptions' prices."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping

import sqlalchemy as sa

from meterkit.accounts.news import NewsReader
from meterkit.accounts.standing import ACTIVE
from meterkit.core import threads
from meterkit.core.problems import Problems
from meterkit.errors import LedgerError, UsageError
from meterkit.ledger import schema
from meterkit.ledger.bulk import BATCH
from meterkit.ledger.database import Database
from meterkit.ledger.payers import companies_by_customer, companies_of
from meterkit.pricing.plan import PREFIX, Plan, plan_in


class CompanyPlans:
    """
    The plans of all companies. Safe for several threads.

    Args:
        plans: Plans of the kit, by name.
        default: Plan of companies that are on none, or None.
        begin: Function that starts the flushes of this process, which refresh this.
        database: Function that opens and returns the ledger's database.
        problems: Where plans that are not in the code are reported.
        clock: Function that returns Unix seconds.

    Attributes:
        default: Plan of companies that are on none, or None.
        names: Name of the plan of each company that is on one, as far as it has been read.
    """

    def __init__(
        self,
        plans: Mapping[str, Plan],
        default: Plan | None,
        *,
        begin: Callable[[], object],
        database: Callable[[], Database],
        problems: Problems,
        clock: Callable[[], float],
    ) -> None:
        self._plans = plans
        self.default = default
        self.names: dict[str, str] = {}
        self._is_read = False
        self._begin = begin
        self._database = database
        self._problems = problems
        self._clock = clock
        self._features = frozenset(feature for plan in plans.values() for feature in plan.features)
        self._lock = threads.rlock()
        self._news = NewsReader()
        self._is_begun = False

    def of(self, company: str) -> Plan | None:
        """Return the plan of *company*; None if it is on none, nothing has been read yet, or the code lacks it."""
        name = self.names.get(company)
        return self.default if name is None else self._plans.get(name)

    def looked_up(self, company: str) -> Plan | None:
        """
        Return the plan of *company*, for application code; the first call in a process reads the ledger.

        Raises:
            LedgerError: It is the first call, and the ledger cannot be read.
        """
        if not self._is_begun:
            self._begin()
            if not self._is_read:
                self.refresh(self._database())
            self._is_begun = True
        return self.of(company)

    def read(self, company: str) -> Plan | None:
        """
        Return the plan of *company*, for operators: starts no flushes of this process.

        Raises:
            LedgerError: Nothing has been read yet, and the ledger cannot be read.
        """
        if not self._is_read:
            self.refresh(self._database())
        return self.of(company)

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
        with self._lock:
            with database.snapshot() as connection:
                news = self._news.read(connection, now)
                found = _names(connection, news.companies if self._is_read else None)
            if self._is_read:
                for company in news.companies - found.keys():
                    self.names.pop(company, None)
            self.names.update(found)
            self._is_read = True
            self._news.settle(news)
        self._note_unknown(found)

    def reset(self) -> None:
        """Begin anew in a forked child, or after the runtime was closed; what was read stays."""
        self._lock = threads.rlock()
        self._is_begun = False

    def forget(self) -> None:
        """Forget what was read: another ledger follows."""
        self.reset()
        self._news, self.names, self._is_read = NewsReader(), {}, False

    def _note_unknown(self, found: Mapping[str, str]) -> None:
        for name in sorted(set(found.values()) - self._plans.keys()):
            self._problems.note(
                "plan_unknown",
                f"companies are on the plan {name!r:.60}, which is not in plans=, so they have none of its limits and "
                "features: keep it in the code as long as it has subscriptions, or move them",
                plan=name,
            )


def _names(connection: sa.Connection, companies: Iterable[str] | None) -> dict[str, str]:
    """Return the name of the plan of each of *companies* that is on one; None reads all. The newest counts."""
    if companies is None:
        return _of_customers(connection, companies_by_customer(connection), None)
    ids, found = sorted(companies), dict[str, str]()
    for start in range(0, len(ids), BATCH):
        payers = companies_by_customer(connection, ids[start : start + BATCH])
        found |= _of_customers(connection, payers, list(payers))
    return found


def _of_customers(
    connection: sa.Connection, payers: Mapping[str, set[str]], customers: list[str] | None
) -> dict[str, str]:
    items, subscriptions = schema.items, schema.subscriptions
    query = (
        sa.select(items.c.customer, items.c.price)
        .join_from(items, subscriptions, subscriptions.c.id == items.c.subscription)
        .where(subscriptions.c.ended_at.is_(None), subscriptions.c.status.in_(ACTIVE))
        .where(items.c.price.contains(f'"{PREFIX}', autoescape=True))
        .order_by(subscriptions.c.created, subscriptions.c.id)
    )
    found: dict[str, str] = {}
    for row in connection.execute(query if customers is None else query.where(items.c.customer.in_(customers))):
        name = plan_in(json.loads(row.price).get("lookup_key"))
        if name is not None:
            for company in payers.get(row.customer, set()) | companies_of(connection, row.customer, None):
                found[company] = name
    return found
