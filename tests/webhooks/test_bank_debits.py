"""A bank debit takes days to be paid or to fail: until then nothing is overdue, though Stripe counts an attempt."""

from __future__ import annotations

import json
from datetime import datetime, timezone

import pytest
from followed_account import (  # noqa: F401 - fixtures
    api,
    events,
    make_following_kit,
    make_shown_kit,
    price,
    shown,
    stripe,
    tell,
)
from plain_exchange import PlainExchange
from signed import body_of, signature_of, snapshot

from meterkit import Governance

pytestmark = pytest.mark.long

DAY = 24 * 3600


def under_way(invoice):
    """An invoice whose debit is in processing: it was attempted, and no other attempt is planned."""
    invoice.update(
        status="open",
        amount_remaining=invoice["total"],
        attempted=True,
        attempt_count=1,
        next_payment_attempt=None,
    )


@pytest.fixture
def kit(make_shown_kit, shown, api, price, clock, tell, events):
    """A kit that blocks whoever is overdue, and knows of an invoice whose debit is under way."""
    shown.rewrite("invoice", under_way)
    kit = make_shown_kit(
        governance=Governance(overdue_days=0), identify=lambda exchange: exchange.headers.get("x-company")
    )
    customer = api.customers.create({"metadata": {"company": "acme"}}).id
    api.subscriptions.create({"customer": customer, "items": [{"price": price}]})
    payload = {"stripe_customer_id": customer, "value": "5"}
    api.billing.meter_events.create({"event_name": "calls", "payload": payload})
    clock.advance(32 * DAY)
    api.invoices.list()
    kit.process().begin()
    tell(kit, *events())
    return kit


def stands(kit):
    """How acme stands, and what its next request is answered with."""
    kit.flush()
    exchange = PlainExchange("GET", "/calls", headers={"x-company": "acme"})
    exchange.publish(kit)
    response = kit.governor.check(exchange)
    kit.recorder.refuse(exchange)
    return kit.customers()[0].standing, 200 if response is None else response.status


@pytest.mark.parametrize("kind", ["invoice.payment_failed", "v1.invoice.payment_failed"])
def test_a_debit_that_fails(kit, api, clock, tell, kind):
    """It is overdue from then on, whatever else is heard of the invoice."""
    processing = stands(kit)
    (invoice,) = api.invoices.list().data
    clock.advance(9 * DAY)
    failed_at = int(clock())
    about = {"object": "invoice", "id": invoice.id}
    tell(kit, snapshot(kind, about, id="evt_failed", created=failed_at))
    failed = stands(kit)
    clock.advance(DAY)
    tell(kit, snapshot("invoice.updated", about, id="evt_later", created=int(clock())))

    assert ("good", 200) == processing
    assert ("overdue", 402) == failed == stands(kit)
    (overdue,) = kit.health()["stopped"].items()
    assert ("overdue", 2) == overdue


def test_a_debit_that_fails_again(kit, api, clock, tell):
    """It has been overdue since the first time."""
    (invoice,) = api.invoices.list().data
    about = {"object": "invoice", "id": invoice.id}
    clock.advance(9 * DAY)
    first = datetime.fromtimestamp(clock(), timezone.utc).strftime("%Y-%m-%d")
    for number in range(4):
        event = snapshot("invoice.payment_failed", about, id=f"evt_{number}", created=int(clock()) + number % 2 * DAY)
        if number < 2:  # both are followed together
            body = body_of(event)
            kit.receive(body, signature_of(body, clock()))
        else:
            tell(kit, event)
            clock.advance(3 * DAY)
    kit.flush()
    exchange = PlainExchange("GET", "/calls", headers={"x-company": "acme"})
    exchange.publish(kit)
    answer = kit.governor.check(exchange)
    kit.recorder.refuse(exchange)

    assert f"overdue since {first}" in json.loads(answer.body)["detail"]


def test_a_debit_that_is_paid(kit, shown, api, clock, tell):
    """Nobody was told anything."""
    shown.clear()
    (invoice,) = api.invoices.list().data
    clock.advance(9 * DAY)
    tell(kit, snapshot("invoice.paid", {"object": "invoice", "id": invoice.id}, id="evt_paid"))

    assert ("good", 200) == stands(kit)
