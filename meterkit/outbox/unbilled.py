"""
Usage that Stripe has, and will bill on no invoice.

Stripe takes the meter events of a customer whether or not a price bills them. A price bills usage from when it was put
on a subscription until it was taken off or the subscription ended. What lies outside of that is on no invoice, and
Stripe says nothing of it. Nor is what Stripe received when its bill had been made: after a change of the price, or
after a period of which there is no invoice, because nothing else was used in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache
from itertools import chain, islice
from typing import Any, TypeAlias

import sqlalchemy as sa

from meterkit.core.periods import instant
from meterkit.core.usage_key import billed_as
from meterkit.core.windows import HOUR
from meterkit.ledger import schema
from meterkit.ledger.database import Database
from meterkit.ledger.schema.quantities import sum_of
from meterkit.ledger.schema.stripe_mode import foreign_mode
from meterkit.outbox.seal import reported_in_shadow

RECENT_SECONDS = 40 * 24 * HOUR
"""Age of the usage that is looked at: a backdated subscription can still bill that of the last 35 days."""

CREATED_TOGETHER_SECONDS = 60
"""Most seconds between a subscription and an item that was created with it, which bills as far back."""

LAST_INVOICE_SECONDS = HOUR
"""Seconds after the end of a subscription within which its last invoice must have been heard of."""

CLOCKS_SECONDS = 5
"""Most seconds by which the clocks of Stripe and of this machine may differ."""

BATCH = 200
"""Spans of time that are looked up in one query."""

Pair: TypeAlias = "tuple[str, str]"
"""Stripe customer, and event name of a meter."""

Span: TypeAlias = "tuple[int, int]"
"""First Unix second, and the first one after it."""

_EVER = 1 << 60


@dataclass(frozen=True, slots=True)
class Unbilled:
    """
    Usage of one company and meter that no price bills.

    Attributes:
        company: Company id, as the application knows it.
        meter: Name of the meter.
        event_name: Event name of the meter in Stripe.
        customer: Id of the Stripe customer that would pay.
        quantity: Usage in the meter's unit.
        since: Unix second of the first of it.
        reason: Why no price bills it.
        is_late: Whether a price would have billed it, if Stripe had received it in time.
    """

    company: str
    meter: str
    event_name: str
    customer: str
    quantity: int
    since: int
    reason: str
    is_late: bool = False

    @property
    def cure(self) -> str:
        """How to have it billed."""
        if self.is_late:
            return "Bill it by hand"
        return (
            f"Put a price of {self.event_name} on a subscription of {self.customer}: what is used from then on is "
            "billed. For what was used before, create a subscription with backdate_start_date, which Stripe can bill "
            "for 35 days back, or bill it by hand"
        )

    def __str__(self) -> str:
        since = datetime.fromtimestamp(self.since, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
        return (
            f"{self.quantity:,} {self.meter} of {self.company} since {since} are on no invoice and will be on none: "
            f"{self.reason}"
        )


def unbilled(database: Database, *, now: int, is_free: Callable[[str], bool] | None) -> list[Unbilled]:
    """
    Return the usage of the last 40 days that Stripe has and that no price bills, the most first.

    Only of customers all of whose subscriptions were read from Stripe.

    Args:
        database: Database of the ledger.
        now: Current time, Unix seconds.
        is_free: Function that takes a company id, and returns whether its usage is free by a rule of the kit, and so is
            left out; None if nobody's is.

    Raises:
        LedgerError: The ledger cannot be read.
    """
    since = now - RECENT_SECONDS
    with database.snapshot() as connection:
        if foreign_mode(connection) is not None:
            return []
        known = schema.customers.c
        customers = list(connection.scalars(sa.select(known.id).where(known.subscriptions_read_at.is_not(None))))
        event_names = list(_event_names(connection)) if customers else []
        if not event_names:
            return []
        billed = _billed(connection, since, now)
        spans = (
            (customer, event_name, *gap)
            for customer in customers
            for event_name in event_names
            for gap in _gaps(billed.get((customer, event_name), []), since)
        )
        found: dict[tuple[str, str, str, str], tuple[int, int, int]] = {}
        for row in _used(connection, spans):
            key = (row.company, row.meter, row.event_name, row.customer)
            quantity, first, end = found.get(key, (0, row.first, row.end))
            found[key] = (quantity + int(row.quantity), min(first, row.first), max(end, row.end))
        subscribed = _subscribed(connection, {customer for *_, customer in found})
        late = [*_after_a_change(connection, since), *_after_a_period(connection, since, now)]
    named = [
        Unbilled(*key, quantity, first, _reason(key, billed, subscribed, end))
        for key, (quantity, first, end) in found.items()
    ]
    named = [each for each in (*named, *late) if each.quantity > 0 and not (is_free and is_free(each.company))]
    return sorted(named, key=lambda each: (-each.quantity, each.company, each.meter))


def by_company(found: Iterable[Unbilled]) -> dict[str, dict[str, int]]:
    """Return the quantities by company and meter name."""
    quantities: dict[str, dict[str, int]] = {}
    for each in found:
        of_company = quantities.setdefault(each.company, {})
        of_company[each.meter] = of_company.get(each.meter, 0) + each.quantity
    return quantities


def _event_names(connection: sa.Connection) -> Iterator[str]:
    """Yield the event names of all meters that were ever used, by a few look-ups in the primary key of the usage."""
    table = schema.usage
    query = sa.select(table.c.meter, table.c.event_name).order_by(table.c.meter, table.c.event_name).limit(1)
    seen: set[str] = {""}  # of what is never reported
    row = connection.execute(query).one_or_none()
    while row is not None:
        event_name = billed_as(row.event_name)
        if event_name not in seen:
            seen.add(event_name)
            yield event_name
        # Not a comparison of both columns at once: SQLite reads all rows of the meter for that.
        others = query.where(table.c.meter == row.meter, table.c.event_name > row.event_name)
        following = query.where(table.c.meter > row.meter)
        row = connection.execute(others).one_or_none() or connection.execute(following).one_or_none()


def _billed(connection: sa.Connection, since: int, now: int) -> dict[Pair, list[Span]]:
    """Return when prices of each meter were on a customer's subscriptions, so that they bill what was used then."""
    subscriptions, items, former = schema.subscriptions.c, schema.items.c, schema.former_items.c
    invoices = schema.invoices.c
    has_last_invoice = sa.exists().where(
        invoices.subscription == subscriptions.id,
        invoices.customer == subscriptions.customer,
        invoices.created >= subscriptions.ended_at - CREATED_TOGETHER_SECONDS,
    )
    deactivated_at = sa.select(schema.stripe_meters.c.deactivated_at)
    about = (
        subscriptions.created,
        subscriptions.started_at,
        subscriptions.billing_mode,
        subscriptions.ended_at,
        sa.and_(subscriptions.ended_at.is_not(None), has_last_invoice).label("has_last_invoice"),
    )
    present = (
        sa.select(
            schema.items,
            *about,
            sa.null().label("until"),
            sa.null().label("prorated"),
            deactivated_at.where(schema.stripe_meters.c.id == items.meter).scalar_subquery().label("deactivated_at"),
        )
        .join_from(schema.items, schema.subscriptions, items.subscription == subscriptions.id)
        .where(items.event_name.is_not(None))
        .where(sa.or_(subscriptions.ended_at.is_(None), subscriptions.ended_at >= since))
    )
    changed = (
        sa.select(
            schema.former_items,
            *about,
            deactivated_at.where(schema.stripe_meters.c.id == former.meter).scalar_subquery().label("deactivated_at"),
        )
        .join_from(schema.former_items, schema.subscriptions, former.subscription == subscriptions.id)
        .where(former.event_name.is_not(None), former.until >= since)
    )
    found: dict[Pair, list[Span]] = {}
    for query in (present, changed):
        for row in connection.execute(query):
            start = row.since
            if row.started_at is not None and start - row.created <= CREATED_TOGETHER_SECONDS:
                start = min(start, row.started_at)
            end = _end(row, now)
            if row.deactivated_at is not None:  # another meter with its event name counts from then on
                end = min(end, row.deactivated_at)
            found.setdefault((row.customer, row.event_name), []).append((start, end))
    return found


