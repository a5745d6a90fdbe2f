"""Webhooks and payments: lines 37 and 46 to 49 of the fidelity checklist."""

from __future__ import annotations

import random
import threading

import httpx
import pytest
import stripe
from guard import GUARD
from webhook_receiver import Receiver

from meterkit.sandbox import Sandbox

NOW = 1_772_323_200  # 2026-03-01
DAY = 24 * 3600


@pytest.fixture
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def make_sandbox():
    made = []

    def make(**options):
        sandbox = Sandbox(now=NOW, **options)
        sandbox.start()
        made.append(sandbox)
        return sandbox

    yield make
    for sandbox in made:
        sandbox.stop()


@pytest.fixture
def sandbox(make_sandbox):
    return make_sandbox()


def client_of(sandbox):
    return stripe.StripeClient(sandbox.api_key, base_addresses={"api": sandbox.url}).v1


def subscribe(sandbox, used=5, **options):
    """A customer with a subscription and some usage; answers the ids of both."""
    v1 = client_of(sandbox)
    meters = [meter.id for meter in v1.billing.meters.list().data] or [
        v1.billing.meters.create(
            {"display_name": "x", "event_name": "calls", "default_aggregation": {"formula": "sum"}}
        ).id
    ]
    recurring = {"interval": "month", "usage_type": "metered", "meter": meters[0]}
    price = v1.prices.create(
        {"currency": "usd", "unit_amount": 500, "product_data": {"name": "x"}, "recurring": recurring}
    )
    customer = v1.customers.create({}).id
    subscription = v1.subscriptions.create({"customer": customer, "items": [{"price": price.id}], **options}).id
    payload = {"stripe_customer_id": customer, "value": str(used)}
    v1.billing.meter_events.create({"event_name": "calls", "payload": payload})
    return customer, subscription


def statuses(v1, invoice, subscription):
    return v1.invoices.retrieve(invoice.id).status, v1.subscriptions.retrieve(subscription).status


def types(sandbox, since=0):
    return [delivery.type for delivery in sandbox.webhooks.delivered[since:]]


def test_line_48_a_signed_delivery(sandbox, receiver):
    """The body is the event, as the API has it, signed so that stripe-python takes it."""
    endpoint = sandbox.webhooks.send_to(receiver.url)
    customer = client_of(sandbox).customers.create({"name": "Zoë"})
    (delivery,) = sandbox.webhooks.deliver()
    (event,) = receiver.events(endpoint.secret)

    assert ("customer.created", 200, 1) == (delivery.type, delivery.status, delivery.attempt)
    assert (customer.id, "Zoë") == (event.data.object.id, event.data.object.name)


def test_line_48_only_what_is_wanted(sandbox, receiver):
    """By type."""
    sandbox.webhooks.send_to(receiver.url, events=["customer.updated"])
    v1 = client_of(sandbox)
    customer = v1.customers.create({})
    v1.customers.update(customer.id, {"name": "x"})
    sandbox.webhooks.deliver()

    assert ["customer.updated"] == types(sandbox)


def test_line_48_two_secrets_during_a_roll(sandbox, receiver):
    """Both sign, until the old one is retired."""
    endpoint = sandbox.webhooks.send_to(receiver.url, secret="whsec_old")
    new = endpoint.roll()
    client_of(sandbox).customers.create({})
    sandbox.webhooks.deliver()
    both = [receiver.events(secret)[0].type for secret in ("whsec_old", new)]
    endpoint.retire()
    client_of(sandbox).customers.create({})
    sandbox.webhooks.deliver()

    assert ["customer.created"] * 2 == both
    with pytest.raises(stripe.SignatureVerificationError):
        receiver.events("whsec_old")


def test_line_48_what_fails_is_repeated(sandbox, receiver):
    """Under the same id, later, until it is taken or given up."""
    sandbox.webhooks.send_to(receiver.url)
    receiver.answers = [500, 302, 404]
    client_of(sandbox).customers.create({})
    sandbox.advance(seconds=DAY)

    assert [500, 302, 404] == [delivery.status for delivery in sandbox.webhooks.delivered]
    assert 1 == len({delivery.event for delivery in sandbox.webhooks.delivered})
    assert [1, 2, 3] == [delivery.attempt for delivery in sandbox.webhooks.delivered]


def test_line_48_duplicates_and_disorder(sandbox, receiver):
    """On demand."""
    sandbox.webhooks.send_to(receiver.url)
    for name in "abcdef":
        client_of(sandbox).customers.create({"name": name})
    sandbox.webhooks.deliver(times=2, order=random.Random(1).shuffle)

    names = [event["data"]["object"]["name"] for event in receiver.events(sandbox.webhooks.endpoints[0].secret)]
    assert (sorted("aabbccddeeff"), True) == (sorted(names), names != sorted(names))


