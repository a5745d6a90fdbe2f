"""gunicorn: whatever its workers are, and however they end, clients are billed for what they received."""

from __future__ import annotations

import signal

import pytest
from served_billing import Billing
from served_server import GUNICORN, Server
from thorough import some

WORKERS = {
    "sync": ["--worker-class", "sync"],
    "gthread": ["--worker-class", "gthread", "--threads", "2"],
    "gevent": ["--worker-class", "gevent"],
}
REQUESTS = 24


CASES = [(preload, worker) for preload in ("preload", "own") for worker in WORKERS]
USUAL = [("own", "sync"), ("preload", "gthread"), ("own", "gevent")]


@pytest.fixture(params=some(USUAL, among=CASES), ids="-".join)
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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT], ids=lambda number: number.name)
def test_a_stop_loses_and_doubles_nothing(serve, worker, number):
    """However an operator ends it, every response that a client received is billed, once."""
    with serve("--workers", "1") as server:
        server.ask_times(REQUESTS)
        server.stop(number, figure=f"gunicorn {worker}")

    assert REQUESTS == server.complete == server.sent == serve.settle()


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


def test_workers_that_are_recycled_lose_and_double_nothing(serve, worker):
    """With --max-requests, workers end all the time; what they counted stays."""
    with serve("--workers", "1", "--max-requests", "8") as server:
        workers = set()
        while len(workers) < 3:
            workers |= {server.ask()} - {None}
        server.stop(figure=f"gunicorn {worker} with --max-requests")

    assert server.complete <= serve.settle() <= server.sent


def test_a_worker_that_hangs_and_is_killed_loses_nothing(serve, worker):
    """When nothing moves in a worker, gunicorn kills it; what it had answered before is billed."""
    with serve("--workers", "1", "--timeout", "2") as server:
        former = server.ask_times(REQUESTS)
        assert server.ask("hang") is None
        after = server.ask_times(REQUESTS)
        server.stop(figure=f"gunicorn {worker} after a time-out")

    assert not former & after
    assert (2 * REQUESTS, 2 * REQUESTS + 1) == (server.complete, server.sent)
    assert 2 * REQUESTS == serve.settle()
