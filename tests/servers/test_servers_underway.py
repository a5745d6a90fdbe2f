"""Servers that are stopped amidst requests: complete responses, billed, sent: none is more than the next."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
from guard import GUARD
from served_billing import Billing
from served_server import GRANIAN, GUNICORN, HYPERCORN, UVICORN, UWSGI, Server

pytestmark = [pytest.mark.long, pytest.mark.thorough]

SERVERS = {
    "gunicorn sync": [*GUNICORN, "--workers", "2"],
    "gunicorn gthread": [*GUNICORN, "--workers", "2", "--worker-class", "gthread", "--threads", "2"],
    "gunicorn gevent": [*GUNICORN, "--workers", "2", "--worker-class", "gevent"],
    "uvicorn": [*UVICORN, "--workers", "2"],
    "hypercorn": [*HYPERCORN, "--workers", "2"],
    "granian": [*GRANIAN, "--workers", "2"],
    "uwsgi": [*UWSGI, "--processes", "2", "--enable-threads"],
}

# Not granian: told to stop amidst a request, it never answers that, with or without meterkit.
GRACEFUL = ["gunicorn sync", "gunicorn gthread", "gunicorn gevent", "uvicorn", "hypercorn"]

# However long it takes them; uvicorn has no limit unless it is told one.
AS_LONG_AS_IT_TAKES = {name: ["--graceful-timeout", str(GUARD)] for name in GRACEFUL if name != "uvicorn"}


@pytest.mark.parametrize("name", SERVERS)
def test_a_stop_under_load(name, tmp_path):
    """Whatever a server does with the requests that it has when it is told to stop: what arrived is billed."""
    with Billing(tmp_path) as billing:
        with Server(SERVERS[name], billing, tmp_path) as server:
            server.load_until_all_work()
            with server.load():
                server.wait_for(40)
                server.stop(figure=f"{name} under load")

        assert server.complete <= billing.settle() <= server.sent


@pytest.mark.parametrize("name", GRACEFUL)
def test_a_request_that_is_finished_during_the_stop(name, tmp_path):
    """A response that a server still completes after it was told to stop is billed like any other."""
    with Billing(tmp_path) as billing, ThreadPoolExecutor(1) as client:
        with Server([*SERVERS[name], *AS_LONG_AS_IT_TAKES.get(name, [])], billing, tmp_path) as server:
            server.load_until_all_work()
            last = client.submit(server.ask, "gate")
            with server.gated():
                server.send_signal(signal.SIGTERM)
            assert last.result() is not None
            server.wait()

        assert server.sent == server.complete == billing.settle()
