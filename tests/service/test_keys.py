"""Who may call the service: keys and what each is for; without keys, this machine alone; not more than a rate."""

from __future__ import annotations

import json

import pytest
from service_client import AS_GATEWAY, GATEWAY, OPERATOR, SENDER, ask, problem_of

from meterkit import ConfigurationError
from meterkit.service import Key, Service
from meterkit.service.keys import environment_keys, keys_from_json
from meterkit.service.rate_limits import TokenBucket

KEYS = {
    "gateway": Key(GATEWAY, scopes=["check"]),
    "sender": Key(SENDER, scopes=["events"]),
    "operator": Key(OPERATOR, scopes=["health"]),
}


@pytest.fixture
def service(kit):
    return Service(kit, keys=KEYS)


def bearer(secret):
    return {"Authorization": f"Bearer {secret}"}


@pytest.mark.parametrize(
    ("path", "headers", "expected"),
    [
        ("/v1/check", AS_GATEWAY, 200),
        ("/v1/check", {}, (401, "key_missing")),
        ("/v1/check", bearer(GATEWAY), (401, "key_missing")),  # the Authorization of the gateway's client
        ("/v1/check", {"X-Meterkit-Key": GATEWAY + "x"}, (401, "key_wrong")),
        ("/v1/check", {"X-Meterkit-Key": "x" * 10_000}, (401, "key_wrong")),
        ("/v1/check", {"X-Meterkit-Key": SENDER}, (401, "key_scope")),
        ("/health", bearer(OPERATOR), 200),
        ("/health", {"Authorization": f"bearer {OPERATOR}"}, 200),
        ("/health", {"X-Meterkit-Key": OPERATOR}, 200),
        ("/health", bearer(""), (401, "key_missing")),
        ("/health", {"Authorization": f"Basic {OPERATOR}"}, (401, "key_missing")),
        ("/health", bearer(SENDER), (403, "key_scope")),
        ("/metrics", bearer(GATEWAY), (403, "key_scope")),
        ("/livez", {}, 200),
        ("/openapi.json", {}, 200),
    ],
)
def test_a_key_is_for_something(service, path, headers, expected):
    """A key that is missing, wrong, or for something else is refused, and the response says what to do."""
    response = ask(service, path, headers=headers)

    assert expected == (200 if response.status_code == 200 else problem_of(response))


def test_a_key_that_is_sent_twice_is_none(service):
    """One of them may be the client's."""
    response = ask(service, "/v1/check", headers=[("X-Meterkit-Key", GATEWAY), ("X-Meterkit-Key", "other")])

    assert (401, "key_missing") == problem_of(response)


def test_a_refused_key_is_shown_to_the_operator(kit, service):
    """For a gateway goes on without the check, where it is told to."""
    ask(service, "/v1/check")

    assert 1 == kit.health()["problems"]["service_key_refused"]["count"]


def test_a_client_is_told_how_to_send_a_key(service):
    """But not the client of a gateway."""
    assert "Bearer" in ask(service, "/health").headers["www-authenticate"]
    assert "www-authenticate" not in ask(service, "/v1/check").headers


def test_two_secrets_while_one_is_replaced(kit):
    """Both are good."""
    service = Service(kit, keys={"operator": Key([OPERATOR, "the-next-of-the-operator"], scopes=["health"])})

    assert [200, 200, 401] == [
        ask(service, "/health", headers=bearer(secret)).status_code
        for secret in (OPERATOR, "the-next-of-the-operator", "another-one-altogether")
    ]


@pytest.mark.parametrize(
    ("client", "headers", "base", "path", "expected"),
    [
        ("127.0.0.1", {}, "http://localhost:8350", "/health", 200),
        ("127.8.0.1", {}, "http://127.0.0.1:8350", "/health", 200),
        ("::1", {}, "http://[::1]:8350", "/health", 200),
        ("::ffff:127.0.0.1", {}, "http://localhost", "/health", 200),
        ("192.0.2.1", {}, "http://localhost", "/health", (401, "key_required")),
        ("192.0.2.1", {}, "http://localhost", "/v1/check", (401, "key_required")),
        ("127.0.0.1", {}, "http://shop.example", "/health", (403, "from_browser")),  # a name that leads to this machine
        ("127.0.0.1", {"Origin": "http://shop.example"}, "http://localhost", "/health", (403, "from_browser")),
        ("127.0.0.1", {"Sec-Fetch-Site": "cross-site"}, "http://localhost", "/health", (403, "from_browser")),
        ("127.0.0.1", {"Origin": "http://shop.example"}, "http://shop.example", "/v1/check", 200),  # a gateway's client
    ],
)
def test_without_keys(kit, client, headers, base, path, expected):
    """Programs on this machine need none; nobody else is served, and no page in a browser on it."""
    response = ask(Service(kit, local=True), path, client=client, headers=headers, base=base)

    assert expected == (200 if response.status_code == 200 else problem_of(response))


