"""Subscriptions as they were: what an item cost until it was changed, and the states that a subscription was in."""

from __future__ import annotations

from dataclasses import replace

import pytest
import sqlalchemy as sa

from meterkit.accounts.accounts import Accounts
from meterkit.accounts.models import Item, Subscription
from meterkit.ledger import schema
from meterkit.ledger.database import Database

HOUR = 3600
ITEM = Item("si_1", "sub_1", "cus_1", "calls", None, 0, 720 * HOUR, '{"id": "price_a"}', meter="mtr_1", since=HOUR)
SUBSCRIPTION = Subscription("sub_1", "cus_1", "active", HOUR, None, None, 2 * HOUR, (ITEM,))


@pytest.fixture
def put(tmp_path):
    """Stores states of the subscription, each as of its time, and returns the rows of a table."""
    database = Database(f"sqlite:///{tmp_path}/ledger.sqlite")
    accounts = Accounts(database, clock=lambda: 0)

    def put(*states, table):
        for changed_at, state in states:
            with database.transaction() as connection:
                accounts.put(connection, state, changed_at=changed_at)
        with database.snapshot() as connection:
            return connection.execute(sa.select(table).order_by(table.c.since)).all()

    return put


def test_a_price_that_is_changed(put):
    other = replace(ITEM, price='{"id": "price_b"}')

    former = put(
        (2 * HOUR, SUBSCRIPTION),
        (9 * HOUR, replace(SUBSCRIPTION, items=(other,))),
        (12 * HOUR, replace(SUBSCRIPTION, items=(other,), checked_at=12 * HOUR)),
        table=schema.former_items,
    )
    (item,) = put(table=schema.items)

    assert [("si_1", HOUR, 9 * HOUR, '{"id": "price_a"}', "calls", "mtr_1")] == [
        (row.id, row.since, row.until, row.price, row.event_name, row.meter) for row in former
    ]
    assert ('{"id": "price_b"}', 9 * HOUR) == (item.price, item.since)


def test_an_item_that_is_removed(put):
    former = put(
        (2 * HOUR, SUBSCRIPTION),
        (9 * HOUR, replace(SUBSCRIPTION, items=())),
        (9 * HOUR, replace(SUBSCRIPTION, items=())),
        table=schema.former_items,
    )

    assert [("si_1", HOUR, 9 * HOUR)] == [(row.id, row.since, row.until) for row in former]
    assert [] == put(table=schema.items)


def test_states(put):
    paused = replace(SUBSCRIPTION, pause="void")

    states = put(
        (2 * HOUR, SUBSCRIPTION),
        (5 * HOUR, paused),
        (6 * HOUR, paused),
        (9 * HOUR, replace(SUBSCRIPTION, status="canceled")),
        table=schema.subscription_states,
    )

    assert [(HOUR, "active", None), (5 * HOUR, "active", "void"), (9 * HOUR, "canceled", None)] == [
        (row.since, row.status, row.pause) for row in states
    ]
