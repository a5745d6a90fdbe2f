"""A kit from its first count to its end: what is recorded arrives in the ledger, once."""

from __future__ import annotations

import json
import logging
import sqlite3
from datetime import datetime, timedelta, timezone

import pytest
from fake_clock import NOON
from plain_exchange import counted, serve

from meterkit import LedgerError, Meter, UsageError
from meterkit.ledger import database


def test_record_flush_usage(kit):
    """What is recorded is in the ledger after a flush, by meter, company, user and window."""
    kit.record("calls", "acme", 3)
    kit.record("calls", "acme", 4, user="ann")
    kit.record(kit.meters["calls"], "globex")
    kit.record("calls", "acme", 0)
    kit.flush()

    assert [
        ("calls", "acme", None, NOON, 3),
        ("calls", "acme", "ann", NOON, 4),
        ("calls", "globex", None, NOON, 1),
    ] == [(row.meter, row.company, row.user, row.window, row.quantity) for row in kit.usage()]


def test_usage_of_some(make_kit, clock):
    """Usage can be asked for by company, by meter and by time."""
    tokens = Meter("tokens")
    kit = make_kit(Meter("calls"), tokens)
    for company in ("acme", "globex"):
        kit.record("calls", company)
        kit.record("tokens", company)
    clock.advance(3600)
    kit.record("calls", "acme")
    kit.flush()

    assert [3, 2, 2, 1, 4] == [
        len(kit.usage(**only))
        for only in (
            {"company": "acme"},
            {"meter": "tokens"},
            {"meter": tokens},
            {"since": NOON + 1},
            {"until": NOON + 3600},
        )
    ]


def test_flushing_again_adds_nothing(kit):
    """However often it is flushed, what was counted once is there once."""
    kit.record("calls", "acme", 3)
    for _ in range(3):
        kit.flush()

    assert {("calls", "acme"): 3} == counted(kit)


def test_without_the_thread_nothing_is_missing(make_kit):
    """What is counted and not flushed is shown, and is flushed at the end by the kit itself."""
    first = make_kit()
    first.record("calls", "acme", 3)
    books = first.health()["books"]["calls"]
    first.close()

    assert (3, 3, True) == (books["counted"], books["journal"], books["balanced"])
    assert [3] == [row.quantity for row in make_kit().usage()]


def test_the_thread_flushes(make_kit):
    """Usage reaches the ledger without any call."""
    kit = make_kit(flush_interval=0.01)
    kit.record("calls", "acme", 3)

    assert any(kit.usage() for _ in range(10_000))


@pytest.mark.parametrize("before", [lambda kit: None, lambda kit: kit.flush(), lambda kit: kit.record("calls", "acme")])
def test_close_again(make_kit, before):
    """Closing is harmless at any time, and twice."""
    kit = make_kit()
    before(kit)
    kit.close()
    kit.close()


def test_a_count_after_close(make_kit):
    """A late count starts the kit again, and is not lost."""
    kit = make_kit()
    for _ in range(3):
        kit.record("calls", "acme")
        kit.close()

    assert {("calls", "acme"): 3} == counted(kit)


def test_closed_kits_leave_no_files(make_kit, tmp_path):
    """What is flushed has left the journal."""
    kit = make_kit()
    kit.record("calls", "acme")
    kit.flush()
    kit.record("calls", "acme")
    kit.close()

    left = sorted(path.name for path in (tmp_path / "meterkit").iterdir())
    assert [".gitignore", "flusher.lock", "journal", "ledger.sqlite"] == left
    assert [] == list((tmp_path / "meterkit" / "journal").iterdir())


def test_several_kits_share_a_directory(make_kit):
    """Kits of one directory share its usage, and none takes what another is still counting."""
    one, other = make_kit(), make_kit()
    one.record("calls", "acme", 1)
    other.record("calls", "acme", 2)
    other.flush()
    flushed = [row.quantity for row in other.usage()]
    one.flush()

    assert ([2], [3]) == (flushed, [row.quantity for row in other.usage()])


def test_a_meter_that_has_left_the_code(make_kit):
    """Usage of a meter that the new code does not know is flushed, shown and balanced all the same."""
    old = make_kit(Meter("searches", event_name="api_searches"), Meter("calls"))
    old.record("searches", "acme", 3)
    old._supervisor.runtime().journal.close()  # as a kill would, without a flush
    new = make_kit(Meter("calls"))

    assert {("searches", "acme"): 3} == counted(new)
    assert new.health()["books"]["searches"]["balanced"]


