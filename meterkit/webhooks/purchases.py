"""What a paid invoice grants: its lines whose price is that of a pack."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import stripe

from meterkit.stripe_api.transport import plain
from meterkit.wallets.pack import Pack, Promise, promise_of
from meterkit.wallets.purchases import Purchase


@dataclass(frozen=True, slots=True)
class Bought:
    """
    What a paid invoice grants.

    Attributes:
        company: Company that the metadata of the invoice or of its subscription name, or None.
        customer: Id of the customer who has paid.
        purchases: What is granted.
    """

    company: str | None
    customer: str
    purchases: tuple[Purchase, ...]


@dataclass(frozen=True, slots=True)
class Refunded:
    """
    What a refund takes back.

    Attributes:
        id: Id of the refund.
        bought: What its invoice has granted.
        amount: Refunded amount, in the currency's minor unit.
        total: Total of the invoice, in the currency's minor unit.
    """

    id: str
    bought: Bought
    amount: int
    total: int


@dataclass(frozen=True, slots=True)
class Disputed:
    """
    What a dispute takes back until it is won.

    Attributes:
        id: Id of the dispute.
        bought: What its invoice has granted.
        amount: Disputed amount, in the currency's minor unit.
        total: Total of the invoice, in the currency's minor unit.
        is_withheld: Whether the money is not the seller's now.
    """

    id: str
    bought: Bought
    amount: int
    total: int
    is_withheld: bool


_WITHHELD = ("needs_response", "under_review", "appeal_needs_response", "appeal_under_review", "lost")
"""Stripe: statuses of a dispute in which the bank has the money. An inquiry has others, and leaves it."""


class PurchaseReader:
    """
    Reads from Stripe what paid invoices grant.

    Args:
        client: Client of stripe-python.
        packs: Name of the wallet and pack, by lookup key.
        metadata_key: Key under which metadata name a company.
    """

    def __init__(
        self, client: stripe.StripeClient, packs: Mapping[str, tuple[str, Pack]], *, metadata_key: str
    ) -> None:
        self._client = client
        self._packs = packs
        self._metadata_key = metadata_key
        self._promises: dict[str, Promise | None] = {}

    def bought(self, invoice: stripe.Invoice) -> Bought | None:
        """
        Return what *invoice* grants; None if it is not paid, or grants nothing.

        Raises:
            stripe.StripeError: A price could not be read.
        """
        if invoice.status != "paid":
            return None
        known = plain(invoice)
        paid_at = (known.get("status_transitions") or {}).get("paid_at") or known["created"]
        purchases = []
        for line in invoice.lines.auto_paging_iter():
            found = self._purchase(plain(line), str(invoice.id), paid_at)
            if found is not None:
                purchases.append(found)
        return Bought(self._company(known), str(known["customer"]), tuple(purchases)) if purchases else None

    def refunded(self, identity: str) -> Refunded | None:
        """
        Return what a refund takes back; None if it has not succeeded, or is of nothing that was granted.

        Raises:
            stripe.StripeError: The refund or what it is of could not be read.
        """
        refund = self._client.v1.refunds.retrieve(identity)
        found = self._paid_by(refund.payment_intent) if refund.status == "succeeded" else None
        return None if found is None else Refunded(identity, found[0], refund.amount, found[1])

    def disputed(self, identity: str) -> Disputed | None:
        """
        Return what a dispute takes back, or no longer does; None if it is of nothing that was granted.

        Raises:
            stripe.StripeError: The dispute or what it is of could not be read.
        """
        dispute = self._client.v1.disputes.retrieve(identity)
        found = self._paid_by(dispute.payment_intent)
        if found is None:
            return None
        withdrawn = sum(each.amount for each in dispute.balance_transactions) < 0
        is_withheld = dispute.status in _WITHHELD or (dispute.status != "won" and withdrawn)
        return Disputed(identity, found[0], dispute.amount, found[1], is_withheld)

    def _paid_by(self, payment: Any) -> tuple[Bought, int] | None:
        """Return what a payment intent has paid, and the total of its invoice; None if that grants nothing."""
        intent = getattr(payment, "id", payment)
        if not intent:
            return None
        payments = self._client.v1.invoice_payments.list(
            {"payment": {"type": "payment_intent", "payment_intent": str(intent)}}
        )
        for each in payments.data:
            invoice = self._client.v1.invoices.retrieve(str(getattr(each.invoice, "id", each.invoice)))
            bought = self.bought(invoice)
            if bought is not None:
                return bought, invoice.total
        return None

    def _purchase(self, line: dict[str, Any], invoice: str, paid_at: int) -> Purchase | None:
        price = ((line.get("pricing") or {}).get("price_details") or {}).get("price")
        parent = line.get("parent") or {}
        is_proration = any(bool((parent.get(kind) or {}).get("proration")) for kind in parent if kind != "type")
        quantity = line.get("quantity") or 0
        if price is None or is_proration or line["amount"] <= 0 or quantity < 1:  # a trial costs nothing
            return None
        promise = self._promise(str(price))
        if promise is None:
            return None
        return Purchase(line["id"], invoice, promise, quantity, paid_at, _paid(line), line["currency"])

    def _promise(self, price: str) -> Promise | None:
        if price not in self._promises:
            found = plain(self._client.v1.prices.retrieve(price))
            is_metered = (found.get("recurring") or {}).get("usage_type") == "metered"
            promise = promise_of(found.get("lookup_key"), found.get("metadata") or {}, self._packs)
            self._promises[price] = None if is_metered else promise
        return self._promises[price]

    def _company(self, invoice: dict[str, Any]) -> str | None:
        of_subscription = ((invoice.get("parent") or {}).get("subscription_details") or {}).get("metadata") or {}
        for metadata in (invoice.get("metadata") or {}, of_subscription):
            if metadata.get(self._metadata_key):
                return str(metadata[self._metadata_key])
        return None


def _paid(line: dict[str, Any]) -> int:
    """Return what was paid for a line of an invoice, without its discounts and tax, in the currency's minor unit."""
    discounts = sum(each["amount"] for each in line.get("discount_amounts") or ())
    taxes = sum(each["amount"] for each in line.get("taxes") or () if each.get("tax_behavior") == "inclusive")
    return int(max(line["amount"] - discounts - taxes, 0))
