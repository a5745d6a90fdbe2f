"""Read the tables of a team's page: as CSV, and as HTML."""

from __future__ import annotations

import csv
import io
from urllib.parse import urlencode

from page_browser import Browser, Page

from meterkit import MeterKit

STAFF = {"X-Staff": "yes", "X-Company": ""}


def of_team(browser: Browser, page: str = "", **query: str) -> Page:
    """A page of the team, as one of its staff sees it."""
    address = f"/billing/team/{page}".rstrip("/")
    return browser.get(f"{address}?{urlencode(query)}", headers=STAFF)


def rows_of(browser: Browser, page: str, table: str = "", **query: str) -> list[dict[str, str]]:
    """The rows of one table of a page, as its CSV has them."""
    found = of_team(browser, page, format="csv", table=table, **query)
    assert (200, "text/csv; charset=utf-8") == (found.status, found.headers["content-type"])
    return list(csv.DictReader(io.StringIO(found.text)))


def sum_of(kit: MeterKit, **options: str) -> int:
    return sum(row.quantity for row in kit.usage(**options))  # type: ignore[arg-type]
