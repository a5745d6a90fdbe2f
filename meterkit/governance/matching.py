"""Which quotas and exemptions apply to a method and path; cached."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from meterkit.core.problems import Problems
from meterkit.core.usage_key import WALLET
from meterkit.governance.policy import Governance
from meterkit.governance.route_patterns import may_lead_to
from meterkit.metering.exchange import Exchange
from meterkit.metering.matching import MAX_REMEMBERED, may_match
from meterkit.metering.meter import Meter
from meterkit.metering.paths import Target, forms, is_unusual, path_filter, routed

T = TypeVar("T")

OVERRIDES = ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override")
"""Request headers by which applications let clients replace the method."""


@dataclass(frozen=True, slots=True)
class RequestScope:
    """
    The rules that apply to the requests of one method, target and route.

    Attributes:
        exempt: Whether the requests are always allowed.
        is_options: Whether the requests are allowed unless they name a company: browsers send OPTIONS on their own.
        quotas: Indexes of the quotas that the requests may count for.
        exact: Whether something is taken before the requests are allowed.
        has_other: Whether there are more quotas for the same path with another method.
        wants: What that is, by name: of the meter of an exact quota, or of a wallet behind `WALLET`; and the meters
            that the requests may count for.
        is_ahead: Whether another server serves the requests, so that nothing is taken.
    """

    exempt: bool
    is_options: bool
    quotas: tuple[int, ...]
    exact: bool
    has_other: bool
    wants: tuple[tuple[str, tuple[str, ...]], ...] = ()
    is_ahead: bool = False

    def joined(self, other: RequestScope) -> RequestScope:
        """Return this scope with the quotas of *other*."""
        quotas = tuple(sorted({*self.quotas, *other.quotas}))
        wants = _joined((*self.wants, *other.wants))
        return replace(self, quotas=quotas, exact=self.exact or other.exact, wants=wants)

    def of(self, limits: Sequence[T]) -> list[T]:
        """Return those of *limits*, which are in the order of the quotas, that apply."""
        return [limits[number] for number in self.quotas]


class ScopeMatcher:
    """
    Finds the `RequestScope` of exchanges, and caches it by method, target and route.

    Args:
        governance: Rules of the kit.
        wallets: Name and meters of each wallet of the kit.
        problems: Where paths that are exempt only with their prefix are reported.
    """

    def __init__(
        self, governance: Governance, problems: Problems, *, wallets: Iterable[tuple[str, Iterable[Meter]]] = ()
    ) -> None:
        self._problems = problems
        self._exempt = [path_filter(path) for path in governance.exempt]
        self._quotas = [
            _MeterFilter(quota.meter, quota.meter.name if quota.exact else "") for quota in governance.quotas
        ]
        self._spending = [
            _MeterFilter(meter, f"{WALLET}{name}") for name, meters in wallets for meter in meters if meter.http
        ]
        self._by_route = any(each.route is not None for each in (*self._quotas, *self._spending))
        self._remembered: dict[tuple[str, Target, str | None], RequestScope] = {}

    def of(self, exchange: Exchange) -> RequestScope:
        """Return the rules that apply to *exchange*, before the app runs."""
        # Django resolves the URL before it is asked. Elsewhere, the path tells to which routes it may lead.
        route = exchange.route if self._by_route else None
        scope = self._remembered.get((exchange.verb, exchange.target, route))
        if scope is None:
            scope = self._match(exchange.verb, exchange.target, route)
        if scope.has_other:
            for name in OVERRIDES:
                method = exchange.headers.get(name)
                if method is not None:  # the app may serve the request as that
                    other = self._remembered.get((method, exchange.target, route))
                    scope = scope.joined(other or self._match(method, exchange.target, route))
        return scope

    def _match(self, method: str, target: Target, route: str | None) -> RequestScope:
        paths, verb = forms(target), method.upper()
        found = [number for number, each in enumerate(self._quotas) if each.applies_to(verb, paths, route)]
        applying = [self._quotas[number] for number in found]
        applying += [each for each in self._spending if each.applies_to(verb, paths, route)]
        wants = _joined((each.taken, (each.meter,)) for each in applying if each.taken)
        anyway = sum(each.applies_to(None, paths, route) for each in (*self._quotas, *self._spending))
        scope = RequestScope(
            exempt=self._is_exempt(target),
            is_options=verb == "OPTIONS",
            quotas=tuple(found),
            exact=bool(wants),
            wants=wants,
            has_other=anyway > len(applying),
        )
        if len(self._remembered) >= MAX_REMEMBERED:
            self._remembered = {}  # a new dict: another thread may be reading the old one
        self._remembered[method, target, route] = scope
        return scope

    def _is_exempt(self, target: Target) -> bool:
        """Return whether ``exempt=`` allows *target*: what the app routes, as it is. Clients may choose a prefix."""
        path = routed(target)
        if is_unusual(path):
            return False
        if any(matches(path) for matches in self._exempt):
            return True
        if any(matches(each) for matches in self._exempt for each in forms(target)):
            self._problems.note(
                "exempt_prefix",
                f"{path!r:.100} is not exempt: Governance(exempt=...) matches it only with the prefix "
                f"{target[0]!r:.100}, which a client may be able to choose. Write exempt= without the prefix",
            )
        return False


def _joined(wants: Iterable[tuple[str, tuple[str, ...]]]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return *wants* with the meters of each name together."""
    by_name: dict[str, set[str]] = {}
    for name, meters in wants:
        by_name.setdefault(name, set()).update(meters)
    return tuple((name, tuple(sorted(by_name[name]))) for name in sorted(by_name))


def _never(_method: str | None, _paths: tuple[str, ...]) -> bool:
    """Match nothing: no request counts for the meter, so only holds take from its quotas."""
    return False


class _MeterFilter:
    """Which requests may count for a meter; *taken* is the name of what they take first, or empty."""

    def __init__(self, meter: Meter, taken: str) -> None:
        self.meter, self.taken = meter.name, taken
        self._may_match = may_match(meter) if meter.http or meter.event_type is not None else _never
        self.route = meter.route
        self._may_lead_there = None if self.route is None else may_lead_to(self.route)

    def applies_to(self, method: str | None, paths: tuple[str, ...], route: str | None) -> bool:
        if not self._may_match(method, paths):
            return False
        if self._may_lead_there is None:
            return True
        return any(map(self._may_lead_there, paths)) if route is None else route == self.route
