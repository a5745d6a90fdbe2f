"""What the ledger keeps of dimensions: sums by values, which add up to the usage of the meter, whatever happens."""

from __future__ import annotations

import random
import subprocess
import sys
import textwrap
from datetime import datetime, timezone

import pytest
import sqlalchemy as sa
from guard import UNHURRIED
from stripe_account import make_meter

from meterkit import Meter, MeterKit, UsageError
from meterkit.core.periods import month_of
from meterkit.core.usage_key import shadowed
from meterkit.ledger import schema
from meterkit.ledger.dimensions.reading import month_by_values, used_by_values

HOUR, DAY = 3600, 24 * 3600
TOKENS = Meter("tokens", value="tokens", by=("model", "kind"))


@pytest.fixture
def ledger(tmp_path):
    """Where it is kept."""
    return f"sqlite:///{tmp_path}/ledger.sqlite"


@pytest.fixture
def kit(make_kit, stripe, ledger):
    """A kit that reports to the sandbox."""
    make_meter(stripe, "tokens")
    return make_kit(TOKENS, Meter("calls"), ledger=ledger, stripe_key=stripe.api_key, stripe_base=stripe.url)


def by(kit, *names, **which):
    """What was used, by the values of *names*."""
    kit.flush()
    found = {}
    for row in kit.usage(by=names, meter="tokens", **which):
        key = tuple(row.values[name] for name in names)
        found[key] = found.get(key, 0) + row.quantity
    return found


def rows(kit, table):
    with kit.process().database().snapshot() as connection:
        return connection.execute(sa.select(table)).all()


def sums_agree(kit):
    """Whether the sums by values are those of the meters, by company, of all and by month."""
    usage, totals = schema.usage, schema.month_totals
    with kit.process().database().snapshot() as connection:
        months = connection.scalars(sa.select(totals.c.month).distinct()).all()
        pairs = [(used_by_values(connection), connection.execute(sa.select(usage)).all())]
        for month in months:
            of_month = connection.execute(sa.select(totals).where(totals.c.month == month)).all()
            pairs.append((month_by_values(connection, month), of_month))
    for parts, rows_ in pairs:
        found, expected = {}, {}
        for part in parts:
            assert part.quantity > 0
            found[part.meter, part.company] = found.get((part.meter, part.company), 0) + part.quantity
        for row in rows_:
            expected[row.meter, row.company] = expected.get((row.meter, row.company), 0) + row.quantity
        assert {key: each for key, each in expected.items() if each} == found
    return True


def record(kit, company, quantity, model="small", kind="input", **options):
    kit.record("tokens", company, quantity, dimensions={"model": model, "kind": kind}, **options)


def test_the_sums_are_those_of_the_meter(kit, clock):
    """Of random usage in many flushes, hours and months, with users and keys, of meters with and without values."""
    chance = random.Random(17)
    total = 0
    for number in range(400):
        quantity = chance.randrange(1, 1_000)
        total += quantity
        company, user = chance.choice(["acme", "globex"]), chance.choice([None, "ann", "bob"])
        model, kind = chance.choice(["small", "large", ""]), chance.choice(["input", "output"])
        key = f"job {number}" if chance.random() < 0.2 else None
        record(kit, company, quantity, model, kind, user=user, key=key)
        kit.record("calls", company)
        if chance.random() < 0.1:
            kit.flush()
        if chance.random() < 0.02:
            clock.advance(chance.choice([HOUR, 40 * DAY]))
    kit.flush()

    assert total == sum(by(kit, "model", "kind").values()) == kit.health()["books"]["tokens"]["counted"]
    assert sums_agree(kit)


def test_usage_from_before_has_no_values(make_kit, ledger):
    """It is shown as unknown, in the hour in which ``by=`` is declared, too; and a dimension more changes nothing."""
    first = make_kit(Meter("tokens", http=False), ledger=ledger)
    first.record("tokens", "acme", 100)
    first.close()
    second = make_kit(Meter("tokens", http=False, by="model"), ledger=ledger)
    second.record("tokens", "acme", 10, dimensions={"model": "small"})
    second.close()
    kit = make_kit(Meter("tokens", http=False, by=("kind", "model")), ledger=ledger)
    kit.record("tokens", "acme", 1, dimensions={"model": "small", "kind": "input"})

    assert {("",): 100, ("small",): 11} == by(kit, "model")
    assert {("", ""): 100, ("small", ""): 10, ("small", "input"): 1} == by(kit, "model", "kind")
    assert sums_agree(kit)


