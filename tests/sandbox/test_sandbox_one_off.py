"""Invoices that belong to no subscription: made, finalised, and paid by request."""

from __future__ import annotations

import pytest
import stripe as stripe_python
from sandbox_shop import refused


@pytest.fixture
def buyer(shop):
    """A customer with a card on file."""
    customer = shop.customer()
    charge_to(shop, customer, "pm_card_visa")
    return customer


def charge_to(shop, customer, card):
    method = shop.v1.payment_methods.attach(card, {"customer": customer.id})
    shop.v1.customers.update(customer.id, {"invoice_settings": {"default_payment_method": method.id}})


def one_time(shop, amount=1000):
    product = shop.v1.products.create({"name": "1,000 credits"})
    return shop.v1.prices.create({"currency": "usd", "product": product.id, "unit_amount": amount})


def drafted(shop, customer, **more):
    draft = shop.v1.invoices.create({"customer": customer.id, "metadata": {"why": "top-up"}, **more})
    item = {"customer": customer.id, "invoice": draft.id, "pricing": {"price": one_time(shop).id}, "quantity": 2}
    shop.v1.invoice_items.create(item)
    return draft


def test_from_draft_to_paid(shop, buyer):
    """It costs what the price says, and nothing is charged before it is asked for."""
    draft = drafted(shop, buyer)
    final = shop.v1.invoices.finalize_invoice(draft.id, {"auto_advance": False})
    paid = shop.v1.invoices.pay(draft.id, {"off_session": True})

    (line,) = paid.lines.data
    assert ("draft", "open", "paid") == (draft.status, final.status, paid.status)
    assert (2000, "1,000 credits", 2) == (paid.amount_paid, line.description, line.quantity)
    assert {"why": "top-up"} == paid.metadata.to_dict()


def test_one_that_advances_by_itself(shop, buyer):
    """Finalising charges it, as that of a subscription."""
    draft = drafted(shop, buyer, auto_advance=True)

    assert "paid" == shop.v1.invoices.finalize_invoice(draft.id).status


@pytest.mark.parametrize(
    ("card", "code"),
    [("pm_card_chargeCustomerFail", "card_declined"), ("pm_card_authenticationRequired", "authentication_required")],
)
def test_a_card_that_fails(shop, buyer, card, code):
    """It stays open, and can be voided."""
    charge_to(shop, buyer, card)
    draft = drafted(shop, buyer)
    shop.v1.invoices.finalize_invoice(draft.id, {"auto_advance": False})
    with pytest.raises(stripe_python.CardError) as error:
        shop.v1.invoices.pay(draft.id, {"off_session": True})
    left = shop.v1.invoices.retrieve(draft.id).status

    assert (code, "open", "void") == (error.value.code, left, shop.v1.invoices.void_invoice(draft.id).status)


def test_a_draft_is_deleted(shop, buyer):
    """A final one is not."""
    gone, final = drafted(shop, buyer), drafted(shop, buyer)
    shop.v1.invoices.finalize_invoice(final.id, {"auto_advance": False})
    shop.v1.invoices.delete(gone.id)

    assert [final.id] == [each.id for each in shop.invoices(buyer)]
    assert "You can only delete draft invoices" in str(refused(shop.v1.invoices.delete, final.id))


@pytest.mark.parametrize("wrong", [{"amount": 5}, {"pricing": {"price": "price_none"}}])
def test_items_of_a_price(shop, buyer, wrong):
    """An item has an amount or a price, one that exists."""
    draft = drafted(shop, buyer)
    params = {"customer": buyer.id, "invoice": draft.id, "pricing": {"price": one_time(shop).id}, **wrong}

    assert 400 == refused(shop.v1.invoice_items.create, params).http_status
