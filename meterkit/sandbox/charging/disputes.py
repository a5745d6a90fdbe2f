"""Disputes: a bank takes the money of a payment back, until it is decided who keeps it. There are no charges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meterkit.sandbox.charging import payment_intents, payment_methods
from meterkit.sandbox.protocol.errors import invalid
from meterkit.sandbox.protocol.lists import page
from meterkit.sandbox.protocol.params import METADATA, PAGE, Boolean, Object, Rule, Span, Text, merged, within
from meterkit.sandbox.protocol.routes import Call, Route
from meterkit.sandbox.state.account import fresh_id

if TYPE_CHECKING:
    from meterkit.sandbox.state.account import Account, Record

KIND = "dispute"
_EVIDENCE = (
    "access_activity_log", "appeal", "billing_address", "cancellation_policy", "cancellation_policy_disclosure",
    "cancellation_rebuttal", "customer_communication", "customer_email_address", "customer_name",
    "customer_purchase_ip", "customer_signature", "duplicate_charge_documentation", "duplicate_charge_explanation",
    "duplicate_charge_id", "product_description", "receipt", "refund_policy", "refund_policy_disclosure",
    "refund_refusal_explanation", "service_date", "service_documentation", "shipping_address", "shipping_carrier",
    "shipping_date", "shipping_documentation", "shipping_tracking_number", "uncategorized_file", "uncategorized_text",
)  # fmt: skip
_OUTCOMES = {"winning_evidence": "won", "losing_evidence": "lost"}
"""Stripe's words for test mode, as `uncategorized_text`."""

_OPEN = ("needs_response", "warning_needs_response")
_FEE = 1500
_NETWORK_RULES = ("mastercard_compliance", "visa_compelling_evidence_3", "visa_compliance")
"""Rules of card networks that a dispute may fall under; ours fall under none."""

_DAYS_TO_RESPOND = 9
UPDATE: dict[str, Rule] = {
    "evidence": Object(dict.fromkeys((name for name in _EVIDENCE if name != "appeal"), Text(150_000))),
    "metadata": METADATA,
    "submit": Boolean(),
}


def open_one(account: Account, payment_intent: str, *, amount: int | None, inquiry: bool) -> Record:
    """
    Dispute a payment as its bank would.

    Raises:
        ApiError: There is no such payment; it has not succeeded, is disputed already, or is of less.
    """
    intent = account.get(payment_intents.KIND, payment_intent, param="payment_intent")
    if intent["status"] != "succeeded":
        raise invalid("This PaymentIntent does not have a successful charge to dispute.", param="payment_intent")
    if of_payment(account, intent) is not None:
        raise invalid("This payment is disputed already.", param="payment_intent")
    if amount is not None and not 0 < amount <= intent["amount_received"]:
        raise invalid(f"The amount must be from 1 to {intent['amount_received']}, not {amount}.", param="amount")
    record = account.add(
        {
            "id": account.new_id(KIND),
            "object": KIND,
            "amount": intent["amount_received"] if amount is None else amount,
            "balance_transactions": [],
            "charge": fresh_id("ch_3", 23),
            "created": account.now,
            "currency": intent["currency"],
            "enhanced_eligibility_types": [],
            "evidence": {**dict.fromkeys(_EVIDENCE), "enhanced_evidence": dict.fromkeys(_NETWORK_RULES)},
            "evidence_details": {
                "due_by": account.now + _DAYS_TO_RESPOND * 24 * 3600,
                "enhanced_eligibility": dict.fromkeys(_NETWORK_RULES),
                "has_evidence": False,
                "past_due": False,
                "submission_count": 0,
                "submission_method": "not_submitted",
            },
            "intended_submission_method": None,
            "is_charge_refundable": inquiry,
            "livemode": account.switches.livemode,
            "metadata": {},
            "network_reason_code": "10.4",
            "payment_intent": intent["id"],
            "payment_method_details": _details(account, intent, inquiry=inquiry),
            "reason": "fraudulent",
            "status": "warning_needs_response" if inquiry else "needs_response",
        }
    )
    if not inquiry:
        _move(account, record, -record["amount"], fee=_FEE)
    account.announce("charge.dispute.created", record)
    if not inquiry:
        account.announce("charge.dispute.funds_withdrawn", record)
    return record


def of_payment(account: Account, intent: Record) -> Record | None:
    """Return the dispute of a payment, or None."""
    return next((each for each in account.all(KIND) if each["payment_intent"] == intent["id"]), None)


