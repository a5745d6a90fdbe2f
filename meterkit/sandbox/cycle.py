"""The billing cycle: what becomes due as time passes, run in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meterkit.sandbox.billing import thresholds, trials
from meterkit.sandbox.billing.cycles import is_plain, next_end, roll
from meterkit.sandbox.hosted import checkout_sessions
from meterkit.sandbox.invoicing import credit_balance, pauses
from meterkit.sandbox.invoicing.invoices import finalize, update_from_usage
from meterkit.sandbox.invoicing.payments import collect, fall_due
from meterkit.sandbox.metering import alerts, error_reports
from meterkit.sandbox.platform import test_clocks
from meterkit.sandbox.scheduling import transitions
from meterkit.sandbox.state.account import CLOCK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from meterkit.sandbox.state.account import Account, Record

Step = tuple[int, int, "Callable[[Account, Record], object]", "Record"]


def run_due(account: Account, until: int) -> None:
    """
    Run everything that is due by *until*, in Unix seconds, in an account and those connected to it.

    Each step runs with the clock at the second at which it was due, so invoices that one long advance covers are
    created and finalised with the right times.
    """
    _run(account, account.worlds, until, None)
    for world in account.worlds:
        for clock in world.all(CLOCK):
            _run(account, [world], test_clocks.target(clock), clock)
            if clock["status"] == "advancing":
                test_clocks.finish(world, clock)


def _run(account: Account, worlds: list[Account], until: int, clock: Record | None) -> None:
    """Run what is due by *until* in some accounts: for those who live by a test clock, or with None for all others."""
    identity = None if clock is None else clock["id"]
    while True:
        with worlds[0].at(identity):
            steps = [(world, step) for world in worlds for step in _steps(world) if _clock(step) == identity]
        first = min((step[:2] for _, step in steps), default=None)
        if first is None or first[0] > until:
            return
        account.clock.pin(first[0])
        if clock is not None:
            clock["frozen_time"] = max(clock["frozen_time"], first[0])
        try:
            for world, (moment, order, run, record) in steps:
                if (moment, order) == first:
                    run(world, record)
        finally:
            account.clock.pin(None)


def next_due(account: Account) -> int | None:
    """Return the Unix second at which the next step is due, or None; at once if a test clock is to be advanced."""
    moments = [step[0] for world in account.worlds for step in _steps(world) if _clock(step) is None]
    if any(clock["status"] == "advancing" for world in account.worlds for clock in world.all(CLOCK)):
        moments.append(account.now)
    return min(moments, default=None)


def update_drafts(account: Account) -> None:
    """Update all draft invoices from the usage."""
    for invoice in list(account.tables["invoice"].values()):
        if invoice["status"] == "draft":
            with account.at(invoice["test_clock"]):
                update_from_usage(account, invoice)


def _clock(step: Step) -> str | None:
    clock: str | None = step[3].get("test_clock")
    return clock


def _steps(account: Account) -> Iterator[Step]:
    # If both are due at the same second, an invoice is finalised before a period ends.
    for invoice in account.tables["invoice"].values():
        yield from _invoice_steps(account, invoice)
    for subscription in account.tables["subscription"].values():
        if subscription["status"] in ("canceled", "paused"):
            continue
        yield next_end(subscription), 1, roll, subscription
        if not is_plain(subscription):
            yield from _special_steps(account, subscription)
    yield from ((moment, 1, credit_balance.expire, grant) for moment, grant in credit_balance.expirations(account))
    for session in account.tables[checkout_sessions.KIND].values():
        if session["status"] == "open":
            yield session["expires_at"], 2, checkout_sessions.run_out, session
    yield from transitions.steps(account)
    yield from ((moment, 2, error_reports.report, window) for moment, window in error_reports.ends(account))
    yield from ((moment, 3, alerts.evaluate, check) for moment, check in alerts.pending(account))


def _invoice_steps(account: Account, invoice: Record) -> Iterator[Step]:
    if invoice["status"] == "draft":
        if invoice["id"] not in account.blocked and invoice["automatically_finalizes_at"] is not None:
            yield invoice["automatically_finalizes_at"], 0, finalize, invoice
    elif invoice["status"] == "open" and invoice["next_payment_attempt"] is not None:
        yield invoice["next_payment_attempt"], 0, collect, invoice
    elif invoice["status"] == "open" and invoice["due_date"] is not None and not invoice.get("_fell_due"):
        yield invoice["due_date"], 0, fall_due, invoice


def _special_steps(account: Account, subscription: Record) -> Iterator[Step]:
    notice = trials.notice_due(subscription)
    if notice is not None:
        yield notice, 0, trials.notify, subscription
    if thresholds.is_reached(account, subscription):
        yield account.now, 0, thresholds.invoice, subscription
    resumes = pauses.end_of(subscription)
    if resumes is not None:
        yield resumes, 2, pauses.resume, subscription
