"""Whether a company is allowed: what a gateway is told, from memory, for the request that it asks about."""

from __future__ import annotations

import asyncio
import json

import pytest
import sqlalchemy as sa
from guard import GUARD
from service_client import AS_GATEWAY, GATEWAY, ask, problem_of

from meterkit import ConfigurationError, Governance, Identity, Meter, Plan, Price, Quota, Refusal
from meterkit.asgi import MeterMiddleware
from meterkit.metering.matching import MAX_REMEMBERED as MOST_PATHS
from meterkit.service import Service
from meterkit.snapshot.reader import MAX_REMEMBERED as MOST_COMPANIES

CALLS = Meter("calls", path="/calls")
FILES = Meter("files", path="/files/*", method="PUT")
JOBS = Meter("jobs", http=False)


def by_api_key(exchange):
    return {"key-of-acme": "acme", "key-of-globex": Identity("globex", "ann")}.get(exchange.headers.get("x-api-key"))


@pytest.fixture
def serve(make_kit):
    """A function that makes a kit, and the service of it, which has looked at the ledger once."""

    def serve(*, meters=(CALLS, FILES, JOBS), company_header=None, identify=by_api_key, options=None, **rules):
        governance = Governance(**rules) if rules else None
        kit = make_kit(*meters, identify=identify, governance=governance, **(options or {}))
        service = Service(kit, keys={"gateway": GATEWAY}, company_header=company_header)
        if governance is not None:
            kit.governor.begin()
            assert kit.governor.ready.wait(GUARD)
        kit.flush()
        return kit, service

    return serve


def check(service, path="/v1/check", method="GET", **headers):
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return ask(service, path, method, headers={**AS_GATEWAY, **names})


def about(service, uri, *, method="GET", key="key-of-acme"):
    """The status for a request with this path, as nginx tells it."""
    return check(service, X_Original_URI=uri, X_Original_Method=method, X_Api_Key=key).status_code


