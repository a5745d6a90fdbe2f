"""``meterkit serve``: real processes, on a port or a Unix socket, in one worker or several."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from contextlib import contextmanager

import httpx
import pytest
from guard import GUARD, tries
from service_client import AS_GATEWAY, GATEWAY, problem_of

from meterkit import ConfigurationError
from meterkit.cli import main
from meterkit.service import uvicorn

COMMAND = [sys.executable, "-W", "error", "-m", "meterkit", "serve"]

KIT = """
import os

from meterkit import Governance, Meter, MeterKit, Quota

calls = Meter("calls", path="/calls")
kit = MeterKit(
    meters=[calls],
    identify=lambda exchange: exchange.headers.get("x-company"),
    governance=Governance(quotas=[Quota(calls, 2)]),
    flush_interval=0.05,
    customer_ids=True,
)
"""


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A directory with a kit, and a file of keys."""
    (tmp_path / "billing.py").write_text(KIT)
    (tmp_path / "keys.json").write_text(
        json.dumps({"gateway": GATEWAY, "team": {"secret": "t" * 32, "scopes": ["health"]}})
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "billing", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


class Serving:
    """A service that listens."""

    def __init__(self, process):
        self.process = process
        self.said = []
        line = self.wait_for("(service_listens)")
        self.address = line.split(" at ")[1].split(" (")[0]

    def wait_for(self, words):
        for line in self.process.stderr:
            self.said.append(line)
            if words in line:
                return line
        raise AssertionError(f"no {words} in {self.said}")

    def client(self):
        transport = httpx.HTTPTransport(uds=self.address[5:]) if self.address.startswith("unix:") else None
        base = "http://localhost" if transport else self.address
        return httpx.Client(transport=transport, base_url=base, timeout=GUARD)

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        self.said.extend(self.process.stderr)
        return self.process.wait(GUARD)


@contextmanager
def serving(*words):
    with subprocess.Popen([*COMMAND, "billing:kit", *words], stderr=subprocess.PIPE, text=True) as process:
        try:
            yield Serving(process)
        finally:
            process.kill()


def wait_until_ready(client):
    for _ in tries(lambda: client.get("/readyz").text):
        if client.get("/readyz").status_code == 200:
            return


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_on_a_port(shop, number):
    """It answers, counts, and ends with exit code 0 after a last flush."""
    with serving("--port", "0", "--keys", "keys.json") as service:
        with service.client() as client:
            wait_until_ready(client)
            assert (401, "key_missing") == problem_of(client.get("/v1/check"))
            assert 200 == client.get("/v1/check", headers={**AS_GATEWAY, "X-Company": "acme"}).status_code
            health = client.get("/health", headers={"X-Meterkit-Key": "t" * 32}).json()
        assert f"process {health['flusher']['child']}," in health["flusher"]["holder"]
        assert 0 == service.stop(number)
    assert any("(service_stopped)" in line for line in service.said)


@pytest.mark.long
def test_at_a_unix_socket(shop):
    """Without keys, for whoever may write to it; what a killed process has left there is no hindrance."""
    path = shop / "service.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with serving("--uds", str(path)) as service:
        assert 0o660 == stat.S_IMODE(path.stat().st_mode)
        with service.client() as client:
            wait_until_ready(client)
            assert 200 == client.get("/health").status_code
        assert 0 == service.stop()
    assert not path.exists()


@pytest.mark.long
def test_several_workers(shop):
    """They share the port and what is counted; one that is killed is replaced."""
    with serving("--port", "0", "--workers", "2") as service:
        with service.client() as client:
            wait_until_ready(client)
            holder = client.get("/health").json()["flusher"]["holder"]
            pid = int("".join(filter(str.isdigit, holder.split("process ")[-1].split(" ")[0])))
            assert pid != service.process.pid
            os.kill(pid, signal.SIGKILL)
        for _ in tries():
            try:
                with service.client() as client:
                    if client.get("/readyz").status_code == 200:
                        break
            except httpx.TransportError:
                continue
        assert 0 == service.stop()


def test_responses_are_sent_at_once():
    """Asyncio leaves Nagle's algorithm on where a socket does not name its protocol: 40 ms for each request."""
    command = argparse.ArgumentParser()
    uvicorn.add_arguments(command)
    with uvicorn._listening(command.parse_args(["--port", "0"])) as (listener, _):
        assert socket.IPPROTO_TCP == listener.proto


def said(capsys, *words):
    """The exit code of a command that is refused, and what it says."""
    code = main(["serve", *words])
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--host", "0.0.0.0"], "without keys, everybody who reaches 0.0.0.0"),
        (["--keys", "none.json"], "the keys cannot be read from none.json"),
        (["--uds", "billing.py"], "billing.py is not available"),
        (["--uds", "no/such/directory.sock"], "is not available"),
        (["--host", "192.0.2.1", "--keys", "keys.json"], "192.0.2.1:8350 is not available"),
        (["--max-body", "0"], "max_body"),
        (["--company-header", "no header"], "company_header"),
    ],
)
def test_a_wrong_command(shop, capsys, words, message):
    """One line on stderr that says what to do, and exit code 2."""
    code, err = said(capsys, "billing:kit", *words)

    assert (2, 1) == (code, err.count("\n"))
    assert message in err


def test_a_port_that_is_taken(shop, capsys):
    """Likewise."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        code, err = said(capsys, "billing:kit", "--port", str(other.getsockname()[1]))

    assert 2 == code
    assert "--port" in err


@pytest.mark.parametrize("words", [["--port", "65536"], ["--port", "x"], ["--workers", "0"], ["--workers", "1e3"]])
def test_a_wrong_option(shop, capsys, words):
    """It is refused by the parser."""
    with pytest.raises(SystemExit, match="2"):
        main(["serve", "billing:kit", *words])
    assert "must be" in capsys.readouterr().err


def test_without_uvicorn(shop, capsys, monkeypatch):
    """What to install is said."""
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    code, err = said(capsys, "billing:kit")

    assert 2 == code
    assert "pip install 'meterkit[serve]'" in err


def test_workers_for_a_kit_without_a_name(shop, capsys, monkeypatch):
    """A Flask project's kit cannot be imported by others."""
    kit = importlib.import_module("billing").kit
    command = argparse.ArgumentParser()
    uvicorn.add_arguments(command)
    with pytest.raises(ConfigurationError, match="name it"):
        uvicorn.serve(lambda: kit, command.parse_args(["--workers", "2", "--port", "0"]))
