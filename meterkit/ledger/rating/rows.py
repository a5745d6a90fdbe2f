"""
Rate usage, in the transaction that writes it.

The units of such a meter are never reported. What they cost is usage of another meter, of amounts in millionths of the
currency, and whatever holds for a meter holds for that: reports, previews, limits, notices, corrections, late usage.
The rate of each unit is kept, so that a table that changes later changes nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol, TypeAlias

import sqlalchemy as sa

from meterkit.core.threads import yielding
from meterkit.core.usage_key import VALUES, is_shadowed, split_values
from meterkit.ledger import schema
from meterkit.ledger.bulk import add_to, select_by_key
from meterkit.ledger.daily_totals import UsageRow
from meterkit.ledger.schema.quantities import loaded

UNPRICED = -1
"""Rate of usage that has no price."""

TRILLIONTHS = 10**6
"""Trillionths of the currency in a millionth."""


class Rater(Protocol):
    """A table of rates, as `meterkit.pricing` has it."""

    @property
    def name(self) -> str:
        """Name of the meter of the amounts."""

    @property
    def event_name(self) -> str:
        """Event name under which the amounts are kept; empty if they are not sent as meter events."""

    @property
    def sold_as(self) -> str:
        """Event name of the price in Stripe."""

    @property
    def currency(self) -> str:
        """Three-letter currency code, lower case."""

    def group(self, dimensions: str) -> str:
        """Return *dimensions*, values as text, with those alone that decide on the rate."""

    def rate(self, dimensions: str, window: int) -> int | None:
        """Return what a unit costs, in trillionths of the currency; None if it has no price."""


Raters: TypeAlias = Mapping[str, Rater]
"""Tables of rates by the name of the meter whose usage they rate."""

Payer: TypeAlias = "tuple[str, str]"
"""Company, and name of a meter of amounts."""


def rate(connection: sa.Connection, rows: list[UsageRow], raters: Raters) -> list[UsageRow]:
    """
    Return *rows* with what they cost, as usage of the meters of amounts.

    What was counted in shadow mode stays as it is: another program bills it.

    Args:
        connection: Connection in the transaction that writes the rows.
        rows: Rows of usage, with their values in the event names.
        raters: Tables of rates.
    """
    if not raters or not any(row[0] in raters for row in yielding(rows)):
        return rows
    units: list[UsageRow] = []
    rated: dict[tuple[str, str, int, str, str, int], tuple[int, int]] = {}
    priced: dict[Payer, list[UsageRow]] = {}
    for row in yielding(rows):
        meter, marked, company, user, window, quantity, _, last_used = row
        rater = raters.get(meter)
        event_name, values = ("", "") if rater is None else split_values(marked)
        if rater is None or not event_name or is_shadowed(event_name):
            units.append(row)
            continue
        units.append((meter, VALUES + values if values else "", company, user, window, quantity, quantity, last_used))
        found = rater.rate(values, window)
        key = (company, meter, window, values, rater.name, UNPRICED if found is None else found)
        known, billed = rated.get(key, (0, 0))
        rated[key] = (known + quantity, billed + (quantity if rater.event_name and found is not None else 0))
        if found:
            amount = (rater.name, rater.event_name, company, user, window, quantity * found, 0, last_used)
            priced.setdefault((company, rater.name), []).append(amount)
    amounts = in_millionths(connection, priced)
    add_to(schema.rated, connection, [(*key, *sums) for key, sums in rated.items()], add=("quantity", "billed"))
    return units + amounts


def in_millionths(connection: sa.Connection, priced: Mapping[Payer, list[UsageRow]]) -> list[UsageRow]:
    """
    Add exact amounts to the sums of their payers, and return them in millionths.

    The millionths of a payer are its exact sum, rounded down: so what an invoice rounds, it rounds as the exact sum.

    Args:
        connection: Connection in the transaction.
        priced: Rows of usage by payer, each with the amount in trillionths in place of the quantity.
    """
    if not priced:
        return []
    more = {payer: sum(row[5] for row in rows) for payer, rows in priced.items()}
    # From here to the commit, other transactions that rate usage of these payers wait.
    add_to(schema.rated_sums, connection, [(*payer, amount) for payer, amount in sorted(more.items())], add="amount")
    keys = sorted(more)
    after: dict[Payer, int] = {}
    for row in select_by_key(schema.rated_sums, connection, ("company", "amounts"), keys):
        after[row.company, row.amounts] = loaded(row.amount) or 0
    found: list[UsageRow] = []
    for payer in keys:
        exact = after[payer] - more[payer]
        for meter, event_name, company, user, window, amount, _, last_used in yielding(priced[payer]):
            quantity = (exact + amount) // TRILLIONTHS - exact // TRILLIONTHS
            exact += amount
            if quantity:
                settled = 0 if event_name else quantity
                found.append((meter, event_name, company, user, window, quantity, settled, last_used))
    return found


def lock(connection: sa.Connection, payers: Iterable[Payer]) -> None:
    """Lock the sums of *payers* until the transaction ends, before anything else that a fold writes."""
    add_to(schema.rated_sums, connection, [(*payer, 0) for payer in sorted(set(payers))], add="amount")


def prune(connection: sa.Connection, keys: Iterable[tuple[str, str, str, int]]) -> None:
    """
    Delete the rates of usage that was deleted. What has no price, and what is on no invoice yet, stays.

    Args:
        connection: Connection in the transaction that has deleted it.
        keys: Meter, event name, company and window of the usage, of which the rows of some users may be left.
    """
    table, usage = schema.rated, schema.usage
    names = ("meter", "company", "window")
    deleted = [
        {"old_meter": meter, "old_company": company, "old_window": window}
        for meter, event_name, company, window in sorted(set(keys))
        if not event_name
    ]
    if deleted:
        same = sa.and_(*(table.c[name] == sa.bindparam(f"old_{name}") for name in names))
        is_used = sa.exists().where(*(usage.c[name] == table.c[name] for name in names), usage.c.event_name == "")
        is_billed = sa.and_(table.c.quantity == table.c.billed, table.c.rate != UNPRICED)
        connection.execute(sa.delete(table).where(same, is_billed, ~is_used), deleted)
