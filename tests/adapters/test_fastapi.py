"""FastAPI's dependencies: they identify, govern, require a feature, and charge, wherever FastAPI takes dependencies."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import pytest
from adapter_drivers import scope_for
from adapter_usage import looked_once, usage_of
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, Header, HTTPException, Request, Security, WebSocket
from fastapi.exception_handlers import http_exception_handler
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.security import APIKeyHeader
from starlette_client import TestClient, WebSocketDenialResponse
from thorough import first

import meterkit
from meterkit import (
    ConfigurationError,
    ExchangeUsage,
    Governance,
    Identity,
    Meter,
    MeterKit,
    Plan,
    Price,
    Quota,
    Refusal,
)
from meterkit.fastapi import Billing, Refused

Make = Callable[..., MeterKit]

CALLS = Meter("calls", path="*", status="*")
TOKENS = Meter("tokens", path="*", value="tokens")
KEY = {"X-Api-Key": "key-of-acme"}
COMPANIES = {"key-of-acme": "acme", "key-of-globex": Identity("globex", user="ann"), "key-of-7": 7}


def known_before(exchange: Any) -> str:
    """Who the middleware knows before the app runs."""
    return "acme"


async def company(key: Annotated[str | None, Security(APIKeyHeader(name="X-Api-Key", auto_error=False))]) -> Any:
    """Looks a key up, as in a database."""
    await asyncio.sleep(0)
    return COMPANIES.get(key or "")


def governed(make_kit: Make, *quotas: Quota, meters: Any = (CALLS, TOKENS), **options: Any) -> MeterKit:
    """A kit that leaves it to the views."""
    rules = {"quotas": quotas, "overdue_days": 1, **options.pop("rules", {})}
    kit = make_kit(*meters, **{"identify": "view", "governance": Governance(**rules), **options})
    looked_once(kit)
    return kit


def installed(billing: Billing, **options: Any) -> FastAPI:
    app = FastAPI(**options)
    billing.install(app)
    return app


def statuses(client: TestClient, *paths: str, **options: Any) -> list[int]:
    return [client.get(path, **{"headers": KEY, **options}).status_code for path in paths]


def test_who_it_is(make_kit: Make) -> None:
    """An async look-up names the company, and perhaps a user; without one, the response is a 401, as FastAPI's own."""
    kit = make_kit(CALLS, identify=None)
    billing = Billing(kit, company)
    app = installed(billing)

    @app.get("/me")
    async def me(who: Annotated[Identity, Depends(billing.identify)]) -> list[Any]:
        return [who.company, who.user]

    client = TestClient(app)
    answers = [client.get("/me", headers={"X-Api-Key": key}) for key in (*COMPANIES, "wrong")]

    assert [["acme", None], ["globex", "ann"], [7, None]] == [each.json() for each in answers[:3]]
    assert 401 == answers[3].status_code
    assert {"detail": "No company was identified for this request"} == answers[3].json()
    assert "www-authenticate" in answers[3].headers
    kit.flush()
    payers = {(row.company, row.user): row.quantity for row in kit.usage()}
    assert {("acme", None): 1, ("globex", "ann"): 1, ("7", None): 1, (None, None): 1} == payers


@pytest.mark.parametrize("exact", first([True], among=[False, True]))
@pytest.mark.parametrize("identify", first(["view", known_before], among=["view", known_before, lambda exchange: None]))
def test_one_decision(make_kit: Make, exact: bool, identify: Any) -> None:
    """However many dependencies a request meets, and whoever knew first: one unit of a quota is reserved for it."""
    kit = governed(make_kit, Quota(CALLS, 3, exact=exact), identify=identify)
    billing = Billing(kit, company)
    app = installed(billing)
    ran = []
    router = APIRouter(dependencies=[Depends(billing.govern)])

    @router.get("/calls/{number}", dependencies=[Depends(billing.charge("tokens", 5))])
    async def calls(number: int, who: Annotated[Identity, Security(billing.govern, scopes=["calls"])]) -> None:
        ran.append((number, who.company))

    app.include_router(router, prefix="/v1")

    assert [200, 200, 200, 429, 429] == statuses(TestClient(app), *[f"/v1/calls/{number}" for number in range(5)])
    assert [(0, "acme"), (1, "acme"), (2, "acme")] == ran
    assert {"calls": 3, "tokens": 15} == usage_of(kit)
    assert [("acme", "quota", 2)] == [(each.company, each.reason, each.count) for each in kit.stopped()]
    assert "identified_late" not in kit.health()["problems"]


