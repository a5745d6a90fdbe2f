"""Two hosts whose clocks are ten minutes apart, on one ledger: every event is accepted, and every sum is exact."""

from __future__ import annotations

import threading
from collections import Counter

import pytest
from guard import GUARD
from postgres_account import billed, make_customers

from meterkit.stripe_api import retry

pytestmark = [pytest.mark.long, pytest.mark.thorough]

HOUR = 3600
APART = 600
HOURS = 3


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    """The same tries as ever, with shorter waits between them."""
    monkeypatch.setattr(retry, "MAX_WAIT", 0.01)


@pytest.fixture(params=[APART, -APART], ids=["ahead", "behind"])
def other_clock(request, clock):
    """The clock of the other host; the first one's, like Stripe's, is right."""
    return lambda: clock() + request.param


@pytest.fixture
def right(make_reporting_kit):
    """The host whose clock is right."""
    return make_reporting_kit()


@pytest.fixture
def wrong(make_reporting_kit, other_clock):
    """The host whose clock is not."""
    return make_reporting_kit(clock=other_clock)


@pytest.fixture
def customers(stripe, right):
    """Two companies and who they are at Stripe."""
    customers = make_customers(stripe, ["acme", "globex"])
    for company, customer in customers.items():
        right.link(company, customer)
    return customers


def let_it_settle(kits, clock):
    """Until all hours have ended by every clock, and what waited for Stripe's clock has gone out."""
    for _ in range(4):
        clock.advance(HOUR)
        for kit in kits:
            kit.report()


def answers(stripe):
    """How Stripe answered to meter events, by status."""
    return Counter(request.status for request in stripe.requests if request.path == "/v1/billing/meter_events")


@pytest.mark.parametrize("include_open", [False, True], ids=["closed", "open"])
def test_hosts_with_different_clocks_take_turns(right, wrong, stripe, customers, clock, other_clock, include_open):
    """Each counts and reports every ten minutes, for some hours, in which one is in the next hour before the other."""
    hosts = {right: clock, wrong: other_clock}
    counted = Counter()
    for turn in range(HOURS * 6):
        for number, (kit, host_clock) in enumerate(hosts.items()):
            for company, customer in customers.items():
                quantity = 10**number + turn
                kit.record("calls", company, quantity)
                counted[customer, int(host_clock()) // HOUR] += quantity
            kit.flush()
        list(hosts)[turn % 2].report(include_open=include_open)
        clock.advance(600)
    let_it_settle(hosts, clock)

    assert counted == sum(
        (Counter({(event.customer, event.timestamp // HOUR): int(event.value)}) for event in stripe.meter_events),
        Counter(),
    )
    books = right.health()["books"]["calls"]
    assert (books["counted"], 0, True) == (books["sent"], books["rejected"], books["balanced"])
    assert sum(counted.values()) == books["sent"]


@pytest.mark.parametrize("holder", ["right", "wrong"])
def test_no_clock_takes_the_lease_from_who_is_sending(right, wrong, stripe, customers, clock, holder):
    """The lease lives by the database's clock: ten minutes more or less on one's own do not make it expire."""
    first, second = (right, wrong) if holder == "right" else (wrong, right)
    for company in customers:
        right.record("calls", company, 5)
    right.flush()
    clock.advance(2 * HOUR)
    held = stripe.fail("slow")
    sending = threading.Thread(target=first.report)
    sending.start()
    assert held.wait(GUARD)

    summary = second.report()
    held.release()
    sending.join()

    assert ("another process is reporting now", 0) == (summary.error, summary.sent)
    assert {"acme": 5, "globex": 5} == billed(stripe, customers)
    assert {200: 2} == answers(stripe)


@pytest.mark.parametrize("fault", ["reset_before", "reset_after"])
@pytest.mark.parametrize("first", ["right", "wrong"])
def test_an_outcome_that_one_host_does_not_know_is_settled_by_the_other(
    right, wrong, stripe, customers, clock, first, fault
):
    """It was written down by a clock that differs from that of who reads it."""
    unlucky, lucky = (right, wrong) if first == "right" else (wrong, right)
    for company in customers:
        right.record("calls", company, 5)
    right.flush()
    clock.advance(2 * HOUR)
    stripe.fail(fault, times=4)
    unlucky.report()

    lucky.report()
    let_it_settle([lucky, unlucky], clock)

    assert {"acme": 5, "globex": 5} == billed(stripe, customers)
    books = right.health()["books"]["calls"]
    assert (10, 10, True) == (books["counted"], books["sent"], books["balanced"])


def test_usage_that_is_dated_in_stripes_future_waits(right, make_reporting_kit, stripe, customers, clock):
    """Stripe refuses what is over five minutes ahead; once its time has come it goes out, in its own hour."""
    ahead = make_reporting_kit(clock=lambda: clock() + APART)
    ahead.record("calls", "acme", 5)
    used_at = int(clock.now) + APART

    early = ahead.report(include_open=True)
    clock.advance(HOUR)
    right.report()

    assert (0, 1) == (early.rejected, early.postponed)
    assert [(5, used_at)] == [(event.value, event.timestamp) for event in stripe.meter_events]
    assert 5 == right.health()["books"]["calls"]["sent"]
