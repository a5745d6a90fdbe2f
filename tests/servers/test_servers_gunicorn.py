"""gunicorn: whatever its workers are, and however they end, clients are billed for what they received."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path

import pytest
from guard import tries
from served_billing import Billing
from served_server import GUNICORN, Server
from thorough import first, some

pytestmark = pytest.mark.thorough

WORKERS = {
    "sync": ["--worker-class", "sync"],
    "gthread": ["--worker-class", "gthread", "--threads", "2"],
    "gevent": ["--worker-class", "gevent"],
}
REQUESTS = 24
LONG_AGO = -1_000_000
"""By the clock of the machine, which begins at 0 when that starts."""


CASES = [(preload, worker) for preload in ("preload", "own") for worker in WORKERS]
USUAL = [("own", "sync"), ("preload", "gthread"), ("own", "gevent")]


@pytest.fixture(params=first(USUAL[:2], among=some(USUAL, among=CASES)), ids="-".join)
def case(request):
    """Whether the app is loaded before the fork, and the worker class."""
    return request.param


@pytest.fixture
def worker(case):
    """The worker class."""
    return case[1]


@pytest.fixture
def serve(case, worker, tmp_path):
    """
    A function that starts gunicorn with more options; with ``--preload``, the app counts once before it is forked.

    When the test is over, that is billed, too, and once, however many workers there were.
    """
    preload = case[0] == "preload"
    with Billing(tmp_path) as billing:

        def serve(*options):
            command = [*GUNICORN, *WORKERS[worker], *options, *(["--preload"] if preload else [])]
            return Server(command, billing, tmp_path, **({"SERVED_AT_IMPORT": billing.early} if preload else {}))

        serve.settle = billing.settle
        yield serve
        assert preload == billing.billed(billing.early)


STOPS = [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT]


@pytest.mark.parametrize("number", first([signal.SIGTERM], among=STOPS), ids=lambda number: number.name)
def test_a_stop_loses_and_doubles_nothing(serve, worker, number):
    """However an operator ends it, every response that a client received is billed, once."""
    with serve("--workers", "1") as server:
        server.ask_times(REQUESTS)
        server.stop(number, figure=f"gunicorn {worker}")

    assert REQUESTS == server.complete == server.sent == serve.settle()


@pytest.mark.long
def test_a_reload_loses_and_doubles_nothing(serve, worker):
    """While SIGHUP replaces the workers, requests go on, and all that were answered are billed."""
    with serve("--workers", "1") as server:
        former = server.ask_times(REQUESTS)
        server.send_signal(signal.SIGHUP)
        while server.ask() in {*former, None}:
            pass
        server.ask_times(REQUESTS)
        server.stop(figure=f"gunicorn {worker} after a reload")

    assert 2 * REQUESTS < server.complete <= serve.settle() <= server.sent


@pytest.mark.long
def test_workers_that_are_recycled_lose_and_double_nothing(serve, worker):
    """With --max-requests, workers end all the time; what they counted stays."""
    with serve("--workers", "1", "--max-requests", "8") as server:
        workers = set()
        while len(workers) < 3:
            workers |= {server.ask()} - {None}
        server.stop(figure=f"gunicorn {worker} with --max-requests")

    assert server.complete <= serve.settle() <= server.sent


def silence(worker):
    """Let gunicorn see no sign of life of the worker for longer than any may be silent, without waiting for that."""
    with suppress(FileNotFoundError, ProcessLookupError):  # it is gone
        for descriptor in Path(f"/proc/{worker}/fd").iterdir():
            if "wgunicorn-" in str(descriptor.readlink()):
                os.utime(descriptor, (LONG_AGO, LONG_AGO))


@pytest.mark.long
def test_a_worker_that_hangs_and_is_killed_loses_nothing(serve, worker):
    """When nothing moves in a worker, gunicorn kills it; what it had answered before is billed."""
    with serve("--workers", "1") as server, ThreadPoolExecutor(1) as client:
        former = server.ask_times(REQUESTS)
        hangs = client.submit(server.ask, "hang")
        server.gated().close()
        for _ in tries():
            silence(*former)
            if wait([hangs], 0.1).done:
                break
        assert hangs.result() is None
        after = server.ask_times(REQUESTS)
        server.stop(figure=f"gunicorn {worker} after a time-out")

    assert not former & after
    assert (2 * REQUESTS, 2 * REQUESTS + 1) == (server.complete, server.sent)
    assert 2 * REQUESTS == serve.settle()