def test_line_48_what_stripe_would_not_send(sandbox, receiver):
    """An old event with a wrong or an old signature, or of another account."""
    endpoint = sandbox.webhooks.send_to(receiver.url)
    client_of(sandbox).customers.create({})
    (delivery,) = sandbox.webhooks.deliver()
    sandbox.webhooks.replay(endpoint, delivery.event, secret="whsec_wrong")
    sandbox.webhooks.replay(endpoint, delivery.event, at=NOW - 1000, account="acct_other", livemode=True)

    with pytest.raises(stripe.SignatureVerificationError):
        receiver.events(endpoint.secret)
    event = stripe.Webhook.construct_event(receiver.bodies[2], receiver.headers[2], endpoint.secret, tolerance=None)
    assert (delivery.event, "acct_other", True) == (event.id, event.account, event.livemode)
    assert f"t={NOW - 1000}," in receiver.headers[2]


def test_line_48_a_receiver_may_ask_back(sandbox, receiver):
    """While it handles the event."""
    asked = []
    sandbox.webhooks.send_to(receiver.url)
    receiver.on_body = lambda: asked.append(client_of(sandbox).customers.list().data[0].id)
    customer = client_of(sandbox).customers.create({})
    sandbox.webhooks.deliver()

    assert [customer.id] == asked


def test_line_49_what_it_was_before(sandbox, receiver):
    """An update says which fields had which values."""
    endpoint = sandbox.webhooks.send_to(receiver.url, events=["customer.updated"])
    v1 = client_of(sandbox)
    customer = v1.customers.create({"name": "old"})
    v1.customers.update(customer.id, {"name": "new"})
    sandbox.webhooks.deliver()
    (event,) = receiver.events(endpoint.secret)

    assert ("new", "old", True) == (
        event.data.object.name,
        event.data.previous_attributes["name"],
        bool(event.api_version),
    )


def test_line_37_a_thin_body(sandbox, receiver):
    """Only to who wants it, and without its data."""
    snapshots = sandbox.webhooks.send_to(receiver.url, events=["v1.billing.meter.no_meter_found"])
    endpoint = sandbox.webhooks.send_to(receiver.url, thin=True)
    client = stripe.StripeClient(sandbox.api_key, base_addresses={"api": sandbox.url, "meter_events": sandbox.url})
    token = client.v2.billing.meter_event_session.create().authentication_token
    events = [{"event_name": "none", "payload": {"stripe_customer_id": "cus_1", "value": "1"}}]
    client.v2.billing.meter_event_stream.create({"events": events}, options={"api_key": token})
    sandbox.advance(seconds=10)
    notification = client.parse_event_notification(
        receiver.bodies[0], receiver.headers[0], endpoint.secret, tolerance=10**10
    )

    assert (1, "v1.billing.meter.no_meter_found") == (len(receiver.bodies), notification.type)
    assert b'"data"' not in receiver.bodies[0]
    assert 1 == notification.fetch_event().data.reason.error_count
    assert snapshots.secret != endpoint.secret


def test_line_46_a_payment_that_succeeds(sandbox, receiver):
    """The invoice is paid when it is final."""
    subscribe(sandbox)
    wanted = ["invoice.created", "invoice.finalized", "invoice.paid", "invoice.payment_succeeded"]
    sandbox.webhooks.send_to(receiver.url, events=wanted)
    sandbox.advance(seconds=32 * DAY)

    assert wanted == types(sandbox)


@pytest.mark.parametrize("last", ["canceled", "unpaid", "past_due"])
def test_line_46_a_payment_that_fails(make_sandbox, receiver, last):
    """It is tried again; meanwhile the subscription is past due, and in the end what the account says."""
    sandbox = make_sandbox(after_retries=last)
    v1 = client_of(sandbox)
    customer, subscription = subscribe(sandbox)
    sandbox.payments(customer, "fail")
    sandbox.webhooks.send_to(receiver.url)
    sandbox.advance(seconds=32 * DAY)
    (invoice,) = v1.invoices.list().data
    first = (invoice.status, invoice.attempt_count, bool(invoice.next_payment_attempt), invoice.amount_remaining)
    before = (v1.subscriptions.retrieve(subscription).status, v1.customers.retrieve(customer).delinquent)
    sandbox.advance(seconds=20 * DAY)
    invoice = v1.invoices.retrieve(invoice.id)

    assert ("open", 1, True, 2500) == first
    assert ("past_due", True) == before
    assert invoice.hosted_invoice_url
    assert (4, None) == (invoice.attempt_count, invoice.next_payment_attempt)
    assert last == v1.subscriptions.retrieve(subscription).status
    assert 4 == types(sandbox).count("invoice.payment_failed")
    assert "invoice.paid" not in types(sandbox)


