"""What other processes have counted: one that flushes for many of them adds it together."""

from __future__ import annotations

import sqlite3

import pytest

from meterkit import LedgerError
from meterkit.journal.generation import Generation
from meterkit.ledger.ledger import Ledger

WINDOW = 1_772_366_400  # 12:00 on 1 March 2026


@pytest.fixture
def journal(tmp_path):
    """Where the journals are."""
    directory = tmp_path / "meterkit" / "journal"
    directory.mkdir(parents=True)
    return directory


def leave(journal, **counts):
    """Leave what a process that has ended counted."""
    generation = Generation.create(journal)
    for company, quantity in counts.items():
        generation.count(("calls", "calls", company, "", WINDOW), quantity, WINDOW + 5)
    generation.abandon()


def commits(tmp_path):
    """How often something was added to the ledger."""
    with sqlite3.connect(tmp_path / "meterkit" / "ledger.sqlite") as connection:
        (change,) = connection.execute("SELECT value FROM meterkit_meta WHERE key = 'change'").fetchone()
    connection.close()
    return int(change)


def used(kit):
    return {row.company: row.quantity for row in kit.usage()}


def test_what_many_processes_counted_is_added_in_one_transaction(make_kit, journal, tmp_path):
    """Each transaction waits for the disk, and most companies are in all of them."""
    kit = make_kit()
    kit.usage()
    for number in range(1, 13):
        leave(journal, acme=number, globex=1)

    kit.flush()

    assert {"acme": 78, "globex": 12} == used(kit)
    assert commits(tmp_path) == 1
    assert kit.health()["books"]["calls"]["balanced"]


@pytest.mark.parametrize("error", [LedgerError("the server is gone"), KeyboardInterrupt])
def test_what_could_not_be_added_is_added_later(make_kit, journal, monkeypatch, error):
    """Nothing stays locked by the attempt, whatever ended it."""
    kit = make_kit()
    for _ in range(5):
        leave(journal, acme=3)

    def fail(*_arguments, **_options):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "fold_many", fail)
        with pytest.raises(type(error) if isinstance(error, Exception) else error):
            kit.flush()
    assert {} == used(kit)
    kit.flush()

    assert {"acme": 15} == used(kit)


def test_one_that_cannot_be_placed_holds_up_no_other(make_kit, journal, monkeypatch):
    """They are added one by one then, and the error is not swallowed."""
    kit = make_kit()
    for company in ("acme", "evil", "globex"):
        leave(journal, **{company: 3})
    fold_many = Ledger.fold_many

    def fail(ledger, generations, **options):
        generations = {each: list(counts) for each, counts in generations.items()}
        if any(company == "evil" for counts in generations.values() for (_, _, company, _, _), _, _ in counts):
            raise RuntimeError("it cannot be placed")
        return fold_many(ledger, generations, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "fold_many", fail)
        with pytest.raises(RuntimeError, match="cannot be placed"):
            kit.flush()

    assert {"acme": 3, "globex": 3} == used(kit)
    kit.flush()
    assert {"acme": 3, "evil": 3, "globex": 3} == used(kit)
