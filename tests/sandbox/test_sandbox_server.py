"""The sandbox as a program: start and stop, its clock, its records, its control by other processes."""

from __future__ import annotations

import ast
import gc
import socket
import struct
import sys
import threading
from datetime import datetime, timezone
from pathlib import Path

import httpx
import pytest
from guard import GUARD
from sandbox_shop import APRIL, START

import meterkit.sandbox
from meterkit.sandbox import Sandbox


def threads(others):
    """The names of the sandbox's, but for those of sandboxes that were there before."""
    found = set(threading.enumerate()) - others
    return {thread.name for thread in found if thread.name.startswith("meterkit-sandbox")}


def test_no_thread_outlives_it():
    """Neither the accepting one, nor those of idle connections, nor those of held requests."""
    others = set(threading.enumerate())
    with Sandbox() as sandbox, httpx.Client(timeout=GUARD) as idle, httpx.Client() as held:
        headers = {"Authorization": f"Bearer {sandbox.api_key}"}
        idle.get(f"{sandbox.url}/v1/customers", headers=headers)
        fault = sandbox.fail("timeout_before", path="/v1/products")
        outcome = []

        def wait():
            try:
                held.get(f"{sandbox.url}/v1/products", headers=headers, timeout=GUARD)
            except httpx.TransportError as error:
                outcome.append(error)

        waiting = threading.Thread(target=wait)
        waiting.start()
        assert fault.wait(GUARD)
        assert threads(others) == {"meterkit-sandbox", "meterkit-sandbox-connection"}
        sandbox.stop()
        assert threads(others) == set()
        waiting.join()

    gc.collect()  # a socket left open would be a ResourceWarning here
    assert len(outcome) == 1


def test_it_listens_on_the_loopback_only(sandbox):
    """There is no parameter to change that."""
    assert sandbox.url.startswith("http://127.0.0.1:")
    with pytest.raises(TypeError):
        Sandbox(host="0.0.0.0")


def test_it_can_be_started_again_and_keeps_its_objects(make_shop):
    """Stopping is not forgetting."""
    sandbox = Sandbox()
    for _ in range(2):
        sandbox.start()
        answer = httpx.post(f"{sandbox.url}/v1/customers", auth=(sandbox.api_key, ""), timeout=GUARD)
        assert answer.status_code == 200
        sandbox.stop()
    sandbox.stop()

    assert [request.path for request in sandbox.requests] == ["/v1/customers"] * 2


def test_it_is_either_running_or_not():
    """No URL before the start, no second start, no port that is taken."""
    sandbox = Sandbox()
    with pytest.raises(RuntimeError, match="not running"):
        _ = sandbox.url
    with sandbox:
        with pytest.raises(RuntimeError, match="already"):
            sandbox.start()
        with pytest.raises(OSError, match="in use"):
            Sandbox(port=int(sandbox.url.rpartition(":")[2])).start()


def test_it_can_serve_in_the_foreground():
    """Until it is stopped."""
    sandbox = Sandbox()
    sandbox.start()
    server = threading.Thread(target=sandbox.serve_forever)
    server.start()
    answer = httpx.get(f"{sandbox.url}/_sandbox/clock", timeout=GUARD)
    sandbox.stop()
    server.join()

    assert answer.status_code == 200


def test_ctrl_c_ends_the_foreground(monkeypatch):
    """Quietly, and with everything closed."""
    others = set(threading.enumerate())
    sandbox = Sandbox()

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(sandbox._stopped, "wait", interrupted)
    sandbox.serve_forever()

    assert threads(others) == set()


def test_connections_are_kept_alive(sandbox, raw):
    """One connection for many requests, also after errors."""
    paths = ["/v1/customers", "/v1/nothing", "/v1/customers", "/v1/customers/nope"]
    with socket.create_connection(("127.0.0.1", int(sandbox.url.rpartition(":")[2]))) as connection:
        reader = connection.makefile("rb")
        for path in paths:
            connection.sendall(
                f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {sandbox.api_key}\r\n\r\n".encode()
            )
            lines = iter(reader.readline, b"\r\n")
            head = {line.partition(b":")[0].lower(): line.partition(b":")[2].strip() for line in lines}
            reader.read(int(head[b"content-length"]))
        reader.close()

    assert [request.path for request in sandbox.requests] == paths


