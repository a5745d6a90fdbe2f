"""What a sum cannot hold, made to fit one: unique values, and the highest, of a billing period."""

from __future__ import annotations

import json
import random
from datetime import datetime, timezone

import pytest
import sqlalchemy as sa
import thorough
from fake_clock import NOON
from plain_exchange import PlainExchange, serve

import meterkit
from meterkit import ConfigurationError, Identity, Meter, UsageError, maximum, unique
from meterkit.accounts.accounts import Accounts
from meterkit.ledger import schema

HOUR, DAY = 3600, 24 * 3600
PEOPLE = Meter("people", value=unique("user"))
DEVICES = Meter("devices", value=unique("device"))
SEATS = Meter("seats", value=maximum("seats"))
AGENTS = Meter("agents", value=unique(lambda exchange: exchange.headers.get("user-agent")))
BOUNDARY = NOON + 2 * DAY + 1234
"""The second in which a period of globex ends."""


@pytest.fixture
def kits(make_kit):
    """A function that makes kits which share a ledger, as processes do."""
    return lambda: make_kit(PEOPLE, DEVICES, SEATS, AGENTS, identify=lambda exchange: Identity("acme", "ada"))


def used(kit, **which):
    """By company and meter, the sum of what there is."""
    kit.flush()
    found = {}
    for row in kit.usage(**which):
        found[row.company, row.meter] = found.get((row.company, row.meter), 0) + row.quantity
    return found


def test_what_views_say(kits):
    """A user is counted once, a device once, the highest number of seats, and what a function finds."""
    kit = kits()

    def view(device, seats):
        meterkit.add_value("device", device)
        meterkit.add_usage("seats", seats)
        meterkit.add_usage("seats", seats - 1)

    for device, seats, agent in [("a", 5, "curl"), ("b", 3, "curl"), ("a", 9, "wget")]:
        serve(kit, PlainExchange(headers={"user-agent": agent}), view=lambda d=device, s=seats: view(d, s))
    kit.flush()
    serve(kit, view=lambda: view("c", 10))

    assert {("acme", "people"): 1, ("acme", "devices"): 3, ("acme", "seats"): 10, ("acme", "agents"): 2} == used(kit)
    assert kit.health()["books"]["seats"]["balanced"]
    assert {None} == {row.user for row in kit.usage()}


def test_outside_of_requests(kits):
    """``record()`` takes the user, a value, or the number itself."""
    kit = kits()
    kit.record("people", "acme", user="ada")
    kit.record("people", "acme", user="bob")
    kit.record("devices", "acme", value="x")
    kit.record("seats", "acme", 12)
    kit.record("seats", "acme", 7)
    with pytest.raises(UsageError, match="pass value= to record\\(\\)"):
        kit.record("devices", "acme")

    assert {("acme", "people"): 2, ("acme", "devices"): 1, ("acme", "seats"): 12} == used(kit)


def test_a_new_period_begins_at_nothing(kits, clock):
    """By the calendar, where Stripe has told of no subscription."""
    kit = kits()
    for _ in range(2):
        kit.record("people", "acme", user="ada")
        kit.record("seats", "acme", 5)
        kit.flush()
        clock.advance(31 * DAY)

    april = int(datetime(2026, 4, 1, tzinfo=timezone.utc).timestamp())
    assert {("acme", "people"): 2, ("acme", "seats"): 10} == used(kit)
    assert {("acme", "people"): 1, ("acme", "seats"): 5} == used(kit, since=april)


@pytest.fixture
def subscribe():
    """A function that writes down what Stripe has told of globex's subscription."""

    def subscribe(kit, start, end):
        with kit.process().database().transaction() as connection:
            connection.execute(sa.delete(schema.subscriptions))
            connection.execute(sa.delete(schema.items))
            about = {"id": "sub_1", "customer": "cus_1", "status": "active", "created": 0, "checked_at": 0}
            connection.execute(sa.insert(schema.subscriptions).values(about))
            item = {"id": "si_1", "subscription": "sub_1", "customer": "cus_1", "event_name": "people"}
            period = {"period_start": start, "period_end": end, "price": json.dumps({})}
            connection.execute(sa.insert(schema.items).values({**item, **period}))

    return subscribe


