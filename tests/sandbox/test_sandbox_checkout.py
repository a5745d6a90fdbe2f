"""Checkout: a browser clicks through the sandbox's page, and what Stripe makes of it is there."""

from __future__ import annotations

import pytest
import stripe
from hosted_browser import Browser
from sandbox_shop import APRIL, DAY, HOUR, refused

VISA, FAILS_LATER, DECLINED = "4242 4242 4242 4242", "4000000000000341", "4000000000000002"
SUCCESS = "https://shop.example/thanks?session={CHECKOUT_SESSION_ID}"
ZOE = {"email": "zoe@acme.example", "name": "Zoë"}


@pytest.fixture
def browser():
    with Browser() as browser:
        yield browser


def metered(shop):
    return shop.price(shop.meter(), unit_amount=100)


def item(price):
    return {"price": price.id} if price.recurring.meter else {"price": price.id, "quantity": 1}


def begin(shop, *prices, **params):
    lines = {"line_items": [item(price) for price in prices]} if prices else {}
    mode = "subscription" if prices else "setup"
    return shop.v1.checkout.sessions.create({"mode": mode, "success_url": SUCCESS, **lines, **params})


def test_a_customer_subscribes(shop, browser):
    """The browser goes back to the shop; customer, payment method and subscription exist."""
    session = begin(shop, metered(shop), client_reference_id="acme", cancel_url="https://shop.example/cart")
    browser.open(session.url).press("Subscribe", **ZOE, card_number=VISA)
    session = shop.v1.checkout.sessions.retrieve(session.id, {"expand": ["customer", "subscription"]})

    assert f"https://shop.example/thanks?session={session.id}" == browser.location
    assert ("complete", "no_payment_required", None, "acme") == (
        session.status,
        session.payment_status,
        session.url,
        session.client_reference_id,
    )
    assert ("zoe@acme.example", "Zoë") == (session.customer.email, session.customer.name)
    assert ("zoe@acme.example", "Zoë") == (session.customer_details.email, session.customer_details.name)
    assert "active" == session.subscription.status
    method = shop.v1.payment_methods.retrieve(session.subscription.default_payment_method)
    assert (session.customer.id, "4242", "Zoë") == (method.customer, method.card.last4, method.billing_details.name)


def test_the_metadata_is_where_stripe_puts_it(shop, browser):
    """On the session and on the subscription, and never on the customer."""
    session = begin(
        shop,
        metered(shop),
        metadata={"order": "7"},
        subscription_data={"metadata": {"company": "acme"}, "description": "Ours"},
    )
    browser.open(session.url).press("Subscribe", **ZOE, card_number=VISA)
    session = shop.v1.checkout.sessions.retrieve(session.id, {"expand": ["customer", "subscription"]})

    assert ({"order": "7"}, {"company": "acme"}, {}) == (
        session.metadata.to_dict(),
        session.subscription.metadata.to_dict(),
        session.customer.metadata.to_dict(),
    )
    assert "Ours" == session.subscription.description


def test_the_events(shop, browser):
    """The session's comes last."""
    session = begin(shop, shop.price(unit_amount=900), metered(shop))
    browser.open(session.url).press("Pay and subscribe", **ZOE, card_number=VISA)
    kinds = ["customer.created", "customer.subscription.created", "invoice.created", "invoice.paid"]

    assert [*kinds, "checkout.session.completed"] == shop.events(*kinds, "checkout.session.completed")
    (completed,) = shop.v1.events.list({"type": "checkout.session.completed"}).data
    assert (session.id, "paid") == (completed.data.object.id, completed.data.object.payment_status)
    assert "line_items" not in completed.data.object.to_dict()


def test_what_is_paid_at_once(shop, browser):
    """The licensed part; the page says so, and the session has the invoice."""
    session = begin(shop, shop.price(unit_amount=900), metered(shop))
    browser.open(session.url)
    text = browser.text
    browser.press("Pay and subscribe", **ZOE, card_number=VISA)
    paid = shop.v1.checkout.sessions.retrieve(session.id, {"expand": ["invoice"]})

    assert (900, 900, "usd", "unpaid") == (
        session.amount_total,
        session.amount_subtotal,
        session.currency,
        session.payment_status,
    )
    assert "$9.00" in text
    assert "by usage" in text
    assert ("paid", 900, "paid") == (paid.payment_status, paid.invoice.amount_paid, paid.invoice.status)


