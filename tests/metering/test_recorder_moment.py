"""When an exchange is counted: once, before its last byte leaves, in the hour that the clock says."""

from __future__ import annotations

import json

import pytest
from fake_clock import NOON
from plain_exchange import PlainExchange, counted, serve

from meterkit import Meter, response_json


def windows(kit):
    """Quantity by window."""
    kit.flush()
    return {row.window: row.quantity for row in kit.usage()}


def test_a_body_in_chunks(make_kit):
    """A body is read together, however it was cut, and also without a Content-Length."""
    kit = make_kit(Meter("rows", value=response_json("rows")), identify=lambda _: "acme")
    exchange = PlainExchange()
    exchange.publish(kit)
    exchange.status = 200
    for byte in json.dumps({"rows": 345}).encode():
        kit.recorder.chunk(exchange, bytes([byte]))
    kit.recorder.close(exchange)

    assert {("rows", "acme"): 345} == counted(kit)


def test_counted_before_the_last_byte_leaves(make_kit):
    """The chunk that completes the Content-Length is counted before it is handed on, and those before it are not."""
    kit = make_kit(identify=lambda _: "acme")
    exchange = PlainExchange()
    exchange.publish(kit)
    exchange.status, exchange.sent_headers = 200, {"content-length": "4"}

    kit.recorder.chunk(exchange, b"ab")
    before = counted(kit)
    kit.recorder.chunk(exchange, b"cd")

    assert ({}, {("calls", "acme"): 1}) == (before, counted(kit))


def test_a_client_that_leaves_early(make_kit):
    """Who reads all but the last byte pays all the same."""
    kit = make_kit(identify=lambda _: "acme")
    exchange = PlainExchange()
    exchange.publish(kit)
    exchange.status, exchange.sent_headers = 200, {"content-length": "1000"}
    kit.recorder.chunk(exchange, b"x" * 999)
    kit.recorder.close(exchange)

    assert {("calls", "acme"): 1} == counted(kit)


def test_an_app_that_breaks_off(make_kit):
    """A response that the app does not complete is a 500, whatever its status line said."""
    kit = make_kit(Meter("calls"), Meter("failures", status=500), identify=lambda _: "acme")
    exchange = PlainExchange()
    exchange.publish(kit)
    exchange.status = 200
    kit.recorder.chunk(exchange, b"half")
    kit.recorder.broke(exchange)

    assert {("failures", "acme"): 1} == counted(kit)


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
def test_a_response_without_a_body(make_kit, method, status):
    """The body of a HEAD, 204 or 304 stays with the server: it has no bytes, and the exchange counts at once."""
    kit = make_kit(Meter("calls", status="*"), Meter("egress", status="*", value="response_bytes"))
    exchange = PlainExchange(method)
    exchange.publish(kit)
    exchange.status, exchange.sent_headers = status, {"content-length": "1000"}
    kit.recorder.chunk(exchange, b"x" * 1000)

    assert {("calls", None): 1} == counted(kit)


def test_closing_again_counts_nothing(make_kit):
    """However many ways an exchange ends, it counts once."""
    kit = make_kit()
    exchange = serve(kit)
    kit.recorder.close(exchange)
    kit.recorder.broke(exchange)
    kit.recorder.sendfile(exchange)
    kit.recorder.chunk(exchange, b"more", last=True)

    assert {("calls", None): 1} == counted(kit)


def test_a_window_is_an_hour(make_kit, clock):
    """Usage belongs to the UTC hour in which its response was complete, to the second."""
    kit = make_kit()
    for moment in (NOON - 0.5, NOON, NOON + 3599.9, NOON + 3600):
        clock.now = moment
        kit.record("calls", "acme")

    assert {NOON - 3600: 1, NOON: 2, NOON + 3600: 1} == windows(kit)


def test_a_clock_that_steps_back(make_kit, clock):
    """A corrected clock puts usage into an earlier window, and loses or doubles none."""
    kit = make_kit()
    kit.record("calls", "acme", 5)
    clock.advance(-7200)
    kit.record("calls", "acme", 7)
    clock.advance(7200)
    kit.record("calls", "acme", 1)

    assert {NOON - 7200: 7, NOON: 6} == windows(kit)


def test_a_clock_that_raises(make_kit):
    """Not even a broken clock reaches the client; health asks for a report."""

    def clock():
        raise OSError("no time")

    kit = make_kit(identify=lambda _: "acme", clock=clock)

    serve(kit)

    assert 1 == kit.health()["problems"]["internal_error"]["count"]
