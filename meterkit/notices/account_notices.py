"""Notices about overdue and paid invoices, rejected events, unbilled usage and unlinked companies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from decimal import Decimal

import sqlalchemy as sa

from meterkit.accounts.accounts import Accounts
from meterkit.accounts.standing import standings
from meterkit.core.periods import DAY, instant
from meterkit.core.validation import OLDEST_SECONDS
from meterkit.ledger import schema
from meterkit.ledger.database import Database
from meterkit.ledger.payers import pays_for_itself
from meterkit.notices.notice import Notice
from meterkit.notices.store import NoticeStore
from meterkit.outbox.credits import credits_due
from meterkit.outbox.late_items import lost_items
from meterkit.outbox.reports import COLUMNS, report_of
from meterkit.outbox.unbilled import unbilled
from meterkit.pricing.price import decimals_of, digits

MAX_REJECTED = 1000
"""Rejected events that are read at once; the others follow when these have been retried."""


def overdue(database: Database, notices: NoticeStore, *, now: int) -> Iterator[Notice]:
    """Yield a notice for each company that has become overdue, and for each that no longer is."""
    with database.snapshot() as connection:
        found = standings(connection, now=now)
    if found.is_foreign:  # nobody has recovered
        return
    notified = dict(_notified(notices))
    for company, invoices in sorted(found.overdue.items()):
        if company in notified or company in found.payers:
            continue  # the notice is about the company, not the Stripe customer that pays for it
        oldest = invoices[0]
        yield Notice(
            key=f"overdue:{company}:{oldest.number}",
            kind="overdue",
            company=company,
            title=f"{company} is overdue",
            text=str(oldest),
            created_at=now,
            fields={
                "invoice": oldest.number,
                "amount": str(oldest.amount),
                "currency": oldest.currency,
                "url": oldest.url,
            },
        )
    for company, key in sorted(notified.items()):
        if company not in found.overdue:
            invoice = key.rpartition(":")[2]
            yield Notice(
                key=f"recovered:{company}:{invoice}",
                kind="recovered",
                company=company,
                title=f"{company} is no longer overdue",
                text=f"Invoice {invoice} was overdue; {company} has no overdue invoices now.",
                created_at=now,
                fields={"invoice": invoice},
            )


def _notified(notices: NoticeStore) -> list[tuple[str, str]]:
    """Return company and key of each overdue notice that no recovered notice has followed."""
    written = notices.of_kinds("overdue", "recovered")
    over = {key.partition(":")[2] for key, kind, _ in written if kind == "recovered"}
    return [(company, key) for key, kind, company in written if kind == "overdue" and key.partition(":")[2] not in over]


def paid(database: Database, *, now: int) -> Iterator[Notice]:
    """Yield a notice for each invoice that Stripe has said, in the last day, to be paid, and each company it is for."""
    events, invoices, accounts = schema.webhook_events, schema.invoices, schema.accounts
    told = sa.select(events.c.object_id).where(
        events.c.received_at >= now - DAY, events.c.type == "invoice.paid", events.c.state == "applied"
    )
    query = sa.select(invoices).where(invoices.c.id.in_(told), invoices.c.status == "paid", invoices.c.total > 0)
    with database.snapshot() as connection:
        found = connection.execute(query.order_by(invoices.c.id)).all()
        payers = {row.customer for row in found}
        linked: dict[str, list[str]] = {}
        for row in connection.execute(sa.select(accounts).where(accounts.c.customer.in_(payers))):
            linked.setdefault(row.customer, []).append(row.company)
        for customer in payers - linked.keys():
            if pays_for_itself(connection, customer):
                linked[customer] = [customer]
    for row in found:
        amount = digits(Decimal(row.total).scaleb(-decimals_of(row.currency)))
        number = row.number or row.id
        for company in linked.get(row.customer, ()):
            yield Notice(
                key=f"invoice_paid:{row.id}:{company}",
                kind="invoice_paid",
                company=company,
                title=f"{company} has paid invoice {number}",
                text=f"Invoice {number} of {amount} {row.currency.upper()} is paid.",
                created_at=now,
                fields={
                    "invoice": number,
                    "amount": amount,
                    "currency": row.currency,
                    "customer": row.customer,
                    "url": row.url,
                },
            )


def rejected(database: Database, *, now: int) -> Iterator[Notice]:
    """Yield a notice for each meter event that Stripe has rejected."""
    query = sa.select(*COLUMNS).filter_by(state="rejected").order_by(schema.reports.c.id).limit(MAX_REJECTED)
    with database.snapshot() as connection:
        reports = [report_of(row) for row in connection.execute(query)]
    for report in reports:
        yield Notice(
            key=f"rejected:{report.sent_as}",
            kind="rejected",
            company=report.company,
            title=f"Stripe has rejected {report.quantity:,} {report.meter} of {report.company}",
            text=f"{report.error} Once the cause is fixed, report them again with: meterkit retry",
            created_at=now,
            fields={
                "meter": report.meter,
                "used": report.quantity,
                "customer": report.customer,
                "reason": report.error,
            },
        )


def unbilled_usage(database: Database, *, now: int, is_free: Callable[[str], bool] | None) -> Iterator[Notice]:
    """Yield a notice for each company and meter whose usage no price bills; another one each month."""
    month = datetime.fromtimestamp(now, timezone.utc).strftime("%Y-%m")
    for each in unbilled(database, now=now, is_free=is_free):
        yield Notice(
            key=f"unbilled:{each.company}:{each.customer}:{each.event_name}:{month}",
            kind="unbilled",
            company=each.company,
            title=f"Usage of {each.company} is not billed: {each.quantity:,} {each.meter}",
            text=f"{each}. {each.cure}.",
            created_at=now,
            fields={
                "meter": each.meter,
                "used": each.quantity,
                "customer": each.customer,
                "since": each.since,
                "reason": each.reason,
            },
        )


def lost_invoice_items(database: Database, *, now: int) -> Iterator[Notice]:
    """Yield a notice for each invoice item for late usage that will be on no invoice."""
    for each in lost_items(database, now=now):
        late = each.late
        yield Notice(
            key=f"unbilled:item:{late.report.identifier}",
            kind="unbilled",
            company=late.report.company,
            title=f"Late usage of {late.report.company} is not billed: {late.report.quantity:,} {late.report.meter}",
            text=f"{each}.",
            created_at=now,
            fields={
                "meter": late.report.meter,
                "used": late.report.quantity,
                "customer": late.report.customer,
                "invoice": late.number,
                "amount": None if late.amount is None else digits(late.amount),
                "currency": late.currency,
                "reason": each.reason,
            },
        )


def credits_to_give(database: Database, *, now: int) -> Iterator[Notice]:
    """Yield a notice for each amount to credit for usage that was reversed after its invoice was final."""
    for each in credits_due(database, since=now - OLDEST_SECONDS):
        yield Notice(
            key=f"credit_due:{each.identifier}:{each.invoice}",
            kind="credit_due",
            company=each.company,
            title=f"{each.company} is to be credited for {each.quantity:,} {each.meter}",
            text=f"{each}.",
            created_at=now,
            fields={
                "meter": each.meter,
                "used": each.quantity,
                "customer": each.customer,
                "invoice": each.number,
                "amount": None if each.amount is None else digits(each.amount),
                "currency": each.currency,
            },
        )


def waiting(database: Database, *, now: int, days: int) -> Iterator[Notice]:
    """Yield a notice for each unlinked company with usage, and for usage that will be too old in *days* days."""
    for company, oldest in sorted(Accounts(database, clock=lambda: now).unlinked().items()):
        text = f"Usage since {instant(oldest)} is waiting: link the company with kit.link() or the customer's metadata."
        yield Notice(
            key=f"waiting:{company}:{oldest}",
            kind="waiting",
            company=company,
            title=f"{company} has usage but no Stripe customer",
            text=text,
            created_at=now,
            fields={"due_at": oldest + OLDEST_SECONDS},
        )
        if now >= oldest + OLDEST_SECONDS - days * DAY:
            yield Notice(
                key=f"too_old:{company}:{oldest}",
                kind="too_old",
                company=company,
                title=f"Usage of {company} will soon be too old for Stripe",
                text=f"{text} Stripe accepts usage that is up to 35 days old.",
                created_at=now,
                fields={"due_at": oldest + OLDEST_SECONDS},
            )
