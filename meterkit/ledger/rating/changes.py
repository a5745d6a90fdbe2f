"""Take back usage that was rated, or give it another rate. What was reported already follows as a difference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import sqlalchemy as sa

from meterkit.core.usage_key import NOBODY
from meterkit.errors import UsageError
from meterkit.ledger import schema
from meterkit.ledger.bulk import add_to
from meterkit.ledger.daily_totals import UsageRow, add_totals
from meterkit.ledger.rating.rows import UNPRICED, Payer, Rater, Raters, in_millionths, lock
from meterkit.ledger.schema.quantities import literal, subtracted


class Place(NamedTuple):
    """
    Where rated usage is.

    Attributes:
        company: Company id.
        meter: Name of the meter whose usage is rated.
        window: Unix second at which the window begins.
        dimensions: Values as text; empty for none.
        amounts: Name of the meter of the amounts.
    """

    company: str
    meter: str
    window: int
    dimensions: str
    amounts: str


class Move(NamedTuple):
    """
    Rated usage that gets another rate.

    Attributes:
        place: Where it is.
        old: Rate that it has, in trillionths of the currency; `UNPRICED` if it has no price.
        new: Rate that it gets; None if it is taken away.
        quantity: Units.
    """

    place: Place
    old: int
    new: int | None
    quantity: int


def reverse(
    connection: sa.Connection,
    raters: Raters,
    *,
    company: str,
    meter: str,
    window: int,
    dimensions: str,
    quantity: int,
) -> None:
    """
    Take away what *quantity* units cost, which have been subtracted from the usage. At the highest rates first.

    Args:
        connection: Connection in the transaction.
        raters: Tables of rates of the kit.
        company: Company id.
        meter: Name of the meter.
        window: Unix second at which the window begins.
        dimensions: Values as text; empty for usage without values, or for all of the window.
        quantity: Units.

    Raises:
        UsageError: Less than that is rated, or it is not clear of which values it is; or the kit rates nothing.
    """
    table = schema.rated
    known = sa.select(table).filter_by(company=company, meter=meter, window=window).where(table.c.quantity != 0)
    lock(connection, [(row.company, row.amounts) for row in connection.execute(known)])
    rows = list(connection.execute(known.order_by(table.c.rate.desc(), table.c.dimensions).with_for_update()))
    chosen = [row for row in rows if row.dimensions == dimensions]
    if not dimensions and quantity == sum(row.quantity for row in rows):
        chosen = rows
    left = quantity
    moves = []
    for row in chosen:
        taken = max(0, min(left, row.quantity))
        if taken:
            left -= taken
            moves.append(Move(Place(company, meter, window, row.dimensions, row.amounts), row.rate, None, taken))
    if left:
        raise UsageError(
            f"only {quantity - left:,} of {quantity:,} units of {meter} in that hour are of these values, so it is not "
            "clear what they cost: say of which values they are, with dimensions= or --dimension",
            reason="correction_ambiguous",
        )
    move(connection, raters, moves)


def move(connection: sa.Connection, raters: Raters, moves: Iterable[Move]) -> None:
    """
    Give rated usage other rates, and add the differences to the amounts.

    Args:
        connection: Connection in the transaction, which has locked the sums of the payers.
        raters: Tables of rates of the kit.
        moves: What gets another rate.

    Raises:
        UsageError: The kit has no table for a meter any more.
    """
    given = list(moves)
    differences: dict[Payer, list[UsageRow]] = {}
    rows: list[tuple[Any, ...]] = []
    for place, old, new, quantity in given:
        rater = _rater(raters, place)
        is_sent = bool(rater.event_name)  # else, what is billed stays, and the difference becomes a line
        rows.append((*place, old, -quantity, -quantity if is_sent and old != UNPRICED else 0))
        if new is not None:
            rows.append((*place, new, quantity, quantity if is_sent and new != UNPRICED else 0))
        more = quantity * (max(new or 0, 0) - max(old, 0))
        if more:
            amount = (place.amounts, rater.event_name, place.company, NOBODY, place.window, more, 0, place.window)
            differences.setdefault((place.company, place.amounts), []).append(amount)
    if rows:
        add_to(schema.rated, connection, rows, add=("quantity", "billed"))
        _add(connection, in_millionths(connection, differences))


def _rater(raters: Raters, place: Place) -> Rater:
    rater = raters.get(place.meter)
    if rater is None or rater.name != place.amounts:
        raise UsageError(
            f"usage of {place.meter} was rated as {place.amounts}, and the kit has no Price.by(...) for that: put it "
            "back, for as long as there is usage to correct",
            reason="price_missing",
        )
    return rater


def _add(connection: sa.Connection, amounts: Iterable[UsageRow]) -> None:
    """Add *amounts*, of which some are negative, to the usage. What is taken away is taken from whoever has used it."""
    sums: dict[tuple[str, str, str, str, int], int] = {}
    for meter, event_name, company, user, window, quantity, _, _ in amounts:
        key = (meter, event_name, company, user, window)
        sums[key] = sums.get(key, 0) + quantity
    changed: list[UsageRow] = []
    for (meter, event_name, company, user, window), quantity in sorted(sums.items()):
        rest = quantity
        if quantity < 0:
            rest = -_take(connection, (meter, event_name, company, window), -quantity)
        settled = 0 if event_name else rest
        if rest:  # a millionth less than there is, at most: the rounding may have put it into another window
            row: UsageRow = (meter, event_name, company, user, window, rest, settled, window)
            add_to(schema.usage, connection, [row], add=("quantity", "reported"), latest="last_used")
        if quantity:
            changed.append((meter, event_name, company, user, window, quantity, 0, window))
    counted = add_totals(connection, changed)
    add_to(schema.counted, connection, counted.items(), add="quantity")


def _take(connection: sa.Connection, place: tuple[str, str, str, int], quantity: int) -> int:
    """Subtract *quantity* from the usage of a window, and return how much it lacks."""
    meter, event_name, company, window = place
    table = schema.usage
    mine: Mapping[str, Any] = {"meter": meter, "event_name": event_name, "company": company, "window": window}
    left = quantity
    for row in list(connection.execute(sa.select(table).filter_by(**mine).order_by(table.c.user).with_for_update())):
        taken = max(0, min(left, row.quantity))
        if taken:
            left -= taken
            names = ["quantity"] if event_name else ["quantity", "reported"]
            values = {name: subtracted(table.c[name], literal(taken)) for name in names}
            connection.execute(sa.update(table).filter_by(**mine, user=row.user).values(values))
    return left
