"""Logging handlers, signal handlers and finalisers that count amidst a flush or a report: exact sums, and no hang."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import threading
import traceback
from contextlib import contextmanager, suppress
from functools import partial

import pytest
import stripe as stripe_python
from guard import GUARD
from plain_exchange import counted
from test_kit_reentry import interrupted
from thorough import some

from meterkit import LedgerError
from meterkit.ledger import database
from meterkit.runtime import process
from meterkit.sandbox import Sandbox

pytestmark = [pytest.mark.long, pytest.mark.thorough]

HOUR = 3600

MORE, FAILED = 3, 4
"""Exit codes of a child."""


class Recorder(logging.Handler):
    """Counts one unit of usage for each record that it is given, whatever thread it comes from."""

    def __init__(self, kit):
        super().__init__()
        self._kit = kit
        self._busy = threading.local()
        self.handled = 0
        self._tally = threading.Lock()

    def createLock(self):
        self.lock = None  # as a handler without I/O may: its records come from several threads at once

    def emit(self, record):
        if getattr(self._busy, "now", False):
            return  # of the count itself: a handler that never ends is the application's own
        self._busy.now = True
        try:
            self._kit.record("calls", "handler", 1)
            with self._tally:
                self.handled += 1
        finally:
            self._busy.now = False


@contextmanager
def handling(handler, *names):
    """While this lasts, *handler* gets all records, down to DEBUG, of the loggers with those names."""
    loggers = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)


def within(seconds, work):
    """Do *work* in a thread; it has to end, or the test fails instead of hanging."""
    failed = []

    def run():
        try:
            work()
        except BaseException as error:
            failed.append(error)
            raise

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), "it hangs"
    assert [] == failed


@pytest.mark.parametrize("names", [["meterkit"], [""], ["meterkit", ""]], ids=["meterkit", "root", "both"])
def test_a_handler_that_counts_what_the_kit_says(make_kit, tmp_path, names):
    """The first count tells that there is no key and no place for a journal, and each of that is counted at once."""
    (tmp_path / "file").write_bytes(b"")
    kit = make_kit(data_dir=tmp_path / "file" / "data", ledger=f"sqlite:///{tmp_path}/ledger.sqlite")
    handler = Recorder(kit)

    def work():
        with handling(handler, *names):
            for number in range(100):
                kit.record("calls", f"company {number}", 1)
            kit.flush()

    within(GUARD, work)

    found = counted(kit)
    assert handler.handled >= 2 * len(names)
    assert handler.handled == found.pop(("calls", "handler"))
    assert {("calls", f"company {number}"): 1 for number in range(100)} == found


def test_a_handler_that_counts_what_the_database_says(make_kit):
    """SQLAlchemy logs in the midst of a flush's transaction, under whatever locks that takes."""
    kit = make_kit()
    handler = Recorder(kit)

    def work():
        with handling(handler, "", "sqlalchemy.engine", "sqlalchemy.pool"):
            for _ in range(20):
                kit.record("calls", "acme", 1)
                kit.flush()
                kit.health()

    within(GUARD, work)

    assert handler.handled > 100
    assert {("calls", "acme"): 20, ("calls", "handler"): handler.handled} == counted(kit)


def test_a_handler_that_counts_what_a_report_says(make_kit, clock):
    """Httpx and stripe-python log each request; what is counted meanwhile is billed with the next report."""
    with Sandbox(now=clock) as sandbox:
        api = stripe_python.StripeClient(sandbox.api_key, base_addresses={"api": sandbox.url}).v1
        api.billing.meters.create(
            {"display_name": "Calls", "event_name": "calls", "default_aggregation": {"formula": "sum"}}
        )
        customer = api.customers.create({"name": "Acme"}).id
        kit = make_kit(stripe_key=sandbox.api_key, stripe_base=sandbox.url)
        kit.link("handler", customer)
        kit.link("acme", customer)
        handler = Recorder(kit)

        def work():
            with handling(handler, "", "stripe", "httpx"):
                for _ in range(5):
                    kit.record("calls", "acme", 1000)
                    clock.advance(HOUR)
                    kit.report()

        within(GUARD, work)
        clock.advance(HOUR)
        kit.report()

        assert handler.handled > 10
        assert 5000 + handler.handled == sandbox.usage("calls", customer)
        assert kit.health()["books"]["calls"]["balanced"]


