"""
Lines of invoices for usage that is billed with ``bill="lines"``: one for each combination of values.

They are written when the invoice of a period is known, with their amounts, before they are first sent; their contents
never change. What comes later becomes a further line: of the same invoice while it is a draft, and of the next one
after that.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from operator import itemgetter
from typing import Any, NamedTuple

import sqlalchemy as sa

from meterkit.core.periods import instant
from meterkit.ledger import bulk, schema
from meterkit.ledger.database import Database
from meterkit.ledger.lease import Lease, hold
from meterkit.ledger.payers import companies_paid_by
from meterkit.ledger.rating.reading import Charge, charges, unbilled
from meterkit.ledger.schema.quantities import sum_of
from meterkit.ledger.schema.stripe_mode import foreign_mode
from meterkit.pricing.price import decimals_of
from meterkit.pricing.rates.amounts import IS_ITEM, described, in_minor, lines_of, merged
from meterkit.pricing.rates.table import RateTable
from meterkit.rating.rerate import Tables

LOOKED_BACK_SECONDS = 100 * 24 * 3600
"""Age of the invoices that are looked at."""

STRANDED_SECONDS = 2 * 24 * 3600
"""Age of usage without a subscription that is named."""

HEARD_OF_SECONDS = 2 * 3600
"""Seconds after the end of a period within which its invoice must have been heard of."""

NO_INVOICE = "none"
"""In place of the status of an invoice: the period had none."""

WITHOUT = "none:"
"""Beginning of what stands for the id of an invoice that there was not."""

FREE = ("void", "uncollectible")
"""Statuses of invoices that nobody pays: what comes after them is free, too."""


class InvoiceLine(NamedTuple):
    """
    One line, as it was or will be sent.

    Attributes:
        id: Id of the row.
        identifier: Digest of what the row stands for; Stripe gets it as metadata.
        customer: Id of the Stripe customer that pays.
        subscription: Id of the subscription.
        invoice: Id of the invoice of the period, or what stands for it if there was none.
        is_late: Whether it goes on the next invoice, because that one is final, or there was none.
        meter: Name of the meter.
        period_start: Unix second at which the period begins.
        period_end: Unix second at which the period ends.
        quantity: Units; negative after a correction.
        amount: Amount in the currency's minor unit; negative for a credit.
        currency: Three-letter currency code.
        description: What the customer reads.
        state: ``pending``, ``sent``, ``rejected``, or ``replaced`` by a late one.
        attempts: Number of times it was sent.
        refusals: Number of responses that the same Idempotency-Key would merely replay.
        error: Why it has not been sent yet; empty if nothing went wrong.
    """

    id: int
    identifier: str
    customer: str
    subscription: str
    invoice: str
    is_late: bool
    meter: str
    period_start: int
    period_end: int
    quantity: int
    amount: int
    currency: str
    description: str
    state: str
    attempts: int
    refusals: int
    error: str

    def __str__(self) -> str:
        amount = f"{Decimal(self.amount).scaleb(-decimals_of(self.currency)):f} {self.currency}"
        return f"{self.description}, {amount}, of {self.customer}"


_COLUMNS = tuple(schema.rated_lines.c[name] for name in InvoiceLine._fields)


class _Invoice(NamedTuple):
    """The invoice of a period, as far as lines depend on it."""

    id: str
    number: str | None
    customer: str
    subscription: str
    status: str
    period_start: int
    period_end: int


class InvoiceLines:
    """
    Writes lines, and records what became of them. Only the process that holds the reporter's lease does so.

    Args:
        database: Database of the ledger.
        tables: Tables of the kit, by the name of the meter.
        clock: Function that returns Unix seconds.
    """

    def __init__(self, database: Database, tables: Tables, *, clock: Callable[[], float]) -> None:
        self._database = database
        self._tables = tables
        self._clock = clock

    def make(self, lease: Lease) -> int:
        """
        Write the lines of invoices whose period has usage that is on none, and return how many.

        Raises:
            LeaseLostError: Another process holds the lease now.
            LedgerError: The ledger failed.
        """
        with self._database.snapshot() as connection:
            if foreign_mode(connection) is not None:  # those invoices are of another account
                return 0
            if not self._has_unbilled(connection):
                return 0
            found = [_Invoice(*row) for row in connection.execute(self._open_invoices())]
        made = sum(self._make(lease, invoice, table) for invoice in found for table in self._tables.values())
        for table in self._tables.values():
            with self._database.snapshot() as connection:
                found = [_Invoice(*row) for row in connection.execute(self._without_invoice(table))]
            made += sum(self._make(lease, period, table) for period in found)
        return made

    def pending(self) -> list[InvoiceLine]:
        """Return the lines that are to be sent, oldest first."""
        return self._in_state("pending")

    def current(self, line: InvoiceLine) -> InvoiceLine:
        """Return *line* as it is now."""
        with self._database.snapshot() as connection:
            return InvoiceLine(*connection.execute(sa.select(*_COLUMNS).filter_by(id=line.id)).one())

    def rejected(self) -> list[InvoiceLine]:
        """Return the lines that Stripe has refused, or that no invoice can take, oldest first."""
        return self._in_state("rejected")

    def late(self, *, since: int) -> list[InvoiceLine]:
        """Return the lines since the Unix second *since* that came too late for their invoice, which there was."""
        table = schema.rated_lines
        query = sa.select(*_COLUMNS).where(table.c.is_late, table.c.state == "sent", table.c.created_at >= since)
        query = query.where(~table.c.invoice.startswith(WITHOUT))
        with self._database.snapshot() as connection:
            return [InvoiceLine(*row) for row in connection.execute(query.order_by(table.c.id))]

    def stranded(self) -> list[str]:
        """Return a sentence about each meter of which usage waits for lines, and no invoice will come."""
        rated, accounts, items, subscriptions = schema.rated, schema.accounts, schema.items, schema.subscriptions
        found = []
        for meter, table in self._tables.items():
            payer = sa.select(accounts.c.customer).where(accounts.c.company == rated.c.company).correlate(rated)
            pays = sa.or_(items.c.customer == rated.c.company, items.c.customer.in_(payer))
            is_sold = sa.exists().where(
                pays,
                items.c.event_name == table.sold_as,
                subscriptions.c.id == items.c.subscription,
                subscriptions.c.ended_at.is_(None),
            )
            query = sa.select(
                sum_of(rated.c.quantity).label("used"), sa.func.count(rated.c.company.distinct()).label("of")
            )
            query = query.where(rated.c.meter == meter, rated.c.amounts == table.name, rated.c.rate > 0, unbilled())
            query = query.where(rated.c.window < int(self._clock()) - STRANDED_SECONDS, ~is_sold)
            with self._database.snapshot() as connection:
                row = connection.execute(query).one()
            if row.used:
                companies = "one company" if row.of == 1 else f"{row.of:,} companies"
                found.append(
                    f"{int(row.used):,} {meter} of {companies} wait for an invoice, and none will come: they have no "
                    f"subscription with the price of {table.name}. Subscribe them, or bill them by hand"
                )
        return found

    def begin(self, lease: Lease, line: InvoiceLine) -> InvoiceLine:
        """Record, before *line* is sent, that it may be at Stripe from now on."""
        self.note(lease, line, attempts=line.attempts + 1)
        return line._replace(attempts=line.attempts + 1)

    def note(self, lease: Lease, line: InvoiceLine, **changes: Any) -> None:
        """Change the columns of *line* that may change."""
        with self._database.transaction() as connection:
            hold(lease, connection, clock=self._clock)
            self._change(connection, line, **changes)

    def settle(self, lease: Lease, line: InvoiceLine, state: str, error: str = "") -> None:
        """Record what became of *line*: ``sent`` or ``rejected``."""
        self.note(lease, line, state=state, error=error[:500], settled_at=int(self._clock()))

    def replace(self, lease: Lease, line: InvoiceLine) -> None:
        """Replace *line*, which Stripe does not have because its invoice is final, by one of the next invoice."""
        table = schema.rated_lines
        with self._database.transaction() as connection:
            hold(lease, connection, clock=self._clock)
            row = dict(connection.execute(sa.select(table).filter_by(id=line.id)).one()._mapping)  # noqa: SLF001
            del row["id"]
            new = {"attempts": 0, "refusals": 0, "error": "", "settled_at": None, "created_at": int(self._clock())}
            row |= {"identifier": f"{line.identifier}-late", "is_late": True, **new}
            connection.execute(sa.insert(table).values(row))
            self._change(connection, line, state="replaced", settled_at=int(self._clock()))

    def has_ended(self, line: InvoiceLine) -> bool:
        """Return whether the subscription of *line* has ended, so that there is no next invoice."""
        table = schema.subscriptions
        with self._database.snapshot() as connection:
            ended = connection.scalar(sa.select(table.c.ended_at).filter_by(id=line.subscription))
            return ended is not None

    def _change(self, connection: sa.Connection, line: InvoiceLine, **changes: Any) -> None:
        connection.execute(sa.update(schema.rated_lines).filter_by(id=line.id).values(**changes))

    def _in_state(self, state: str) -> list[InvoiceLine]:
        table = schema.rated_lines
        query = sa.select(*_COLUMNS).filter_by(state=state).order_by(table.c.id)
        with self._database.snapshot() as connection:
            return [InvoiceLine(*row) for row in connection.execute(query)]

    def _has_unbilled(self, connection: sa.Connection) -> bool:
        return connection.execute(sa.select(schema.rated.c.meter).where(unbilled()).limit(1)).first() is not None

    def _open_invoices(self) -> sa.Select[Any]:
        """Return the query for invoices of periods that have ended, with usage that is on no line; oldest first."""
        invoices, rated, accounts, now = schema.invoices, schema.rated, schema.accounts, int(self._clock())
        within = sa.and_(rated.c.window >= invoices.c.period_start, rated.c.window < invoices.c.period_end, unbilled())
        its_own = sa.exists().where(rated.c.company == invoices.c.customer, within)
        paid_for = sa.exists().where(accounts.c.customer == invoices.c.customer, rated.c.company == accounts.c.company)
        return (
            sa.select(*(invoices.c[name] for name in _Invoice._fields))
            .where(sa.or_(its_own, paid_for.where(within)))
            .where(invoices.c.billing_reason == "subscription_cycle", invoices.c.subscription.is_not(None))
            .where(invoices.c.period_end <= now, invoices.c.created >= now - LOOKED_BACK_SECONDS)
            .order_by(invoices.c.created, invoices.c.id)
        )

    def _without_invoice(self, table: RateTable) -> sa.Select[Any]:
        """
        Return the query for the time before the running period of subscriptions, if it has usage that is on no line.

        Stripe makes no invoice of nothing, so there may be none of the period before. Its lines are items of the next.
        """
        items, subscriptions, rated, accounts = schema.items, schema.subscriptions, schema.rated, schema.accounts
        begun = sa.func.coalesce(subscriptions.c.started_at, subscriptions.c.created)
        start = sa.case((items.c.since > begun, items.c.since), else_=begun)
        within = sa.and_(rated.c.window >= start, rated.c.window < items.c.period_start, unbilled())
        its_own = sa.exists().where(rated.c.company == items.c.customer, within)
        paid_for = sa.exists().where(accounts.c.customer == items.c.customer, rated.c.company == accounts.c.company)
        values = {
            "id": sa.literal(WITHOUT) + items.c.id,
            "number": sa.literal(None, sa.Text()),
            "customer": items.c.customer,
            "subscription": items.c.subscription,
            "status": sa.literal(NO_INVOICE),
            "period_start": start,
            "period_end": items.c.period_start,
        }
        return (
            sa.select(*(values[name].label(name) for name in _Invoice._fields))
            .join_from(items, subscriptions, subscriptions.c.id == items.c.subscription)
            .where(items.c.event_name == table.sold_as, subscriptions.c.ended_at.is_(None))
            .where(items.c.period_start <= int(self._clock()) - HEARD_OF_SECONDS)
            .where(sa.or_(its_own, paid_for.where(within)))
            .order_by(items.c.id)
        )

    def _make(self, lease: Lease, invoice: _Invoice, table: RateTable) -> int:
        rated = schema.rated
        with self._database.snapshot() as connection:
            if not _bills(connection, invoice, table):
                return 0
            companies = sorted(companies_paid_by(connection, invoice.customer))
            mine = sa.and_(
                rated.c.company.in_(companies),
                rated.c.meter == table.meter.name,
                rated.c.amounts == table.name,
                rated.c.window >= invoice.period_start,
                rated.c.window < invoice.period_end,
                unbilled(),
            )
            if connection.execute(sa.select(rated.c.meter).where(mine).limit(1)).first() is None:
                return 0
        with self._database.transaction() as connection:
            hold(lease, connection, clock=self._clock)
            rows = list(connection.execute(sa.select(rated).where(mine).order_by(*rated.primary_key).with_for_update()))
            trial_end = connection.scalar(
                sa.select(schema.subscriptions.c.trial_end).filter_by(id=invoice.subscription)
            )
            charged = [row for row in rows if row.window >= (trial_end or 0) and invoice.status not in FREE]
            made = list(self._lines(connection, invoice, table, charges(charged, table)))
            if made:
                connection.execute(sa.insert(schema.rated_lines), made)
            # Mark the quantities that were read: more may have been folded in the meantime.
            marked = itemgetter(*["quantity" if each.name == "billed" else each.name for each in rated.columns])
            bulk.overwrite(rated, connection, [marked(row._mapping) for row in rows], column="billed")  # noqa: SLF001
        return sum(line["state"] == "pending" for line in made)

    def _lines(
        self, connection: sa.Connection, invoice: _Invoice, table: RateTable, sums: dict[str, Charge]
    ) -> Iterator[dict[str, Any]]:
        lines = schema.rated_lines
        place: dict[str, Any] = {"customer": invoice.customer, "amounts": table.name, "invoice": invoice.id}
        place |= {"period_end": invoice.period_end}
        known = sa.select(
            lines.c.dimensions, sum_of(lines.c.exact).label("exact"), sa.func.sum(lines.c.amount).label("amount")
        )
        known = known.filter_by(**place).where(lines.c.state != "replaced").group_by(lines.c.dimensions)
        before = {row.dimensions: (int(row.exact), int(row.amount)) for row in connection.execute(known)}
        number = connection.scalar(sa.select(sa.func.count()).select_from(lines).filter_by(**place)) or 0
        now, is_late = int(self._clock()), invoice.status != "draft"
        since = invoice.period_end if is_late else invoice.period_start
        there = lines_of(connection, invoice.subscription, since=since)
        if not is_late:
            own = sa.select(sa.func.count()).where(lines.c.invoice == invoice.id, ~lines.c.is_late, IS_ITEM)
            there += connection.scalar(own) or 0
        for dimensions, of in merged(sums, lines=there).items():
            exact, billed = before.get(dimensions, (0, 0))
            amount = in_minor(exact + of.exact, table.currency) - billed
            number += 1
            yield {
                "identifier": _identifier([invoice.id, invoice.period_end, table.name, dimensions, number]),
                **place,
                "subscription": invoice.subscription,
                "is_late": is_late,
                "meter": table.meter.name,
                "dimensions": dimensions,
                "period_start": invoice.period_start,
                "quantity": of.quantity,
                "exact": of.exact,
                "amount": amount,
                "currency": table.currency,
                "description": _description(table, dimensions, of, invoice),
                "created_at": now,
                "state": "pending" if amount else "sent",  # nothing is made of what costs nothing
                "attempts": 0,
                "refusals": 0,
                "error": "",
                "settled_at": None if amount else now,
            }


def _bills(connection: sa.Connection, invoice: _Invoice, table: RateTable) -> bool:
    """Return whether the subscription of *invoice* has, or had, the price of *table*."""
    for items in (schema.items, schema.former_items):
        query = sa.select(items.c.id).filter_by(subscription=invoice.subscription, event_name=table.amounts.event_name)
        if connection.execute(query.limit(1)).first() is not None:
            return True
    return False


def _description(table: RateTable, dimensions: str, of: Charge, invoice: _Invoice) -> str:
    text = f"{of.quantity:,} {table.meter.name}, {described(dimensions, of)}"
    if invoice.status == NO_INVOICE:
        text += f", until {instant(invoice.period_end)}"
    elif invoice.status != "draft":
        text += f", reported after invoice {invoice.number or invoice.id}"
    return text[:500]


def _identifier(parts: list[str | int]) -> str:
    """Return a digest of what the line stands for: the same in a ledger that was restored from a backup."""
    text = json.dumps(parts, separators=(",", ":"))
    return "mk_line_" + hashlib.sha256(text.encode()).hexdigest()[:40]
