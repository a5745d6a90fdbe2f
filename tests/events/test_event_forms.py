"""The forms in which events may come: CloudEvents over HTTP, and OpenMeter's."""

from __future__ import annotations

import base64
import gzip
import json

import pytest
from served_events import BATCH, PLAIN, SINGLE, event


def test_one_event(serve):
    """Structured mode: the response says what became of it, and the ledger has it."""
    served = serve()
    response = served.post(event(user="ann"))

    assert (202, {"accepted": 1, "repeated": 0, "unmatched": 0}) == (response.status_code, response.json())
    assert [("acme", "ann", 3)] == served.used()


def test_a_batch(serve):
    """Events of several companies."""
    served = serve()
    response = served.post([event(1), event(2, tokens=4), event(3, tokens=5, subject="globex")])

    assert {"accepted": 3, "repeated": 0, "unmatched": 0} == response.json()
    assert [("acme", None, 7), ("globex", None, 5)] == served.used()


def test_an_empty_batch(serve):
    """It is taken: there is nothing wrong with it."""
    served = serve()

    assert 202 == served.post([]).status_code
    assert [] == served.used()


def test_binary_mode(serve):
    """Attributes are in headers, percent-encoded or quoted, and the body is the data."""
    served = serve()
    headers = {
        "ce-specversion": "1.0",
        "ce-id": "e%20%C3%A91",
        "ce-source": '"shop"',
        "ce-type": "prompt",
        "ce-subject": "M%C3%BCller%2FCo",
        "ce-user": "ann",
    }
    for _ in range(2):
        assert 202 == served.post(b'{"tokens": 8}', type="application/json", headers=headers).status_code

    again = served.post(event(id="e é1", subject="Müller/Co", user="ann", tokens=8))
    assert 202 == again.status_code
    assert [("Müller/Co", "ann", 8)] == served.used()


@pytest.mark.parametrize("sent", [event(), [event()]])
def test_plain_json(serve, sent):
    """OpenMeter's form: one or a list as application/json."""
    served = serve()

    assert 202 == served.post(sent, type=PLAIN).status_code
    assert [("acme", None, 3)] == served.used()


def test_plain_json_needs_less(serve):
    """Without specversion, and without source, which is that of the key."""
    served = serve()

    assert 202 == served.post(event(specversion=None, source=None), type=PLAIN).status_code
    assert 202 == served.post(event(source="local")).status_code
    assert [("acme", None, 3)] == served.used()


def test_gzip(serve):
    """A compressed body, of one member or two."""
    served = serve()
    text = json.dumps([event()]).encode()
    for body in (gzip.compress(text), gzip.compress(text[:9]) + gzip.compress(text[9:])):
        assert 202 == served.post(body, type=BATCH, headers={"content-encoding": "gzip"}).status_code

    assert [("acme", None, 3)] == served.used()


def test_data_base64(serve):
    """Data in base64 are JSON unless datacontenttype says otherwise."""
    served = serve()
    data = base64.b64encode(b'{"tokens": 6}').decode()
    assert 202 == served.post(event(data=None, data_base64=data)).status_code

    refused = served.post(event(2, data=None, data_base64=data, datacontenttype="image/png"))
    assert 422 == refused.status_code
    assert "data of bytes" in refused.json()["detail"]
    assert [("acme", None, 6)] == served.used()


def test_chunked(serve):
    """A body without a length."""
    served = serve()

    async def parts():
        text = json.dumps(event()).encode()
        for start in range(0, len(text), 7):
            yield text[start : start + 7]

    assert 202 == served.request("POST", content=parts(), headers={"content-type": SINGLE}).status_code
    assert [("acme", None, 3)] == served.used()


@pytest.mark.parametrize(
    ("time", "window"),
    [
        ("2026-03-01T12:09:59Z", "2026-03-01T12:00:00+00:00"),
        ("2026-03-01t11:59:59.999999999z", "2026-03-01T11:00:00+00:00"),
        ("2026-02-28T23:30:00-01:30", "2026-03-01T01:00:00+00:00"),
        ("2026-02-01 05:06:60+00:00", "2026-02-01T05:00:00+00:00"),
        ("2026-03-01T12:14:00Z", "2026-03-01T12:00:00+00:00"),  # the sender's clock is ahead
        (None, "2026-03-01T12:00:00+00:00"),
    ],
)
def test_time(serve, time, window):
    """The hour of the event's time, to which it is billed."""
    from datetime import datetime

    served = serve()
    response = served.post(event(time=time))
    assert 202 == response.status_code, response.text
    served.kit.flush()

    assert [int(datetime.fromisoformat(window).timestamp())] == [row.window for row in served.kit.usage()]


def test_other_attributes_are_welcome(serve):
    """Extensions, a schema and the rest: ignored unless a meter's when= looks at them."""
    served = serve()

    assert 202 == served.post(event(traceparent="00-1", dataschema="https://x", partitionkey=7)).status_code
    assert [("acme", None, 3)] == served.used()
