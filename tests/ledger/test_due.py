"""Which usage is to be reported is found by an index, however much there is."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from meterkit.ledger import schema
from meterkit.ledger.schema.due import due, not_due


@pytest.mark.parametrize(
    ("condition", "index"), [(due, "meterkit_usage_unreported"), (not_due, "meterkit_usage_reported")]
)
def test_sqlite_finds_it_by_an_index(make_kit, condition, index):
    """Alone, and together with a window."""
    usage = schema.usage
    with make_kit().process().database().snapshot() as connection:
        for further in (sa.true(), usage.c.window == 3600):
            query = sa.select(usage.c.quantity).where(condition(usage), further)
            text = query.compile(connection, compile_kwargs={"literal_binds": True})
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}").all()

            assert index in plan[0][3]