def test_stripe_gets_one_sum(kit, stripe, customer, clock):
    """Once an hour, whatever it consists of; the rows of the usage are those of any meter."""
    kit.link("acme", customer)
    record(kit, "acme", 5)
    record(kit, "acme", 7, "large")
    kit.record("tokens", "acme", 1)
    clock.advance(HOUR)
    record(kit, "acme", 2)
    kit.report()
    record(kit, "acme", 4, at=datetime.fromtimestamp(clock.now - HOUR, timezone.utc))
    clock.advance(HOUR)
    kit.report()

    assert [13, 4, 2] == sorted((event.value for event in stripe.meter_events), key=[13, 4, 2].index)
    assert {("tokens", "tokens")} == {(row.meter, row.event_name) for row in rows(kit, schema.usage)}
    assert kit.health()["books"]["tokens"]["balanced"]
    assert {("small", "input"): 11, ("large", "input"): 7, ("", ""): 1} == by(kit, "model", "kind")


def test_a_correction_names_the_values(kit, stripe, customer, clock):
    """It takes from these alone; the error of one that does not says what there is."""
    kit.link("acme", customer)
    record(kit, "acme", 50)
    record(kit, "acme", 30, "large")
    at = datetime.fromtimestamp(clock.now, timezone.utc)
    clock.advance(HOUR)
    kit.report()
    with pytest.raises(
        UsageError, match=r"say of which ones 30 units .* 30 of kind=input model=large, 50 of kind=input"
    ):
        kit.correct("tokens", "acme", 30, at=at)
    with pytest.raises(UsageError, match="only 30 of 31 units can be reversed of kind=input model=large"):
        kit.correct("tokens", "acme", 31, at=at, dimensions={"model": "large", "kind": "input"})
    with pytest.raises(UsageError, match="has no dimension 'plan'"):
        kit.correct("tokens", "acme", 1, at=at, dimensions={"plan": "pro"})
    before = by(kit, "model")
    kit.correct("tokens", "acme", 20, at=at, dimensions={"model": "large", "kind": "input"})
    clock.advance(HOUR)
    kit.report()

    assert {("small",): 50, ("large",): 30} == before
    assert {("small",): 50, ("large",): 10} == by(kit, "model")
    assert 60 == stripe.usage("tokens", customer)
    assert sums_agree(kit)


def test_all_of_an_hour_can_be_reversed_at_once(kit, stripe, customer, clock):
    """Then there is nothing to tell apart: Stripe cancels the event."""
    kit.link("acme", customer)
    record(kit, "acme", 50)
    record(kit, "acme", 30, "large")
    at = datetime.fromtimestamp(clock.now, timezone.utc)
    clock.advance(HOUR)
    kit.report()
    found = kit.correct("tokens", "acme", 80, at=at)

    assert ("done", 0) == (found.state, stripe.usage("tokens", customer))
    assert {} == by(kit, "model")
    assert sums_agree(kit)


def test_a_correction_that_is_not_clear_cancels_nothing(kit, stripe, customer, clock):
    """Not even if Stripe has an event of just that quantity."""
    kit.link("acme", customer)
    at = datetime.fromtimestamp(clock.now, timezone.utc)
    record(kit, "acme", 50)
    kit.report(include_open=True)
    record(kit, "acme", 30, "large")
    kit.report(include_open=True)
    with pytest.raises(UsageError, match="say of which ones 30 units"):
        kit.correct("tokens", "acme", 30, at=at)

    assert 80 == stripe.usage("tokens", customer)
    assert [] == kit.corrections()
    assert {("small",): 50, ("large",): 30} == by(kit, "model")


def test_usage_without_values_needs_none_to_be_corrected(kit, clock):
    """As far as it goes."""
    record(kit, "acme", 50)
    kit.record("calls", "acme", 5)
    at = datetime.fromtimestamp(clock.now, timezone.utc)
    kit.correct("calls", "acme", 2, at=at)
    kit.correct("tokens", "acme", 4, at=at, dimensions={"model": "small", "kind": "input"})

    assert {("small",): 46} == by(kit, "model")
    assert sums_agree(kit)


def test_a_user_who_is_forgotten(kit):
    """What the company used of which values stays."""
    record(kit, "acme", 5, user="ann")
    record(kit, "acme", 7, user="bob")
    kit.flush()
    kit.forget_user("acme", "ann")

    assert {("small", "input"): 12} == by(kit, "model", "kind")
    assert sums_agree(kit)


def test_values_go_with_the_usage(make_kit, stripe, ledger, customer, clock):
    """After ``keep_days``; the sums of months stay."""
    make_meter(stripe, "tokens")
    options = {"ledger": ledger, "stripe_key": stripe.api_key, "stripe_base": stripe.url, "keep_days": 70}
    kit = make_kit(TOKENS, **options)
    for user in ("ann", "bob"):
        record(kit, customer, 5, user=user)
    month = month_of(int(clock.now))
    clock.advance(HOUR)
    kit.report()
    clock.advance(71 * DAY)
    record(kit, customer, 3, "large")
    kit.report()

    assert ["large"] == [key[0] for key in by(kit, "model")]
    assert 1 == len(rows(kit, schema.usage_values))
    with kit.process().database().snapshot() as connection:
        assert [10] == [part.quantity for part in month_by_values(connection, month.start)]