def test_the_kits_own_identify(make_kit: Make) -> None:
    """Without a dependency of its own, Billing takes whom ``identify=`` names, before the view or in it."""

    async def identify(exchange: Any) -> str | None:
        return COMPANIES.get(exchange.headers.get("x-api-key", ""))  # type: ignore[return-value]

    kit = governed(make_kit, Quota(CALLS, 2), identify=identify)
    billing = Billing(kit)
    app = installed(billing)

    @app.get("/")
    async def root(who: Annotated[Identity, Depends(billing.govern)]) -> Any:
        return who.company

    assert [200, 200, 429] == statuses(TestClient(app), "/", "/", "/")
    assert 401 == TestClient(app).get("/").status_code


def test_named_in_the_view_and_governed_there(make_kit: Make) -> None:
    """Who only can be known in the view, by what another middleware sets there, is governed by the dependency."""
    kit = governed(make_kit, Quota(CALLS, 1), identify=lambda exchange: exchange.native["state"].get("company"))
    billing = Billing(kit)
    app = FastAPI()

    @app.middleware("http")
    async def authenticate(request: Request, call_next: Any) -> Any:
        request.state.company = "acme"
        return await call_next(request)

    billing.install(app)

    @app.get("/")
    async def root(
        who: Annotated[Identity, Depends(billing.identify)], again: Annotated[Identity, Depends(billing.govern)]
    ) -> bool:
        return who == again

    assert [200, 429] == statuses(TestClient(app), "/", "/")
    assert {"calls": 1} == usage_of(kit)


def test_a_path_where_a_blocked_company_pays(make_kit: Make) -> None:
    """Where only `identify` is asked, nothing is blocked, and nothing is late."""
    kit = governed(make_kit, Quota(CALLS, 0))
    billing = Billing(kit, company)
    app = installed(billing)
    app.get("/pay", dependencies=[Depends(billing.identify)])(lambda: None)
    app.get("/forgotten", dependencies=[Depends(company)])(lambda: meterkit.identify("acme"))

    assert [200] == statuses(TestClient(app), "/pay")
    assert "identified_late" not in kit.health()["problems"]
    assert [200] == statuses(TestClient(app), "/forgotten")
    assert "'/forgotten'" in kit.health()["problems"]["identified_late"]["message"]


def test_a_quota_of_one_route(make_kit: Make) -> None:
    """The dependency knows which route has matched: a more specific one of the same form is not blocked."""
    docs = Meter("docs", route="/docs/{name}")
    kit = governed(make_kit, Quota(docs, 0), meters=(docs,))
    billing = Billing(kit, company)
    app = installed(billing, dependencies=[Depends(billing.govern)])
    app.get("/docs/new")(lambda: None)
    app.get("/docs/{name}")(lambda name: name)

    assert [200, 429] == statuses(TestClient(app), "/docs/new", "/docs/old")


FREE, PRO = Plan("free"), Plan("pro", prices=[Price.per_unit(CALLS, "0.01")], features=["export"])


@pytest.mark.parametrize("has_governance", [False, True])
@pytest.mark.parametrize(("plan", "expected"), [("free", 403), ("pro", 200)])
def test_a_feature_of_the_plan(make_kit: Make, plan: str, expected: int, has_governance: bool) -> None:
    """403, with the feature's name in the problem document, and nothing is billed."""
    governance = Governance(quotas=[Quota(CALLS, 9)]) if has_governance else None
    kit = make_kit(CALLS, plans=[FREE, PRO], default_plan=plan, identify="view", governance=governance)
    billing = Billing(kit, company)
    app = installed(billing)

    @app.get("/export", dependencies=[Depends(billing.requires("export"))])
    async def export() -> None:
        """An endpoint."""

    answer = TestClient(app).get("/export", headers=KEY)

    assert expected == answer.status_code
    assert ({} if expected == 403 else {"calls": 1}) == usage_of(kit)
    if expected == 403:
        assert "application/problem+json" == answer.headers["content-type"]
        assert ("feature", "export", "acme") == tuple(answer.json()[name] for name in ("reason", "feature", "company"))
        stopped = [(each.company, each.reason, each.count) for each in kit.stopped()]
        assert ([("acme", "feature", 1)] if has_governance else []) == stopped


