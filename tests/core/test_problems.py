"""Trouble is counted by reason, and logged at most once in a while."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading

import pytest

from meterkit.core import problems
from meterkit.core.problems import QUIET_SECONDS, Problems


@pytest.fixture
def monotonic(monkeypatch):
    """A list whose last item is the time."""
    times = [1.0]
    monkeypatch.setattr(problems.time, "monotonic", lambda: times[-1])
    return times


def lines(caplog):
    """What was logged."""
    return [(record.name, record.levelname, record.getMessage()) for record in caplog.records]


def test_the_first_time(caplog, monotonic):
    """The first of a kind is logged with its reason, also in the first minute after the machine has booted."""
    Problems().note("disk_full", "free space")

    assert [("meterkit", "WARNING", "free space (disk_full, 1 so far)")] == lines(caplog)


def test_a_while_of_silence(caplog, monotonic):
    """Within a minute a reason is logged once; after that, once more, with how often it was."""
    found = Problems()
    for now in (1.0, 2.0, QUIET_SECONDS, QUIET_SECONDS + 1, QUIET_SECONDS + 2):
        monotonic.append(now)
        found.note("disk_full", f"at {now:g}")

    assert ["at 1 (disk_full, 1 so far)", "at 61 (disk_full, 4 so far)"] == [line for *_, line in lines(caplog)]
    assert {"disk_full": {"count": 5, "message": "at 62"}} == found.as_dict()


def test_each_reason_has_its_own_silence(caplog):
    """One noisy reason does not silence another."""
    found = Problems()
    for reason in ("b", "a", "b", "a"):
        found.note(reason, "see " + reason, level=logging.ERROR)

    assert [("meterkit", "ERROR", "see b (b, 1 so far)"), ("meterkit", "ERROR", "see a (a, 1 so far)")] == lines(caplog)
    assert {"a": 2, "b": 2} == {reason: problem["count"] for reason, problem in found.as_dict().items()}


def test_a_message_is_no_format_string(caplog):
    """What clients send may stand in a message, and is not interpreted."""
    Problems().note("odd", "path '/%s/{0}/%(x)d'")

    assert ["path '/%s/{0}/%(x)d' (odd, 1 so far)"] == [line for *_, line in lines(caplog)]


def test_cleared(caplog):
    """What works again is forgotten, and its next failure is news."""
    found = Problems()
    found.note("flush_failed", "locked")
    found.clear("flush_failed")
    found.clear("never_noted")
    cleared = found.as_dict()
    found.note("flush_failed", "locked")

    assert ({}, 2) == (cleared, len(caplog.records))


def test_many_threads():
    """No occurrence is missed, whichever thread it comes from."""
    found = Problems()

    def work():
        for _ in range(5000):
            found.note("busy", "again")

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 40_000 == found.as_dict()["busy"]["count"]


class Handler(logging.Handler):
    """Does what a test says with each record."""

    def __init__(self, emit):
        super().__init__()
        self.emit = emit


@pytest.fixture
def handle():
    """A function that adds a logging handler for the test."""
    handlers = []

    def add(emit):
        handlers.append(Handler(emit))
        logging.getLogger("meterkit").addHandler(handlers[-1])

    yield add
    for handler in handlers:
        logging.getLogger("meterkit").removeHandler(handler)


def test_a_handler_that_notes_trouble(handle):
    """A logging handler may cause trouble itself: it is counted, and nothing waits for ever."""
    found = Problems()
    handle(lambda _record: found.note("handler", "again"))

    found.note("first", "see handler")

    assert {"first": 1, "handler": 2} == {reason: problem["count"] for reason, problem in found.as_dict().items()}


def test_a_handler_that_waits_for_a_thread_that_notes_trouble(handle):
    """The log is written to without a lock that the handler could wait for."""
    found = Problems()

    def emit(_record):
        thread = threading.Thread(target=found.note, args=("first", "from the thread"))
        thread.start()
        thread.join()

    handle(emit)
    found.note("first", "see handler")

    assert {"first": {"count": 2, "message": "from the thread"}} == found.as_dict()


def test_a_handler_that_raises(handle):
    """A log that cannot be written to costs nobody a request."""
    found = Problems()

    def emit(_record):
        raise OSError("the log is full")

    handle(emit)
    found.note("first", "see handler")

    assert {"first": {"count": 1, "message": "see handler"}} == found.as_dict()


def test_after_a_fork():
    """A child starts from nothing, whatever lock its parent's threads held."""
    found = Problems()
    found.note("parents", "not the child's")
    held = threading.Event()
    leave = threading.Event()

    def hold():
        with found._lock:
            held.set()
            leave.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    try:
        found.after_fork()  # as in the child, where the thread that holds the lock does not exist
        found.note("childs", "its own")
    finally:
        leave.set()
        thread.join()

    assert {"childs": {"count": 1, "message": "its own"}} == found.as_dict()


def test_the_traceback_of_the_application(caplog):
    """Once, so that it can be found and mended."""

    def identify():
        raise KeyError("x-company-id")

    found = Problems()
    for _ in range(2):
        try:
            identify()
        except KeyError as error:
            found.note("identify_raised", "identify= raised", error=error)

    (record,) = caplog.records
    assert "in identify" in logging.Formatter().format(record)


def test_logging_that_is_set_up_after_the_kit():
    """As in a Django project whose settings import the kit: what exists by then is disabled."""
    script = (
        "import logging, logging.config, sys, tempfile\n"
        "import meterkit\n"
        "kit = meterkit.MeterKit(meters=[meterkit.Meter('calls')], data_dir=tempfile.mkdtemp())\n"
        "to_stdout = {'class': 'logging.StreamHandler', 'stream': 'ext://sys.stdout'}\n"
        "logging.config.dictConfig({'version': 1, 'handlers': {'all': to_stdout}, 'root': {'handlers': ['all']}})\n"
        "kit.flush()\n"
        "kit.record('calls', 'acme')\n"
        "kit.close()\n"
    )

    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout

    assert "set STRIPE_SECRET_KEY" in said
