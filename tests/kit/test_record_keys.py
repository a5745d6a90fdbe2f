"""``record(key=)``: work that is delivered more than once counts once."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime, timezone

import pytest
import sqlalchemy as sa
from guard import UNHURRIED

from meterkit import Meter, UsageError, maximum, unique

DAY = 24 * 3600


def used(kit, **which):
    kit.flush()
    return [(row.company, row.user, row.quantity) for row in kit.usage(**which)]


def test_the_same_key_counts_once(make_kit, clock):
    """In one generation, in the next, in another hour, in another process's kit; and the books balance."""
    kit, other = make_kit(), make_kit()
    for each in (kit, kit, other):
        each.record("calls", "acme", 37, user="ann", key="job-17")
    assert [("acme", "ann", 37)] == used(kit)

    clock.advance(3 * 3600)
    for each in (kit, other):
        each.record("calls", "acme", 37, user="ann", key="job-17")
        each.flush()

    assert [("acme", "ann", 37)] == used(kit)
    books = kit.health()["books"]["calls"]
    assert (37, True) == (books["counted"], books["balanced"])
    assert {} == {reason: each for reason, each in kit.health()["problems"].items() if reason != "no_stripe_key"}


def test_a_key_is_of_one_meter_and_company(make_kit):
    """The same key of another company, of another meter, another key, and none at all are other work."""
    kit = make_kit(Meter("calls"), Meter("pages"))
    kit.record("calls", "acme", 1, key="1")
    kit.record("calls", "globex", 2, key="1")
    kit.record("pages", "acme", 4, key="1")
    kit.record("calls", "acme", 8, key="2")
    kit.record("calls", "acme", 16)
    kit.record("calls", "acme", 16)

    assert [("acme", None, 1 + 8 + 32), ("globex", None, 2)] == used(kit, meter="calls")
    assert [("acme", None, 4)] == used(kit, meter="pages")


def test_the_first_quantity_counts(make_kit, clock):
    """Another quantity under the same key is not counted, and named; also in the same flush."""
    kit = make_kit()
    kit.record("calls", "acme", 37, key="job-17")
    clock.advance(1)
    kit.record("calls", "acme", 40, key="job-17")
    assert [("acme", None, 37)] == used(kit)
    kit.record("calls", "acme", 41, key="job-17")

    assert [("acme", None, 37)] == used(kit)
    problem = kit.health()["problems"]["key_reused"]
    assert 2 == problem["count"]
    assert "counted 37" in problem["message"]
    assert "again with 41" in problem["message"]


def test_a_key_is_remembered_for_35_days(make_kit, clock):
    """After that, it counts anew."""
    kit = make_kit()
    kit.record("calls", "acme", 1, key="job-17")
    kit.close()
    clock.advance(35 * DAY)
    kit.record("calls", "acme", 1, key="job-17")
    kit.close()  # with its chores
    assert [("acme", None, 1)] == used(kit)

    clock.advance(1)
    kit.record("calls", "globex")
    kit.close()  # the chores of an exit forget what is old
    kit.record("calls", "acme", 1, key="job-17")

    kit.flush()
    assert 2 == sum(row.quantity for row in kit.usage(company="acme"))


@pytest.mark.parametrize(
    ("meter", "options", "reason"),
    [
        (Meter("calls"), {"key": ""}, "key_empty"),
        (Meter("calls"), {"key": 17}, "key_not_str"),
        (Meter("calls"), {"key": "x" * 256}, "key_too_long"),
        (Meter("calls"), {"key": "a\x00b"}, "key_unprintable"),
        (Meter("calls", value=unique("job")), {"key": "1", "value": "1"}, "key_unwanted"),
        (Meter("calls", value=maximum("seats")), {"key": "1"}, "key_unwanted"),
    ],
)
def test_wrong_keys(make_kit, meter, options, reason):
    """They are refused, and nothing is counted."""
    kit = make_kit(meter)
    with pytest.raises(UsageError) as caught:
        kit.record("calls", "acme", 1, **options)

    assert reason == caught.value.reason
    assert [] == used(kit)


