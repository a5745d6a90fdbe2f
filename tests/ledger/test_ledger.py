"""The ledger: usage is added once, and the books balance."""

from __future__ import annotations

import sqlite3
import subprocess
import sys

import pytest
import sqlalchemy as sa
from guard import UNHURRIED
from hypothesis import given, settings
from hypothesis import strategies as st

from meterkit import LedgerError, Meter
from meterkit.accounts.accounts import Accounts
from meterkit.ledger.books import Books
from meterkit.ledger.books import books as books_of
from meterkit.ledger.database import Database
from meterkit.ledger.ledger import Ledger
from meterkit.ledger.schema import VERSION

WINDOW = 1_772_366_400
HOUR = 3600


def cell(company="acme", *, meter="calls", user="", window=WINDOW):
    return (meter, meter, company, user, window)


@pytest.fixture
def path(tmp_path):
    """Where the ledger is."""
    return tmp_path / "data" / "ledger.sqlite"


@pytest.fixture
def ledger(path, clock):
    """An empty ledger in SQLite."""
    return Ledger(Database(f"sqlite:///{path}", customer_ids=True), clock=clock)


@pytest.fixture
def accounts(path, clock):
    """Who pays, in the same ledger."""
    return Accounts(Database(f"sqlite:///{path}", customer_ids=True), clock=clock)


def test_a_generation_is_folded_once(ledger):
    """Folding again after a crash, or after a commit whose answer was lost, adds nothing."""
    first = ledger.fold("g1", [(cell(), 5, WINDOW)])
    again = ledger.fold("g1", [(cell(), 5, WINDOW)])
    ledger.fold("g2", [(cell(), 2, WINDOW)])

    assert (True, False) == (first, again)
    assert [7] == [row.quantity for row in ledger.usage()]


def test_a_generation_may_have_a_cell_twice(ledger):
    """Its file says a count in parts if need be; one statement adds them up."""
    ledger.fold("g1", [(cell(), 5, WINDOW + 9), (cell("bolt"), 1, WINDOW), (cell(), 2, WINDOW + 3)])
    ledger.fold("g2", [(cell(), 1, WINDOW), (cell(), 1, WINDOW)])

    assert [("acme", 9), ("bolt", 1)] == [(row.company, row.quantity) for row in ledger.usage()]
    assert [10] == [books.counted for books in books_of(ledger._database, {}).values()]


def folds_known(path):
    with sqlite3.connect(path) as connection:
        found = {generation for (generation,) in connection.execute("SELECT generation FROM meterkit_folds")}
    connection.close()
    return found


def test_the_memory_of_folds_has_an_end(ledger, path, clock):
    """Of those whose files are gone for good at once; of the others when their usage is too old for Stripe."""
    for number in range(20):
        ledger.fold(f"g{number}", [(cell(), 1, WINDOW)])
        clock.advance(3 * 24 * HOUR)

    ledger.forget(["g17", "g19"])

    assert {"g18", *(f"g{number}" for number in range(7, 17))} == folds_known(path)
    assert [20] == [row.quantity for row in ledger.usage()]


def test_a_process_forgets_what_it_has_folded(make_kit, path):
    """Processes flush every few seconds for years."""
    kit = make_kit(Meter("calls"), data_dir=path.parent)
    for _ in range(5):
        kit.record("calls", "acme")
        kit.flush()

    kit.close()

    assert set() == folds_known(path)
    assert [5] == [row.quantity for row in make_kit(Meter("calls"), data_dir=path.parent).usage()]


def test_usage_is_kept_by_meter_company_user_and_window(ledger):
    """Each of the four keeps rows apart; what nobody said is None."""
    cells = [cell(), cell(user="anna"), cell("globex"), cell(meter="egress"), cell(window=WINDOW + HOUR), cell("")]

    ledger.fold("g1", [(each, 1, WINDOW) for each in cells])

    assert {
        ("calls", "acme", None, WINDOW),
        ("calls", "acme", "anna", WINDOW),
        ("calls", "globex", None, WINDOW),
        ("egress", "acme", None, WINDOW),
        ("calls", "acme", None, WINDOW + HOUR),
        ("calls", None, None, WINDOW),
    } == {(row.meter, row.company, row.user, row.window) for row in ledger.usage()}


def test_usage_can_be_asked_for_in_parts(ledger):
    """By company, by meter, and by the begin of the window, the end excluded."""
    for number, each in enumerate([cell(), cell("globex"), cell(meter="egress"), cell(window=WINDOW + HOUR)]):
        ledger.fold(f"g{number}", [(each, 10**number, WINDOW)])

    def total(**filters):
        return sum(row.quantity for row in ledger.usage(**filters))

    assert 1101 == total(company="acme")
    assert 100 == total(meter="egress")
    assert 1000 == total(since=WINDOW + 1)
    assert 111 == total(until=WINDOW + HOUR)


