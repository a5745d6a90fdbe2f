"""Disks that are full, closed or gone: the app serves, the usage is kept or its loss is named, and the log says why."""

from __future__ import annotations

import re
import shutil
import sys

import pytest
from faulty_disk import closed, filled, kept_small, ledger_of, own_disk, without_power
from faulty_shop import HOUR

pytestmark = [pytest.mark.long, pytest.mark.thorough]

FULL = r"full|No space left|File too large|disk I/O error"
CLOSED = r"Permission denied|readonly|unable to open|disk I/O error"
"""What the system says, or SQLite."""
FREE_SPACE = r"(?i)free (some |disk )?space|make room"
MAKE_WRITABLE = r"(?i)writable|may write|permission|look at its disk"
linux = pytest.mark.skipif(sys.platform != "linux", reason="the limits of another process are set on Linux only")


@pytest.fixture
def start_on_own_disk(start, data_dir):
    """A function that starts the app with its data on a small disk of its own."""
    wrapper = own_disk(data_dir)
    if wrapper is None:
        pytest.skip("this machine lets us mount nothing")
    return lambda **variables: start(wrapper=wrapper, **variables)


@pytest.fixture
def start_without_power(start):
    """A function that starts the app as one that the modes of files hold back."""
    wrapper = without_power()
    if wrapper is None:
        pytest.skip("root is held back by nothing here")
    return lambda **variables: start(wrapper=wrapper, **variables)


def test_a_disk_that_fills_while_the_app_serves(start_on_own_disk, account, settle):
    """Usage stays in the journal, which has its space; as soon as there is room, it goes on to the ledger."""
    app = start_on_own_disk()
    app.serve(account.customer)
    app.wait_until_flushed()

    with filled(app.view):
        app.serve(account.customer)
        message = app.wait_for_trouble("flush_failed")
        app.serve(account.customer, rounds=3)
        in_memory = app.ask("health")["journal"]["in_memory"]
    app.wait_until_flushed()
    app.serve(account.customer)
    settle(app)

    assert not in_memory
    assert re.search(FULL, message)
    assert re.search(FREE_SPACE, message)
    assert re.search(FULL, app.said_of("flush_failed"))


def test_a_disk_that_is_full_from_the_start(start_on_own_disk, account, settle):
    """It counts in memory, says both, and puts everything in its place as soon as there is one."""
    app = start_on_own_disk()

    with filled(app.view):
        app.serve(account.customer)
        without_journal = app.wait_for_trouble("journal_in_memory")
        app.wait_for_trouble("flush_failed")
        app.serve(account.customer)
    healthy = app.wait_until_flushed()
    app.serve(account.customer)
    settle(app)

    assert re.search(FREE_SPACE, without_journal)
    assert not healthy["journal"]["in_memory"]
    assert re.search(FREE_SPACE, app.said_of("journal_in_memory"))
    assert re.search(FULL, app.said_of("flush_failed"))


def test_an_app_that_ends_while_the_disk_is_full(start_on_own_disk, account):
    """What neither the journal nor the ledger would take is lost with the process, and the log says how much."""
    app = start_on_own_disk()

    with filled(app.view):
        app.serve(account.customer, rounds=2)
        app.wait_for_trouble("flush_failed")
        assert 0 == app.stop()

    assert app.counted == app.lost()
    assert "lost" in app.said_of("journal_lost")


@linux
def test_files_that_may_not_grow(start, account, settle):
    """So it is where a quota or a limit lets no file grow."""
    app = start()
    app.serve(account.customer)
    app.wait_until_flushed()

    with kept_small(app):
        app.serve(account.customer)
        message = app.wait_for_trouble("flush_failed")
        app.serve(account.customer, rounds=3)
    app.wait_until_flushed()
    settle(app)

    assert re.search(FULL, message)
    assert re.search(FULL, app.said_of("flush_failed"))


@pytest.mark.parametrize("mode", [0o500, 0o000], ids=["read-only", "no-permission"])
def test_a_directory_that_is_closed_while_the_app_serves(start_without_power, account, settle, data_dir, mode):
    """The journal's files are open already, so nothing can happen to the usage in them."""
    app = start_without_power()
    app.serve(account.customer)
    app.wait_until_flushed()

    with closed(data_dir, mode):
        app.serve(account.customer)
        message = app.wait_for_trouble("flush_failed")
        app.serve(account.customer, rounds=3)
        in_memory = app.ask("health")["journal"]["in_memory"]
    app.wait_until_flushed()
    app.serve(account.customer)
    settle(app)

    assert not in_memory
    assert re.search(CLOSED, message)
    assert re.search(MAKE_WRITABLE, message)
    assert re.search(CLOSED, app.said_of("flush_failed"))


@pytest.mark.parametrize("mode", [0o500, 0o000], ids=["read-only", "no-permission"])
def test_a_directory_that_is_closed_from_the_start(start_without_power, account, settle, data_dir, mode):
    """It counts in memory, and says what to do; when that is done, nothing is missing."""
    data_dir.mkdir()
    app = start_without_power()

    with closed(data_dir, mode):
        app.serve(account.customer)
        message = app.wait_for_trouble("journal_in_memory")
        app.wait_for_trouble("flush_failed")
        app.serve(account.customer, rounds=2)
    app.wait_until_flushed()
    app.serve(account.customer)
    settle(app)

    assert re.search(MAKE_WRITABLE, message)
    assert re.search(MAKE_WRITABLE, app.said_of("journal_in_memory"))
    assert re.search(CLOSED, app.said_of("flush_failed"))


def test_a_directory_that_is_moved_away_and_back(start, account, settle, data_dir, tmp_path):
    """The kit makes no new ledger beside the one that is gone; when that is back, everything goes there."""
    app = start()
    app.serve(account.customer)
    app.wait_until_flushed()
    data_dir.rename(tmp_path / "moved")

    app.serve(account.customer)
    message = app.wait_for_trouble("flush_failed")
    app.serve(account.customer)
    data_dir.mkdir(exist_ok=True)
    ledger_of(tmp_path / "moved").rename(ledger_of(data_dir))
    app.wait_until_flushed()
    app.serve(account.customer)
    settle(app)

    assert re.search(r"(?i)restore", message)
    assert re.search(r"(?i)restore", app.said_of("flush_failed"))


def test_a_directory_that_is_deleted(start, account, settle, data_dir, clock):
    """The app serves on; after a restart it has a new ledger, and what no file kept is named."""
    app = start()
    app.serve(account.customer)
    settle(app)
    shutil.rmtree(data_dir)

    app.serve(account.customer, rounds=2)
    message = app.wait_for_trouble("flush_failed")
    app.serve(account.customer)
    assert 0 == app.stop()
    restarted = start()
    restarted.serve(account.customer)
    clock.advance(HOUR)
    restarted.ask("clock", now=clock.now)
    restarted.ask("report")

    assert app.counted + restarted.counted == account.billed + app.lost()
    assert {"counted", "sent"} == set(restarted.books())
    assert re.search(r"(?i)restart", message)
    assert re.search(r"(?i)restart", app.said_of("flush_failed"))