def _end(item: Any, now: int) -> int:
    """Return the Unix second from which an item, or what it was before a change, no longer bills usage."""
    ended_at = item.ended_at
    has_ended = ended_at is not None and ended_at <= now - LAST_INVOICE_SECONDS
    is_lost = has_ended and ended_at < item.period_end and not item.has_last_invoice
    if item.until is not None:
        # Flexible billing makes an item of the next invoice of what was used before, unless the change was made with
        # proration_behavior=none; classic billing forgets it.
        forgets = (item.billing_mode == "classic" or item.prorated is False) and item.until < item.period_end
        return int(item.period_start if forgets or is_lost else item.until)
    if ended_at is None:
        return _EVER
    return int(item.period_start if is_lost else ended_at)


def _gaps(spans: list[Span], since: int) -> Iterator[Span]:
    """Yield the time from *since* on that is in none of *spans*."""
    for start, end in sorted(spans):
        if end <= start:  # all of it was lost
            continue
        if start > since:
            yield since, start
        since = max(since, end)
    if since < _EVER:
        yield since, _EVER


def _used(connection: sa.Connection, spans: Iterator[tuple[str, str, int, int]]) -> Iterator[Any]:
    """Yield what was sent to Stripe of each customer and event name within *spans*, by company and meter."""
    while batch := list(islice(spans, BATCH)):
        values = {f"v{number}": value for number, value in enumerate(chain.from_iterable(batch))}
        yield from connection.execute(_query(len(batch)), values).all()


