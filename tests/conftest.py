"""A clock that a test sets, kits that are closed after it, and none of the machine's own settings."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
import trustme
from fake_clock import Clock
from guard import GUARD
from held import tell_what_is_held, time_out_when_held
from hypothesis import HealthCheck, settings
from stripe_account import api, make_meter
from stripe_types import wrong_requests

from meterkit import Meter, MeterKit
from meterkit.core import filesystem
from meterkit.flusher import handover
from meterkit.governance import governor
from meterkit.ledger import database, schema
from meterkit.metering import context, exchange
from meterkit.metrics import ledger_figures
from meterkit.notices import dispatcher
from meterkit.pages.team import kept
from meterkit.reporting import delivery
from meterkit.runtime import process, stripe_jobs
from meterkit.sandbox import Sandbox
from meterkit.stripe_api import retry, transport

# hypothesis would fail what takes 0.2 seconds, and what is slow to think of.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

MEMORY = Path("/dev/shm")
ROOM = 1 << 30

if "TMPDIR" not in os.environ and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM:
    # A commit waits for the disk, and there are a hundred thousand of them. TMPDIR=/tmp tests with the disk.
    os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in what a script runs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)  # or the programs under test would ignore it, too


@pytest.fixture(scope="session")
def one_authority(tmp_path_factory):
    """A file with a certificate that signs nothing: each client reads those whom it trusts, and 150 take it 30 ms."""
    path = tmp_path_factory.mktemp("tls") / "authority.pem"
    trustme.CA().cert_pem.write_to_path(path)
    return path


FLUSHER = os.environ.get("METERKIT_TEST_FLUSHER")
"""``thread`` or ``process`` to have the programs under test flush there; tests themselves flush in their threads."""


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch, one_authority):
    for name in list(os.environ):
        if name.startswith(("STRIPE_", "METERKIT_")):
            monkeypatch.delenv(name)
    if FLUSHER:
        monkeypatch.setenv("METERKIT_FLUSHER", FLUSHER)
    monkeypatch.setenv("SSL_CERT_FILE", str(one_authority))


@pytest.fixture(autouse=True)
def _files_that_stay(monkeypatch):
    """The tests keep theirs in memory, and in containers, which would be said in each test's log."""
    monkeypatch.setattr(filesystem, "EPHEMERAL", frozenset())
    monkeypatch.setattr(filesystem, "PLATFORMS", ())


@pytest.fixture(autouse=True)
def _nothing_said_outside():
    """No test hears of what others called outside an exchange, or is inside one that another has left open."""
    context.outside.after_fork()
    left = exchange.current.get()
    if left is not None:
        left.closed = True


@pytest.fixture(autouse=True)
def _unhurried(monkeypatch):
    """No limit of time is reached because a machine is slow; a test that is about one sets it, and has it reached."""
    for module in (stripe_jobs, process, dispatcher):
        monkeypatch.setattr(module, "STOP_SECONDS", GUARD)
    monkeypatch.setattr(process, "LAST_REPORT_SECONDS", GUARD)
    monkeypatch.setattr(process, "HANDED_OVER_SECONDS", GUARD)
    monkeypatch.setattr(handover, "LATE_SECONDS", GUARD)
    for name in ("PATIENCE", "HURRY", "STATEMENT_SECONDS"):
        monkeypatch.setattr(database, name, GUARD)
    for name in ("WAIT_SECONDS", "STALE_SECONDS"):
        monkeypatch.setattr(ledger_figures, name, GUARD)
    monkeypatch.setattr(delivery, "BATCH_SECONDS", GUARD)
    monkeypatch.setattr(kept, "PATIENCE", GUARD)
    monkeypatch.setattr(governor, "READY_SECONDS", GUARD)
    monkeypatch.setattr(transport, "LONGEST_SECONDS", GUARD)
    monkeypatch.setattr(transport, "TIMEOUT", httpx.Timeout(GUARD))


@pytest.fixture(scope="session")
def tables_of_sqlite():
    """What SQLAlchemy says to SQLite for a new ledger, each time the same."""
    said = []
    engine = sa.create_mock_engine("sqlite://", lambda made, *_: said.append(str(made.compile(dialect=engine.dialect))))
    schema.metadata.create_all(engine, checkfirst=False)
    return said


@pytest.fixture(autouse=True)
def _tables_are_written_once(tables_of_sqlite, monkeypatch):
    """To compile the same statements again for each new ledger took most of the time of many a test."""
    create_all = sa.MetaData.create_all

    def create(metadata, connection, *args, **options):
        if metadata is not schema.metadata or connection.dialect.name != "sqlite" or _tables_in(connection):
            create_all(metadata, connection, *args, **options)
        else:
            for statement in tables_of_sqlite:
                connection.exec_driver_sql(statement)

    monkeypatch.setattr(sa.MetaData, "create_all", create)


def _tables_in(connection):
    """The tables of SQLite that are there already."""
    return connection.exec_driver_sql("SELECT name FROM sqlite_master").fetchall()


@pytest.fixture
def _hurried_threads():
    """Let the interpreter switch threads wherever it can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def clock():
    """Ten past twelve on 1 March 2026."""
    return Clock()


@pytest.fixture
def make_kit(tmp_path, clock):
    """
    A function that makes kits which share a directory, and flush only when told to.

    By default they have one meter, ``calls``, which counts every success, and a customer's id pays for itself.
    """
    kits = []

    def make(*meters, **options):
        defaults = {
            "data_dir": tmp_path / "meterkit",
            "clock": clock,
            "flush_interval": 3600.0,
            "customer_ids": True,
        }
        kit = MeterKit(meters=meters or [Meter("calls")], **{**defaults, **options})
        kits.append(kit)
        return kit

    yield make
    for kit in kits:
        kit.close()


@pytest.fixture
def kit(make_kit):
    """A kit with the meter ``calls``."""
    return make_kit()


@pytest.fixture
def stripe(clock):
    """A Stripe account in which the meter ``calls`` exists, and whose clock is the tests'."""
    with Sandbox(now=clock) as sandbox:
        make_meter(sandbox, "calls")
        yield sandbox
        assert [] == wrong_requests(sandbox)


@pytest.fixture
def customer(stripe):
    """A Stripe customer, by id."""
    return api(stripe).customers.create({"name": "Acme"}).id


@pytest.fixture
def impatient(monkeypatch, tmp_path_factory):
    """A reporter with the same tries as ever, and no waits between them, nor for answers that do not come."""
    monkeypatch.setattr(retry, "MAX_WAIT", 0.01)
    directory = tmp_path_factory.mktemp("held")
    tell_what_is_held(directory, "timeout_after", "timeout_before", put=monkeypatch.setattr)
    time_out_when_held(directory, put=monkeypatch.setattr)
