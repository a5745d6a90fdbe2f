"""A periodic background task with backoff."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

from meterkit.core.threads import DaemonThread

FIRST_RETRY_SECONDS = 60.0
"""Delay after the first failure; doubled after each further one, up to the task's longest interval."""


class PeriodicTask:
    """
    Work that is repeated, each time in a new thread.

    Args:
        work: Function that does the work, and returns when it is due again, as a ``time.monotonic()`` value.
        name: Name of the thread.
        longest: Longest interval between two attempts, in seconds, however often it fails.
    """

    def __init__(self, work: Callable[[], float], name: str, longest: float) -> None:
        self._work = work
        self._name = name
        self._longest = longest
        self._thread: DaemonThread | None = None
        self._due = time.monotonic()  # at once: an earlier process may have left work
        self._retry_seconds = FIRST_RETRY_SECONDS

    def start_if_due(self) -> None:
        """Start the work, unless it is running or not due."""
        if time.monotonic() < self._due or (self._thread is not None and self._thread.is_alive):
            return
        with suppress(RuntimeError):  # at interpreter shutdown
            self._thread = DaemonThread(self._run, name=self._name)

    def hasten(self, seconds: float) -> None:
        """Make the work due in *seconds* at the latest."""
        self._due = min(self._due, time.monotonic() + seconds)

    def after_failure(self) -> float:
        """Return when to try again after a failure, as a ``time.monotonic()`` value, and double the next delay."""
        seconds = self._retry_seconds
        self._retry_seconds = min(2 * seconds, self._longest)
        return time.monotonic() + seconds

    def succeeded(self) -> None:
        """Reset the delay: the next failure counts as the first."""
        self._retry_seconds = FIRST_RETRY_SECONDS

    def join(self, seconds: float) -> bool:
        """Wait at most *seconds* for the thread, and return whether it has ended."""
        return self._thread is None or self._thread.join(seconds)

    def _run(self) -> None:
        self._due = time.monotonic() + self._longest
        self._due = self._work()
