"""Behind a wire, or a proxy, that is not Stripe: nothing is marked as sent, nothing is given up, and the app serves."""

from __future__ import annotations

import pytest
from faulty_shop import HOUR
from faulty_stripe import BODIES, DRIPS, REFUSALS, WIRES, FaultyStripe, answer_of, says
from guard import GUARD
from thorough import some

pytestmark = [pytest.mark.long, pytest.mark.thorough]


@pytest.fixture
def left_behind(start, account, clock):
    """What an app that has ended left in the ledger, of an hour that has ended, too."""
    app = start()
    app.serve(account.customer, rounds=2)
    app.stop()
    clock.advance(HOUR)
    return app


@pytest.fixture
def befall(start, account, settle, left_behind):
    """A function that lets an app report to a *talk*; then, to Stripe. What it said of the first is the answer."""

    def befall(talk, **limits):
        with FaultyStripe(talk) as faulty:
            app = start(METERKIT_STRIPE_BASE=faulty.url, **limits)
            app.serve(account.customer)
            message = app.wait_for_trouble("report_failed")
            app.serve(account.customer)
            app.wait_until_flushed()
            books = app.books()
            assert 0 == app.stop()
        heir = start()
        heir.serve(account.customer)
        settle(heir, app, left_behind)
        assert {"counted": left_behind.counted + app.counted, "pending": left_behind.counted} == {
            place: quantity for place, quantity in books.items() if place != "unreported"
        }
        assert "could not be reported to Stripe" in app.said_of("report_failed")
        return message

    return befall


@pytest.mark.parametrize("wire", some(["breaks-off", "says-nothing"], among=WIRES))
def test_a_wire_that_breaks(befall, wire):
    """However an exchange ends, an event whose answer did not come is not sent, and is billed once in the end."""
    befall(WIRES[wire], **({"FAULTY_STRIPE_SECONDS": 0.2} if wire == "never-reads" else {}))


@pytest.mark.parametrize(
    "body",
    some(["of-somebody-else", "null", "a-text-as-error", "deep"], among=BODIES),
)
def test_an_answer_that_is_somebody_elses(befall, body):
    """Only an answer that names the event's own identifier is the event's."""
    befall(says(answer_of("200 OK", BODIES[body])))


@pytest.mark.parametrize(
    "refusal",
    some(["302-html", "400-json", "404-words", "413-html"], among=REFUSALS),
)
def test_a_refusal_that_is_not_stripes(befall, refusal):
    """A proxy may refuse a request, but only Stripe may refuse an event for good."""
    befall(REFUSALS[refusal])


@pytest.mark.parametrize("drip", some(["body"], among=DRIPS))
def test_an_answer_without_an_end(start, account, settle, left_behind, drip):
    """While it drips, requests are served, usage is flushed, and the app ends when it is told to; and all is billed."""
    with FaultyStripe(DRIPS[drip]) as faulty:
        app = start(METERKIT_STRIPE_BASE=faulty.url)
        app.serve(account.customer)
        assert faulty.asked.wait(GUARD)
        app.serve(account.customer, rounds=3)
        app.wait_until_flushed()
        books = app.books()
        assert 0 == app.stop()
    heir = start()
    heir.serve(account.customer)
    settle(heir, app, left_behind)

    assert left_behind.counted == books["pending"]


@pytest.mark.parametrize("drip", some(["body"], among=DRIPS))
def test_an_answer_without_an_end_is_given_up(befall, drip):
    """Each byte comes in time, the answer does not: the report ends, or nothing would be billed until a restart."""
    befall(DRIPS[drip], FAULTY_STRIPE_SECONDS=0.2)
