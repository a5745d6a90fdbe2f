"""`kit.health()`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from meterkit.core.problems import Problems
from meterkit.core.validation import OLDEST_SECONDS
from meterkit.ledger.books import Books
from meterkit.ledger.books import books as read_books
from meterkit.runtime.process import ProcessRuntime
from meterkit.runtime.settings import Settings
from meterkit.runtime.stripe_jobs import NO_KEY

SHOWN = 20
"""So many refused reports are listed; the books count all."""


def health(runtime: ProcessRuntime, settings: Settings, problems: Problems) -> dict[str, Any]:
    """See `meterkit.MeterKit.health`."""
    attention: list[str] = []
    books: dict[str, Books] | None = None
    refused: list[dict[str, Any]] = []
    try:
        # The journal first: what moves on in the meantime is found in the ledger, and known there by its generation.
        books = read_books(runtime.database(), runtime.journal.totals())
        attention += _waiting(runtime.accounts().unlinked(), settings.clock())
        attention += [
            f"Stripe has not told whether {each.report} is canceled, and is asked again: {each.error}"
            for each in runtime.mending().corrections(state="canceling")
        ]
        attention += [
            f"{late}: it is on no invoice. Bill it by hand, and see late= for the next time" for late in runtime.late()
        ]
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
            for report in runtime.outbox().reports(state=state, limit=SHOWN)
        ]
    except Exception as error:
        attention.append(str(error) or repr(error))
    for meter, of_meter in (books or {}).items():
        attention += _concerns(meter, of_meter)
    attention += [f"{each['identifier']} ({each['state']}): {each['error']}" for each in refused[:SHOWN]]
    if settings.stripe_key is None:
        attention.append(NO_KEY)
    found = problems.as_dict()
    attention += [str(problem["message"]) for reason, problem in found.items() if reason != "no_stripe_key"]
    return {
        "ok": not attention,
        "attention": attention,
        "books": None
        if books is None
        else {meter: {**asdict(of_meter), "balanced": of_meter.balanced} for meter, of_meter in books.items()},
        "refused": refused[:SHOWN],
        "problems": found,
        "journal": {"directory": str(settings.data_dir / "journal"), "in_memory": runtime.journal.in_memory},
        "webhook": {"received": runtime.stripe_jobs.received_webhooks, "refused": runtime.stripe_jobs.refused_webhooks},
        "last_report": None if runtime.stripe_jobs.last_report is None else asdict(runtime.stripe_jobs.last_report),
    }


def _waiting(unlinked: dict[str, int], now: float) -> list[str]:
    """What waits for a customer, and for how long it still can."""
    if not unlinked:
        return []
    oldest = min(unlinked, key=lambda company: unlinked[company])
    days = (unlinked[oldest] + OLDEST_SECONDS - now) / (24 * 3600)
    left = f"{days:.0f} days are left" if days > 0 else "that is over"
    others = f" and {len(unlinked) - 1:,} others" if len(unlinked) > 1 else ""
    return [
        (
            f"nobody has said which Stripe customer pays for {oldest!r:.100}{others}: kit.link(company, customer); see "
            f"meterkit customers. Their usage waits; Stripe takes what is up to 35 days old, and {left}"
        )
    ]


def _concerns(meter: str, books: Books) -> list[str]:
    concerns = []
    if not books.balanced:
        concerns.append(f"{meter}: the books do not balance: {books}. Please report this")
    if books.capped:
        concerns.append(
            f"{meter}: {books.capped} were used by companies that were invented faster than they could be counted "
            "one by one; answer from identify= only what you have authenticated"
        )
    if books.unattributed:
        concerns.append(f"{meter}: {books.unattributed} were used by nobody: identify= answered no company")
    return concerns
