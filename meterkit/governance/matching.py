"""Which quotas and exemptions apply to a method and path; cached."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from meterkit.core.problems import Problems
from meterkit.governance.policy import Governance
from meterkit.metering.matching import MAX_REMEMBERED, may_match
from meterkit.metering.paths import Target, forms, is_unusual, path_filter, routed

T = TypeVar("T")


class RequestScope(NamedTuple):
    """
    The rules that apply to the requests of one method and target.

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
    """
    Finds the `RequestScope` of a method and target, and caches it.

    Args:
        governance: Rules of the kit.
        problems: Where paths that are exempt only with their prefix are reported.
    """

    def __init__(self, governance: Governance, problems: Problems) -> None:
        self._problems = problems
        self._exempt = [path_filter(path) for path in governance.exempt]
        self._quotas = [(quota, may_match(quota.meter)) for quota in governance.quotas]
        self._remembered: dict[tuple[str, Target], RequestScope] = {}

    def of(self, method: str, target: Target) -> RequestScope:
        """Return the rules that apply to such requests."""
        found = self._remembered.get((method, target))
        if found is None:
            found = self._match(method, target)
            if len(self._remembered) >= MAX_REMEMBERED:
                self._remembered = {}  # a new dict: another thread may be reading the old one
            self._remembered[method, target] = found
        return found

    def _match(self, method: str, target: Target) -> RequestScope:
        paths = forms(target)
        found = [number for number, (_, matches) in enumerate(self._quotas) if matches(method, paths)]
        return RequestScope(
            # Browsers send OPTIONS on their own.
            exempt=method == "OPTIONS" or self._is_exempt(target),
            quotas=tuple(found),
            exact=any(self._quotas[number][0].exact for number in found),
        )

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