def test_longest_key(make_kit):
    """With a long user, a past time and odd characters."""
    kit, at = make_kit(), datetime(2026, 2, 20, tzinfo=timezone.utc)
    for _ in range(2):
        kit.record("calls", "acme", 999, user='ü"' * 100, key="ключ\u201d" * 51, at=at)
        kit.close()

    assert [("acme", 'ü"' * 100, 999)] == used(kit)


KILLED = """
import os, signal, sys
from meterkit import Meter, MeterKit

kit = MeterKit(meters=[Meter("calls")], data_dir=sys.argv[1], flush_interval=3600)
kit.record("calls", "acme", 999, user='ü"' * 100, key="ключ\u201d" * 51)
kit.record("calls", "acme", 1)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_longest_key_and_a_kill(make_kit, tmp_path):
    """What another process reads from the file of one that was killed is whole, however long user and key are."""
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "meterkit")], check=False)
    assert -9 == killed.returncode
    kit = make_kit()

    assert [("acme", None, 1), ("acme", 'ü"' * 100, 999)] == used(kit)
    assert {"no_stripe_key"} >= set(kit.health()["problems"])


def test_what_is_not_billable_is_settled(make_kit):
    """Nothing of it waits for a report."""
    kit = make_kit(Meter("calls", billable=False))
    kit.record("calls", "acme", 7, key="job-17")
    kit.flush()

    with kit.process().database().snapshot() as connection:
        rows = connection.exec_driver_sql("SELECT quantity, reported FROM meterkit_usage").fetchall()
    assert [(7, 7)] == [tuple(row) for row in rows]


def test_many_keys_are_looked_up_together(make_kit, request):
    """A statement for each would take longer than a flush should: thousands of companies have one key each."""
    kit = make_kit()
    statements = []

    def listen(*given):
        statements.append(given[2])

    sa.event.listen(sa.Engine, "before_cursor_execute", listen)
    request.addfinalizer(lambda: sa.event.remove(sa.Engine, "before_cursor_execute", listen))
    for _ in range(2):
        for number in range(3000):
            kit.record("calls", f"company-{number}", 1, key="job-17")
        kit.flush()

    assert 3000 == sum(row.quantity for row in kit.usage())
    assert 20 == sum("record_keys" in each and each.startswith("SELECT") for each in statements)


def test_stripe_is_sent_one(make_kit, stripe, customer, clock):
    """Two deliveries, a report between them: one meter event, of the first quantity."""
    kit = make_kit(stripe_key=stripe.api_key, stripe_base=stripe.url)
    kit.link("acme", customer)
    for _ in range(2):
        kit.record("calls", "acme", 37, key="job-17")
        kit.report(include_open=True)
        clock.advance(3600)

    assert 37 == stripe.usage("calls", customer)
    assert 1 == len(stripe.meter_events)


WORKER = f"""{UNHURRIED}
import os, signal, sys
from meterkit import Meter, MeterKit

kit = MeterKit(meters=[Meter("calls")], data_dir=sys.argv[1], flush_interval=0.05)
for at, job in enumerate(sys.argv[3:]):
    kit.record("calls", "acme", 3, key=job)
    if at == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    if at % 50 == 0:
        kit.flush()
kit.close()
"""


def test_two_processes_and_a_kill(make_kit, tmp_path):
    """Jobs are delivered to up to three workers, two of which are killed: each counts once, and none is lost."""
    jobs = [f"job-{number}" for number in range(300)]
    command = [sys.executable, "-c", WORKER, str(tmp_path / "meterkit")]
    workers = [
        subprocess.Popen([*command, "120", *jobs]),
        subprocess.Popen([*command, "199", *reversed(jobs)]),
        subprocess.Popen([*command, "-1", *jobs[50:150]]),
    ]

    assert [-9, -9, 0] == [worker.wait() for worker in workers]
    kit = make_kit()
    kit.flush()
    assert 900 == sum(row.quantity for row in kit.usage())
    assert 900 == kit.health()["books"]["calls"]["counted"]
