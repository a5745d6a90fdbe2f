"""What a scrape costs, and what it shows when the ledger is slow or away, in an event loop and after a fork."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
import time
from types import SimpleNamespace

import pytest
from guard import GUARD, tries
from prometheus_client import CollectorRegistry, generate_latest

from meterkit import MeterKit
from meterkit.metrics import PrometheusCollector, ledger_figures
from meterkit.metrics.ledger_figures import LedgerReader


def names(collector):
    """The names of what a scrape shows, and their figures, of metrics without labels."""
    return {s.name: s.value for family in collector.collect() for s in family.samples if not s.labels}


@pytest.fixture
def reads(monkeypatch):
    """A list with an item for each time that a ledger was read."""
    health, found = MeterKit.health, []
    monkeypatch.setattr(MeterKit, "health", lambda kit: (found.append(kit), health(kit))[1])
    return found


@pytest.fixture
def held(monkeypatch):
    """Readings wait until this is set."""
    health, let_go = MeterKit.health, threading.Event()
    monkeypatch.setattr(MeterKit, "health", lambda kit: (let_go.wait(GUARD), health(kit))[1])
    yield let_go
    let_go.set()


def test_registering_reads_nothing(kit, reads, tmp_path):
    """An app registers the collector when it is imported, before its server forks."""
    registry = CollectorRegistry(auto_describe=True)
    registry.register(PrometheusCollector(kit))

    assert [] == reads
    assert not (tmp_path / "meterkit").exists()
    with pytest.raises(ValueError, match="Duplicated"):
        registry.register(PrometheusCollector(kit))


def test_the_ledger_is_read_once_in_a_while(kit, reads):
    """Scrapes that follow each other show the same reading; with ``max_age=0``, each has its own."""
    kept, always = PrometheusCollector(kit, max_age=3600), PrometheusCollector(kit, max_age=0)
    for collector, expected in ((kept, 1), (always, 4)):
        for _ in range(3):
            list(collector.collect())
        assert expected == len(reads)


def test_what_takes_long_is_read_less_often(kit, monkeypatch):
    """At most a tenth of the time: after 30 seconds of reading, not for another 270."""
    now = [1000.0]
    reader = LedgerReader(kit, max_age=10)
    with monkeypatch.context() as patched:
        patched.setattr(ledger_figures.time, "monotonic", lambda: now[0])
        patched.setattr(ledger_figures, "read", lambda _: now.append(now.pop() + 30.0))
        reader._work()

    assert 1000.0 + 30 + 270 == reader._due


def test_many_scrapes_at_once(kit, held, reads):
    """One reading serves them all."""
    collector = PrometheusCollector(kit, max_age=3600)
    threads = [threading.Thread(target=lambda: list(collector.collect())) for _ in range(8)]
    for thread in threads:
        thread.start()
    held.set()
    for thread in threads:
        thread.join()

    assert 1 == len(reads)


def test_a_slow_ledger(kit, held, monkeypatch):
    """The first scrape has no figures of it, and does not say that it is down; a later one has them."""
    monkeypatch.setattr(ledger_figures, "WAIT_SECONDS", 0.0)
    collector = PrometheusCollector(kit)
    first = names(collector)
    held.set()
    for _ in tries():
        if "meterkit_ledger_up" in names(collector):
            break

    assert "meterkit_ledger_up" not in first
    assert first["meterkit_journal_in_memory"] == 0
    assert 1 == names(collector)["meterkit_ledger_up"]


def test_a_ledger_that_hangs(kit, held, monkeypatch):
    """What was read before is shown for a while; then the ledger counts as down."""
    collector = PrometheusCollector(kit, max_age=0)
    held.set()
    before = names(collector)
    held.clear()
    monkeypatch.setattr(ledger_figures, "WAIT_SECONDS", 0.0)
    meanwhile = names(collector)
    monkeypatch.setattr(ledger_figures, "STALE_SECONDS", 0.0)
    for _ in tries():
        if "meterkit_ledger_up" in (later := names(collector)):
            break

    assert [1, 1, 0] == [each["meterkit_ledger_up"] for each in (before, meanwhile, later)]
    assert ("meterkit_attention" in meanwhile, "meterkit_attention" in later) == (True, False)


def test_an_event_loop_is_not_held_up(kit, held, monkeypatch):
    """The scrape starts the reading, and returns; one that comes later shows what was read."""
    collector = PrometheusCollector(kit, max_age=3600)
    # Whoever waits for the reading lets it go on, and would have what was read at once.
    waited = SimpleNamespace(monotonic=time.monotonic, time=time.time, sleep=lambda _: held.set())
    monkeypatch.setattr(ledger_figures, "time", waited)

    async def scrape():
        return names(collector)

    first = asyncio.run(scrape())
    held.set()
    for _ in tries():
        later = asyncio.run(scrape())
        if "meterkit_ledger_up" in later:
            break

    assert "meterkit_ledger_up" not in first
    assert 1 == later["meterkit_ledger_up"]


@pytest.mark.parametrize("ledger", ["sqlite:////proc/none/ledger.db", "postgresql+psycopg://nobody@127.0.0.1:1/none"])
def test_a_ledger_that_is_away(make_kit, ledger):
    """``meterkit_ledger_up`` is 0; its figures are absent, and those of the process are not. Nothing is raised."""
    kit = make_kit(ledger=ledger)
    kit.recorder.problems.note("two_kits", "one is enough")
    registry = CollectorRegistry()
    registry.register(PrometheusCollector(kit))
    page = generate_latest(registry).decode()

    assert "meterkit_ledger_up 0.0" in page
    assert 'meterkit_problems_total{reason="two_kits"} 1.0' in page
    assert "meterkit_usage_counted{" not in page


def test_a_ledger_that_comes_back(make_kit, tmp_path):
    """The next reading finds it."""
    file = tmp_path / "file"
    file.write_text("in the way")
    kit = make_kit(ledger=f"sqlite:///{file}/ledger.db")
    collector = PrometheusCollector(kit, max_age=0)
    before = names(collector)
    file.unlink()

    assert (0, 1) == (before["meterkit_ledger_up"], names(collector)["meterkit_ledger_up"])


def test_a_figure_that_fails(kit, monkeypatch):
    """The application's own metrics are scraped all the same, and it is noted."""
    monkeypatch.setattr(type(kit.recorder.evaluator.unmatched), "as_dict", lambda _: 1 / 0)
    monkeypatch.setattr(MeterKit, "health", lambda _: {"attention": [], "books": {}})

    assert 1 == names(PrometheusCollector(kit))["meterkit_ledger_up"]
    assert "internal_error" in kit.recorder.problems.as_dict()


