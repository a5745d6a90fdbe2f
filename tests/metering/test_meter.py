"""What a meter may say, and how much it counts."""

from __future__ import annotations

import json

import pytest
from plain_exchange import PlainExchange, counted, serve

from meterkit import ConfigurationError, Meter, UsageError, maximum, response_json, unique


async def slow(_exchange):
    """A condition that cannot be asked after the response."""
    return True


@pytest.mark.parametrize(
    ("options", "cure"),
    [
        ({"name": ""}, "non-empty printable str"),
        ({"name": "  "}, "non-empty printable str"),
        ({"name": "a\nb"}, "non-empty printable str"),
        ({"name": 5}, "non-empty printable str"),
        ({"name": None}, "non-empty printable str"),
        ({"name": "x" * 101}, "at most 100 characters (Stripe's limit), not 101"),
        ({"event_name": "x" * 101}, "at most 100 characters (Stripe's limit), not 101"),
        ({"event_name": 5}, "event_name must be a non-empty printable str"),
        ({"path": "v1/score"}, "begins with '/'"),
        ({"path": ""}, "begins with '/'"),
        ({"path": 5}, "begins with '/'"),
        ({"path": "/v1/score?full=1"}, "use when="),
        ({"path": "/v1/{model}"}, "use route= for a template"),
        ({"path": "/v1/<model>"}, "use route= for a template"),
        ({"path": "/v[12]/score"}, "the only wildcard is *"),
        ({"path": "/v1/**"}, "including slashes"),
        ({"route": ""}, "the framework's route template"),
        ({"route": 5}, "the framework's route template"),
        ({"route": "/v1/*"}, "use path="),
        ({"method": ""}, "such as 'POST'"),
        ({"method": []}, "or several"),
        ({"method": 5}, "or several"),
        ({"method": "GET POST"}, "such as 'POST'"),
        ({"method": ["GET", None]}, "such as 'POST'"),
        ({"method": b"GET"}, "such as 'POST'"),
        ({"status": "2XX"}, "a class such as '2xx'"),
        ({"status": "200"}, "(an int)"),
        ({"status": 99}, "from 100 to 599"),
        ({"status": 600}, "from 100 to 599"),
        ({"status": True}, "from 100 to 599"),
        ({"status": []}, "or several"),
        ({"status": None}, "or several"),
        ({"status": [200, "6xx"]}, "a class such as '2xx'"),
        ({"value": ""}, "add_usage()"),
        ({"value": 5}, "response_json(...)"),
        ({"value": len}, "response_json(...)"),
        ({"value": "count"}, "leave value= out"),
        ({"value": "response_byte"}, "did you mean 'response_bytes'?"),
        ({"value": "duration-ms"}, "did you mean 'duration_ms'?"),
        ({"when": True}, "a plain function of an Exchange"),
        ({"when": slow}, "a plain function of an Exchange"),
        ({"aggregation": "count"}, "leave out value= and aggregation="),
        ({"aggregation": "max"}, "an invoice adds up the hours"),
        ({"aggregation": "min"}, "not the minimum of the month"),
        ({"aggregation": "last"}, "nobody knows which of two workers was last"),
        ({"aggregation": "avg"}, "the average of averages is not the average"),
        ({"aggregation": "median"}, "the median of medians is not the median"),
        ({"aggregation": "percentile"}, "do not give the percentile of the whole"),
        ({"aggregation": "unique"}, "would be billed twice"),
        ({"aggregation": "Sum"}, "it is unknown"),
        ({"aggregation": None}, "it is unknown"),
    ],
)
def test_a_wrong_meter(options, cure):
    """A meter that cannot work is refused while it is built, in a sentence that says the cure."""
    with pytest.raises(ConfigurationError) as caught:
        Meter(**{"name": "calls", **options})

    assert cure in str(caught.value)


def test_the_message_names_the_meter():
    """Among many meters, the message says which one is wrong."""
    with pytest.raises(ConfigurationError, match=r"^Meter\('egress'\): "):
        Meter("egress", path="v1")


def test_only_the_name_is_positional():
    """A second positional argument would be taken for any of the filters, so there is none."""
    with pytest.raises(TypeError):
        Meter("calls", "/v1/*")


@pytest.mark.parametrize(
    "options",
    [
        {"name": "x" * 100},
        {"name": "Créditos, 2nd: {0} %s"},
        {"path": "*"},
        {"path": "/v1/*/score.json"},
        {"route": "/files/{path:path}"},
        {"route": "^items/(?P<id>[0-9]*)/$"},
        {"method": ("GET", "post")},
        {"status": ["2xx", 304]},
        {"value": "duration_ms"},
        {"value": "tokens"},
        {"value": response_json("usage.total")},
        {"when": lambda exchange: True},
        {"aggregation": "sum"},
    ],
)
def test_a_right_meter(options):
    """What looks odd and works is not refused; a meter can be compared and hashed, as data can."""
    meter = Meter(**{"name": "calls", **options})

    assert {meter} == {Meter(**{"name": "calls", **options})}


@pytest.mark.parametrize(("event_name", "expected"), [("", "calls"), ("api_calls", "api_calls")])
def test_event_name(event_name, expected):
    """Stripe's name for the meter is its own, unless it is given another."""
    assert expected == Meter("calls", event_name=event_name).event_name


@pytest.mark.parametrize("path", ["", ".", "a..b", "a.", None, 5])
def test_response_json_of_nothing(path):
    """A path into the body is keys joined with dots."""
    with pytest.raises(ConfigurationError, match="keys joined with dots"):
        response_json(path)


@pytest.mark.parametrize("max_bytes", [0, -1, 1.5, "1000", None])
def test_response_json_without_bytes(max_bytes):
    """A cap under one byte would see nothing."""
    with pytest.raises(ConfigurationError, match="positive number of bytes"):
        response_json("rows", max_bytes=max_bytes)