def test_a_client_that_hangs_up_is_no_news(sandbox, caplog):
    """Only the debug log mentions it."""
    caplog.set_level("DEBUG", logger="meterkit.sandbox")
    with socket.create_connection(("127.0.0.1", int(sandbox.url.rpartition(":")[2]))) as connection:
        connection.sendall(b"GET /v1/customers HT")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    httpx.get(sandbox.url, timeout=GUARD)  # it is accepted after the other one, which therefore has been
    sandbox.stop()

    assert [record.levelname for record in caplog.records if "broke" in record.message] == ["DEBUG"]


def test_a_request_that_breaks_off_is_none(shop, sandbox):
    """What came of it may look like a whole one, with half of a number in it."""
    host, _, port = sandbox.url.removeprefix("http://").partition(":")
    body = "name=Acme&metadata[seats]=12"
    head = f"POST /v1/customers HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {sandbox.api_key}\r\n"
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(f"{head}Content-Length: {len(body) + 2}\r\n\r\n{body}".encode())
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(1000)

    assert b"" == answer
    assert [] == shop.v1.customers.list().data


def test_a_body_without_a_length_is_refused(raw):
    """Stripe's libraries never send one in chunks."""

    def chunks():
        yield b"name=A"

    assert raw.post("/v1/customers", content=chunks()).status_code == 411


def test_many_threads_may_call(shop, sandbox):
    """Every event counts once."""
    shop.meter()
    customers = [shop.customer().id for _ in range(8)]
    start = threading.Barrier(len(customers))

    def work(customer):
        start.wait()
        for _ in range(10):
            shop.send(customer, 1)

    workers = [threading.Thread(target=work, args=(customer,)) for customer in customers]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert [sandbox.usage("queries", customer) for customer in customers] == [10] * 8
    assert len(sandbox.meter_events) == 80


def test_requests_are_remembered_in_order(shop, sandbox):
    """With what was meant, the headers and what was answered."""
    shop.customer(name="Ada", metadata={"a": "b"})
    shop.v1.customers.list({"limit": 3})

    first, second = sandbox.requests
    assert (first.method, first.path, first.status) == ("POST", "/v1/customers", 200)
    assert first.params == {"name": "Ada", "metadata": {"a": "b"}}
    assert first.headers["idempotency-key"]
    assert first.headers["authorization"] == "Bearer sk_test_sandbox"
    assert (second.method, second.params) == ("GET", {"limit": "3"})
    assert first.request_id != second.request_id


def test_a_failure_of_its_own_is_a_500_and_in_the_log(shop, raw, caplog, monkeypatch):
    """Never a hung connection, and never stored under a key."""
    monkeypatch.setattr("meterkit.sandbox.gateway.render", None)
    answer = raw.post("/v1/customers", headers={"Idempotency-Key": "k"})
    monkeypatch.undo()

    assert answer.status_code == 500
    assert "this is a bug in the sandbox" in caplog.text
    assert raw.post("/v1/customers", headers={"Idempotency-Key": "k"}).status_code == 200


def test_time_is_real_unless_told_otherwise():
    """Real time plus what it was advanced by."""
    before = int(datetime.now(timezone.utc).timestamp())
    sandbox = Sandbox()
    now = sandbox.now
    later = sandbox.advance(seconds=1000)
    after = int(datetime.now(timezone.utc).timestamp())

    assert before <= now <= after
    assert before + 1000 <= later <= after + 1000


def test_time_can_stand_still_or_come_from_a_callable():
    """A moment, or a function that is asked each time."""
    moments = [5.5]
    fixed, asked = Sandbox(now=datetime(2026, 3, 1, tzinfo=timezone.utc)), Sandbox(now=lambda: moments[0])
    asked.advance(seconds=10)
    moments[0] = 7.9

    assert (fixed.now, asked.now) == (START, 17)
    assert fixed.advance(to=datetime(2026, 4, 1, tzinfo=timezone.utc)) == APRIL
    assert fixed.advance(to=APRIL) == APRIL
    assert fixed.advance(seconds=0) == APRIL


@pytest.mark.parametrize(
    "arguments",
    [{}, {"seconds": 1, "to": APRIL}, {"seconds": -1}, {"to": START - 1}, {"to": datetime(2026, 4, 1)}],  # noqa: DTZ001
)
def test_time_moves_forward_by_one_way_of_saying_it(arguments):
    """Neither back, nor by two measures, nor to a moment without a time zone."""
    sandbox = Sandbox(now=START)

    with pytest.raises(ValueError, match=r"either|back|time zone"):
        sandbox.advance(**arguments)
    assert sandbox.now == START


