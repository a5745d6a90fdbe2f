"""Starlette's endpoints ask governance, once they have authenticated the request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from adapter_usage import looked_once, usage_of
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from starlette_client import TestClient, WebSocketDenialResponse

import meterkit
from meterkit import Governance, Meter, MeterKit, Quota
from meterkit.starlette import MeterMiddleware, govern

Make = Callable[..., MeterKit]

CALLS = Meter("calls", path="*")
TOKENS = Meter("tokens", path="*", value="tokens")


def served(make_kit: Make, *quotas: Quota, asked: Any = ("acme",), **options: Any) -> tuple[TestClient, MeterKit]:
    governance = Governance(quotas=quotas, **options.pop("rules", {}))
    kit = make_kit(CALLS, TOKENS, governance=governance, **{"identify": "view", **options})
    looked_once(kit)

    async def endpoint(request: Request) -> Response:
        return await govern(request, *asked) or await govern(request, *asked) or PlainTextResponse("done")

    async def chat(websocket: WebSocket) -> None:
        blocked = await govern(websocket, *asked)
        if blocked is not None:
            await websocket.send_denial_response(blocked)
            return
        await websocket.accept()
        meterkit.add_usage("tokens", 3)
        await websocket.close()

    routes = [Route("/", endpoint), WebSocketRoute("/chat", chat)]
    return TestClient(Starlette(routes=routes, middleware=[Middleware(MeterMiddleware, kit=kit)])), kit


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("identify", ["view", lambda exchange: "acme"])
def test_an_endpoint_asks(make_kit: Make, exact: bool, identify: Any) -> None:
    """It sends the response that it gets; whoever asks again has the same answer, and reserves no second unit."""
    client, kit = served(make_kit, Quota(CALLS, 2, exact=exact), identify=identify)
    answers = [client.get("/") for _ in range(3)]

    assert [200, 200, 429] == [each.status_code for each in answers]
    assert ("quota", "application/problem+json") == (answers[2].json()["reason"], answers[2].headers["content-type"])
    assert {"calls": 2} == usage_of(kit)
    assert {"acme"} == {row.company for row in kit.usage()}
    assert [("acme", 1)] == [(each.company, each.count) for each in kit.stopped()]


def test_identify_is_asked_again(make_kit: Make) -> None:
    """Without a company, it is what ``identify=`` finds now."""
    client, kit = served(make_kit, Quota(CALLS, 1), asked=(), identify=_when_routed)

    assert [200, 429] == [client.get("/").status_code for _ in range(2)]
    assert {"calls": 1} == usage_of(kit)


@pytest.mark.parametrize("asked", [(), (None,)])
def test_nobody(make_kit: Make, asked: Any) -> None:
    """An endpoint that does not know whose a request is has it blocked, if the rules say so; once."""
    client, kit = served(make_kit, Quota(CALLS, 9), asked=asked, rules={"unknown": "block"})

    assert [403, 403] == [client.get("/").status_code for _ in range(2)]
    assert {} == usage_of(kit)
    assert [(None, "unknown", 2)] == [(each.company, each.reason, each.count) for each in kit.stopped()]


async def _when_routed(exchange: Any) -> str | None:
    return "acme" if "endpoint" in exchange.native else None


def test_a_websocket(make_kit: Make) -> None:
    """It is denied before it is accepted."""
    client, kit = served(make_kit, Quota(CALLS, 1))
    with client.websocket_connect("/chat"):
        pass
    client.get("/")
    kit.flush()

    with pytest.raises(WebSocketDenialResponse) as denied, client.websocket_connect("/chat"):
        pass
    assert 429 == denied.value.status_code
    assert {"calls": 1, "tokens": 3} == usage_of(kit)


def test_without_a_middleware() -> None:
    """Nothing is decided."""

    async def endpoint(request: Request) -> Response:
        return await govern(request, "acme") or PlainTextResponse("done")

    assert 200 == TestClient(Starlette(routes=[Route("/", endpoint)])).get("/").status_code