def test_count():
    """Without a value, each exchange is one."""
    assert 1 == Meter("calls").quantity(PlainExchange())


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        *[("512", 512), ("0" * 20 + "512", 512), ("0" * 5000, 0), ("", 0), ("-5", 0), ("5x", 0), ("٥", 0)],  # noqa: RUF001
        *[("9" * 15, 10**15 - 1), ("9" * 16, 0), ("9" * 23, 0), ("9" * 5000, 0)],
    ],
)
def test_request_bytes(sent, expected):
    """The Content-Length is the client's word: what is no length is 0, and does no harm."""
    exchange = PlainExchange(headers={"content-length": sent})

    assert expected == Meter("ingress", value="request_bytes").quantity(exchange)


def test_response_bytes():
    """What was handed to the server is what counts."""
    exchange = PlainExchange()
    exchange.response_bytes = 1234

    assert 1234 == Meter("egress", value="response_bytes").quantity(exchange)


def test_duration(monkeypatch):
    """Durations are counted in whole milliseconds."""
    now = 100.0
    monkeypatch.setattr("meterkit.metering.exchange.perf_counter", lambda: now)
    exchange = PlainExchange(timed=True)
    now = 101.2345

    assert 1234 == Meter("time", value="duration_ms").quantity(exchange)


@pytest.mark.parametrize(
    "asks",
    [
        {"value": "duration_ms"},
        {"when": lambda exchange: exchange.duration < 60},
        {"value": unique(lambda exchange: str(exchange.duration < 60))},
        {"value": maximum(lambda exchange: 1 + int(exchange.duration))},
    ],
    ids=["value", "when", "unique", "maximum"],
)
def test_whoever_may_ask_for_the_duration_gets_it(make_kit, asks):
    """It is taken for kits with such a meter, and for all meters of theirs."""
    kit = make_kit(Meter("calls"), Meter("asking", **asks), identify=lambda _: "acme")

    exchange = serve(kit)
    kit.flush()

    assert 0 <= exchange.duration < 60
    assert {"no_stripe_key"} == kit.health()["problems"].keys()


def test_where_nobody_may_ask_for_the_duration_it_is_not_taken(make_kit):
    """Whoever asks all the same is told the cure, and the exchange is counted."""
    kit = make_kit(Meter("calls"), identify=lambda exchange: "acme" if exchange.duration else "globex")

    serve(kit)

    assert {("calls", None): 1} == counted(kit)
    assert "give a meter a when=" in kit.health()["problems"]["identify_raised"]["message"]


def read(body, path="rows", *, encoding="", **options):
    """What a meter finds in *body*."""
    exchange = PlainExchange()
    exchange.body = bytearray(body if isinstance(body, bytes) else json.dumps(body).encode())
    exchange.sent_headers = {"content-encoding": encoding} if encoding else {}
    return Meter("rows", value=response_json(path, **options)).quantity(exchange)


@pytest.mark.parametrize(
    ("body", "path", "expected"),
    [
        ({"rows": 3}, "rows", 3),
        ({"meta": {"rows": 0}}, "meta.rows", 0),
        ({"choices": [{"tokens": 1}, {"tokens": 2}]}, "choices.1.tokens", 2),
        ([4, 5], "-1", 5),
        ({"0": 6}, "0", 6),
        (b'\xef\xbb\xbf{"rows": 7}', "rows", 7),
        ({"rows": 999_999_999_999_999}, "rows", 999_999_999_999_999),
    ],
)
def test_a_number_in_the_body(body, path, expected):
    """Keys and list indexes lead to a number, which is counted."""
    assert expected == read(body, path)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"rows": -1}, "quantity_negative"),
        ({"rows": 1.0}, "quantity_not_int"),
        (b'{"rows": NaN}', "quantity_not_int"),
        ({"rows": "3"}, "quantity_not_int"),
        ({"rows": True}, "quantity_not_int"),
        ({"rows": None}, "quantity_not_int"),
        ({"rows": 10**15}, "quantity_too_large"),
        ({"rowz": 3}, "body_no_value"),
        ("rows", "body_no_value"),
        ([3], "body_no_value"),
        (b"", "body_not_json"),
        (b"<html>", "body_not_json"),
        (b"\xff\xfe\x00", "body_not_json"),
        (b'{"rows": ' + b"9" * 5000 + b"}", "body_not_json"),
        (b"[" * 500_000, "body_not_json"),
        (b" " * 1_000_001, "body_too_long"),
    ],
)
def test_no_number_in_the_body(body, reason):
    """A body without a countable number there is a usage error, whose reason says why."""
    with pytest.raises(UsageError) as caught:
        read(body)

    assert reason == caught.value.reason


def test_a_compressed_body():
    """A compressed body is not read, and the cure is said."""
    with pytest.raises(UsageError, match="install this middleware inside the one that compresses"):
        read({"rows": 3}, encoding="gzip")


def test_a_cap():
    """A body is read up to its cap, and not a byte further."""
    assert 3 == read(b'{"rows":3}', max_bytes=10)
    with pytest.raises(UsageError, match="over 9 bytes; raise max_bytes="):
        read(b'{"rows":3}', max_bytes=9)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"customer_key": ""}, "customer_key= must be a key"),
        ({"value_key": 5}, "value_key= must be a key"),
        ({"value_key": "v" * 101}, "value_key= must be a key"),
        ({"value_key": "who", "customer_key": "who"}, "could not carry both"),
    ],
)
def test_payload_keys_that_cannot_be(keys, message):
    """Each would be refused by Stripe with every event."""
    with pytest.raises(ConfigurationError, match=message):
        Meter("calls", **keys)
