"""
Trace an invoice line to meter events, and those to usage.

The lines come from Stripe; the events and the usage come from the ledger.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import stripe

from meterkit.accounts.accounts import Accounts
from meterkit.accounts.models import Invoice
from meterkit.core.windows import HOUR
from meterkit.ledger.database import Database
from meterkit.ledger.dimensions.reading import UsageByValues
from meterkit.ledger.ledger import Ledger, Usage
from meterkit.outbox.corrections import Correction, Corrections
from meterkit.outbox.reports import Report, Reports
from meterkit.stripe_api.catalog import Catalog
from meterkit.stripe_api.outcomes import classify
from meterkit.stripe_api.transport import PAGE_SIZE


@dataclass(frozen=True, slots=True)
class Event:
    """
    A meter event, and the usage counted in its window.

    Attributes:
        report: Report of the event.
        usage: Usage in its window, by user; several events may share a window.
        by: The same usage by the values of the meter's dimensions; empty for a meter without.
    """

    report: Report
    usage: tuple[Usage, ...]
    by: tuple[UsageByValues, ...] = ()


@dataclass(slots=True)
class Explanation:
    """
    A billing period of one company and meter.

    Attributes:
        invoice: Invoice of the period; None for usage that is on no invoice yet.
        lines: Stripe's invoice lines for the meter: ``(description, quantity, amount in the minor unit)``.
        events: Meter events of the period, oldest first.
        unreported: Usage that is in no meter event yet.
        corrections: Usage that was reversed.
        error: Why the lines could not be read from Stripe; empty if they could.
    """

    invoice: Invoice | None
    lines: list[tuple[str, int, int]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    unreported: list[Usage] = field(default_factory=list)
    corrections: list[Correction] = field(default_factory=list)
    error: str = ""


def explain(
    database: Database,
    client: stripe.StripeClient | None,
    *,
    company: str,
    meter: str,
    start: int,
    end: int,
    dimensions: Sequence[str] = (),
) -> list[Explanation]:
    """
    Return the billing periods between *start* and *end*, oldest first, and last what is on no invoice yet.

    A period that overlaps the range is explained as a whole, because its invoice is.

    Args:
        database: Database of the ledger.
        client: Client of stripe-python; None to omit the invoices' lines.
        company: Company id, as the application knows it.
        meter: Name of the meter.
        start: Unix second at which the range begins.
        end: Unix second at which the range ends, excluded.
        dimensions: Names of the meter's dimensions.

    Raises:
        LedgerError: The ledger cannot be read.
    """
    accounts = Accounts(database, clock=lambda: end)
    customer = accounts.customer_of(company)
    found = [Explanation(each) for each in accounts.invoices(customer, start, end)] if customer else []
    rest, beyond = Explanation(None), Explanation(None)
    periods = [each.invoice for each in found if each.invoice is not None]
    first = min([start, *(each.period_start for each in periods)])
    last = max([end, *(each.period_end for each in periods)])

    def at(moment: int) -> Explanation:
        return _at(found, rest if start <= moment < end else beyond, moment)

    usage: dict[int, list[Usage]] = {}
    for row in Ledger(database, clock=lambda: end).usage(company=company, meter=meter, since=first - HOUR, until=last):
        usage.setdefault(row.window, []).append(row)
    by: dict[int, list[UsageByValues]] = {}
    if dimensions:
        about: Any = {"company": company, "meter": meter, "since": first - HOUR, "until": last}
        for part in Ledger(database, clock=lambda: end).usage_by(dimensions, **about):
            by.setdefault(part.window, []).append(part)
    for report in Reports(database).of(company, meter, first, last):
        parts = tuple(by.get(report.window, ()))
        at(report.timestamp).events.append(Event(report, tuple(usage.get(report.window, ())), parts))
    for window, rows in usage.items():
        at(window).unreported.extend(row for row in rows if row.quantity != row.reported)
    for correction in Corrections(database, clock=lambda: end).corrections():
        if (correction.company, correction.meter) == (company, meter) and first <= correction.window < last:
            at(correction.window).corrections.append(correction)
    if client is not None:
        _add_lines(client, found)
    return [*found, *([rest] if rest.events or rest.unreported or rest.corrections else [])]


def _at(found: list[Explanation], rest: Explanation, moment: int) -> Explanation:
    for each in found:
        assert each.invoice is not None
        if each.invoice.period_start <= moment < each.invoice.period_end:
            return each
    return rest


def _add_lines(client: stripe.StripeClient, found: list[Explanation]) -> None:
    """Add Stripe's invoice lines for the meters of the events: one request per invoice."""
    catalog = Catalog(client)
    for each in found:
        event_names = {event.report.event_name for event in each.events}
        if each.invoice is None or not event_names:
            continue
        try:
            for line in client.v1.invoices.line_items.list(each.invoice.id, {"limit": PAGE_SIZE}).auto_paging_iter():
                details: Any = getattr(line.pricing, "price_details", None)
                if details is None:
                    continue
                meter = (catalog.price(str(details.price)).get("recurring") or {}).get("meter")
                if meter and catalog.event_name(meter) in event_names:
                    each.lines.append((line.description or "", line.quantity or 0, line.amount))
        except stripe.StripeError as error:
            each.error = classify(error).error
