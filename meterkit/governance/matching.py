"""Which quotas and exemptions apply to a method and path; cached."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from meterkit.governance.policy import Governance
from meterkit.metering.matching import MAX_REMEMBERED, glob, may_match

T = TypeVar("T")


class RequestScope(NamedTuple):
    """
    The rules that apply to the requests of one method and path.

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
    """Finds the `RequestScope` of a method and path, and caches it."""

    def __init__(self, governance: Governance) -> None:
        self._exempt = [glob(path) for path in governance.exempt]
        self._quotas = [(quota, may_match(quota.meter)) for quota in governance.quotas]
        self._remembered: dict[tuple[str, str], RequestScope] = {}

    def of(self, method: str, path: str) -> RequestScope:
        """Return the rules that apply to such requests."""
        found = self._remembered.get((method, path))
        if found is None:
            found = self._match(method, path)
            if len(self._remembered) >= MAX_REMEMBERED:
                self._remembered = {}  # a new dict: another thread may be reading the old one
            self._remembered[method, path] = found
        return found

    def _match(self, method: str, path: str) -> RequestScope:
        found = [number for number, (_, matches) in enumerate(self._quotas) if matches(method, path)]
        return RequestScope(
            # Browsers send OPTIONS on their own.
            exempt=method == "OPTIONS" or any(matches(path) for matches in self._exempt),
            quotas=tuple(found),
            exact=any(self._quotas[number][0].exact for number in found),
        )