def test_a_card_that_fails_later(shop, browser):
    """The first invoice for usage is not paid."""
    session = begin(shop, metered(shop))
    browser.open(session.url).press("Subscribe", **ZOE, card_number=FAILS_LATER)
    customer = shop.v1.customers.retrieve(shop.v1.checkout.sessions.retrieve(session.id).customer)
    shop.send(customer, 5)
    shop.sandbox.advance(to=APRIL + HOUR)
    (invoice,) = shop.invoices(customer)

    assert ("open", 1) == (invoice.status, invoice.attempt_count)
    assert "past_due" == shop.v1.subscriptions.list({"customer": customer.id}).data[0].status


@pytest.mark.parametrize(("card", "amount"), [(DECLINED, None), (FAILS_LATER, 900), ("12", None), ("", None)], ids=str)
def test_a_card_that_is_declined(shop, browser, card, amount):
    """The page says so and stays; nothing was made."""
    session = begin(shop, shop.price(unit_amount=amount) if amount else metered(shop))
    browser.open(session.url).press(browser.buttons()[0], **ZOE, card_number=card)
    here = (browser.location, browser.status, "card" in browser.text)
    again = shop.v1.checkout.sessions.retrieve(session.id)

    assert (session.url, 400, True) == here
    assert ("open", []) == (again.status, shop.v1.customers.list().data)
    assert "complete" == (
        browser.press(browser.buttons()[0], card_number=VISA) and shop.v1.checkout.sessions.retrieve(session.id).status
    )


def test_a_price_that_is_gone_by_then(shop, browser):
    """Nothing was made."""
    price = metered(shop)
    session = begin(shop, price)
    browser.open(session.url)
    shop.v1.prices.update(price.id, {"active": False})
    browser.press("Subscribe", **ZOE, card_number=VISA)

    assert (400, True) == (browser.status, "inactive" in browser.text)
    assert ("open", []) == (shop.v1.checkout.sessions.retrieve(session.id).status, shop.v1.customers.list().data)


def test_a_known_customer_subscribes(shop, browser):
    """No other is created; the page knows the e-mail address."""
    acme = shop.customer(email="billing@acme.example", name="Acme", metadata={"company": "acme"})
    session = begin(shop, metered(shop), customer=acme.id)
    browser.open(session.url)
    fields = set(browser.forms[0].fields)
    browser.press("Subscribe", card_number=VISA)

    assert {"name", "card_number"} == fields
    assert "billing@acme.example" in browser.text
    assert [acme.id] == [each.id for each in shop.v1.customers.list().data]
    assert acme.id == shop.v1.checkout.sessions.retrieve(session.id).customer


@pytest.mark.parametrize(
    ("outcome", "status", "event"), [("succeed", "paid", "succeeded"), ("fail", "unpaid", "failed")]
)
def test_a_payment_that_takes_days(shop, browser, outcome, status, event):
    """The session is complete and unpaid until the payment has ended."""
    acme = shop.customer(email="billing@acme.example")
    shop.sandbox.payments(acme.id, "process")
    session = begin(shop, shop.price(unit_amount=900), customer=acme.id)
    browser.open(session.url).press("Pay and subscribe", card_number=VISA)
    before = shop.v1.checkout.sessions.retrieve(session.id)
    for _ in range(2):
        shop.sandbox.payments(acme.id, outcome)

    assert ("complete", "unpaid") == (before.status, before.payment_status)
    assert status == shop.v1.checkout.sessions.retrieve(session.id).payment_status
    assert [f"checkout.session.async_payment_{event}"] == shop.events(
        "checkout.session.async_payment_succeeded", "checkout.session.async_payment_failed"
    )


