"""Streams that clients read to the end or leave, on real servers: each company has what its own streams said."""

from __future__ import annotations

import signal
import socket
import struct
from collections import Counter
from contextlib import closing

import pytest
from guard import tries
from served_billing import Billing
from served_server import GRANIAN, GUNICORN, HYPERCORN, UVICORN, Server
from thorough import some

from meterkit import Meter, MeterKit

ROUNDS = 4
GONE = struct.pack("ii", 1, 0)
"""SO_LINGER: what the client has not read is refused, as by one that is gone."""

THREADS = [*GUNICORN, "--worker-class", "gthread", "--threads", "4"]
SERVERS = {
    "gunicorn sync": ([*GUNICORN, "--workers", "1"], ["wsgi", "flask_app", "django_wsgi"]),
    "gunicorn gthread": (THREADS, ["wsgi", "flask_app", "django_wsgi"]),
    "gunicorn gevent": ([*GUNICORN, "--worker-class", "gevent"], ["wsgi", "flask_app"]),
    "uvicorn": (UVICORN, ["asgi", "starlette_app", "fastapi_app", "django_asgi"]),
    "hypercorn": (HYPERCORN, ["asgi", "starlette_app", "fastapi_app", "django_asgi"]),
    "granian": ([*GRANIAN, "--workers", "1"], ["asgi", "starlette_app", "fastapi_app"]),
}
# WSGI has no async streams; and Django reads a sync one to its end before it sends it in an event loop.
KINDS = {"wsgi": ["sync"], "flask_app": ["sync"], "django_wsgi": ["sync"], "django_asgi": ["async"]}
PAIRS = [(name, app) for name, (_, apps) in SERVERS.items() for app in apps]
USUAL = [("gunicorn gthread", "flask_app"), ("uvicorn", "starlette_app")]


def ask(server, target, company, *, leaves=False):
    """Read the whole response, or leave after its first bytes."""
    with closing(server.connect()) as connection:
        head = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nX-Company: {company}\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode())
        if leaves:
            assert connection.recv(1000)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, GONE)
        else:
            while connection.recv(1 << 16):
                pass


def is_said(truth, companies):
    """Whether the streams of all *companies* have ended, as often as there were any."""
    lines = Counter(line.split()[0] for line in truth.read_text().splitlines()) if truth.exists() else Counter()
    return all(lines[company] >= ROUNDS for company in companies)


@pytest.mark.parametrize(
    ("name", "app"),
    some(USUAL, among=PAIRS),
    ids=lambda each: each,
)
def test_each_company_has_what_its_streams_said(name, app, tmp_path):
    """One stays, one leaves, one says it late; a fourth, that uses nothing, is served in between."""
    command = [word.replace("served_app:wsgi", f"served_streams:{app}") for word in SERVERS[name][0]]
    command = [word.replace("served_app:asgi", f"served_streams:{app}") for word in command]
    kinds = KINDS.get(app, ["sync", "async"])
    truth = tmp_path / "truth"
    leaving = [f"leaves-{kind}" for kind in kinds]
    with Billing(tmp_path) as billing:
        with Server(command, billing, tmp_path, SERVED_TRUTH=str(truth)) as server:
            for _ in range(ROUNDS):
                ask(server, "/late", "late")
                for kind in kinds:
                    ask(server, f"/{kind}?5", f"stays-{kind}")
                    ask(server, f"/{kind}", f"leaves-{kind}", leaves=True)
                ask(server, "/other", "other")
            for _ in tries():
                if is_said(truth, [*leaving, "late"]):
                    break
                ask(server, "/other", "other")
            server.stop(signal.SIGTERM, figure=f"streams {name} {app}")

        said = Counter()
        for line in truth.read_text().splitlines():
            company, units = line.split()
            said[company] += int(units)
        with closing(MeterKit(meters=[Meter("tokens")], data_dir=billing.data_dir, flush_interval=3600.0)) as kit:
            kit.flush()
            counted = Counter()
            for row in kit.usage():
                counted[row.company] += row.quantity
        assert {*leaving, "late", *(f"stays-{kind}" for kind in kinds)} == set(said)
        assert said == counted
