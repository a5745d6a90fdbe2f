"""Payment methods, and payments that are under way for days, as bank debits are."""

from __future__ import annotations

import httpx
import pytest
import stripe
from guard import GUARD
from sandbox_shop import APRIL, DAY, HOUR, refused


def billed(shop, outcome=None, **params):
    """A customer's first invoice of 5.00 USD, and the customer."""
    customer = shop.customer(**params)
    shop.subscribe(customer, shop.price(shop.meter(), unit_amount=100))
    if outcome is not None:
        shop.sandbox.payments(customer.id, outcome)
    shop.send(customer, 5)
    shop.sandbox.advance(to=APRIL + HOUR)
    (invoice,) = shop.invoices(customer)
    return invoice, customer


def payment_of(shop, invoice):
    """The payment of an invoice with its payment intent."""
    (payment,) = shop.v1.invoice_payments.list({"invoice": invoice.id, "expand": ["data.payment.payment_intent"]}).data
    return payment


def state(shop, invoice, customer):
    """What there is to see of an invoice and its subscription."""
    invoice = shop.v1.invoices.retrieve(invoice.id)
    (subscription,) = shop.v1.subscriptions.list({"customer": customer.id, "status": "all"}).data
    payment = payment_of(shop, invoice)
    return (
        (invoice.status, invoice.attempted, invoice.attempt_count, invoice.next_payment_attempt is not None),
        subscription.status,
        (payment.status, payment.payment.payment_intent.status),
    )


UNDER_WAY = (("open", True, 1, False), "active", ("open", "processing"))


def test_a_bank_debit_under_way(shop):
    """The invoice is open and was attempted, nothing has failed, and the subscription goes on."""
    invoice, customer = billed(shop, "process")
    shop.sandbox.advance(seconds=14 * DAY)

    assert UNDER_WAY == state(shop, invoice, customer)
    assert False is shop.v1.customers.retrieve(customer.id).delinquent
    assert [] == shop.events("invoice.payment_failed", "invoice.paid")
    assert ["payment_intent.processing", "invoice.updated"] == shop.events(
        "payment_intent.processing", "invoice.updated"
    )


def test_a_bank_debit_that_succeeds(shop):
    """When the test says so."""
    invoice, customer = billed(shop, "process")
    shop.sandbox.payments(customer.id, "succeed")
    payment = payment_of(shop, invoice)

    assert (("paid", True, 1, False), "active", ("paid", "succeeded")) == state(shop, invoice, customer)
    assert (500, 500, shop.sandbox.now) == (
        payment.amount_paid,
        payment.payment.payment_intent.amount_received,
        payment.status_transitions.paid_at,
    )
    assert ["payment_intent.succeeded", "invoice.paid"] == shop.events("payment_intent.succeeded", "invoice.paid")


def test_a_bank_debit_that_fails(shop):
    """It is tried again, like any payment that has failed."""
    invoice, customer = billed(shop, "process")
    shop.sandbox.payments(customer.id, "fail")
    failed = state(shop, invoice, customer)
    shop.sandbox.payments(customer.id, "succeed")
    shop.sandbox.advance(seconds=3 * DAY)

    assert (("open", True, 1, True), "past_due", ("open", "requires_payment_method")) == failed
    assert (("paid", True, 2, False), "active", ("paid", "succeeded")) == state(shop, invoice, customer)


def test_a_failed_card_and_then_a_bank_debit(shop):
    """The subscription stays past due until the money has come."""
    invoice, customer = billed(shop, "fail")
    shop.sandbox.payments(customer.id, "process")
    shop.sandbox.advance(seconds=3 * DAY)

    assert (("open", True, 2, False), "past_due", ("open", "processing")) == state(shop, invoice, customer)


def test_what_is_under_way_cannot_be_paid_or_voided(shop):
    """Until it has ended."""
    invoice, _ = billed(shop, "process")

    assert "processing" in str(refused(shop.v1.invoices.pay, invoice.id))
    assert "processing" in str(refused(shop.v1.invoices.void_invoice, invoice.id))


