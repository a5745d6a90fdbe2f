"""
Problems seen while serving, counted by reason and logged at most once a minute.

Nothing that happens while serving is raised through a request (promise 4), so it has to be seen here.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from dataclasses import dataclass

from meterkit.core import threads

log = logging.getLogger("meterkit")

QUIET_SECONDS = 60.0
"""How long one reason stays silent in the log after it was logged; it is counted all the while."""


@dataclass(slots=True)
class Problem:
    """
    One kind of trouble.

    Attributes:
        count: How often since this process started.
        message: The latest occurrence, with the cure.
        logged_at: ``time.monotonic()`` when it was last logged.
    """

    count: int
    message: str
    logged_at: float


class Problems:
    """Counts trouble by reason; safe from any thread, signal handler or logging handler."""

    def __init__(self) -> None:
        # Re-entrant, because a signal handler or finaliser may note something while this thread notes something.
        self._lock = threads.rlock()
        self._by_reason: dict[str, Problem] = {}

    def note(self, reason: str, message: str, *, level: int = logging.WARNING) -> None:
        """
        Count *reason*, and log *message* unless the same reason was logged a minute ago.

        The log call stands outside the lock: a handler may be slow, or count usage itself. It may also raise.
        """
        now = time.monotonic()
        with self._lock:
            problem = self._by_reason.get(reason)
            if problem is None:
                problem = self._by_reason[reason] = Problem(0, message, now - QUIET_SECONDS)
            problem.count += 1
            problem.message = message
            if now - problem.logged_at < QUIET_SECONDS:
                return
            problem.logged_at = now
            count = problem.count
        with suppress(Exception):
            log.log(level, "%s (%s, %d so far)", message, reason, count)

    def internal(self, error: Exception) -> None:
        """Metering itself failed with *error*, which goes no further."""
        told = f"metering failed with {shown(error)}; the response is unchanged. Please report this"
        self.note("internal_error", told)

    def clear(self, reason: str) -> None:
        """Forget *reason*: what it stood for works again."""
        with self._lock:
            self._by_reason.pop(reason, None)

    def after_fork(self) -> None:
        """Replace the lock, which another thread may have held at the fork, and start from nothing."""
        self._lock = threads.rlock()
        self._by_reason = {}

    def as_dict(self) -> dict[str, dict[str, str | int]]:
        """The problems so far: ``{reason: {"count": ..., "message": ...}}``."""
        with self._lock:
            return {
                reason: {"count": problem.count, "message": problem.message}
                for reason, problem in sorted(self._by_reason.items())
            }


def shown(error: Exception) -> str:
    """*error* as text; it is the application's code that shows it, and may fail at that, too."""
    try:
        return f"{error!r:.200}"
    except Exception:
        return type(error).__name__
