"""
Adaptive pool of connections: doubles while all goes well, halves when throttled.

How many are used is found out as TCP does it: one at first, twice as many after each answer as long as all goes well,
half as many when Stripe says that it is too much. So a sandbox with its 25 requests a second gets few, and a live
account what it takes. More lanes are for more waiting at a time: where they compute for most of it, they would only
take turns, and the interpreter from the requests that the process serves.
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
"""Lanes. With answers after 100 ms they make 320 requests a second; Stripe takes 1,000 meter events, of all callers."""

MOST_COMPUTING = 0.5
"""Share of the time for which all lanes together compute, up to which more may be used."""

SMOOTHED_OVER = 4
"""Answers, because any one may come sooner or later by chance."""

Work: TypeAlias = Callable[[StripeClient], bool]
"""Does something, and answers whether all went well."""


class WorkerPool:
    """
    Does several things at a time.

    Args:
        api_key: Stripe's secret key.
        base: Stripe's base address; None for the real one.

    Attributes:
        client: For calls outside; the thread that makes them is the first lane.
    """

    def __init__(self, api_key: str, base: str | None) -> None:
        # One for all: to read the certificates takes longer than all the rest.
        self._connect = partial(connect, api_key, base, tls=httpx.create_ssl_context())
        self.client, self._http = self._connect()
        self._free: list[_Lane] = []
        self._busy: list[_Lane] = []
        self._width = 1
        self._share = 1.0
        self._users = 0

    @contextmanager
    def open(self) -> Iterator[None]:
        """Keep the lanes until the end of the block."""
        self._users += 1  # a signal handler may report amidst a report
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                free, self._free = self._free, []
                for lane in free:
                    lane.end()

    def run(self, work: Iterable[Work]) -> None:
        """Do all *work*, each once, in this thread and some others. Returns when the last is done."""
        todo = list(work)
        left = iter(todo)
        with self._taking(left) as others:
            self._take(min(self._width, len(todo)), others, left)
            for each in left:
                begun, computed = perf_counter(), thread_time()
                went_well = each(self.client)
                share = (thread_time() - computed) / max(perf_counter() - begun, 1e-6)
                self._share += (share - self._share) / SMOOTHED_OVER
                if went_well and self._share * self._width < MOST_COMPUTING:
                    self._width = min(2 * self._width, MOST)
                    self._take(min(self._width, len(todo)), others, left)

    def narrow(self) -> None:
        """It was too much, or nobody answers."""
        self._width = max(1, self._width // 2)

    def hang_up(self) -> None:
        """End calls that take too long; for a thread that looks after those that wait."""
        for http in (self._http, *(lane.http for lane in list(self._busy))):
            http.hang_up()

    def close(self) -> None:
        """Close the connection that stays open."""
        self._http.close()

    @contextmanager
    def _taking(self, work: Iterator[Work]) -> Iterator[list[_Lane]]:
        """A list for lanes that take part in *work*; at the end of the block, all have done what they took."""
        taken: list[_Lane] = []
        try:
            yield taken
            for lane in taken:
                lane.wait()
        except BaseException:
            for _ in work:  # nothing more is begun
                pass
            for lane in taken:  # some may be at work still
                lane.end()
            raise
        else:
            self._free += taken
        finally:
            self._busy = [lane for lane in self._busy if lane not in taken]

    def _take(self, number: int, taken: list[_Lane], work: Iterator[Work]) -> None:
        """Let so many lanes, with this thread's, take part in *work*; no other run uses them meanwhile."""
        with suppress(RuntimeError):  # the interpreter ends, and starts no more threads
            while len(taken) + 1 < number:
                lane = self._free.pop() if self._free else _Lane(*self._connect())
                taken.append(lane)
                self._busy.append(lane)
                lane.begin(work)


class _Lane:
    """A thread and its connection."""

    def __init__(self, client: StripeClient, http: HTTPXClient) -> None:
        self.http = http
        self._broken: BaseException | None = None
        self._client = client
        self._work: Iterator[Work] | None = None
        self._is_last = False
        self._asked, self._done = WakeUp(), WakeUp()
        self._worker = DaemonThread(self._serve, name="meterkit-lane")

    def begin(self, work: Iterator[Work]) -> None:
        """Take part in *work*, which others take from as well."""
        self._work = work
        self._asked.ring()

    def wait(self) -> None:
        """Until there is nothing left to take, and what was taken is done. Raises what that has raised."""
        while not self._done.wait(60.0):
            pass
        if self._broken is not None:
            raise self._broken

    def end(self) -> None:
        """There is no more to do after this."""
        self._is_last = True
        self._asked.ring()

    def _serve(self) -> None:
        while not self._is_last:
            while not self._asked.wait(60.0):
                pass
            work, self._work = self._work, None
            if work is not None:
                try:
                    for each in work:
                        each(self._client)
                except BaseException as error:
                    self._broken = error
                self._done.ring()
        self.http.close()
