"""What the team's pages read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from meterkit.governance.company_plans import CompanyPlans
from meterkit.governance.figures import CompanyFigures
from meterkit.governance.limits.limit_cache import LimitCache
from meterkit.governance.policy import Governance
from meterkit.metering.meter import Meter
from meterkit.pages.customer_page import CustomerStatements
from meterkit.pages.team.tables import External
from meterkit.pricing.price import Price
from meterkit.snapshot.reader import SnapshotSource

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from meterkit.accounts.period_usage import UsageByPeriod
    from meterkit.ledger.database import Database

DASHBOARD = "https://dashboard.stripe.com"


@dataclass(frozen=True)
class Sources:
    """
    What the team's pages read.

    Attributes:
        database: Function that opens the ledger.
        usage: Function that returns the usage in the current periods, which is read by steps.
        health: Function that returns what `MeterKit.health` does.
        statements: Computes what a company may see of its account.
        meters: Meters of the kit, by name.
        prices: Prices of the kit, for companies without a known subscription.
        limits: Limit caches of the quotas.
        snapshot: What requests are checked against in this process.
        plans: Plans of the companies; None for a kit without plans.
        kit_plans: Names of the plans of the kit.
        governance: Rules of the kit, or None.
        is_free: Function that returns whether a company's usage is free by a rule of the kit; None if nobody's is.
        is_live: Whether the Stripe key is live; None if that is unknown.
        account: Connected account that the kit bills for; None for the key's own.
        clock: Function that returns Unix seconds.
    """

    database: Callable[[], Database]
    usage: Callable[[], UsageByPeriod]
    health: Callable[[], dict[str, Any]]
    statements: CustomerStatements
    meters: Mapping[str, Meter]
    prices: tuple[Price, ...]
    limits: tuple[LimitCache, ...]
    snapshot: SnapshotSource
    plans: CompanyPlans | None
    kit_plans: tuple[str, ...]
    governance: Governance | None
    is_free: Callable[[str], bool] | None
    is_live: bool | None
    account: str | None
    clock: Callable[[], float]

    @property
    def now(self) -> int:
        """Current time, Unix seconds."""
        return int(self.clock())

    def plans_of(self, connection: Connection, companies: Iterable[str]) -> Mapping[str, str]:
        """Return the plan of each of *companies* that is on one by a subscription."""
        return {} if self.plans is None else self.plans.read_some(connection, companies)

    def plan_names(self) -> Mapping[str, str]:
        """
        Return the plan of each company that is on one by a subscription. The first call reads all of them.

        Raises:
            LedgerError: The ledger cannot be read.
        """
        if self.plans is None:
            return {}
        self.plans.refresh(self.database())
        return dict(self.plans.names)

    def known_limit(self, number: int, company: str) -> int | None:
        """Return the limit of *company* under the quota *number*, without calling the application; None if unknown."""
        file = self.snapshot.current
        if file is None:
            return self.limits[number].known(company)
        return CompanyFigures(file.record(company), company).limit(number)

    @property
    def default_plan(self) -> str:
        """Name of the plan of all other companies; empty if they are on none."""
        return "" if self.plans is None or self.plans.default is None else self.plans.default.name

    def in_stripe(self, kind: str, identity: str | None) -> External:
        """
        Return the id of a Stripe object, with the address of its page in Stripe's dashboard.

        Args:
            kind: Name of the objects in such addresses: ``customers``, ``subscriptions`` or ``invoices``.
            identity: Id of the object; None for none.
        """
        if identity is None:
            return External("none", None)
        account = f"/{self.account}" if self.account else ""
        return External(identity, f"{DASHBOARD}{account}{'' if self.is_live else '/test'}/{kind}/{identity}")
