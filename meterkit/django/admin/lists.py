"""What the admin lists: meter events, notices and corrections, read from the ledger; and what all lists share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, ClassVar, get_args

import sqlalchemy as sa

from meterkit.core.usage_key import NOBODY
from meterkit.django.admin.keyset import PAGE, Key, ordered, read, written
from meterkit.kit import MeterKit
from meterkit.ledger import schema
from meterkit.notices.notice import Kind

STATES = ("pending", "sent", "rejected", "uncertain", "invoiced", "returned", "canceled")


@dataclass(frozen=True, slots=True)
class Asked:
    """
    What a page is asked for.

    Attributes:
        search: Text to look for, or empty.
        chosen: Value of each filter that is set.
        after: Where the page begins, as the page before says it; empty for the first.
    """

    search: str = ""
    chosen: Mapping[str, str] = field(default_factory=dict)
    after: str = ""


@dataclass(frozen=True, slots=True)
class Listed:
    """
    A page.

    Attributes:
        rows: Cells of each row: text, int, datetime or None.
        after: Where the next page begins; empty if there is none.
    """

    rows: list[list[Any]] = field(default_factory=list)
    after: str = ""


@dataclass(frozen=True, slots=True)
class Filter:
    """
    A choice at the side of a list.

    Attributes:
        name: Name of its parameter.
        title: Title.
        choices: Label of each value.
    """

    name: str
    title: str
    choices: Mapping[str, str]


class LedgerList(ABC):
    """
    A list of the admin.

    Attributes:
        columns: Titles of the columns.
        search_help: What can be looked for.
    """

    columns: ClassVar[Sequence[str]]
    search_help: ClassVar[str] = "Company id."

    @abstractmethod
    def filters(self, kit: MeterKit) -> Iterable[Filter]:
        """Return the filters."""

    @abstractmethod
    def page(self, kit: MeterKit, asked: Asked) -> Listed:
        """
        Return a page.

        Raises:
            LedgerError: The ledger cannot be read.
        """


class MeterEventList(LedgerList):
    """Meter events, latest first."""

    columns = ("made", "hour", "meter", "company", "customer", "quantity", "state", "attempts", "error", "identifier")
    search_help = "Company id, customer id or identifier."

    def filters(self, kit: MeterKit) -> Iterable[Filter]:
        """Return the filters."""
        return [meters_of(kit), Filter("state", "state", {each: each for each in STATES})]

    def page(self, kit: MeterKit, asked: Asked) -> Listed:
        """Return a page; see `LedgerList`."""
        table = schema.reports
        query = sa.select(table)
        for name in ("meter", "state"):
            if name in asked.chosen:
                query = query.where(table.c[name] == asked.chosen[name])
        if asked.search:
            # Each by an index of its own. That of companies begins with the meter, so all meters are named.
            meters = [(each.name, each.event_name) for each in kit.meters.values()]
            places = sa.tuple_(table.c.meter, table.c.event_name).in_(meters)
            conditions = [
                table.c.identifier == asked.search,
                table.c.customer == asked.search,
                sa.and_(places, table.c.company == asked.search),
            ]
            found = sa.union(*(sa.select(table.c.id).where(each) for each in conditions)).subquery()
            query = query.where(table.c.id.in_(sa.select(found.c.id)))
        return listed(
            kit,
            ordered(query, [Key(table.c.id, descending=True)], read(asked.after, [int])),
            keys=["id"],
            cells=lambda row: [
                moment(row.created_at),
                moment(row.window),
                row.meter,
                row.company,
                row.customer,
                row.quantity,
                row.state,
                row.attempts,
                row.error or None,
                row.identifier,
            ],
        )


class NoticeList(LedgerList):
    """Notices, latest first."""

    columns = ("at", "kind", "company", "title", "deliveries")

    def filters(self, kit: MeterKit) -> Iterable[Filter]:  # noqa: ARG002 - of the protocol
        """Return the filters."""
        return [Filter("kind", "kind", {each: each.replace("_", " ") for each in get_args(Kind)})]

    def page(self, kit: MeterKit, asked: Asked) -> Listed:
        """Return a page; see `LedgerList`."""
        table, deliveries = schema.notices, schema.deliveries
        query = sa.select(table)
        if "kind" in asked.chosen:
            query = query.where(table.c.kind == asked.chosen["kind"])
        if asked.search:
            query = query.where(table.c.company == asked.search)
        keys = [Key(table.c.created_at, descending=True), Key(table.c.key)]
        query = ordered(query, keys, read(asked.after, [int, str]))
        with kit.process().database().snapshot() as connection:
            found = connection.execute(query).all()
            of_page = deliveries.c.notice.in_([row.key for row in found])
            states: dict[str, list[str]] = {}
            for row in connection.execute(sa.select(deliveries).where(of_page).order_by(deliveries.c.channel)):
                said = f"{row.channel}: {row.state.replace('_', ' ')}"
                states.setdefault(row.notice, []).append(f"{said} ({row.error})" if row.error else said)
        return cut(
            found,
            keys=["created_at", "key"],
            cells=lambda row: [
                moment(row.created_at),
                row.kind.replace("_", " "),
                row.company,
                row.title,
                "; ".join(states.get(row.key, ())),
            ],
        )


class CorrectionList(LedgerList):
    """Corrections, latest first."""

    columns = ("at", "hour", "meter", "company", "quantity", "state", "reason", "error")

    def filters(self, kit: MeterKit) -> Iterable[Filter]:
        """Return the filters."""
        return [meters_of(kit)]

    def page(self, kit: MeterKit, asked: Asked) -> Listed:
        """Return a page; see `LedgerList`."""
        table = schema.corrections
        query = sa.select(table)
        if "meter" in asked.chosen:
            query = query.where(table.c.meter == asked.chosen["meter"])
        if asked.search:
            query = query.where(table.c.company == asked.search)
        keys = [Key(table.c.created_at, descending=True), Key(table.c.id)]
        return listed(
            kit,
            ordered(query, keys, read(asked.after, [int, str])),
            keys=["created_at", "id"],
            cells=lambda row: [
                moment(row.created_at),
                moment(row.window),
                row.meter,
                or_nobody(row.company),
                row.quantity,
                row.state,
                row.reason,
                row.error or None,
            ],
        )


def listed(kit: MeterKit, query: Any, *, keys: list[str], cells: Callable[[Any], list[Any]]) -> Listed:
    """Return the page that *query* finds; see `cut`."""
    with kit.process().database().snapshot() as connection:
        found = connection.execute(query).all()
    return cut(found, keys=keys, cells=cells)


def cut(found: Sequence[Any], *, keys: list[str], cells: Callable[[Any], list[Any]]) -> Listed:
    """Return the rows of a page; one more than that says that another page follows."""
    shown = found[:PAGE]
    after = written([getattr(shown[-1], name) for name in keys]) if len(found) > PAGE else ""
    return Listed([cells(row) for row in shown], after)


def meters_of(kit: MeterKit) -> Filter:
    """Return the filter by meter."""
    return Filter("meter", "meter", {name: name for name in kit.meters})


def moment(seconds: int) -> datetime:
    """Return Unix seconds as Django shows them, in its time zone."""
    return datetime.fromtimestamp(seconds, timezone.utc)


def or_nobody(company: str) -> str:
    """Return *company*, or what is shown for none."""
    return "(nobody)" if company == NOBODY else company
