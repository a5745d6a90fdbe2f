"""Ledgers of older meterkits: upgraded in place, with all that is in them. One of each is beside this file."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from guard import UNHURRIED

from meterkit import Meter
from meterkit.ledger import schema
from meterkit.ledger.database import Database

LEDGERS = Path(__file__).parent
VERSIONS = sorted(int(path.stem.partition("-")[2]) for path in LEDGERS.glob("sqlite-*.sql"))
COUNTED = {
    "calls": {"counted": 70, "unreported": 19, "unlinked": 11, "unattributed": 13, "rejected": 3},
    "egress": {"counted": 700, "pending": 700},
}


def restore(version, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(path) as connection:
        connection.executescript((LEDGERS / f"sqlite-{version}.sql").read_text())
    connection.close()


@pytest.fixture
def path(tmp_path):
    """Where the ledger is."""
    return tmp_path / "meterkit" / "ledger.sqlite"


def test_there_is_a_ledger_of_each_version():
    """Whoever makes a new version keeps one of the last."""
    assert list(range(1, schema.VERSION + 1)) == VERSIONS


@pytest.mark.parametrize("version", VERSIONS)
def test_what_was_counted_before_is_there_after(make_kit, path, clock, version):
    """Usage, links and reports in every state; and it goes on from there."""
    restore(version, path)
    clock.advance(28 * 3600)
    kit = make_kit(Meter("calls"), Meter("egress", event_name="egress_bytes"))

    books = kit.health()["books"]
    kit.record("calls", "acme", 100)
    kit.flush()

    for meter, expected in COUNTED.items():
        assert books[meter]["balanced"]
        assert expected == {place: books[meter][place] for place in expected}
    assert 24 == books["calls"]["sent"] + books["calls"]["uncertain"]
    assert 170 == sum(row.quantity for row in kit.usage(meter="calls"))
    assert {"acme", "globex", "cus_gone", None} == {row.company for row in kit.usage()}
    assert [True] * 6 == [row.customer is not None for row in kit.usage(company="acme")]


@pytest.mark.parametrize("version", VERSIONS)
def test_what_was_counted_before_has_no_values(make_kit, path, clock, version):
    """A meter that gets dimensions tells apart what is counted from then on; the sums are those of the meter."""
    restore(version, path)
    clock.advance(28 * 3600)
    kit = make_kit(Meter("calls", http=False, by="model"), Meter("egress", event_name="egress_bytes", http=False))
    before = sum(row.quantity for row in kit.usage(meter="calls"))
    kit.record("calls", "acme", 100, dimensions={"model": "small"})
    kit.flush()

    found = kit.usage(meter="calls", by="model")
    assert before == sum(row.quantity for row in found if not row.values["model"])
    assert 100 == sum(row.quantity for row in found if row.values["model"] == "small")
    assert kit.health()["books"]["calls"]["balanced"]


@pytest.mark.parametrize("version", VERSIONS)
def test_an_upgraded_ledger_is_like_a_new_one(path, tmp_path, version):
    """The same columns and indexes."""
    restore(version, path)

    assert _tables(tmp_path / "new.sqlite") == _tables(path)


def test_processes_that_upgrade_at_once(path):
    """One does it, and the others wait."""
    restore(1, path)
    script = UNHURRIED + (
        "import sys; from meterkit.ledger.database import Database\n"
        "from meterkit.ledger.ledger import Ledger\n"
        "print(len(Ledger(Database(f'sqlite:///{sys.argv[1]}'), clock=lambda: 0).usage()))"
    )

    processes = [
        subprocess.Popen([sys.executable, "-c", script, path], stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]

    assert ["8\n"] * 4 == [process.communicate()[0] for process in processes]


def test_tables_of_the_application_are_left_alone(make_kit, path):
    """It may have tables of the names that ours had, in the same database."""
    path.parent.mkdir(parents=True)
    with sqlite3.connect(path) as connection:
        connection.executescript("CREATE TABLE usage (mine TEXT); CREATE TABLE meta (key TEXT, value TEXT);")
        connection.execute("INSERT INTO meta VALUES ('schema_version', '99')")
    connection.close()
    kit = make_kit()
    kit.record("calls", "acme", 3)
    kit.flush()

    assert [3] == [row.quantity for row in kit.usage()]
    with sqlite3.connect(path) as connection:
        assert [("schema_version", "99")] == connection.execute("SELECT * FROM meta").fetchall()
        assert [] == connection.execute("SELECT * FROM usage").fetchall()
    connection.close()


def _tables(path):
    """Columns, by table, and how the indexes were made, but for white space and quotes."""
    database = Database(f"sqlite:///{path}")
    with database.snapshot() as connection:
        inspector = sa.inspect(connection)
        columns = {
            table: sorted((column["name"], str(column["type"]), column["nullable"]) for column in columns)
            for (_, table), columns in inspector.get_multi_columns().items()
        }
        made = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql NOT NULL")
        return columns, {name: re.sub(r'[\s"]', "", sql) for name, sql in made}
