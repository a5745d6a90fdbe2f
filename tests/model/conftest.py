"""The process from which the model's are forked, and a world for one test."""

from __future__ import annotations

import pytest
from model_world import World
from model_zygote import Zygote


@pytest.fixture(scope="session")
def zygote():
    """One for all: it takes a second to import everything."""
    with Zygote() as zygote:
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
