"""
Operating-system threads, locks and events, also where gevent has patched the standard ones.

A patched thread is a greenlet: a ledger transaction in it would block every request of the worker. And a patched lock
belongs to a greenlet, whereas meterkit's are shared with real threads. No lock is held across a greenlet switch.
"""

from __future__ import annotations

import importlib
import mmap
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, TypeVar, cast

T = TypeVar("T")

SWITCHES_AT_CALLS = (
    sys.implementation.name == "cpython"
    and sys.version_info < (3, 14)  # not verified in later versions
    and getattr(sys, "_is_gil_enabled", lambda: True)()
)
"""
Whether this Python switches to other threads and signal handlers only where a function starts, after a call, and where
code jumps back.

Never between other instructions (ceval.c: the "eval breaker"), so a few of those in a row need no lock, except under a
debugger, whose trace function is called for each line.
"""


def original(module: str, name: str) -> Any:
    """Return the attribute *name* of *module*, as it was before gevent patched it."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None:
        return monkey.get_original(module, name)
    return getattr(importlib.import_module(module), name)


def lock() -> threading.Lock:
    """Return a lock for operating-system threads."""
    made: threading.Lock = original("_thread", "allocate_lock")()
    return made


def barrier() -> None:
    """
    Have all that this thread has stored or read before seen before all that follows.

    On ARM, other processes may otherwise see it in any order. It is the release of a lock, and its acquisition after
    that; the lock is a new one, because another thread may hold a shared one while the process forks.
    """
    fence = lock()
    fence.acquire()
    fence.release()
    fence.acquire()


def rlock() -> threading.RLock:
    """Return a lock that its thread can acquire again, for example in a signal handler or a finaliser."""
    made: threading.RLock = original("_thread", "RLock")()
    return made


def thread_id() -> int:
    """Return the id of the current thread."""
    found: int = original("_thread", "get_ident")()
    return found


def fork_marker() -> memoryview | _Pid:
    """
    Return an object whose item 0 is true in this process, and false in any process forked from it, in whatever way.

    The kernel zeroes such a page in a forked child, so there is no need to get the process id, which takes longer than
    counting a request.
    """
    page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    try:
        page.madvise(_WIPE_ON_FORK)
    except (OSError, ValueError):  # not Linux, or older than 4.14
        return _Pid()
    page[0] = 1
    return memoryview(page)


_WIPE_ON_FORK = 18
"""Linux: MADV_WIPEONFORK, for which Python has no constant."""


class _Pid:
    def __init__(self) -> None:
        self._pid = os.getpid()

    def __getitem__(self, _index: int) -> bool:
        return os.getpid() == self._pid


def yielding(items: Iterable[T], *, every: int = 1500) -> Iterator[T]:
    """
    Yield *items*, with pauses in which other threads get the interpreter.

    A thread that computes keeps the interpreter for 5 ms at a time (``sys.getswitchinterval()``), and requests would
    have to wait.

    Args:
        items: Items to yield.
        every: Number of items that take about a millisecond to process, after which there is a pause.
    """
    pause = original("time", "sleep")
    for number, item in enumerate(items, 1):
        if not number % every:
            pause(_PAUSE_SECONDS)
        yield item


def free_gradually(items: list[Any]) -> None:
    """Empty *items* with the same pauses: freeing a hundred thousand items takes milliseconds, too."""
    for _ in yielding(range(0, len(items), _FREED_AT_ONCE)):
        del items[-_FREED_AT_ONCE:]


_FREED_AT_ONCE = 10
"""Items that are freed in the time that processing one item takes."""

_PAUSE_SECONDS = 1e-5
"""Long enough, with the system's overhead, for another thread to wake up; 10 ms in total per hundred thousand items."""


class WakeUp:
    """Wakes one waiting thread. `ring` is safe in a signal handler, unlike ``threading.Event.set()``."""

    def __init__(self) -> None:
        self._lock = lock()
        self._lock.acquire()

    def ring(self) -> None:
        """Wake the thread that waits, or the next one that will."""
        with suppress(RuntimeError):  # already rung, and no thread has waited since
            self._lock.release()

    def wait(self, timeout: float) -> bool:
        """Wait for `ring`, at most *timeout* seconds; return whether it was called."""
        return self._lock.acquire(timeout=timeout)


class Event:
    """A flag that threads can wait for. Once set, it stays set."""

    def __init__(self) -> None:
        self._wake_up = WakeUp()
        self._is_set = False

    def set(self) -> None:
        """Set the flag, and wake all waiting threads."""
        self._is_set = True
        self._wake_up.ring()

    def is_set(self) -> bool:
        """Return whether the flag is set."""
        return self._is_set

    def wait(self, timeout: float) -> bool:
        """Wait for `set`, at most *timeout* seconds; return whether the flag is set."""
        if self._wake_up.wait(timeout):
            self._wake_up.ring()  # pass it on to the next thread
        return self._is_set


