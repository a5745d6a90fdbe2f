"""A provider on loopback, and kits that count tokens."""

from __future__ import annotations

import pytest
from plain_exchange import counted
from provider_server import ProviderServer

from meterkit import Meter, llm


@pytest.fixture(scope="session")
def provider_server():
    """The server, which takes half a second to end."""
    server = ProviderServer()
    yield server
    server.close()


@pytest.fixture
def provider(provider_server):
    """A double of all providers."""
    provider_server.reset()
    return provider_server


@pytest.fixture
def token_kit(make_kit):
    """A kit with a meter for each kind of token, whose exchanges are acme's."""
    meters = [Meter(kind, value=f"{kind}_tokens", status="*") for kind in llm.KINDS]
    return make_kit(*meters, identify=lambda _: "acme")


@pytest.fixture
def told(token_kit):
    """A function that returns what acme has used, by kind."""
    return lambda company="acme": {meter: n for (meter, who), n in counted(token_kit).items() if who == company}
