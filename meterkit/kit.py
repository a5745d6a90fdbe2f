"""
Wiring: the kit, which a developer builds once and hands to the middleware.

Building it checks the configuration and does nothing else: no thread, no file, no socket. The first exchange that
counts starts the process's `meterkit.flusher.Flusher`, in a forked child as well.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from meterkit import native
from meterkit.configuration import (
    Settings,
    check_clock,
    check_identify,
    checked_base,
    checked_directory,
    checked_key,
    checked_ledger,
    checked_meters,
    checked_prices,
    positive,
)
from meterkit.counting import Cell, Counting, Identify
from meterkit.errors import UsageError
from meterkit.flusher import Flusher
from meterkit.journal import ClosedJournalError
from meterkit.limits import checked_id
from meterkit.meter import Meter
from meterkit.pricing import Price
from meterkit.problems import Problems
from meterkit.rulebook import Rulebook

if TYPE_CHECKING:
    from meterkit.ledger import Usage
    from meterkit.outbox import Summary


class MeterKit:
    """
    Counts usage, keeps it, and reports it to Stripe.

    Args:
        meters: Which exchanges count, and for how much.
        prices: What they cost; each for one of the meters.
        identify: Who pays: ``Exchange -> str | Identity | None``, called once for each exchange that counts, unless
            the view called ``meterkit.identify()``. Answer what you have authenticated: whoever may choose the
            answer by sending a header chooses who pays.
        stripe_key: Stripe's secret key, by default from ``STRIPE_SECRET_KEY``. Without one, usage is counted and
            kept, and not reported.
        stripe_base: Another address for Stripe's API, by default from ``METERKIT_STRIPE_BASE``: the sandbox's.
        data_dir: A directory of this host for the journal and the ledger, by default from ``METERKIT_DATA_DIR``,
            or ``.meterkit``. Processes that share it share the usage in it.
        ledger: SQLAlchemy's URL of the ledger, by default from ``METERKIT_LEDGER``, or SQLite in *data_dir*.
        flush_interval: Seconds between two moves from the journal to the ledger: what a power cut may lose.
        report_interval: Seconds between two reports to Stripe.
        clock: Unix time in seconds.

    Attributes:
        meters: By name.
        prices: In their order.
        counting: What the middleware calls.

    Raises:
        ConfigurationError: Something is wrong; the message says how to mend it.
    """

    def __init__(
        self,
        *,
        meters: Iterable[Meter],
        prices: Iterable[Price] = (),
        identify: Identify | None = None,
        stripe_key: str | None = None,
        stripe_base: str | None = None,
        data_dir: str | os.PathLike[str] | None = None,
        ledger: str | None = None,
        flush_interval: float = 5.0,
        report_interval: float = 3600.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.meters = checked_meters(meters)
        self.prices = checked_prices(prices, self.meters)
        check_identify(identify)
        check_clock(clock)
        directory = checked_directory(data_dir or os.environ.get("METERKIT_DATA_DIR") or ".meterkit")
        self._settings = Settings(
            data_dir=directory,
            ledger=checked_ledger(
                ledger or os.environ.get("METERKIT_LEDGER") or f"sqlite:///{directory}/ledger.sqlite"
            ),
            stripe_key=checked_key(stripe_key or os.environ.get("STRIPE_SECRET_KEY") or None),
            stripe_base=checked_base(stripe_base or os.environ.get("METERKIT_STRIPE_BASE") or None),
            flush_interval=positive(flush_interval, "flush_interval"),
            report_interval=positive(report_interval, "report_interval"),
            clock=clock,
        )
        self._problems = Problems()
        self._flusher: Flusher | None = None
        # One for each process, because a fork may happen while a thread of the parent's holds the parent's.
        # Re-entrant, because a signal handler may count.
        self._starting: dict[int, threading.RLock] = {}
        self._starter: int | None = None  # the thread that is starting or finding the flusher
        self._early: deque[tuple[list[tuple[Cell, int]], int]] = deque()  # what its signal handlers count meanwhile
        rulebook = Rulebook(self.meters.values())
        self.counting = Counting(rulebook=rulebook, identify=identify, sink=self, problems=self._problems, clock=clock)
        _kits.add(self)

    def __repr__(self) -> str:
        key = self._settings.stripe_key
        masked = None if key is None else f"{key[:8] if key.startswith(('sk_', 'rk_')) else ''}..."
        return f"MeterKit(meters={list(self.meters)}, stripe_key={masked!r}, data_dir={str(self._settings.data_dir)!r})"

    def record(self, meter: Meter | str, company: str, quantity: int = 1, *, user: str | None = None) -> None:
        """
        Count work that is no HTTP exchange: a job, a message, a night's storage.

        Args:
            meter: The meter, or its name.
            company: The id of the company that pays.
            quantity: 0 to 999,999,999,999,999, in the meter's unit.
            user: The id of the user within the company.

        Raises:
            UsageError: An argument cannot be counted; nothing was.
        """
        name = meter.name if isinstance(meter, Meter) else meter
        if not isinstance(name, str) or name not in self.meters:
            raise UsageError(
                f"this kit has no meter {name!r:.120}, only {', '.join(self.meters)}", reason="meter_unknown"
            )
        self.counting.record(self.meters[name], company, quantity, user)

    def link(self, company: str, customer: str) -> None:
        """
        Say which Stripe customer pays for *company*. What waits for this is sent with the next report.

        A company id that is a Stripe customer id (``cus_...``) needs no link. Talks to the ledger: not for views.

        Args:
            company: As the application knows it.
            customer: ``cus_...``.

        Raises:
            UsageError: One of them is not such an id.
            LedgerError: The ledger could not keep it.
        """
        checked_id(company, "company")
        checked_id(customer, "customer")
        if not customer.startswith("cus_"):
            raise UsageError(
                f"a Stripe customer id begins with cus_, unlike {customer!r:.60}", reason="customer_not_stripe"
            )
        if company.startswith("cus_"):
            raise UsageError(
                f"{company!r:.60} is a Stripe customer id, and pays for itself", reason="company_is_customer"
            )
        self._process().ledger().link(company, customer)

    def flush(self) -> None:
        """
        Move usage from the journal to the ledger, also what dead processes left. Happens by itself every few seconds.

        Raises:
            LedgerError: The ledger failed; nothing is lost.
        """
        self._process().flush()

    def report(self, *, include_open: bool = False) -> Summary:
        """
        Flush, and send to Stripe the usage of all hours that have ended. Happens by itself every hour.

        Args:
            include_open: The hour that is still open, too; its later usage becomes a further meter event.

        Raises:
            LedgerError: The ledger failed; nothing is lost.
        """
        self.flush()
        return self._process().report(include_open=include_open)

    def usage(
        self,
        *,
        company: str | None = None,
        meter: Meter | str | None = None,
        since: int | None = None,
        until: int | None = None,
    ) -> list[Usage]:
        """
        What is in the ledger, by meter, company, user and window.

        Args:
            company: Only of this one.
            meter: Only of this one.
            since: Only windows that begin at this unix second or later.
            until: Only windows that begin before it.

        Raises:
            LedgerError: The ledger cannot be read.
        """
        name = meter.name if isinstance(meter, Meter) else meter
        return self._process().ledger().usage(company=company, meter=name, since=since, until=until)

    def health(self) -> dict[str, Any]:
        """
        Whether all is well, ready for ``json.dumps``. Never raises; reads the journal and the ledger.

        Returns:
            ``ok``: nothing needs attention.
            ``attention``: sentences that say what does, and the cure.
            ``books``: by meter, where its usage is, and whether that is ``balanced``; None if the ledger fails.
            ``problems``: what went wrong in this process, ``{reason: {"count": ..., "message": ...}}``.
        """
        from meterkit.health import health

        return health(self._process(), self._settings, self._problems)

    def close(self) -> None:
        """
        Flush and stop. Never raises, and takes two or three seconds at worst; for the end of a process.

        A count after that starts the kit again.
        """
        with self._lock():
            if self._flusher is not None and self._flusher.pid != os.getpid():
                self.after_fork()
            flusher, self._flusher = self._flusher, None
        if flusher is not None:
            atexit.unregister(self.close)
            flusher.close()

    def count(self, cells: list[tuple[Cell, int]], now: int) -> None:
        """Put counts into the journal of this process; for `Counting`."""
        while True:
            flusher = self._flusher
            if flusher is None or not flusher.counts or flusher.pid != os.getpid():
                if self._starter == native.thread_id():
                    self._early.append((cells, now))
                    return
                flusher = self._process(counting=True)
            try:
                flusher.journal.count(cells, now)
            except ClosedJournalError:
                continue  # close() came in between; start again
            return

    def _process(self, *, counting: bool = False) -> Flusher:
        """The flusher of this process; *counting* starts its journal and thread."""
        started = False
        with self._lock():
            if self._flusher is not None and self._flusher.pid != os.getpid():
                self.after_fork()  # no fork hook ran, as under uWSGI
            self._starter = native.thread_id()
            try:
                flusher = self._flusher
                if flusher is None:
                    flusher = self._flusher = Flusher(self._settings, self._problems)
                    atexit.register(self.close)
                if counting and not flusher.counts:
                    flusher.start()
                    started = True
            finally:
                self._starter = None
        if started:
            flusher.report_trouble()
        with suppress(IndexError):
            while self._early:
                self.count(*self._early.popleft())
        return flusher

    def _lock(self) -> threading.RLock:
        """The lock under which this process starts and stops its flusher."""
        return self._starting.setdefault(os.getpid(), native.rlock())

    def after_fork(self) -> None:
        """In a forked child: begin anew. Takes no lock, logs nothing and starts nothing."""
        self._starter, self._early = None, deque()
        self._problems.after_fork()
        flusher, self._flusher = self._flusher, None
        if flusher is not None:
            _inherited.append(flusher)
            flusher.abandon()


_kits: weakref.WeakSet[MeterKit] = weakref.WeakSet()

_inherited: list[Flusher] = []
"""What a forked child got from its parent. Kept for ever: finalising an inherited SQLite connection could harm."""


def _after_fork_in_child() -> None:
    for kit in list(_kits):
        kit.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)  # once for all kits: it cannot be taken back
