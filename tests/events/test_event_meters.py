"""Which events a meter counts, and how much."""

from __future__ import annotations

import pytest
from served_events import event

from meterkit import ConfigurationError, Event, Meter, maximum, response_json, unique


@pytest.mark.parametrize(
    ("event_type", "types", "expected"),
    [
        ("prompt", ["prompt", "Prompt", "prompts"], 1),
        ("com.example.*", ["com.example.a", "com.example.b.c", "com.example"], 2),
        (["prompt", "*.done"], ["prompt", "job.done", "job.failed"], 2),
        ("*", ["prompt", "x"], 2),
    ],
)
def test_event_type(serve, event_type, types, expected):
    """Exact, a pattern, or several; without value=, each event counts 1."""
    served = serve(Meter("events", event_type=event_type))
    for number, each in enumerate(types):
        assert 202 == served.post(event(number, type=each)).status_code

    assert [("acme", None, expected)] == served.used()


def test_paths(serve):
    """Into objects and lists; each meter that matches counts."""
    served = serve(
        Meter("input", event_type="prompt", value="$.usage.input"),
        Meter("first", event_type="prompt", value="$.items.0.n"),
        Meter("prompts", event_type="prompt"),
    )
    served.post(event(data={"usage": {"input": 5}, "items": [{"n": 7}, {"n": 9}]}))

    assert [("acme", None, 5)] == served.used(meter="input")
    assert [("acme", None, 7)] == served.used(meter="first")
    assert [("acme", None, 1)] == served.used(meter="prompts")


def test_unique_and_maximum(serve):
    """Distinct values and the highest one, of a path, the user, or a function; None from a function counts nothing."""
    served = serve(
        Meter("seats", event_type="login", value=unique("user")),
        Meter("devices", event_type="login", value=unique("$.device")),
        Meter("places", event_type="login", value=unique(lambda event: event.extensions.get("place"))),
        Meter("gb", event_type="stored", value=maximum("$.gb")),
    )
    sent = [
        event(1, type="login", user="ann", data={"device": "a"}, place="x"),
        event(2, type="login", user="ann", data={"device": 17}),
        event(3, type="login", user="bob", data={"device": "17"}),
        event(4, type="stored", data={"gb": 4}),
        event(5, type="stored", data={"gb": 9}),
        event(6, type="stored", data={"gb": 2}),
    ]
    for _ in range(2):
        assert 202 == served.post(sent).status_code

    assert [("acme", None, 2)] == served.used(meter="seats")
    assert [("acme", None, 2)] == served.used(meter="devices")
    assert [("acme", None, 1)] == served.used(meter="places")
    assert [("acme", None, 9)] == served.used(meter="gb")


def test_unique_needs_a_value(serve):
    """An event without one is refused."""
    served = serve(Meter("seats", event_type="login", value=unique("user")))
    response = served.post(event(type="login"))

    assert (422, "urn:meterkit:problem:user_missing") == (response.status_code, response.json()["type"])


def test_when(serve, clock):
    """The condition gets the event."""
    seen = []

    def is_large(event: Event) -> bool:
        seen.append(event)
        return event.data["model"] == "large"

    served = serve(Meter("tokens", event_type="prompt", value="$.tokens", when=is_large))
    served.post([event(1, data={"model": "large", "tokens": 4}, region="eu"), event(2, data={"model": "small"})])

    assert [("acme", None, 4)] == served.used()
    first = seen[0]
    assert ("e-1", "shop", "prompt", "acme", "") == (first.id, first.source, first.type, first.company, first.user)
    assert ({"region": "eu"}, int(clock())) == (first.extensions, int(first.time.timestamp()))


def test_when_raises(serve):
    """Nothing is acknowledged; once the function is mended, the events that are sent again count."""
    broken = True
    served = serve(Meter("tokens", event_type="prompt", value="$.tokens", when=lambda event: 1 / 0 if broken else True))
    response = served.post([event(1)])
    assert (500, "60") == (response.status_code, response.headers["retry-after"])
    assert "when= of the meter tokens" in response.json()["detail"]
    assert "ZeroDivisionError" in served.kit.health()["problems"]["when_raised"]["message"]
    assert [] == served.used()

    broken = False
    assert 202 == served.post([event(1)]).status_code
    assert [("acme", None, 3)] == served.used()


def test_unmatched(serve):
    """What no meter counts is accepted, said in the response, and named in health, with what may be meant."""
    served = serve()
    response = served.post([event(1), event(2, type="promt"), event(3, type="promt")])

    assert {"accepted": 3, "repeated": 0, "unmatched": 2, "unmatched_types": ["promt"]} == response.json()
    assert [("acme", None, 3)] == served.used()
    message = served.kit.health()["problems"]["event_unmatched"]["message"]
    assert "events that counted for nothing: 2" in message
    assert "did you mean 'prompt'?" in message


def test_no_exchange_counts(serve):
    """A meter of events counts no request, and what is recorded."""
    served = serve()
    assert not served.kit.meters["tokens"].http
    served.kit.record("tokens", "acme", 5)

    assert [("acme", None, 5)] == served.used()


@pytest.mark.parametrize(
    ("options", "cure"),
    [
        ({"event_type": ""}, "such as 'prompt'"),
        ({"event_type": []}, "or several"),
        ({"event_type": 5}, "or several"),
        ({"event_type": ["a", None]}, "such as 'prompt'"),
        ({"event_type": "a", "path": "/v1/*"}, "leave out path="),
        ({"event_type": "a", "method": "GET", "status": 200}, "leave out method=, status="),
        ({"event_type": "a", "value": "tokens"}, "such as '$.tokens'"),
        ({"event_type": "a", "value": "$"}, "such as '$.tokens'"),
        ({"event_type": "a", "value": "$.a[0]"}, "'$.items.0.count'"),
        ({"event_type": "a", "value": "$..a"}, "'$.items.0.count'"),
        ({"event_type": "a", "value": response_json("a")}, "such as '$.tokens'"),
        ({"event_type": "a", "value": unique("device")}, "unique('$.device')"),
        ({"event_type": "a", "value": maximum("user")}, "maximum('$.user')"),
        ({"event_type": "a", "when": 5}, "a plain function of an Event"),
        ({"value": "$.tokens"}, "add event_type=, or use response_json('tokens')"),
        ({"value": unique("$.tokens")}, "add event_type="),
    ],
)
def test_a_wrong_meter(options, cure):
    """What cannot work is refused while the meter is built."""
    with pytest.raises(ConfigurationError) as caught:
        Meter("tokens", **options)

    assert cure in str(caught.value)