def test_a_company_without_a_link(kit):
    """Usage of a company that Stripe does not know waits, and health says for what."""
    kit.record("calls", "acme", 3)
    kit.record("calls", "cus_123", 4)
    kit.flush()
    waiting = kit.health()

    assert {"acme": None, "cus_123": "cus_123"} == {row.company: row.customer for row in kit.usage()}
    assert (3, 4) == (waiting["books"]["calls"]["unlinked"], waiting["books"]["calls"]["unreported"])
    (said,) = [each for each in waiting["attention"] if "kit.link(company, customer)" in each]
    assert "'acme'" in said
    assert "35 days are left" in said


def test_a_link(kit):
    """Once it is linked, a company's usage waits no longer, what was counted before included; links can be changed."""
    kit.record("calls", "acme", 3)
    kit.flush()
    kit.link("acme", "cus_1")
    kit.link("acme", "cus_2")

    assert ["cus_2"] == [row.customer for row in kit.usage()]
    assert (0, 3) == (kit.health()["books"]["calls"]["unlinked"], kit.health()["books"]["calls"]["unreported"])


@pytest.mark.parametrize(
    ("company", "customer", "reason"),
    [
        ("acme", "sub_1", "customer_not_stripe"),
        ("acme", 5, "customer_not_str"),
        ("acme", "", "customer_empty"),
        ("", "cus_1", "company_empty"),
        (None, "cus_1", "company_not_str"),
        ("cus_1", "cus_2", "company_is_customer"),
    ],
)
def test_a_wrong_link(kit, company, customer, reason):
    """A link ties a company to a Stripe customer, and nothing else to anything else."""
    with pytest.raises(UsageError) as caught:
        kit.link(company, customer)

    assert reason == caught.value.reason


def test_a_report_without_a_key(kit, caplog):
    """Without a key, usage is kept and not reported, and the report, the log and health say so."""
    kit.record("calls", "cus_1", 3)
    summary = kit.report(include_open=True)

    assert "no Stripe key: set STRIPE_SECRET_KEY" in summary.error
    assert 1 == sum("no Stripe key: set STRIPE_SECRET_KEY" in sentence for sentence in kit.health()["attention"])
    assert ["no_stripe_key"] == [record.event for record in caplog.records if record.levelno >= logging.WARNING]
    assert 3 == kit.health()["books"]["calls"]["unreported"]


def test_health_is_well(make_kit):
    """Where nothing needs attention, health says just that."""
    kit = make_kit(stripe_key="sk_test_1", identify=lambda _: "cus_1")
    serve(kit)
    health = kit.health()

    assert (True, [], {}) == (health["ok"], health["attention"], health["problems"])


def test_health_is_data(make_kit):
    """Whatever it says, health can be sent as JSON, and has no secret in it."""
    kit = make_kit(stripe_key="sk_live_hush", ledger="postgresql+psycopg://user:hush@127.0.0.1:1/db")
    serve(kit)

    assert "hush" not in json.dumps(kit.health())


@pytest.mark.parametrize("address", ["127.0.0.1:1/db", "127.0.0.1:port/db"])
def test_a_database_that_is_not_there(make_kit, address):
    """Without its database, its driver or its port, a kit counts on; a flush raises our error, and health none."""
    kit = make_kit(ledger=f"postgresql+psycopg://user:hush@{address}")
    kit.record("calls", "acme", 3)

    with pytest.raises(LedgerError):
        kit.flush()
    assert "hush" not in repr(kit.health())
    assert (None, False) == (kit.health()["books"], kit.health()["ok"])


