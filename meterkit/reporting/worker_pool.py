"""
Adaptive pool of connections: doubles while all goes well, halves when throttled.

The size adapts like TCP's window: one connection at first, twice as many after each success, half as many when Stripe
throttles. So a sandbox account with its 25 requests a second gets few, and a live account as many as it accepts. More
connections help only while they wait for Stripe: once they mostly compute, they would compete with each other, and with
the requests that the process serves, for the interpreter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from time import perf_counter, thread_time
from typing import TypeAlias

import httpx

from meterkit.core.threads import DaemonThread, WakeUp
from meterkit.stripe_api.transport import HTTPXClient, StripeClient, connect

MOST = 32
"""Most connections. At 100 ms per response they make 320 requests a second; Stripe accepts 1,000 from all callers."""

MOST_COMPUTING = 0.5
"""Share of the time that all connections together may spend computing before the pool stops growing."""

SMOOTHED_OVER = 4
"""Number of responses over which that share is smoothed."""

Work: TypeAlias = Callable[[StripeClient], bool]
"""Function that makes a call with a client, and returns whether it went well."""


class WorkerPool:
    """
    Runs calls to Stripe in parallel.

    Args:
        api_key: Secret key of the Stripe account.
        base: Base URL of Stripe's API; None for the real one.
        account: Connected account in which the calls act; None for the key's own.
        reads_only: Function that returns whether everything but reading is refused now.

    Attributes:
        client: Client of the calling thread, which is the first worker; also for calls outside the pool.
    """

    def __init__(
        self, api_key: str, base: str | None, account: str | None = None, *, reads_only: Callable[[], bool]
    ) -> None:
        # One TLS context for all: reading the certificates takes longer than everything else.
        tls = httpx.create_ssl_context()
        self._connect = partial(connect, api_key, base, reads_only=reads_only, account=account, tls=tls)
        self.client, self._http = self._connect()
        self._free: list[_Worker] = []
        self._busy: list[_Worker] = []
        self._size = 1
        self._share = 1.0
        self._users = 0

    @contextmanager
    def open(self) -> Iterator[None]:
        """Keep the workers until the end of the block."""
        self._users += 1  # a signal handler may report during a report
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                free, self._free = self._free, []
                for worker in free:
                    worker.end()

    def run(self, work: Iterable[Work]) -> None:
        """Do all *work*, each once, in this thread and the workers. Return when all of it is done."""
        todo = list(work)
        left = iter(todo)
        with self._sharing(left) as workers:
            self._add_workers(min(self._size, len(todo)), workers, left)
            for each in left:
                begun, computed = perf_counter(), thread_time()
                went_well = each(self.client)
                share = (thread_time() - computed) / max(perf_counter() - begun, 1e-6)
                self._share += (share - self._share) / SMOOTHED_OVER
                if went_well and self._share * self._size < MOST_COMPUTING:
                    self._size = min(2 * self._size, MOST)
                    self._add_workers(min(self._size, len(todo)), workers, left)

    def shrink(self) -> None:
        """Halve the pool, because Stripe throttles or does not respond."""
        self._size = max(1, self._size // 2)

    def hang_up(self) -> None:
        """End calls that take too long; for a thread that watches those that wait."""
        for http in (self._http, *(worker.http for worker in list(self._busy))):
            http.hang_up()

    def close(self) -> None:
        """Close the connection of the calling thread."""
        self._http.close()

    @contextmanager
    def _sharing(self, work: Iterator[Work]) -> Iterator[list[_Worker]]:
        """Provide a list for workers that share *work*; the block ends when they have finished what they took."""
        workers: list[_Worker] = []
        try:
            yield workers
            for worker in workers:
                worker.wait()
        except BaseException:
            for _ in work:  # start nothing more
                pass
            for worker in workers:  # some may still be working
                worker.end()
            raise
        else:
            self._free += workers
        finally:
            self._busy = [worker for worker in self._busy if worker not in workers]

    def _add_workers(self, number: int, workers: list[_Worker], work: Iterator[Work]) -> None:
        """Add workers for *work* until there are *number*, including this thread. No other run uses them meanwhile."""
        with suppress(RuntimeError):  # the interpreter is shutting down, and starts no threads
            while len(workers) + 1 < number:
                worker = self._free.pop() if self._free else _Worker(*self._connect())
                workers.append(worker)
                self._busy.append(worker)
                worker.begin(work)


class _Worker:
    """A thread with its own connection."""

    def __init__(self, client: StripeClient, http: HTTPXClient) -> None:
        self.http = http
        self._error: BaseException | None = None
        self._client = client
        self._work: Iterator[Work] | None = None
        self._ending = False
        self._start, self._finished = WakeUp(), WakeUp()
        self._thread = DaemonThread(self._serve, name="meterkit-lane")

    def begin(self, work: Iterator[Work]) -> None:
        """Start to share *work* with the other workers."""
        self._work = work
        self._start.ring()

    def wait(self) -> None:
        """Wait until there is no more work and this worker has finished. Raise what the work has raised."""
        while not self._finished.wait(60.0):
            pass
        if self._error is not None:
            raise self._error

    def end(self) -> None:
        """End the thread after its current work."""
        self._ending = True
        self._start.ring()

    def _serve(self) -> None:
        while not self._ending:
            while not self._start.wait(60.0):
                pass
            work, self._work = self._work, None
            if work is not None:
                try:
                    for each in work:
                        each(self._client)
                except BaseException as error:
                    self._error = error
                self._finished.ring()
        self.http.close()
