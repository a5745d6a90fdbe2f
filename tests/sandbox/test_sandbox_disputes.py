"""Disputes: the bank takes the money, until it is decided who keeps it."""

from __future__ import annotations

import json
import urllib.request

import pytest
from sandbox_shop import refused

WINNING, LOSING = ({"uncategorized_text": f"{each}_evidence"} for each in ("winning", "losing"))


@pytest.fixture
def paid(shop):
    """The payment of an invoice of 500 cents."""
    shop.subscribe(shop.customer(payment_method="pm_card_visa"), shop.price(unit_amount=500))
    return shop.v1.invoice_payments.list().data[0].payment.payment_intent


def moved(dispute):
    """What the dispute has moved, in cents."""
    return [each.amount for each in dispute.balance_transactions]


def told(shop):
    """The events about disputes, without their common beginning, oldest first."""
    names = ("created", "updated", "closed", "funds_withdrawn", "funds_reinstated")
    kinds = [f"charge.dispute.{each}" for each in names]
    listed = shop.v1.events.list({"types": kinds, "limit": 100}).data
    return [each.type.removeprefix("charge.dispute.") for each in reversed(listed)]


def test_one_that_is_won(shop, paid):
    """The money comes back."""
    identity = shop.sandbox.dispute(paid)
    opened = shop.v1.disputes.retrieve(identity)
    won = shop.v1.disputes.update(identity, {"evidence": WINNING})

    assert ("needs_response", 500, [-500], paid) == (
        opened.status,
        opened.amount,
        moved(opened),
        opened.payment_intent,
    )
    assert ("won", [-500, 500]) == (won.status, moved(won))
    assert ["created", "funds_withdrawn", "updated", "closed", "funds_reinstated"] == told(shop)


@pytest.mark.parametrize("is_accepted", [True, False])
def test_one_that_is_lost(shop, paid, is_accepted):
    """By evidence or by accepting it; the money stays away."""
    identity = shop.sandbox.dispute(paid, amount=200)
    answer = {"evidence": LOSING}
    lost = shop.v1.disputes.close(identity) if is_accepted else shop.v1.disputes.update(identity, answer)

    assert ("lost", [-200]) == (lost.status, moved(lost))
    assert "closed" == told(shop)[-1]
    assert "already closed" in str(refused(shop.v1.disputes.close, identity))


def test_an_inquiry(shop, paid):
    """It moves no money, and the payment can be refunded."""
    identity = shop.sandbox.dispute(paid, inquiry=True)
    opened = shop.v1.disputes.retrieve(identity)
    closed = shop.v1.disputes.update(identity, {"evidence": WINNING})
    shop.v1.refunds.create({"payment_intent": paid})

    assert ("warning_needs_response", []) == (opened.status, moved(opened))
    assert ("warning_closed", []) == (closed.status, moved(closed))


def test_evidence_that_is_not_submitted_yet(shop, paid):
    """It is kept, and decides nothing."""
    identity = shop.sandbox.dispute(paid)
    staged = shop.v1.disputes.update(identity, {"evidence": {"customer_name": "Ann"}, "submit": False})
    submitted = shop.v1.disputes.update(identity, {"evidence": {"product_description": "Credits"}})

    assert ("needs_response", "Ann", 0) == (
        staged.status,
        staged.evidence.customer_name,
        staged.evidence_details.submission_count,
    )
    assert ("under_review", "Ann", 1) == (
        submitted.status,
        submitted.evidence.customer_name,
        submitted.evidence_details.submission_count,
    )


def test_a_disputed_payment_cannot_be_refunded(shop, paid):
    """In Stripe's words."""
    shop.sandbox.dispute(paid)

    assert "charge_disputed" == refused(shop.v1.refunds.create, {"payment_intent": paid}).code


@pytest.mark.parametrize("about", [{"amount": 0}, {"amount": 501}])
def test_what_cannot_be_disputed(shop, paid, about):
    """More or less than was paid; what is disputed; what is not there."""
    with pytest.raises(ValueError, match="amount must be"):
        shop.sandbox.dispute(paid, **about)
    shop.sandbox.dispute(paid)
    with pytest.raises(ValueError, match="disputed already"):
        shop.sandbox.dispute(paid)
    with pytest.raises(ValueError, match="No such"):
        shop.sandbox.dispute("pi_unknown")


def test_by_another_process(shop, paid):
    """As all that a bank does."""
    body = json.dumps({"payment_intent": paid, "amount": 100}).encode()
    with urllib.request.urlopen(f"{shop.sandbox.url}/_sandbox/disputes", data=body) as response:
        identity = json.load(response)["id"]

    assert [identity] == [each.id for each in shop.v1.disputes.list({"payment_intent": paid}).data]
