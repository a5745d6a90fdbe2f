"""An end that waits no longer for a flush, which ends all the same: nothing is lost by that, and nothing is doubled."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing, contextmanager

import pytest
import sqlalchemy as sa
from guard import GUARD
from plain_exchange import counted

from meterkit.runtime import process


@contextmanager
def before_each_transaction(work):
    """While this lasts, *work* is done in the thread that has connected to a ledger, and is about to begin."""

    def do(_connection):
        work()

    sa.event.listen(sa.engine.Engine, "engine_connect", do)
    try:
        yield
    finally:
        sa.event.remove(sa.engine.Engine, "engine_connect", do)


@pytest.fixture
def stuck(make_kit, tmp_path, monkeypatch):
    """A kit whose thread is in the midst of a flush and waits for the ledger, and a function that lets it go on."""
    before = set(threading.enumerate())
    monkeypatch.setattr(process, "STOP_SECONDS", 0.01)
    kit = make_kit(flush_interval=0.001)
    kit.record("calls", "acme", 1)
    kit.flush()
    with closing(
        sqlite3.connect(tmp_path / "meterkit" / "ledger.sqlite", isolation_level=None, timeout=GUARD)
    ) as other:
        other.execute("BEGIN IMMEDIATE")  # so that others may connect, and wait to begin
        waits = threading.Event()
        with before_each_transaction(waits.set):
            kit.record("calls", "acme", 5)
            assert waits.wait(GUARD)
        threads = [each for each in set(threading.enumerate()) - before if each.name == "meterkit"]

        def go_on():
            other.execute("ROLLBACK")
            for thread in threads:
                thread.join(GUARD)

        yield kit, go_on


def test_a_close_that_gives_up_on_a_flush(make_kit, stuck):
    """The ledger is locked when the process is to end, and free before it has: usage is counted once."""
    kit, go_on = stuck
    kit.close()
    go_on()

    heir = make_kit()
    assert {("calls", "acme"): 6} == counted(heir)
    assert heir.health()["books"]["calls"]["balanced"]


def test_an_heir_that_adopts_what_such_a_flush_is_folding(make_kit, stuck):
    """The file is let go of, and another process takes it, while its first owner commits what is in it."""
    kit, go_on = stuck
    heir = make_kit()
    adopting, may_fold = threading.Event(), threading.Event()

    def hold_the_heir():
        if threading.current_thread() is flushing:
            adopting.set()
            may_fold.wait(GUARD)

    flushing = threading.Thread(target=heir.flush)
    kit.close()
    with before_each_transaction(hold_the_heir):
        flushing.start()
        assert adopting.wait(GUARD)
        go_on()
        may_fold.set()
        flushing.join(GUARD)

    assert {("calls", "acme"): 6} == counted(heir)
    assert heir.health()["books"]["calls"]["balanced"]