def test_an_invoice_that_is_paid_by_hand_with_a_bank_debit(shop):
    """The call succeeds, and the invoice stays open."""
    invoice, customer = billed(shop, "fail")
    method = shop.v1.payment_methods.attach("pm_usBankAccount", {"customer": customer.id})
    shop.sandbox.payments(method.id, "process")
    paid = shop.v1.invoices.pay(invoice.id, {"payment_method": method.id})

    assert ("open", 2) == (paid.status, paid.attempt_count)
    assert method.id == payment_of(shop, invoice).payment.payment_intent.payment_method


def test_other_processes_let_a_payment_take_days(shop):
    """By requests to the sandbox itself."""
    invoice, customer = billed(shop, "process")
    url = f"{shop.sandbox.url}/_sandbox/payments"
    answer = httpx.post(url, json={"customer": customer.id, "outcome": "succeed"}, timeout=GUARD)

    assert (200, "paid") == (answer.status_code, shop.v1.invoices.retrieve(invoice.id).status)
    with pytest.raises(ValueError, match="'process'"):
        shop.sandbox.payments(customer.id, "maybe")


@pytest.mark.parametrize(
    ("method", "debits"), [("pm_sepaDebit", True), ("pm_usBankAccount", True), ("pm_card_visa", False)]
)
def test_a_debit_takes_days_by_itself(shop, method, debits):
    """A card does not."""
    default = {"payment_method": method, "invoice_settings": {"default_payment_method": method}}
    invoice, customer = billed(shop, **default)

    assert UNDER_WAY == state(shop, invoice, customer) if debits else "paid" == invoice.status


def test_what_is_decided_about_a_payment_method_counts_first(shop):
    """Before what is decided about the customer."""
    customer = shop.customer(payment_method="pm_card_visa")
    debit = shop.v1.payment_methods.attach("pm_sepaDebit", {"customer": customer.id})
    price = shop.price(unit_amount=700)
    shop.sandbox.payments(customer.id, "process")
    shop.sandbox.payments(debit.id, "succeed")
    shop.subscribe(customer, price, default_payment_method=debit.id)
    shop.subscribe(customer, price)
    other, by_debit = shop.invoices(customer)

    assert ("open", "paid") == (other.status, by_debit.status)


def test_a_payment_under_way_does_not_hold_a_subscription_back(shop):
    """Another invoice that had failed is paid: nothing is overdue any more."""
    customer = shop.customer()
    debit, card = (
        shop.v1.payment_methods.attach(each, {"customer": customer.id}).id
        for each in ("pm_sepaDebit", "pm_card_chargeCustomerFail")
    )
    subscription = shop.subscribe(customer, shop.price(unit_amount=700), default_payment_method=debit)
    shop.v1.subscriptions.update(subscription.id, {"default_payment_method": card})
    shop.sandbox.advance(to=APRIL + HOUR)
    failed, under_way = shop.invoices(customer)
    behind = shop.v1.subscriptions.retrieve(subscription.id).status
    shop.v1.invoices.pay(failed.id, {"paid_out_of_band": True})

    assert ("open", "open", "past_due") == (failed.status, under_way.status, behind)
    assert "active" == shop.v1.subscriptions.retrieve(subscription.id).status


def test_a_card_that_fails_when_it_is_charged(shop):
    """It can be attached all the same."""
    customer = shop.customer(payment_method="pm_card_chargeCustomerFail")
    (method,) = shop.v1.customers.payment_methods.list(customer.id).data
    shop.v1.customers.update(customer.id, {"invoice_settings": {"default_payment_method": method.id}})
    shop.subscribe(customer, shop.price(unit_amount=700))
    (invoice,) = shop.invoices(customer)

    assert ("open", 1, "0341") == (invoice.status, invoice.attempt_count, method.card.last4)
    assert "card_declined" == payment_of(shop, invoice).payment.payment_intent.last_payment_error.code


