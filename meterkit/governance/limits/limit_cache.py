"""The limit that a quota sets for each company; without news, the application is called once in ten minutes."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from meterkit.core.problems import Problems
from meterkit.governance.policy import Quota

KEPT_SECONDS = 600
"""How long the result of a ``limit=`` function holds without news of the company; it may follow from a plan."""

RETRY_SECONDS = 60
"""How long a ``limit=`` function that raised for a company is not called again; the previous limit holds meanwhile."""


class _Limit(NamedTuple):
    value: int | None
    until: float  # Unix second at which the function is called again


class LimitCache:
    """
    The limits of one quota. The only caller of its ``limit=`` function.

    Safe for several threads. No lock is held while the function runs, so two threads may call it at the same time.

    Args:
        quota: Quota whose limits these are.
        clock: Function that returns Unix seconds.
        problems: Where a ``limit=`` function that raises is reported.
    """

    def __init__(self, quota: Quota, *, clock: Callable[[], float], problems: Problems) -> None:
        self.quota = quota
        self._clock = clock
        self._problems = problems
        self._known: dict[str, _Limit] = {}
        self._next_refresh = 0.0
        self._changed: set[str] = set()

    def known(self, company: str) -> int | None:
        """Return the limit of *company* without calling the application; None if it has none, or none is known yet."""
        if not callable(self.quota.limit):
            return self.quota.limit
        found = self._known.get(company)
        return None if found is None else found.value

    def get(self, company: str) -> int | None:
        """
        Return the limit of *company*, and call the application if it is not known or has expired. Never raises.

        Returns:
            None for no limit. If the function raises: the previous limit, or None if there is none.
        """
        if not callable(self.quota.limit):
            return self.quota.limit
        found = self._known.get(company)
        return found.value if found is not None and self._clock() < found.until else self._call(company, found)

    def applies_to(self, company: str) -> bool:  # noqa: ARG002 - that of a plan does not apply to everybody
        """Return whether *company* has such a quota at all."""
        return True

    def refresh(self, companies: Iterable[str], *, anew: Iterable[str] = ()) -> None:
        """
        Get the limits of *companies*, and renew all that expire soon. For a background thread, never a request.

        Args:
            companies: Companies that may have no limit yet.
            anew: Companies whose limit, if it is known, may have changed: the application is called at once.
        """
        if not callable(self.quota.limit):
            return
        now = self._clock()
        for company in anew:
            known = self._known.get(company)
            if known is not None:
                self._call(company, known)
        for company in companies:
            self.get(company)
        if not self._next_refresh - RETRY_SECONDS <= now < self._next_refresh:  # also after a clock that stepped back
            self._next_refresh = now + RETRY_SECONDS
            for company, found in list(self._known.items()):
                if found.until <= self._next_refresh:
                    self._call(company, found)

    def take_changed(self) -> set[str]:
        """Return the companies whose limit has changed since the last call."""
        changed, self._changed = self._changed, set()
        return changed

    def forget(self) -> None:
        """Forget all limits; the application is asked again."""
        self._known, self._next_refresh, self._changed = {}, 0.0, set()

    def _call(self, company: str, previous: _Limit | None) -> int | None:
        assert callable(self.quota.limit)
        now = self._clock()
        try:
            found = _Limit(_whole(self.quota.limit(company)), now + KEPT_SECONDS)
        except Exception as error:
            self._problems.note(
                "limit_raised",
                f"{self.quota}: limit= raised {error!r:.200} for {company!r:.100}",
                level=logging.ERROR,
                error=error,
                company=company,
            )
            found = _Limit(None if previous is None else previous.value, now + RETRY_SECONDS)
        self._known[company] = found
        if previous is None or previous.value != found.value:
            self._changed.add(company)
        return found.value


def _whole(limit: Any) -> int | None:
    """
    Return *limit* as a whole number that blocks the same: so many units may be used before the next one is too many.

    Raises:
        TypeError, ValueError: It is no number.
    """
    if limit is None or limit == math.inf:
        return None
    return max(0, limit if isinstance(limit, int) else math.ceil(limit))