def test_the_email_of_the_shop_is_taken(shop, browser):
    """The customer is not asked for it."""
    session = begin(shop, metered(shop), customer_email="known@acme.example")
    browser.open(session.url).press("Subscribe", card_number=VISA)

    assert ["known@acme.example"] == [each.email for each in shop.v1.customers.list().data]
    assert "customer_email" in str(
        refused(begin, shop, metered_again(shop), customer_email="a@b.example", customer=shop.customer().id)
    )


def metered_again(shop):
    return shop.v1.prices.list().data[0]


def test_a_card_is_saved(shop, browser):
    """Without a subscription; a known customer has it then."""
    acme = shop.customer(email="billing@acme.example")
    session = begin(shop, currency="usd", customer=acme.id, setup_intent_data={"metadata": {"a": "1"}})
    browser.open(session.url).press("Save card", card_number=VISA)
    session = shop.v1.checkout.sessions.retrieve(session.id, {"expand": ["setup_intent"]})

    assert ("complete", "no_payment_required", "succeeded") == (
        session.status,
        session.payment_status,
        session.setup_intent.status,
    )
    assert {"a": "1"} == session.setup_intent.metadata.to_dict()
    assert [session.setup_intent.payment_method] == [
        each.id for each in shop.v1.customers.payment_methods.list(acme.id).data
    ]
    assert [session.setup_intent.id] == [each.id for each in shop.v1.setup_intents.list({"customer": acme.id}).data]


@pytest.mark.parametrize(("creation", "number"), [("always", 1), ("if_required", 0)])
def test_a_card_is_saved_of_somebody_unknown(shop, browser, creation, number):
    """Who becomes a customer if the shop wants that."""
    session = begin(shop, currency="usd", customer_creation=creation)
    browser.open(session.url).press("Save card", **ZOE, card_number=VISA)
    session = shop.v1.checkout.sessions.retrieve(session.id)

    assert ("complete", number) == (session.status, len(shop.v1.customers.list().data))
    assert "zoe@acme.example" == session.customer_details.email


def test_the_way_back(shop, browser):
    """A link, if the shop has said where to."""
    price = metered(shop)
    with_link = begin(shop, price, cancel_url="https://shop.example/cart?a=1&b=2")
    without = begin(shop, price)

    assert {"Back": "https://shop.example/cart?a=1&b=2"} == browser.open(with_link.url).links
    assert {} == browser.open(without.url).links


def test_what_is_typed_is_escaped(shop, browser):
    """And what the shop calls its products."""
    product = shop.product(name="<b>Scores</b>")
    session = begin(shop, shop.price(product=product.id, unit_amount=900))
    browser.open(session.url).press("Pay and subscribe", email='"><script>', name="<i>", card_number=VISA)

    assert 400 == browser.status
    assert not any(tag in browser.html for tag in ("<b>", "<script>", "<i>"))
    assert ('"><script>', "<i>") == (browser.forms[0].fields["email"], browser.forms[0].fields["name"])


def test_a_session_is_completed_once(shop, browser):
    """The page says that it is over."""
    session = begin(shop, metered(shop))
    browser.open(session.url).press("Subscribe", **ZOE, card_number=VISA)
    browser.http.post(session.url, data={**ZOE, "card_number": VISA})
    browser.open(session.url)

    assert (1, []) == (len(shop.v1.subscriptions.list().data), browser.forms)
    assert "all done" in browser.text


def test_a_session_expires(shop, browser):
    """After a day, or when the shop says so."""
    price = metered(shop)
    first = begin(shop, price)
    soon = begin(shop, price, expires_at=shop.sandbox.now + 1800)
    ended = shop.v1.checkout.sessions.expire(begin(shop, price).id)
    shop.sandbox.advance(seconds=1800)
    after = [shop.v1.checkout.sessions.retrieve(each.id).status for each in (first, soon, ended)]
    shop.sandbox.advance(seconds=DAY)

    assert ["open", "expired", "expired"] == after
    assert ("expired", None) == (shop.v1.checkout.sessions.retrieve(first.id).status, ended.url)
    assert ["checkout.session.expired"] * 3 == shop.events("checkout.session.expired")
    assert (410, []) == (browser.open(first.url).status, browser.forms)
    assert "status of expired" in str(refused(shop.v1.checkout.sessions.expire, first.id))


