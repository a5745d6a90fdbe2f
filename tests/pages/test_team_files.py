"""The chart library is the one that its package has; a page of a large ledger reads few rows of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from page_browser import Browser
from team_tables import of_team

import meterkit.pages
from meterkit import MeterKit

STATIC = Path(meterkit.pages.__file__).parent / "static"


def test_the_chart_library_is_unchanged() -> None:
    """Its version, its hashes and its licence are beside it."""
    first, *lines = (STATIC / "uPlot.VERSION.txt").read_text().splitlines()
    hashes = {name: digest for digest, name in (line.split() for line in lines)}
    script = (STATIC / "uPlot.iife.min.js").read_text()

    assert {"uPlot.iife.min.js", "uPlot.min.css"} == set(hashes)
    assert hashes == {name: hashlib.sha256((STATIC / name).read_bytes()).hexdigest() for name in hashes}
    assert f"(v{first.split()[1].rstrip(',')})" in script
    assert "The MIT License" in (STATIC / "uPlot.LICENSE.txt").read_text()


@pytest.fixture
def plans(kit: MeterKit) -> Iterator[list[str]]:
    """How SQLite finds the rows of each query, while a page is made."""
    found: list[str] = []
    database = kit.process().database()
    with database.snapshot():
        pass
    engine = database._engine
    assert engine is not None

    def explain(connection: sa.Connection, cursor: object, statement: str, parameters: object, *_: object) -> None:
        if statement.startswith(("SELECT", "WITH")):
            explained = connection.connection.cursor().execute(f"EXPLAIN QUERY PLAN {statement}", parameters or ())
            found.extend(f"{row[3]}  -- {statement}" for row in explained)

    sa.event.listen(engine, "before_cursor_execute", explain)
    yield found
    sa.event.remove(engine, "before_cursor_execute", explain)


@pytest.fixture
def kit(make_kit: Callable[..., MeterKit]) -> MeterKit:
    kit = make_kit()
    kit.record("calls", "acme", 3)
    kit.flush()
    kit.link("acme", "cus_1")
    return kit


ADDRESSES = [
    ("usage", {"months": "12"}),
    ("usage", {"by": "company"}),
    ("usage", {"company": "acme"}),
    ("companies", {}),
    ("companies", {"q": "a"}),
    ("companies", {"sort": "calls"}),
    ("company", {"id": "acme"}),
    ("hours", {"id": "acme"}),
    ("hour", {"id": "acme", "meter": "calls", "window": "1772366400"}),
    ("notices", {}),
    ("notices", {"company": "acme"}),
    ("notices", {"state": "given_up"}),
]

LARGE = ("usage", "totals", "reports", "invoices", "items", "blocked", "deliveries", "peaks")
"""Tables that grow with usage or time, of which no page may read all rows."""


FEW = ("meterkit_deliveries_given_up", "meterkit_deliveries_waiting", "meterkit_usage_unreported")
"""Indexes of the few rows that wait for something."""


@pytest.mark.parametrize(("page", "query"), ADDRESSES, ids=str)
def test_a_page_reads_few_rows(
    open_page: Callable[..., Browser], kit: MeterKit, plans: list[str], page: str, query: dict[str, str]
) -> None:
    """Of the large tables, it finds its rows by an index."""
    assert 200 == of_team(open_page(kit), page, **query).status

    assert plans
    scans = [plan for plan in plans if any(plan.startswith(f"SCAN meterkit_{name} ") for name in LARGE)]
    assert [] == [plan for plan in scans if not plan.partition("--")[0].rstrip().endswith(FEW)]
