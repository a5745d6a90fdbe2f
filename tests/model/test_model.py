"""
Whatever happens, in any order: nothing that was counted is lost, and nothing is billed twice.

``METERKIT_TEST_EXAMPLES`` makes it a long run.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from model_machine import Model
from model_postgres import SharedWorld
from model_world import World
from model_zygote import Zygote
from real_postgres import RealPostgres

EXAMPLES = int(os.environ.get("METERKIT_TEST_EXAMPLES", "20"))
STEPS = 25


@pytest.fixture
def zygote():
    """The process from which the model's are forked."""
    with Zygote() as zygote:
        yield zygote


def run(make_world: Callable[[], World]) -> None:
    """Let hypothesis look for a story that ends badly."""
    run_state_machine_as_test(
        lambda: Model(make_world()),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_one_host_loses_and_doubles_nothing_whatever_happens(zygote):
    """Three processes, with SQLite."""
    run(lambda: World(zygote))


def test_many_hosts_lose_and_double_nothing_whatever_happens(zygote):
    """Three processes on two hosts, whose clocks differ, with PostgreSQL."""
    with RealPostgres() as server:
        run(lambda: SharedWorld(zygote, server))
