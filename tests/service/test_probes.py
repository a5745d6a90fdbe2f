"""Metrics, health, liveness and readiness; and the OpenAPI description, which is what the service does."""

from __future__ import annotations

import json

import jsonschema
import pytest
from guard import GUARD
from service_client import AS_GATEWAY, GATEWAY, OPERATOR, ask, problem_of

from meterkit import Governance, Meter, Quota
from meterkit.service import Key, Service

KEYS = {"gateway": GATEWAY, "operator": Key(OPERATOR, scopes=["health"])}

AS_OPERATOR = {"Authorization": f"Bearer {OPERATOR}"}

CALLS = Meter("calls", path="/calls")


@pytest.fixture
def governed(make_kit):
    kit = make_kit(CALLS, identify=lambda _: "acme", governance=Governance(quotas=[Quota(CALLS, 1)]))
    kit.governor.begin()
    assert kit.governor.ready.wait(GUARD)
    kit.flush()
    return kit


def test_metrics(kit):
    """Prometheus reads them, with a key as its ``authorization``."""
    kit.record("calls", "acme", 7)
    kit.flush()
    found = ask(Service(kit, keys=KEYS), "/metrics", headers=AS_OPERATOR)

    assert found.headers["content-type"].startswith("text/plain; version=")
    assert 'meterkit_usage_counted{meter="calls"} 7.0' in found.text


def test_health(kit):
    """It is the kit's."""
    kit.record("calls", "acme", 7)
    found = ask(Service(kit, keys=KEYS), "/health", headers=AS_OPERATOR)

    assert kit.health() == found.json()


def test_ready(governed):
    """The journal can be written, and the accounts are known."""
    assert {"ok": True} == ask(Service(governed, keys=KEYS), "/readyz").json()


def test_not_ready_before_the_accounts_are_read(make_kit, monkeypatch):
    """Nobody would be blocked yet."""
    kit = make_kit(CALLS, identify=lambda _: "acme", governance=Governance(quotas=[Quota(CALLS, 1)]))
    monkeypatch.setattr(kit.governor, "begin", lambda: None)
    found = ask(Service(kit, keys=KEYS), "/readyz")

    assert (503, "not_ready") == problem_of(found)
    assert "accounts have not been read" in found.json()["detail"]
    assert {"ok": True} == ask(Service(kit, keys=KEYS), "/livez").json()


def test_not_ready_without_a_journal(make_kit, tmp_path):
    """What is counted would be lost with the process, and the response says why, and what to do."""
    (tmp_path / "taken").write_text("a file where the directory should be")
    kit = make_kit(data_dir=tmp_path / "taken", ledger=f"sqlite:///{tmp_path}/ledger.sqlite")
    found = ask(Service(kit, keys=KEYS), "/readyz")

    assert (503, "not_ready") == problem_of(found)
    assert "cannot create journal files" in found.json()["detail"]


def resolved(document, found):
    """*found*, or what it refers to."""
    while "$ref" in found:
        target = document
        for part in found["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        found = target
    return found


def responses(kit):
    """A response of each kind that the service gives, by path and method."""
    service = Service(kit, keys=KEYS)
    for path in ("/livez", "/readyz", "/openapi.json"):
        yield path, ask(service, path)
    for path in ("/health", "/metrics"):
        for headers in ({}, AS_OPERATOR, AS_GATEWAY):
            yield path, ask(service, path, headers=headers)
    for query in ("company=acme", "company=acme&meter=none", ""):
        for headers in ({}, AS_GATEWAY):
            yield "/v1/check", ask(service, f"/v1/check?{query}", headers=headers)
    kit.record(CALLS, "acme", 5)
    kit.flush()
    yield "/v1/check", ask(service, "/v1/check?company=acme", headers=AS_GATEWAY)


def test_the_description_is_true(governed):
    """Each response that the service gives is described, with its status, its media type and its shape."""
    document = ask(Service(governed, keys=KEYS), "/openapi.json").json()
    seen = set()
    for path, response in responses(governed):
        described = document["paths"][path]["get"]["responses"]
        expected = resolved(document, described[str(response.status_code)])
        media = response.headers["content-type"].split(";")[0]
        seen.add((path, response.status_code))
        if "content" in expected:
            schema = resolved(document, expected["content"][media]["schema"])
            body = response.text if media == "text/plain" else json.loads(response.content)
            jsonschema.validate(body, schema, jsonschema.Draft202012Validator)

    assert {("/v1/check", status) for status in (200, 400, 401, 429)} <= seen


def test_every_path_is_described(kit):
    """With what it needs a key for."""
    document = ask(Service(kit, keys=KEYS), "/openapi.json").json()

    assert "3.1.0" == document["openapi"]
    assert {"/livez", "/readyz", "/openapi.json"} == {
        path for path, item in document["paths"].items() if all(not each["security"] for each in item.values())
    }
    for item in document["paths"].values():
        assert item
        for operation in item.values():
            assert {"summary", "responses"} <= operation.keys()