def test_a_charge(make_kit: Make) -> None:
    """It counts for what succeeded; the endpoint gets the handle, to add more, also when the response is complete."""
    kit = make_kit(TOKENS, identify=None)
    billing = Billing(kit, company)
    app = installed(billing)

    @app.post("/images/{succeeds}")
    async def image(
        succeeds: bool, usage: Annotated[ExchangeUsage, Depends(billing.charge("tokens", 40))], after: BackgroundTasks
    ) -> None:
        if not succeeds:
            raise HTTPException(503)
        usage.add("tokens", 2)
        after.add_task(usage.add, "tokens", 100)

    client = TestClient(app)
    assert [200, 503] == [client.post(f"/images/{each}", headers=KEY).status_code for each in (True, False)]
    assert {"tokens": 142} == usage_of(kit)
    assert {"acme"} == {row.company for row in kit.usage()}


@pytest.mark.parametrize(
    ("wrong", "cure"),
    [
        (lambda billing: billing.requires("exprot"), "only export: add it to features="),
        (lambda billing: billing.charge("token"), "only tokens: add a Meter"),
        (lambda billing: billing.charge("tokens", -1), "charge('tokens')"),
        (lambda billing: billing.install(object()), "needs a FastAPI app"),
        (lambda billing: Billing(billing._kit, "acme"), "must be a dependency"),
        (lambda billing: Billing(object(), company), "needs a MeterKit"),
    ],
)
def test_mistakes(make_kit: Make, wrong: Any, cure: str) -> None:
    """They are refused while the app is built."""
    billing = Billing(make_kit(CALLS, TOKENS, plans=[FREE, PRO], default_plan="free"), company)

    with pytest.raises(ConfigurationError) as caught:
        wrong(billing)

    assert cure in str(caught.value)


def blocked_app(make_kit: Make, **options: Any) -> FastAPI:
    billing = Billing(governed(make_kit, Quota(CALLS, 0), **options), company)
    app = installed(billing)
    app.get("/", dependencies=[Depends(billing.govern)])(lambda: None)
    return app


def test_the_body_is_the_refusals(make_kit: Make) -> None:
    """As where the middleware blocks: the same status, headers and body."""
    refusal = Refusal(status=402, detail="Buy more, {company}.", headers={"X-Plan": "free"})
    here = TestClient(blocked_app(make_kit, rules={"refusals": {"quota": refusal}})).get("/", headers=KEY)
    there = TestClient(
        blocked_app(make_kit, identify=lambda exchange: "acme", rules={"refusals": {"quota": refusal}})
    ).get("/", headers=KEY)

    assert (402, "free", "Buy more, acme.") == (here.status_code, here.headers["x-plan"], here.json()["detail"])
    assert dict(here.headers) == dict(there.headers)
    assert here.json() == there.json()


