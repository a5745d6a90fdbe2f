"""The admin's list of usage, by hour."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from meterkit.core.periods import DAY, day_of
from meterkit.django.admin.keyset import PAGE, Key, ordered, read, written
from meterkit.django.admin.lists import Asked, Filter, LedgerList, Listed, cut, meters_of, moment, or_nobody
from meterkit.kit import MeterKit
from meterkit.ledger import schema
from meterkit.ledger.schema.due import due, not_due

SINCE = {"today": (0, "Today"), "week": (7, "Past 7 days"), "month": (30, "Past 30 days")}

DAYS = 31
"""Days of one meter that a page looks at, at most."""

KEYS = ("window", "meter", "event_name", "company", "user")


class UsageList(LedgerList):
    """Usage, latest hour first."""

    columns = ("hour", "meter", "company", "user", "quantity", "reported")

    def filters(self, kit: MeterKit) -> Iterable[Filter]:
        """Return the filters."""
        return [meters_of(kit), Filter("since", "hour", {name: label for name, (_, label) in SINCE.items()})]

    def page(self, kit: MeterKit, asked: Asked) -> Listed:
        """Return a page; see `LedgerList`."""
        table = schema.usage
        query, since = sa.select(table), 0
        if asked.chosen.get("since") in SINCE:
            since = day_of(int(kit.clock())).start - SINCE[asked.chosen["since"]][0] * DAY
            query = query.where(table.c.window >= since)
        after = read(asked.after, [int, str, str, str, str])
        meter, further = asked.chosen.get("meter"), ""
        if meter is not None:
            # Not by the index of the primary key: all rows of the meter would have to be sorted.
            query = query.where(sa.func.coalesce(table.c.meter, "") == meter)
        with kit.process().database().snapshot() as connection:
            if asked.search:
                of_company = query.where(table.c.company == asked.search)
                found = connection.execute(ordered(of_company, _latest_first(table.c), after)).all()
            elif meter is None:
                found = connection.execute(_latest(query, after)).all()
            else:
                found, further = _of_meter(connection, query, meter, since, after)
        page = cut(found, keys=list(KEYS), cells=_cells)
        return Listed(page.rows, page.after or further)


def _of_meter(
    connection: sa.Connection, query: sa.Select[Any], meter: str, since: int, after: Sequence[Any] | None
) -> tuple[list[Any], str]:
    """
    Return the latest rows of *query*, on the days on which its meter was used, and where to look further.

    A meter that is seldom used would else be looked for among the rows of all others.
    """
    usage, totals = schema.usage, schema.meter_totals
    oldest = [
        connection.scalar(sa.select(sa.func.min(usage.c.window)).where(half)) for half in _halves(usage)
    ]  # what is older has totals alone
    first = max(since, min((each for each in oldest if each is not None), default=0) - DAY)
    days = sa.select(totals.c.day).where(totals.c.meter == meter, totals.c.day >= first - DAY)
    if after is not None:
        days = days.where(totals.c.day <= after[0])
    found: list[Any] = []
    looked_at = list(connection.scalars(days.order_by(totals.c.day.desc()).limit(DAYS)))
    for day in looked_at:
        of_day = query.where(usage.c.window >= day, usage.c.window < day + DAY)
        found += connection.execute(_latest(of_day, after)).all()
        if len(found) > PAGE:
            break
    further = written([looked_at[-1] - 1, "", "", "", ""]) if len(looked_at) == DAYS else ""
    return found, further


def _latest(query: sa.Select[Any], after: Sequence[Any] | None) -> sa.Select[Any]:
    """Return *query* for a page, by two indexes on the hour: of what is reported, and of what is not."""
    halves = [
        sa.select(ordered(query.where(half), _latest_first(schema.usage.c), after).subquery())
        for half in _halves(schema.usage)
    ]
    both = sa.union_all(*halves).subquery()
    return ordered(sa.select(both), _latest_first(both.c), None)


def _halves(usage: sa.Table) -> list[sa.ColumnElement[bool]]:
    return [due(usage), not_due(usage)]


def _latest_first(columns: Any) -> list[Key]:
    first, *rest = [columns[name] for name in KEYS]
    return [Key(first, descending=True), *map(Key, rest)]


def _cells(row: Any) -> list[Any]:
    return [moment(row.window), row.meter, or_nobody(row.company), row.user or None, row.quantity, row.reported]
