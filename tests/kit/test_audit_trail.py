"""Who did what: `by=`, and `kit.actions()`."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from meterkit import Meter, UsageError

AT = datetime(2026, 3, 1, 12, 5, tzinfo=timezone.utc)


@pytest.fixture
def kit(make_kit, stripe):
    """A kit that reports to the account."""
    return make_kit(Meter("calls"), Meter("later"), stripe_key=stripe.api_key, stripe_base=stripe.url)


def trail(kit):
    return [(each.action, each.subject, each.detail, each.by) for each in reversed(kit.actions())]


def test_links(kit, customer, clock):
    """Each link that the application makes, also of a company that had another; not those of Stripe's metadata."""
    kit.link("acme", "cus_1", by="ann@example.com")
    clock.advance(60)
    kit.link("acme", customer)
    kit.sync()

    assert [("link", "acme", "cus_1", "ann@example.com"), ("link", "acme", customer, None)] == trail(kit)
    assert [clock(), clock() - 60] == [each.at for each in kit.actions()]
    assert 1 == len(kit.actions(limit=1))


def test_corrections(kit, customer, stripe):
    """What Stripe does not have, and what it cancels; one that is refused leaves nothing."""
    kit.link("acme", customer)
    kit.record("calls", "acme", 100)
    kit.correct("calls", "acme", 30, at=AT, reason="outage", by="ann")
    kit.report(include_open=True)
    kit.correct("calls", "acme", 70, at=AT, by="bob")
    with pytest.raises(UsageError):
        kit.correct("calls", "acme", 70, at=AT, by="eve")

    window = int(AT.timestamp()) // 3600 * 3600
    assert [
        ("correct", "acme", f"30 of calls in the window {window}: outage", "ann"),
        ("correct", "acme", f"70 of calls in the window {window}: ", "bob"),
    ] == trail(kit)[1:]


def test_retries(kit, stripe):
    """Each event that is sent again."""
    kit.link("acme", "cus_nobody")
    kit.record("calls", "acme", 100)
    kit.report(include_open=True)
    (refused,) = kit.health()["refused"]

    assert 1 == kit.retry(by="ann")
    assert 0 == kit.retry(by="bob")
    assert [("retry", refused["identifier"], "reported again", "ann")] == trail(kit)[1:]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("arrived", "detail"), [(True, "arrived"), (False, "lost")])
def test_decisions(kit, customer, stripe, clock, arrived, detail):
    """Either way; and none about an event whose outcome is known."""
    kit.link("acme", customer)
    kit.record("calls", "acme", 100)
    stripe.fail("reset_after", times=100)
    kit.report(include_open=True)
    clock.advance(25 * 3600)
    stripe.fail("500", path=None, times=100, after=1)
    kit.report()
    (event,) = kit.health()["refused"]
    stripe.heal()
    assert not kit.decide("mk_other", arrived=arrived, by="eve")

    assert kit.decide(event["identifier"], arrived=arrived, by="ann")
    assert not kit.decide(event["identifier"], arrived=arrived, by="bob")
    assert [("decide", event["identifier"], detail, "ann")] == trail(kit)[1:]
    assert (100, True) == (
        kit.health()["books"]["calls"]["sent" if arrived else "unreported"],
        kit.health()["books"]["calls"]["balanced"],
    )


def test_wrong_names(kit):
    """They are refused, and nothing is done."""
    with pytest.raises(UsageError, match="by id must be a str"):
        kit.link("acme", "cus_1", by=7)
    with pytest.raises(UsageError, match="unprintable"):
        kit.link("acme", "cus_1", by="a\nb")

    assert [] == kit.actions()
    assert [] == kit.customers()
