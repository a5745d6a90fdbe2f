"""The team's page of margins; the tables of it are what ``meterkit margin --csv`` prints, too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import partial
from typing import NamedTuple

from meterkit.core.periods import month_of, parse_month
from meterkit.errors import ConfigurationError, UsageError
from meterkit.margin.report import Margin, MarginReport
from meterkit.metering.meter import Meter
from meterkit.pages.team.kept import KeptByKey
from meterkit.pages.team.operations import notes_of
from meterkit.pages.team.tables import Cell, Day, Field, Link, Money, Table, TeamPage, page_number
from meterkit.pricing.price import rounded

SHOWN = 100
"""Rows on a page."""


class Choice(NamedTuple):
    """
    Which margins are shown.

    Attributes:
        month: Month in UTC, such as ``2026-03``.
        by: What the rows are about: ``company``, ``meter``, or the name of a dimension.
        company: Only this company; None for all.
    """

    month: str
    by: str
    company: str | None


class MarginPage:
    """
    The page of margins.

    Args:
        compute: Function that returns the margins of a choice.
        meters: Meters of the kit, by name.
        clock: Function that returns Unix seconds.
    """

    def __init__(
        self, compute: Callable[[Choice], MarginReport], meters: Mapping[str, Meter], *, clock: Callable[[], float]
    ) -> None:
        self._kept = KeptByKey(compute, clock=clock)
        self._meters = meters
        self._clock = clock

    def __call__(self, query: Mapping[str, str]) -> TeamPage:
        """
        Return the page.

        Args:
            query: ``month`` (2026-03), ``by``: company, meter or the name of a dimension; ``company``, ``page``.

        Raises:
            LedgerError: The ledger cannot be read.
        """
        month = _month(query.get("month", ""), int(self._clock()))
        company = query.get("company", "").strip()
        choices = [
            "company",
            "meter",
            *dict.fromkeys(name for each in self._meters.values() for name in each.dimensions),
        ]
        by = query.get("by", "")
        by = by if by in choices else "meter" if company else "company"
        fields = [
            Field("month", "Month", month),
            Field("by", "Show by", by, [(each, each) for each in choices]),
            Field("company", "Company id", company),
        ]
        try:
            answer = self._kept.get(Choice(month, by, company or None))
        except ConfigurationError as error:
            return TeamPage(title="Margin", tables=[], fields=fields, attention=[str(error)])
        found = answer.value
        number = page_number(query)
        rows = () if found is None else found.rows
        page = rows[(number - 1) * SHOWN : number * SHOWN]
        more = {"month": month, "by": by, "company": company, "page": str(number + 1)}
        return TeamPage(
            title="Margin",
            tables=[] if found is None else [table_of(found, page), _totals(found)],
            fields=fields,
            attention=() if found is None else found.attention,
            notes=[*notes_of(answer), *(() if found is None else found.notes), "Only the team sees this page."],
            following=Link("Next page", "margin", more) if len(rows) > number * SHOWN else None,
        )


def table_of(found: MarginReport, rows: tuple[Margin, ...] | None = None) -> Table:
    """Return *rows* as a table; all rows of *found* by default."""
    shown = found.rows if rows is None else rows
    amounts = ["revenue", "cost", "margin"]
    return Table(
        "margin",
        f"By {found.by}, {found.month}",
        [found.by, *amounts, "margin %", "to be noted"],
        [[_name(found, row), *_amounts(row), row.remark] for row in shown],
        note="The worst first." if len(found.rows) > 1 else "",
        empty="There is no usage in this month.",
    )


def _totals(found: MarginReport) -> Table:
    return Table(
        "totals",
        "In all",
        ["currency", "revenue", "cost", "margin", "margin %"],
        [[row.currency, *_amounts(row)] for row in found.totals],
    )


def _name(found: MarginReport, row: Margin) -> Cell:
    if row.company:
        return Link(row.company, "margin", {"month": found.month, "company": row.company, "by": "meter"})
    return row.name


def _amounts(row: Margin) -> list[Cell]:
    money = partial(_money, currency=row.currency)
    percent = row.percent
    return [money(row.revenue), money(row.cost), money(row.margin), None if percent is None else f"{percent}%"]


def _money(amount: Decimal | None, currency: str) -> Money:
    return Money(None if amount is None else rounded(amount, currency), currency)


def _month(text: str, now: int) -> str:
    try:
        found = parse_month(text or None, now)
    except (UsageError, OverflowError):
        found = month_of(now)
    return str(Day((found if 0 <= found.start <= now else month_of(now)).start, is_month=True))
