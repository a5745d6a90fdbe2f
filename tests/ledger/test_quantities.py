"""Sums beyond 64 bits: whoever has so much usage gets it counted exactly, and nobody else notices."""

from __future__ import annotations

import json
import sqlite3
from datetime import datetime, timezone

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from meterkit import Governance, Meter, Price, Quota
from meterkit.core.validation import MAX_QUANTITY
from meterkit.ledger.bulk import add_to
from meterkit.ledger.schema import quantities
from meterkit.ledger.schema.quantities import Quantity, added, subtracted, sum_of

pytestmark = pytest.mark.thorough

TIMES = 9_300
HUGE = TIMES * MAX_QUANTITY
HOUR = 3600
CALLS = Meter("calls")
PRICES = [Price.per_unit(CALLS, "0.000001")]


def test_a_company_with_more_than_64_bits_stops_nobody(make_kit, clock):
    """All figures are exact, in whatever way they are asked for, and those of the others are reported on."""
    assert HUGE > 2**63
    kit = make_kit(
        CALLS, prices=PRICES, identify=lambda _: None, governance=Governance(quotas=[Quota(CALLS, MAX_QUANTITY)])
    )
    for _ in range(TIMES):
        kit.record("calls", "evil", MAX_QUANTITY)
    kit.record("calls", "evil", 7, user="anna")
    kit.record("calls", "honest", 5)

    kit.flush()
    kit.record("calls", "evil", 3)
    kit.flush()
    clock.advance(HOUR)
    kit.record("calls", "evil", 11)
    kit.flush()
    health = kit.health()
    (bill, other) = kit.simulate(former=PRICES)

    assert sorted([("evil", "anna", 7), ("evil", "", HUGE + 3), ("evil", "", 11), ("honest", "", 5)]) == sorted(
        (each.company, each.user or "", each.quantity) for each in kit.usage()
    )
    assert (HUGE + 26, HUGE + 26, True) == tuple(
        health["books"]["calls"][each] for each in ("counted", "unlinked", "balanced")
    )
    assert {"evil": {"calls": HUGE + 21}, "honest": {"calls": 5}} == {
        each.company: each.waiting for each in kit.customers()
    }
    assert ({"calls": HUGE + 21}, {"calls": 5}) == (bill.used, other.used)
    assert "flush_failed" not in health["problems"]
    json.dumps(health)


def test_a_correction_of_what_exceeds_64_bits(make_kit, clock, stripe):
    """It is exact, too."""
    kit = make_kit(CALLS, stripe_key=stripe.api_key, stripe_base=stripe.url)
    for _ in range(TIMES):
        kit.record("calls", "evil", MAX_QUANTITY)
    kit.flush()
    at = datetime.fromtimestamp(clock(), timezone.utc)
    kit.correct("calls", "evil", MAX_QUANTITY, at=at)

    assert [HUGE - MAX_QUANTITY] == [each.quantity for each in kit.usage()]
    assert kit.health()["books"]["calls"]["balanced"]
    assert HUGE - MAX_QUANTITY == kit.health()["books"]["calls"]["counted"]


def test_the_rest_of_an_hour_is_reported(make_kit, stripe, customer, clock):
    """In meter events of 15 digits each, which is what Stripe takes."""
    kit = make_kit(CALLS, stripe_key=stripe.api_key, stripe_base=stripe.url)
    kit.link("acme", customer)
    for _ in range(3):
        kit.record("calls", "acme", MAX_QUANTITY)
    clock.advance(HOUR)

    summary = kit.report()

    assert (3, 3, 0) == (summary.sealed, summary.sent, summary.rejected)
    assert 3 * MAX_QUANTITY == stripe.usage("calls", customer)
    assert 3 * MAX_QUANTITY == kit.health()["books"]["calls"]["sent"]
    assert kit.health()["books"]["calls"]["balanced"]


@pytest.mark.long
def test_all_of_it_is_reported(make_kit, stripe, customer, clock):
    """Thousands of meter events, and the books balance."""
    kit = make_kit(CALLS, prices=PRICES, stripe_key=stripe.api_key, stripe_base=stripe.url)
    kit.link("acme", customer)
    for _ in range(TIMES):
        kit.record("calls", "acme", MAX_QUANTITY)
    clock.advance(HOUR)

    kit.report()
    books = kit.health()["books"]["calls"]

    assert HUGE == stripe.usage("calls", customer)
    assert (HUGE, HUGE, True) == (books["counted"], books["sent"], books["balanced"])


BIG = st.integers(-(2**62), 2**70) | st.integers(2**63 - 3, 2**63 + 3) | st.integers(0, 99)


@pytest.fixture(scope="module")
def engine():
    """SQLite in memory, with the functions."""
    made = sa.create_engine("sqlite://")
    sa.event.listen(made, "connect", lambda connection, _: quantities.register(connection))
    yield made
    made.dispose()


@given(rows=st.lists(st.tuples(BIG, BIG), max_size=9))
def test_sqlite_computes_as_python_does(engine, rows):
    """Sums, differences and sums of differences, of whatever size."""
    check_arithmetic(engine, rows)


def check_arithmetic(engine, rows):
    """What the database makes of these pairs of quantities."""
    table = sa.Table(
        "pairs",
        sa.MetaData(),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("one", Quantity, nullable=False),
        sa.Column("other", Quantity, nullable=False),
        prefixes=["TEMPORARY"],
    )
    one, other = table.c.one, table.c.other
    with engine.begin() as connection:
        table.create(connection)
        numbered = [(number, *pair) for number, pair in enumerate(rows)]
        for _ in range(2) if rows else ():
            add_to(table, connection, numbered, add="one")
        query = sa.select(one, other, added(one, other), subtracted(one, other)).order_by(table.c.number)
        found = [tuple(row) for row in connection.execute(query)]
        sums = connection.execute(sa.select(sum_of(one), sum_of(subtracted(one, other)))).one()
        unequal = connection.scalar(sa.select(sa.func.count()).select_from(table).where(one != other))
        table.drop(connection)

    assert [(2 * a, b, 2 * a + b, 2 * a - b) for a, b in rows] == found
    assert unequal == sum(2 * a != b for a, b in rows)
    assert ((sum(2 * a for a, _ in rows), sum(2 * a - b for a, b in rows)) if rows else (None, None)) == tuple(sums)


def test_a_large_quantity_in_sqlite_is_in_order(tmp_path):
    """So that SQL which compares quantities finds what it should."""
    found = sorted([2**64, 5, 2**63 - 1, 10**30, 2**63, 10**19, 9 * 10**18])
    with sqlite3.connect(tmp_path / "some.sqlite") as connection:
        connection.execute("CREATE TABLE some (quantity BIGINT)")
        connection.executemany("INSERT INTO some VALUES (?)", [(quantities.stored(each),) for each in reversed(found)])
        ordered = connection.execute("SELECT quantity FROM some ORDER BY quantity").fetchall()
    connection.close()

    assert [quantities.stored(each) for each in found] == [each for (each,) in ordered]
