"""A host publishes what it has counted, keeps it until it is acknowledged, and counts it once for ever."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest
from nats.js.api import StreamConfig
from real_nats import RealNats, ask, used, wait_until_settled
from thorough import first

from meterkit import ConfigurationError, Governance, JetStream, LedgerError, Meter, Quota
from meterkit.jetstream import publisher
from meterkit.jetstream.message import Sender


def journal_files(kit):
    """The generations with counts that wait on this host."""
    return {name for name, totals in kit.process().journal.totals().items() if totals}


def test_a_flush_publishes(host, collector, jetstream):
    """A flush leaves nothing in the journal and nothing in the ledger; a collector brings it there."""
    host.record("calls", "acme", 3)
    host.flush()

    assert set() == journal_files(host)
    assert {} == used(host)
    assert {"waiting": 1, "refused": 0} == host.health()["jetstream"]
    assert 1 == collector.collect().new
    assert {"acme": 3} == used(host)
    wait_until_settled(jetstream)
    assert {"waiting": 0, "refused": 0} == host.health()["jetstream"]
    assert host.health()["books"]["calls"]["balanced"]


def test_orphans_are_published(make_kit, jetstream, collector, tmp_path):
    """What a dead process has counted is published by the next one."""
    script = f"""
import os
from meterkit import Meter, MeterKit
kit = MeterKit(meters=[Meter("calls")], data_dir={str(tmp_path / "meterkit")!r}, flush_interval=3600)
kit.record("calls", "acme", 3)
os._exit(9)
"""
    subprocess.run([sys.executable, "-c", script], check=False)
    kit = make_kit(jetstream=jetstream)
    kit.flush()

    assert set() == journal_files(kit)
    assert 1 == collector.collect().new
    assert {"acme": 3} == used(kit)


def killed_after_publishing(tmp_path, jetstream):
    """A process that counts and publishes 3 calls, and is killed before it hears the acknowledgement."""
    script = f"""
