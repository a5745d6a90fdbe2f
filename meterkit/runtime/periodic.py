"""A periodic background task with backoff."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

from meterkit.core.threads import DaemonThread

FIRST_RETRY_SECONDS = 60.0
"""After something that Stripe did not do; doubled each time, up to the report interval."""


class PeriodicTask:
    """
    Work that is done again and again, in a thread that ends each time.

    Args:
        work: Does it, and answers when it is due again, by ``time.monotonic()``.
        name: Of the thread.
        longest: Seconds between two attempts, however often it fails.
    """

    def __init__(self, work: Callable[[], float], name: str, longest: float) -> None:
        self._work = work
        self._name = name
        self._longest = longest
        self._thread: DaemonThread | None = None
        self._due = time.monotonic()  # at once: a former process may have left something
        self._retry_seconds = FIRST_RETRY_SECONDS

    def start_if_due(self) -> None:
        """Begin, unless it is under way, or not due."""
        if time.monotonic() < self._due or (self._thread is not None and self._thread.is_alive):
            return
        with suppress(RuntimeError):  # at interpreter shutdown
            self._thread = DaemonThread(self._run, name=self._name)

    def hasten(self, seconds: float) -> None:
        """It is due in so many seconds, if not before."""
        self._due = min(self._due, time.monotonic() + seconds)

    def after_failure(self) -> float:
        """When it is due again."""
        seconds = self._retry_seconds
        self._retry_seconds = min(2 * seconds, self._longest)
        return time.monotonic() + seconds

    def succeeded(self) -> None:
        """The next failure is a first one."""
        self._retry_seconds = FIRST_RETRY_SECONDS

    def join(self, seconds: float) -> bool:
        """Whether it is over, after so many seconds at most."""
        return self._thread is None or self._thread.join(seconds)

    def _run(self) -> None:
        self._due = time.monotonic() + self._longest
        self._due = self._work()
