"""Calls of tools, by the official client, over streamable HTTP, stdio and in process: who pays, and who is stopped."""

from __future__ import annotations

import asyncio
import sys
import threading
from pathlib import Path

import httpx2
import pytest
import thorough
import uvicorn
from guard import GUARD
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from plain_exchange import counted
from stripe_account import api
from tool_servers import EVERYTHING, METERS, SEARCHES, SERVERS, http_app

import meterkit.asgi
from meterkit import ConfigurationError, Governance, Identity, Meter, Price, Quota

KEYS = {"key-of-acme": "acme", "key-of-globex": Identity("globex", "ann")}


@pytest.fixture(params=thorough.first(["sdk"], among=SERVERS))
def make_server(request):
    """A function that makes a server of either kind."""
    if request.param == "fastmcp":
        pytest.importorskip("fastmcp", minversion="4")
    make = SERVERS[request.param]
    make.kind = request.param
    return make


class Served:
    """An app on a real socket."""

    def __init__(self, app):
        config = uvicorn.Config(app, port=0, log_config=None, lifespan="on", ws="none")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        while not self.server.started:
            assert self.thread.is_alive()
            self.thread.join(0.005)
        port = self.server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/mcp"

    def close(self):
        self.server.should_exit = True
        self.thread.join(GUARD)


@pytest.fixture
def serve():
    """A function that serves an app."""
    apps = []

    def served(app):
        apps.append(Served(app))
        return apps[-1].url

    yield served
    for app in apps:
        app.close()


def by_key(call):
    """Who has the key in the headers of the call."""
    return KEYS.get(call.headers.get("x-api-key", ""))


async def by_key_later(call):
    """The same, async."""
    return by_key(call)


def client_of(server, mode):
    """The official client; in process, FastMCP has one of its own."""
    if type(server).__module__.startswith("fastmcp"):
        import fastmcp

        return fastmcp.Client(server)
    return Client(server, mode=mode)


def ask(server, *calls, mode="auto"):
    """Call tools in one session: whether each failed, and what it said."""

    async def asked():
        found = []
        async with client_of(server, mode) as client:
            await client.list_tools()
            for name, *arguments in calls:
                options = {} if isinstance(client, Client) else {"raise_on_error": False}
                result = await client.call_tool(name, dict(arguments), **options)
                found.append((result.is_error, result.content[0].text))
        return found

    return asyncio.run(asked())


def ask_by_http(url, key, *calls, mode="auto"):
    """The same over HTTP, with a key."""

    async def asked():
        http = httpx2.AsyncClient(headers={"X-Api-Key": key}, timeout=GUARD)
        async with http, Client(streamable_http_client(url, http_client=http), mode=mode) as client:
            await client.list_tools()
            results = [await client.call_tool(name, dict(arguments)) for name, *arguments in calls]
            return [(result.is_error, result.content[0].text) for result in results]

    return asyncio.run(asked())


SEARCH = ("search", ("query", "meters"))


@pytest.mark.parametrize("mode", thorough.first(["auto"], among=["auto", "legacy"]))
def test_what_counts(make_kit, make_server, mode):
    """Calls that succeed, of the tools that a meter names; the listing and the handshake do not."""
    kit = make_kit(*METERS)
    found = ask(
        make_server(kit, company="acme"),
        SEARCH,
        SEARCH,
        ("words", ("text", "one two three")),
        ("words_later", ("text", "one two")),
        ("free", ("query", "x")),
        ("broken",),
        ("wrong",),
        ("wrong",),
        mode=mode,
    )

    assert (False, "results for meters") == found[0]
    assert [False] * 5 + [True] * 3 == [failed for failed, _ in found]
    usage = {meter: quantity for (meter, company), quantity in counted(kit).items() if company == "acme"}
    assert {"searches": 2, "words": 3, "calls": 4, "failures": 3} == usage


@pytest.mark.parametrize("identify", [by_key, pytest.param(by_key_later, marks=pytest.mark.long)])
@pytest.mark.parametrize("mode", thorough.first(["auto"], among=["auto", "legacy"]))
def test_who_pays(make_kit, make_server, serve, identify, mode):
    """Over HTTP, who has the key in the request's headers; each session its own."""
    kit = make_kit(*METERS)
    url = serve(http_app(make_server(kit, identify=identify)))
    ask_by_http(url, "key-of-acme", SEARCH, SEARCH, mode=mode)
    ask_by_http(url, "key-of-globex", SEARCH, mode=mode)
    ask_by_http(url, "key-of-nobody", SEARCH, mode=mode)

    usage = {company: n for (meter, company), n in counted(kit).items() if meter == "searches"}
    assert {"acme": 2, "globex": 1, None: 1} == usage or {"acme": 2, "globex": 1, "": 1} == usage
    assert "no_company" in kit.health()["problems"]


