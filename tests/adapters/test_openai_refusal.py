"""A refusal in the shape of OpenAI's API, as the official client shows it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import openai
import pytest
from adapter_drivers import answering
from adapter_usage import looked_once
from guard import GUARD

from meterkit import Block, Governance, Meter, MeterKit, Quota, Refusal
from meterkit.governance.refusal import OPENAI_SCHEMA
from meterkit.wsgi import MeterMiddleware

CALLS = Meter("calls", path="*")


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Nothing is written to stderr."""


class Api:
    """An API of an LLM, on a real socket; it writes down the requests."""

    def __init__(self, kit: MeterKit) -> None:
        self.requests: list[str] = []
        metered = MeterMiddleware(answering([b"{}"], ("Content-Type", "application/json")), kit)

        def app(environ: Any, start_response: Any) -> Any:
            self.requests.append(environ["PATH_INFO"])
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            return metered(environ, start_response)

        self.server = make_server("127.0.0.1", 0, app, handler_class=Quiet)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join(GUARD)
        self.server.server_close()

    def ask(self) -> openai.APIStatusError:
        """What the official client raises for a chat."""
        base = f"http://127.0.0.1:{self.server.server_port}/v1"
        with openai.OpenAI(base_url=base, api_key="key-of-acme", timeout=GUARD) as client:
            with pytest.raises(openai.APIStatusError) as caught:
                client.chat.completions.create(model="large", messages=[{"role": "user", "content": "Hello"}])
            return caught.value


@pytest.fixture
def serve(make_kit: Callable[..., MeterKit]) -> Iterator[Callable[..., Api]]:
    apis: list[Api] = []

    def served(**rules: Any) -> Api:
        refusals = dict.fromkeys(("quota", "check", "unknown"), Refusal.openai())
        kit = make_kit(CALLS, governance=Governance(**{"refusals": refusals, **rules}))
        looked_once(kit)
        apis.append(Api(kit))
        return apis[-1]

    yield served
    for api in apis:
        api.close()


def test_a_quota(serve: Callable[..., Api]) -> None:
    """It is a RateLimitError with a sentence and OpenAI's own code, and is not sent again in vain."""
    api = serve(quotas=[Quota(CALLS, 0)], settle_url="https://shop.example/billing?company={company}")
    error = api.ask()

    assert isinstance(error, openai.RateLimitError)
    assert ("insufficient_quota", "insufficient_quota", None) == (error.code, error.type, error.param)
    assert "The quota of 0 calls for this billing period is used up." in error.message
    assert "https://shop.example/billing?company=acme" in error.message
    assert ["/v1/chat/completions"] == api.requests


def test_a_balance_that_is_used_up() -> None:
    """It has OpenAI's own code, too, and says where to buy more."""
    block = Block("balance", "acme", "The balance of credits is used up.", settle_url="https://shop.example/credits")
    response = Refusal.openai().respond(block)
    error = json.loads(response.body)["error"]

    assert (402, "insufficient_quota") == (response.status, error["code"])
    assert "The balance of credits is used up. See https://shop.example/credits" == error["message"]


@pytest.mark.parametrize(
    ("rules", "status", "type_", "code"),
    [
        ({"check": lambda exchange, known: "Not on Sundays."}, 402, "billing_error", "check"),
        ({"unknown": "block"}, 403, "permission_error", "unknown"),
    ],
)
def test_other_reasons(serve: Callable[..., Api], rules: Any, status: int, type_: str, code: str) -> None:
    """The code is the reason."""
    error = serve(**rules).ask()

    assert (status, type_, code) == (error.status_code, error.type, error.code)


@pytest.mark.parametrize(("retry_after", "expected"), [(None, "false"), (3600, "false"), (1, None)])
def test_what_is_over_soon_may_be_sent_again(retry_after: int | None, expected: str | None) -> None:
    """Clients wait for a minute at most."""
    response = Refusal.openai().respond(Block("quota", "acme", "Used up.", retry_after=retry_after))

    assert expected == dict(response.headers).get("x-should-retry")


def test_the_schema() -> None:
    """Is that of the body."""
    refusal = Refusal.openai(status=429)
    error = json.loads(refusal.respond(Block("overdue", "acme", "Pay.")).body)["error"]
    described = OPENAI_SCHEMA["properties"]["error"]

    assert OPENAI_SCHEMA is refusal.schema
    assert 429 == refusal.status_for("overdue")
    assert set(described["required"]) == error.keys() == described["properties"].keys()
    assert error["type"] in described["properties"]["type"]["enum"]
