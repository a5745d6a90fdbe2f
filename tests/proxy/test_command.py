"""``meterkit proxy``, as a user runs it: workers, signals, an app in Node, and its month's invoice."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from guard import GUARD, tries
from proxy_ends import ask, connect, get
from thorough import first

import meterkit
from meterkit import Meter
from meterkit.demo import COMPANIES, DAY, _example
from meterkit.demo.stripe_account import StripeAccount
from meterkit.demo.traffic import TOTAL, Tally, send
from meterkit.sandbox import Sandbox

ROOT = Path(meterkit.__file__).parents[1]
NODE_EXAMPLE = ROOT / "examples" / "node"

KIT = """
from meterkit import Meter, MeterKit, llm, response_json
reading = MeterKit(meters=[Meter("tokens", value=response_json("tokens"))], identify=lambda exchange: "acme")
models = MeterKit(meters=[Meter("tokens", value=llm.tokens())], identify=lambda exchange: "acme")
kit = MeterKit(meters=[Meter("calls", path="/v1/*")], identify=lambda exchange: exchange.headers.get("x-api-key"))
routed = MeterKit(meters=[Meter("calls", route="/v1/{id}")], identify=lambda exchange: "acme")
viewed = MeterKit(meters=[Meter("calls")], identify="view")
"""


def require(program: str) -> str:
    """The path of a program; without it, the test is skipped, but where all are required."""
    found = shutil.which(program)
    if found is None and os.environ.get("METERKIT_GATEWAYS") == "required":
        pytest.fail(f"there is no {program}")
    return found or pytest.skip(f"there is no {program}")


@contextmanager
def proxy(directory, *options, data_dir, kit="billing:kit", env=None, ready=True):
    """Run the command in *directory*; its process and its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener, (data_dir.parent / "proxy.log").open("w+") as log:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        port = listener.getsockname()[1]
        process = subprocess.Popen(
            [sys.executable, "-m", "meterkit", "proxy", kit, *options, "--fd", str(listener.fileno())],
            cwd=directory,
            env={**os.environ, "PYTHONPATH": str(ROOT), "METERKIT_DATA_DIR": str(data_dir), **(env or {})},
            pass_fds=[listener.fileno()],
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )

        def said():
            log.seek(0)
            return log.read()

        process.said = said
        try:
            yield process, port
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            print(said()[-5000:])