@pytest.mark.parametrize("is_async", [False, True])
def test_the_kits_own_identify(make_kit, make_server, serve, is_async):
    """By default the kit's function is asked, as for any exchange, inside the middleware for HTTP, too."""

    def identify(exchange):
        return KEYS.get(exchange.headers.get("X-API-Key", ""))

    async def identify_later(exchange):
        return identify(exchange)

    kit = make_kit(
        *METERS, Meter("posts", path="/mcp", method="POST"), identify=identify_later if is_async else identify
    )
    url = serve(meterkit.asgi.MeterMiddleware(http_app(make_server(kit)), kit))
    ask_by_http(url, "key-of-globex", SEARCH)

    usage = counted(kit)
    assert 1 == usage["searches", "globex"]
    assert usage["posts", "globex"] > 1
    assert {"ann"} == {row.user for row in kit.usage(company="globex", meter="searches")}


def looked_once(kit):
    """*kit*, once it has its first snapshot, against which calls are checked."""
    kit.governor.begin()
    assert kit.governor.ready.wait(GUARD)
    kit.flush()
    return kit


@pytest.mark.parametrize("exact", [False, True])
def test_a_quota(make_kit, make_server, exact):
    """The call over it is an error of the tool, with the reason and where to settle it; others are served."""
    governance = Governance(
        quotas=[Quota(SEARCHES, 2, exact=exact)], settle_url="https://shop.example/billing/{company}"
    )
    kit = looked_once(make_kit(*METERS, governance=governance, identify="view"))
    server = make_server(kit, company="acme")
    found = ask(server, SEARCH, SEARCH, SEARCH, ("words", ("text", "one")))

    assert [False, False, True, False] == [failed for failed, _ in found]
    assert (
        "The quota of 2 searches for this billing period is used up. See https://shop.example/billing/acme"
        == found[2][1]
    )
    assert 2 == counted(kit)["searches", "acme"]
    assert [("acme", "quota", 1)] == [(row.company, row.reason, row.count) for row in kit.stopped()]


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ({"check": lambda exchange, known: f"{exchange.path} is closed."}, "search is closed."),
        ({"unknown": "block"}, "Company acme has no billing account."),
    ],
)
def test_other_reasons(make_kit, make_server, rules, said):
    """The same for each other rule."""
    kit = looked_once(make_kit(*METERS, governance=Governance(**rules), identify="view"))

    assert [(True, said)] == ask(make_server(kit, company="acme"), SEARCH)
    assert {} == counted(kit)


def test_warnings_stop_nothing(make_kit, make_server):
    """As when going live."""
    governance = Governance(quotas=[Quota(SEARCHES, 0)], mode="warn")
    kit = looked_once(make_kit(*METERS, governance=governance, identify=lambda _: "acme"))

    assert [(False, "results for meters")] == ask(make_server(kit, company="acme"), SEARCH)


def test_a_quota_of_tools_stops_no_request(make_kit):
    """Nor does a quota of requests stop a tool, and a meter of requests counts no tool."""
    from plain_exchange import PlainExchange, serve

    requests = Meter("requests")
    kit = make_kit(requests, EVERYTHING, identify=lambda _: "acme")
    for method in ("GET", "TOOL", "TOOL CALL".replace(" ", "_")):
        serve(kit, PlainExchange(method, "/search"))
    ask(SERVERS["sdk"](kit, company="acme"), SEARCH)

    assert {("requests", "acme"): 3, ("calls", "acme"): 1} == counted(kit)


def test_twice_installed(make_kit):
    """A call counts once, also one that another tool makes."""
    from meterkit.mcp import MeterMiddleware

    kit = make_kit(*METERS)
    server = SERVERS["sdk"](kit, company="acme")
    server.middleware.append(MeterMiddleware(kit, company="acme"))
    ask(server, SEARCH)

    assert 1 == counted(kit)["searches", "acme"]


@pytest.mark.parametrize("mistake", [lambda call: 1 / 0, lambda call: ""])
def test_an_identify_that_fails(make_kit, make_server, mistake):
    """The tool is served, and its usage kept under no company."""
    kit = make_kit(*METERS)

    assert [(False, "results for meters")] == ask(make_server(kit, identify=mistake), SEARCH)
    assert kit.health()["problems"].keys() & {"identify_raised", "company_empty"}