def test_a_link_is_shown_and_can_be_changed(ledger, accounts):
    """The last link counts; a Stripe customer pays for itself."""
    ledger.fold("g1", [(cell(), 1, WINDOW), (cell("cus_direct"), 1, WINDOW), (cell("globex"), 1, WINDOW)])

    accounts.link("acme", "cus_old")
    accounts.link("acme", "cus_new")

    assert {"acme": "cus_new", "cus_direct": "cus_direct", "globex": None} == {
        row.company: row.customer for row in ledger.usage()
    }


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1), unique=True))
def test_no_id_is_taken_for_sql(tmp_path_factory, companies):
    """Whatever is printable can be a company."""
    ledger = Ledger(Database(f"sqlite:///{tmp_path_factory.mktemp('data')}/ledger.sqlite"), clock=lambda: WINDOW)

    ledger.fold("g1", [(cell(company, user=company), 1, WINDOW) for company in companies])

    assert sorted(companies) == sorted(row.company for row in ledger.usage())


def test_the_books_say_where_usage_is(ledger):
    """Before any report: to be reported, waiting for a link, or nobody's; and in the journal."""
    ledger.fold("g1", [(cell("cus_1"), 1, WINDOW), (cell(), 20, WINDOW), (cell(""), 300, WINDOW)])

    books = books_of(ledger._database, {"g2": {"calls": 4000}})

    expected = Books(counted=4321, journal=4000, unreported=1, unlinked=20, unattributed=300)
    assert {"calls": expected} == books
    assert expected.balanced


def test_a_journal_file_that_is_folded_is_not_counted_twice(ledger):
    """Between the fold and the removal of the file, the books balance too."""
    ledger.fold("g1", [(cell("cus_1"), 5, WINDOW)])

    assert {"calls": Books(counted=5, unreported=5)} == books_of(ledger._database, {"g1": {"calls": 5}})


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE meterkit_usage SET quantity = quantity + 1",
        "DELETE FROM meterkit_usage WHERE company = 'acme'",
        "UPDATE meterkit_usage SET reported = 1 WHERE company = 'acme'",
        "UPDATE meterkit_counted SET quantity = 0",
    ],
)
def test_the_books_notice_what_is_missing_or_doubled(ledger, path, tampering):
    """They are kept on two sides, so that an error on one of them shows."""
    ledger.fold("g1", [(cell(), 5, WINDOW), (cell("globex"), 1, WINDOW)])
    with sqlite3.connect(path) as connection:
        connection.execute(tampering)
    connection.close()

    assert not books_of(ledger._database, {})["calls"].balanced


def test_a_ledger_of_a_newer_meterkit_is_refused(make_kit, path):
    """The message names the cure, and usage stays in the journal until the newer version is back."""
    kit = make_kit(Meter("calls"), data_dir=path.parent)
    kit.record("calls", "acme", 3)
    kit.flush()
    kit.close()
    set_version(path, 99)
    kit.record("calls", "acme", 4)

    with pytest.raises(LedgerError, match="newer meterkit"):
        kit.flush()

    set_version(path, VERSION)
    kit.flush()
    assert [7] == [row.quantity for row in kit.usage()]


def set_version(path, version):
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE meterkit_meta SET value = ? WHERE key = 'schema_version'", [str(version)])
    connection.close()


def test_processes_that_fold_at_once_wait_for_each_other(path):
    """Four processes, the same rows in different order: no error, no loss."""
    script = UNHURRIED + (
        "import random, sys; from meterkit.ledger.database import Database; from meterkit.ledger.ledger import Ledger\n"
        "ledger = Ledger(Database(f'sqlite:///{sys.argv[1]}'), clock=lambda: 0)\n"
        "companies = [f'company-{n}' for n in range(50)]\n"
        "for turn in range(25):\n"
        "    random.shuffle(companies)\n"
        "    cells = [(('calls', 'calls', company, '', 0), 1, turn) for company in companies]\n"
        "    assert ledger.fold(f'{sys.argv[2]}-{turn}', cells)\n"
    )

    processes = [subprocess.Popen([sys.executable, "-c", script, path, str(n)]) for n in range(4)]

    assert [0] * 4 == [process.wait() for process in processes]
    ledger = Ledger(Database(f"sqlite:///{path}"), clock=lambda: 0)
    assert {4 * 25} == {row.quantity for row in ledger.usage()}
    assert 50 * 4 * 25 == books_of(ledger._database, {})["calls"].counted


def test_a_commit_is_on_the_disk_before_it_is_answered(ledger, path):
    """What was reported to Stripe must still be in the ledger after a power cut; and WAL can corrupt old SQLites."""
    seen = {}
    database = Database(f"sqlite:///{path}")
    with database.transaction() as connection:
        for pragma in ("synchronous", "journal_mode"):
            seen[pragma] = connection.exec_driver_sql(f"PRAGMA {pragma}").scalar()

    assert {"synchronous": 2, "journal_mode": "delete"} == seen


def test_an_error_of_the_database_is_a_ledger_error_without_its_password():
    """What is logged must not give secrets away."""
    database = Database("sqlite:////dev/null/ledger.sqlite")
    with pytest.raises(LedgerError, match="failed"), database.transaction():
        pass

    assert "secret" not in str(Database("postgresql+psycopg://meter:secret@db/ledger"))


def test_a_file_that_is_deleted_while_it_is_being_opened(kit):
    """No empty one takes its place: it would not know what has been reported."""
    kit.record("calls", "acme", 1)
    kit.flush()
    file = kit._settings.data_dir / "ledger.sqlite"
    sa.event.listen(kit.process().database()._open_engine(), "do_connect", lambda *_: file.unlink(missing_ok=True))

    kit.record("calls", "acme", 2)
    with pytest.raises(LedgerError, match="restore it from a backup"):
        kit.flush()

    assert not file.exists()
