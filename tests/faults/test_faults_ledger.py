"""Ledgers that are gone, empty, foreign, corrupt or locked: usage waits in the journal, and nothing is overwritten."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing

import pytest
from faulty_disk import ledger_of
from faulty_shop import HOUR, Meanwhile
from guard import GUARD

pytestmark = pytest.mark.long

RESTORE = r"(?i)restore|put it back|backup"

DAMAGES = {
    "deleted": lambda _sound: None,
    "zero-length": lambda _sound: b"",
    "foreign": lambda sound: b"a letter to my aunt\n" * (len(sound) // 20),
    "corrupt": lambda sound: sound[:4096] + b"\xa5" * (len(sound) - 4096),
}
"""What becomes of a sound ledger; None is no file. In the corrupt one, the first page still names the tables."""


@pytest.fixture(params=DAMAGES)
def damage(request, data_dir):
    """A function that does one of `DAMAGES` to the ledger, and answers the file and what is in it then."""

    def damage():
        ledger = ledger_of(data_dir)
        damaged = DAMAGES[request.param](ledger.read_bytes())
        ledger.unlink()
        if damaged is not None:
            ledger.with_suffix(".damaged").write_bytes(damaged)
            ledger.with_suffix(".damaged").replace(ledger)
        return ledger, damaged

    return damage


def copy_of(ledger, copy):
    """A sound copy of the *ledger*, which is in use."""
    with closing(sqlite3.connect(ledger)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    return copy


def test_a_damaged_ledger_that_is_restored(start, account, settle, data_dir, tmp_path, damage):
    """Nothing is written over it; when the sound one is back, it gets all that was counted meanwhile."""
    app = start()
    app.serve(account.customer, rounds=2)
    app.wait_until_flushed()
    copy = copy_of(ledger_of(data_dir), tmp_path / "copy")
    ledger, damaged = damage()

    app.serve(account.customer)
    message = app.wait_for_trouble("flush_failed")
    app.serve(account.customer, rounds=2)
    left = ledger.read_bytes() if ledger.exists() else None
    copy.replace(ledger)
    app.wait_until_flushed()
    app.serve(account.customer)
    settle(app)

    assert damaged == left
    assert re.search(RESTORE, message)
    assert re.search(RESTORE, app.said_of("flush_failed"))


def test_a_damaged_ledger_that_is_given_up(start, account, settle, data_dir, clock, damage):
    """A process that finds none begins a new one: what the journal has is billed, and nothing sent is sent again."""
    app = start()
    app.serve(account.customer, rounds=2)
    settle(app)
    ledger, _ = damage()

    app.serve(account.customer)
    app.wait_for_trouble("flush_failed")
    app.serve(account.customer, rounds=2)
    app.kill()
    ledger.unlink(missing_ok=True)
    restarted = start()
    restarted.serve(account.customer)
    restarted.wait_until_flushed()
    clock.advance(HOUR)
    restarted.ask("clock", now=clock.now)
    restarted.ask("report")

    assert app.counted + restarted.counted == account.billed
    assert {"counted", "sent"} == set(restarted.books())


@pytest.mark.parametrize("damage", ["foreign", "corrupt"], indirect=True)
def test_a_damaged_ledger_at_the_start(start, account, settle, data_dir, tmp_path, damage):
    """A process that finds a ledger which is none serves, and keeps the usage for the sound one."""
    app = start()
    app.serve(account.customer)
    app.wait_until_flushed()
    app.stop()
    copy = copy_of(ledger_of(data_dir), tmp_path / "copy")
    ledger, damaged = damage()

    restarted = start()
    restarted.serve(account.customer)
    restarted.wait_for_trouble("flush_failed")
    left = ledger.read_bytes()
    copy.replace(ledger)
    restarted.wait_until_flushed()
    settle(restarted, app)

    assert damaged == left
    assert re.search(RESTORE, restarted.said_of("flush_failed"))


def test_a_ledger_that_another_process_locks(start, account, settle, data_dir):
    """While a backup or a shell holds the ledger, usage stays in the journal; then it goes in by itself."""
    app = start()
    app.serve(account.customer)
    app.wait_until_flushed()

    app.ask("wait_for_locks", seconds=0.05)
    app.ask("flush")  # one that began before would wait as long as it could then
    with closing(sqlite3.connect(ledger_of(data_dir), isolation_level=None, timeout=GUARD)) as other:
        other.execute("BEGIN EXCLUSIVE")
        app.serve(account.customer)
        message = app.wait_for_trouble("flush_failed")
        app.serve(account.customer, rounds=3)
    app.ask("wait_for_locks", seconds=GUARD)
    app.wait_until_flushed()
    settle(app)

    assert "database is locked" in message
    assert re.search(r"(?i)another (process|program)", message)
    assert "database is locked" in app.said_of("flush_failed")


def test_a_ledger_that_another_process_locks_for_a_moment(start, account, settle, data_dir):
    """The flush waits for it, the requests do not, and there is nothing to say."""
    app = start(FAULTY_FLUSH_INTERVAL=3600)
    app.serve(account.customer)
    app.ask("flush")

    with closing(sqlite3.connect(ledger_of(data_dir), isolation_level=None, timeout=GUARD)) as other:
        app.serve(account.customer)
        other.execute("BEGIN EXCLUSIVE")
        with Meanwhile(lambda: app.ask("flush")) as flush:
            app.serve(account.customer, rounds=5)
            waits = flush.result is None
            other.execute("ROLLBACK")
    settle(app)

    assert waits
    assert {"error": None} == flush.result
    app.stop()
    assert [] == app.said()