@pytest.mark.parametrize(
    ("options", "cure"),
    [
        ({"company": ""}, "company id must not be empty"),
        ({"identify": 5}, "a function of a ToolCall"),
        ({"identify": by_key, "company": "acme"}, "without it"),
    ],
)
def test_wrong_arguments(make_kit, make_server, options, cure):
    """Each error says what is right."""
    with pytest.raises(ConfigurationError, match=cure):
        make_server(make_kit(), **options)


@pytest.mark.parametrize(
    ("options", "cure"),
    [
        ({"tool": ""}, "such as 'search'"),
        ({"tool": []}, "or several"),
        ({"tool": 5}, "or several"),
        ({"tool": ["a", None]}, "such as 'search'"),
        ({"tool": "a", "path": "/mcp"}, "path= would do nothing"),
        ({"tool": "a", "route": "/mcp", "method": "POST"}, "route=, method= would do nothing"),
        ({"tool": "a", "http": False}, "http= would do nothing"),
        ({"tool": "a", "value": "response_bytes"}, "value= would do nothing"),
    ],
)
def test_wrong_meters(options, cure):
    """A meter of tools has nothing of HTTP."""
    with pytest.raises(ConfigurationError, match=cure):
        Meter("calls", **options)


@pytest.mark.long
@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_month_of_tools(make_kit, make_server, stripe, clock, serve, tmp_path, mode):
    """Sessions over HTTP and over stdio, in two processes: their sum is on the invoice."""
    kit = make_kit(
        *METERS,
        prices=[Price.per_unit(SEARCHES, "2.80")],
        stripe_key=stripe.api_key,
        stripe_base=stripe.url,
        customer_ids=False,
    )
    kit.provision()
    kit.subscribe("acme")
    url = serve(http_app(make_server(kit, identify=by_key)))
    ask_by_http(url, "key-of-acme", SEARCH, SEARCH, ("broken",), SEARCH, mode=mode)
    here = Path(__file__).parent
    program = StdioServerParameters(
        command=sys.executable,
        args=[str(here / "stdio_server.py"), make_server.kind, "acme"],
        env={
            "METERKIT_DATA_DIR": str(tmp_path / "meterkit"),
            "PYTHONPATH": str(here),
            "TEST_NOW": str(clock()),
        },
        cwd=tmp_path,
    )
    assert [(False, "results for meters")] * 2 == ask(program, SEARCH, SEARCH, mode=mode)

    usage = {meter: quantity for (meter, company), quantity in counted(kit).items() if company == "acme"}
    assert {"searches": 5, "calls": 5, "failures": 1} == usage
    kit.sync()
    clock.now = kit.customers()[0].subscriptions[0][2] + 60
    kit.report()
    clock.advance(3 * 3600)
    assert [1_400] == [invoice.total for invoice in api(stripe).invoices.list({}).data]


def test_a_tool_that_asks_first(make_kit):
    """The first half of a call is free: the client calls again with what the tool has asked for."""
    from mcp.server.mcpserver import Context
    from mcp_types import InputRequiredResult

    rounds = []

    async def asking(ctx: Context) -> str | InputRequiredResult:
        rounds.append(ctx.request_state)
        meterkit.add_usage("words", 5)
        return InputRequiredResult(request_state="asked") if ctx.request_state is None else "done"

    kit = make_kit(EVERYTHING, Meter("words", tool="asking", value="words"))
    server = SERVERS["sdk"](kit, company="acme")
    asking.__annotations__ = {"ctx": Context, "return": str | InputRequiredResult}
    server.add_tool(asking)

    assert [(False, "done")] == ask(server, ("asking",))
    assert [None, "asked"] == rounds
    assert {("calls", "acme"): 1, ("words", "acme"): 5} == counted(kit)


@pytest.mark.long
def test_half_a_call_of_fastmcp():
    """FastMCP has a result of its own for that."""
    pytest.importorskip("fastmcp", minversion="4")
    from fastmcp.tools import InputRequiredToolResult, ToolResult
    from mcp_types import InputRequiredResult

    from meterkit.mcp import fastmcp, metered_tools

    half = InputRequiredToolResult(InputRequiredResult(request_state="asked"))
    assert metered_tools.UNFINISHED == fastmcp._status_of(half)
    assert 200 == fastmcp._status_of(ToolResult(content="x"))
