"""A Stripe that refuses the key, answers badly or is away for weeks: the app serves, and nothing is billed twice."""

from __future__ import annotations

import random
import re
import socket
from contextlib import suppress

import pytest
from faulty_shop import HOUR, Account
from guard import GUARD

from meterkit.sandbox import Sandbox

pytestmark = [pytest.mark.long, pytest.mark.thorough]

DAY = 24 * HOUR
PAST = 35 * DAY
"""Stripe: the oldest event that it takes."""


@pytest.fixture
def left_behind(start, account, clock):
    """What an app that has ended left in the ledger, of an hour that has ended, too."""
    app = start()
    app.serve(account.customer, rounds=2)
    app.stop()
    clock.advance(HOUR)
    return app


@pytest.mark.parametrize(
    ("status", "environment"),
    [("401", {"STRIPE_SECRET_KEY": "sk_test_revoked"}), ("no Stripe key", {"STRIPE_SECRET_KEY": ""})],
    ids=["revoked", "none"],
)
def test_a_key_that_is_revoked_and_renewed(start, account, settle, left_behind, status, environment):
    """One sentence says whose fault it is; with the new key, everything goes out."""
    reason = "report_failed" if environment["STRIPE_SECRET_KEY"] else "no_stripe_key"
    app = start(**environment)
    app.serve(account.customer)
    message = app.wait_for_trouble(reason) if environment["STRIPE_SECRET_KEY"] else app.ask("health")["attention"][0]
    app.serve(account.customer)
    app.wait_until_flushed()
    app.ask("report")
    sent = account.billed
    app.stop()
    renewed = start()
    renewed.serve(account.customer)
    settle(renewed, app, left_behind)

    assert 0 == sent
    assert status in message
    assert "STRIPE_SECRET_KEY" in message
    assert "STRIPE_SECRET_KEY" in app.said_of(reason)


BAD = ["empty", "html", "500", "502", "502_after", "reset_before", "reset_after", "429"]


@pytest.mark.parametrize("fault", BAD)
def test_bad_answers(start, account, settle, left_behind, fault):
    """Before or after Stripe did its work: the log says what it was, and the sum is right in the end."""
    account.sandbox.fail(fault, times=1000)
    app = start()
    app.serve(account.customer)
    app.wait_for_trouble("report_failed")
    app.serve(account.customer)
    app.wait_until_flushed()
    marked = app.books().get("sent", 0)
    account.sandbox.heal()
    settle(app, left_behind)

    assert 0 == marked
    assert "usage could not be reported to Stripe" in app.said_of("report_failed")


@pytest.mark.parametrize("fault", ["slow", "timeout_before", "timeout_after"])
def test_answers_that_do_not_come(start, account, settle, left_behind, fault):
    """While the reporter waits, requests are served, usage is flushed, and the app can end; all is billed once."""
    held = account.sandbox.fail(fault)
    app = start()
    app.serve(account.customer)
    assert held.wait(GUARD)
    app.serve(account.customer, rounds=3)
    app.wait_until_flushed()
    books = app.books()
    assert 0 == app.stop()
    account.sandbox.heal()
    heir = start()
    heir.serve(account.customer)
    settle(heir, app, left_behind)  # after an hour: a lost lease is kept for a minute

    assert left_behind.counted + app.counted == books["counted"]
    assert left_behind.counted == books["pending"]


class Away:
    """A Stripe that comes back at the address from which it went away."""

    def __init__(self, clock):
        self._sandbox = None
        while self._sandbox is None:
            # Below the ports that the system gives away by itself, so that nobody gets it meanwhile.
            port = random.randrange(20_000, 30_000)
            with suppress(OSError), socket.create_server(("127.0.0.1", port)):
                self._sandbox = Sandbox(now=clock, port=port)

    def __enter__(self):
        self._sandbox.start()
        return self._sandbox

    def __exit__(self, *_):
        self._sandbox.stop()


@pytest.mark.parametrize("absence", ["refused", "broken"])
def test_forty_days_without_stripe(start, clock, absence):
    """Connections are refused, or break: what is too old is named with Stripe's words, the rest is billed."""
    with Away(clock) as sandbox:
        account = Account(sandbox)
        app = start(**account.environment)
        if absence == "refused":
            sandbox.stop()
        else:
            sandbox.fail("reset_before", path=None, times=10**6)
        days = []
        for _ in range(40):
            app.serve(account.customer)
            app.ask("flush")
            days.append((clock.now, 3))
            clock.advance(DAY)
            app.ask("clock", now=clock.now)
            assert 0 == app.ask("report")["sent"]
        if absence == "refused":
            sandbox.start()
        sandbox.heal()
        for _ in range(2):
            app.ask("report")
        billed = sum(calls for day, calls in days if day >= clock.now - PAST)
        health = app.ask("health")

        assert (billed, 3 * 40 - billed) == (account.billed, app.books()["rejected"])
        assert {"counted": 120, "sent": billed, "rejected": 120 - billed} == app.books()
        assert {True} == {"35 days" in each["error"] for each in health["refused"]}
        assert 120 - billed == sum(each["quantity"] for each in health["refused"])
        assert any(re.search("35 days", sentence) for sentence in health["attention"])
