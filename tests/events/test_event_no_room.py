"""Where a kill could take what was counted, nothing is acknowledged; what is sent again counts once."""

from __future__ import annotations

import shutil

import pytest
from served_events import event

from meterkit import Meter
from meterkit.journal import generation
from meterkit.service.events import route

FULL = "urn:meterkit:problem:journal_full"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(route, "ROOM_SECONDS", 0.0)


def test_a_full_disk(serve, monkeypatch):
    """No journal file can be created, so usage would be in memory alone: 503, and later it counts."""
    served = serve()

    def fail(*_args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(generation, "_allocate", fail)
        response = served.post([event(1), event(2)])
        assert (503, FULL, "5") == (response.status_code, response.json()["type"], response.headers["retry-after"])
        assert "does not count twice" in response.json()["detail"]
        assert [] == served.used()
        assert "journal_in_memory" in served.kit.health()["problems"]

    served.kit.flush()  # creates a file
    assert 202 == served.post([event(1), event(2)]).status_code
    assert [("acme", None, 6)] == served.used()


def test_a_disk_that_fills_up(serve, monkeypatch):
    """A part of a batch had room. Sent again until it is acknowledged, each event counts once."""
    monkeypatch.setattr(generation, "GENERATION_BYTES", 4096)
    served = serve()
    served.kit.process().journal.pool._size = served.kit.process().journal.pool._smallest = 4096
    batch = [event(each) for each in range(500)]
    refused = 0
    while (response := served.post(batch)).status_code != 202:
        assert (503, FULL) == (response.status_code, response.json()["type"])
        refused += 1
        served.kit.flush()

    assert refused
    assert [("acme", None, 1500)] == served.used()
    books = served.kit.health()["books"]["tokens"]
    assert (1500, True) == (books["counted"], books["balanced"])


def test_deleted_files(serve, tmp_path):
    """Files that something else has deleted take nothing any more."""
    served = serve()
    served.post(event(1))
    for path in (tmp_path / "meterkit" / "journal").iterdir():
        path.unlink()
    assert 503 == served.post(event(2)).status_code

    served.kit.flush()
    assert 202 == served.post(event(2)).status_code
    assert [("acme", None, 6)] == served.used()


def test_a_directory_that_is_gone(serve, tmp_path):
    """It is made again."""
    served = serve()
    served.post(event(1))
    served.kit.flush()
    shutil.rmtree(tmp_path / "meterkit" / "journal")
    while served.post(event(2)).status_code != 202:
        served.kit.flush()

    assert [("acme", None, 6)] == served.used()


def test_while_the_ledger_does_not_keep_up(serve):
    """Once too much waits, senders keep their events; ids are not forgotten, as those of invented companies are."""
    served = serve(Meter("tokens", event_type="prompt", value="$.tokens"))
    served.post(event(1))
    cardinality = served.kit.process().journal.cardinality
    cardinality.is_active = True
    assert 503 == served.post(event(2)).status_code
    served.kit.record("tokens", "unknown", 5, key="job-1")
    cardinality.is_active = False

    assert 202 == served.post(event(2)).status_code
    assert [("acme", None, 6), ("unknown", None, 5)] == served.used()
