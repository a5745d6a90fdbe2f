"""Clocks that are wrong, and long silences, one by one: usage is in the hour that the clock said, and billed once."""

from __future__ import annotations

import pytest
from model_clocks import BEGIN, DAY, HOUR
from model_zygote import NO_PLAN
from thorough import some

pytestmark = [pytest.mark.long, pytest.mark.thorough]

FIRST = BEGIN - BEGIN % HOUR
"""The hour in which each test begins."""


def billed(world):
    """What Stripe has, by the hour: 0 is the first of the test, 1 the next."""
    return {(hour - FIRST) // HOUR: sum_ for (_, _, hour), sum_ in world.stripe.billed(world.payer).items()}


def count(world, quantity, *, who=0):
    """Let a process count for a customer whom Stripe knows."""
    world.count(who, "calls", "cus", quantity)


def report(world, *, who=0, plan=NO_PLAN, include_open=False):
    """Let a process report; answer how that ended."""
    return world.do_alone(who, "report", plan=plan, include_open=include_open).end


def set_wrong(world, seconds):
    """From now on the host's clock is so far ahead, or behind."""
    world.clocks.set_wrong(0, seconds)


def listed(world, who=0):
    """What ``kit.health()`` says of events that are not billed, or may not be."""
    return [(each["state"], each["quantity"]) for each in world.do(who, "health").value["refused"]]


def test_back_an_hour_in_mid_window(world):
    """What is counted before and after the step is in two hours."""
    count(world, 2)
    set_wrong(world, -HOUR)
    count(world, 3)
    world.wait(2 * HOUR)
    report(world)

    assert {0: 2, -1: 3} == billed(world)


def test_back_into_an_hour_that_was_reported(world):
    """Its further usage is a further event."""
    count(world, 2)
    world.wait(HOUR)
    report(world)
    set_wrong(world, -HOUR)
    count(world, 3)
    report(world)
    between = billed(world)
    set_wrong(world, 0)
    report(world)

    assert ({0: 2}, {0: 5}) == (between, billed(world))


@pytest.mark.parametrize("consumed", [False, True])
def test_ahead_a_day_and_back(make_world, consumed):
    """Stripe refuses what lies in its future, and perhaps uses its identifier up: it waits until its time has come."""
    world = make_world(rejected_consumes_identifier=consumed)
    count(world, 2)
    set_wrong(world, DAY)
    count(world, 3)
    report(world, include_open=True)
    set_wrong(world, 0)
    report(world)
    between = billed(world)
    world.wait(DAY)
    report(world)
    report(world)

    assert ({0: 2}, {0: 2, 24: 3}, []) == (between, billed(world), listed(world))


def test_ahead_by_some_minutes(world):
    """Those that Stripe does not tolerate any more."""
    set_wrong(world, 9 * 60)
    count(world, 3)
    report(world, include_open=True)
    between = billed(world)
    world.wait(5 * 60)
    report(world, include_open=True)

    assert ({}, {0: 3}) == (between, billed(world))


@pytest.mark.parametrize("fault", ["reset_after", "reset_before"])
@pytest.mark.parametrize("silence", [60, 25 * HOUR, 47 * HOUR])
@pytest.mark.parametrize("wrong", some([-DAY, DAY + HOUR], among=[-DAY, HOUR, 3 * HOUR, DAY + HOUR]))
def test_the_age_of_an_attempt_is_told_by_stripe(make_world, wrong, silence, fault):
    """
    Whether Stripe has an event or not: with a clock that was wrong at the first attempt, it is billed once.

    Stripe knows an identifier for 24 hours of its own time, and needs two minutes of it to add an event up.
    """
    world = make_world(event_lag=120)
    count(world, 5)
    world.wait(HOUR)
    set_wrong(world, wrong)
    world.stripe.fail(fault, times=4)
    report(world, include_open=True)
    set_wrong(world, 0)
    world.wait(silence)
    for _ in range(3):
        report(world)
        world.wait(HOUR)
    world.wait(2 * DAY)
    report(world)

    assert ({0: 5}, []) == (billed(world), listed(world))


@pytest.mark.parametrize("fault", ["reset_after", "reset_before"])
def test_ahead_a_day_before_stripe_has_added_up(make_world, fault):
    """What Stripe's sums do not show yet is not taken for lost because a clock says that a day has passed."""
    world = make_world(event_lag=120)
    count(world, 5)
    world.wait(HOUR)
    world.stripe.fail(fault, times=4)
    report(world)
    set_wrong(world, DAY)
    report(world)
    set_wrong(world, 0)
    for _ in range(3):
        world.wait(DAY)
        report(world)

    assert ({0: 5}, []) == (billed(world), listed(world))


def test_back_and_forth_while_a_report_is_held(world):
    """Whose event was taken by another process meanwhile: the lease is lost, and the event is billed once."""
    count(world, 5)
    world.wait(HOUR)
    ends = [report(world, plan=("hold", "before request", 2))]
    set_wrong(world, DAY)
    ends.append(report(world, who=1))
    set_wrong(world, -HOUR)
    world.go_on(0)
    set_wrong(world, 0)
    report(world, who=2)

    assert (["held", "done"], {0: 5}) == (ends, billed(world))


def test_a_lease_from_tomorrow(world):
    """Whoever died with it while the clock was ahead holds up the others for no longer than any who died."""
    count(world, 5)
    world.count(0, "egress", "acme", 7)
    world.do(0, "link", company="acme", customer=world.customers["acme"][0])
    world.wait(HOUR)
    set_wrong(world, DAY)
    end = report(world, plan=("crash", "before request", 2))
    set_wrong(world, 0)
    world.wait(61)
    report(world, who=1)

    assert "died" == end
    assert {("egress", "acme", FIRST): 7, ("calls", "cus", FIRST): 5} == world.stripe.billed(world.payer)


def die_between_ledger_and_journal(world):
    """A process counts 5 and is killed when the ledger has them, and the journal's file has them still."""
    count(world, 5)
    world.do(0, "health")  # opens the ledger, so that the flush begins with its own transactions
    # Three are those of the reads that come first: whether a subscription has changed, and where periods begin and end.
    end = world.do_alone(0, "flush", plan=("crash", "after commit", 4)).end
    assert ("died", 5) == (end, world.do(1, "health").value["books"]["calls"]["unreported"])
    world.kill(1)


@pytest.mark.parametrize("silence", [HOUR, 25 * HOUR, 34 * DAY])
def test_silence_after_a_crash_between_the_ledger_and_the_journal(world, silence):
    """However late the heir comes, and although it has counts of its own to flush first."""
    die_between_ledger_and_journal(world)
    world.wait(silence)
    count(world, 1, who=1)
    for _ in range(2):
        world.do_alone(1, "flush", plan=NO_PLAN)
    world.wait(HOUR)
    report(world, who=1)

    assert {0: 5, silence // HOUR: 1} == billed(world)


@pytest.mark.parametrize("days", [2, 41, 400])
def test_far_ahead_and_back_after_a_crash_between_the_ledger_and_the_journal(world, days):
    """As a machine may start that has lost its time with its power."""
    die_between_ledger_and_journal(world)
    set_wrong(world, days * DAY)
    count(world, 1, who=1)
    for _ in range(2):
        world.do_alone(1, "flush", plan=NO_PLAN)
    set_wrong(world, 0)
    world.wait(HOUR)
    report(world, who=1)

    assert {0: 5} == billed(world)


def test_more_than_35_days(world):
    """What is too old for Stripe is listed, and holds up no other."""
    world.count(0, "calls", "daughter", 4)
    world.wait(36 * DAY)
    count(world, 2)
    world.do(0, "link", company="daughter", customer=world.customers["daughter"][0])
    world.wait(HOUR)
    report(world)

    assert ({36 * 24: 2}, [("rejected", 4)]) == (billed(world), listed(world))
