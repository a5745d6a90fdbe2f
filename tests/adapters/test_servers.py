"""The same over real servers on loopback: what arrives on the wire, and what was counted when the server is gone."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from adapter_cases import USUAL_FIRST
from adapter_stacks import Stack
from adapter_usage import usage_of

from meterkit import Meter, MeterKit

sys.path.insert(0, str(Path(__file__).parents[1] / "webhooks"))
from signed import body_of, signature_of, snapshot

pytestmark = [pytest.mark.long, pytest.mark.thorough]

HERE = Path(__file__).parent
READY = re.compile(r"(?:Listening at: |running on )http://127\.0\.0\.1:(\d+)")


@contextmanager
def served(stack: Stack, data_dir: Path) -> Iterator[int]:
    """A server with *stack* on a port of its choice; told to stop, as an operator does it, at the end."""
    python = [sys.executable, "-m"]
    if stack.is_async:
        command = [*python, "uvicorn", "adapter_served:app", "--port", "0", "--timeout-graceful-shutdown", "5"]
    else:
        command = [*python, "gunicorn", "adapter_served:app", "--bind", "127.0.0.1:0", "--workers", "1"]
    environment = {
        **os.environ,
        "TEST_STACK": stack.name,
        "METERKIT_DATA_DIR": str(data_dir),
        "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent.parent)]),
    }
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        said = ""
        for line in process.stderr:
            said += line
            if ready := READY.search(line):
                yield int(ready[1])
                break
        else:
            pytest.fail(said)
    finally:
        process.send_signal(signal.SIGTERM)
        process.stderr.read()
        process.stderr.close()
        process.wait()


def get(port: int, path: str, method: str = "GET") -> tuple[int, bytes, list[tuple[str, str]]]:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request(method, path)
    response = connection.getresponse()
    try:
        body = response.read()
    except (http.client.IncompleteRead, ConnectionError):
        body = b"(broken off)"
    connection.close()
    return response.status, body, response.getheaders()


def take_one_chunk_and_leave(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        got = b""
        while b"one," not in got:
            got += connection.recv(4096)


@pytest.mark.parametrize("stack", USUAL_FIRST, ids=lambda stack: stack.name)
def test_a_real_server(stack: Stack, tmp_path: Path, make_kit: Callable[..., MeterKit]) -> None:
    """
    Whole, streamed, empty and broken off; and a client that leaves an endless stream pays for it.
    """
    leaves = stack.is_async and stack.hears_of("disconnect")
    with served(stack, tmp_path) as port:
        whole = get(port, "/whole")
        assert (201, b"whole") == whole[:2]
        assert [value for name, value in whole[2] if name.lower() in ("x-twice", "set-cookie")][-1] in (
            "2",
            "b=2; Path=/",
        )
        assert (200, b"one,two,three") == get(port, "/stream")[:2]
        assert (200, b"one,two,three") == get(port, "/sized")[:2]
        assert (204, b"") == get(port, "/nothing")[:2]
        assert (201, b"") == get(port, "/whole", "HEAD")[:2]
        assert 500 == get(port, "/boom")[0]
        assert get(port, "/break")[1] in (b"(broken off)", b"one,")
        if leaves:
            take_one_chunk_and_leave(port)

    kit = make_kit(Meter("succeeded"), data_dir=tmp_path)

    assert {"succeeded": 5 + leaves, "broke": 2, "bytes": 5 + 13 + 13 + 4 * leaves} == usage_of(kit)


@pytest.mark.parametrize("stack", USUAL_FIRST, ids=lambda stack: stack.name)
def test_a_webhook_in_chunks(stack: Stack, tmp_path: Path, make_kit: Callable[..., MeterKit]) -> None:
    """
    As a proxy that does not buffer passes it on: read to its end, and kept.
    """
    event = body_of(snapshot("invoice.paid", {"object": "invoice", "id": "in_1", "description": "Zoë" * 5000}))
    headers = {"Stripe-Signature": signature_of(event, time.time())}
    chunks = [event[start : start + 1000] for start in range(0, len(event), 1000)]
    with served(stack, tmp_path) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("POST", "/stripe/webhook", iter(chunks), headers, encode_chunked=True)
        answer = connection.getresponse()
        assert (200, b'{"received": true}') == (answer.status, answer.read())
        connection.close()

    assert ["evt_1"] == [each.id for each in make_kit(data_dir=tmp_path).webhook_events()]
