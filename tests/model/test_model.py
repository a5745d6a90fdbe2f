"""
Whatever happens, in any order: nothing that was counted is lost, and nothing is billed twice.

``METERKIT_TEST_EXAMPLES`` makes it a long run.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from figures import note_figure
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from model_clocks import DAY, HOUR
from model_machine import Model
from model_postgres import SharedWorld
from model_process import STEPS
from model_world import World
from model_zygote import NO_PLAN
from real_postgres import RealPostgres

pytestmark = pytest.mark.long

EXAMPLES = int(os.environ.get("METERKIT_TEST_EXAMPLES", "3"))
STORY = 25
"""Steps."""


def run(make_world: Callable[[], World], what: str, examples: int) -> None:
    """Let hypothesis look for a story that ends badly."""
    note_figure("model", world=what, examples=examples, steps=STORY)
    run_state_machine_as_test(
        lambda: Model(make_world()),
        settings=settings(
            max_examples=examples,
            stateful_step_count=STORY,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_one_host_loses_and_doubles_nothing_whatever_happens(zygote):
    """Three processes, with SQLite."""
    run(lambda: World(zygote), "one host with SQLite", EXAMPLES)


def test_many_hosts_lose_and_double_nothing_whatever_happens(zygote):
    """Three processes on two hosts, whose clocks differ, with PostgreSQL."""
    with RealPostgres() as server:
        run(lambda: SharedWorld(zygote, server), "two hosts with one PostgreSQL", max(1, EXAMPLES // 2))


def test_the_model_interrupts_around_everything_that_others_see(world):
    """Every kind of step is on the way of a report: if one moves, the model must follow."""
    world.count(0, "calls", "cus", 1)

    passed = world.do(0, "steps_of", operation="report", include_open=True).value

    assert set(STEPS) == set(passed)


def test_the_model_kills_and_holds_where_it_is_told_to(world):
    """A process that is killed before it sends the event leaves that to another, and so does one that is held there."""
    world.count(0, "calls", "cus", 1)
    ends, sent = [], []
    for who, plan in ((0, ("crash", "before request", 2)), (1, ("hold", "before request", 2))):
        ends.append(world.do_alone(who, "report", plan=plan, include_open=True).end)
        sent.append(len(world.stripe.meter_events))
        world.wait(61)
    world.go_on(1)

    assert (["died", "held"], [0, 0], 1) == (ends, sent, len(world.stripe.meter_events))


def test_the_model_follows_what_is_paid_ahead(world):
    """What a killed process has held comes back, and what another one settles is spent."""
    machine = Model(world)
    world.grant(0, "acme", 10, plan=("crash", "after commit", 1), lasts=None, priority=0)
    world.hold(0, 1, "acme", 8, plan=NO_PLAN)
    world.hold(1, 2, "acme", 12, plan=NO_PLAN)
    world.hold(2, 3, "acme", 1, plan=NO_PLAN)
    first, second = world.prepaid.holds()
    world.count(1, "egress", "cus", 4)
    world.settle(second, 12, plan=NO_PLAN)
    world.kill(0)
    world.revoke(2, 0, plan=("crash", "before commit", 1))
    machine.the_books_balance()
    found = world.come_to_rest() and world.do(0, "prepaid", companies=["acme", "mover"]).value

    assert (8, 12, {"eu": 4}) == (first.quantity, second.quantity, found["by_region"])
    assert {"granted": "10", "spent": "6", "revoked": "0", "left": "4"} == {
        name: found["balances"]["acme"][name] for name in ("granted", "spent", "revoked", "left")
    }
    machine._look_at_wallets(found)


@pytest.mark.parametrize("fault", ["reset_after", "502_after"])
def test_a_refusal_that_is_lost_on_the_way_is_not_taken_for_a_delivery(make_world, fault):
    """Stripe has no such meter yet; the refusal may use the identifier up, and to send it again is then a duplicate."""
    world = make_world(rejected_consumes_identifier=True)
    world.count(0, "later", "cus", 3)
    world.wait(HOUR)
    world.stripe.fail(fault, times=4)
    for _ in range(2):
        world.do_alone(0, "report", plan=NO_PLAN, include_open=False)
    world.stripe.make_meter("later")
    for _ in range(4):
        world.do_alone(0, "report", plan=NO_PLAN, include_open=False)
        world.wait(DAY)

    health = world.do(0, "health").value
    billed = sum(world.stripe.billed(world.payer).values())
    assert 3 == billed + sum(each["quantity"] for each in health["refused"])