@contextmanager
def node_app():
    """The example's app; its URL."""
    node = require("node")
    with subprocess.Popen(
        [node, "app.mjs"], cwd=NODE_EXAMPLE, env={"PORT": "0"}, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


@pytest.fixture
def project(tmp_path):
    """A directory with a kit."""
    (tmp_path / "billing.py").write_text(KIT)
    return tmp_path


@pytest.mark.long
def test_a_month_of_an_app_in_node(tmp_path, monkeypatch):
    """The classical invoices, $4,200.00 and $400.00, for an app that knows nothing of billing."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    data_dir = tmp_path / "data"
    tally = Tally()
    with Sandbox() as sandbox, node_app() as upstream:
        stripe = {"METERKIT_STRIPE_BASE": sandbox.url, "STRIPE_SECRET_KEY": sandbox.api_key}
        for name, value in {**stripe, "METERKIT_DATA_DIR": str(data_dir)}.items():
            monkeypatch.setenv(name, value)
        billing = _example("node/billing")
        kit = billing.kit
        with closing(kit), closing(StripeAccount(sandbox.api_key, sandbox.url)) as account:
            account.sell(kit.prices[0], COMPANIES)
            for company, customer in account.customers.items():
                kit.link(company, customer)
            with proxy(NODE_EXAMPLE, "--upstream", upstream, "--workers", "2", data_dir=data_dir) as (process, port):
                assert ask(port, get(b"/")).startswith(b"HTTP/1.1 404")  # it has started: clients wait for seconds only
                keys = {company: key for key, company in billing.API_KEYS.items()}
                for call, status in send(f"http://127.0.0.1:{port}", keys):
                    tally.enter(call, status)
                process.terminate()
                process.wait(GUARD)
            kit.flush()
            reported = kit.report(include_open=True)
            sandbox.advance(to=account.period_end + DAY)
            invoices = {company: str(account.invoice(company).total) for company in COMPANIES}
            books = kit.health()["books"]["credit_scores"]

    assert sum(tally.counts.values()) == TOTAL
    assert {kind for _, kind in tally.counts} == {"succeeded", "failed"}
    assert {"acme": "4200.00", "globex": "400.00"} == invoices
    assert (0, None) == (reported.rejected, reported.error or None)
    assert books["balanced"]


@pytest.mark.long
def test_sigterm_lets_a_response_end(project, raw_app, make_kit):
    """The client gets all of it, it counts, and the command has ended well."""
    go = []

    def slow(app, connection):
        app.read(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
        app.wait(lambda: go)
        connection.sendall(b"cd")

    app = raw_app(slow)
    data_dir = project / "data"
    with proxy(project, "--upstream", app.url, data_dir=data_dir) as (process, port):
        with connect(port) as client:
            client.sendall(get(b"/v1/x"))
            data = b""
            while not data.endswith(b"ab"):
                data += client.recv(4096)
            process.terminate()
            for _ in tries(process.said):
                if "Waiting for connections" in process.said() or "Shutting down" in process.said():
                    break
            with app.more:
                go.append(1)
                app.more.notify_all()
            while not data.endswith(b"abcd"):
                data += client.recv(4096)
        process.wait(GUARD)
        assert process.returncode == 0
        assert "Traceback" not in process.said()
    kit = make_kit(Meter("calls", path="/v1/*"), data_dir=data_dir)
    kit.flush()
    assert [("acme", 1)] == [(row.company, row.quantity) for row in kit.usage()]


@pytest.mark.long
def test_whether_it_is_ready(project, raw_app):
    """On demand only, neither metered nor passed on: whether the app can be reached."""
    app = raw_app()
    with proxy(project, "--upstream", app.url, "--ready-path", "/-/ready", data_dir=project / "data") as (_, port):
        assert ask(port, get(b"/-/ready")).startswith(b"HTTP/1.1 200")
        assert [] == app.requests
        app.close()
        assert ask(port, get(b"/-/ready")).startswith(b"HTTP/1.1 503")


@pytest.mark.long
def test_a_client_cannot_choose_that_a_meter_reads_nothing(project, raw_app):
    """With a meter that reads JSON, the app is asked not to compress."""
    app = raw_app()
    plain = b"accept-encoding: identity"
    for kit, expected in {"kit": b"accept-encoding: gzip", "reading": plain, "models": plain}.items():
        data_dir = project / kit
        with proxy(project, "--upstream", app.url, data_dir=data_dir, kit=f"billing:{kit}") as (_, port):
            ask(port, get(b"/v1/x", b"Accept-Encoding: gzip"))
        sent = app.requests[-1].split(b"\r\n")
        assert [expected] == [each for each in sent if each.startswith(b"accept-encoding")]


WRONG = {
    "no upstream": ((), "--upstream"),
    "no url": (("--upstream", "localhost:3000"), "is not a URL"),
    "route": (("--upstream", "http://x"), "use path="),
    "view": (("--upstream", "http://x"), "identify= that reads the request"),
    "workers": (("--upstream", "http://x", "--workers", "0"), "--workers"),
    "ready": (("--upstream", "http://x", "--ready-path", "ready"), "--ready-path"),
    "time": (("--upstream", "http://x", "--idle-timeout", "0"), "idle_timeout"),
}


@pytest.mark.parametrize("name", first(["route"], among=WRONG))
def test_a_wrong_command(project, name):
    """Exit code 2, and a line that says how to correct it."""
    options, expected = WRONG[name]
    kit = {"route": "billing:routed", "view": "billing:viewed"}.get(name, "billing:kit")
    ended = subprocess.run(
        [sys.executable, "-m", "meterkit", "proxy", kit, *options],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
        capture_output=True,
        text=True,
        timeout=GUARD,
    )

    assert ended.returncode == 2
    assert expected in ended.stderr
    assert "Traceback" not in ended.stderr