def test_usage_of_nobody_and_what_is_not_billed(make_kit, ledger):
    """It has values like any other."""
    kit = make_kit(
        Meter("tokens", path="*", by={"path": lambda exchange: exchange.path}, billable=False), ledger=ledger
    )
    kit.record("tokens", "acme", 5, dimensions={"path": "/a"})
    kit.flush()

    assert {("/a",): 5} == by(kit, "path")
    assert {"counted": 5, "nonbillable": 5, "balanced": True} == {
        place: each for place, each in kit.health()["books"]["tokens"].items() if each
    }


def test_shadow_mode(make_kit, ledger, clock):
    """What was counted for comparison only can be told from what is billed."""
    shadow = datetime.fromtimestamp(clock.now - clock.now % HOUR + HOUR, timezone.utc)
    kit = make_kit(TOKENS, ledger=ledger, shadow=shadow)
    record(kit, "acme", 5)
    kit.flush()
    clock.advance(HOUR)
    record(kit, "acme", 7)
    kit.flush()

    assert {("small",): 12} == by(kit, "model")
    with kit.process().database().snapshot() as connection:
        for event_name, expected in (("tokens", 7), (shadowed("tokens"), 5)):
            (part,) = used_by_values(connection, company="acme", meter="tokens", event_name=event_name)
            assert expected == part.quantity


def test_a_file_with_values(make_kit, ledger, tmp_path, clock):
    """A column for each dimension; the same file counts once."""
    kit = make_kit(TOKENS, Meter("calls"), ledger=ledger)
    path = tmp_path / "past.csv"
    head = "meter,company,quantity,at,user,model,kind\n"
    path.write_text(f"{head}tokens,acme,5,{int(clock.now)},,small,input\ntokens,acme,6,{int(clock.now)},ann,,\n")
    for _ in range(2):
        kit.backfill(path)

    assert {("small", "input"): 5, ("", ""): 6} == by(kit, "model", "kind")
    path.write_text(f"{head}calls,acme,5,{int(clock.now)},,small,\n")
    with pytest.raises(UsageError, match="has no dimension 'model'"):
        kit.backfill(path)
    path.write_text(f"meter,company,quantity,at,plan\ntokens,acme,5,{int(clock.now)},pro\n")
    with pytest.raises(UsageError, match="unknown: plan"):
        kit.backfill(path)


SCRIPT = f"""{UNHURRIED}
import os, sys
from meterkit import Meter, MeterKit

kit = MeterKit(meters=[Meter("tokens", http=False, by=("model", "kind"))], data_dir=sys.argv[1], flush_interval=3600.0)
for number in range(int(sys.argv[2])):
    kit.record("tokens", "acme", 1, dimensions={{"model": f"m{{number % 7}}", "kind": "input"}})
    os.write(1, b".")
os.kill(os.getpid(), 9)
"""


def test_values_survive_a_kill(make_kit, tmp_path):
    """The next process finds them in the journal of the one that was killed."""
    said = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), str(tmp_path / "meterkit"), "70"],
        check=False,
        capture_output=True,
    )
    kit = make_kit(Meter("tokens", http=False, by=("model", "kind")))

    assert 70 == len(said.stdout)
    assert {(f"m{number}", "input"): 10 for number in range(7)} == by(kit, "model", "kind")
    assert sums_agree(kit)


def test_values_are_handed_over(make_kit, ledger):
    """A worker leaves its journal to the process that flushes for the host."""
    flusher = make_kit(TOKENS, ledger=ledger)
    record(flusher, "acme", 1)
    flusher.process()._tick(is_last=False)
    worker = make_kit(TOKENS, ledger=ledger)
    record(worker, "acme", 5, "large")
    worker.process()._tick(is_last=False)

    assert (True, False) == (flusher.process().lock.held, worker.process().lock.held)
    assert {("small",): 1, ("large",): 5} == by(flusher, "model")


def test_two_kits_fold_the_same_company_and_values(make_kit, ledger):
    """They add up."""
    kits = [make_kit(TOKENS, ledger=ledger) for _ in range(3)]
    for number, each in enumerate(kits):
        record(each, "acme", 10**14 + number)
        each.flush()

    assert {("small",): 3 * 10**14 + 3} == by(kits[0], "model")
    assert isinstance(kits[0], MeterKit)
