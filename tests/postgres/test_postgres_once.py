"""Keys of records, the audit trail and erasure, which stand in `tests/kit`, on PostgreSQL."""

from __future__ import annotations

import threading

import pytest
from test_audit_trail import test_corrections, test_links
from test_forget_user import test_stripe_gets_the_same, test_who_comes_back_does_not_count_twice
from test_record_keys import test_a_key_is_of_one_meter_and_company, test_the_first_quantity_counts

from meterkit import Meter, unique
from meterkit.events.counter import Sender
from meterkit.events.event import Attributes

pytestmark = pytest.mark.long

__all__ = [  # what pytest is to find here
    "test_a_key_is_of_one_meter_and_company",
    "test_corrections",
    "test_links",
    "test_stripe_gets_the_same",
    "test_the_first_quantity_counts",
    "test_who_comes_back_does_not_count_twice",
]


@pytest.fixture
def kit(make_kit, stripe):
    """A kit that reports to the account, for the audit trail and for erasure."""
    meters = [Meter("calls"), Meter("people", value=unique("user"))]
    return make_kit(*meters, stripe_key=stripe.api_key, stripe_base=stripe.url)


def test_hosts_that_flush_at_once(make_kit):
    """The same jobs on four hosts, in four orders: each counts once, and nobody waits for nobody."""
    jobs = [f"job-{number}" for number in range(40)]
    kits = [make_kit() for _ in range(4)]
    for at, kit in enumerate(kits):
        for job in [*jobs[at * 10 :], *jobs[: at * 10]]:
            kit.record("calls", "acme", 3, key=job)
    together = [threading.Thread(target=kit.flush) for kit in kits]
    for each in together:
        each.start()
    for each in together:
        each.join()

    assert 120 == sum(row.quantity for row in kits[0].usage())
    assert kits[0].health()["books"]["calls"]["balanced"]


def test_an_event_on_two_hosts(make_kit):
    """Sent again to another host, for another company, with ids up to the longest: it counts once."""
    ids = ["e-1", "ü" * 195, "😀" * 16_000]
    for company in ("acme", "globex"):
        kit = make_kit(Meter("calls", event_type="call"))
        batch = kit.event_counter().batch(Sender("shop"), strict=False)
        batch.add(Attributes({"id": each, "type": "call", "subject": company}, None) for each in ids)
        batch.check()
        assert batch.store()
        kit.flush()

    assert [("acme", 3)] == [(row.company, row.quantity) for row in kit.usage()]
    assert kit.health()["books"]["calls"]["balanced"]
