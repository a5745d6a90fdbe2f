"""
Import past usage from a CSV file.

A file is identified by its content, and imported in portions, each of them once: an import that was interrupted can be
repeated, and the same file counts once. The whole file is checked before any of it is counted.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa

from meterkit.core.usage_key import NOBODY, VALUES, Counted, encoded_values, split_values
from meterkit.core.validation import MAX_QUANTITY, OLDEST_SECONDS, checked_id, checked_moment, checked_quantity
from meterkit.core.windows import Windows
from meterkit.errors import UsageError
from meterkit.ledger.daily_totals import UsageRow
from meterkit.ledger.database import Database
from meterkit.ledger.payers import payer_of
from meterkit.metering.aggregation import Aggregation
from meterkit.metering.dimensions.capture import checked_values
from meterkit.metering.meter import Meter
from meterkit.outbox.seal import not_linked, write_sent
from meterkit.pricing.opening_balances import subtract
from meterkit.runtime.process import ProcessRuntime
from meterkit.wallets.wallet import Wallet

T = TypeVar("T")

PORTION = 500
"""Rows in one transaction: it takes some milliseconds, for which other processes' flushes wait."""

SHOWN = 10
"""Number of wrong lines that the error lists."""

COLUMNS = ("meter", "company", "quantity", "at", "user")
"""Columns of the file; the last may be missing, or empty. Further ones are those of the meters' dimensions."""

Track = Callable[[Iterable[T], int], Iterable[T]]
"""Function that wraps an iterable and its length, to show progress."""


@dataclass(frozen=True, slots=True)
class BackfillResult:
    """
    Result of the import of one file.

    Attributes:
        rows: Number of rows in the file.
        counted: Number of rows that were counted now.
        known: Number of rows that had been counted before.
    """

    rows: int
    counted: int
    known: int