def test_a_card_by_its_number(shop):
    """One of Stripe's test numbers; one that is declined at once is not created."""
    create = shop.v1.payment_methods.create
    card = create({"type": "card", "card": {"number": "4242 4242 4242 4242", "exp_month": 1, "exp_year": 2030}})
    token = create({"type": "card", "card": {"token": "tok_mastercard"}})

    assert ("visa", "4242", None) == (card.card.brand, card.card.last4, card.customer)
    assert "mastercard" == token.card.brand
    with pytest.raises(stripe.CardError, match="declined"):
        create({"type": "card", "card": {"number": "4000000000000002"}})
    with pytest.raises(stripe.CardError, match="incorrect"):
        create({"type": "card", "card": {"number": "12"}})


def test_payment_methods_are_attached_and_detached(shop):
    """To one customer, once."""
    methods, acme, other = shop.v1.payment_methods, shop.customer(), shop.customer()
    method = methods.create({"type": "card", "card": {"token": "tok_visa"}})
    methods.attach(method.id, {"customer": acme.id})
    renamed = methods.update(method.id, {"metadata": {"a": "1"}, "billing_details": {"name": "Zoë"}})
    shop.v1.customers.update(acme.id, {"invoice_settings": {"default_payment_method": method.id}})

    assert "already been attached" in str(refused(methods.attach, method.id, {"customer": other.id}))
    assert ("Zoë", "1") == (renamed.billing_details.name, renamed.metadata["a"])
    assert "does not have" in str(
        refused(shop.subscribe, other, shop.price(unit_amount=1), default_payment_method=method.id)
    )
    assert [method.id] == [each.id for each in methods.list({"customer": acme.id, "type": "card"}).data]
    assert None is methods.detach(method.id).customer
    assert None is shop.v1.customers.retrieve(acme.id).invoice_settings.default_payment_method
    assert ["payment_method.attached", "payment_method.updated", "payment_method.detached"] == shop.events(
        "payment_method.attached", "payment_method.updated", "payment_method.detached"
    )


def test_the_payments_of_an_invoice_on_request(shop):
    """As its field `payments`, with the payment intents."""
    invoice, customer = billed(shop)
    expanded = shop.v1.invoices.retrieve(invoice.id, {"expand": ["payments.data.payment.payment_intent"]})
    (payment,) = expanded.payments.data

    assert "payments" not in invoice.to_dict()
    assert (invoice.id, 500, "succeeded") == (
        payment.invoice,
        payment.amount_paid,
        payment.payment.payment_intent.status,
    )
    assert payment.id == shop.v1.invoice_payments.retrieve(payment.id).id
    intent = payment.payment.payment_intent.id
    by_intent = {"payment": {"type": "payment_intent", "payment_intent": intent}, "status": "paid"}
    assert [payment.id] == [each.id for each in shop.v1.invoice_payments.list(by_intent).data]
    assert intent == shop.v1.payment_intents.retrieve(intent).id
    assert [intent] == [each.id for each in shop.v1.payment_intents.list({"customer": customer.id}).data]


@pytest.mark.parametrize(("close", "reason"), [("void_invoice", "void_invoice"), ("pay", "abandoned")])
def test_a_payment_of_an_invoice_that_is_closed_otherwise(shop, close, reason):
    """It is canceled, and with it its payment intent."""
    invoice, customer = billed(shop, "fail")
    getattr(shop.v1.invoices, close)(invoice.id, {"paid_out_of_band": True} if close == "pay" else {})
    payment = payment_of(shop, invoice)

    assert ("canceled", "canceled", reason) == (
        payment.status,
        payment.payment.payment_intent.status,
        payment.payment.payment_intent.cancellation_reason,
    )
    assert "active" == shop.v1.subscriptions.list({"customer": customer.id}).data[0].status
