"""The handle that `meterkit.usage()` returns: it counts for its exchange, wherever and whenever it is used."""

from __future__ import annotations

import contextvars
import gc
import threading
import tracemalloc

import pytest
from plain_exchange import PlainExchange, counted, serve

import meterkit
from meterkit import Meter, maximum, unique

MIB = 1 << 20


@pytest.fixture
def tokens(make_kit):
    """A kit that bills whoever a header names for tokens, if the request succeeded."""
    return make_kit(Meter("tokens", value="tokens"), identify=lambda exchange: exchange.headers.get("who", "acme"))


def handle_of(kit, *, who="acme", **how):
    """The handle that a view of *who* took, after the response was complete."""
    handles = []
    serve(kit, PlainExchange(headers={"who": who}), view=lambda: handles.append(meterkit.usage()), **how)
    return handles[0]


def elsewhere(work):
    """Do *work* in a thread that knows nothing of any exchange."""
    thread = threading.Thread(target=contextvars.Context().run, args=[work])
    thread.start()
    thread.join()


def test_in_a_thread_without_the_context(tokens):
    """As in an executor or a greenlet, where the functions of the module find no exchange."""

    def view():
        usage = meterkit.usage()
        elsewhere(lambda: usage.add("tokens", 5))
        elsewhere(lambda: usage.identify("globex", "ann"))

    serve(tokens, view=view)

    assert {("tokens", "globex"): 5} == counted(tokens)
    assert ["ann"] == [row.user for row in tokens.usage()]


def test_after_the_response(tokens):
    """For the same company, by the same meters; also while somebody else is served."""
    usage = handle_of(tokens)

    usage.add("tokens", 5)
    serve(tokens, PlainExchange(headers={"who": "globex"}), view=lambda: usage.add("tokens", 2))

    assert {("tokens", "acme"): 7} == counted(tokens)


@pytest.mark.parametrize("how", [{"status": 500}, {"status": 404}])
def test_after_a_response_that_is_not_billed(tokens, how):
    """What a failed request adds afterwards is as free as what it added before."""
    handle_of(tokens, **how).add("tokens", 5)

    assert {} == counted(tokens)


def test_after_an_exchange_that_was_skipped(tokens):
    """Nothing of it counts, at any time."""
    handles = []

    def view():
        handles.append(meterkit.usage())
        meterkit.skip()

    serve(tokens, view=view)
    handles[0].add("tokens", 5)

    assert {} == counted(tokens)


def test_another_company_after_the_response(tokens):
    """Who pays for what is added from now on; what was counted stays where it is."""
    usage = handle_of(tokens)

    usage.add("tokens", 5)
    usage.identify("globex")
    usage.add("tokens", 2)

    assert {("tokens", "acme"): 5, ("tokens", "globex"): 2} == counted(tokens)


def test_a_condition_holds_afterwards_as_it_did(make_kit):
    """``when=`` sees the request, which is gone afterwards."""
    kit = make_kit(
        Meter("large", value="tokens", when=lambda exchange: exchange.headers.get("model") == "large"),
        Meter("small", value="tokens", when=lambda exchange: exchange.headers.get("model") == "small"),
        identify=lambda _: "acme",
    )
    handles = []
    exchange = PlainExchange(headers={"model": "large"})
    serve(kit, exchange, view=lambda: handles.append(meterkit.usage()))

    handles[0].add("tokens", 5)

    assert {("large", "acme"): 5} == counted(kit)


def test_values_and_maxima_afterwards(make_kit):
    """Each counts as it does within the exchange."""
    kit = make_kit(
        Meter("devices", value=unique("device")), Meter("seats", value=maximum("seats")), identify=lambda _: "acme"
    )
    usage = handle_of(kit)

    for device in ("a", "b", "a"):
        usage.add_value("device", device)
    for seats in (3, 9, 4):
        usage.add("seats", seats)

    assert {("devices", "acme"): 2, ("seats", "acme"): 9} == counted(kit)


