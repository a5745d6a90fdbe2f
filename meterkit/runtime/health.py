"""`kit.health()`."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from meterkit.access_logs.positions import health_of_logs
from meterkit.accounts.overview import repeated_meters, unlike_metadata
from meterkit.core.filesystem import exposure
from meterkit.core.problems import Problems
from meterkit.core.validation import OLDEST_SECONDS
from meterkit.errors import LedgerError
from meterkit.jetstream.config import JetStream
from meterkit.journal import recovery
from meterkit.ledger.books import Books
from meterkit.ledger.books import books as read_books
from meterkit.ledger.database import Database
from meterkit.ledger.rating.reading import Unpriced, unpriced
from meterkit.ledger.schema.migrations import COPIED, copied_at
from meterkit.metering.context import outside
from meterkit.outbox.corrections import Corrections
from meterkit.outbox.credits import credits_due
from meterkit.outbox.late_items import lost_items
from meterkit.outbox.late_usage import late_reports, once_each
from meterkit.outbox.other_mode import trouble_of
from meterkit.outbox.outbox import Outbox, Stuck
from meterkit.outbox.unbilled import Unbilled, unbilled
from meterkit.rating.lines import InvoiceLines
from meterkit.runtime.process import ProcessRuntime
from meterkit.runtime.settings import Settings
from meterkit.runtime.stripe_jobs import NO_KEY
from meterkit.shadow.conflicts import conflicts
from meterkit.wallets.audit import out_of_reach, uncovered

SHOWN = 20
"""Number of rejected and uncertain reports, and of companies with unbilled usage, that are listed."""

WAITS_SECONDS = 60.0
"""How long usage may wait for a flush before it is said; three times ``flush_interval=`` if that is longer."""

COPY_SHOWN_SECONDS = 7 * 24 * 3600
"""How long it is said that the ledger is a copy."""


def health(runtime: ProcessRuntime, settings: Settings, problems: Problems) -> dict[str, Any]:
    """See `meterkit.MeterKit.health`."""
    attention: list[str] = []
    books: dict[str, Books] | None = None
    refused: list[dict[str, Any]] = []
    free: list[str] = []
    logs: list[dict[str, Any]] = []
    try:
        # The journal first: counts that are folded meanwhile are in the ledger, which knows their generation.
        database, clock = runtime.database(), settings.clock
        attention += _of_other_mode(database)
        books = read_books(database, runtime.journal.totals())
        outbox = Outbox(database, clock=clock)
        attention += _waiting(runtime.accounts().unlinked(), settings.clock())
        if settings.is_shadow() and settings.stripe_key is not None:
            attention += _unlinked_in_shadow(runtime.accounts().unlinked(shadowed=True))
        attention += conflicts(database, now=int(clock()), is_shadow=settings.is_shadow())
        attention += _stuck(outbox.stuck(before=int(clock() - 2 * settings.report_interval)), clock())
        attention += [
            f"it is not known whether Stripe has canceled {each.report}; this will be checked again: {each.error}"
            for each in Corrections(database, clock=clock).corrections(state="canceling")
        ]
        recent = int(clock()) - OLDEST_SECONDS
        late_usage = late_reports(database, "sent", since=recent)
        attention += [
            f"{late}, so it is not on any invoice. Bill it by hand"
            + ("" if late.has_ended else "; late='next_invoice' would bill it with the next one")
            for late in once_each(late for late in late_usage if not late.free and late.report.quantity > 0)
        ]
        attention += [str(each) for each in credits_due(database, since=recent, late=late_usage)[:SHOWN]]
        attention += [str(each) for each in lost_items(database, now=int(clock()))[:SHOWN]]
        attention += [str(each) for each in repeated_meters(database)[:SHOWN]]
        attention += unlike_metadata(database)[:SHOWN]
        attention += _unbilled(unbilled(database, now=int(clock()), is_free=settings.is_free))
        if settings.wallets:
            attention += uncovered(database, since=recent)
        attention += out_of_reach(database, settings.wallets.values(), now=int(clock()))
        attention += _unpriced(unpriced(database))
        attention += _lines(InvoiceLines(database, settings.rates, clock=clock), since=recent)
        logs, of_logs = health_of_logs(database, int(clock()))
        attention += of_logs
        free = [str(late) for late in late_usage if late.free]
        refused = [
            {
                "identifier": report.identifier,
                "meter": report.meter,
                "company": report.company,
                "quantity": report.quantity,
                "state": report.state,
                "error": report.error,
            }
            for state in ("rejected", "uncertain")
            for report in outbox.reports(state=state, limit=SHOWN)
        ]
    except Exception as error:
        attention.append(str(error) or repr(error))
    for meter, of_meter in (books or {}).items():
        attention += _of_books(meter, of_meter)
    attention += [f"{each['identifier']} ({each['state']}): {each['error']}" for each in refused[:SHOWN]]
    attention += _copied(runtime)
    published = None if settings.jetstream is None else _published(runtime, settings.jetstream, attention)
    attention += _unflushed(runtime, settings)
    exposed = exposure(settings.data_dir)
    if exposed is not None:
        attention.append(exposed)
    if settings.stripe_key is None and not settings.is_shadow():
        attention.append(NO_KEY)
    found = outside.as_dict() | problems.as_dict()
    attention += [str(problem["message"]) for reason, problem in found.items() if reason != "no_stripe_key"]
    return {
        "ok": not attention,
        "attention": attention,
        "books": None
        if books is None
        else {meter: {**asdict(of_meter), "balanced": of_meter.balanced} for meter, of_meter in books.items()},
        "refused": refused[:SHOWN],
        "free": free,
        "problems": found,
        "journal": {"directory": str(settings.data_dir / "journal"), "in_memory": runtime.journal.in_memory},
        "flusher": {
            "setting": settings.flusher,
            "holder": runtime.lock.holder(),
            "child": None if runtime.child is None else runtime.child.pid,
            "in_thread": None if runtime.child is None else runtime.child.why_none,
        },
        **({"access_logs": logs} if logs else {}),
        **({} if settings.jetstream is None else {"jetstream": published}),
        **({"shadow": True} if settings.is_shadow() else {}),
        "webhook": {"received": runtime.stripe_jobs.received_webhooks, "refused": runtime.stripe_jobs.refused_webhooks},
        "last_report": None if runtime.stripe_jobs.last_report is None else asdict(runtime.stripe_jobs.last_report),
    }


def _published(runtime: ProcessRuntime, jetstream: JetStream, attention: list[str]) -> dict[str, int] | None:
    """Return what is in the streams; None if JetStream fails. What needs attention is added to *attention*."""
    try:
        state = runtime.jetstream().state()
    except Exception as error:
        attention.append(str(error) or repr(error))
        return None
    if state.refused:
        attention.append(
            f"{state.refused:,} generations could not be folded, and are in the stream {jetstream.refused_stream}: the "
            f"header Meterkit-Refused says why. Show them with nats stream view {jetstream.refused_stream}; once "
            f"the reason is gone, publish them again to {jetstream.subject}, and remove them from there"
        )
    if state.refused is None:
        attention.append("no collector has run yet, so what hosts publish stays in JetStream: run meterkit collect")
    return {"waiting": state.waiting, "refused": state.refused or 0}


def _of_other_mode(database: Database) -> list[str]:
    with database.snapshot() as connection:
        trouble = trouble_of(connection, str(database))
    return [trouble] if trouble else []


def _copied(runtime: ProcessRuntime) -> list[str]:
    """Return a sentence about a ledger that was found to be a copy within the last week."""
    try:
        database = runtime.database()
        with database.snapshot() as connection:
            at = copied_at(connection)
    except LedgerError:  # said already
        return []
    return [] if at is None or at < time.time() - COPY_SHOWN_SECONDS else [f"the ledger {database} {COPIED}"]


def _unflushed(runtime: ProcessRuntime, settings: Settings) -> list[str]:
    """Return a sentence about usage that waits in the journal for longer than any flush takes; none if none does."""
    try:
        since = min(recovery.waiting(settings.data_dir / "journal"), default=None)
    except OSError:  # nobody may search it, which the flush has said
        return []
    seconds = 0.0 if since is None else time.time() - since
    if seconds <= max(WAITS_SECONDS, 3 * settings.flush_interval):
        return []
    holder = runtime.lock.holder()
    waits = f"usage has been waiting in {settings.data_dir} for {seconds / 60:,.0f} minutes, and "
    if holder is None:
        return [f"{waits}no process flushes it: start the app there, or meterkit run"]
    cure = "see its log, and end it if it hangs; another takes over"
    return [f"{waits}the process that flushes for all ({holder}) does not flush it: {cure}"]


def _waiting(unlinked: dict[str, int], now: float) -> list[str]:
    """Return a sentence about unlinked companies with usage, and the days left to link them; none if there are none."""
    if not unlinked:
        return []
    oldest = min(unlinked, key=lambda company: unlinked[company])
    days = (unlinked[oldest] + OLDEST_SECONDS - now) / (24 * 3600)
    left = f"{days:.0f} days are left" if days > 0 else "some of it is older"
    companies = f"company {oldest!r:.100} is"
    if len(unlinked) > 1:
        companies = f"{len(unlinked):,} companies, such as {oldest!r:.100}, are"
    return [
        (
            f"{companies} not linked to a Stripe customer: use kit.link(company, customer); see meterkit customers. "
            f"Until then, usage waits; Stripe accepts usage that is up to 35 days old, and {left}"
        )
    ]


def _unlinked_in_shadow(unlinked: dict[str, int]) -> list[str]:
    """Return a sentence about companies that could not be billed if shadow mode ended; none if there are none."""
    if not unlinked:
        return []
    return [
        (
            f"{len(unlinked):,} of the companies that were counted in shadow mode, such as {min(unlinked)!r:.100}, are "
            "not linked to a Stripe customer: use kit.link(company, customer), or meterkit could neither compare them "
            "with Stripe nor bill them"
        )
    ]


def _stuck(found: Stuck | None, now: float) -> list[str]:
    """Return a sentence about reports that could not be sent for long, and the days left; none if there are none."""
    if found is None:
        return []
    days = max(found.since + OLDEST_SECONDS - now, 0) / (24 * 3600)
    hours = (now - found.since) / 3600
    events = f"{found.number:,} meter event{'' if found.number == 1 else 's'}"
    return [
        (
            f"{events} could not be sent to Stripe for {hours:,.0f} hours: "
            f"{found.error or 'no attempt was made; see meterkit report'}. The next reports try again; Stripe accepts "
            f"usage that is up to 35 days old, and {days:.0f} days are left"
        )
    ]


def _unbilled(found: list[Unbilled]) -> list[str]:
    """Return a sentence about each company and meter whose usage no price bills, and one about those left out."""
    attention = [f"{each}. {each.cure}" for each in found[:SHOWN]]
    if len(found) > SHOWN:
        attention.append(f"usage of {len(found) - SHOWN:,} more is on no invoice, see meterkit customers")
    return attention


def _lines(lines: InvoiceLines, *, since: int) -> list[str]:
    """Return a sentence about lines that Stripe has refused, that came too late, and that cannot be made."""
    refused = [f"{each}, is on no invoice: {each.error}" for each in lines.rejected()[:SHOWN]]
    late = [
        f"{each}, came when its invoice was final, and goes on the next one" for each in lines.late(since=since)[:SHOWN]
    ]
    return [*refused, *late, *lines.stranded()]


def _unpriced(found: list[Unpriced]) -> list[str]:
    """Return a sentence about each combination of values that has no price, and one about those left out."""
    attention = [str(each) for each in found[:SHOWN]]
    if len(found) > SHOWN:
        rest = found[SHOWN:]
        units = sum(each.quantity for each in rest)
        attention.append(f"{units:,} more units, of {len(rest):,} further combinations of values, have no price either")
    return attention


def _of_books(meter: str, books: Books) -> list[str]:
    attention = []
    if not books.balanced:
        attention.append(f"{meter}: the books do not balance: {books}. Please report this")
    if books.capped:
        attention.append(
            f"{meter}: {books.capped} units are counted together as capped, because companies were invented faster "
            "than they could be flushed; return only authenticated company ids from identify="
        )
    if books.unattributed:
        attention.append(
            f"{meter}: {books.unattributed} units are unattributed: identify= returned no company. To hand them to "
            'one, reverse them with meterkit correct and "" as the company, and count them with kit.record(at=...)'
        )
    return attention
