"""
Real gateways, configured as the docs say: a paying, a blocked and an unknown company through each.

Skipped where a gateway is not installed, unless ``METERKIT_GATEWAYS=required``, as in ``nox -s gateways``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager

import pytest
from guard import tries
from real_gateway import GATEWAYS, Client, Ports, running, upstream
from service_client import GATEWAY

pytestmark = pytest.mark.long

BILLING = """
import os

from meterkit import Governance, Meter, MeterKit, Plan, Price, Quota

calls = Meter("calls", path="/calls*", value="calls")
chats = Meter("chats", path="/chat")
companies = {"key-of-acme": "acme", "key-of-debtor": "debtor", "key-of-greedy": "greedy", "key-of-umlaut": "bü ro"}


def decide(exchange, known):
    return "An invoice is overdue." if known.company == "debtor" else None


kit = MeterKit(
    meters=[calls, chats],
    plans=[Plan("pro", prices=[Price.per_unit(calls, "1.00")])],
    default_plan="pro",
    identify=lambda exchange: companies.get(exchange.headers.get("x-api-key")),
    governance=Governance(
        quotas=[Quota(chats, lambda company: 0 if company == "greedy" else 5)],
        check=decide,
        exempt=["/pay*"],
        rate_limit_headers=True,
        settle_url="https://pay.example/{company}",
    ),
    flush_interval=0.05,
)
kit.link("acme", "cus_acme")
"""


@contextmanager
def service_at(directory, port):
    """``meterkit serve``, once it knows the accounts."""
    keys = json.dumps({"gateway": {"secret": GATEWAY, "scopes": ["check"]}})
    command = [sys.executable, "-m", "meterkit", "serve", "billing:kit", "--port", str(port)]
    with running(command, directory, port, METERKIT_SERVICE_KEYS=keys) as process:
        ask = Client(port)
        for _ in tries():
            if ask("/readyz").status == 200:
                break
        for company in ("key-of-acme", "key-of-greedy"):
            ask("/v1/check", X_Meterkit_Key=GATEWAY, X_Api_Key=company, X_Original_URI="/chat")
        yield process


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A directory whose ledger knows of the usage of both companies, so that their limits are known, too."""
    directory = tmp_path_factory.mktemp("gateways")
    (directory / "billing.py").write_text(BILLING)
    script = "import billing\nfor each in ('acme', 'greedy'): billing.kit.record('chats', each)\nbilling.kit.close()"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("STRIPE_", "METERKIT_"))}
    subprocess.run([sys.executable, "-c", script], cwd=directory, check=True, env=environment)
    return directory


@pytest.fixture(scope="module")
def ports():
    return Ports()


@pytest.fixture(scope="module")
def app(ports):
    with upstream(ports["app"]) as seen:
        yield seen


@pytest.fixture(scope="module")
def service(prepared, ports):
    with service_at(prepared, ports["service"]) as process:
        ask = Client(ports["service"])
        for _ in tries():  # the limit of a company is asked for in the background
            if ask("/v1/check?company=greedy&meter=chats", X_Meterkit_Key=GATEWAY).status == 429:
                break
        yield process


@pytest.fixture(scope="module", params=GATEWAYS)
def gateway(request, ports, app, service, tmp_path_factory):
    """A client of each gateway in turn."""
    with GATEWAYS[request.param](tmp_path_factory.mktemp(request.param), ports):
        yield Client(ports["front"])


def test_a_company_that_pays(gateway):
    """The app gets the request as it came, and who it is, whatever the client says."""
    forged = {"X_Meterkit_Company": "globex", "X_Meterkit_Plan": "free"}
    found = gateway("/calls/a%20b?x=1&y=%2f", "POST", b"hello", X_Api_Key="key-of-acme", Authorization="mine", **forged)

    assert 200 == found.status
    seen = found.json
    assert ("POST", "/calls/a%20b?x=1&y=%2f", "hello") == (seen["method"], seen["path"], seen["body"])
    assert ("acme", "pro", "mine") == tuple(
        seen["headers"][name] for name in ("x-meterkit-company", "x-meterkit-plan", "authorization")
    )
    assert "x-meterkit-key" not in seen["headers"]
    assert GATEWAY not in json.dumps(seen)


def test_a_company_that_is_not_ascii(gateway):
    """Percent-encoded."""
    assert "b%C3%BC%20ro" == gateway(X_Api_Key="key-of-umlaut").json["headers"]["x-meterkit-company"]


