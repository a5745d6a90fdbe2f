"""Signal handlers and finalisers that count within a count: it waits for nothing, and the sums are exact."""

from __future__ import annotations

import gc
import signal
import sys
from functools import partial
from pathlib import Path

import pytest
from interpreter import gaps
from plain_exchange import counted, serve
from thorough import some

import meterkit
from meterkit.journal.journal import Journal

pytestmark = [pytest.mark.long, pytest.mark.thorough]

PACKAGE = str(Path(meterkit.__file__).parent)


def interrupted(work, at, handler):
    """
    Do *work*, and *handler* in the gap number *at* between our instructions; whether there were so many.

    Python 3.12.1 traces no instructions in frames that ask for it on their way, so lines count, too.
    """
    seen = 0

    def trace(frame, event, _argument):
        nonlocal seen
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        frame.f_trace_opcodes = True
        if event in ("opcode", "line") and frame.f_lasti in gaps(frame.f_code):
            seen += 1
            if seen == at:
                sys.settrace(None)
                handler()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return seen >= at


def test_a_count_within_a_count(kit):
    """A handler may come before any single instruction of a count."""
    kit.record("calls", "acme", 1)
    at = 1
    while interrupted(partial(kit.record, "calls", f"c{at}"), at, partial(kit.record, "calls", f"h{at}")):
        at += 1

    found = counted(kit)

    assert at > 20
    assert {"acme", *(f"c{n + 1}" for n in range(at)), *(f"h{n + 1}" for n in range(at - 1))} == {
        company for _, company in found
    }
    assert {1} == set(found.values())


def test_a_count_of_the_same_within_a_count(kit):
    """Also where both add to one sum."""
    kit.record("calls", "acme", 1)
    at = 1
    while interrupted(lambda: kit.record("calls", "acme", 1), at, lambda: kit.record("calls", "acme", 1000)):
        at += 1

    assert {("calls", "acme"): 1 + at + 1000 * (at - 1)} == counted(kit)


def test_a_count_of_the_same_newcomer_within_a_request(make_kit):
    """The shortest way of a request to the journal, on which a new customer begins a record; it is begun once."""
    companies = []
    kit = make_kit(identify=lambda _: companies[-1])
    kit.record("calls", "acme", 1)
    at = 1
    while True:
        companies.append(f"c{at}")
        if not interrupted(partial(serve, kit), at, partial(kit.record, "calls", f"c{at}", 1000)):
            break
        at += 1

    assert at > 100
    assert counted(kit) == {
        ("calls", "acme"): 1,
        **{("calls", f"c{n}"): 1001 for n in range(1, at)},
        ("calls", f"c{at}"): 1,
    }


@pytest.mark.parametrize("start", some([1, 25], among=range(1, 60, 12)))
def test_a_count_within_the_first_count(make_kit, tmp_path, start):
    """A handler may come while the kit starts in its process; sampled, for there are many instructions."""
    at, found = start, []
    while True:
        kit = make_kit(data_dir=tmp_path / str(at))
        more = interrupted(lambda: kit.record("calls", "c", 1), at, lambda: kit.record("calls", "h", 1))  # noqa: B023
        if not more:
            break
        found.append(counted(kit))
        kit.close()
        at += 60

    assert len(found) > 5
    assert [{("calls", "c"): 1, ("calls", "h"): 1}] * len(found) == found


def test_a_close_within_a_count(kit):
    """A count that finds its journal closed under its hands, as by a handler of SIGTERM, starts the kit again."""
    kit.record("calls", "acme", 1)

    def trace(frame, _event, _argument):
        if frame.f_code is Journal.count.__code__:
            sys.settrace(None)
            kit.close()

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        kit.record("calls", "acme", 10)
    finally:
        sys.settrace(before)

    assert {("calls", "acme"): 11} == counted(kit)


def test_a_signal_handler_that_counts(kit):
    """A handler that interrupts a count at any of its instructions counts as well, and waits for nothing."""
    handled = 0

    def handle(_signal, _frame):
        nonlocal handled
        handled += 1
        kit.record("calls", "acme", 1000)
        kit.record("calls", f"handler {handled % 1000}", 1)
        serve(kit)

    before = signal.signal(signal.SIGALRM, handle)
    kit.record("calls", "acme", 1)
    signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.0001)
    try:
        for number in range(20_000):
            kit.record("calls", "acme", 1)
            kit.record("calls", f"company {number % 2000}", 1)
            if number % 5000 == 0:
                kit.flush()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    found = counted(kit)

    assert handled > 100
    assert (20_001 + 1000 * handled, handled) == (found["calls", "acme"], found["calls", None])
    assert (20_000, handled) == tuple(
        sum(quantity for (_, company), quantity in found.items() if (company or "").startswith(of))
        for of in ("company", "handler")
    )


def test_a_finaliser_that_counts(kit):
    """The garbage collector may run a finaliser within a count, and the finaliser may count."""

    class Finalised:
        def __init__(self):
            self.me = self  # a cycle, so that only the collector frees it

        def __del__(self):
            kit.record("calls", "acme", 1000)

    before = gc.get_threshold()
    gc.set_threshold(3)
    try:
        for _ in range(5000):
            Finalised()
            kit.record("calls", "acme", 1)
    finally:
        gc.set_threshold(*before)
        gc.collect()

    assert {("calls", "acme"): 5000 * 1001} == counted(kit)