def test_keys_take_the_place_of_this_machine(kit):
    """As soon as there is a key, everybody needs one."""
    service = Service(kit, keys=KEYS, local=True)

    assert (401, "key_missing") == problem_of(ask(service, "/health", client="127.0.0.1"))


def test_a_rate(kit):
    """What is more is refused, with the seconds after which to come back; other sources are served all the same."""
    service = Service(kit, keys={**KEYS, "gateway": Key(GATEWAY, scopes=["check"], rate=0.5, burst=2)})
    found = [ask(service, "/v1/check", headers=AS_GATEWAY) for _ in range(3)]

    assert [200, 200, 429] == [each.status_code for each in found]
    assert (429, "too_many") == problem_of(found[-1])
    assert found[-1].headers["retry-after"] in ("1", "2")
    assert 200 == ask(service, "/health", headers=bearer(OPERATOR)).status_code


def test_a_bucket():
    """It is full at first, refills with time, and what costs more than it holds takes from what comes later."""
    now = [100.0]
    bucket = TokenBucket(2.0, burst=4, clock=lambda: now[0])
    found = [bucket.take(), bucket.take(3), bucket.take(), bucket.take(1_000_000)]
    now[0] += 2
    found += [bucket.take(10), bucket.take()]
    now[0] += 3
    found += [bucket.take(0.5)]
    now[0] += 10_000
    found += [bucket.take(4), bucket.take()]

    assert [0, 0, 1, 2, 0, 4, 1, 0, 1] == found


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "a service without keys would answer everybody"),
        (["secret"], "must be a dict"),
        ({"gateway": "short"}, "the key of 'gateway': .* 16 to 512 printable ASCII"),
        ({"gateway": "with spaces in it, and long"}, "no spaces"),
        ({"gateway": "schlüssel-schlüssel-schlüssel"}, "ASCII"),
        ({"gateway": 1}, "must be a str"),
        ({"": GATEWAY}, "no name of a source"),
        ({"a\nb": GATEWAY}, "no name of a source"),
        ({"gateway": GATEWAY, "other": GATEWAY}, "'other' and 'gateway' have the same secret"),
    ],
)
def test_wrong_keys(kit, keys, message):
    """They are refused when the service is built, and no error shows a secret."""
    with pytest.raises(ConfigurationError, match=message) as caught:
        Service(kit, keys=keys)
    assert GATEWAY not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scopes": []}, "some of events, check, health"),
        ({"scopes": ["everything"]}, "some of events, check, health"),
        ({"rate": 0}, "above 0"),
        ({"rate": True}, "above 0"),
        ({"rate": float("nan")}, "above 0"),
        ({"rate": 1, "burst": 1.5}, "above 0"),
        ({"burst": 10}, "needs a rate="),
    ],
)
def test_a_wrong_key(options, message):
    """It is refused when it is built."""
    with pytest.raises(ConfigurationError, match=message):
        Key(GATEWAY, **options)


def test_a_key_does_not_show_its_secret():
    """In a log, for example."""
    assert GATEWAY not in repr(Key(GATEWAY))


def test_keys_in_json(tmp_path, monkeypatch):
    """In a file, or else in the environment."""
    text = json.dumps({"app": SENDER, "gateway": {"secret": GATEWAY, "scopes": ["check"], "rate": 100}})
    (tmp_path / "keys.json").write_text(text)
    expected = {"app": Key(SENDER), "gateway": Key(GATEWAY, scopes=["check"], rate=100)}

    assert {} == environment_keys(None)
    assert expected == environment_keys(tmp_path / "keys.json")
    monkeypatch.setenv("METERKIT_SERVICE_KEYS", text)
    assert expected == environment_keys(None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be JSON"),
        ('["the-secret-of-the-gateway"]', "must be JSON"),
        ('{"a": "the-secret-of-the-gateway"', "must be JSON"),
        ('{"a": "the-secret-of-the-gateway", "a": "the-secret-of-the-sender"}', "twice"),
        ('{"a": {"scopes": ["check"]}}', "'a' has no secret"),
        ('{"a": {"secret": "the-secret-of-the-gateway", "scope": "check"}}', "'a' has scope"),
        ('{"a": null}', "the key of 'a': .* must be a str"),
        ('{"a": {"secret": "the-secret-of-the-gateway", "rate": "1"}}', "the key of 'a': .*rate"),
        ("[" * 100_000, "must be JSON"),
    ],
)
def test_wrong_json(text, message):
    """The error says what is wrong, and shows no secret."""
    with pytest.raises(ConfigurationError, match=message) as caught:
        keys_from_json(text, where="keys.json")
    assert "the-secret" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    """The error names it."""
    with pytest.raises(ConfigurationError, match="cannot be read from"):
        environment_keys(tmp_path / "none.json")
