"""Figures about all companies, which may take long to compute: in a thread, and kept for the next page."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from meterkit.core import threads
from meterkit.core.threads import DaemonThread

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

PATIENCE = 0.6
"""Seconds that a page waits for new figures; after that, it shows the last ones, and when they were computed."""

MOST_KEPT = 64
"""Most figures of `KeptByKey`."""

REST = 10
"""Of what takes longer than `PATIENCE`: how many times as long it rests before it is computed again."""


@dataclass(frozen=True)
class Answer(Generic[T]):
    """
    Figures as far as they are known.

    Attributes:
        value: The figures; None while the first ones are computed.
        at: Unix second at which they were computed; 0 while there are none.
        is_old: Whether newer ones are not ready yet.
    """

    value: T | None
    at: int
    is_old: bool


class Kept(Generic[T]):
    """
    Computes figures in a thread, once for all who ask meanwhile.

    Args:
        compute: Function that returns them.
        clock: Function that returns Unix seconds.
    """

    def __init__(self, compute: Callable[[], T], *, clock: Callable[[], float]) -> None:
        self._compute = compute
        self._clock = clock
        self._reset()

    def _reset(self) -> None:
        self._in_this_process = threads.fork_marker()
        self._lock = threads.rlock()
        self._thread: DaemonThread | None = None
        self._value: T | None = None
        self._error: Exception | None = None
        self._at = 0
        self._rests_until = 0.0

    def get(self) -> Answer[T]:
        """
        Return the figures as they are now, or, if that takes long, the last ones.

        Raises:
            Exception: What computing them raised.
        """
        return self.wait(self.start(), PATIENCE)

    def start(self) -> DaemonThread | None:
        """Compute the figures in a thread, unless one does or they rest; return the thread, or None."""
        if not self._in_this_process[0]:  # forked: the thread is the parent's
            self._reset()
        with self._lock:
            if (self._thread is None or not self._thread.is_alive) and time.monotonic() >= self._rests_until:
                self._thread = None
                with suppress(RuntimeError):  # at the interpreter's shutdown
                    self._thread = DaemonThread(self._run, name="meterkit-pages")
            return self._thread

    def wait(self, thread: DaemonThread | None, seconds: float) -> Answer[T]:
        """
        Return the figures, after waiting for the *thread* of `start` for some *seconds* at most.

        Raises:
            Exception: What computing them raised.
        """
        is_done = thread is not None and thread.join(seconds)
        if self._error is not None and (is_done or self._value is None):
            raise self._error
        return Answer(self._value, self._at, not is_done)

    def _run(self) -> None:
        begun = time.monotonic()
        try:
            at = int(self._clock())
            self._value, self._at, self._error = self._compute(), at, None
        except Exception as error:
            self._error = error
        took = time.monotonic() - begun
        self._rests_until = time.monotonic() + (took * REST if took > PATIENCE else 0)


class KeptByKey(Generic[K, T]):
    """
    Computes figures for each of several choices, like `Kept`.

    Args:
        compute: Function that returns the figures of a choice.
        clock: Function that returns Unix seconds.
    """

    def __init__(self, compute: Callable[[K], T], *, clock: Callable[[], float]) -> None:
        self._compute = compute
        self._clock = clock
        self._kept: dict[K, Kept[T]] = {}

    def get(self, key: K) -> Answer[T]:
        """
        Return the figures of *key* as they are now, or, if that takes long, the last ones.

        Raises:
            Exception: What computing them raised.
        """
        kept = self._kept.pop(key, None) or Kept(lambda: self._compute(key), clock=self._clock)
        self._kept[key] = kept  # the last one now
        while len(self._kept) > MOST_KEPT:
            with suppress(KeyError, StopIteration, RuntimeError):  # another thread may have been here first
                self._kept.pop(next(iter(self._kept)))
        return kept.get()


def all_within_patience(*figures: Kept[Any]) -> list[Answer[Any]]:
    """
    Return several figures of one page, which waits for all of them no longer than for one.

    Raises:
        Exception: What computing one of them raised.
    """
    until = time.monotonic() + PATIENCE
    threads = [each.start() for each in figures]
    return [
        each.wait(thread, max(0.0, until - time.monotonic())) for each, thread in zip(figures, threads, strict=True)
    ]
