"""The billing cycle: what falls due as time passes, run in its order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meterkit.sandbox.billing.invoices import finalize, follow_usage
from meterkit.sandbox.billing.payments import collect, fall_due
from meterkit.sandbox.billing.subscriptions import roll
from meterkit.sandbox.metering import alerts, error_reports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from meterkit.sandbox.state.account import Account, Record

Step = tuple[int, int, "Callable[[Account, Record], None]", "Record"]


def settle(account: Account, until: int) -> None:
    """
    Run everything that is due up to a moment.

    Each step sees the clock at the moment at which it was due, so an invoice that a long jump passes over is created
    and finalised with the right times.
    """
    while True:
        steps = list(_steps(account))
        first = min((step[:2] for step in steps), default=None)
        if first is None or first[0] > until:
            return
        account.clock.pin(first[0])
        try:
            for moment, order, run, record in steps:
                if (moment, order) == first:
                    run(account, record)
        finally:
            account.clock.pin(None)


def next_due(account: Account) -> int | None:
    """When the next thing falls due, unix seconds."""
    return min((step[0] for step in _steps(account)), default=None)


def follow(account: Account) -> None:
    """Bring the drafts up to date with the usage."""
    for invoice in list(account.tables["invoice"].values()):
        if invoice["status"] == "draft":
            follow_usage(account, invoice)


def _steps(account: Account) -> Iterator[Step]:
    # Of two things due at the same moment, an invoice is finalised before a period ends.
    for invoice in account.tables["invoice"].values():
        if invoice["status"] == "draft" and invoice["id"] not in account.blocked:
            yield invoice["automatically_finalizes_at"], 0, finalize, invoice
        elif invoice["status"] == "open" and invoice["next_payment_attempt"] is not None:
            yield invoice["next_payment_attempt"], 0, collect, invoice
        elif invoice["status"] == "open" and invoice["due_date"] is not None and not invoice.get("_fell_due"):
            yield invoice["due_date"], 0, fall_due, invoice
    for subscription in account.tables["subscription"].values():
        if subscription["status"] != "canceled":
            yield subscription["items"]["data"][0]["current_period_end"], 1, roll, subscription
    yield from ((moment, 2, error_reports.report, window) for moment, window in error_reports.ends(account))
    yield from ((moment, 3, alerts.look, seen) for moment, seen in alerts.looks(account))
