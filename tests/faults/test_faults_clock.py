"""Clocks that step: no hour is billed twice, none is skipped, and what Stripe takes for the future waits."""

from __future__ import annotations

import pytest
from faulty_shop import HOUR
from guard import GUARD
from thorough import first

pytestmark = pytest.mark.long

DAY = 24 * HOUR


STEPS = {"hour-back": -HOUR, "day-back": -DAY, "hour-ahead": HOUR, "day-ahead": DAY}


@pytest.mark.parametrize("step", first([-HOUR, DAY], among=STEPS.values()), ids=STEPS)
@pytest.mark.parametrize("reports", [False, True], ids=["and-counts", "and-reports"])
def test_a_clock_that_steps_and_steps_back(start, account, clock, step, reports):
    """The app's clock is wrong for a while and Stripe's is not; when time has passed both, all of it is billed once."""
    app = start()
    app.serve(account.customer, rounds=2)
    app.wait_until_flushed()

    app.ask("clock", now=clock.now + step)
    app.serve(account.customer, rounds=3)
    app.wait_until_flushed()
    if reports:
        app.ask("clock", now=clock.now + step + HOUR)
        app.ask("report")
    app.ask("clock", now=clock.now)
    app.serve(account.customer)
    app.wait_until_flushed()
    app.ask("report")
    too_much = account.billed > app.counted
    clock.advance(DAY + 2 * HOUR)
    app.ask("clock", now=clock.now)
    for _ in range(2):
        app.ask("report")

    assert not too_much
    assert app.counted == account.billed
    assert {"counted": app.counted, "sent": app.counted} == app.books()


def test_usage_of_the_future_waits(start, account, clock):
    """What the app's clock dates in Stripe's future is neither sent too early nor rejected: it waits, and says so."""
    app = start()
    app.ask("clock", now=clock.now + DAY)
    app.serve(account.customer)
    app.wait_until_flushed()
    app.ask("clock", now=clock.now + DAY + HOUR)

    summary = app.ask("report")
    before = app.books()
    clock.advance(DAY + 2 * HOUR)
    app.ask("clock", now=clock.now)
    app.ask("report")

    assert (0, 0, 1) == (summary["sent"], summary["rejected"], summary["postponed"])
    assert "future" in summary["error"]
    assert {"counted": app.counted, "pending": app.counted} == before
    assert app.counted == account.billed
    assert {"counted": app.counted, "sent": app.counted} == app.books()


def test_a_reporter_that_died_with_its_clock_ahead(start, account, clock):
    """Its lease was dated by that clock, and holds up its successor for no day; what it was sending is billed once."""
    app = start()
    app.serve(account.customer)
    app.stop()
    held = account.sandbox.fail("timeout_before")
    dying = start(FAULTY_NOW=clock.now + DAY)  # reports at once what the other left
    dying.serve(account.customer)
    dying.wait_until_flushed()
    assert held.wait(GUARD)
    dying.kill()
    account.sandbox.heal()

    heir = start()
    heir.serve(account.customer)
    heir.wait_until_flushed()
    clock.advance(HOUR)
    heir.ask("clock", now=clock.now)
    summary = heir.ask("report")
    billed_at_once = account.billed
    clock.advance(DAY + 2 * HOUR)
    heir.ask("clock", now=clock.now)
    for _ in range(2):
        heir.ask("report")

    assert "" == summary["error"]
    assert billed_at_once >= heir.counted
    assert app.counted + dying.counted + heir.counted == account.billed
    assert {"counted", "sent"} == set(heir.books())