class DaemonThread:
    """
    A thread that does not keep the process from exiting.

    Args:
        work: Function that the thread runs.
        name: Name of the thread, for debuggers.

    Raises:
        RuntimeError: No thread can be started, as in some Python versions while the interpreter shuts down.
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
        """Whether the thread has not ended."""
        return not self._ended.is_set()

    @property
    def is_current(self) -> bool:
        """Whether this is the calling thread."""
        return self._id == thread_id()

    def join(self, timeout: float) -> bool:
        """Wait for the thread to end, at most *timeout* seconds; return whether it has ended."""
        return self._ended.wait(timeout)

    def _run(self) -> None:
        self._id = thread_id()
        try:
            self._work()
        finally:
            close_django_connections()
            self._ended.set()


def without_greenlets(call: Callable[[], T]) -> T:
    """
    Return the result of *call*, during which no other greenlet of this thread runs, which its locks would not stop.

    Where gevent has patched Python, that takes a thread, which the whole worker waits for.
    """
    monkey = sys.modules.get("gevent.monkey")
    if monkey is None or not (monkey.is_module_patched("socket") or monkey.is_module_patched("threading")):
        return call()
    results: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(call())
        except BaseException as error:
            errors.append(error)

    DaemonThread(work, name="meterkit-call").join(-1)
    if errors:
        raise errors[0]
    return results[0]


async def in_thread(call: Callable[[], T]) -> T:
    """Run *call* in a thread without blocking the event loop, asyncio's or trio's, and return its result."""
    from anyio import to_thread  # installed with httpx; only async apps get here

    def closing_connections() -> T:
        try:
            return call()
        finally:
            close_django_connections()

    return await to_thread.run_sync(closing_connections)


def run_async(call: Callable[[], Awaitable[T]]) -> T:
    """
    Run what *call* returns to completion, and return its result. For code without an event loop, such as a WSGI app's.

    All calls of a process share one event loop, in a thread of its own: connections that an async client keeps open
    belong to the loop that opened them. It sees the context variables of the caller.

    Raises:
        RuntimeError: The caller runs in an event loop, which would stand still; or in a greenlet of gevent, where
            asyncio does not work.
    """
    import asyncio

    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("threading"):
        raise RuntimeError("asyncio does not work where gevent has patched threads; make it a plain function")
    if asyncio._get_running_loop() is not None:  # noqa: SLF001 - documented, and the public one raises
        raise RuntimeError("it is async, and was called where an event loop would have to stand still")
    return _completed(call, "meterkit-async")


def in_network_loop(call: Callable[[], Awaitable[T]]) -> T:
    """
    Run what *call* returns, meterkit's own, to completion, and return its result. Blocks the caller, like any I/O.

    The event loop is not that of `run_async`: what an application does there must not delay it.

    Raises:
        RuntimeError: gevent has patched threads.
    """
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("threading"):
        raise RuntimeError("asyncio does not work where gevent has patched threads")
    return _completed(call, "meterkit-network")


def _completed(call: Callable[[], Awaitable[T]], loop: str) -> T:
    import asyncio

    async def awaited() -> T:
        return await call()

    found, is_running = _loop_of_process(loop)
    if not is_running:
        return cast("T", found.run_until_complete(awaited()))
    future = asyncio.run_coroutine_threadsafe(awaited(), found)
    try:
        return future.result()
    except BaseException:
        future.cancel()  # a signal handler may have ended the wait
        raise


_loops: dict[tuple[int, str], tuple[Any, bool]] = {}
"""
Event loops by process id and name, and whether a thread runs them.

A forked child has its parent's loops, but not the threads.
"""


def _loop_of_process(name: str) -> tuple[Any, bool]:
    import asyncio

    key = (os.getpid(), name)
    found = _loops.get(key)
    if found is None:
        made = asyncio.new_event_loop()
        found = _loops.setdefault(key, (made, True))
        if found[0] is not made:  # another thread was faster
            made.close()
        else:
            try:
                DaemonThread(made.run_forever, name=name)
            except RuntimeError:  # at interpreter shutdown; the caller runs it, call by call
                found = _loops[key] = (made, False)
    return found


def close_django_connections() -> None:
    """
    Close this thread's connections of Django's ORM. For threads that are meterkit's own, after the application's code.

    Django closes those of the threads that serve requests, and knows of no others. One that is kept would be idle for
    ever, would fail for ever after the database has restarted, and would keep a test's database from being dropped.
    """
    database = sys.modules.get("django.db")
    if database is not None:
        with suppress(Exception):  # Django may be imported and not set up
            database.connections.close_all()
