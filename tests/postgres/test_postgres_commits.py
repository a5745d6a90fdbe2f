"""Connections that break at a commit: whether it happened or not, what is done again is counted and billed once."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress

import pytest
from guard import GUARD
from postgres_account import billed, make_customers, used
from postgres_proxy import Proxy
from thorough import some

from meterkit import LedgerError

pytestmark = [pytest.mark.long, pytest.mark.thorough]

HOUR = 3600


@pytest.fixture
def proxy(postgres_server):
    """Between the kits and the server."""
    with Proxy(postgres_server.port) as proxy:
        yield proxy


@pytest.fixture
def ledger(postgres_server, proxy):
    """The URL of an empty database, by way of the proxy."""
    return postgres_server.url(postgres_server.new_database(), port=proxy.port)


@pytest.fixture
def kit(make_reporting_kit, ledger):
    """A kit whose tables are made, so that the next fold is that of a flush."""
    kit = make_reporting_kit(ledger=ledger)
    assert [] == kit.usage()
    return kit


def test_a_commit_whose_answer_was_lost_is_not_repeated(kit, proxy):
    """It happened, and the process cannot know: to flush again adds nothing."""
    kit.record("calls", "acme", 5)
    proxy.lose_fold(answer_only=True)

    with pytest.raises(LedgerError):
        kit.flush()
    assert [5] == [row.quantity for row in kit.usage()]
    kit.flush()

    assert 1 == proxy.broken
    assert [5] == [row.quantity for row in kit.usage()]
    assert {"counted": 5, "journal": 0, "balanced": True}.items() <= kit.health()["books"]["calls"].items()


def test_a_commit_that_was_lost_is_repeated(kit, proxy):
    """It did not happen: to flush again adds what was counted, and what has been counted since."""
    kit.record("calls", "acme", 5)
    proxy.lose_fold(answer_only=False)

    with pytest.raises(LedgerError):
        kit.flush()
    assert [] == kit.usage()
    kit.record("calls", "acme", 2)
    kit.flush()

    assert 1 == proxy.broken
    assert [7] == [row.quantity for row in kit.usage()]
    assert {"counted": 7, "journal": 0, "balanced": True}.items() <= kit.health()["books"]["calls"].items()


def test_between_a_commit_and_its_answer_the_books_balance(kit, make_kit, proxy, ledger):
    """What is in the ledger and still in the journal is counted once, whoever looks."""
    kit.record("calls", "acme", 5)
    proxy.lose_fold(answer_only=True)
    with pytest.raises(LedgerError):
        kit.flush()

    books = kit.health()["books"]["calls"]

    assert (5, 0, 5, True) == (books["counted"], books["journal"], books["unlinked"], books["balanced"])


def test_the_heir_of_a_process_that_got_no_answer_adds_nothing(make_kit, proxy, ledger, tmp_path):
    """It died after that; the next process finds its file, and the ledger knows it."""
    first = make_kit(ledger=ledger, data_dir=tmp_path / "shared")
    first.usage()
    first.record("calls", "acme", 5)
    for _ in range(2):  # the flush, and the one more that its end makes
        proxy.lose_fold(answer_only=True)
        with suppress(LedgerError):
            first.flush()
    first.close()

    heir = make_kit(ledger=ledger, data_dir=tmp_path / "shared")
    heir.flush()

    assert [5] == [row.quantity for row in heir.usage()]


HANGS = """
import sys, threading
from meterkit import Meter, MeterKit

kit = MeterKit(meters=[Meter("calls")], ledger=sys.argv[1], data_dir=sys.argv[2], flush_interval=3600)
kit.usage()
kit.record("calls", "acme", 5)
print("ready", flush=True)
sys.stdin.readline()
hanging = threading.Thread(target=kit.flush)
hanging.start()
sys.stdin.readline()
kit.close()
print("closed", flush=True)
hanging.join()
"""


@pytest.mark.parametrize("meanwhile", [True, False], ids=["meanwhile", "afterwards"])
def test_a_flush_that_was_given_up_is_not_repeated(make_kit, postgres_server, proxy, tmp_path, meanwhile):
    """
    It hangs when its kit is closed, and goes on later; another process flushes before or after that, and ends.
    """
    database, data_dir = postgres_server.new_database(), tmp_path / "shared"
    command = [sys.executable, "-c", HANGS, postgres_server.url(database, port=proxy.port), str(data_dir)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as hanging:
        assert b"ready\n" == hanging.stdout.readline()
        proxy.hold(b"meterkit_folds")
        tell(hanging)
        assert proxy.wait_until_held(GUARD)
        tell(hanging)
        assert b"closed\n" == hanging.stdout.readline()
        heir = make_kit(ledger=postgres_server.url(database), data_dir=data_dir)
        heir.record("calls", "acme", 2)
        if meanwhile:
            heir.flush()
            heir.close()
        proxy.release()

    heir.flush()
    assert {"acme": 7} == used(heir)


def tell(process):
    """Let it go on."""
    process.stdin.write(b"\n")
    process.stdin.flush()


@pytest.mark.parametrize("number", some([1, 4, 7], among=range(1, 9)))
@pytest.mark.parametrize("reaches", [True, False], ids=["answer", "commit"])
def test_whichever_commit_of_a_report_breaks_it_is_billed_once(kit, stripe, proxy, clock, number, reaches):
    """While the tables are read, the outbox is written, an event is noted, or its fate: Stripe gets the sum once."""
    customers = make_customers(stripe, ["acme", "globex"])
    for company, customer in customers.items():
        kit.link(company, customer)
        kit.record("calls", company, len(company))
    clock.advance(HOUR)
    (proxy.lose_answer if reaches else proxy.lose_commit)(number)

    for _ in range(4):
        with suppress(LedgerError):
            kit.report()

    assert 1 == proxy.broken
    assert {"acme": 4, "globex": 6} == billed(stripe, customers)
    books = kit.health()["books"]["calls"]
    assert (10, 10, True) == (books["counted"], books["sent"], books["balanced"])
