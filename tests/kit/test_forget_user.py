"""`kit.forget_user()`: the id is gone, and not a unit of what is billed changes."""

from __future__ import annotations

import sqlite3

import pytest

from meterkit import Meter, UsageError, maximum, unique

HOUR = 3600


@pytest.fixture
def kit(make_kit, stripe):
    """A kit with all kinds of meters."""
    meters = [
        Meter("calls"),
        Meter("people", value=unique("user")),
        Meter("files", value=unique("file")),
        Meter("seats", value=maximum("seats")),
    ]
    return make_kit(*meters, stripe_key=stripe.api_key, stripe_base=stripe.url)


def everything(tmp_path):
    """All text in the ledger's file."""
    with sqlite3.connect(tmp_path / "meterkit" / "ledger.sqlite") as connection:
        said = "\n".join(connection.iterdump())
    connection.close()
    return said


def totals(kit):
    books = kit.health()["books"]
    assert all(of_meter["balanced"] for of_meter in books.values())
    return {meter: of_meter["counted"] for meter, of_meter in books.items()}


def test_the_id_is_gone_and_the_books_are_the_same(kit, clock, customer, tmp_path):
    """Reported usage, usage that waits, that of the company itself, and what other users did."""
    kit.link("acme", customer)
    for user in ("ann-7", "bob", None):
        kit.record("calls", "acme", 10, user=user)
    kit.record("people", "acme", user="ann-7")
    kit.record("people", "acme", user="bob")
    kit.record("files", "acme", value="ann-7")
    kit.record("seats", "acme", 5)
    kit.report(include_open=True)
    clock.advance(HOUR)
    kit.record("calls", "acme", 3, user="ann-7", key="job-1")
    kit.record("calls", "globex", 4, user="ann-7")
    kit.flush()
    before = totals(kit)

    assert 4 == kit.forget_user("acme", "ann-7", by="eve")

    assert before == totals(kit)
    by_user = {}
    for row in kit.usage(company="acme", meter="calls"):
        by_user[row.user] = by_user.get(row.user, 0) + row.quantity
    assert {None: 23, "bob": 10} == by_user
    assert [("globex", "ann-7", 4)] == [(row.company, row.user, row.quantity) for row in kit.usage(company="globex")]
    assert 1 == everything(tmp_path).count("ann-7")  # of globex
    (last, *_) = kit.actions()
    assert ("forget_user", "acme", "4 rows", "eve") == (last.action, last.subject, last.detail, last.by)


def test_stripe_gets_the_same(kit, clock, customer, stripe):
    """What was reported is not reported again, and the rest is."""
    kit.link("acme", customer)
    kit.record("calls", "acme", 10, user="ann")
    kit.report(include_open=True)
    kit.record("calls", "acme", 5, user="ann")
    kit.flush()
    kit.forget_user("acme", "ann")
    kit.report(include_open=True)

    assert 15 == stripe.usage("calls", customer)


def test_who_comes_back_does_not_count_twice(kit, clock):
    """In the same billing period; in the next, the user counts anew, and is not named either."""
    kit.record("people", "acme", user="ann")
    kit.forget_user("acme", "ann")
    kit.record("people", "acme", user="ann")
    kit.record("people", "acme", user="bob")
    kit.record("people", "globex", user="ann")
    kit.flush()
    assert 2 == sum(row.quantity for row in kit.usage(company="acme"))
    assert 1 == sum(row.quantity for row in kit.usage(company="globex"))

    clock.advance(31 * 24 * HOUR)
    kit.record("people", "acme", user="ann")
    kit.flush()
    assert 3 == sum(row.quantity for row in kit.usage(company="acme"))


def test_nobody_of_that_name(kit):
    """Nothing is changed; a wrong id is refused."""
    kit.record("calls", "acme", 10, user="bob")

    assert 0 == kit.forget_user("acme", "ann")
    assert ["bob"] == [row.user for row in kit.usage()]
    with pytest.raises(UsageError):
        kit.forget_user("acme", "")
