"""
What is to be credited: usage that was reversed after its invoice was final.

Such an invoice does not change, whatever meter events follow. Nothing is credited by itself, so that nothing is
credited twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from meterkit.ledger.database import Database
from meterkit.outbox.late_usage import Late, late_reports
from meterkit.pricing.price import digits


@dataclass(frozen=True, slots=True)
class Credit:
    """
    What a customer is to be credited for usage that was reversed.

    Attributes:
        identifier: Identifier of the negative meter event.
        company: Company id, as the application knows it.
        meter: Name of the meter.
        customer: Id of the Stripe customer.
        quantity: Reversed usage in the meter's unit.
        invoice: Id of the invoice that has it.
        number: Number of that invoice, as the customer sees it; its id if it has no number.
        amount: Amount to credit, in whole currency; None if it cannot be told.
        currency: Three-letter currency code, lower case.
    """

    identifier: str
    company: str
    meter: str
    customer: str
    quantity: int
    invoice: str
    number: str
    amount: Decimal | None
    currency: str

    def __str__(self) -> str:
        amount = "their price" if self.amount is None else f"{digits(self.amount)} {self.currency}"
        return (
            f"{self.quantity:,} {self.meter} of {self.company} were reversed after invoice {self.number} was final, "
            f"which has them: credit {amount} in Stripe, with a credit note for that invoice"
        )


def credits_due(database: Database, *, since: int, late: list[Late] | None = None) -> list[Credit]:
    """
    Return what is to be credited for usage that was reversed after its invoice was final, oldest first.

    Whether it has been credited in Stripe is not known here.

    Args:
        database: Database of the ledger.
        since: Only what was reported at this Unix second or later, or is not reported yet.
        late: What `late_reports` has found of sent reports since then, if that has been read.

    Raises:
        LedgerError: The ledger cannot be read.
    """
    sent = late_reports(database, "sent", since=since) if late is None else late
    found = [*sent, *late_reports(database, "pending")]
    return [_credit(each) for each in found if each.report.quantity < 0 and not each.free and each.amount != 0]


def _credit(late: Late) -> Credit:
    return Credit(
        identifier=late.report.identifier,
        company=late.report.company,
        meter=late.report.meter,
        customer=late.report.customer,
        quantity=-late.report.quantity,
        invoice=late.invoice,
        number=late.number,
        amount=None if late.amount is None else -late.amount,
        currency=late.currency,
    )
