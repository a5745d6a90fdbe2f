"""A kit whose company is in a logged header, a writer of log lines, and a function that follows logs as the command."""

from __future__ import annotations

import pytest
from log_lines import FORMAT, line

from meterkit import Meter
from meterkit.access_logs.counter import LineCounter, by_field, countable
from meterkit.access_logs.formats.named import format_named
from meterkit.access_logs.tail import Tail


@pytest.fixture
def write(tmp_path, clock):
    """A function that appends lines to a log, and returns its path."""

    def append(*companies, name="access.log", **options):
        path = tmp_path / "logs" / name
        path.parent.mkdir(exist_ok=True)
        with path.open("a") as log:
            log.writelines(line(each, **{"at": clock(), **options}) for each in companies)
        return path

    return append


@pytest.fixture
def log_kit(make_kit):
    """A kit that takes the company from a header, and counts searches and bytes."""
    return make_kit(
        Meter("searches", path="/v1/search"),
        Meter("egress", path="/v1/*", value="response_bytes"),
        identify=lambda exchange: exchange.headers.get("x-company"),
    )


@pytest.fixture
def follow():
    """A function that makes a `Tail` of a kit."""
    tails = []

    def make(kit, *patterns, formats=(FORMAT,), follows=False, field=None, stops=lambda: False, source="", since=0):
        meters, _ = countable(kit.meters.values())
        identity = (
            kit.recorder.identity
            if field is None
            else type(kit.recorder.identity)(by_field(field), kit.recorder.problems)
        )
        counter = LineCounter(meters, identity=identity, problems=kit.recorder.problems)
        made = Tail(
            kit.process().database(),
            [str(each) for each in patterns],
            counter=counter,
            formats=[format_named(each) for each in formats] or None,
            source=source,
            since=since,
            follows=follows,
            problems=kit.recorder.problems,
            clock=kit.clock,
            stops=stops,
            says=lambda _: None,
        )
        tails.append(made)
        return made

    yield make
    for each in tails:
        each.close()
