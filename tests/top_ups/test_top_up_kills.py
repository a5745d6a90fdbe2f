"""Whenever a process is killed, whatever Stripe's response was, and however many processes there are: one charge."""

from __future__ import annotations

import threading

import pytest
from thorough import first
from topped_up import DAY, agree, left, top_up, use

from meterkit.stripe_api.transport import HTTPXClient
from meterkit.top_ups.attempts import CLAIM_SECONDS

LONG_AFTER = 2 * DAY
"""Stripe has forgotten all keys by then."""

FAULTS = ("500", "500_after", "502_after", "reset_before", "reset_after", "empty", "lock_timeout")


class Killed(BaseException):
    """No code of a process runs after it was killed."""


def kill(monkeypatch, at, *, after):
    """Let the process be killed at its request number *at*, before it is sent or after it was carried out."""
    requests, send = iter(range(1_000)), HTTPXClient.request

    def request(self, *args, **options):
        is_last = next(requests) == at
        if is_last and not after:
            raise Killed
        response = send(self, *args, **options)
        if is_last:
            raise Killed
        return response

    monkeypatch.setattr(HTTPXClient, "request", request)


@pytest.mark.parametrize("waits", [CLAIM_SECONDS, LONG_AFTER])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", first([0, 2, 5, 7], among=range(12)))
def test_a_kill_between_two_requests(kit, make_selling_kit, shop, clock, monkeypatch, at, after, waits):
    """Another process goes on where it was."""
    agree(kit)
    with monkeypatch.context() as patched:
        kill(patched, at, after=after)
        try:
            top_up(kit)
            was_killed = False
        except Killed:
            was_killed = True
    clock.advance(waits)
    other = make_selling_kit()
    top_up(other)
    top_up(other)

    assert [("paid", 1000)] == shop.invoices()
    assert (1_000, []) == (left(other), other.audit_wallets())
    assert was_killed or at >= 9


@pytest.mark.parametrize("kind", first(["500_after", "reset_after"], among=FAULTS))
@pytest.mark.parametrize("at", first([0, 3, 6], among=range(10)))
def test_responses_that_do_not_arrive(kit, shop, stripe, clock, kind, at):
    """What Stripe has done by then is not done again."""
    agree(kit)
    stripe.fail(kind, path=None, after=at)
    for _ in range(4):
        top_up(kit)
        clock.advance(61)

    assert (1000, 1_000) == (shop.charged(), left(kit))
    assert ["paid"] == [status for status, _ in shop.invoices() if status not in ("void", "draft")]


def test_many_processes_at_once(kit, make_selling_kit, shop):
    """One of them charges; all of them look."""
    agree(kit)
    kits = [kit, *(make_selling_kit() for _ in range(3))]
    for _ in range(3):
        threads = [threading.Thread(target=top_up, args=(each,)) for each in kits]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        use(kit, 1_000)

    assert 3 * [("paid", 1000)] == shop.invoices()


@pytest.mark.parametrize("at", range(1, 8))
def test_an_agreement_that_ends_meanwhile(kit, shop, clock, monkeypatch, at):
    """What is not paid by then is not charged; what is paid is granted."""
    agree(kit)
    with monkeypatch.context() as patched:
        kill(patched, at, after=True)
        with pytest.raises(Killed):
            top_up(kit)
    kit.cancel_top_up("acme", "credits")
    clock.advance(CLAIM_SECONDS)
    top_up(kit)
    top_up(kit)

    assert shop.charged() == left(kit)
    assert not {"draft", "open"} & {status for status, _ in shop.invoices()}
