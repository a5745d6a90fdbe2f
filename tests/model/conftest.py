"""The process from which the model's are forked, and a world for one test."""

from __future__ import annotations

import pytest
from held import tell_what_is_held
from model_world import World
from model_zygote import Zygote


@pytest.fixture(scope="session")
def held(tmp_path_factory):
    """Where the sandbox tells which requests it holds."""
    return tmp_path_factory.mktemp("held")


@pytest.fixture(autouse=True)
def _what_is_held_times_out(held, monkeypatch):
    """At once, and nothing else does."""
    tell_what_is_held(held, "slow", "timeout_after", "timeout_before", put=monkeypatch.setattr)


@pytest.fixture(scope="session")
def zygote(held):
    """One for all: it takes a second to import everything."""
    with Zygote(held) as zygote:
        yield zygote


@pytest.fixture
def make_world(zygote):
    """A function that makes worlds, with a Stripe that behaves as it is told."""
    worlds = []

    def make(**switches):
        world = World(zygote)
        worlds.append(world)
        world.open(switches)
        return world

    yield make
    for world in worlds:
        world.close()


@pytest.fixture
def world(make_world):
    """One host, SQLite, and a Stripe that behaves as the sandbox does by default."""
    return make_world()