def backfill(
    runtime: ProcessRuntime,
    meters: Mapping[str, Meter],
    path: Path,
    *,
    now: float,
    track: Track[int],
    already_reported: bool = False,
    shadow_until: float = 0.0,
) -> BackfillResult:
    """
    Count the rows of a CSV file with the columns ``meter,company,quantity,at`` and optionally ``user`` and dimensions.

    Args:
        runtime: Runtime whose ledger receives the usage.
        meters: Meters of the kit, by name.
        path: Path of the file, in UTF-8.
        now: Current time, Unix seconds.
        track: Wraps the portions and their number, to show progress.
        already_reported: Whether others have reported the usage to Stripe, so that it is never sent.
        shadow_until: Unix second until which usage is counted in shadow mode.

    Raises:
        UsageError: Something in the file cannot be counted, or a company of usage that others have reported is not
            linked; nothing was counted.
        LedgerError: The ledger failed; import again.
    """
    data = path.read_bytes()
    windows = Windows(0.0 if already_reported else shadow_until)
    windows.past = runtime.accounts().boundaries(since=int(now) - OLDEST_SECONDS)
    counts = _counts(data, meters, windows, now)
    digest = hashlib.sha256(data).hexdigest()
    ledger = runtime.ledger()
    reported = None
    if already_reported:
        database = runtime.database()
        _check_linked(database, counts)
        reported = _Reported(int(now)).put
        _check_not_prepaid(counts, runtime.settings.wallets)
    counted = 0
    for start in track(range(0, len(counts), PORTION), -(-len(counts) // PORTION)):
        portion = counts[start : start + PORTION]
        name = hashlib.sha256(f"backfill {digest} {start}".encode()).hexdigest()[:32]
        settle = None if already_reported else runtime.balances().settle
        if ledger.fold(name, _merged(portion), settle=settle, already_reported=reported):
            counted += len(portion)
    return BackfillResult(len(counts), counted, len(counts) - counted)


class _Reported:
    """Stores what others have reported: as sent, and no more in opening balances, which had it so far."""

    def __init__(self, now: int) -> None:
        self._now = now

    def put(self, connection: sa.Connection, rows: list[UsageRow]) -> None:
        subtract(connection, write_sent(connection, rows, now=self._now))


def _check_linked(database: Database, counts: Iterable[Counted]) -> None:
    companies = sorted({key[2] for key, _, _ in counts if split_values(key[1])[0]})
    with database.snapshot() as connection:
        unlinked = [company for company in companies if payer_of(connection, company) is None]
    if unlinked:
        raise not_linked(unlinked)


def _check_not_prepaid(counts: Iterable[Counted], wallets: Mapping[str, Wallet]) -> None:
    used = {key[0] for key, _, _ in counts}
    prepaid = sorted(used & {name for wallet in wallets.values() for name in wallet.rates})
    if prepaid:
        raise UsageError(
            f"{prepaid[0]} is spent from a wallet and never reported to Stripe: import it without --already-reported "
            "(in code, already_reported=), or remove it from the file",
            reason="file_wrong",
        )


def _counts(data: bytes, meters: Mapping[str, Meter], windows: Windows, now: float) -> list[Counted]:
    try:
        rows = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        missing = [name for name in COLUMNS[:-1] if name not in (rows.fieldnames or ())]
        dimensions = {name for meter in meters.values() for name in meter.dimensions}
        unknown = [name for name in rows.fieldnames or () if name not in COLUMNS and name not in dimensions]
        if missing or unknown:
            raise UsageError(
                f"the first line must name the columns meter,company,quantity,at and optionally user and dimensions; "
                f"missing: {', '.join(missing) or 'none'}, unknown: {', '.join(unknown) or 'none'}",
                reason="file_wrong",
            )
        counts, wrong = [], []
        for row in rows:
            try:
                counts.append(_count(row, meters, windows, now))
            except UsageError as error:
                wrong.append(f"line {rows.line_num}: {error}")
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"the file is not CSV in UTF-8: {error}", reason="file_wrong") from None
    if wrong:
        more = f"; and {len(wrong) - SHOWN:,} more" if len(wrong) > SHOWN else ""
        raise UsageError(f"nothing was counted: {'; '.join(wrong[:SHOWN])}{more}", reason="file_wrong")
    return counts


def _count(row: Mapping[str, str | None], meters: Mapping[str, Meter], windows: Windows, now: float) -> Counted:
    if None in row or None in [row[name] for name in COLUMNS[:-1]]:
        raise UsageError("it has more or fewer columns than the first line", reason="file_wrong")
    meter = meters.get(row["meter"] or "")
    if meter is None:
        raise UsageError(f"unknown meter {row['meter']!r:.100}; available: {', '.join(meters)}", reason="meter_unknown")
    company = checked_id(row["company"], "company")
    user = checked_id(row["user"], "user") if row.get("user") else NOBODY
    moment = checked_moment(_moment(row["at"] or ""), now)
    quantity = checked_quantity(_number(row["quantity"] or ""))
    if isinstance(meter.value, Aggregation):
        quantity, user = 1, meter.value.recorded(quantity, user, user or None)
    window = windows.of_the_past(moment, company)
    event_name = windows.event_name(meter.event_name, window)
    given = {name: value for name, value in row.items() if name not in COLUMNS and value}
    if meter.by or given:
        values = checked_values(meter, given)
        event_name += VALUES + encoded_values(dict(zip(meter.dimensions, values, strict=True)))
    return (meter.name, event_name, company, user, window), quantity, moment


def _number(text: str) -> int:
    if not text.strip().isascii() or not text.strip().isdigit():
        raise UsageError(f"quantity must be a whole number, not {text!r:.50}", reason="quantity_not_int")
    if len(text) > 2 * len(str(MAX_QUANTITY)):  # Python refuses thousands of digits with an error of its own
        raise UsageError("quantity must have at most 15 digits; count in a larger unit", reason="quantity_too_large")
    return int(text)


def _moment(text: str) -> datetime:
    """Parse an ISO 8601 time with a time zone, or Unix seconds."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        return datetime.fromtimestamp(min(int(text[:12]), 2**33), tz=timezone.utc)
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise UsageError(
            f"at must be a time with a time zone, such as 2026-03-01T12:00:00Z, or Unix seconds, not {text!r:.50}",
            reason="at_not_aware",
        ) from None


def _merged(counts: Iterable[Counted]) -> list[Counted]:
    """Add up the counts of each usage key, as a journal generation does."""
    found: dict[object, Counted] = {}
    for key, quantity, moment in counts:
        if not quantity:
            continue
        _, before, latest = found.get(key, (key, 0, 0))
        found[key] = (key, before + quantity, max(latest, moment))
    return list(found.values())
