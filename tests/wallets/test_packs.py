"""What is paid in Stripe becomes a grant, once: in Checkout, by a subscription, on an invoice."""

from __future__ import annotations

import pytest
from followed_account import api, events, stripe, tell  # noqa: F401 - fixtures
from hosted_browser import Browser
from signed import SECRET
from wallet_kits import CALLS, figures

from meterkit import ConfigurationError, Pack, UsageError, Wallet, Webhook

VISA = "4242424242424242"
SMALL = Pack("1,000 credits", amount=1_000, price="10.00")
LARGE = Pack("12,000 credits", amount=12_000, price="100.00", expires_days=365)


@pytest.fixture
def make_selling_kit(make_kit, stripe):
    """A function that makes kits which sell packs."""

    def make(*packs, **options):
        wallet = Wallet("credits", unit="credits", spends={CALLS: 1}, packs=packs or [SMALL, LARGE])
        about = {"stripe_key": stripe.api_key, "stripe_base": stripe.url, "customer_ids": False, **options}
        return make_kit(CALLS, wallets=[wallet], **about)

    return make


@pytest.fixture
def kit(make_selling_kit):
    """A kit whose packs are in Stripe."""
    kit = make_selling_kit()
    kit.provision()
    return kit


def buy(kit, pack=SMALL, company="acme", **about):
    """Pay for a pack in Checkout."""
    with Browser() as browser:
        browser.open(kit.checkout_url(company, pack=pack, success_url="https://shop.example/paid", **about))
        fields = {"card_number": VISA, "email": "ann@acme.example"}
        (form,) = browser.forms
        browser.press("Pay", **{name: value for name, value in fields.items() if name in form.fields})
        assert "https://shop.example/paid" == browser.location


def test_what_is_bought_in_checkout(kit, clock):
    """As many as were paid; with its expiry, counted from the payment."""
    buy(kit, SMALL, quantity=3)
    buy(kit, LARGE.name)
    kit.sync()
    grants = kit.balance("acme", "credits").grants

    assert {"granted": "15000", "left": "15000"} == figures(kit)
    assert {None, int(clock()) + 365 * 24 * 3600} == {each.expires_at for each in grants}
    assert {"stripe"} == {each.source for each in grants}


def test_however_often_it_is_told(kit, make_selling_kit):
    """By whichever process."""
    buy(kit)
    for each in (kit, kit, make_selling_kit()):
        each.sync()

    assert {"granted": "1000", "left": "1000"} == figures(kit)
    buy(kit)
    kit.sync()
    assert {"granted": "2000", "left": "2000"} == figures(kit)


def test_webhooks_that_arrive_twice_and_backwards(make_selling_kit, tell, events):
    """Each payment is granted once."""
    kit = make_selling_kit(webhook=Webhook(None, secret=SECRET))
    kit.provision()
    buy(kit)
    buy(kit, LARGE)
    told = events()
    for _ in range(2):
        tell(kit, *reversed(told))
        tell(kit, *told)

    assert {"granted": "13000", "left": "13000"} == figures(kit)


def test_a_page_that_is_open(kit):
    """Two clicks lead to one page, and to one payment."""
    first, second = (kit.checkout_url("acme", pack=SMALL, success_url="https://shop.example/paid") for _ in range(2))

    assert first == second
    assert first != kit.checkout_url("acme", pack=LARGE, success_url="https://shop.example/paid")


def test_the_price_keeps_its_promise(kit, make_selling_kit):
    """What was paid is what the page offered, although the code offers something else by then."""
    buy(kit)
    changed = make_selling_kit(Pack("1,000 credits", amount=900, price="10.00"))
    changed.sync()

    assert {"granted": "1000", "left": "1000"} == figures(changed)


def test_provisioning_again_changes_nothing(kit, make_selling_kit, api):
    """And a pack that costs something else stands beside the former one."""
    again = kit.provision(dry_run=True)
    changed = make_selling_kit(Pack("1,000 credits", amount=1_000, price="11.00"))
    changed.provision()

    assert [] == again.changes
    assert [1000, 1100, 10000] == sorted(each.unit_amount for each in api.prices.list().data)
    assert {"1,000 credits", "12,000 credits"} == {each.name for each in api.products.list().data}


def test_a_price_of_a_subscription(make_selling_kit, api, stripe):
    """By its lookup key: each renewal that is paid grants; for whom its metadata name."""
    kit = make_selling_kit(Pack("monthly", amount=500, price="5.00", lookup_key="monthly-credits"))
    price = api.prices.create(
        {
            "currency": "usd",
            "product_data": {"name": "Credits"},
            "recurring": {"interval": "month"},
            "unit_amount": 500,
            "lookup_key": "monthly-credits",
        }
    )
    customer = api.customers.create({"name": "Acme"}).id
    api.subscriptions.create(
        {"customer": customer, "items": [{"price": price.id, "quantity": 2}], "metadata": {"company": "acme"}}
    )
    kit.sync()
    first = figures(kit)
    kit.clock.advance(32 * 24 * 3600)
    kit.sync()

    assert {"granted": "1000", "left": "1000"} == first
    assert {"granted": "2000", "left": "2000"} == figures(kit)