def test_sessions_are_listed(shop, browser):
    """By customer, by status, by e-mail address."""
    price = metered(shop)
    done, waiting = begin(shop, price), begin(shop, price)
    browser.open(done.url).press("Subscribe", **ZOE, card_number=VISA)
    done = shop.v1.checkout.sessions.retrieve(done.id)

    def found(**params):
        return [each.id for each in shop.v1.checkout.sessions.list(params).data]

    assert [waiting.id, done.id] == found()
    assert [waiting.id] == found(status="open")
    assert [done.id] == found(customer=done.customer)
    assert [done.id] == found(subscription=done.subscription)
    assert [done.id] == found(customer_details={"email": "zoe@acme.example"})


def test_the_items_of_a_session(shop):
    """By themselves, or on request with the session."""
    licensed = shop.price(unit_amount=900)
    session = begin(shop, licensed, metered(shop), expand=["line_items"])
    items = shop.v1.checkout.sessions.line_items.list(session.id).data

    assert [("Credit Score", 1, 900), ("Credit Score", None, 0)] == [
        (each.description, each.quantity, each.amount_total) for each in items
    ]
    assert [each.id for each in session.line_items.data] == [each.id for each in items]
    assert "line_items" not in shop.v1.checkout.sessions.retrieve(session.id).to_dict()


def test_a_price_that_is_made_for_the_session(shop, browser):
    """By its data."""
    data = {
        "currency": "usd",
        "product_data": {"name": "Base fee"},
        "recurring": {"interval": "month"},
        "unit_amount": 500,
    }
    session = begin(shop, line_items=[{"price_data": data, "quantity": 2}], mode="subscription")
    browser.open(session.url).press("Pay and subscribe", **ZOE, card_number=VISA)

    assert (1000, "Base fee") == (session.amount_total, shop.v1.products.list().data[0].name)
    assert 2 == shop.v1.subscriptions.list().data[0].items.data[0].quantity


def test_a_trial(shop, browser):
    """Nothing is to be paid at once."""
    session = begin(shop, shop.price(unit_amount=900), subscription_data={"trial_period_days": 14})
    browser.open(session.url).press("Subscribe", **ZOE, card_number=FAILS_LATER)
    session = shop.v1.checkout.sessions.retrieve(session.id, {"expand": ["subscription"]})

    assert (0, "no_payment_required") == (session.amount_total, session.payment_status)
    assert ("trialing", shop.sandbox.now + 14 * DAY) == (session.subscription.status, session.subscription.trial_end)


def promotion_code(shop, **params):
    coupon = shop.v1.coupons.create({"percent_off": 50, "duration": "forever"})
    return shop.v1.promotion_codes.create(
        {"promotion": {"type": "coupon", "coupon": coupon.id}, "code": "HALF", **params}
    )


def test_a_promotion_code(shop, browser):
    """The customer enters it, where the shop allows that."""
    code = promotion_code(shop)
    session = begin(shop, shop.price(unit_amount=900), allow_promotion_codes=True)
    browser.open(session.url).press("Pay and subscribe", **ZOE, card_number=VISA, promotion_code="half")
    session = shop.v1.checkout.sessions.retrieve(session.id, {"expand": ["invoice", "line_items"]})

    assert (900, 450, 450) == (session.amount_subtotal, session.amount_total, session.total_details.amount_discount)
    assert (450, 450) == (session.invoice.amount_paid, session.line_items.data[0].amount_discount)
    assert [code.id] == [each.promotion_code for each in session.discounts]
    assert 1 == shop.v1.promotion_codes.retrieve(code.id).times_redeemed


