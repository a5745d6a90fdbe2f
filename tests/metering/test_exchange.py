"""What views may say about their exchange, from wherever they run."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
import threading

import pytest
from plain_exchange import counted, serve

import meterkit
from meterkit import Meter, response_json


@pytest.fixture
def tokens(make_kit):
    """A kit that bills ``acme`` for tokens."""
    return make_kit(Meter("tokens", value="tokens"), identify=lambda _: "acme")


def test_add_usage_sums_up(tokens):
    """Several calls of one name add up."""

    def view():
        meterkit.add_usage("tokens", 500)
        meterkit.add_usage("tokens", 0)
        meterkit.add_usage("tokens", 12)

    serve(tokens, view=view)

    assert {("tokens", "acme"): 512} == counted(tokens)


def test_add_usage_from_many_threads(tokens):
    """A view may have its context's copies add usage in several threads at once."""

    def work():
        for _ in range(1000):
            meterkit.add_usage("tokens", 1)

    def view():
        threads = [threading.Thread(target=contextvars.copy_context().run, args=(work,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    serve(tokens, view=view)

    assert {("tokens", "acme"): 8000} == counted(tokens)


def test_add_usage_from_async_code(tokens):
    """Tasks and ``asyncio.to_thread`` carry the exchange along."""

    async def model():
        meterkit.add_usage("tokens", 1)
        await asyncio.to_thread(meterkit.add_usage, "tokens", 2)

    async def both():
        await asyncio.gather(model(), model())

    serve(tokens, view=lambda: asyncio.run(both()))

    assert {("tokens", "acme"): 6} == counted(tokens)


@pytest.mark.parametrize(
    ("quantity", "reason"),
    [
        (-1, "quantity_negative"),
        (0.5, "quantity_not_int"),
        (math.nan, "quantity_not_int"),
        (10**15, "quantity_too_large"),
        ("5", "quantity_not_int"),
        (None, "quantity_not_int"),
    ],
)
def test_what_add_usage_cannot_count(tokens, quantity, reason):
    """A wrong quantity is counted by its reason and left out; what else was added is billed, and nothing is raised."""

    def view():
        meterkit.add_usage("tokens", 7)
        meterkit.add_usage("tokens", quantity)

    serve(tokens, view=view)

    assert {("tokens", "acme"): 7} == counted(tokens)
    assert 1 == tokens.health()["problems"][reason]["count"]


@pytest.mark.parametrize("name", [["tokens"], None, 5, b"tokens"])
def test_a_usage_name_that_is_no_str(tokens, name):
    """A wrong name, also one that cannot be hashed, spoils nothing but its own call."""

    def view():
        meterkit.add_usage("tokens", 7)
        meterkit.add_usage(name, 5)

    serve(tokens, view=view)

    assert {("tokens", "acme"): 7} == counted(tokens)
    assert 1 == tokens.health()["problems"]["usage_name_not_str"]["count"]


@pytest.mark.parametrize("name", ["token", "response_bytes"])
def test_a_usage_name_of_no_meter(tokens, name):
    """Usage that no meter sums is usage that nobody bills, so it is not silent."""
    serve(tokens, view=lambda: meterkit.add_usage(name, 5))

    assert f"add_usage({name!r}): no meter has this value=; not counted" in tokens.health()["attention"]


def test_the_sum_is_bounded_too(tokens):
    """Quantities that are countable one by one, but not together, are refused together."""

    def view():
        meterkit.add_usage("tokens", 999_999_999_999_999)
        meterkit.add_usage("tokens", 1)

    serve(tokens, view=view)

    assert {} == counted(tokens)
    assert 1 == tokens.health()["problems"]["quantity_too_large"]["count"]


def test_identify_outranks_the_argument(make_kit):
    """What the view says goes before ``identify=``, and its last word counts."""
    kit = make_kit(identify=lambda _: "header")

    def view():
        meterkit.identify("first")
        meterkit.identify("acme", user="ann")

    serve(kit, view=view)
    kit.flush()

    assert [("acme", "ann", 1)] == [(row.company, row.user, row.quantity) for row in kit.usage()]


def test_skip(tokens):
    """A skipped exchange counts nothing, whatever it used."""

    def view():
        meterkit.add_usage("tokens", 5)
        meterkit.skip()

    serve(tokens, view=view)

    assert {} == counted(tokens)


@pytest.mark.parametrize("call", [lambda: meterkit.identify("a"), lambda: meterkit.add_usage("a", 1), meterkit.skip])
def test_outside_an_exchange(call, caplog):
    """Where there is no exchange, nothing happens but one warning a minute, with the cure."""
    context = contextvars.Context()
    context.run(call)
    context.run(call)

    assert ["meterkit.exchange"] == [record.name for record in caplog.records]
    assert "Is the middleware installed" in caplog.text


def test_after_the_response(tokens):
    """What a background task says after the last byte is too late, and health says what to do instead."""
    context = contextvars.Context()
    context.run(serve, tokens)

    context.run(meterkit.add_usage, "tokens", 5)
    context.run(meterkit.identify, "globex")
    context.run(meterkit.skip)

    assert {} == counted(tokens)
    assert 3 == tokens.health()["problems"]["after_response"]["count"]
    assert "use kit.record() in background tasks" in tokens.health()["problems"]["after_response"]["message"]


def test_an_app_that_calls_itself(tokens):
    """An exchange within a view has its own usage, and gives the view its exchange back."""

    def inner():
        meterkit.add_usage("tokens", 1)

    def outer():
        meterkit.add_usage("tokens", 10)
        serve(tokens, view=inner)
        meterkit.identify("globex")

    serve(tokens, view=outer)

    assert {("tokens", "acme"): 1, ("tokens", "globex"): 10} == counted(tokens)


def test_a_failing_logging_handler(tokens):
    """Not even a logging handler that raises makes these calls raise."""

    class Broken(logging.Handler):
        def emit(self, record):
            raise OSError("the log is full")

    handler = Broken()
    logging.getLogger("meterkit").addHandler(handler)
    try:
        contextvars.Context().run(meterkit.skip)
        serve(tokens, view=lambda: meterkit.add_usage("tokens", -1))
    finally:
        logging.getLogger("meterkit").removeHandler(handler)

    assert 1 == tokens.health()["problems"]["quantity_negative"]["count"]


def test_nothing_of_the_request_is_kept(make_kit):
    """A closed exchange may live on in a context; the environ, scope or request, and the body, do not."""
    kit = make_kit(Meter("rows", value=response_json("rows")))

    closed = serve(kit, body=b'{"rows": 3}')

    assert (None, None) == (closed.native, closed.body)
    assert {("rows", None): 3} == counted(kit)