@pytest.mark.parametrize("handled", [HTTPException, Refused, 429])
def test_the_apps_own_handler(make_kit: Make, handled: Any) -> None:
    """It shapes what is refused as it shapes all errors of the app."""
    app = blocked_app(make_kit)
    if handled is HTTPException:
        del app.exception_handlers[Refused]

    async def shaped(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": error.detail}, error.status_code, dict(error.headers or {}))

    app.add_exception_handler(handled, shaped)  # type: ignore[arg-type]
    answer = TestClient(app).get("/", headers=KEY)

    assert 429 == answer.status_code
    assert {"error": "The quota of 0 calls for this billing period is used up."} == answer.json()
    assert 0 < int(answer.headers["retry-after"])


def test_fastapis_own_handler(make_kit: Make) -> None:
    """Without that of `install`, a refusal looks like any HTTPException of FastAPI."""
    app = blocked_app(make_kit)
    app.exception_handlers[Refused] = http_exception_handler
    answer = TestClient(app).get("/", headers=KEY)

    assert (429, ["detail"]) == (answer.status_code, list(answer.json()))


@pytest.mark.parametrize("is_outside", [False, True])
def test_inside_cors(make_kit: Make, is_outside: bool) -> None:
    """A browser can read a refusal, on whichever side of the middleware CORSMiddleware is."""
    billing = Billing(governed(make_kit, Quota(CALLS, 0)), company)
    app = FastAPI()
    for is_cors in (not is_outside, is_outside):
        if is_cors:
            app.add_middleware(CORSMiddleware, allow_origins=["*"])
        else:
            billing.install(app)
    app.get("/", dependencies=[Depends(billing.govern)])(lambda: None)
    answer = TestClient(app).get("/", headers={**KEY, "Origin": "https://shop.example"})

    assert (429, "*") == (answer.status_code, answer.headers.get("access-control-allow-origin"))


def test_a_mounted_app(make_kit: Make) -> None:
    """Metered and governed once, with the middleware of the outer app or of both."""
    kit = governed(make_kit, Quota(CALLS, 1, exact=True))
    billing = Billing(kit, company)
    app, inner = installed(billing), installed(billing)
    billing.install(app)
    inner.get("/calls", dependencies=[Depends(billing.govern)])(lambda: None)
    app.mount("/v1", inner)
    answers = [TestClient(app).get("/v1/calls", headers=KEY) for _ in range(2)]

    assert [200, 429] == [each.status_code for each in answers]
    assert "quota" == answers[1].json()["reason"]
    assert {"calls": 1} == usage_of(kit)


def test_a_dependency_that_yields(make_kit: Make) -> None:
    """It ends after the response, and its handle still counts for the request."""
    kit = make_kit(TOKENS, identify=None)
    billing = Billing(kit, company)
    app = installed(billing)

    async def session(
        usage: Annotated[ExchangeUsage, Depends(meterkit.usage)], who: Annotated[Identity, Depends(billing.govern)]
    ) -> AsyncIterator[Any]:
        yield who.company
        usage.add("tokens", 7)

    @app.get("/")
    def root(company: Annotated[str, Depends(session)]) -> StreamingResponse:
        def stream() -> Iterator[str]:
            yield from company

        return StreamingResponse(stream())

    assert "acme" == TestClient(app).get("/", headers=KEY).text
    assert {"tokens": 7} == usage_of(kit)


def test_a_warning(make_kit: Make) -> None:
    """A soft quota that is used up adds its header to a response of any kind, once."""
    billing = Billing(governed(make_kit, Quota(CALLS, 0, hard=False)), company)
    app = installed(billing, dependencies=[Depends(billing.govern), Depends(billing.charge("tokens"))])

    @app.get("/")
    async def root() -> StreamingResponse:
        return StreamingResponse(iter(["a", "b"]))

    assert ["quota"] == TestClient(app).get("/", headers=KEY).headers.get_list("x-meterkit-warning")


def websocket_app(make_kit: Make, *quotas: Quota) -> tuple[FastAPI, MeterKit]:
    kit = governed(make_kit, *quotas)

    async def of_the_handshake(key: Annotated[str, Header(alias="X-Api-Key")] = "") -> Any:
        return COMPANIES.get(key)  # the security schemes of FastAPI 0.140 know no WebSockets

    billing = Billing(kit, of_the_handshake)
    app = installed(billing)

    @app.websocket("/chat")
    async def chat(websocket: WebSocket, usage: Annotated[ExchangeUsage, Depends(billing.charge("tokens"))]) -> None:
        await websocket.accept()
        usage.add("tokens", 4)
        await websocket.close()

    return app, kit


def test_a_websocket(make_kit: Make) -> None:
    """It is governed at its handshake, and pays for what it uses."""
    app, kit = websocket_app(make_kit, Quota(CALLS, 1, exact=True))
    for _ in range(2):  # an exact quota counts those that are open
        with TestClient(app).websocket_connect("/chat", headers=dict(KEY)):
            pass

    assert {"tokens": 10} == usage_of(kit)
    assert {"acme"} == {row.company for row in kit.usage()}


@pytest.mark.parametrize(("headers", "status"), [(KEY, 429), ({}, 401)])
def test_a_websocket_that_is_blocked(make_kit: Make, headers: dict[str, str], status: int) -> None:
    """The server denies the handshake with the very response; one that cannot closes it with 1008."""
    app, kit = websocket_app(make_kit, Quota(CALLS, 0))
    with (
        pytest.raises(WebSocketDenialResponse) as denied,
        TestClient(app).websocket_connect("/chat", headers=dict(headers)),
    ):
        pass

    assert status == denied.value.status_code

    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {**scope_for(path="/chat", headers=headers), "type": "websocket", "subprotocols": []}
    asyncio.run(app(scope, receive, send))

    assert [("websocket.close", 1008)] == [(each["type"], each["code"]) for each in sent]
    assert len(sent[0]["reason"].encode()) <= 123
    assert {} == usage_of(kit)


def test_the_lifespan(make_kit: Make) -> None:
    """The kit is closed when the app's own lifespan has ended, and what that counts is not lost."""
    kit = make_kit(CALLS, TOKENS, identify=None)
    ended = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        kit.record("tokens", "acme", 9)
        ended.append(app.title)

    app = installed(billing := Billing(kit, company), lifespan=lifespan, title="Shop")
    app.get("/", dependencies=[Depends(billing.govern)])(lambda: None)
    with TestClient(app) as client:
        client.get("/", headers=KEY)

    assert ["Shop"] == ended
    assert {"calls": 1, "tokens": 9} == {row.meter: row.quantity for row in kit.usage()}  # nobody has flushed


def test_openapi(make_kit: Make) -> None:
    """The security scheme, and all that may be refused, with the schema of its body."""
    refusals = {"overdue": Refusal(body="Pay!", media_type="text/plain")}
    kit = governed(
        make_kit,
        Quota(CALLS, 0),
        plans=[FREE, PRO],
        default_plan="free",
        rules={"spending_cap": "9", "refusals": refusals},
    )
    billing = Billing(kit, company)
    app = installed(billing)
    app.get("/", dependencies=[Depends(billing.govern)], responses=billing.responses)(lambda: None)
    described = app.openapi()
    operation = described["paths"]["/"]["get"]

    assert [{"APIKeyHeader": []}] == operation["security"]
    assert {"200", "401", "402", "403", "429"} == operation["responses"].keys()
    assert {"text/plain", "application/problem+json"} == operation["responses"]["402"]["content"].keys()
    assert "Retry-After" in operation["responses"]["429"]["headers"]
    schema = operation["responses"]["429"]["content"]["application/problem+json"]["schema"]
    body = TestClient(app).get("/", headers=KEY).json()
    kinds = {"string": str, "integer": int}
    assert set(schema["required"]) <= body.keys() <= schema["properties"].keys()
    assert all(isinstance(value, kinds[schema["properties"][name]["type"]]) for name, value in body.items())
    assert body["reason"] in schema["properties"]["reason"]["enum"]


def test_openapi_without_governance(make_kit: Make) -> None:
    """What cannot happen is not documented."""
    assert [401] == list(Billing(make_kit(CALLS), company).responses)


def test_without_the_middleware(make_kit: Make) -> None:
    """The app answers; that nothing is counted or blocked is a problem, with the cure."""
    kit = governed(make_kit, Quota(CALLS, 0))
    billing = Billing(kit, company)
    app = FastAPI()
    app.get("/", dependencies=[Depends(billing.govern)])(lambda: None)

    assert [200] == statuses(TestClient(app), "/")
    assert "billing.install(app)" in kit.health()["problems"]["no_middleware"]["message"]


def test_the_customer_page_needs_a_function(make_kit: Make, tmp_path: Path) -> None:
    """It has no view that could say whose it is."""
    with pytest.raises(ConfigurationError, match="give identify= a function"):
        make_kit(CALLS, identify="view", customer_page="/usage")
