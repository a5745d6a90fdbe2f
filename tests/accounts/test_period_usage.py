"""What a company has used in its current period, followed in memory: always what a look at all usage would find."""

from __future__ import annotations

import json
import random
from datetime import datetime, timezone

import pytest
import sqlalchemy as sa
from fake_clock import NOON

from meterkit import Meter
from meterkit.accounts.period_usage import PeriodUsage
from meterkit.ledger import schema

HOUR, DAY = 3600, 24 * 3600
ANCHOR = NOON - 5 * DAY + 1234
"""The second in which globex's period begins: amid an hour, amid a day."""


@pytest.fixture
def kit(make_kit):
    return make_kit(Meter("calls"), Meter("egress"))


@pytest.fixture
def usage(kit):
    """It follows the kit's ledger."""
    return PeriodUsage(kit.process().database())


@pytest.fixture
def tell(kit):
    """A function that writes down what Stripe has told of globex's subscription."""

    def tell(start, end, *, now):
        with kit.process().database().transaction() as connection:
            connection.execute(sa.delete(schema.subscriptions))
            connection.execute(sa.delete(schema.items))
            about = {"id": "sub_1", "customer": "cus_1", "status": "active", "created": 0, "checked_at": int(now)}
            connection.execute(sa.insert(schema.subscriptions).values(about))
            item = {"id": "si_1", "subscription": "sub_1", "customer": "cus_1", "event_name": "calls"}
            period = {"period_start": start, "period_end": end, "price": json.dumps({})}
            connection.execute(sa.insert(schema.items).values({**item, **period}))

    return tell


def brute(kit, begins):
    found = {}
    for row in kit.usage():
        if row.company and row.window >= begins[row.company]:
            pair = (row.company, row.meter)
            found[pair] = found.get(pair, 0) + row.quantity
    return found


def nonzero(used):
    return {pair: quantity for pair, quantity in used.items() if quantity}


@pytest.mark.parametrize("seed", range(5))
def test_it_follows_what_happens(kit, usage, tell, clock, seed):
    """Usage of now and of the past, corrections, and a period that begins amid an hour and ends in the story."""
    chance = random.Random(seed)
    kit.link("globex", "cus_1")
    tell(ANCHOR, ANCHOR + 6 * DAY, now=clock())
    for _ in range(40):
        company, meter = chance.choice(["acme", "globex", "cus_1"]), chance.choice(["calls", "egress"])
        ago = chance.choice([None, None, chance.randrange(34 * DAY)])
        at = None if ago is None else datetime.fromtimestamp(clock() - ago, timezone.utc)
        kit.record(meter, company, chance.randrange(1, 100), user=chance.choice([None, "ada"]), at=at)
        if chance.random() < 0.5:
            kit.flush()
            usage.refresh(int(clock()))
        clock.advance(chance.choice([1, 60, HOUR, 5 * HOUR]))
    kit.flush()
    usage.refresh(int(clock()))

    march = int(datetime(2026, 3, 1, tzinfo=timezone.utc).timestamp())
    begin = ANCHOR if clock() < ANCHOR + 6 * DAY else ANCHOR + 6 * DAY
    begins = {"acme": march, "globex": begin, "cus_1": begin}
    assert brute(kit, begins) == nonzero(usage.used)
    assert nonzero(fresh(kit, clock)) == nonzero(usage.used)


def fresh(kit, clock):
    other = PeriodUsage(kit.process().database())
    other.refresh(int(clock()))
    return other.used


def test_only_what_has_changed_is_looked_at(kit, usage, clock):
    """However much there is."""
    for number in range(20):
        kit.record("calls", f"company {number}", 1)
    kit.flush()
    changes = usage.changes()
    usage.refresh(int(clock()))
    first = changes.pending()
    changes.settle(first)
    kit.record("calls", "company 7", 1)
    kit.flush()
    usage.refresh(int(clock()))
    second = changes.pending()
    changes.settle(second)
    usage.refresh(int(clock()))

    assert 20 == len(first)
    assert {("company 7", "calls")} == second.keys()
    assert {} == changes.pending()
    assert 2 == usage.used["company 7", "calls"]


def test_what_is_not_settled_stays(kit, usage, clock):
    """Each asker settles for itself; what has changed again meanwhile is not settled by what was seen before."""
    kit.record("calls", "acme", 1)
    kit.flush()
    usage.refresh(int(clock()))
    one, other = usage.changes(), usage.changes()
    seen = one.pending()
    kit.record("calls", "acme", 1)
    kit.flush()
    usage.refresh(int(clock()))
    one.settle(seen)
    again = one.pending()
    one.settle(again)

    assert {("acme", "calls")} == seen.keys() == again.keys() == other.pending().keys()
    assert {} == one.pending()


def test_a_period_that_is_told_anew(kit, usage, tell, clock):
    """The subscription began today: what was used before is not of its period; told in the same second, twice."""
    kit.link("globex", "cus_1")
    kit.record("calls", "globex", 5, at=datetime.fromtimestamp(clock() - 2 * HOUR, timezone.utc))
    kit.record("calls", "globex", 7)
    kit.flush()
    usage.refresh(int(clock()))
    by_month = usage.used["globex", "calls"]
    tell(int(clock()) - 3 * HOUR, int(clock()) + DAY, now=clock())
    usage.refresh(int(clock()))
    tell(int(clock()) - HOUR, int(clock()) + DAY, now=clock())
    usage.refresh(int(clock()))

    assert 12 == by_month
    assert 7 == usage.used["globex", "calls"]


def test_what_is_taken_back(kit, usage, stripe_free_correction, clock):
    """A correction lowers the sum."""
    kit.record("calls", "acme", 9)
    kit.flush()
    usage.refresh(int(clock()))
    stripe_free_correction(4)
    usage.refresh(int(clock()))

    assert 5 == usage.used["acme", "calls"]


@pytest.fixture
def stripe_free_correction(make_kit, clock):
    """A function that takes back calls of acme of this hour, none of which have been reported."""

    def correct(quantity):
        reporter = make_kit(Meter("calls"), stripe_key="sk_test_1", stripe_base="http://127.0.0.1:9").process()
        reporter.stripe_jobs.reporter().correct(
            company="acme", meter="calls", event_name="calls", at=int(clock()), quantity=quantity, reason="a test"
        )

    return correct