def test_it_responds_what_the_middleware_would(serve, make_kit):
    """Status, headers and body, for a company that is allowed, one that is not, and none."""
    kit, service = serve(quotas=[Quota(CALLS, 2)], rate_limit_headers=True, settle_url="https://pay.example/{company}")

    async def app(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    metered = MeterMiddleware(app, kit)
    found = []
    for used in (0, 2):
        kit.record(CALLS, "acme", used)
        kit.flush()
        for key in ("key-of-acme", "nobody's"):
            checked = check(service, X_Original_URI="/calls", X_Api_Key=key)
            served = ask(metered, "/calls", headers={"X-Api-Key": key})
            ours = {name: checked.headers.get(name) for name in served.headers}
            found.append(checked.status_code)
            assert dict(served.headers) == ours
            if served.status_code != 200:
                assert served.content == checked.content
                assert served.text == checked.headers["x-meterkit-body"]

    assert [200, 200, 429, 200] == found


def test_what_is_handed_on(serve):
    """The company and its plan, also of who is blocked; nothing, for the gateway to overwrite with, of nobody."""
    pro = Plan("pro", prices=[Price.per_unit(CALLS, "1.00")])
    _, service = serve(meters=[CALLS], options={"plans": [pro], "default_plan": "pro"}, quotas=[Quota(CALLS, 0)])
    blocked = check(service, X_Original_URI="/calls", X_Api_Key="key-of-acme")
    passed = check(service, X_Original_URI="/other", X_Api_Key="key-of-globex")
    nobody = check(service, X_Original_URI="/calls", X_Api_Key="nobody's")

    def handed_on(response):
        return response.status_code, response.headers["x-meterkit-company"], response.headers["x-meterkit-plan"]

    assert [(429, "acme", "pro"), (200, "globex", "pro"), (200, "", "")] == [*map(handed_on, (blocked, passed, nobody))]
    assert {"allowed": True, "company": "globex"} == passed.json()
    assert {"allowed": True, "company": None} == nobody.json()


def test_a_company_that_is_not_ascii(serve):
    """It is handed on percent-encoded, so that no two are the same, and none adds a header."""
    _, service = serve(quotas=[Quota(CALLS, 1)])
    found = [
        ask(service, "/v1/check", headers=AS_GATEWAY, params={"company": company}).headers["x-meterkit-company"]
        for company in ("a b", "50%", "büro", "日本", "a/b:c=d")
    ]

    assert ["a%20b", "50%25", "b%C3%BCro", "%E6%97%A5%E6%9C%AC", "a/b:c=d"] == found


GATEWAYS = {
    "nginx": lambda uri, method: ("/v1/check", "GET", {"X-Original-URI": uri, "X-Original-Method": method}),
    "Caddy and Traefik": lambda uri, method: (
        "/v1/check",
        "GET",
        {"X-Forwarded-Uri": uri, "X-Forwarded-Method": method},
    ),
    "Envoy": lambda uri, method: (f"/v1/check{uri}", method, {}),
}


@pytest.mark.parametrize("gateway", GATEWAYS)
@pytest.mark.parametrize(
    ("uri", "method", "expected"),
    [
        ("/calls", "GET", 429),
        ("/calls?company=globex&meter=jobs", "GET", 429),
        ("//calls", "GET", 429),
        ("/%63alls", "POST", 429),
        ("/calls/", "GET", 429),
        ("/files/a%20b", "PUT", 429),
        ("/files/a%20b", "GET", 200),
        ("/", "GET", 200),
        ("/pay/now", "POST", 200),
        ("/d%C3%BCrer", "GET", 200),
        ("/%ff", "GET", 200),
    ],
)
def test_the_original_request(serve, gateway, uri, method, expected):
    """Its method and path say which quotas apply, however a gateway tells them."""
    kit, service = serve(quotas=[Quota(CALLS, 1), Quota(FILES, 1)], exempt=["/pay/*"])
    kit.record(CALLS, "acme")
    kit.record(FILES, "acme")
    kit.flush()
    path, its_method, headers = GATEWAYS[gateway](uri, method)
    found = ask(service, path, its_method, headers={**AS_GATEWAY, **headers, "X-Api-Key": "key-of-acme"})

    assert expected == found.status_code


def test_what_is_exempt(serve):
    """A blocked company must be able to pay; but no other path can be spelt so that it looks like the one for that."""
    _, service = serve(unknown="block", exempt=["/pay/*"])
    paths = ["/pay/now", "/pay/now?x", "/calls", "/pay/../calls", "/pay/%2e%2e/calls", "//pay/now", "/calls?/pay/now"]

    assert [200, 200, 403, 403, 403, 403, 403] == [about(service, uri) for uri in paths]


def test_the_absolute_form(serve):
    """A client may send the whole URL as the request's target."""
    kit, service = serve(quotas=[Quota(CALLS, 0)])
    kit.flush()

    assert [429, 200, 200, 200] == [
        about(service, uri) for uri in ("http://api.example/calls?a=1", "http://api.example", "*", "http://[")
    ]


def test_identify_sees_the_original_request(serve):
    """Its method, path, query and headers, but not the gateway's key."""
    seen = []

    def identify(exchange):
        seen.append((exchange.method, exchange.path, exchange.native["query_string"], dict(exchange.headers)))
        return "acme"

    _, service = serve(identify=identify)
    check(service, X_Original_URI="/calls/%C3%BC?token=1%202", X_Original_Method="POST", Cookie="session=1")

    method, path, query, headers = seen[0]
    assert ("POST", "/calls/ü", b"token=1%202") == (method, path, query)
    assert "session=1" == headers["cookie"]
    assert "x-meterkit-key" not in headers


def test_an_async_identify(serve):
    """It is awaited."""

    async def identify(exchange):
        return by_api_key(exchange)

    _, service = serve(identify=identify, quotas=[Quota(CALLS, 0)])

    assert (429, 200) == (about(service, "/calls"), about(service, "/calls", key="nobody's"))


def test_an_identify_that_raises(serve):
    """The request is allowed, as it would be by the middleware, and health says why."""

    def identify(_exchange):
        raise ZeroDivisionError

    kit, service = serve(identify=identify, quotas=[Quota(CALLS, 0)])

    assert 200 == about(service, "/calls")
    assert "identify_early_raised" in kit.health()["problems"]


def test_two_original_requests(serve):
    """The client may have sent one of them, so neither is believed."""
    _, service = serve(quotas=[Quota(CALLS, 0)], exempt=["/pay"])
    both = check(service, X_Original_URI="/pay", X_Forwarded_Uri="/calls", X_Api_Key="key-of-acme")
    same = check(service, X_Original_URI="/calls", X_Forwarded_Uri="/calls", X_Api_Key="key-of-acme")

    assert (400, "original_ambiguous") == problem_of(both)
    assert 429 == same.status_code


def test_an_app_asks_about_a_company(serve):
    """Without a request: all quotas apply, or those of the meters that it names."""
    kit, service = serve(quotas=[Quota(CALLS, 1), Quota(FILES, 1)])
    kit.record(FILES, "acme")
    kit.flush()
    queries = ["company=acme", "company=acme&meter=calls", "company=acme&meter=calls&meter=files", "company=globex"]

    assert [429, 200, 429, 200] == [check(service, f"/v1/check?{query}").status_code for query in queries]


@pytest.mark.parametrize("query", ["company=globex", "x=1&company=globex", "meter=jobs"])
@pytest.mark.parametrize("header", ["X_Original_URI", "X_Forwarded_Uri"])
def test_a_gateway_that_hands_on_the_query(serve, query, header):
    """It would let its clients choose the company, so it is told how not to; a query of its own is good."""
    _, service = serve(quotas=[Quota(CALLS, 0)])
    handed_on = check(service, f"/v1/check?{query}", **{header: f"/calls?{query}"}, X_Api_Key="key-of-acme")
    own = check(service, "/v1/check?company=acme", **{header: f"/calls?{query}"})

    assert (400, "query_of_client") == problem_of(handed_on)
    assert 429 == own.status_code


@pytest.mark.parametrize(
    ("query", "kind"),
    [
        ("company=acme&meter=cals", "meter_unknown"),
        ("company=acme&company=globex", "company_wrong"),
        (f"company={'x' * 10_000}", "company_wrong"),
        ("company=a%00b", "company_wrong"),
        ("&".join(f"x{number}=1" for number in range(1000)), "query_wrong"),
    ],
)
def test_a_wrong_question(serve, query, kind):
    """It is refused with what is wrong."""
    _, service = serve(quotas=[Quota(CALLS, 0)])

    assert (400, kind) == problem_of(check(service, f"/v1/check?{query}"))


def test_a_header_of_the_gateway_names_the_company(serve):
    """And nothing else does then: neither the client's credentials, nor a header that was not agreed upon."""
    _, service = serve(company_header="X-Company", quotas=[Quota(CALLS, 0)])
    _, without = serve(quotas=[Quota(CALLS, 0)])

    assert 429 == check(service, X_Original_URI="/calls", X_Company="acme").status_code
    assert 200 == about(service, "/calls")
    assert 200 == check(service, X_Original_URI="/calls", X_Company="").status_code
    assert 200 == check(without, X_Original_URI="/calls", X_Company="acme").status_code
    assert "büro" == check(service, X_Company="büro".encode()).json()["company"]


@pytest.mark.parametrize("name", ["", "X Company", "X-Company:", "Fürma", 1])
def test_a_header_that_is_none(make_kit, name):
    """It is refused when the service is built."""
    with pytest.raises(ConfigurationError, match="company_header"):
        Service(make_kit(CALLS), keys={"gateway": GATEWAY}, company_header=name)


def test_who_is_not_known(serve):
    """As governance says: a request without a company, and a company without an account."""
    _, passes = serve(quotas=[Quota(CALLS, 10)])
    _, blocks = serve(unknown="block")
    found = [
        [about(service, "/calls", key="nobody's"), check(service, "/v1/check?company=stranger").status_code]
        for service in (passes, blocks)
    ]

    assert [[200, 200], [403, 403]] == found


def test_without_governance(serve):
    """Everybody is allowed, and it is handed on whose the request is."""
    _, service = serve()

    found = check(service, X_Original_URI="/calls", X_Api_Key="key-of-acme")
    assert (200, "acme") == (found.status_code, found.headers["x-meterkit-company"])


def test_it_only_warns(serve):
    """With ``mode="warn"``."""
    _, service = serve(quotas=[Quota(CALLS, 0)], mode="warn")

    assert "quota" == check(service, "/v1/check?company=acme").headers["x-meterkit-warning"]


def test_a_refusal_of_the_application(serve):
    """Its status, body and media type; a body that fits no header is not copied into one."""
    page = Refusal(status=451, body="<p>{detail}</p>\n" * 3, media_type="text/html", headers={"X-Why": "{reason}"})
    _, service = serve(quotas=[Quota(CALLS, 0)], refusals={"quota": page})
    found = check(service, "/v1/check?company=acme")

    assert (451, "text/html", "quota") == (
        found.status_code,
        found.headers["content-type"],
        found.headers["x-why"],
    )
    assert "x-meterkit-body" not in found.headers


def test_what_is_blocked_is_counted(serve):
    """For the team, as with the middleware."""
    kit, service = serve(quotas=[Quota(CALLS, 0)])
    for _ in range(3):
        check(service, "/v1/check?company=acme")

    assert {"quota": 3} == kit.health()["stopped"]


def test_a_quota_of_usage_events(serve):
    """It applies to whatever is asked about: no path says what a request will lead to; but not to what is exempt."""
    tokens = Meter("tokens", event_type="prompt", value="$.tokens")
    kit, service = serve(meters=[CALLS, tokens], quotas=[Quota(tokens, 10), Quota(CALLS, 10)], exempt=["/pay"])
    kit.record(tokens, "acme", 10)
    kit.flush()
    uris = ["/calls", "/anything", "/pay"]

    assert [429, 429, 200] == [about(service, uri) for uri in uris]
    assert [429, 200] == [
        check(service, f"/v1/check?company=acme&meter={name}").status_code for name in ("tokens", "calls")
    ]


def test_a_check_counts_nothing(serve):
    """Neither the meters, nor the units of an exact quota."""
    kit, service = serve(quotas=[Quota(CALLS, 1, exact=True)])
    found = [about(service, "/calls") for _ in range(3)]
    kit.record(CALLS, "acme")
    kit.flush()
    found.append(about(service, "/calls"))

    assert [200, 200, 200, 429] == found
    assert 1 == sum(row.quantity for row in kit.usage())


@pytest.mark.parametrize("has_headers", [False, True])
def test_the_ledger_is_not_asked(serve, monkeypatch, has_headers):
    """Not even under an exact quota, of which no unit is reserved: all is in memory."""
    quotas = [Quota(CALLS, 1, exact=True), Quota(FILES, 1)]
    kit, service = serve(quotas=quotas, rate_limit_headers=has_headers)
    kit.record(CALLS, "globex")
    kit.flush()
    asked = []
    monkeypatch.setattr(sa.Engine, "connect", lambda *_, **__: asked.append("connect"))
    monkeypatch.setattr(sa.Engine, "begin", lambda *_, **__: asked.append("begin"))
    found = [about(service, "/calls"), about(service, "/calls", key="key-of-globex")]
    found += [check(service, f"/v1/check?company={company}").status_code for company in ("acme", "globex", "stranger")]
    monkeypatch.undo()

    assert [200, 429, 200, 429, 200] == found
    assert [] == asked


@pytest.mark.long
def test_a_flood_of_invented_companies(serve):
    """Memory does not grow with them, nor with the paths that they ask for."""
    kit, service = serve(quotas=[Quota(CALLS, 0)])
    statuses = set()

    async def send(message):
        statuses.add(message.get("status"))

    async def flood():
        key = (b"x-meterkit-key", GATEWAY.encode())
        scope = {"type": "http", "method": "GET", "path": "/v1/check", "client": ("192.0.2.1", 1)}
        for number in range(max(MOST_COMPANIES, MOST_PATHS) + 100):
            query, uri = f"company=c{number}".encode(), f"/{'calls' if number % 2 else number}".encode()
            about_this = {**scope, "query_string": query, "headers": [key, (b"x-original-uri", uri)]}
            await service(about_this, None, send)

    asyncio.run(flood())
    snapshot = kit.governor._source.current

    assert {200, 429, None} == statuses
    assert len(snapshot._absent) + len(snapshot.places) <= MOST_COMPANIES
    assert len(kit.governor._scopes._remembered) <= MOST_PATHS
    assert len(kit.governor._blocked) <= 10_001


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS", "PROPFIND"])
def test_any_method(serve, method):
    """Gateways ask with the original one, or with their own."""
    _, service = serve(quotas=[Quota(CALLS, 0)])

    assert 429 == check(service, "/v1/check?company=acme", method).status_code


def test_a_preflight_is_allowed(serve):
    """Browsers send it without credentials."""
    _, service = serve(unknown="block")

    assert (200, 403) == (
        about(service, "/calls", method="OPTIONS", key="nobody's"),
        about(service, "/calls", key="nobody's"),
    )


def test_before_the_accounts_are_read(make_kit):
    """As the middleware does: what is not known passes, or is asked to come back."""
    kit = make_kit(CALLS, identify=by_api_key, governance=Governance(unknown="block"))
    kit.governor.begin = lambda: None  # the first flush has not come yet
    found = check(Service(kit, keys={"gateway": GATEWAY}), "/v1/check?company=acme")

    assert (403, "1") == (found.status_code, found.headers["retry-after"])
    assert "still being loaded" in json.loads(found.content)["detail"]
