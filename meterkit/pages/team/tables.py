"""What a page of the team consists of: figures and tables; and a table as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import urlencode

from meterkit.pricing.price import digits

FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r")
"""Characters with which a spreadsheet takes a cell for a formula."""


class Link(NamedTuple):
    """
    Text that leads to another page of the team.

    Attributes:
        text: Text of the link.
        page: Path of the page below ``team``.
        query: Parameters of the page.
    """

    text: str
    page: str
    query: Mapping[str, str] = {}

    @property
    def kind(self) -> str:
        """How a template shows it."""
        return "link"

    @property
    def address(self) -> str:
        """Path below the first page, with the query string."""
        parts = {name: value for name, value in self.query.items() if value}
        return f"team/{self.page}".rstrip("/") + (f"?{urlencode(parts)}" if parts else "")


class External(NamedTuple):
    """
    Text that leads to a page of Stripe's.

    Attributes:
        text: Text of the link.
        url: Address, which begins with ``https://``; None for text without a link.
    """

    text: str
    url: str | None

    @property
    def kind(self) -> str:
        """How a template shows it."""
        return "external"

    @property
    def is_safe(self) -> bool:
        """Whether the address is one of a web page, and runs no script."""
        return self.url is not None and self.url.startswith(("https://", "http://"))


class Money(NamedTuple):
    """
    An amount.

    Attributes:
        amount: Amount in whole currency; None if it is not known.
        currency: Three-letter currency code, lower case.
    """

    amount: Decimal | None
    currency: str

    @property
    def kind(self) -> str:
        """How a template shows it."""
        return "money"


class Moment(NamedTuple):
    """
    A point in time.

    Attributes:
        at: Unix seconds.
    """

    at: int

    @property
    def kind(self) -> str:
        """How a template shows it."""
        return "time"

    @property
    def iso(self) -> str:
        """As ISO 8601, in UTC."""
        return datetime.fromtimestamp(self.at, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")

    def __str__(self) -> str:
        return datetime.fromtimestamp(self.at, timezone.utc).strftime("%Y-%m-%d %H:%M")


class Day(NamedTuple):
    """
    A day or a month, in UTC.

    Attributes:
        at: Unix second at which it begins.
        is_month: Whether it is a month.
    """

    at: int
    is_month: bool = False

    @property
    def kind(self) -> str:
        """How a template shows it."""
        return "time"

    @property
    def iso(self) -> str:
        """As ISO 8601."""
        return str(self)

    def __str__(self) -> str:
        return datetime.fromtimestamp(self.at, timezone.utc).strftime("%Y-%m" if self.is_month else "%Y-%m-%d")


class Share(NamedTuple):
    """
    A part of something.

    Attributes:
        used: The part.
        limit: The whole.
    """

    used: Decimal
    limit: Decimal

    @property
    def kind(self) -> str:
        """How a template shows it."""
        return "share"

    @property
    def percent(self) -> int:
        """The part in percent, rounded down; 100 if the whole is nothing."""
        return int(self.used * 100 // self.limit) if self.limit else 100


Cell: TypeAlias = "str | int | Link | External | Money | Moment | Day | Share | None"
"""What a table can show in one cell."""


@dataclass(frozen=True)
class Table:
    """
    A table of a page.

    Attributes:
        id: Name of the table in addresses.
        title: Heading of the table.
        columns: Headings of its columns.
        rows: Cells, row by row.
        note: What should be known about the figures; empty for nothing.
        empty: What is said if there are no rows.
        has_chart: Whether the script draws the table as well: the first column is the time, the others are quantities.
    """

    id: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    empty: str = "Nothing."
    has_chart: bool = False

    def is_amount(self, column: int) -> bool:
        """Return whether a column holds numbers or amounts, which stand one below the other."""
        cells = [row[column] for row in self.rows if row[column] is not None]
        return bool(cells) and all(isinstance(cell, int | Money | Share) for cell in cells)


@dataclass(frozen=True)
class Field:
    """
    A field of the form above a page.

    Attributes:
        name: Parameter in the address.
        label: Label of the field.
        value: Current value.
        choices: Values to choose from, with their texts; empty for free text.
    """

    name: str
    label: str
    value: str
    choices: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class TeamPage:
    """
    A page of the team.

    Attributes:
        title: Heading of the page.
        tables: Tables of the page.
        figures: Single figures above the tables, with their labels.
        fields: Fields of the form that changes what is shown.
        kept: Parameters that the form keeps.
        attention: What somebody should do something about.
        notes: What should be known about the page.
        following: Where the next rows are; None if these are the last.
        about: What the page is about, such as a company; empty for none.
    """

    title: str
    tables: Sequence[Table]
    figures: Sequence[tuple[str, Cell]] = ()
    fields: Sequence[Field] = ()
    kept: Mapping[str, str] = field(default_factory=dict)
    attention: Sequence[str] = ()
    notes: Sequence[str] = ()
    following: Link | None = None
    about: str = ""


def page_number(query: Mapping[str, str]) -> int:
    """Return the number of the page that the parameter ``page`` asks for, from 1."""
    text = query.get("page", "")
    return max(int(text), 1) if text.isascii() and text.isdigit() and len(text) <= _DIGITS else 1


_DIGITS = 6


def as_csv(table: Table) -> bytes:
    """Return *table* as CSV in UTF-8, its times as ISO 8601, amounts as plain digits with a column for the currency."""
    is_money = [any(isinstance(row[at], Money) for row in table.rows) for at in range(len(table.columns))]
    written = io.StringIO(newline="")
    writer = csv.writer(written)
    writer.writerow(_spread(((heading, f"{heading} currency"), is_two) for heading, is_two in _pairs(table, is_money)))
    for row in table.rows:
        writer.writerow(_spread((_texts(cell), is_two) for cell, is_two in zip(row, is_money, strict=True)))
    return written.getvalue().encode("utf-8", "replace")


def _pairs(table: Table, is_money: Sequence[bool]) -> Iterable[tuple[str, bool]]:
    return zip(table.columns, is_money, strict=True)


def _spread(cells: Iterable[tuple[tuple[str | int, str], bool]]) -> list[Any]:
    """Return each cell's first text, safe for a spreadsheet, and its second one where the column has two."""
    found: list[Any] = []
    for (first, second), is_two in cells:
        found += [_safe(first), *([second] if is_two else [])]
    return found


def _texts(cell: Cell) -> tuple[str | int, str]:
    if cell is None:
        return "", ""
    if isinstance(cell, Money):
        return ("" if cell.amount is None else digits(cell.amount)), cell.currency
    if isinstance(cell, Moment | Day):
        return cell.iso, ""
    if isinstance(cell, Share):
        return f"{cell.percent}%", ""
    if isinstance(cell, Link | External):
        return cell.text, ""
    return cell, ""


def _safe(cell: str | int) -> str | int:
    """Return *cell* so that no spreadsheet takes it for a formula; negative numbers stay what they are."""
    if not isinstance(cell, str) or not cell.startswith(FORMULA_SIGNS):
        return cell
    return cell if cell[1:].replace(".", "", 1).isdecimal() and cell.startswith("-") else f"'{cell}"