def update(account: Account, call: Call) -> Record:
    """Stage or submit evidence. In test mode, it decides at once if it consists of one of Stripe's words."""
    record, params = account.get(KIND, call.id), call.params
    evidence = params.get("evidence", {})
    if evidence and record["status"] not in _OPEN:
        raise invalid("This dispute is already closed or under review; no evidence can be submitted.", param="evidence")
    details = dict(record["evidence_details"])
    changes: dict[str, Any] = {"metadata": merged(record["metadata"], params.get("metadata"))}
    if evidence:
        changes["evidence"] = {**record["evidence"], **{name: text or None for name, text in evidence.items()}}
        details["has_evidence"] = any(changes["evidence"].values())
    submitted = bool(evidence) and params.get("submit", True)
    if submitted:
        details.update(submission_count=details["submission_count"] + 1, submission_method="manual")
        warning = record["status"] == "warning_needs_response"
        changes["status"] = "warning_under_review" if warning else "under_review"
    account.change(record, "charge.dispute.updated", evidence_details=details, **changes)
    outcome = _OUTCOMES.get(str(evidence.get("uncategorized_text"))) if submitted else None
    if outcome is not None:
        _decide(account, record, outcome)
    return record


def close(account: Account, call: Call) -> Record:
    """Accept a dispute."""
    record = account.get(KIND, call.id)
    if record["status"] not in _OPEN:
        raise invalid("This dispute is already closed.", code="dispute_already_closed")
    _decide(account, record, "lost")
    return record


def retrieve(account: Account, call: Call) -> Record:
    """Return one dispute."""
    return account.get(KIND, call.id)


def list_all(account: Account, call: Call) -> Record:
    """Return disputes, newest first."""
    params = call.params
    records = [
        each
        for each in reversed(account.all(KIND))
        if params.get("payment_intent") in (None, each["payment_intent"])
        and params.get("charge") in (None, each["charge"])
        and within(each["created"], params.get("created"))
    ]
    return page(call, records, "dispute")


def _decide(account: Account, record: Record, outcome: str) -> None:
    """Close a dispute as won or lost; an inquiry moves no money, whatever comes of it."""
    inquiry = record["status"].startswith("warning")
    record["status"] = "warning_closed" if inquiry else outcome
    if outcome == "won" and not inquiry:
        _move(account, record, record["amount"], fee=0)
    account.announce("charge.dispute.closed", record)
    if outcome == "won" and not inquiry:
        account.announce("charge.dispute.funds_reinstated", record)


def _move(account: Account, record: Record, amount: int, *, fee: int) -> None:
    """Note that money left the account, or came back."""
    details = {"amount": fee, "application": None, "currency": record["currency"], "type": "stripe_fee"}
    withdrawn = amount < 0
    record["balance_transactions"] = [
        *record["balance_transactions"],
        {
            "id": fresh_id("txn_1", 23),
            "object": "balance_transaction",
            "amount": amount,
            "available_on": account.now,
            "balance_type": "payments",
            "created": account.now,
            "currency": record["currency"],
            "description": f"Chargeback {'withdrawal' if withdrawn else 'reversal'} for {record['charge']}",
            "exchange_rate": None,
            "fee": fee,
            "fee_details": [{**details, "description": "Dispute fee"}] if fee else [],
            "net": amount - fee,
            "reporting_category": "dispute" if withdrawn else "dispute_reversal",
            "source": record["id"],
            "status": "available",
            "type": "adjustment",
        },
    ]


def _details(account: Account, intent: Record, *, inquiry: bool) -> Record | None:
    method = account.find(payment_methods.KIND, intent["payment_method"] or "")
    if method is None or method["type"] != "card":
        return None
    card = {
        "brand": method["card"]["brand"],
        "case_type": "inquiry" if inquiry else "chargeback",
        "network": method["card"]["brand"],
        "network_reason_code": "10.4",
    }
    return {"amazon_pay": None, "card": card, "klarna": None, "paypal": None, "type": "card"}


ROUTES = [
    Route("GET", "/v1/disputes", list_all, {**PAGE, "charge": Text(), "created": Span(), "payment_intent": Text()}),
    Route("GET", "/v1/disputes/{id}", retrieve),
    Route("POST", "/v1/disputes/{id}", update, UPDATE),
    Route("POST", "/v1/disputes/{id}/close", close),
]
