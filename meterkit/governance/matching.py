"""Which quotas and exemptions apply to a request; cached."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from meterkit.governance.policy import Governance, Quota
from meterkit.governance.route_patterns import may_lead_to
from meterkit.metering.exchange import Exchange
from meterkit.metering.matching import MAX_REMEMBERED, glob, may_match

T = TypeVar("T")


class RequestScope(NamedTuple):
    """
    The rules that apply to the requests of one method, path and route.

    Attributes:
        exempt: Whether the requests are always allowed.
        quotas: Indexes of the quotas that the requests may count for.
        exact: Whether one of those quotas is exact.
    """

    exempt: bool
    quotas: tuple[int, ...]
    exact: bool

    def of(self, limits: Sequence[T]) -> list[T]:
        """Return those of *limits*, which are in the order of the quotas, that apply."""
        return [limits[number] for number in self.quotas]


class ScopeMatcher:
    """Finds the `RequestScope` of an exchange, and caches it."""

    def __init__(self, governance: Governance) -> None:
        self._exempt = [glob(path) for path in governance.exempt]
        self._quotas = [_Filter(quota) for quota in governance.quotas]
        self._by_route = any(quota.meter.route is not None for quota in governance.quotas)
        self._remembered: dict[tuple[str, ...], RequestScope] = {}

    def of(self, exchange: Exchange) -> RequestScope:
        """Return the rules that apply to requests such as *exchange*."""
        key: tuple[str, ...] = (exchange.method, exchange.path)
        if self._by_route:
            # Django resolves the URL before it is asked. Elsewhere, the path tells to which routes it may lead.
            route = exchange.route
            key += (exchange.path_in_app,) if route is None else (exchange.path, route)
        found = self._remembered.get(key)
        if found is None:
            found = self._match(exchange)
            if len(self._remembered) >= MAX_REMEMBERED:
                self._remembered = {}  # a new dict: another thread may be reading the old one
            self._remembered[key] = found
        return found

    def _match(self, exchange: Exchange) -> RequestScope:
        method, path = exchange.method, exchange.path
        found = [number for number, each in enumerate(self._quotas) if each.applies_to(exchange)]
        return RequestScope(
            # Browsers send OPTIONS on their own.
            exempt=method == "OPTIONS" or any(matches(path) for matches in self._exempt),
            quotas=tuple(found),
            exact=any(self._quotas[number].is_exact for number in found),
        )


class _Filter:
    """Which requests may count for the meter of a quota."""

    def __init__(self, quota: Quota) -> None:
        self.is_exact = quota.exact
        self._may_match = may_match(quota.meter)
        self._route = quota.meter.route
        self._may_lead_there = None if self._route is None else may_lead_to(self._route)

    def applies_to(self, exchange: Exchange) -> bool:
        if not self._may_match(exchange.method, exchange.path):
            return False
        if self._may_lead_there is None:
            return True
        route = exchange.route
        return self._may_lead_there(exchange.path_in_app) if route is None else route == self._route
