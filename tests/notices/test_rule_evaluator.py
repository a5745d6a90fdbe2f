"""What has changed is evaluated until the notices that follow from it are written; ``limit=`` is asked rarely."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from meterkit import Governance, LedgerError, Meter, Notify, Price, Quota, Tier
from meterkit.ledger import database
from meterkit.notices import usage_notices

CALLS = Meter("calls", path="/calls")
PRICE = Price.graduated(CALLS, Tier(up_to=5, unit_price="5"), Tier(unit_price="3"))
RULES = ("threshold", "tier_crossed", "quota_reached")


class Mailbox:
    """A channel that keeps what it is given."""

    name = "mailbox"

    def __init__(self):
        self.notices = []

    def deliver(self, notice):
        self.notices.append(notice)

    @property
    def kinds(self):
        return sorted(notice.kind for notice in self.notices)


@pytest.fixture
def mailbox():
    return Mailbox()


@pytest.fixture
def notifying(make_kit, mailbox):
    """A function that makes kits with a threshold, two tiers and a quota, whose limit is the function given."""

    def make(limit):
        return make_kit(
            CALLS,
            prices=[PRICE],
            identify=lambda exchange: None,
            governance=Governance(quotas=[Quota(CALLS, limit)]),
            notify=[
                Notify.threshold(to=mailbox, meter=CALLS, units=5),
                Notify.tier_crossed(to=mailbox),
                Notify.quota(to=mailbox),
            ],
        )

    return make


def notify(kit):
    """One flush interval: flush, evaluate and deliver."""
    kit.flush()
    kit.process().dispatcher.evaluate()
    kit.process().dispatcher.deliver("mailbox")


def test_a_locked_ledger_loses_no_notice(notifying, mailbox, monkeypatch, tmp_path):
    """The evaluation fails while another process writes; the next finds all again."""
    monkeypatch.setattr(database, "PATIENCE", 0.01)
    kit = notifying(lambda _: 5)
    kit.record("calls", "acme", 9)
    kit.flush()
    with closing(sqlite3.connect(tmp_path / "meterkit" / "ledger.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerError, match="locked"):
            kit.process().dispatcher.evaluate()
        other.execute("ROLLBACK")
    kit.process().dispatcher.evaluate()
    kit.process().dispatcher.deliver("mailbox")

    assert sorted(RULES) == mailbox.kinds


def test_a_limit_that_raises_loses_no_notice(notifying, mailbox, clock):
    """Those of other companies and rules come at once, its own when the function returns again."""
    broken = {"globex"}

    def limit(company):
        if company in broken:
            raise OSError("the plans are not available")
        return 5

    kit = notifying(limit)
    for company in ("acme", "globex", "initech"):
        kit.record("calls", company, 9)
    notify(kit)
    at_once = [(notice.kind, notice.company) for notice in mailbox.notices]
    broken.clear()
    clock.advance(60)
    notify(kit)

    companies = ("acme", "globex", "initech")
    all_of_them = {(kind, company) for kind in RULES for company in companies}
    assert sorted(all_of_them - {("quota_reached", "globex")}) == sorted(at_once)
    assert sorted(all_of_them) == sorted((notice.kind, notice.company) for notice in mailbox.notices)
    assert "limit_raised" in kit.health()["problems"]


def test_a_limit_is_asked_once_in_ten_minutes(notifying, clock):
    """Once for each company, however many flushes there are, whichever part of the kit wants to know."""
    asked = []

    def limit(company):
        asked.append(company)
        return 1000

    kit = notifying(limit)
    for number in range(20):
        kit.record("calls", f"company {number}", 1)
    for _ in range(10):
        notify(kit)
        kit.record("calls", "company 0", 1)
        clock.advance(5)
    at_first = sorted(asked)
    clock.advance(600)
    notify(kit)

    assert sorted(f"company {number}" for number in range(20)) == at_first
    assert sorted(at_first * 2) == sorted(asked)


def test_a_limit_that_is_lowered_is_noticed(notifying, mailbox, clock):
    """Within ten minutes, though nothing more is used."""
    limits = {"acme": 1000}
    kit = notifying(limits.get)
    kit.record("calls", "acme", 4)
    notify(kit)
    before = mailbox.kinds
    limits["acme"] = 4
    clock.advance(600)
    notify(kit)

    assert ([], ["quota_reached"]) == (before, mailbox.kinds)


def test_a_limit_that_raises_later_keeps_what_it_was(notifying, clock):
    """The company stays blocked while the plans are not available."""
    limits = {"acme": 1}
    kit = notifying(lambda company: limits[company])
    kit.record("calls", "acme", 1)
    notify(kit)
    limits.clear()
    clock.advance(700)
    notify(kit)

    (cache,) = kit.governor._limits
    assert (1, True) == (cache.known("acme"), "limit_raised" in kit.health()["problems"])


def test_many_calls_are_told_over_several_evaluations(make_kit, mailbox, monkeypatch):
    """Those that did not fit into one come with the next, though nothing more is used."""
    monkeypatch.setattr(usage_notices, "MAX_CALLS", 4)
    monkeypatch.setattr("meterkit.notices.evaluator.MAX_CALLS", 4)
    kit = make_kit(CALLS, notify=[Notify.calls(CALLS, to=mailbox)])
    kit.record("calls", "acme", 10)
    for _ in range(4):
        notify(kit)

    assert list(range(1, 11)) == sorted(notice.fields["count"] for notice in mailbox.notices)
