"""The command ``meterkit tail``: what it says, its exit codes, and how it ends."""

from __future__ import annotations

import gzip
import json
import os
import signal
from pathlib import Path

import pytest
from fake_clock import NOON
from guard import tries
from log_lines import FORMAT, line, meterkit, used
from warm import Warm

from meterkit import Meter, MeterKit

BILLING = f"""
from meterkit import Meter, MeterKit, llm, response_json

kit = MeterKit(
    meters=[
        Meter("searches", path="/v1/search"),
        Meter("items", route="/items/{{id}}"),
        Meter("rows", path="/v1/rows", value=response_json("rows")),
        Meter("tokens", path="/v1/chat", value=llm.tokens()),
        Meter("lookups", tool="lookup"),
        Meter("jobs", http=False),
    ],
    identify=lambda exchange: exchange.headers.get("x-company"),
    clock=lambda: {NOON + 600},
)
without = MeterKit(meters=[Meter("searches", path="/v1/search")], clock=lambda: {NOON + 600})
"""


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A directory with a ``billing.py`` and an access log, which is the current one."""
    (tmp_path / "billing.py").write_text(BILLING)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("METERKIT_DATA_DIR", str(tmp_path / "meterkit"))
    log = tmp_path / "access.log"
    log.write_text(line("acme", at=NOON) * 3 + line("globex", at=NOON, path="/v1/other") + "junk\n")
    return tmp_path


def counted(shop, name="searches"):
    kit = MeterKit(meters=[Meter(name)], data_dir=shop / "meterkit")
    try:
        return used(kit, name)
    finally:
        kit.close()


def test_once(shop):
    """To the end; the exit code says that a line could not be read, and the log which."""
    code, out, err = meterkit("tail", "billing:kit", "access.log", "--once", "--format", FORMAT)

    assert (1, "5 lines were new.\n") == (code, out)
    assert "line at byte 329" in err
    assert "Meter('items') has route=" in err
    assert "Meter('rows') reads the body" in err
    assert "Meter('tokens') reads the body" in err
    assert "Meter('lookups') has tool=" in err
    assert "jobs" not in err
    assert {"acme": 3} == counted(shop)


def test_a_second_time(shop):
    """Nothing is new, and all is well."""
    meterkit("tail", "billing:kit", "access.log", "--once", "--format", FORMAT)

    code, out, _ = meterkit("tail", "billing:kit", "access.log", "--once", "--format", FORMAT)

    assert (0, "0 lines were new.\n") == (code, out)


def test_a_check_counts_nothing(shop):
    """For a new user: what would count for whom, what would not, and what no meter is for."""
    code, out, _ = meterkit("tail", "billing:kit", "access.log", "--check", "--format", FORMAT)

    assert 1 == code
    assert "  searches  acme  3\n" in out
    assert "  lines that do not count: 1\n    line 5: it is not a line of the format" in out
    assert "No meter is for these successes: GET /v1/other 1" in out
    assert not (shop / "meterkit" / "ledger.sqlite").exists()


def test_a_check_is_data(shop):
    """For programs, which get JSON alone."""
    with gzip.open(shop / "access.log.2.gz", "wt") as packed:
        packed.write(line("acme", at=NOON))
    _, out, _ = meterkit("tail", "billing:kit", "access.log.2.gz", "--check", "--json", "--format", FORMAT)

    found = json.loads(out)
    assert [{"meter": "searches", "company": "acme", "quantity": 1}] == found["files"][0]["usage"]
    assert 4 == len(found["uncountable"])


def test_the_company_from_a_field(shop):
    """Instead of identify=."""
    words = ("--company-field", "http_x_company", "--meter", "searches")
    meterkit("tail", "billing:without", "access.log", "--once", "--format", FORMAT, *words)

    assert {"acme": 3} == counted(shop)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["billing:without", "access.log"], "pass --company-field"),
        (["billing:kit", "nothing.log", "--once"], "there is no file nothing.log"),
        (["billing:kit", "access.log", "--format", "caddyy"], "choose from auto"),
        (["billing:kit", "access.log", "--format", "auto", "--format", "caddy"], "finds the format out"),
        (["billing:kit", "access.log", "--meter", "item"], "no meter 'item'"),
        (["billing:kit", "access.log", "--meter", "items"], "use path="),
        (["billing:kit", "access.log", "--user-field", "user"], "needs --company-field"),
        (["billing:kit", "access.log", "--since", "yesterday"], "time with a time zone"),
        (["billing:kit", "nothing.log", "--check"], "there is no file"),
    ],
)
def test_what_is_wrong(shop, words, said):
    """One line on stderr says how to fix it."""
    code, _, err = meterkit("tail", *words)

    assert 2 == code
    assert said in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_after_a_commit(shop, number):
    """And has counted what was there; a signal to reopen logs, which whole groups of processes get, does nothing."""
    command = Warm(
        ["-m", "meterkit", "tail", "billing:kit", "access.log", "--format", FORMAT],
        env=dict(os.environ),
        cwd=Path.cwd(),
    )
    with command.stdin, command.stdout as said, command.stderr:
        first = said.readline().decode()
        os.kill(command.pid, signal.SIGHUP)
        for _ in tries():
            if {"acme": 3} == counted(shop):
                break
        os.kill(command.pid, number)
        rest = said.read().decode()

        assert "Counting searches from access.log. Stop: Ctrl-C or SIGTERM\n" == first
        assert "Stopped.\n" == rest
        assert 0 == command.wait()
