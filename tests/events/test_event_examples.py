"""The examples in other languages: each sends until it is told that its events are counted, and each counts once."""

from __future__ import annotations

import asyncio
import http.client
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import threading
from pathlib import Path

import pytest
import uvicorn
from guard import GUARD

from meterkit.demo.stripe_account import StripeAccount
from meterkit.sandbox import Sandbox
from meterkit.service import Service

EXAMPLES = Path(__file__).parents[2] / "examples" / "events"
KEY = "the-secret-of-the-score-api"
REQUIRED = os.environ.get("METERKIT_GATEWAYS") == "required"


def needs(program):
    """Skip the test if *program* is not there, unless all have to be."""
    if shutil.which(program) is None:
        assert not REQUIRED, f"{program} is required, and not there"
        pytest.skip(f"there is no {program} on this machine")


class Running:
    """The service of the examples' kit, on a port; of its first responses to events, *loses* are lost on the way."""

    def __init__(self, kit, *, loses=0) -> None:
        self.kit = kit
        self.received = 0
        self._loses = loses
        self._service = Service(kit, keys={"score-api": KEY})
        self._server = uvicorn.Server(
            uvicorn.Config(self._app, interface="asgi3", port=0, log_level="error", lifespan="off")
        )
        self._thread = threading.Thread(target=lambda: asyncio.run(self._server.serve()))
        self._thread.start()
        for _ in iter(lambda: self._server.started, True):
            assert self._thread.is_alive()
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.environment = {**os.environ, "METERKIT_URL": f"http://127.0.0.1:{port}", "METERKIT_KEY": KEY}

    async def _app(self, scope, receive, send):
        self.received += 1
        is_lost = self.received <= self._loses

        async def lose(message):
            if message["type"] == "http.response.start":
                assert 202 == message["status"]
                message = {"type": "http.response.start", "status": 502, "headers": []}
            await send({**message, "body": b""} if "body" in message else message)

        await self._service(scope, receive, lose if is_lost else send)

    def used(self):
        """What the ledger has after a flush."""
        self.kit.flush()
        return [(row.company, row.quantity) for row in self.kit.usage()]

    def close(self):
        """Stop serving."""
        self._server.should_exit = True
        self._thread.join()
        self.kit.close()


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A function that serves the kit of the examples."""
    monkeypatch.setenv("METERKIT_DATA_DIR", str(tmp_path / "data"))
    running = []

    def start(**options):
        spec = importlib.util.spec_from_file_location("events_billing", EXAMPLES / "billing.py")
        billing = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(billing)
        running.append(Running(billing.kit, **options))
        return running[-1]

    yield start
    for each in running:
        each.close()


LANGUAGES = {
    "curl": ["sh", "send.sh"],
    "node": ["node", "send.mjs"],
    "go": ["go", "run", "send.go"],
    "java": ["java", "Send.java"],
}


@pytest.mark.parametrize(
    "program", ["node", *(pytest.param(each, marks=pytest.mark.long) for each in LANGUAGES if each != "node")]
)
def test_sent_until_acknowledged(run, program):
    """The first response is lost: the example sends again, with the same id, and the event counts once."""
    needs(program)
    running = run(loses=1)
    for _ in range(2):
        sent = subprocess.run(
            [*LANGUAGES[program], "acme", "request-17"],
            cwd=EXAMPLES,
            env=running.environment,
            capture_output=True,
            text=True,
            timeout=GUARD,
            check=False,
        )
        assert (0, 1) == (sent.returncode, json.loads(sent.stdout)["accepted"] if sent.stdout else sent.stderr)

    assert 3 == running.received
    assert [("acme", 1)] == running.used()


@pytest.mark.parametrize(
    "program", ["node", *(pytest.param(each, marks=pytest.mark.long) for each in LANGUAGES if each != "node")]
)
def test_refused(run, program):
    """A mistake is not sent again, and its problem document is shown."""
    needs(program)
    running = run()
    sent = subprocess.run(
        [*LANGUAGES[program], "", "request-17"],
        cwd=EXAMPLES,
        env=running.environment,
        capture_output=True,
        text=True,
        timeout=GUARD,
        check=False,
    )

    assert sent.returncode
    assert "subject is missing" in sent.stdout + sent.stderr
    assert 1 == running.received
    assert [] == running.used()


@pytest.mark.long
def test_a_node_app_is_billed(run, monkeypatch):
    """1,500 credit scores of an app in Node are $4,200.00, although responses of the service are lost on the way."""
    needs("node")
    with Sandbox() as sandbox:
        monkeypatch.setenv("METERKIT_STRIPE_BASE", sandbox.url)
        monkeypatch.setenv("STRIPE_SECRET_KEY", sandbox.api_key)
        running = run(loses=5)
        account = StripeAccount(sandbox.api_key, sandbox.url)
        account.sell(running.kit.prices[0], ["acme"])
        running.kit.link("acme", account.customers["acme"])
        app = subprocess.Popen(
            ["node", "score_api.mjs"],
            cwd=EXAMPLES,
            env={**running.environment, "PORT": "0"},
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            client = http.client.HTTPConnection("127.0.0.1", int(app.stdout.readline()), timeout=GUARD)
            statuses = [_ask(client, "key-of-acme", "ada") for _ in range(1500)]
            statuses += [_ask(client, "key-of-acme", "a stranger"), _ask(client, "constructor", "ada")]
            client.close()
        finally:
            app.send_signal(signal.SIGTERM)
            assert 0 == app.wait(GUARD)
            app.stdout.close()
        running.kit.report(include_open=True)
        sandbox.advance(to=account.period_end + 24 * 3600)

        assert [200] * 1500 + [404, 401] == statuses
        assert [("acme", 1500)] == running.used()
        assert "4200.00" == str(account.invoice("acme").total)
        account.close()


def _ask(client, key, person):
    client.request("POST", "/RetrieveCreditScore", body=f"person={person}", headers={"x-api-key": key})
    response = client.getresponse()
    response.read()
    return response.status
