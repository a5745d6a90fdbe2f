"""One NATS server for all tests of a process, streams of each test's own, and kits whose usage goes through them."""

from __future__ import annotations

import itertools

import pytest
from guard import GUARD
from real_nats import RealNats

from meterkit import JetStream
from meterkit.jetstream import client
from meterkit.jetstream import collector as collector_module

NUMBERS = itertools.count()


@pytest.fixture(autouse=True)
def _unhurried_broker(monkeypatch):
    """No limit of time is reached because a machine is slow."""
    for name in ("CONNECT_SECONDS", "ANSWER_SECONDS"):
        monkeypatch.setattr(client, name, GUARD)
    monkeypatch.setattr(client, "GATHER_SECONDS", 0.0)
    monkeypatch.setattr(collector_module, "WAIT_SECONDS", GUARD)


@pytest.fixture(scope="session")
def running_nats():
    """The one server."""
    with RealNats() as server:
        yield server


@pytest.fixture
def jetstream(running_nats):
    """A stream of this test's own."""
    number = next(NUMBERS)
    return JetStream(running_nats.urls, stream=f"S{number}", subject=f"s{number}.generations", replicas=1)


@pytest.fixture
def host(make_kit, jetstream):
    """A kit that publishes."""
    return make_kit(jetstream=jetstream)


@pytest.fixture
def make_collector(make_kit, tmp_path, jetstream):
    """A function that makes collectors, of kits that share the ledger of the hosts."""
    collectors = []

    def make(batch=50, **options):
        defaults = {
            "data_dir": tmp_path / f"collector-{len(collectors)}",
            "ledger": f"sqlite:///{tmp_path}/meterkit/ledger.sqlite",
            "jetstream": jetstream,
        }
        made = make_kit(**{**defaults, **options}).process().collector(batch=batch)
        collectors.append(made)
        made.prepare()
        return made

    yield make
    for each in collectors:
        each.close()


@pytest.fixture
def collector(make_collector):
    """A collector."""
    return make_collector()
