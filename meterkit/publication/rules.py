"""What the figures in a snapshot follow from, besides the ledger. Imports nothing that only some kits need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from meterkit.core.problems import Problems
from meterkit.snapshot.file_format import fingerprint_of

if TYPE_CHECKING:
    from meterkit.accounts.period_usage import UsageByPeriod
    from meterkit.governance.company_plans import CompanyPlans
    from meterkit.governance.limits.limit_cache import LimitCache
    from meterkit.governance.policy import Governance, Quota
    from meterkit.ledger.database import Database
    from meterkit.metering.meter import Meter
    from meterkit.pricing.plan import Plan
    from meterkit.pricing.price import Price
    from meterkit.publication.publisher import Publisher


@dataclass(frozen=True)
class SnapshotRules:
    """
    Rules of a kit, as far as a snapshot depends on them.

    Attributes:
        governance: Rules of the kit with the quotas of its plans, or None.
        limits: Limit caches, in the order of the quotas.
        prices: Prices of companies without a known subscription.
        meters: Meters of the kit, by name.
        plans: Plans of the kit, by name.
        default_plan: Plan of companies that are on none, or None.
        company_plans: Plans of the companies; None for a kit without plans.
        problems: Where is reported that no file can be created.
    """

    governance: Governance | None
    limits: tuple[LimitCache, ...]
    prices: tuple[Price, ...]
    meters: Mapping[str, Meter]
    plans: Mapping[str, Plan]
    default_plan: Plan | None
    company_plans: CompanyPlans | None
    problems: Problems

    def fingerprint(self, ledger: Iterable[object]) -> bytes:
        """
        Return what a snapshot has in its header that was written by the same rules, for the same ledger.

        Two processes with other rules, as while a deployment is under way, do not read each other's.

        Args:
            ledger: Texts and other plain values that tell the ledger from others.
        """
        governance = self.governance
        rules: list[object] = []
        if governance is not None:
            rules = [governance.overdue_days, governance.subscription, str(governance.spending_cap)]
            rules += [governance.currency, [_quota(each) for each in governance.quotas]]
        plans = [
            [name, each is self.default_plan, each.version, [_quota(limit) for limit in each.limits]]
            for name, each in self.plans.items()
        ]
        prices = [
            [each.meter.name, each.currency, each.interval, each.scheme, repr(each.tiers), each.size, each.round]
            for each in self.prices
        ]
        meters = sorted([name, each.event_name] for name, each in self.meters.items())
        return fingerprint_of(rules, plans, prices, meters, list(ledger))

    def publisher(self, database: Database, usage: UsageByPeriod, fingerprint: bytes) -> Publisher:
        """
        Return what publishes the figures that *database* has.

        Args:
            database: Database of the ledger.
            usage: Usage in its current periods.
            fingerprint: Result of `fingerprint`.
        """
        from meterkit.publication.publisher import Publisher

        return Publisher(
            database,
            usage,
            fingerprint,
            governance=self.governance,
            limits=self.limits,
            prices=self.prices,
            meters=self.meters,
            plans=self.company_plans,
            problems=self.problems,
        )


def _quota(quota: Quota) -> list[object]:
    limit: object = quota.limit
    if callable(limit):
        limit = f"{getattr(limit, '__module__', '')}.{getattr(limit, '__qualname__', type(limit).__qualname__)}"
    return [quota.meter.name, quota.per, quota.hard, quota.exact, limit]
