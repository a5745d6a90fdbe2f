"""Margins on PostgreSQL: of plain meters, of dimensions, and of a cost that changes within the month."""

from __future__ import annotations

from datetime import datetime, timezone
from decimal import Decimal

import sqlalchemy as sa

from meterkit import Cost, Meter, Price, Wallet
from meterkit.ledger import schema

DAY = 24 * 3600
CALLS = Meter("calls")
TOKENS = Meter("tokens", http=False, by="model")


def test_a_month(make_kit, tmp_path, clock):
    """The same as on SQLite."""
    table = tmp_path / "costs.csv"
    table.write_text("model,price,from\nlarge,0.1,\nlarge,0.2,2026-03-02\n")
    prices = [Price.per_unit(CALLS, "0.50"), Price.per_unit(TOKENS, "0.01")]
    kit = make_kit(
        CALLS,
        TOKENS,
        prices=prices,
        costs=[Cost.per_unit(CALLS, "0.20"), Cost.by(TOKENS, "model", table=table, per=10)],
        customer_ids=False,
    )
    kit.record(CALLS, "acme", 10)
    kit.record(TOKENS, "acme", 100, dimensions={"model": "large"})
    kit.record(TOKENS, "globex", 5, dimensions={"model": "huge"})
    kit.flush()
    clock.advance(DAY)
    at = datetime.fromtimestamp(clock(), timezone.utc)
    kit.record(TOKENS, "acme", 1000, dimensions={"model": "large"}, at=at)
    found = kit.margin()

    assert [("acme", Decimal(16), Decimal(23)), ("globex", Decimal("0.05"), Decimal(0))] == [
        (row.company, row.revenue, row.cost) for row in found.rows
    ]
    assert [("tokens: huge", 5)] == [(each.name, each.quantity) for each in found.unknown]


def test_what_was_paid_ahead(make_kit, clock):
    """At what was paid for each unit; what nobody covered, and what expired, is named."""
    wallet = Wallet("credits", unit="credits", spends={"credited": 1})
    credited = Meter("credited", http=False, billable=False)
    kit = make_kit(credited, wallets=[wallet], costs=[Cost.per_unit(credited, "0.01")], customer_ids=False)
    soon = datetime.fromtimestamp(clock() + DAY, timezone.utc)
    kit.grant("acme", "credits", 100, key="paid", expires=soon)
    with kit.process().database().transaction() as connection:
        connection.execute(sa.update(schema.grants).values(paid=5_000, currency="usd"))
    kit.record(credited, "acme", 30)
    kit.flush()
    clock.advance(2 * DAY)
    kit.record(credited, "acme", 7)
    kit.flush()
    (row,) = kit.margin().rows

    assert (Decimal(15), Decimal("0.37")) == (row.revenue, row.cost)
    assert [
        "usage worth 7 credits that no balance covered brings in nothing",
        "70 credits expired unspent, for which 35.00 usd was paid; not in the revenue",
    ] == [note for note in row.notes if "subscription" not in note]