def test_a_company_that_owes(gateway, app):
    """402, with the body that the middleware would send; the app hears nothing of it."""
    before = len(app)
    found = gateway("/calls", "POST", b"hello", X_Api_Key="key-of-debtor")

    assert (402, "application/problem+json") == (found.status, found.headers["content-type"])
    assert "https://pay.example/debtor" == found.json["settle_url"]
    assert "An invoice is overdue." == found.json["detail"]
    assert len(app) == before


def test_a_company_that_has_used_up_its_quota(gateway, app):
    """429, with the time after which to come back; other paths are open to it."""
    before = len(app)
    found = gateway("/chat", X_Api_Key="key-of-greedy")

    assert (429, "quota") == (found.status, found.json["reason"])
    assert 0 < int(found.headers["retry-after"]) == found.json["retry_after"]
    assert "r=0" in found.headers["ratelimit"]
    assert len(app) == before
    assert 200 == gateway("/calls", X_Api_Key="key-of-greedy").status


def test_an_unknown_company(gateway):
    """It passes, as the governance says, and the app is told of nobody: not even by the client."""
    found = gateway(X_Api_Key="nobody's", X_Meterkit_Company="acme", X_Meterkit_Plan="pro")

    assert 200 == found.status
    assert not found.json["headers"].get("x-meterkit-company")
    assert not found.json["headers"].get("x-meterkit-plan")


def test_a_blocked_company_can_pay(gateway):
    """What is exempt is open, and no header of the client's makes another path exempt."""
    forged = {"X_Original_URI": "/pay", "X_Forwarded_Uri": "/pay", "X_Original_Method": "OPTIONS"}
    found = [gateway(path, X_Api_Key="key-of-debtor", **forged).status for path in ("/pay/now?x", "/calls")]

    assert 200 == found[0]
    assert found[1] in (400, 402)


def test_a_client_does_not_choose_the_company(gateway):
    """Neither by a query, nor by a key of its own."""
    queries = ["?company=acme", "?company=acme&company=acme", "?meter=calls", "?", ""]

    assert [402] * 5 == [
        gateway(f"/calls{query}", X_Api_Key="key-of-debtor", X_Meterkit_Key=GATEWAY).status for query in queries
    ]


@pytest.mark.parametrize("status", [401, 403, 404, 500, 502])
def test_what_the_app_responds(gateway, app, status):
    """Its errors are its own, and it is asked once."""
    before = len(app)
    found = gateway(f"/calls?status={status}", "POST", b"x", X_Api_Key="key-of-acme")

    assert (status, "POST") == (found.status, found.json["method"])
    assert len(app) == before + 1


@pytest.mark.parametrize("method", ["HEAD", "PUT"])
def test_other_methods(gateway, method):
    """They reach the app, and are blocked, as others are."""
    assert [200, 402] == [gateway("/calls", method, X_Api_Key=f"key-of-{who}").status for who in ("acme", "debtor")]


@pytest.mark.parametrize("who", ["acme", "debtor"])
def test_a_body_in_chunks(gateway, who):
    """It reaches the app whole, after the check, which has none."""
    found = gateway("/calls", "POST", iter([b"hel", b"lo"]), X_Api_Key=f"key-of-{who}")

    assert (200, "hello") == (found.status, found.json["body"]) if who == "acme" else 402 == found.status


@pytest.mark.parametrize(("who", "status"), [("acme", 200), ("debtor", 402)])
def test_a_request_to_upgrade(gateway, who, status):
    """A WebSocket's is checked as any other."""
    handshake = {"Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec_WebSocket_Version": "13"}
    found = gateway("/calls", X_Api_Key=f"key-of-{who}", Connection="Upgrade", Upgrade="websocket", **handshake)

    assert status == found.status


@pytest.fixture(params=GATEWAYS)
def gateway_alone(request, ports, app, tmp_path):
    """A client of each gateway, whose service is at a port where nobody listens."""
    others = Ports()
    others["app"] = ports["app"]
    with GATEWAYS[request.param](tmp_path, others):
        yield Client(others["front"])


def test_without_the_service(gateway_alone, app):
    """Everybody passes, once, and nobody is who a client says that it is."""
    before = len(app)
    found = gateway_alone("/calls?y=1", "POST", b"hello", X_Api_Key="key-of-debtor", X_Meterkit_Company="acme")

    assert (200, "POST", "hello") == (found.status, found.json["method"], found.json["body"])
    assert not found.json["headers"].get("x-meterkit-company")
    assert len(app) == before + 1
