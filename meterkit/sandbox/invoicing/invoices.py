"""Invoices: drafts that follow the usage, and finalised ones that never change again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meterkit.sandbox.charging import invoice_payments
from meterkit.sandbox.invoicing import balances, discounts, invoice_items, pauses, totals
from meterkit.sandbox.invoicing.invoice_lines import Charge, line_items
from meterkit.sandbox.invoicing.payments import close, collect
from meterkit.sandbox.protocol.errors import invalid
from meterkit.sandbox.protocol.lists import DEFAULT_LIMIT, listing, page
from meterkit.sandbox.protocol.params import METADATA, PAGE, Boolean, Choice, Rule, Span, Text, merged, within
from meterkit.sandbox.protocol.routes import Call, Route

if TYPE_CHECKING:
    from collections.abc import Sequence

    from meterkit.sandbox.state.account import Account, Record

UPDATE: dict[str, Rule] = {
    "auto_advance": Boolean(),
    "description": Text(1500, nullable=True),
    "metadata": METADATA,
}
LIST: dict[str, Rule] = {
    **PAGE,
    "collection_method": Choice(("charge_automatically", "send_invoice")),
    "created": Span(),
    "customer": Text(),
    "status": Choice(("draft", "open", "paid", "uncollectible", "void")),
    "subscription": Text(),
}


def draft(
    account: Account,
    subscription: Record,
    charges: Sequence[Charge],
    *,
    reason: str,
    period: tuple[int, int],
    identity: str | None = None,
) -> Record:
    """Return the record of a draft invoice, without storing it."""
    record = _blank(account, subscription)
    record.update(
        id=identity or account.new_id("invoice"),
        automatically_finalizes_at=account.now + account.switches.invoice_grace,
        billing_reason=reason,
        period_start=period[0],
        period_end=period[1],
        _charges=tuple(charges),
        _line_ids={},
        _item_discounts={
            item["id"]: discounts.active(account, item["discounts"]) for item in subscription["items"]["data"]
        },
    )
    record["discounts"] = discounts.active(account, subscription["discounts"])
    own = account.tables["customer"][subscription["customer"]]["discount"]
    if own is not None and not record["discounts"]:
        record["discounts"] = discounts.active(account, [own["id"]])
    pauses.mark(record, subscription)
    refresh(account, record)
    return record


def refresh(account: Account, invoice: Record, *, lagging: bool = True, with_credit: bool = False) -> None:
    """Recompute the lines and totals of a draft; *with_credit* lets credit grants pay for them."""
    lines = [*line_items(account, invoice, lagging=lagging), *invoice_items.lines(account, invoice)]
    invoice["_lines"] = lines
    url = f"/v1/invoices/{invoice['id']}/lines"
    invoice["lines"] = listing(url, lines[:DEFAULT_LIMIT], has_more=len(lines) > DEFAULT_LIMIT)
    invoice["lines"]["total_count"] = len(lines)
    totals.compute(account, invoice, lines, with_credit=with_credit)


def is_empty(invoice: Record) -> bool:
    """Return whether the invoice has no quantity and no amount."""
    return all(line["quantity_decimal"] == "0" and line["amount"] == 0 for line in invoice["_lines"])


def open_draft(account: Account, subscription: Record, invoice: Record) -> None:
    """Store a draft. In flexible billing mode, an empty draft stays hidden until it is no longer empty."""
    account.add(invoice)
    invoice_items.take_pending(account, invoice)
    refresh(account, invoice)
    if is_empty(invoice) and subscription["billing_mode"]["type"] == "flexible":
        invoice["_hidden"] = True
        return
    _publish(account, invoice)


def update_from_usage(account: Account, invoice: Record) -> None:
    """Update a draft from the usage, and let it appear if it is no longer empty."""
    refresh(account, invoice)
    if invoice.get("_hidden") and not is_empty(invoice):
        _publish(account, invoice)


def finalize(account: Account, invoice: Record) -> None:
    """Finalise a draft with all usage received so far, and collect it."""
    refresh(account, invoice, lagging=False, with_credit=True)
    if invoice.get("_hidden"):
        if is_empty(invoice):
            del account.tables["invoice"][invoice["id"]]
            return
        _publish(account, invoice)
    balances.finalize(account, invoice)
    discounts.spend(account, invoice)
    customer = account.tables["customer"][invoice["customer"]]
    invoice["number"] = f"{customer['invoice_prefix']}-{customer['next_invoice_sequence']:04d}"
    customer["next_invoice_sequence"] += 1
    invoice.update(status="open", effective_at=account.now, automatically_finalizes_at=None)
    invoice["status_transitions"]["finalized_at"] = account.now
    invoice["webhooks_delivered_at"] = invoice["created"]
    if invoice["collection_method"] == "send_invoice":
        invoice["due_date"] = account.now + invoice["_days_until_due"] * 86400
    invoice["hosted_invoice_url"] = f"https://invoice.stripe.example/i/{invoice['id']}"
    invoice_payments.open_default(account, invoice)
    account.announce("invoice.finalized", invoice)
    if invoice["_pause"] in ("void", "mark_uncollectible") and invoice["amount_due"] > 0:
        close(account, invoice, invoice["_pause"])
    elif _is_collected(invoice):
        collect(account, invoice)


def _is_collected(invoice: Record) -> bool:
    """Return whether finalising an invoice charges it, or settles it because nothing is due."""
    is_charged = invoice["collection_method"] == "charge_automatically" and invoice["auto_advance"]
    return bool(is_charged or invoice["amount_due"] == 0)


def retrieve(account: Account, call: Call) -> Record:
    """Return one invoice."""
    return account.get("invoice", call.id)


def list_lines(account: Account, call: Call) -> Record:
    """Return the lines of an invoice, in order."""
    return page(call, account.get("invoice", call.id)["_lines"], "line item")


def list_all(account: Account, call: Call) -> Record:
    """Return invoices, newest first."""
    params = call.params
    exact = [key for key in ("collection_method", "customer", "status") if key in params]
    records = [
        invoice
        for invoice in reversed(account.all("invoice"))
        if all(invoice[key] == params[key] for key in exact)
        and params.get("subscription") in (None, invoice["_subscription"])
        and within(invoice["created"], params.get("created"))
    ]
    return page(call, records, "invoice")


def finalize_now(account: Account, call: Call) -> Record:
    """Finalise a draft before its time."""
    invoice = account.get("invoice", call.id)
    if invoice["status"] != "draft":
        raise invalid("This invoice is already finalized, you can't re-finalize a non-draft invoice.")
    invoice["auto_advance"] = call.params.get("auto_advance", invoice["auto_advance"])
    finalize(account, invoice)
    return invoice


def update(account: Account, call: Call) -> Record:
    """Change the description and the metadata, or whether a draft is finalised by itself."""
    invoice = account.get("invoice", call.id)
    values = {key: value for key, value in call.params.items() if key in UPDATE}
    if "metadata" in values:
        values["metadata"] = merged(invoice["metadata"], values["metadata"])
    if "auto_advance" in values and invoice["status"] == "draft":
        due = account.now + account.switches.invoice_grace
        values["automatically_finalizes_at"] = due if values["auto_advance"] else None
    account.change(invoice, "invoice.updated", **values)
    return invoice


def _publish(account: Account, invoice: Record) -> None:
    invoice.pop("_hidden", None)
    subscription = account.find("subscription", invoice["_subscription"])
    if subscription is not None:
        subscription["latest_invoice"] = invoice["id"]
    account.announce("invoice.created", invoice)


def _blank(account: Account, subscription: Record) -> Record:
    customer = account.tables["customer"][subscription["customer"]]
    nothing = dict.fromkeys(
        (
            "account_country", "account_name", "account_tax_ids", "amount_paid_off_stripe", "application",
            "confirmation_secret", "custom_fields", "customer_account", "customer_shipping", "default_payment_method",
            "default_source", "description", "due_date", "effective_at", "ending_balance", "footer", "from_invoice",
            "hosted_invoice_url", "invoice_pdf", "last_finalization_error", "latest_revision", "next_payment_attempt",
            "number", "on_behalf_of", "receipt_number", "rendering", "shipping_cost", "shipping_details",
            "statement_descriptor", "test_clock", "threshold_reason", "webhooks_delivered_at",
        )
    )  # fmt: skip
    parent: dict[str, Any] = {
        "quote_details": None,
        "subscription_details": {
            "metadata": dict(subscription["metadata"]),
            "subscription": subscription["id"] or None,
            "subscription_proration_date": None,
        },
        "type": "subscription_details",
    }
    return {
        **nothing,
        "object": "invoice",
        "amount_overpaid": 0,
        "amount_paid": 0,
        "amount_shipping": 0,
        "attempt_count": 0,
        "attempted": False,
        "auto_advance": True,
        "automatic_tax": {
            "disabled_reason": None,
            "enabled": False,
            "liability": None,
            "provider": None,
            "status": None,
        },
        "collection_method": subscription["collection_method"],
        "created": account.now,
        "currency": subscription["currency"],
        "customer": subscription["customer"],
        "customer_address": customer["address"],
        "customer_email": customer["email"],
        "customer_name": customer["name"],
        "customer_phone": customer["phone"],
        "customer_tax_exempt": "none",
        "customer_tax_ids": [],
        "default_tax_rates": [],
        "discounts": [],
        "issuer": {"type": "self"},
        "livemode": account.switches.livemode,
        "metadata": {},
        "parent": parent,
        "payments": listing("/v1/invoice_payments", []),
        "payment_settings": {
            "default_mandate": None,
            "payment_method_options": None,
            "payment_method_types": None,
        },
        "post_payment_credit_notes_amount": 0,
        "pre_payment_credit_notes_amount": 0,
        "starting_balance": 0,
        "status": "draft",
        "status_transitions": dict.fromkeys(("finalized_at", "marked_uncollectible_at", "paid_at", "voided_at")),
        "total_discount_amounts": [],
        "total_pretax_credit_amounts": [],
        "total_taxes": [],
        "test_clock": subscription["test_clock"],
        "_days_until_due": subscription["days_until_due"] or 30,
        "_subscription": subscription["id"],
    }


ROUTES = [
    Route("GET", "/v1/invoices", list_all, LIST),
    Route("GET", "/v1/invoices/{id}", retrieve),
    Route("POST", "/v1/invoices/{id}", update, UPDATE),
    Route("GET", "/v1/invoices/{id}/lines", list_lines, PAGE),
    Route("POST", "/v1/invoices/{id}/finalize", finalize_now, {"auto_advance": Boolean()}),
]
