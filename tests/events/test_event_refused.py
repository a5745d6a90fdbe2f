"""What cannot be counted is refused, with the cure; nothing is counted then, and nothing lost."""

from __future__ import annotations

import gzip
import json

import pytest
from served_events import BATCH, PLAIN, SINGLE, event

GOOD = json.dumps(event()).encode()


def text(**attributes):
    """An event as JSON."""
    return json.dumps(event(**attributes)).encode()


@pytest.mark.parametrize(
    ("body", "type", "status", "reason", "cure"),
    [
        (b"", SINGLE, 400, "body_not_json", "Expecting value"),
        (b"{", SINGLE, 400, "body_not_json", "line 1, column 2"),
        (GOOD[:-1] + b', "id": "e-2"}', SINGLE, 400, "body_not_json", "key 'id' twice"),
        (
            b"{" + b",".join(b'"%d": 1' % n for n in [*range(60_000), 7]) + b"}",
            SINGLE,
            400,
            "body_not_json",
            "'7' twice",
        ),
        (GOOD.replace(b"acme", b"acm\xff"), SINGLE, 400, "body_not_json", "not UTF-8"),
        (GOOD.replace(b"3}", b"NaN}"), SINGLE, 400, "body_not_json", "NaN is not JSON"),
        (GOOD.replace(b"3}", b"-Infinity}"), SINGLE, 400, "body_not_json", "-Infinity is not JSON"),
        (GOOD.replace(b"3}", b"9" * 5000 + b"}"), SINGLE, 400, "body_not_json", "4300 digits"),
        (b"[" * 200_000, BATCH, 400, "body_not_json", "nests too deeply"),
        (GOOD, BATCH, 400, "batch_not_list", SINGLE),
        (b"[]", SINGLE, 400, "event_is_list", BATCH),
        (GOOD, "text/plain", 415, "content_type_wrong", "application/json"),
        (GOOD, "", 415, "content_type_wrong", "ce- headers"),
        (GOOD, "application/cloudevents+avro", 415, "content_type_wrong", "application/json"),
        (GOOD, "application/json; charset=utf-16", 415, "charset_wrong", "UTF-8"),
        (b"[" + b",".join([b"1"] * 10_001) + b"]", PLAIN, 413, "too_many_events", "10,000"),
        (b" " * 1_048_577, SINGLE, 413, "too_large", "1,048,576 bytes"),
    ],
)
def test_a_wrong_request(serve, body, type, status, reason, cure):  # noqa: A002
    """A problem document that says what to do."""
    served = serve()
    response = served.post(body, type=type)

    assert (status, f"urn:meterkit:problem:{reason}") == (response.status_code, response.json()["type"])
    assert "application/problem+json" == response.headers["content-type"]
    assert cure in response.json()["detail"]
    assert [] == served.used()


@pytest.mark.parametrize(
    ("body", "headers", "status", "reason"),
    [
        (gzip.compress(GOOD, mtime=0)[:-9], {"content-encoding": "gzip"}, 400, "body_not_gzip"),
        (GOOD, {"content-encoding": "gzip"}, 400, "body_not_gzip"),
        (gzip.compress(b" " * 20_000_000, mtime=0), {"content-encoding": "gzip"}, 413, "too_large"),
        (GOOD, {"content-encoding": "br"}, 415, "encoding_wrong"),
    ],
)
def test_a_wrong_encoding(serve, body, headers, status, reason):
    """What inflates to more than the limit is not inflated further."""
    served = serve()
    response = served.post(body, type=SINGLE, headers=headers)

    assert (status, f"urn:meterkit:problem:{reason}") == (response.status_code, response.json()["type"])
    assert [] == served.used()


