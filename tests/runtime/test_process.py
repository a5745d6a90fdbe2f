"""The background thread: usage reaches the ledger and Stripe by itself, and an exit waits for nobody."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import threading

import pytest
from guard import GUARD, UNHURRIED

from meterkit.core import threads
from meterkit.flusher import periodic
from meterkit.runtime import stripe_jobs
from meterkit.stripe_api import retry

HOUR = 3600


@pytest.fixture
def left_behind(make_kit, customer, clock):
    """Usage of an hour that has ended, which a former process left in its journal."""
    former = make_kit()
    former.record("calls", customer, 5)
    former.close()
    clock.advance(HOUR)


@pytest.fixture
def make_live_kit(make_kit, stripe):
    """A function that makes kits whose thread is busy, and which report to the sandbox."""

    def make(**options):
        return make_kit(**{"flush_interval": 0.01, "stripe_key": stripe.api_key, "stripe_base": stripe.url, **options})

    return make


@pytest.mark.usefixtures("left_behind")
def test_the_first_count_starts_all_that_is_needed(make_live_kit, stripe, customer):
    """What a former process left is adopted and reported without any call."""
    held = stripe.fail("slow")
    kit = make_live_kit()

    kit.record("calls", customer, 1)

    assert held.wait(GUARD)
    held.release()
    kit.close()
    assert 5 == stripe.usage("calls", customer)
    assert [1, 5] == sorted(row.quantity for row in make_live_kit().usage())


@pytest.mark.usefixtures("left_behind")
def test_what_could_not_be_sent_is_tried_again_by_itself(make_live_kit, stripe, customer, monkeypatch):
    """Long before the next hour."""
    monkeypatch.setattr(retry, "MAX_WAIT", 0.01)
    monkeypatch.setattr(periodic, "FIRST_RETRY_SECONDS", 0.01)
    refused = stripe.fail("429", times=4)
    held = stripe.fail("slow")
    kit = make_live_kit()

    kit.record("calls", customer, 1)

    assert held.wait(GUARD)
    assert 4 == refused.hits
    held.release()
    kit.close()
    assert 5 == stripe.usage("calls", customer)


@pytest.mark.usefixtures("left_behind")
def test_a_close_does_not_wait_for_stripe(make_live_kit, stripe, customer, monkeypatch):
    """While Stripe does not answer, close() comes back, and what was counted is in the ledger."""
    monkeypatch.setattr(stripe_jobs, "STOP_SECONDS", 0.01)
    held = stripe.fail("timeout_before")
    kit = make_live_kit()
    kit.record("calls", customer, 1)
    assert held.wait(GUARD)

    kit.record("calls", customer, 2)
    kit.close()

    assert 8 == sum(row.quantity for row in make_live_kit().usage())
    held.release()


def test_a_close_amidst_a_flush_flushes_once_more(make_kit, clock, monkeypatch):
    """What was counted since that flush began is in the ledger, too."""
    amidst, closing = threading.Event(), threading.Event()

    def clock_that_holds_a_flush() -> float:
        if threading.current_thread().name == "meterkit" and not amidst.is_set():
            amidst.set()
            closing.wait(GUARD)
        return clock()

    def join_when_closing(worker: threads.DaemonThread, timeout: float) -> bool:
        closing.set()
        return join(worker, timeout)

    join = threads.DaemonThread.join
    monkeypatch.setattr(threads.DaemonThread, "join", join_when_closing)
    kit = make_kit(flush_interval=0.01, clock=clock_that_holds_a_flush)
    kit.record("calls", "acme", 1)
    assert amidst.wait(GUARD)

    kit.record("calls", "acme", 2)
    kit.close()

    assert 3 == sum(row.quantity for row in make_kit().usage())


def test_the_thread_ends_with_the_kit(make_live_kit, customer):
    """No thread, and no file descriptor, outlives close()."""
    before = set(threading.enumerate())
    kit = make_live_kit()
    kit.record("calls", customer, 1)
    started = set(threading.enumerate()) - before
    assert started

    kit.close()

    for thread in started:
        thread.join(GUARD)  # it says that it ends a moment before it has
    assert [] == [thread for thread in started if thread.is_alive()]


@pytest.mark.parametrize("ending", ["", "sys.exit(3)", "raise RuntimeError", "threading.Thread(target=count).start()"])
def test_a_process_that_ends_leaves_its_usage_in_the_ledger(make_kit, tmp_path, ending):
    """Its exit flushes; with an exception, too, and with threads that count until the end."""
    script = f"""{UNHURRIED}
import sys, threading
from meterkit import Meter, MeterKit
kit = MeterKit(meters=[Meter("calls")], data_dir=sys.argv[1])
def count():
    for _ in range(100):
        kit.record("calls", "acme")
count()
{ending}
"""
    subprocess.run([sys.executable, "-c", script, tmp_path / "meterkit"], check=False, capture_output=True)

    expected = 200 if "Thread" in ending else 100
    kit = make_kit()
    assert expected == sum(row.quantity for row in kit.usage())


def test_counting_in_an_exit_handler_is_kept(make_kit, tmp_path):
    """Python 3.12 starts no thread at that time; the journal keeps the count for the next process."""
    script = """
import atexit, sys
from meterkit import Meter, MeterKit
kit = MeterKit(meters=[Meter("calls")], data_dir=sys.argv[1])
atexit.register(lambda: kit.record("calls", "acme", 2))
kit.record("calls", "acme", 1)
"""
    ended = subprocess.run([sys.executable, "-c", script, tmp_path / "meterkit"], check=False)

    kit = make_kit()
    kit.flush()
    assert 0 == ended.returncode
    assert 3 == sum(row.quantity for row in kit.usage())


@pytest.mark.filterwarnings("ignore:Exception in thread meterkit:pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_dies_is_replaced(make_live_kit, customer):
    """Whatever ended it: the next count starts another, and nothing is missing."""
    others = set(threading.enumerate())
    kit = make_live_kit()
    kit.record("calls", customer, 1)
    (thread,) = [each for each in set(threading.enumerate()) - others if each.name == "meterkit"]

    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit))
    thread.join(GUARD)
    assert not thread.is_alive()
    kit.record("calls", customer, 10)

    assert [] != [each for each in set(threading.enumerate()) - others if each.name == "meterkit"]
    kit.close()
    assert 11 == sum(row.quantity for row in make_live_kit().usage())