def test_whose_it_is_may_be_told_later(make_selling_kit, api):
    """It waits until the customer is linked, and is granted then, once."""
    kit = make_selling_kit(Pack("monthly", amount=500, price="5.00", lookup_key="monthly-credits"))
    price = api.prices.create(
        {
            "currency": "usd",
            "product_data": {"name": "Credits"},
            "recurring": {"interval": "month"},
            "unit_amount": 500,
            "lookup_key": "monthly-credits",
        }
    )
    customer = api.customers.create({"name": "Acme"}).id
    api.subscriptions.create({"customer": customer, "items": [{"price": price.id, "quantity": 1}]})
    waits = kit.sync()
    kit.link("acme", customer)
    found = kit.sync()
    kit.link("globex", customer)
    kit.sync()

    assert "it is not known of which company" in waits.error
    assert "" == found.error
    assert ({"granted": "500", "left": "500"}, {}) == (figures(kit), figures(kit, "globex"))


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"pack": "2,000 credits"}, "no wallet of this kit has a pack '2,000 credits'"),
        ({"pack": SMALL, "quantity": 0}, "quantity= must be an int from 1"),
        ({"pack": SMALL, "plan": "pro"}, "not both"),
    ],
)
def test_what_cannot_be_bought(kit, about, said):
    """The message says what can."""
    with pytest.raises(UsageError) as caught:
        kit.checkout_url("acme", success_url="https://shop.example/paid", **about)

    assert said in str(caught.value)
    assert "offer_wrong" == caught.value.reason


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"amount": 1.5}, "a float is not exact"),
        ({"amount": 0}, "must be more than 0"),
        ({"price": 0}, "must be more than 0"),
        ({"price": 9.99}, "a float is not exact"),
        ({"currency": "dollars"}, "three letters"),
        ({"expires_days": 0}, "expires_days= must be a positive number"),
        ({"lookup_key": ""}, "lookup_key= must be a str"),
    ],
)
def test_what_a_pack_cannot_be(about, said):
    """The message says how to write it."""
    with pytest.raises(ConfigurationError) as caught:
        Pack("credits", **{"amount": 1, "price": 1, **about})

    assert said in str(caught.value)


@pytest.mark.parametrize("packs", [[SMALL, SMALL], [SMALL, Pack("other", amount=1_000, price=10)], SMALL, ["credits"]])
def test_packs_of_a_wallet(packs):
    """Each has a name and a price of its own."""
    with pytest.raises(ConfigurationError):
        Wallet("credits", unit="credits", spends={CALLS: 1}, packs=packs)


@pytest.fixture
def following(make_selling_kit):
    """A kit that takes webhooks."""
    kit = make_selling_kit(webhook=Webhook(None, secret=SECRET))
    kit.provision()
    return kit


def payment(api):
    """The payment of the latest invoice."""
    return api.invoice_payments.list().data[0].payment.payment_intent


@pytest.mark.parametrize(
    ("amounts", "left", "uncovered"),
    [([None], 0, 200), ([250], 550, 0), ([250, 250], 300, 0), ([900], 0, 100), ([800], 0, 0)],
)
def test_a_refund(following, api, tell, events, amounts, left, uncovered):
    """Takes back its share, as far as it is left, once; the rest is named."""
    buy(following)
    tell(following, *events())
    following.record("calls", "acme", 200)
    following.flush()
    for amount in amounts:
        api.refunds.create({"payment_intent": payment(api), **({} if amount is None else {"amount": amount})})
    told = events()
    for _ in range(2):
        tell(following, *reversed(told))
    found = following.balance("acme", "credits")

    assert (left, uncovered, 200 - uncovered) == (found.left, found.uncovered, found.spent)
    assert found.left == found.granted - found.spent - found.expired - found.revoked
    assert [] == following.audit_wallets()
    assert bool(uncovered) == any("was refunded" in each for each in following.health()["attention"])


def test_a_refund_that_is_told_before_the_payment(following, api, tell, events):
    """It waits for the grant."""
    buy(following)
    api.refunds.create({"payment_intent": payment(api)})
    refund = [each for each in events() if each["type"].startswith("refund")]
    tell(following, *refund)
    before = figures(following)
    (waits,) = following.webhook_events()
    tell(following, *events())
    following._supervisor.runtime().stripe_jobs.follow()

    assert ({}, "is not granted yet") == (before, waits.reason[-18:])
    assert {"granted": "1000", "revoked": "1000"} == figures(following)


def test_a_refund_of_something_else(following, api, tell, events):
    """Concerns no wallet."""
    customer = api.customers.create({"name": "Acme", "payment_method": "pm_card_visa"}).id
    price = api.prices.create(
        {"currency": "usd", "product_data": {"name": "Seats"}, "recurring": {"interval": "month"}, "unit_amount": 500}
    )
    api.subscriptions.create({"customer": customer, "items": [{"price": price.id, "quantity": 1}]})
    api.refunds.create({"payment_intent": payment(api)})
    tell(following, *events())

    assert {"applied", "ignored"} >= {each.state for each in following.webhook_events()}


def test_what_was_paid_in_the_other_mode(following, make_selling_kit, tell, events):
    """It buys nothing in this one; a gift stays."""
    buy(following)
    following.grant("acme", "credits", 5)
    tell(following, *events())
    following.close()
    other = make_selling_kit()
    other.forget_mode()

    assert {"granted": "1005", "revoked": "1000", "left": "5"} == figures(other)
    assert [] == other.audit_wallets()
