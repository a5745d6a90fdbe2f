"""Notices about overdue invoices, rejected events and unlinked companies."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone

import sqlalchemy as sa

from meterkit.accounts.accounts import Accounts
from meterkit.accounts.standing import standings
from meterkit.core.periods import DAY
from meterkit.core.validation import OLDEST_SECONDS
from meterkit.ledger import schema
from meterkit.ledger.database import Database
from meterkit.notices.notice import Notice
from meterkit.notices.store import NoticeStore
from meterkit.outbox.reports import COLUMNS, report_of

MOST = 1000
"""Rejected events that are looked at; the others when these are mended."""


def overdue(database: Database, notices: NoticeStore, *, now: int) -> Iterator[Notice]:
    """Who is overdue, and who was and is no more: once for each invoice that began it."""
    with database.snapshot() as connection:
        found = standings(connection, now=now)
    open_ = dict(_episodes(notices))
    for company, invoices in sorted(found.overdue.items()):
        if company in open_ or company in found.payers:
            continue  # the company is named, not the customer who pays for it
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
    for company, key in sorted(open_.items()):
        if company not in found.overdue:
            what = key.rpartition(":")[2]
            yield Notice(
                key=f"recovered:{company}:{what}",
                kind="recovered",
                company=company,
                title=f"{company} is not overdue any more",
                text=f"Invoice {what} of {company} was overdue; nothing is now.",
                created_at=now,
                fields={"invoice": what},
            )


def _episodes(notices: NoticeStore) -> list[tuple[str, str]]:
    """Company and key of what was told to be overdue, and not to have recovered."""
    told = notices.of_kinds("overdue", "recovered")
    over = {key.partition(":")[2] for key, kind, _ in told if kind == "recovered"}
    return [(company, key) for key, kind, company in told if kind == "overdue" and key.partition(":")[2] not in over]


def rejected(database: Database, *, now: int) -> Iterator[Notice]:
    """Meter events that Stripe has rejected."""
    query = sa.select(*COLUMNS).filter_by(state="rejected").order_by(schema.reports.c.id).limit(MOST)
    with database.snapshot() as connection:
        reports = [report_of(row) for row in connection.execute(query)]
    for report in reports:
        yield Notice(
            key=f"rejected:{report.sent_as}",
            kind="rejected",
            company=report.company,
            title=f"Stripe has rejected {report.quantity:,} {report.meter} of {report.company}",
            text=f"{report.error} When the cause is mended, send them again: meterkit retry.",
            created_at=now,
            fields={
                "meter": report.meter,
                "used": report.quantity,
                "customer": report.customer,
                "reason": report.error,
            },
        )


def waiting(database: Database, *, now: int, days: int) -> Iterator[Notice]:
    """Usage without a Stripe customer; and that which is too old for Stripe in so many *days*."""
    for company, oldest in sorted(Accounts(database, clock=lambda: now).unlinked().items()):
        since = datetime.fromtimestamp(oldest, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
        text = f"Its usage since {since} waits: say who pays, with kit.link() or the customer's metadata."
        yield Notice(
            key=f"waiting:{company}:{oldest}",
            kind="waiting",
            company=company,
            title=f"{company} has usage and no Stripe customer",
            text=text,
            created_at=now,
            fields={"due_at": oldest + OLDEST_SECONDS},
        )
        if now >= oldest + OLDEST_SECONDS - days * DAY:
            yield Notice(
                key=f"too_old:{company}:{oldest}",
                kind="too_old",
                company=company,
                title=f"Usage of {company} is about to be too old for Stripe",
                text=f"{text} Stripe takes what is up to 35 days old.",
                created_at=now,
                fields={"due_at": oldest + OLDEST_SECONDS},
            )