@pytest.mark.parametrize("seed", thorough.first([0], among=range(6)))
def test_it_equals_a_brute_force_count(kits, subscribe, clock, monkeypatch, seed):
    """Over several processes, kills, late usage, and a period that ends amid an hour: by a list of all that was."""
    chance = random.Random(seed)
    # As if each process looked all the time, though this clock runs.
    monkeypatch.setattr(Accounts, "boundaries", lambda *_, **__: {"globex": (BOUNDARY,)})
    first = kits()
    first.link("globex", "cus_1")
    subscribe(first, BOUNDARY - 10 * DAY, BOUNDARY)
    processes = [first, kits(), kits()]
    for kit in processes:
        kit.flush()
    seen, killed = [], []
    for _ in range(120):
        kit = chance.choice(processes)
        company, value = chance.choice(["acme", "globex"]), chance.randrange(12)
        ago = chance.choice([0, 0, 0, chance.randrange(3 * DAY)])
        moment = int(clock()) - ago
        at = datetime.fromtimestamp(moment, timezone.utc) if ago else None
        kit.record("people", company, user=f"user {value}", at=at)
        kit.record("seats", company, value, at=at)
        seen.append((company, moment, value))
        if chance.random() < 0.1:
            # Killed: what it counted is adopted by the next that flushes.
            kit.process().journal.close()
            killed.append(kit.process())
            kit._supervisor._runtime = None
        elif chance.random() < 0.3:
            kit.flush()
        clock.advance(chance.choice([1, 600, HOUR]))
    for kit in processes:
        kit.flush()
    for process in killed:
        process.close()  # which ends its thread

    assert brute(seen) == used(first)
    assert all(books["balanced"] for books in first.health()["books"].values())


def brute(seen):
    people, seats = {}, {}
    for company, moment, value in seen:
        month = datetime.fromtimestamp(moment, timezone.utc).month
        period = (moment >= BOUNDARY) if company == "globex" else month
        people.setdefault((company, period), set()).add(value)
        seats[company, period] = max(seats.get((company, period), 0), value)
    found = {}
    for (company, _), values in people.items():
        found[company, "people"] = found.get((company, "people"), 0) + len(values)
    for (company, _), highest in seats.items():
        found[company, "seats"] = found.get((company, "seats"), 0) + highest
    return {pair: quantity for pair, quantity in found.items() if quantity}


def test_a_subscription_that_is_told_late(kits, subscribe, clock):
    """What was counted in the period before it was known, is in it: nobody is counted twice on one invoice."""
    kit = kits()
    kit.link("globex", "cus_1")
    for user in ("ada", "bob"):
        kit.record("people", "globex", user=user)
    kit.record("seats", "globex", 10)
    kit.flush()
    subscribe(kit, NOON, NOON + 30 * DAY)
    clock.advance(HOUR)
    for user in ("ada", "eve"):
        kit.record("people", "globex", user=user)
    kit.record("seats", "globex", 12)

    assert {("globex", "people"): 3, ("globex", "seats"): 12} == used(kit)


def test_a_boundary_that_is_told_late(kits, subscribe, clock):
    """What a new period has to have of the highest, it has with the next that is seen."""
    kit = kits()
    kit.link("globex", "cus_1")
    kit.record("seats", "globex", 10)
    kit.flush()
    clock.advance(2 * HOUR)
    kit.record("seats", "globex", 12)
    kit.flush()
    subscribe(kit, NOON + HOUR, NOON + 30 * DAY)
    clock.advance(HOUR)
    kit.record("seats", "globex", 8)
    kit.record("seats", "globex", 12)

    assert 12 == used(kit, since=NOON + HOUR)["globex", "seats"]


def test_stripe_gets_the_increase(make_kit, stripe, customer, clock):
    """A sum of two users is two, over the hours."""
    kit = make_kit(Meter("calls", value=unique("user")), stripe_key=stripe.api_key, stripe_base=stripe.url)
    kit.link("acme", customer)
    for users in (["ada"], ["ada", "bob"], ["bob"]):
        for user in users:
            kit.record("calls", "acme", user=user)
        clock.advance(HOUR)
        kit.report()

    assert [1, 1] == [event.value for event in stripe.meter_events]
    assert 2 == stripe.usage("calls", customer)


def test_what_cannot_be_counted_is_named(kits, make_kit):
    """And the other meters count."""
    kit = make_kit(
        PEOPLE, DEVICES, Meter("calls"), Meter("bad", value=unique(lambda exchange: 1 / 0)), identify=lambda _: "acme"
    )
    serve(kit, view=lambda: meterkit.add_value("device", 5))

    assert {("acme", "calls"): 1} == used(kit)
    assert {"no_user", "value_not_str", "value_raised"} <= kit.health()["problems"].keys()


@pytest.mark.parametrize("make", [lambda: unique(""), lambda: maximum(5), lambda: unique(None)])
def test_what_is_wrong_is_said_while_building(make):
    """With the cure."""
    with pytest.raises(ConfigurationError, match="needs a name or a plain function"):
        make()