import os
from meterkit import JetStream, Meter, MeterKit
from meterkit.journal.journal import Journal
kit = MeterKit(
    meters=[Meter("calls")], data_dir={str(tmp_path / "meterkit")!r}, flush_interval=3600, customer_ids=True,
    clock=lambda: {1_772_367_000.0!r},
    jetstream=JetStream(
        {list(jetstream.urls)!r}, stream={jetstream.stream!r}, subject={jetstream.subject!r}, replicas=1
    ),
)
Journal.forget = lambda *_, **__: os._exit(9)
kit.record("calls", "acme", 3)
kit.flush()
"""
    assert 9 == subprocess.run([sys.executable, "-c", script], check=False).returncode


def test_published_again(make_kit, collector, jetstream, tmp_path):
    """A host that was killed before it heard the acknowledgement publishes again; JetStream knows the message."""
    killed_after_publishing(tmp_path, jetstream)
    kit = make_kit(jetstream=jetstream)
    kit.flush()

    assert 1 == kit.health()["jetstream"]["waiting"]
    assert 1 == collector.collect().new
    assert {"acme": 3} == used(kit)


@pytest.mark.parametrize("jetstream_stays", first([True], among=[True, False]))
def test_published_again_much_later(make_kit, make_collector, tmp_path, jetstream_stays):
    """The same when JetStream has forgotten the message, and when the host does not publish any more."""
    with RealNats() as server:
        jetstream = JetStream(server.urls, replicas=1)
        collector = make_collector(jetstream=jetstream)
        killed_after_publishing(tmp_path, jetstream)
        assert 1 == collector.collect().new
        server.kill()
        server.start()
        server.wait()
        kit = make_kit(jetstream=jetstream if jetstream_stays else None)
        kit.flush()
        collector.close()
        if jetstream_stays:
            found = make_collector(jetstream=jetstream).collect()
            assert (1, 0) == (found.messages, found.new)
        wait_until_settled(jetstream)

        assert {"acme": 3} == used(kit)
        assert set() == journal_files(kit)


def test_folded_before_it_is_delivered(make_kit, make_collector, jetstream, tmp_path, clock):
    """A host that does not publish any more folds what it had published; the ledger must not forget that."""
    make_collector()
    killed_after_publishing(tmp_path, jetstream)
    kit = make_kit()
    kit.flush()
    clock.advance(7200)
    kit.close()  # which also forgets what it may
    kit.process().ledger().forget([])

    assert 0 == make_collector().collect().new
    assert {"acme": 3} == used(kit)


@pytest.mark.long
def test_no_server(make_kit, make_collector, jetstream):
    """While no server is there, usage stays in the journal, and the next flush after that publishes it."""
    with RealNats() as server:
        jetstream = JetStream(server.urls, replicas=1)
        kit = make_kit(jetstream=jetstream)
        collector = make_collector(jetstream=jetstream)
        kit.record("calls", "acme")
        kit.flush()
        server.kill()
        for _ in range(3):
            kit.record("calls", "acme")
            with pytest.raises(LedgerError, match=r"JetStream at nats://127\.0\.0\.1"):
                kit.flush()

        assert 3 == kit.health()["books"]["calls"]["journal"]
        assert kit.health()["jetstream"] is None
        server.start()
        server.wait()
        kit.close()
        collector.close()
        kit.flush()
        collector = make_collector(jetstream=jetstream)
        while used(kit) != {"acme": 4}:
            collector.collect()

        assert {"acme": 4} == used(kit)


def test_no_ledger(make_kit, make_collector, jetstream, tmp_path):
    """A host publishes while the ledger is away."""
    collector = make_collector()
    broken = make_kit(jetstream=jetstream, ledger="postgresql://nobody@127.0.0.1:1/none", data_dir=tmp_path / "host")
    broken.record("calls", "acme", 3)
    broken.flush()

    assert set() == journal_files(broken)
    assert "ledger_failed" in broken.health()["problems"]
    assert 1 == collector.collect().new


@pytest.mark.long
def test_a_large_generation(make_kit, make_collector, tmp_path):
    """What is too large for a message goes to the ledger directly."""
    with RealNats(options="max_payload: 4096") as server:
        kit = make_kit(jetstream=JetStream(server.urls, replicas=1))
        make_collector(jetstream=JetStream(server.urls, replicas=1))
        for number in range(3000):
            kit.record("calls", f"{number * 7919}")
        kit.flush()

        assert 3000 == sum(used(kit).values())
        assert {"waiting": 0, "refused": 0} == kit.health()["jetstream"]
        kit.record("calls", "acme")
        kit.flush()

        assert 1 == kit.health()["jetstream"]["waiting"]


def test_a_full_stream(make_kit, make_collector, jetstream):
    """A stream that is full refuses what comes, the journal keeps it, and the next flush with room publishes it."""
    collector = make_collector()
    kit = make_kit(jetstream=jetstream)

    async def limit(context):
        info = await context.stream_info(jetstream.stream)
        await context.update_stream(info.config.evolve(max_bytes=1000))

    ask(jetstream, limit)
    kit.record("calls", "acme")
    kit.flush()
    published, error = 1, ""
    while not error:
        kit.record("calls", "acme")
        try:
            kit.flush()
            published += 1
        except LedgerError as raised:
            error = str(raised)

    assert "is full: let collectors catch up, with meterkit collect" in error
    assert 1 == kit.health()["books"]["calls"]["journal"]
    assert published == collector.collect().new
    wait_until_settled(jetstream)
    kit.flush()
    assert 1 == collector.collect().new
    assert {"acme": published + 1} == used(kit)


STREAMS = {
    "memory": ({"storage": "memory"}, "is in memory, so a restart would lose usage: remove it"),
    "limits": ({"retention": "limits"}, "has retention limits, and must be a work queue"),
    "old": (
        {"discard": "old", "max_msgs": 5},
        "drops its oldest messages when it is full: nats stream edit",
    ),
    "age": ({"max_age": 3600}, "drops messages after 3,600 seconds, whether they are in the ledger or not"),
    "per subject": ({"max_msgs_per_subject": 5}, "drops messages beyond max_msgs_per_subject"),
    "no_ack": ({"no_ack": True}, "acknowledges nothing"),
    "subject": ({"subjects": ["other"]}, "does not have the subject"),
}


@pytest.mark.parametrize("name", first(["memory", "old"], among=STREAMS))
def test_a_stream_that_could_lose_usage(host, make_collector, jetstream, name):
    """Neither a host nor a collector uses it; both say why, and how to change it."""
    changes, message = STREAMS[name]
    good = {"storage": "file", "retention": "workqueue", "discard": "new", "subjects": [jetstream.subject]}
    ask(jetstream, lambda context: context.add_stream(StreamConfig(name=jetstream.stream, **{**good, **changes})))
    host.record("calls", "acme")

    with pytest.raises(LedgerError, match=message):
        host.flush()
    with pytest.raises(LedgerError, match=message):
        make_collector()
    assert 1 == host.health()["books"]["calls"]["journal"]


def test_fewer_replicas(make_kit, collector, jetstream):
    """A host that expects three copies does not publish where there is one."""
    kit = make_kit(jetstream=JetStream(jetstream.urls, stream=jetstream.stream, subject=jetstream.subject))
    kit.record("calls", "acme")

    with pytest.raises(LedgerError, match=r"has 1 of the 3 replicas .* stream edit S\d+ --replicas 3, or set repl"):
        kit.flush()


def test_replicas_on_one_server(make_collector, jetstream):
    """A single server cannot keep three copies; the message says what to do."""
    with pytest.raises(LedgerError, match=r"A single server has one replica: set JetStream\(replicas=1\)"):
        make_collector(jetstream=JetStream(jetstream.urls))


def test_no_stream(host):
    """Before a collector has run, usage stays in the journal."""
    host.record("calls", "acme")

    with pytest.raises(LedgerError, match=r"has no stream S\d+: run meterkit collect, which makes it"):
        host.flush()


def test_exact_quotas(make_kit, jetstream):
    """They cannot be kept while usage is under way, so such a kit cannot be built."""
    calls = Meter("calls")
    governance = Governance(quotas=[Quota(calls, 10, exact=True)])

    with pytest.raises(ConfigurationError, match="remove exact=True, or jetstream="):
        make_kit(calls, governance=governance, identify=lambda _: "acme", jetstream=jetstream)


def test_quotas_of_this_process(make_kit, make_collector, jetstream):
    """What this process has published counts for quotas until the ledger has it, and once after that."""
    calls = Meter("calls")
    kit = make_kit(
        calls, governance=Governance(quotas=[Quota(calls, 10)]), identify=lambda _: "acme", jetstream=jetstream
    )
    collector = make_collector()
    journal = kit.process().journal
    kit.record("calls", "acme", 3)
    kit.flush()
    kit.flush()

    assert 3 == journal.lately("acme", "calls")
    collector.collect()
    assert 3 == journal.lately("acme", "calls")
    kit.flush()
    assert 0 == journal.lately("acme", "calls")
    assert [] == journal.published()


def test_what_may_be_forgotten(jetstream, collector, monkeypatch):
    """The ledger remembers a generation until its file is gone, and everything is consumed that was published then."""
    monkeypatch.setattr(publisher, "SETTLED_SECONDS", 0.0)
    sender = Sender(None, None)
    made = publisher.JetStreamPublisher(jetstream, sender)
    one, two = "1" * 32, "2" * 32
    cells = [(("calls", "calls", "acme", "", 1_772_366_400), 1, 1_772_366_401)]
    made.publish(one, cells, begun=1_772_366_400.0)

    assert [] == made.forgettable([one])
    collector.collect()
    wait_until_settled(jetstream)
    made.publish(two, cells, begun=1_772_366_400.0)
    assert [one] == made.forgettable([])
    assert [] == made.forgettable([two])
    assert [] == made.forgettable([])
    collector.collect()
    wait_until_settled(jetstream)
    assert [two] == made.forgettable([])
    made.close()


def test_not_soon(jetstream, collector, monkeypatch):
    """For half an hour after its file was removed, a copy may still be under way."""
    now = [0.0]
    monkeypatch.setattr(publisher, "time", SimpleNamespace(monotonic=lambda: now[0]))
    made = publisher.JetStreamPublisher(jetstream, Sender(None, None))
    one, two = "1" * 32, "2" * 32

    assert [] == made.forgettable([one])
    now[0] = publisher.SETTLED_SECONDS - 1
    assert [] == made.forgettable([two])
    now[0] = publisher.SETTLED_SECONDS
    assert [one] == made.forgettable([])
    now[0] = 2 * publisher.SETTLED_SECONDS
    assert [two] == made.forgettable([])
    made.close()