def test_a_promotion_code_that_does_not_exist(shop, browser):
    """Nothing is made; nor can one be entered where the shop does not allow it."""
    promotion_code(shop, active=False)
    price = shop.price(unit_amount=900)
    session = begin(shop, price, allow_promotion_codes=True)
    browser.open(session.url).press("Pay and subscribe", **ZOE, card_number=VISA, promotion_code="half")

    assert (400, True) == (browser.status, "promotion code is invalid" in browser.text)
    assert [] == shop.v1.customers.list().data
    assert "promotion_code" not in browser.open(begin(shop, price).url).forms[0].fields


def test_a_discount_of_the_shop(shop, browser):
    """By a coupon; it is off the total before the page is opened."""
    coupon = shop.v1.coupons.create({"percent_off": 50, "duration": "forever"})
    session = begin(shop, shop.price(unit_amount=900), discounts=[{"coupon": coupon.id}])
    browser.open(session.url)

    assert ((900, 450), [coupon.id]) == (
        (session.amount_subtotal, session.amount_total),
        [each.coupon for each in session.discounts],
    )
    assert "$4.50" in browser.text
    both = {"allow_promotion_codes": True, "discounts": [{"coupon": coupon.id}]}
    assert "discounts" == refused(begin, shop, shop.price(unit_amount=1), **both).param


def test_the_currency_of_the_session(shop, browser):
    """One of those of the price."""
    price = shop.price(unit_amount=900, currency_options={"eur": {"unit_amount": 800}})
    session = begin(shop, price, currency="eur")
    browser.open(session.url).press("Pay and subscribe", **ZOE, card_number=VISA)
    (invoice,) = shop.v1.invoices.list().data

    assert ("eur", 800) == (session.currency, session.amount_total)
    assert ("eur", 800) == (invoice.currency, invoice.amount_paid)


def test_metadata_can_be_changed(shop):
    """Later."""
    session = begin(shop, metered(shop), metadata={"a": "1"})
    changed = shop.v1.checkout.sessions.update(session.id, {"metadata": {"b": "2"}})

    assert {"a": "1", "b": "2"} == changed.metadata.to_dict()


def test_a_metered_item_has_no_quantity(shop):
    """Stripe's own words."""
    price = metered(shop)
    error = refused(begin, shop, line_items=[{"price": price.id, "quantity": 1}], mode="subscription")

    assert "line_items[0][quantity]" == error.param
    assert (
        "Quantity should not be specified where usage_type is `metered`. Remove quantity from `line_items[0]`"
        == error.user_message
    )


def once(shop, **about):
    """A price that is paid once."""
    return shop.v1.prices.create({"currency": "usd", "product_data": {"name": "1,000 credits"}, **about})


def sell(shop, price, quantity=1, **params):
    creation = {"enabled": True, "invoice_data": {"metadata": {"company": "acme"}}}
    lines = [{"price": price.id, "quantity": quantity}]
    return begin(shop, line_items=lines, mode="payment", invoice_creation=creation, **params)


def test_what_is_bought_once(shop, browser):
    """It has a paid invoice of its own, with the price, the metadata and the payment; and no subscription."""
    price = once(shop, unit_amount=1000)
    session = sell(shop, price, 3, metadata={"order": "7"})
    browser.open(session.url)
    text = browser.text
    browser.press("Pay", **ZOE, card_number=VISA)
    paid = shop.v1.checkout.sessions.retrieve(session.id, {"expand": ["invoice", "customer"]})
    (line,) = paid.invoice.lines.data

    assert (3000, "usd", "unpaid") == (session.amount_total, session.currency, session.payment_status)
    assert "$30.00" in text
    assert ("complete", "paid", None) == (paid.status, paid.payment_status, paid.subscription)
    assert ("paid", 3000, 3000, None) == (
        *(paid.invoice.status, paid.invoice.total, paid.invoice.amount_paid),
        paid.invoice.parent,
    )
    assert (price.id, 3, 3000) == (line.pricing.price_details.price, line.quantity, line.amount)
    assert {"company": "acme"} == paid.invoice.metadata.to_dict()
    intent = shop.v1.payment_intents.retrieve(paid.payment_intent)
    assert ("succeeded", 3000) == (intent.status, intent.amount_received)
    assert "zoe@acme.example" == paid.customer.email
    assert [] == shop.v1.subscriptions.list().data
    kinds = ["customer.created", "invoice.created", "invoice.paid", "checkout.session.completed"]
    assert kinds == shop.events(*kinds)


