"""Sums by meter and day, and by company and month: the pages read them instead of all usage."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timezone

import sqlalchemy as sa
from test_migrations import restore

from meterkit import Meter
from meterkit.core.periods import DAY, month_of
from meterkit.ledger import schema
from meterkit.ledger.database import Database
from meterkit.ledger.schema import migrations

LARGE = 999_999_999_999_999


def sums(database, table):
    *keys, _ = [column.name for column in table.columns]
    with database.snapshot() as connection:
        return {
            tuple(getattr(row, key) for key in keys): row.quantity for row in connection.execute(sa.select(table)).all()
        }


def of_usage(kit):
    """What both tables must hold, from the usage itself."""
    by_day, by_month = Counter(), Counter()
    for row in kit.usage():
        by_day[row.meter, row.window - row.window % DAY] += row.quantity
        if row.company is not None:
            by_month[month_of(row.window).start, row.meter, row.company] += row.quantity
    return dict(by_day), dict(by_month)


def of_tables(kit):
    database = kit.process().database()
    return sums(database, schema.meter_totals), sums(database, schema.month_totals)


def test_the_sums_are_those_of_the_usage(make_kit, clock):
    """Over days and months, for two meters and companies, and what no company was found for."""
    kit = make_kit(Meter("calls", path="/*"), Meter("egress"))
    for days in (1, 20, 12):
        for company, quantity in (("acme", 3), ("globex", 4)):
            kit.record("calls", company, quantity)
            kit.record("egress", company, LARGE)
            kit.record("calls", company, 5, at=datetime.fromtimestamp(clock() - 3 * DAY, timezone.utc))
        kit.flush()
        clock.advance(days * DAY)

    assert of_usage(kit) == of_tables(kit)
    assert 3 * (3 + 4 + 2 * 5) == sum(
        quantity for (meter, _), quantity in of_tables(kit)[0].items() if meter == "calls"
    )


def test_a_correction_is_in_the_sums(make_kit, clock):
    """What is reversed is in none of them."""
    kit = make_kit(Meter("calls"), stripe_key="sk_test_1")
    kit.record("calls", "acme", 10)
    kit.flush()
    kit.correct("calls", "acme", 4, at=datetime.fromtimestamp(clock(), timezone.utc))

    assert {6} == set(of_tables(kit)[0].values()) == set(of_tables(kit)[1].values())
    assert of_usage(kit) == of_tables(kit)


def test_usage_of_nobody_is_in_the_sums_of_the_meter(make_kit):
    """It has no company, so no month of one."""
    kit = make_kit(Meter("calls", path="/*"))
    kit._supervisor.count([(("calls", "calls", "", "", 1772366400), 7)], 1772367000.0)
    kit.flush()

    assert ({("calls", 1772323200): 7}, {}) == of_tables(kit)


def test_an_upgraded_ledger_has_the_sums(tmp_path):
    """Of all that was counted before."""
    path = tmp_path / "ledger.sqlite"
    restore(6, path)
    database = Database(f"sqlite:///{path}")

    assert {("calls", 1772323200): 51, ("calls", 1772409600): 19, ("egress", 1772323200): 700} == sums(
        database, schema.meter_totals
    )
    assert {
        (1772323200, "calls", "acme"): 43,
        (1772323200, "calls", "globex"): 11,
        (1772323200, "calls", "cus_gone"): 3,
        (1772323200, "egress", "acme"): 700,
    } == sums(database, schema.month_totals)


def test_quantities_of_any_size_are_upgraded(tmp_path):
    """Also those that exceed 64 bits."""
    path = tmp_path / "ledger.sqlite"
    restore(6, path)
    database = Database(f"sqlite:///{path}")
    with database.transaction() as connection:  # upgrades it; and back
        for name in ("meter_totals", "month_totals"):
            connection.exec_driver_sql(f"DELETE FROM meterkit_{name}")
        large = {"company": "acme", "meter": "calls", "quantity": 2**63, "change": 0}
        days = [1772323200 + day * DAY for day in (5, 6)]
        connection.execute(sa.insert(schema.totals), [{**large, "day": day} for day in days])
        for statement in migrations._TO_7.split(";\n"):
            if statement.startswith("INSERT INTO meterkit_month_totals"):
                connection.exec_driver_sql(migrations._in_words_of("sqlite", statement))

    assert 43 + 2**64 == sums(database, schema.month_totals)[1772323200, "calls", "acme"]