@pytest.mark.parametrize(
    ("how", "events"),
    [
        ({"paid_out_of_band": True}, ["payment_intent.canceled", "invoice.paid"]),
        ({}, ["payment_intent.succeeded", "invoice_payment.paid", "invoice.paid", "invoice.payment_succeeded"]),
    ],
)
def test_line_46_what_is_paid_after_all(sandbox, receiver, how, events):
    """Also what came another way: then the subscription goes on."""
    v1 = client_of(sandbox)
    customer, subscription = subscribe(sandbox)
    sandbox.payments(customer, "fail")
    sandbox.advance(seconds=32 * DAY)
    (invoice,) = v1.invoices.list().data
    sandbox.webhooks.send_to(receiver.url)
    with pytest.raises(stripe.CardError):
        v1.invoices.pay(invoice.id)
    sandbox.payments(customer, "succeed")
    sandbox.webhooks.deliver()
    since = len(sandbox.webhooks.delivered)
    v1.invoices.pay(invoice.id, how)
    sandbox.webhooks.deliver()

    assert [*events, "customer.updated", "customer.subscription.updated"] == types(sandbox, since)
    assert ("paid", "active") == (
        v1.invoices.retrieve(invoice.id).status,
        v1.subscriptions.retrieve(subscription).status,
    )


@pytest.mark.parametrize(("how", "status"), [("void_invoice", "void"), ("mark_uncollectible", "uncollectible")])
def test_an_invoice_that_is_closed(sandbox, how, status):
    """It is not asked for any more."""
    v1 = client_of(sandbox)
    customer, subscription = subscribe(sandbox)
    sandbox.payments(customer, "fail")
    sandbox.advance(seconds=32 * DAY)
    (invoice,) = v1.invoices.list().data
    getattr(v1.invoices, how)(invoice.id)

    assert (status, "active") == (
        v1.invoices.retrieve(invoice.id).status,
        v1.subscriptions.retrieve(subscription).status,
    )


def test_an_invoice_that_was_sent_falls_due(sandbox):
    """Its subscription is past due when its date has passed, and goes on when it is paid."""
    v1 = client_of(sandbox)
    _, subscription = subscribe(sandbox, collection_method="send_invoice", days_until_due=14)
    sandbox.advance(seconds=40 * DAY)
    (invoice,) = v1.invoices.list().data
    before = (invoice.status, v1.subscriptions.retrieve(subscription).status)
    sandbox.advance(seconds=7 * DAY)
    late = v1.subscriptions.retrieve(subscription).status
    v1.invoices.pay(invoice.id, {"paid_out_of_band": True})

    assert (("open", "active"), "past_due") == (before, late)
    assert "active" == v1.subscriptions.retrieve(subscription).status


def test_line_47_an_endpoint_that_fails_delays_the_invoice(sandbox, receiver):
    """It is final an hour after its event was taken."""
    subscribe(sandbox)
    sandbox.webhooks.send_to(receiver.url, events=["invoice.created", "invoice.finalized"])
    receiver.answers = [500, 500, 200]
    sandbox.advance(seconds=32 * DAY)
    events = client_of(sandbox).events.list({"limit": 100}).data
    created, final = (
        next(event.created for event in events if event.type == kind)
        for kind in ("invoice.created", "invoice.finalized")
    )

    assert ["invoice.created"] * 3 + ["invoice.finalized"] == types(sandbox)
    assert (1 + 3 + 1) * 3600 == final - created


def test_where_time_runs_events_are_delivered_by_themselves(receiver):
    """And other processes name the endpoint."""
    came = threading.Event()
    receiver.on_body = came.set
    with Sandbox() as sandbox:
        answer = httpx.post(f"{sandbox.url}/_sandbox/webhooks", json={"url": receiver.url}, timeout=GUARD).json()
        client_of(sandbox).customers.create({})
        assert came.wait(GUARD)

    assert "customer.created" == receiver.events(answer["secret"])[0].type


def test_other_processes_let_payments_fail(sandbox):
    """By a request to the sandbox itself."""
    customer, subscription = subscribe(sandbox)
    with httpx.Client(base_url=sandbox.url, timeout=GUARD) as client:
        answer = client.post("/_sandbox/payments", json={"customer": customer, "outcome": "fail"})
        wrong = client.post("/_sandbox/payments", json={"customer": customer, "outcome": "maybe"})
    sandbox.advance(seconds=32 * DAY)

    assert (200, 400) == (answer.status_code, wrong.status_code)
    assert "past_due" == client_of(sandbox).subscriptions.retrieve(subscription).status