@pytest.mark.parametrize(("future", "saved"), [({}, 0), ({"setup_future_usage": "off_session"}, 1)])
def test_a_card_that_is_kept_after_a_payment(shop, browser, future, saved):
    """Only if the shop asks for that."""
    session = sell(shop, once(shop, unit_amount=1000), payment_intent_data=future)
    browser.open(session.url).press("Pay", **ZOE, card_number=VISA)
    customer = shop.v1.checkout.sessions.retrieve(session.id).customer

    assert saved == len(shop.v1.payment_methods.list({"customer": customer}).data)


def test_a_card_that_is_declined_buys_nothing(shop, browser):
    """The page stays."""
    session = sell(shop, once(shop, unit_amount=1000))
    browser.open(session.url).press("Pay", **ZOE, card_number=DECLINED)

    assert ("open", []) == (shop.v1.checkout.sessions.retrieve(session.id).status, shop.v1.invoices.list().data)


def test_a_recurring_price_cannot_be_paid_once(shop):
    """In Stripe's words."""
    assert "passed a recurring price" in refused(sell, shop, shop.price(unit_amount=900)).user_message


REFUSED = [
    ({"mode": "donation"}, "mode"),
    ({"mode": "payment"}, "invoice_creation[enabled]"),
    ({"mode": "payment", "subscription_data": {"description": "Ours"}}, "subscription_data"),
    ({"invoice_creation": {"enabled": True}}, "invoice_creation"),
    ({"line_items": []}, "line_items"),
    ({"success_url": "nowhere"}, "success_url"),
    ({"cancel_url": "javascript:alert(1)"}, "cancel_url"),
    ({"expires_at": 1}, "expires_at"),
    ({"customer": "cus_none"}, "customer"),
    ({"customer_creation": "always"}, "customer_creation"),
    ({"setup_intent_data": {}, "mode": "setup", "currency": "usd"}, "line_items"),
    ({"line_items": [{"price": "price_none", "quantity": 1}]}, "line_items[0][price]"),
    ({"line_items": [{"quantity": 1}]}, "line_items[0][price]"),
    ({"after_expiration": {"recovery": {"enabled": True}}}, "after_expiration"),
]


@pytest.mark.parametrize(("params", "param"), REFUSED, ids=[param for _, param in REFUSED])
def test_what_is_refused(shop, params, param):
    """With the parameter that is wrong."""
    assert param == refused(begin, shop, metered(shop), **params).param


def test_more_that_is_refused(shop):
    """Items and currencies."""
    licensed = shop.price(unit_amount=1)
    one_off = shop.v1.prices.create({"currency": "usd", "unit_amount": 1, "product": shop.product().id})
    inactive = shop.price(unit_amount=1)
    shop.v1.prices.update(inactive.id, {"active": False})

    def error(*lines):
        return refused(begin, shop, line_items=list(lines), mode="subscription")

    assert "line_items[0][quantity]" == error({"price": licensed.id}).param
    assert "recurring" in str(error({"price": one_off.id, "quantity": 1}))
    assert "inactive" in str(error({"price": inactive.id, "quantity": 1}))
    assert "currency" == refused(begin, shop).param


def test_a_page_that_does_not_exist(shop, browser):
    """Is not found."""
    assert 404 == browser.open(f"{shop.sandbox.url}/c/pay/cs_test_none").status
    with pytest.raises(stripe.InvalidRequestError, match=r"No such checkout\.session"):
        shop.v1.checkout.sessions.retrieve("cs_test_none")


def test_a_page_is_for_the_loopback_only(shop, browser):
    """Not for a host name that resolves to it."""
    session = begin(shop, metered(shop))
    response = browser.http.get(session.url, headers={"Host": "attacker.example"})

    assert 403 == response.status_code
    assert "script" not in response.headers["content-security-policy"]
    assert "default-src 'none'" in response.headers["content-security-policy"]