@lru_cache(maxsize=BATCH)
def _query(size: int) -> sa.Select[Any]:
    """Return the query for *size* spans, each a customer, an event name, a start and an end."""
    kinds: tuple[Any, ...] = (sa.Text(), sa.Text(), sa.BigInteger(), sa.BigInteger())
    rows = ", ".join(f"(:v{4 * row}, :v{4 * row + 1}, :v{4 * row + 2}, :v{4 * row + 3})" for row in range(size))
    bound = [sa.bindparam(f"v{number}", type_=kinds[number % 4]) for number in range(4 * size)]
    # Both databases name the columns of VALUES like this, and SQLite allows no other names.
    columns = [sa.column(f"column{number}", kind) for number, kind in enumerate(kinds, start=1)]
    span = sa.text(f"VALUES {rows}").bindparams(*bound).columns(*columns).cte("span")
    customer, event_name, start, until = span.c
    reports = schema.reports.c
    at_place = sa.and_(
        reports.customer == customer,
        reports.event_name == event_name,
        reports.window > start - HOUR,
        reports.window < until,
    )
    return (
        sa.select(
            reports.company,
            reports.meter,
            reports.event_name,
            reports.customer,
            sum_of(reports.quantity).label("quantity"),
            sa.func.min(reports.timestamp).label("first"),
            sa.func.max(until).label("end"),
        )
        .join_from(span, schema.reports, at_place)
        .where(reports.state == "sent", reports.timestamp >= start, reports.timestamp < until)
        .where(~reported_in_shadow())  # the other program may bill it without this meter
        .group_by(reports.company, reports.meter, reports.event_name, reports.customer)
    )


def _after_a_change(connection: sa.Connection, since: int) -> Iterator[Unbilled]:
    """
    Yield what Stripe received when the price by which it would have been billed had been changed.

    What came after the invoice of its period was final is late, and `meterkit.outbox.late_usage` has it.
    """
    former, subscriptions, reports, invoices = (
        schema.former_items.c,
        schema.subscriptions.c,
        schema.reports.c,
        schema.invoices.c,
    )
    is_late = sa.exists().where(
        invoices.subscription == former.subscription,
        invoices.period_start <= reports.timestamp,
        invoices.period_end > reports.timestamp,
        invoices.finalized_at < reports.settled_at,
    )
    query = (
        _late(former, schema.former_items, former.until)
        .where(former.until >= since, former.until < former.period_end, former.prorated.is_not(False))
        .where(subscriptions.billing_mode == "flexible", reports.timestamp >= former.since)
        .where(reports.timestamp >= former.period_start, reports.timestamp < former.until)
        .where(reports.settled_at > former.until + CLOCKS_SECONDS, ~is_late)
    )
    for row in connection.execute(query):
        reason = f"Stripe received it after the price was changed at {instant(row.at)}, and billed what it had by then"
        yield _late_usage(row, reason)


