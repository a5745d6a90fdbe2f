"""Paid invoices become grants, each line once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from meterkit.core.periods import DAY
from meterkit.wallets.grants import Grants
from meterkit.wallets.pack import Promise
from meterkit.wallets.wallet import Wallet


@dataclass(frozen=True, slots=True)
class Purchase:
    """
    A line of a paid invoice that grants something.

    Attributes:
        line: Id of the line.
        invoice: Id of the invoice.
        promise: What is granted for one of it.
        quantity: How many of it were paid.
        paid_at: Unix second of the payment.
        paid: What was paid for the line, without discounts and tax, in the minor unit of the currency.
        currency: Three-letter code of that currency, in small letters.
    """

    line: str
    invoice: str
    promise: Promise
    quantity: int
    paid_at: int
    paid: int
    currency: str


class Purchases:
    """
    Grants what was paid.

    Args:
        grants: Writer of grants.
        wallets: Wallets of the kit, by name.
    """

    def __init__(self, grants: Grants, wallets: Mapping[str, Wallet]) -> None:
        self._grants = grants
        self._wallets = wallets

    def knows(self, purchase: Purchase) -> bool:
        """Return whether the kit has the wallet that a purchase is for."""
        return purchase.promise.wallet in self._wallets

    def grant(self, connection: Any, company: str, purchase: Purchase) -> bool:
        """
        Grant a purchase to *company* in this transaction; return False if it was granted before.

        Args:
            connection: Connection of the transaction (``sqlalchemy.Connection``).
            company: Company that has paid.
            purchase: What it has paid, for a wallet of the kit.
        """
        promise = purchase.promise
        wallet = self._wallets[promise.wallet]
        days = promise.expires_days
        return self._grants.grant_paid(
            connection,
            company,
            wallet,
            promise.micros * purchase.quantity,
            identity=_grant_of(purchase),
            key=f"{purchase.invoice}:{purchase.line}",
            expires_at=None if days is None else purchase.paid_at + days * DAY,
            paid=purchase.paid,
            currency=purchase.currency,
        )

    def take_back(self, connection: Any, purchase: Purchase, share: tuple[int, int], *, refund: str) -> bool:
        """
        Take back a share of what a purchase has granted, in this transaction, once for each refund.

        What is left is taken back, held or not; what was spent becomes uncovered.

        Args:
            connection: Connection of the transaction (``sqlalchemy.Connection``).
            purchase: What was paid.
            share: Refunded amount, and amount of the invoice.
            refund: Id of the refund.

        Returns:
            False if it was not granted yet.
        """
        if purchase.promise.wallet not in self._wallets:
            return True
        micros = purchase.promise.micros * purchase.quantity * share[0] // share[1]
        return self._grants.take_back_paid(connection, _grant_of(purchase), micros, key=refund)

    def withhold(
        self, connection: Any, purchase: Purchase, share: tuple[int, int], *, dispute: str, is_withheld: bool
    ) -> bool:
        """
        Take back a share of what a purchase has granted while it is disputed, or give it back, in this transaction.

        Args:
            connection: Connection of the transaction (``sqlalchemy.Connection``).
            purchase: What was paid.
            share: Disputed amount, and amount of the invoice.
            dispute: Id of the dispute.
            is_withheld: Whether the money is withheld now.

        Returns:
            False if it was not granted yet.
        """
        if purchase.promise.wallet not in self._wallets:
            return True
        micros = purchase.promise.micros * purchase.quantity * min(share) // share[1]
        identity = _grant_of(purchase)
        return self._grants.withhold_paid(connection, identity, micros, key=dispute, is_withheld=is_withheld)


def _grant_of(purchase: Purchase) -> str:
    """Return the id of the grant: the same for whichever company, as what was paid is granted once."""
    return hashlib.sha256(f"{purchase.invoice} {purchase.line}".encode()).hexdigest()[:32]
