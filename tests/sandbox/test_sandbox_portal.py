"""The customer portal: a browser pays what is overdue, changes its card and cancels."""

from __future__ import annotations

import pytest
from hosted_browser import Browser
from sandbox_shop import APRIL, HOUR, refused

pytestmark = pytest.mark.long

VISA, DECLINED = "4242424242424242", "4000000000000002"
HOME = "https://shop.example/account"


@pytest.fixture
def browser():
    with Browser() as browser:
        yield browser


def overdue(shop):
    """A customer whose first invoice, of 5.00 USD, could not be paid."""
    customer = shop.customer(name="Acme & Sons", email="billing@acme.example")
    shop.subscribe(customer, shop.price(shop.meter(), unit_amount=100))
    shop.sandbox.payments(customer.id, "fail")
    shop.send(customer, 5)
    shop.sandbox.advance(to=APRIL + HOUR)
    return customer


def subscribed(shop):
    customer = shop.customer(name="Acme")
    shop.subscribe(customer, shop.price(shop.meter(), unit_amount=100))
    return customer


def visit(shop, browser, customer, **params):
    session = shop.v1.billing_portal.sessions.create({"customer": customer.id, "return_url": HOME, **params})
    return browser.open(session.url)


def of(shop, customer):
    (subscription,) = shop.v1.subscriptions.list({"customer": customer.id, "status": "all"}).data
    return subscription


def test_what_is_overdue_is_paid_with_a_new_card(shop, browser):
    """And the subscription is active again."""
    customer = overdue(shop)
    (invoice,) = shop.invoices(customer)
    visit(shop, browser, customer).press(f"Pay {invoice.number}", card_number=VISA)
    (paid,) = shop.invoices(customer)
    customer = shop.v1.customers.retrieve(customer.id)
    method = shop.v1.payment_methods.retrieve(customer.invoice_settings.default_payment_method)

    assert ("paid", 500, "active") == (paid.status, paid.amount_paid, of(shop, customer).status)
    assert "4242" == method.card.last4
    assert "paid" in browser.text
    assert f"Pay {invoice.number}" not in browser.buttons()


def test_a_card_that_is_declined(shop, browser):
    """The page says so, and the invoice stays open."""
    customer = overdue(shop)
    (invoice,) = shop.invoices(customer)
    visit(shop, browser, customer).press(f"Pay {invoice.number}", card_number=DECLINED)

    assert (400, True) == (browser.status, "Your card was declined." in browser.text)
    assert "open" == shop.invoices(customer)[0].status


def test_what_a_customer_sees(shop, browser):
    """Subscriptions, invoices with their amounts, and the way back."""
    customer = overdue(shop)
    (invoice,) = shop.invoices(customer)
    visit(shop, browser, customer)

    assert {"Back": HOME} == browser.links
    assert all(
        part in browser.text for part in ("Acme & Sons", "past_due", invoice.number, "2026-04-01", "$5.00", "open")
    )
    assert "Acme &amp; Sons" in browser.html
    assert ["Cancel subscription", "Save card", f"Pay {invoice.number}"] == browser.buttons()


def test_a_subscription_is_canceled_at_the_end_of_its_period(shop, browser):
    """And kept, if the customer thinks better of it."""
    customer = subscribed(shop)
    visit(shop, browser, customer).press("Cancel subscription")
    canceled = of(shop, customer)
    browser.press("Don't cancel")
    kept = of(shop, customer)
    browser.press("Cancel subscription")
    shop.sandbox.advance(to=APRIL + HOUR)

    assert ("active", True, APRIL) == (canceled.status, canceled.cancel_at_period_end, canceled.cancel_at)
    assert ("active", False, None) == (kept.status, kept.cancel_at_period_end, kept.cancel_at)
    assert "canceled" == of(shop, customer).status


def test_a_card_is_replaced(shop, browser):
    """For the subscriptions that have one of their own, too."""
    customer = shop.customer(payment_method="pm_card_chargeCustomerFail", name="Acme")
    (old,) = shop.v1.customers.payment_methods.list(customer.id).data
    shop.subscribe(customer, shop.price(shop.meter(), unit_amount=100), default_payment_method=old.id)
    visit(shop, browser, customer).press("Save card", card_number=VISA)
    new, _ = shop.v1.customers.payment_methods.list(customer.id).data

    assert new.id == of(shop, customer).default_payment_method
    assert new.id == shop.v1.customers.retrieve(customer.id).invoice_settings.default_payment_method