@pytest.mark.parametrize("start", range(1, 50, 10))
def test_a_count_within_a_flush(kit, start):
    """A signal handler or a finaliser may come before any instruction of a flush; sampled, for there are many."""
    handled = at = 0
    more = True
    kit.record("calls", "acme", 1)
    while more:
        at += 1
        more = interrupted(kit.flush, start + 50 * (at - 1), lambda: kit.record("calls", "handler", 1000))
        handled += more
        kit.record("calls", "acme", 1)

    assert handled > 20
    assert {("calls", "acme"): 1 + at, ("calls", "handler"): 1000 * handled} == counted(kit)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("end", ["flush", "close"])
@pytest.mark.parametrize("start", some([81], among=range(1, 200, 80)))
def test_an_end_within_a_flush(make_kit, tmp_path, monkeypatch, start, end):
    """A handler of SIGTERM that flushes or closes amidst a flush of its own thread neither loses nor doubles."""
    monkeypatch.setattr(database, "PATIENCE", 0.01)
    monkeypatch.setattr(process, "STOP_SECONDS", 0.01)  # the flush that it waits for is the one that it interrupts
    found, more = [], True
    while more:
        data_dir = tmp_path / str(len(found))
        code = in_a_child(partial(end_within_a_flush, make_kit, data_dir, start + 200 * len(found), end))
        more = code == MORE
        found.append((code, counted(make_kit(data_dir=data_dir))))

    assert len(found) > 5
    assert [(MORE, {("calls", "acme"): 5})] * (len(found) - 1) + [(0, {("calls", "acme"): 5})] == found


def end_within_a_flush(make_kit, data_dir, at, end):
    """Flush, and before the instruction number *at* of that, *end* it; whether there were so many."""
    kit = make_kit(data_dir=data_dir)
    kit.record("calls", "acme", 5)

    def handle():
        with suppress(LedgerError):
            getattr(kit, end)()

    def flush():
        with suppress(LedgerError):
            kit.flush()

    return interrupted(flush, at, handle)


def in_a_child(work):
    """Do *work* in a child: `MORE`, 0, `FAILED` if it raises, or less than 0 if it hangs."""
    child = os.fork()
    if child == 0:
        code = FAILED
        signal.alarm(GUARD)  # ends it where it hangs
        try:
            code = MORE if work() else 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def test_finalisers_that_count_within_flushes(kit):
    """The collector runs them wherever a flush allocates."""

    class Finalised:
        def __init__(self):
            self.me = self  # a cycle, so that only the collector frees it

        def __del__(self):
            kit.record("calls", "finaliser", 1)

    before = gc.get_threshold()
    gc.set_threshold(7)
    try:
        for _ in range(100):
            for _ in range(5):
                Finalised()
            kit.record("calls", "acme", 1)
            kit.flush()
    finally:
        gc.set_threshold(*before)
        gc.collect()

    assert {("calls", "acme"): 100, ("calls", "finaliser"): 500} == counted(kit)


def test_sixteen_threads_against_a_flusher_without_a_pause(make_kit):
    """The background thread and a caller swap generations as fast as they can, and threads switch wherever they can."""
    kit = make_kit(flush_interval=1e-6)
    done = threading.Event()
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def count(number):
        for turn in range(5000):
            kit.record("calls", f"company {(number + turn) % 5}", 1)

    def flush():
        while not done.is_set():
            kit.flush()

    flusher = threading.Thread(target=flush)
    counters = [threading.Thread(target=count, args=(number,)) for number in range(16)]
    try:
        for thread in [flusher, *counters]:
            thread.start()
        for thread in counters:
            thread.join()
    finally:
        done.set()
        flusher.join()
        sys.setswitchinterval(before)

    assert {("calls", f"company {number}"): 16_000 for number in range(5)} == counted(kit)
    assert kit.health()["books"]["calls"]["balanced"]
