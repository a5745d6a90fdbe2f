"""uvicorn, hypercorn and granian: with their exit hooks and without, clients are billed for what they received."""

from __future__ import annotations

import signal

import pytest
import thorough
from served_billing import Billing
from served_server import GRANIAN, HYPERCORN, UVICORN, Server
from thorough import first

pytestmark = pytest.mark.thorough

REQUESTS = 24

STOPS = pytest.mark.parametrize(
    "number", first([signal.SIGTERM], among=[signal.SIGTERM, signal.SIGINT]), ids=lambda number: number.name
)
WORKERS = pytest.mark.parametrize("workers", [1, 2])


def check(command, workers, number, directory, figure):
    """Let *command* serve, and stop it: what clients sent, they received, and what they received is billed."""
    with Billing(directory) as billing:
        with Server([*command, "--workers", str(workers)], billing, directory) as server:
            server.load_until_all_work(workers)
            server.ask_times(REQUESTS)
            server.stop(number, figure=f"{figure}, {workers} workers")

        assert server.sent == server.complete == billing.settle()


@STOPS
@WORKERS
@pytest.mark.parametrize("lifespan", thorough.first(["off"], among=["on", "off"]))
def test_uvicorn(number, workers, lifespan, tmp_path):
    """At SIGTERM, uvicorn runs no exit hook, and without lifespan nothing at all; nothing is lost or doubled."""
    check([*UVICORN, "--lifespan", lifespan], workers, number, tmp_path, f"uvicorn, lifespan {lifespan}")


@STOPS
@WORKERS
@pytest.mark.long
def test_hypercorn(number, workers, tmp_path):
    """hypercorn, which serves from children in any case, loses and doubles nothing."""
    check(HYPERCORN, workers, number, tmp_path, "hypercorn")


@STOPS
@WORKERS
@pytest.mark.long
def test_granian(number, workers, tmp_path):
    """granian, whose loop is not Python's, loses and doubles nothing."""
    check(GRANIAN, workers, number, tmp_path, "granian")