def test_in_a_forked_worker(kit):
    """A worker that forks while a scrape is served reads for itself."""
    collector = PrometheusCollector(kit, max_age=3600)
    list(collector.collect())
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        kit.record("calls", "cus_1", 3)
        found = {
            s.value for family in collector.collect() for s in family.samples if s.name == "meterkit_usage_counted"
        }
        os.write(writing, repr(found).encode())
        os._exit(0)
    os.waitpid(pid, 0)

    assert b"{3}" == os.read(reading, 100)
    os.close(reading)
    os.close(writing)


def imports(script):
    """What a fresh interpreter has imported after *script*."""
    code = textwrap.dedent(script) + "\nimport sys\nprint(*{name.split('.')[0] for name in sys.modules})"
    return set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("import meterkit; meterkit.MeterKit(meters=[meterkit.Meter('calls')])", set()),
        ("import meterkit.metrics", set()),
        ("from meterkit.metrics import PrometheusCollector", {"prometheus_client"}),
        ("from meterkit.metrics import instrument", {"opentelemetry"}),
    ],
)
def test_nothing_is_imported_before_it_is_asked_for(script, expected):
    """Neither library comes with meterkit, nor with the other."""
    assert expected == imports(script) & {"prometheus_client", "opentelemetry"}


def test_a_misspelt_name():
    """It is an ordinary error, and the right ones can be completed."""
    import meterkit.metrics

    with pytest.raises(AttributeError, match="no attribute 'PrometheusColector'"):
        meterkit.metrics.PrometheusColector  # noqa: B018
    assert {"PrometheusCollector", "instrument"} <= set(dir(meterkit.metrics))
