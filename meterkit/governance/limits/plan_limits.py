"""
The limits of plans, as quotas whose limit depends on the company's plan.

A quota of a plan takes the place of the kit's quotas with the same meter and period, for the companies on that plan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple, TypeAlias

from meterkit.core.problems import Problems
from meterkit.errors import ConfigurationError
from meterkit.governance.company_plans import CompanyPlans
from meterkit.governance.limits.limit_cache import LimitCache
from meterkit.governance.policy import Governance, Quota
from meterkit.pricing.plan import Plan

_Kind: TypeAlias = "tuple[str, str, bool, bool]"


class _Combined(NamedTuple):
    """A quota of the kit or None, and by plan what takes its place: another quota, or None for no limit."""

    base: Quota | None
    by_plan: dict[str, Quota | None]


class PlanLimits(LimitCache):
    """
    The limits of one quota of the kit, and of the quotas of plans that take its place.

    Args:
        base: Limits of the companies on other plans; None if they have none.
        by_plan: Limits by the name of the plan; None for no limit.
        plans: Plans of the companies.
        quota: Quota that all these are of the kind of.
        clock: Function that returns Unix seconds.
        problems: Where a ``limit=`` function that raises is reported.
    """

    def __init__(
        self,
        base: LimitCache | None,
        by_plan: Mapping[str, LimitCache | None],
        *,
        plans: CompanyPlans,
        quota: Quota,
        clock: Callable[[], float],
        problems: Problems,
    ) -> None:
        super().__init__(quota, clock=clock, problems=problems)
        self._base = base
        self._by_plan: dict[str | None, LimitCache | None] = {}
        self._by_plan.update(by_plan)
        if plans.default is not None:
            self._by_plan[None] = by_plan.get(plans.default.name, base)
        self._plans = plans
        # For requests, which are many: a limit that is the same for all on a plan, or where to look it up.
        self._fixed = {name: _fixed(each) for name, each in self._by_plan.items()}
        self._fixed_base = _fixed(base)

    def known(self, company: str) -> int | None:
        """Return the limit of *company* without calling the application; None if it has none, or none is known yet."""
        found = self._fixed.get(self._plans.name_of(company), self._fixed_base)
        return found.known(company) if isinstance(found, LimitCache) else found

    def get(self, company: str) -> int | None:
        """Return the limit of *company*, and call the application if it is not known or has expired. Never raises."""
        of_company = self._of(company)
        return None if of_company is None else of_company.get(company)

    def applies_to(self, company: str) -> bool:
        """Return whether *company* has such a quota at all."""
        return self._of(company) is not None

    def refresh(self, companies: Iterable[str], *, anew: Iterable[str] = ()) -> None:
        """Get the limits of *companies*, and renew all that expire soon. For a background thread, never a request."""
        sorted_out: dict[int, tuple[list[str], list[str]]] = {}
        for which, names in enumerate((companies, anew)):
            for company in names:
                of_company = self._of(company)
                if of_company is not None:
                    sorted_out.setdefault(id(of_company), ([], []))[which].append(company)
        for each in self._all():
            own, own_anew = sorted_out.get(id(each), ([], []))
            each.refresh(own, anew=own_anew)

    def take_changed(self) -> set[str]:
        """Return the companies whose limit has changed since the last call."""
        return {company for each in self._all() for company in each.take_changed()}

    def forget(self) -> None:
        """Forget all limits; the application is asked again."""
        for each in self._all():
            each.forget()

    def _of(self, company: str) -> LimitCache | None:
        return self._by_plan.get(self._plans.name_of(company), self._base)

    def _all(self) -> list[LimitCache]:
        return [each for each in (self._base, *self._by_plan.values()) if each is not None]


def _fixed(limits: LimitCache | None) -> LimitCache | int | None:
    return limits if limits is None or callable(limits.quota.limit) else limits.quota.limit


def with_plans(
    governance: Governance | None,
    plans: Iterable[Plan],
    company_plans: CompanyPlans,
    *,
    clock: Callable[[], float],
    problems: Problems,
) -> tuple[Governance, list[LimitCache]] | None:
    """
    Return a governance that has the quotas of *plans*, too, and the limits of all its quotas, in their order.

    Args:
        governance: Rules of the kit, or None.
        plans: Plans of the kit.
        company_plans: Plans of the companies.
        clock: Function that returns Unix seconds.
        problems: Where a ``limit=`` function that raises is reported.

    Returns:
        None if there is neither a governance nor a quota.

    Raises:
        ConfigurationError: A limit of a plan is no quota, or is there twice.
    """
    combined = _combined(() if governance is None else governance.quotas, list(plans))
    quotas: list[Quota] = []
    limits: list[LimitCache] = []

    def cache(quota: Quota) -> LimitCache:
        return LimitCache(quota, clock=clock, problems=problems)

    for base, by_plan in combined:
        quota = base if base is not None else next(each for each in by_plan.values() if each is not None)
        quotas.append(quota)
        if not by_plan:
            limits.append(cache(quota))
            continue
        own = {name: None if each is None else cache(each) for name, each in by_plan.items()}
        of_base = None if base is None else cache(base)
        limits.append(PlanLimits(of_base, own, plans=company_plans, quota=quota, clock=clock, problems=problems))
    if governance is None:
        return (Governance(quotas=quotas), limits) if quotas else None
    return replace(governance, quotas=quotas), limits


def _combined(quotas: Iterable[Quota], plans: list[Plan]) -> list[_Combined]:
    found = [_Combined(quota, {}) for quota in quotas]
    extra: dict[_Kind, _Combined] = {}
    for plan in plans:
        own = _by_kind(plan)
        for each in found:
            assert each.base is not None
            if any(kind[:2] == _kind(each.base)[:2] for kind in own):
                each.by_plan[plan.name] = None  # unless it is of the very same kind, which follows
        for kind, quota in own.items():
            same = [each for each in found if each.base is not None and _kind(each.base) == kind]
            place = same[0] if same else extra.setdefault(kind, _Combined(None, {}))
            place.by_plan[plan.name] = quota
    return [*found, *extra.values()]


def _by_kind(plan: Plan) -> dict[_Kind, Quota]:
    found: dict[_Kind, Quota] = {}
    for quota in plan.limits:
        if not isinstance(quota, Quota):
            raise ConfigurationError(f"{plan}: limits= must be a list of Quota; {quota!r:.200} is not a Quota")
        if _kind(quota) in found:
            raise ConfigurationError(f"{plan}: limits= has two quotas of {quota.meter} per {quota.per}; remove one")
        found[_kind(quota)] = quota
    return found


def _kind(quota: Quota) -> _Kind:
    return quota.meter.name, quota.per, quota.hard, quota.exact