def test_a_locked_ledger(make_kit, tmp_path, monkeypatch):
    """While another program locks the ledger, usage stays in the journal; then it goes in."""
    monkeypatch.setattr(database, "PATIENCE", 0.01)
    kit = make_kit()
    kit.record("calls", "acme", 1)
    kit.flush()
    other = sqlite3.connect(tmp_path / "meterkit" / "ledger.sqlite", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    for _ in range(3):
        kit.record("calls", "acme", 2)
        with pytest.raises(LedgerError, match="database is locked"):
            kit.flush()
    unwell = kit.health()
    other.execute("ROLLBACK")
    other.close()

    assert any("database is locked" in sentence for sentence in unwell["attention"])
    assert {("calls", "acme"): 7} == counted(kit)


def test_a_broken_ledger(make_kit, tmp_path):
    """A ledger that is no database is left alone, and usage is kept until it is mended, even by the next process."""
    kit = make_kit()
    kit.record("calls", "acme", 1)
    kit.flush()
    ledger = tmp_path / "meterkit" / "ledger.sqlite"
    sound = ledger.read_bytes()
    ledger.write_bytes(b"\xff" * len(sound))
    kit.record("calls", "acme", 2)
    with pytest.raises(LedgerError, match="file is not a database"):
        kit.flush()
    kit.close()
    broken = ledger.read_bytes()
    ledger.write_bytes(sound)

    assert b"\xff" * len(sound) == broken
    assert {("calls", "acme"): 3} == counted(make_kit())


def test_a_close_that_cannot_flush(make_kit, tmp_path, caplog):
    """The end of a process raises nothing, whatever is broken; the log says what was left."""
    kit = make_kit()
    (tmp_path / "meterkit").mkdir()
    (tmp_path / "meterkit" / "ledger.sqlite").write_bytes(b"\xff" * 4096)
    kit.record("calls", "acme", 1)
    kit.close()

    assert "usage could not be moved to the ledger, and stays in the journal" in caplog.text


def test_no_place_for_the_journal(make_kit, tmp_path):
    """Where no file can be had, a kit counts in memory, flushes to the ledger as ever, and says what may be lost."""
    (tmp_path / "file").write_bytes(b"")
    kit = make_kit(data_dir=tmp_path / "file" / "data", ledger=f"sqlite:///{tmp_path}/ledger.sqlite")
    kit.record("calls", "acme", 3)
    unwell = kit.health()

    assert {("calls", "acme"): 3} == counted(kit)
    assert unwell["journal"]["in_memory"]
    assert "counting in memory" in unwell["problems"]["journal_in_memory"]["message"]
    assert unwell["books"]["calls"]["balanced"]


def test_no_place_at_all(make_kit, tmp_path):
    """Without journal and ledger a kit still counts; once there is a place, everything goes there."""
    (tmp_path / "data").write_bytes(b"")
    kit = make_kit(data_dir=tmp_path / "data")
    kit.record("calls", "acme", 3)
    with pytest.raises(LedgerError, match=r"data/ledger\.sqlite failed"):
        kit.flush()
    kit.record("calls", "acme", 4)
    unwell = kit.health()
    (tmp_path / "data").unlink()
    (tmp_path / "data").mkdir()

    assert (None, True) == (unwell["books"], unwell["journal"]["in_memory"])
    assert {("calls", "acme"): 7} == counted(kit)
    assert not kit.health()["journal"]["in_memory"]
    assert "journal_in_memory" not in kit.health()["problems"]


def test_usage_of_the_past(kit, clock):
    """It is counted in the hour in which it was used."""
    now = datetime.fromtimestamp(clock.now, tz=timezone.utc)
    kit.record("calls", "acme", 3, at=now - timedelta(days=34, minutes=30))
    kit.record("calls", "acme", 4, at=now.astimezone(timezone(timedelta(hours=9))))
    kit.flush()

    hour = NOON - 34 * 24 * 3600 - 3600
    assert {hour: 3, NOON: 4} == {row.window: row.quantity for row in kit.usage()}


@pytest.mark.parametrize(
    ("at", "reason"),
    [
        (datetime(2026, 3, 1, 12), "at_not_aware"),  # noqa: DTZ001 - that is what is wrong with it
        (NOON, "at_not_aware"),
        (datetime(2026, 1, 1, tzinfo=timezone.utc), "at_too_old"),
        (datetime(2026, 3, 1, 12, 11, tzinfo=timezone.utc), "at_in_future"),
    ],
)
def test_a_moment_that_cannot_be_counted(kit, at, reason):
    """Nothing is, and the message says what helps."""
    with pytest.raises(UsageError) as refused:
        kit.record("calls", "acme", 1, at=at)

    assert reason == refused.value.reason
    assert [] == kit.usage()
