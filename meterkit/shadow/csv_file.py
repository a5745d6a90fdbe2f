"""What another program has billed, from a CSV file."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

from meterkit.core.periods import Period
from meterkit.core.validation import checked_id
from meterkit.errors import UsageError
from meterkit.shadow.comparison import Sums, start_of

T = TypeVar("T")

SHOWN = 10
"""Number of wrong lines that the error lists."""

PAYERS = ("company", "customer")
"""Columns that say who pays; a file has one of them."""

COLUMNS = ("meter", "start", "quantity")
"""The other columns."""

_QUANTITY = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,12})?")


def names_customers(path: Path) -> bool:
    """
    Return whether the file names Stripe customers, not companies.

    Raises:
        UsageError: The first line has other columns than it should.
        OSError: The file cannot be read.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        return _reading(lambda: _payer_in(csv.DictReader(file, strict=True).fieldnames or ())) == "customer"


def csv_sums(path: Path, meters: Collection[str], *, month: Period, end: int, step: int | None) -> Sums:
    """
    Return the sums of a CSV file with the columns ``company`` or ``customer``, ``meter``, ``start`` and ``quantity``.

    Rows of the same place are added up. Rows outside of the range are left out.

    Args:
        path: Path of the file, in UTF-8.
        meters: Names of the kit's meters.
        month: Month that is compared.
        end: Unix second at which the range ends, excluded.
        step: Length of an interval in seconds; None for the whole month.

    Raises:
        UsageError: Something in the file cannot be compared: nothing is. Or no row is of that month.
        OSError: The file cannot be read.
    """
    return _reading(lambda: _read(path, meters, month=month, end=end, step=step))


def _reading(read: Callable[[], T]) -> T:
    try:
        return read()
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"the file is not CSV in UTF-8: {error}", reason="file_wrong") from None


def _read(path: Path, meters: Collection[str], *, month: Period, end: int, step: int | None) -> Sums:
    found: Sums = {}
    wrong: list[str] = []
    number = of_month = mistakes = 0
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file, strict=True)
        payer = _payer_in(rows.fieldnames or ())
        for row in rows:
            number += 1
            try:
                who, meter, moment, quantity = _parsed(row, payer, meters)
            except UsageError as error:
                mistakes += 1
                wrong += [f"line {rows.line_num}: {error}"] if len(wrong) < SHOWN else []
                continue
            of_month += month.start <= moment < month.end
            if month.start <= moment < end:
                sums = found.setdefault((who, meter), {})
                at = start_of(moment, step, month=month.start)
                sums[at] = sums.get(at, Decimal(0)) + quantity
    if wrong:
        more = f"; and {mistakes - SHOWN:,} more" if mistakes > SHOWN else ""
        raise UsageError(f"nothing was compared: {'; '.join(wrong)}{more}", reason="file_wrong")
    if not of_month:
        name = datetime.fromtimestamp(month.start, timezone.utc).strftime("%Y-%m")
        raise UsageError(
            f"none of the {number:,} rows of {path.name} is of {name}, in UTC; choose the month that it is of with "
            "--month or month=",
            reason="file_wrong",
        )
    return found


def _payer_in(names: Collection[str]) -> str:
    payers = [name for name in PAYERS if name in names]
    missing = [name for name in COLUMNS if name not in names]
    unknown = [name for name in names if name not in (*PAYERS, *COLUMNS)]
    if len(payers) != 1 or missing or unknown:
        raise UsageError(
            f"the first line must name the columns company (or customer), meter, start and quantity, separated by "
            f"commas; it names: {', '.join(names)[:200] or 'nothing'}",
            reason="file_wrong",
        )
    return payers[0]


def _parsed(row: Mapping[str, str | None], payer: str, meters: Collection[str]) -> tuple[str, str, int, Decimal]:
    who, meter, start, quantity = (row[name] for name in (payer, *COLUMNS))
    if None in row or who is None or meter is None or start is None or quantity is None:
        raise UsageError("it has more or fewer columns than the first line", reason="file_wrong")
    if meter not in meters:
        raise UsageError(f"unknown meter {meter!r:.100}; available: {', '.join(meters)}", reason="meter_unknown")
    if not _QUANTITY.fullmatch(quantity.strip()):
        raise UsageError(
            f"quantity must be a number of at most 15 digits, such as 1200, not {quantity!r:.50}",
            reason="quantity_not_int",
        )
    return checked_id(who, payer), meter, _moment(start.strip()), Decimal(quantity.strip())


def _moment(text: str) -> int:
    """Parse an ISO 8601 time with a time zone, or Unix seconds."""
    if text.isascii() and text.isdigit():
        return int(text[:12])
    found = None
    with suppress(ValueError):
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    if found is None or found.utcoffset() is None:
        raise UsageError(
            f"start must be a time with a time zone, such as 2026-03-01T12:00:00Z, or Unix seconds, not {text!r:.50}",
            reason="at_not_aware",
        )
    return int(found.timestamp())