def test_a_configuration_says_what_is_possible(shop, browser):
    """The page has nothing else, and a request for something else is refused."""
    customer = overdue(shop)
    configuration = shop.v1.billing_portal.configurations.create(
        {
            "features": {"subscription_cancel": {"enabled": True, "mode": "immediately"}},
            "default_return_url": "https://shop.example/default",
            "name": "Little",
        }
    )
    visit(shop, browser, customer, configuration=configuration.id)
    buttons, text = browser.buttons(), browser.text
    status = browser.http.post(browser.location, data={"do": "card", "card_number": VISA}).status_code
    browser.press("Cancel subscription")

    assert (["Cancel subscription"], False, 400) == (buttons, "$5.00" in text, status)
    assert "canceled" == of(shop, customer).status


def test_nobody_reaches_what_is_not_theirs(shop, browser):
    """By another id in the form."""
    customer, other = overdue(shop), shop.customer(name="Other")
    (invoice,) = shop.invoices(customer)
    visit(shop, browser, other)
    answers = [
        browser.http.post(browser.location, data={"do": do, "id": identity, "card_number": VISA}).status_code
        for do, identity in (("pay", invoice.id), ("cancel", of(shop, customer).id), ("anything", ""))
    ]

    assert ([400] * 3, "open", "past_due") == (answers, shop.invoices(customer)[0].status, of(shop, customer).status)


def test_configurations(shop):
    """The default one is there from the first session on; others are created, changed and listed."""
    configurations = shop.v1.billing_portal.configurations
    features = {"invoice_history": {"enabled": True}}
    made = configurations.create({"features": features, "business_profile": {"headline": "Ours"}})
    session = shop.v1.billing_portal.sessions.create({"customer": shop.customer().id, "expand": ["configuration"]})
    changed = configurations.update(
        made.id, {"active": False, "features": {"payment_method_update": {"enabled": True}}}
    )

    assert [session.configuration.id, made.id] == [each.id for each in configurations.list().data]
    assert [session.configuration.id] == [each.id for each in configurations.list({"is_default": True}).data]
    assert (True, True, False) == (
        changed.features.invoice_history.enabled,
        changed.features.payment_method_update.enabled,
        changed.active,
    )
    assert "Ours" == configurations.retrieve(made.id).business_profile.headline
    assert "active" == refused(configurations.update, session.configuration.id, {"active": False}).param
    inactive = {"customer": session.customer, "configuration": made.id}
    assert "configuration" == refused(shop.v1.billing_portal.sessions.create, inactive).param


def test_what_is_refused(shop):
    """What the pages cannot do, and what is wrong."""
    portal = shop.v1.billing_portal

    assert (
        "features[subscription_update][enabled]"
        == refused(portal.configurations.create, {"features": {"subscription_update": {"enabled": True}}}).param
    )
    assert "customer" == refused(portal.sessions.create, {}).param
    assert "return_url" == refused(portal.sessions.create, {"customer": shop.customer().id, "return_url": "shop"}).param


def test_a_session_ends(shop, browser):
    """After five minutes if nobody opens it, and an hour after somebody did last."""
    customer = subscribed(shop)
    unused = shop.v1.billing_portal.sessions.create({"customer": customer.id})
    visit(shop, browser, customer)
    used = browser.location
    shop.sandbox.advance(seconds=300)
    first = browser.open(unused.url).status, browser.open(used).status
    shop.sandbox.advance(seconds=3600)

    assert (410, 200) == first
    assert (410, 410) == (browser.open(used).status, browser.http.post(used, data={"do": "cancel"}).status_code)


def test_a_payment_under_way_is_not_paid_again(shop, browser):
    """The page says that it is processing."""
    customer = overdue(shop)
    shop.sandbox.payments(customer.id, "process")
    shop.sandbox.advance(seconds=3 * 24 * HOUR)
    visit(shop, browser, customer)

    assert "processing" in browser.text
    assert ["Cancel subscription", "Save card"] == browser.buttons()