def _after_a_period(connection: sa.Connection, since: int, now: int) -> Iterator[Unbilled]:
    """Yield what Stripe received after the end of a billing period of which there is no invoice."""
    items, subscriptions, reports = schema.items.c, schema.subscriptions.c, schema.reports.c
    invoices, others = schema.invoices.c, schema.items.alias()
    is_invoiced = sa.exists().where(
        others.c.customer == reports.customer,
        others.c.event_name == reports.event_name,
        invoices.subscription == others.c.subscription,
        invoices.period_start <= reports.timestamp,
        invoices.period_end > reports.timestamp,
    )
    is_first = ~sa.exists().where(
        others.c.customer == items.customer, others.c.event_name == items.event_name, others.c.id < items.id
    )
    began_with_it = items.since <= subscriptions.created + CREATED_TOGETHER_SECONDS
    query = (
        _late(items, schema.items, items.period_start)
        .where(items.period_start <= now - 2 * LAST_INVOICE_SECONDS, subscriptions.ended_at.is_(None), is_first)
        .where(reports.timestamp >= since, reports.timestamp < items.period_start)
        .where(sa.or_(reports.timestamp >= items.since, began_with_it))
        .where(reports.timestamp >= sa.func.coalesce(subscriptions.started_at, subscriptions.created))
        .where(reports.settled_at > items.period_start, ~is_invoiced)
    )
    for row in connection.execute(query):
        ended = f"Stripe received it after its billing period had ended at {instant(row.at)}"
        yield _late_usage(row, f"{ended}, and there is no invoice of that period")


def _late(item: Any, table: sa.Table, at: sa.ColumnElement[int]) -> sa.Select[Any]:
    """Return the query for what was sent of the meter of an item of *table*, outside of trials, by company and *at*."""
    reports, subscriptions = schema.reports.c, schema.subscriptions.c
    keys = (reports.company, reports.meter, reports.event_name, reports.customer)
    first = sa.func.min(reports.timestamp).label("first")
    return (
        sa.select(*keys, at.label("at"), sum_of(reports.quantity).label("quantity"), first)
        .join_from(
            schema.reports,
            table,
            sa.and_(item.customer == reports.customer, item.event_name == reports.event_name),
        )
        .join(schema.subscriptions, subscriptions.id == item.subscription)
        .where(reports.state == "sent", reports.timestamp >= sa.func.coalesce(subscriptions.trial_end, 0))
        .group_by(*keys, at)
    )


def _late_usage(row: Any, reason: str) -> Unbilled:
    key = (row.company, row.meter, row.event_name, row.customer)
    return Unbilled(*key, int(row.quantity), row.first, reason, is_late=True)


def _subscribed(connection: sa.Connection, customers: set[str]) -> set[str]:
    """Return those of *customers* who have a subscription that has not ended."""
    table = schema.subscriptions.c
    running = sa.select(table.customer).where(table.ended_at.is_(None)).distinct()
    return set(connection.scalars(running)) & customers if customers else set()


def _reason(key: tuple[str, str, str, str], billed: dict[Pair, list[Span]], subscribed: set[str], end: int) -> str:
    _, _, event_name, customer = key
    if end < _EVER:
        return f"{customer} had no price of {event_name} on a subscription until then"
    if (customer, event_name) in billed:
        return (
            f"no subscription of {customer} bills {event_name} any more: it has ended or lost the price, or the meter "
            "of the price was deactivated"
        )
    if customer in subscribed:
        return f"no subscription of {customer} has a price of {event_name}"
    return f"{customer} has no subscription"