def test_mistakes_afterwards_are_named(tokens):
    """As within the exchange; nothing is raised."""
    usage = handle_of(tokens)

    usage.add("tokens", -1)
    usage.add("token", 1)
    usage.add(5, 1)
    usage.add_value("device", "")
    usage.skip()

    assert {} == counted(tokens)
    assert {
        "after_response",
        "quantity_negative",
        "usage_name_not_str",
        "usage_name_unknown",
        "value_empty",
    } == set(tokens.health()["problems"]) - {"no_stripe_key"}


def test_a_handle_that_is_taken_too_late(tokens):
    """
    A task that one request started may serve all others, as an MCP session's does: it must say for whom it counts.
    """
    stale = contextvars.Context()
    stale.run(serve, tokens)
    usage = stale.run(meterkit.usage)

    usage.add("tokens", 5)
    assert {} == counted(tokens)
    assert (1, 5) == tuple(tokens.health()["problems"]["after_response"][key] for key in ("count", "units"))
    usage.identify("globex")
    usage.add("tokens", 2)

    assert {("tokens", "globex"): 2} == counted(tokens)


def test_outside_an_exchange(tokens, make_kit):
    """Every kit of the process reports how often, and how much was thrown away."""
    other = make_kit(Meter("other"))

    elsewhere(lambda: meterkit.usage().add("tokens", 3))
    elsewhere(lambda: meterkit.add_usage("tokens", 4))

    for kit in (tokens, other):
        problem = kit.health()["problems"]["outside_exchange"]
        assert (3, 7) == (problem["count"], problem["units"])
        assert "usage = meterkit.usage() in the view" in problem["message"]


class Holder:
    """Says how much it used when it is freed. It is in a cycle, so only the garbage collector frees it."""

    def __init__(self, say):
        self.itself = self
        self.say = say

    def __del__(self):
        self.say()


@pytest.fixture
def _no_collection_by_chance():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_no_collection_by_chance")
def test_the_garbage_collector_runs_in_the_next_request(tokens):
    """What is freed there is not the next customer's."""

    def left():
        usage = meterkit.usage()
        Holder(lambda: usage.add("tokens", 5))
        Holder(lambda: meterkit.add_usage("tokens", 6))

    serve(tokens, view=left)
    serve(tokens, PlainExchange(headers={"who": "globex"}), view=gc.collect)

    assert {("tokens", "acme"): 5} == counted(tokens)
    assert (1, 6) == tuple(tokens.health()["problems"]["finalised"][key] for key in ("count", "units"))


@pytest.mark.usefixtures("_hurried_threads")
def test_threads_that_add_while_the_response_is_completed(tokens):
    """Each unit is counted once: with the exchange, or after it."""
    began = threading.Barrier(5)
    started = []

    def view():
        usage = meterkit.usage()

        def work():
            began.wait()
            for _ in range(500):
                usage.add("tokens", 1)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        started.extend(threads)
        began.wait()

    for _ in range(5):
        serve(tokens, view=view)
    for thread in started:
        thread.join()

    assert {("tokens", "acme"): 5 * 4 * 500} == counted(tokens)


def test_a_long_stream_takes_no_more_memory(make_kit):
    """A hundred thousand calls: sums, maxima and values are as if each had been kept."""
    kit = make_kit(
        Meter("tokens", value="tokens"),
        Meter("peak", value=maximum("rate")),
        Meter("device", value=unique("device")),
        identify=lambda _: "acme",
    )
    peaks = []

    def view():
        usage = meterkit.usage()
        tracemalloc.start()
        for _ in range(100_000):
            usage.add("tokens", 1)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        for number in range(3_000):
            usage.add("rate", 7_000 - number)
            usage.add_value("device", str(number))

    serve(kit, view=view)

    assert peaks[0] < MIB
    assert {("tokens", "acme"): 100_000, ("peak", "acme"): 7_000, ("device", "acme"): 1} == counted(kit)
