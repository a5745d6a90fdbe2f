"""
Operating-system threads, locks and events, also where gevent has patched the standard ones.

A patched thread is a greenlet: a transaction of the ledger in it would hold up every request of the worker. And a
patched lock belongs to a greenlet, while ours are shared with real threads. Nothing here holds a lock across a switch.
"""

from __future__ import annotations

import importlib
import mmap
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")

SWITCHES_AT_CALLS = (
    sys.implementation.name == "cpython"
    and sys.version_info < (3, 14)  # as far as has been looked at
    and getattr(sys, "_is_gil_enabled", lambda: True)()
)
"""
This Python lets other threads and signal handlers run where a function begins, after a call, and where it jumps back.

Between other instructions it does not (ceval.c: the "eval breaker"), so a few of them in a row need no lock; except
under a debugger whose own function is called for each line.
"""


def original(module: str, name: str) -> Any:
    """What *module* calls *name*, or called so before gevent patched it."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None:
        return monkey.get_original(module, name)
    return getattr(importlib.import_module(module), name)


def lock() -> threading.Lock:
    """A lock between threads."""
    made: threading.Lock = original("_thread", "allocate_lock")()
    return made


def rlock() -> threading.RLock:
    """A lock that its thread can take again, in a signal handler or a finaliser for example."""
    made: threading.RLock = original("_thread", "RLock")()
    return made


def thread_id() -> int:
    """Which thread this is."""
    found: int = original("_thread", "get_ident")()
    return found


def fork_marker() -> memoryview | _Pid:
    """
    What has something true at 0 in this process, and not in one that is forked off it, by whatever means.

    The kernel gives a forked child zeros for such a page, so that nobody need ask for the process id, which takes
    longer than to count a request.
    """
    page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    try:
        page.madvise(_WIPE_ON_FORK)
    except (OSError, ValueError):  # no Linux, or one before 4.14
        return _Pid()
    page[0] = 1
    return memoryview(page)


_WIPE_ON_FORK = 18
"""Linux: MADV_WIPEONFORK, which Python has no name for."""


class _Pid:
    def __init__(self) -> None:
        self._pid = os.getpid()

    def __getitem__(self, _index: int) -> bool:
        return os.getpid() == self._pid


def yielding(items: Iterable[T]) -> Iterator[T]:
    """
    *items*, with pauses in which other threads get the interpreter.

    A thread that computes keeps it for 5 ms at a time (``sys.getswitchinterval()``), which requests would wait for.
    """
    pause = original("time", "sleep")
    for number, item in enumerate(items, 1):
        if not number % _IN_A_ROW:
            pause(_PAUSE_SECONDS)
        yield item


def free_gradually(items: list[Any]) -> None:
    """Empty *items*, with such pauses: to free a hundred thousand takes some milliseconds, too."""
    for _ in yielding(range(0, len(items), _FREED)):
        del items[-_FREED:]


_FREED = 10
"""Items: in the time of one that is worked at."""

_IN_A_ROW = 1500
"""Items: a millisecond's work."""

_PAUSE_SECONDS = 1e-5
"""With what the system adds, enough for another thread to wake up; for a hundred thousand items, 10 ms."""


class WakeUp:
    """Wakes one waiter. To ring it is safe in a signal handler, which ``threading.Event.set()`` is not."""

    def __init__(self) -> None:
        self._lock = lock()
        self._lock.acquire()

    def ring(self) -> None:
        """Wake who waits, or the next who will."""
        with suppress(RuntimeError):  # it has been rung, and nobody has come yet
            self._lock.release()

    def wait(self, timeout: float) -> bool:
        """Whether it rang within so many seconds."""
        return self._lock.acquire(timeout=timeout)


class Event:
    """Once set, it stays so, and nobody waits for it any more."""

    def __init__(self) -> None:
        self._bell = WakeUp()
        self._is_set = False

    def set(self) -> None:
        """Let all go on."""
        self._is_set = True
        self._bell.ring()

    def is_set(self) -> bool:
        """Whether it is."""
        return self._is_set

    def wait(self, timeout: float) -> bool:
        """Whether it was set within so many seconds."""
        if self._bell.wait(timeout):
            self._bell.ring()  # for the next
        return self._is_set


class DaemonThread:
    """
    A thread that an exit does not wait for.

    Args:
        work: What it does.
        name: For debuggers.

    Raises:
        RuntimeError: No thread can be started, as in some Pythons while the interpreter ends.
    """

    def __init__(self, work: Callable[[], None], *, name: str) -> None:
        self._work = work
        self._ended = Event()
        self._id = 0
        monkey = sys.modules.get("gevent.monkey")
        if monkey is not None and monkey.is_module_patched("threading"):
            original("_thread", "start_new_thread")(self._run, ())
        else:
            threading.Thread(target=self._run, name=name, daemon=True).start()

    @property
    def is_alive(self) -> bool:
        """It has not ended."""
        return not self._ended.is_set()

    @property
    def is_current(self) -> bool:
        """This very thread is it."""
        return self._id == thread_id()

    def join(self, timeout: float) -> bool:
        """Whether it ended within so many seconds."""
        return self._ended.wait(timeout)

    def _run(self) -> None:
        self._id = thread_id()
        try:
            self._work()
        finally:
            self._ended.set()


async def in_thread(call: Callable[[], T]) -> T:
    """Return what *call* returns, while the event loop, asyncio's or trio's, serves others."""
    from anyio import to_thread  # which httpx requires; a WSGI app never gets here

    return await to_thread.run_sync(call)
