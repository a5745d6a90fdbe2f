"""Totals: from the lines of an invoice to what is due, by way of discounts, credit and the customer's balance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meterkit.sandbox.invoicing import balances, credit_balance, discounts
from meterkit.sandbox.state.money import total_amount

if TYPE_CHECKING:
    from collections.abc import Sequence

    from meterkit.sandbox.state.account import Account, Record


def compute(account: Account, invoice: Record, lines: Sequence[Record], *, with_credit: bool) -> None:
    """
    Write the sums of an invoice, and into its lines what was taken off each.

    Args:
        account: Account of the invoice.
        invoice: Draft.
        lines: All its lines, just made.
        with_credit: Whether credit grants pay for it: only once, when it is finalised.

    """
    own, whole = discounts.apply(account, invoice, lines)
    credit = credit_balance.apply(account, invoice, lines) if with_credit else 0
    subtotal = sum(line["amount"] for line in lines) - own
    total = total_amount(subtotal - whole - credit, invoice["currency"], account.switches)
    invoice.update(subtotal=subtotal, subtotal_excluding_tax=subtotal, total=total, total_excluding_tax=total)
    invoice["total_pretax_credit_amounts"] = [each for line in lines for each in line["pretax_credit_amounts"]]
    balances.settle(account, invoice)
