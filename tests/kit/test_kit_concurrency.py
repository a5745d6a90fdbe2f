"""Threads that count while others count, flush, fail and close: the sums are exact."""

from __future__ import annotations

import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plain_exchange import PlainExchange, counted, serve

from meterkit import Meter
from meterkit.core import threads

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("_hurried_threads")]


def threads_for(*works):
    """Start each of *works* in a thread of its own."""
    started = [threading.Thread(target=work) for work in works]
    for thread in started:
        thread.start()
    return started


def count_against(kit, count, *against):
    """Do *count* in eight threads, and each of *against* again and again for as long."""
    done = threading.Event()

    def until_done(work):
        while not done.is_set():
            work()

    others = threads_for(*[lambda work=work: until_done(work) for work in against])
    for thread in threads_for(*[count] * 8):
        thread.join()
    done.set()
    for thread in others:
        thread.join()


def test_threads_against_flushes(kit):
    """Eight threads count while two flush as fast as they can."""

    def count():
        for number in range(5000):
            kit.record("calls", f"company {number % 7}", 1)

    count_against(kit, count, kit.flush, kit.flush)

    assert {("calls", f"company {number}"): 8 * len(range(number, 5000, 7)) for number in range(7)} == counted(kit)


@pytest.mark.parametrize("python", ["as it is", "without its lock"])
def test_requests_against_flushes_and_closes(make_kit, monkeypatch, python):
    """The shortest way of a request to the journal takes no lock, and loses nothing to who takes the journal away."""
    monkeypatch.setattr(threads, "SWITCHES_AT_CALLS", python == "as it is")
    companies = [f"company {number}" for number in range(7)]
    kit = make_kit(identify=lambda exchange: exchange.path)

    def count():
        for number in range(2000):
            serve(kit, PlainExchange(path=companies[number % 7]))

    count_against(kit, count, kit.flush, kit.close)

    assert {("calls", company): 8 * len(range(at, 2000, 7)) for at, company in enumerate(companies)} == counted(kit)


def test_threads_against_closes(kit):
    """Eight threads count while another closes the kit again and again."""

    def count():
        for _ in range(3000):
            kit.record("calls", "acme", 1)

    count_against(kit, count, kit.close)

    assert {("calls", "acme"): 24_000} == counted(kit)


def test_threads_against_everything(make_kit):
    """Exchanges of many companies, while others flush, close, link and look at health; the books always balance."""
    kit = make_kit(Meter("calls"), Meter("egress", value="response_bytes"), identify=lambda _: "acme")
    unbalanced = []

    def count():
        for number in range(500):
            serve(kit, body=b"12345")
            kit.record("calls", f"company {number}", 1)

    def look():
        books = kit.health()["books"]
        unbalanced.extend(books for meter in books.values() if not meter["balanced"])

    count_against(kit, count, kit.flush, look, lambda: kit.link("acme", "cus_1"), kit.usage)

    assert [] == unbalanced
    assert {("egress", "acme"): 20_000, ("calls", "acme"): 4000, ("calls", "company 3"): 8} == {
        key: quantity for key, quantity in counted(kit).items() if key[1] in ("acme", "company 3")
    }


def test_many_threads_start_a_kit(make_kit):
    """When many threads count first at the same time, the process starts once."""
    for _ in range(10):
        others = set(threading.enumerate())
        kit = make_kit()
        at_once = threading.Barrier(8)

        def count(kit=kit, at_once=at_once):
            at_once.wait()
            kit.record("calls", "acme", 1)

        count_against(kit, count)
        running = [thread for thread in set(threading.enumerate()) - others if thread.name == "meterkit"]
        kit.close()
        assert 1 == len(running)

    assert {("calls", "acme"): 80} == counted(kit)


actions = st.lists(
    st.tuples(st.just("record"), st.sampled_from(["acme", "globex"]), st.integers(0, 10**9))
    | st.tuples(st.sampled_from(["flush", "close", "restart", "kill", "step"]), st.integers(-7200, 7200)),
    max_size=12,
)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(actions=actions)
def test_whatever_happens_in_between(make_kit, tmp_path_factory, clock, actions):
    """However counts, flushes, ends, kills and steps of the clock follow each other, the totals are right."""
    data_dir = tmp_path_factory.mktemp("data")
    kit = make_kit(data_dir=data_dir)
    expected = {}
    for action, *arguments in actions:
        if action == "record":
            company, quantity = arguments
            kit.record("calls", company, quantity)
            expected["calls", company] = expected.get(("calls", company), 0) + quantity
        elif action == "flush":
            kit.flush()
        elif action == "close":
            kit.close()
        elif action == "restart":
            kit.close()
            kit = make_kit(data_dir=data_dir)
        elif action == "kill" and kit._supervisor._runtime is not None:
            kit._supervisor._runtime.journal.close()  # lets go of its files, as the system does for a killed process
            kit = make_kit(data_dir=data_dir)
        elif action == "step":
            clock.advance(arguments[0])
    kit.flush()
    found = {}
    for row in kit.usage():
        found[row.meter, row.company] = found.get((row.meter, row.company), 0) + row.quantity

    assert {key: quantity for key, quantity in expected.items() if quantity} == found
