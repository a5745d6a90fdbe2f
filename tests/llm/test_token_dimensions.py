"""One meter for all tokens, told apart by model, kind and provider."""

from __future__ import annotations

import json

import openai
import pytest
from guard import GUARD
from plain_exchange import PlainExchange, counted, serve
from provider_bodies import CHAT, CHAT_STREAM, MESSAGE_STREAM, OPENAI_KINDS

from meterkit import Meter, llm

HELLO = [{"role": "user", "content": "hello"}]


def by(kit, *names):
    kit.flush()
    return {tuple(row.values.values()): row.quantity for row in kit.usage(by=names)}


@pytest.mark.parametrize("body", [json.dumps(CHAT).encode(), CHAT_STREAM])
def test_responses_in_a_providers_shape(make_kit, body):
    """All kinds of one response, with what it says of the model."""
    kit = make_kit(Meter("tokens", value=llm.tokens(), by=("model", "kind"), status="*"), identify=lambda _: "acme")
    serve(kit, PlainExchange("POST", "/v1/chat"), body=body, headers={"content-type": "text/event-stream"})

    assert {("large-1", kind): quantity for kind, quantity in OPENAI_KINDS.items()} == by(kit, "model", "kind")
    assert {("tokens", "acme"): 1300} == counted(kit)


def test_of_some_kinds_by_provider(make_kit):
    """The kinds add up; a function may tell something else of the exchange."""
    dimensions = {"provider": None, "path": lambda exchange: exchange.path}
    kit = make_kit(Meter("tokens", value=llm.tokens(*llm.OUTPUT), by=dimensions), identify=lambda _: "acme")
    for body in (CHAT_STREAM, MESSAGE_STREAM):
        serve(kit, PlainExchange("POST", "/v1"), body=body, headers={"content-type": "text/event-stream"})
    found = by(kit, "provider", "path")

    assert {("openai", "/v1"), ("anthropic", "/v1")} == set(found)
    assert 300 == found["openai", "/v1"]


def test_a_response_without_usage(make_kit):
    """It is not counted, and named."""
    kit = make_kit(Meter("tokens", value=llm.tokens(), by="model"), identify=lambda _: "acme")
    serve(kit, body=b"{}", headers={"content-type": "application/json"})

    assert {} == counted(kit)
    assert "tokens_missing" in kit.health()["problems"]


def test_a_watched_client(make_kit, provider):
    """One call adds all kinds at once, to meters with and without dimensions, and with maximum()."""
    kit = make_kit(
        Meter("tokens", value="tokens", by=("model", "kind")), Meter("all", value="tokens"), identify=lambda _: "acme"
    )
    client = openai.OpenAI(base_url=f"{provider.url}/v1", api_key="sk", timeout=GUARD)
    llm.watch(client, names={"tokens": llm.KINDS})
    serve(kit, view=lambda: client.chat.completions.create(model="m", messages=HELLO))
    client.close()
    found = by(kit, "model", "kind")

    assert OPENAI_KINDS == {kind: quantity for (model, kind), quantity in found.items() if model}
    assert {("tokens", "acme"): 1300, ("all", "acme"): 1300} == counted(kit)
    assert set() == kit.health()["problems"].keys() - {"no_stripe_key", "meter_unfiltered"}


def test_a_watched_client_of_a_job(make_kit, provider):
    """Outside of exchanges, the kit records the kinds."""
    kit = make_kit(Meter("tokens", http=False, by=("model", "kind")))
    client = openai.OpenAI(base_url=f"{provider.url}/v1", api_key="sk", timeout=GUARD)
    llm.watch(client, names={"tokens": llm.KINDS}, kit=kit, company="acme")
    client.chat.completions.create(model="m", messages=HELLO)
    client.close()

    assert OPENAI_KINDS == {kind: quantity for (_, kind), quantity in by(kit, "model", "kind").items()}