WRONG = [
    (event(specversion="0.3"), "specversion_wrong", "1.0"),
    (event(specversion=None), "specversion_wrong", "1.0"),
    (event(id=None), "id_missing", "the same when the event is sent again"),
    (event(id=""), "id_missing", "unique"),
    (event(id=7), "id_not_str", "must be a text"),
    (event(id="a\x00b"), "id_unprintable", "printable"),
    (event(id="\ud800"), "id_unprintable", "printable"),
    (event(id="x" * 20_000), "id_too_long", "16,384"),
    (event(source=None), "source_missing", "sender"),
    (event(type=None), "type_missing", "prompt"),
    (event(type=["prompt"]), "type_not_str", "a list"),
    (event(subject=None), "subject_missing", "company"),
    (event(subject=7), "company_not_str", "must be a str"),
    (event(subject="x" * 256), "company_too_long", "255"),
    (event(user="\n"), "user_empty", "user"),
    (event(time="yesterday"), "time_wrong", "RFC 3339"),
    (event(time=1_772_000_000), "time_wrong", "RFC 3339"),
    (event(time="2026-03-01T12:00:00"), "time_wrong", "RFC 3339"),
    (event(time="2026-02-30T12:00:00Z"), "time_wrong", "RFC 3339"),
    (event(time="2026-01-20T12:00:00Z"), "time_too_old", "invoice item"),
    (event(time="2026-03-01T12:20:00Z"), "time_in_future", "clocks"),
    (event(data=None), "value_missing", "$.tokens"),
    (event(data="tokens"), "value_missing", "$.tokens"),
    (event(data={"token": 1}), "value_missing", "$.tokens"),
    (event(tokens=None), "quantity_not_int", "null"),
    (event(tokens=1.5), "quantity_not_int", "smaller unit"),
    (event(tokens="12"), "quantity_not_int", "as a JSON number"),
    (event(tokens=True), "quantity_not_int", "true"),
    (event(tokens=[1]), "quantity_not_int", "a list"),
    (event(tokens=-1), "quantity_negative", "meterkit correct"),
    (event(tokens=10**15), "quantity_too_large", "larger unit"),
    (event(tokens=1e300), "quantity_too_large", "larger unit"),
    (event(data={"tokens": 1}, data_base64="e30="), "data_wrong", "one of them"),
    (event(data=None, data_base64="?"), "data_wrong", "base64"),
    ("event", "event_not_object", "list of them"),
    (None, "event_not_object", "list of them"),
]


@pytest.mark.parametrize(("wrong", "reason", "cure"), WRONG)
def test_a_wrong_event(serve, wrong, reason, cure):
    """The whole batch is refused, and the problem says which event, and why; the rest counts when it is sent again."""
    served = serve()
    response = served.post([event(8), wrong, event(9)])
    problem = response.json()

    assert (422, f"urn:meterkit:problem:{reason}") == (response.status_code, problem["type"])
    assert "Unprocessable Content" == problem["title"]
    assert "event 1 (of 3, from 0)" in problem["detail"]
    assert (1, [(1, reason)]) == (problem["wrong"], [(each["index"], each["reason"]) for each in problem["events"]])
    assert cure in problem["events"][0]["detail"]
    assert [] == served.used()

    assert 202 == served.post([event(8), event(9)]).status_code
    assert [("acme", None, 6)] == served.used()


def test_1e400(serve):
    """JSON has no limit of size; a float has."""
    served = serve()
    response = served.post(GOOD.replace(b"3}", b"1e400}"), type=SINGLE)

    assert (422, "urn:meterkit:problem:quantity_too_large") == (response.status_code, response.json()["type"])


def test_whole_numbers_may_look_like_fractions(serve):
    """5.0 and 5e0 are the number 5."""
    served = serve()
    for number, digits in enumerate((b"5.0", b"5e0", b"5")):
        body = text(number=number).replace(b'"tokens": 3', b'"tokens": ' + digits)
        assert 202 == served.post(body, type=SINGLE).status_code

    assert [("acme", None, 15)] == served.used()


def test_a_hundred_are_named(serve):
    """Of many wrong events, the first hundred; the number says how many there are."""
    problem = serve().post([event(each, tokens=-1) for each in range(250)]).json()

    assert ("urn:meterkit:problem:events_wrong", 250) == (problem["type"], problem["wrong"])
    assert [(each, f"e-{each}") for each in range(100)] == [(each["index"], each["id"]) for each in problem["events"]]
    assert "and 249 more" in problem["detail"]


@pytest.mark.parametrize(
    ("headers", "status", "reason"),
    [
        ({"ce-id": "%ff"}, 400, "header_not_utf8"),
        ({"ce-id": "1", "ce-specversion": "1.0"}, 422, "source_missing"),
        ({"ce-id": "1"}, 422, "specversion_wrong"),
    ],
)
def test_wrong_headers(serve, headers, status, reason):
    """Of an event in binary mode."""
    response = serve().post(b"{}", type=PLAIN, headers=headers)

    assert (status, f"urn:meterkit:problem:{reason}") == (response.status_code, response.json()["type"])


def test_other_methods(serve):
    """They are refused, and say which is there."""
    response = serve().request("GET")

    assert (405, "POST") == (response.status_code, response.headers["allow"])


def test_a_kit_without_such_meters(serve):
    """Nothing is acknowledged that could not count."""
    from meterkit import Meter

    response = serve(Meter("calls", path="/v1/*")).post(event())

    assert (503, "60") == (response.status_code, response.headers["retry-after"])
    assert "event_type=" in response.json()["detail"]