@pytest.mark.parametrize(
    ("switches", "error"),
    [
        ({"invoice_grace": -1}, ValueError),
        ({"invoice_grace": 72 * 3600 + 1}, ValueError),
        ({"event_lag": -1}, ValueError),
        ({"rate_limit": "slow"}, ValueError),
        ({"unknown_customer": "maybe"}, ValueError),
        ({"mood": "bad"}, TypeError),
    ],
)
def test_a_switch_that_makes_no_sense_is_refused(switches, error):
    """Before anything listens."""
    with pytest.raises(error):
        Sandbox(**switches)


def test_keys_and_objects_know_their_mode(make_shop):
    """Live ones say so."""
    live, test = make_shop(livemode=True), make_shop()

    assert (live.sandbox.api_key, test.sandbox.api_key) == ("sk_live_sandbox", "sk_test_sandbox")
    assert (live.customer().livemode, test.customer().livemode) == (True, False)
    assert live.meter().id.startswith("mtr_61")
    assert make_shop(api_key="sk_test_mine").customer().id


def test_other_processes_can_command_the_clock(shop, raw, sandbox):
    """`GET /_sandbox/clock`, `POST /_sandbox/advance`."""
    assert raw.get("/_sandbox/clock", timeout=GUARD).json() == {"now": START}
    assert raw.post("/_sandbox/advance", json={"seconds": 5}).json() == {"now": START + 5}
    assert raw.post("/_sandbox/advance", json={"to": APRIL}).json() == {"now": APRIL}
    assert sandbox.now == APRIL
    assert sandbox.requests == []


def test_other_processes_can_plan_faults_and_call_them_off(raw):
    """`POST` and `DELETE /_sandbox/faults`."""
    raw.post("/_sandbox/faults", json={"kind": "500", "path": "/v1/customers", "times": 2, "after": 1})
    answers = [raw.get("/v1/customers").status_code for _ in range(2)]
    raw.delete("/_sandbox/faults")

    assert [*answers, raw.get("/v1/customers").status_code] == [200, 500, 200]


def test_other_processes_can_read_the_records(shop, raw):
    """Requests and accepted meter events."""
    shop.meter()
    customer = shop.customer()
    shop.send(customer, "2.5", identifier="a")

    assert [each["path"] for each in raw.get("/_sandbox/requests").json()] == [
        "/v1/billing/meters",
        "/v1/customers",
        "/v1/billing/meter_events",
    ]
    (event,) = raw.get("/_sandbox/meter_events").json()
    assert (event["identifier"], event["customer"], event["value"]) == ("a", customer.id, "2.5")


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "nothing", "", 404),
        ("GET", "advance", "", 404),
        ("POST", "advance", "{", 400),
        ("POST", "advance", "[]", 400),
        ("POST", "advance", "{}", 400),
        ("POST", "advance", '{"seconds": -5}', 400),
        ("POST", "advance", '{"seconds": "5"}', 400),
        ("POST", "faults", '{"kind": "earthquake"}', 400),
        ("POST", "faults", '{"path": "/"}', 400),
        ("POST", "faults", '{"kind": "500", "mood": "bad"}', 400),
    ],
)
def test_a_command_that_makes_no_sense_is_refused(raw, method, path, body, status):
    """With a reason."""
    answer = raw.request(method, f"/_sandbox/{path}", content=body)

    assert (answer.status_code, bool(answer.json()["error"])) == (status, True)


@pytest.mark.parametrize("headers", [{"Host": "evil.example:80"}, {"Origin": "http://evil.example"}])
def test_a_web_page_cannot_command_it(raw, headers):
    """Neither across origins, nor through a name of its own that resolves to the loopback."""
    assert raw.get("/_sandbox/clock", headers=headers).status_code == 403


def test_it_imports_nothing_but_the_standard_library_and_itself():
    """A double that shares code with what it tests confirms its bugs."""
    imported = set()
    for path in Path(meterkit.sandbox.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module)

    foreign = {name for name in imported if name.partition(".")[0] not in sys.stdlib_module_names}
    assert {name for name in foreign if not name.startswith("meterkit.sandbox")} == set()
