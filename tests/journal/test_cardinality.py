"""Bounds: whoever invents companies fills neither the memory nor anybody else's bill."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys

import pytest
from figures import note_figure

from meterkit.journal import cardinality
from meterkit.journal.cardinality import CardinalityLimit

pytestmark = pytest.mark.long

COMPANIES = int(os.environ.get("METERKIT_TEST_COMPANIES", "60000"))
"""The long run takes a million."""

ATTACK = """
import json, resource, sys
from meterkit import Meter, MeterKit

number, data_dir, ledger = int(sys.argv[1]), sys.argv[2], sys.argv[3]
kit = MeterKit(meters=[Meter("calls")], data_dir=data_dir, ledger=ledger)
kit.link("acme", "cus_1")
kit.record("calls", "seen before", 1)
kit.flush()

def memory():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB

for each in range(number // 10):
    kit.record("calls", f"warm {each}")
kit.flush()
before = memory()
for each in range(number):
    kit.record("calls", f"invented {each}")
    if each % 100 == 0:
        kit.record("calls", "acme", 1, user=f"invented {each}")
        kit.record("calls", "seen before", 1)
grown = memory() - before
kit.flush()
print(json.dumps({
    "grown": grown,
    "books": kit.health()["books"]["calls"],
    "known": {company: sum(row.quantity for row in kit.usage(company=company)) for company in ("acme", "seen before")},
}))
"""


def test_a_million_companies_in_an_hour(tmp_path):
    """They are counted, every one, and the memory that they take does not grow with their number."""
    found = json.loads(
        subprocess.run(
            [sys.executable, "-c", ATTACK, str(COMPANIES), tmp_path / "data", f"sqlite:///{tmp_path}/ledger.sqlite"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    )
    regular = len(range(0, COMPANIES, 100))
    note_figure("flood", companies=COMPANIES, mebibytes=found["grown"] // 1024, capped=found["books"]["capped"])

    assert {"acme": regular, "seen before": 1 + regular} == found["known"]
    assert 1 + COMPANIES // 10 + COMPANIES + 2 * regular == found["books"]["counted"]
    assert found["books"]["balanced"]
    assert found["books"]["counted"] - regular == found["books"]["unlinked"] + found["books"]["capped"]
    assert found["grown"] < 150 * 1024


@pytest.fixture
def dammed(make_kit, tmp_path, monkeypatch):
    """A kit whose usage can go nowhere: no file, and a locked ledger. Three generations that wait are too many."""
    monkeypatch.setattr(cardinality, "MOST_IN_MEMORY", 3 << 20)
    monkeypatch.setattr("meterkit.ledger.database.PATIENCE", 0.01)
    (tmp_path / "file").write_text("")
    kit = make_kit(data_dir=tmp_path / "file" / "data", ledger=f"sqlite:///{tmp_path}/ledger.sqlite")
    kit.link("linked", "cus_1")
    kit.record("calls", "seen before", 1)
    kit.flush()
    lock = sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    yield kit, lock
    lock.close()


@pytest.mark.long
def test_when_nothing_flows_off_the_unknown_are_counted_together(dammed):
    """Known companies exactly, their users together; what is capped is counted, and named with the cure."""
    kit, lock = dammed
    for number in range(60_000):
        kit.record("calls", f"invented {number}")
    for number in range(20_000):
        kit.record("calls", "linked", 1, user=f"invented {number}")
    kit.record("calls", "seen before", 5)
    assert "journal_capped" in kit.health()["problems"]
    lock.execute("ROLLBACK")

    kit.flush()

    books = kit.health()["books"]["calls"]
    capped = kit.health()["problems"]["journal_capped"]["message"]
    assert (80_006, True) == (books["counted"], books["balanced"])
    assert 0 < books["capped"] < 60_000
    assert f"{books['capped']} so far" in capped
    assert 20_000 == sum(row.quantity for row in kit.usage(company="linked"))
    assert [1 + 5] == [row.quantity for row in kit.usage(company="seen before")]
    assert "only authenticated companies" in capped
    assert any("counted together as capped" in sentence for sentence in kit.health()["attention"])


def test_after_a_flood_all_is_as_before(dammed):
    """As soon as the ledger takes usage again, newcomers are counted one by one."""
    kit, lock = dammed
    for number in range(60_000):
        kit.record("calls", f"invented {number}")
    lock.execute("ROLLBACK")
    kit.flush()

    kit.record("calls", "newcomer", 7)
    kit.flush()

    assert [7] == [row.quantity for row in kit.usage(company="newcomer")]


def test_who_is_known_is_bounded_too(monkeypatch):
    """Companies that come slowly could be invented as well."""
    monkeypatch.setattr(cardinality, "MOST_KNOWN", 3)
    known = CardinalityLimit()

    known.remember(f"company {number}" for number in range(10))

    assert 3 == len(known._known)
