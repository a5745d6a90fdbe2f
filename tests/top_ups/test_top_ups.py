"""A low balance buys the pack that the company has agreed to: once, and no more than it has agreed to."""

from __future__ import annotations

import time

import pytest
from topped_up import DAY, LARGE, SMALL, Shop, agree, left, top_up, use

from meterkit import Notify, UsageError


class Told:
    """A channel that keeps what it is told."""

    name = "told"

    def __init__(self):
        self.notices = []

    def deliver(self, notice):
        self.notices.append(notice)


def test_a_balance_that_falls_below(kit, shop):
    """It is charged when the balance is low, and not before; the next time when it is low again."""
    kit.grant("acme", "credits", 300)
    agree(kit)
    top_up(kit)
    before = (shop.charged(), left(kit))
    use(kit, 101)
    top_up(kit)
    top_up(kit)
    after = (shop.charged(), left(kit))
    use(kit, 1_000)
    top_up(kit)

    assert ((0, 300), (1000, 1199)) == (before, after)
    assert (2000, 1199) == (shop.charged(), left(kit))
    assert [] == kit.audit_wallets()


def test_the_flusher_does_it(make_selling_kit, shop):
    """Nobody has to call anything."""
    kit = make_selling_kit(flush_interval=0.05)
    kit.provision()
    kit.link("acme", shop.customer)
    agree(kit)
    kit.record("calls", "acme", 1)
    for _ in iter(lambda: left(kit), 1_000):
        pass

    assert 1000 == shop.charged()


def test_only_who_has_agreed(kit, shop):
    """Others use up their balance."""
    kit.grant("acme", "credits", 10)
    use(kit, 10)
    top_up(kit)

    assert [] == shop.invoices()
    assert kit.top_up("acme", "credits") is None


def test_what_the_invoice_says(kit, shop, api):
    """Who is charged, for what; and that nothing else is charged by itself."""
    api.invoice_items.create({"customer": shop.customer, "amount": 700, "currency": "usd"})
    agree(kit)
    top_up(kit)
    (invoice,) = api.invoices.list({"customer": shop.customer}).data
    (line,) = invoice.lines.data

    assert ("paid", 1000, False) == (invoice.status, invoice.amount_paid, invoice.auto_advance)
    assert "Automatic top-up: 1,000 credits" == invoice.description
    assert SMALL.name == line.description
    assert "acme" == invoice.metadata["company"]


@pytest.mark.parametrize("order", ["webhook first", "webhook later", "twice"])
def test_webhooks(kit, shop, tell, events, order):
    """The grant comes once, whoever is told of the payment first."""
    agree(kit)
    jobs = kit.process().stripe_jobs
    if order == "webhook first":
        invoices = jobs._top_up_invoices()
        invoices._read = lambda _: tell(kit, *events()) or ""
    top_up(kit)
    tell(kit, *events())
    if order == "twice":
        tell(kit, *events())
    top_up(kit)

    assert (1000, 1_000) == (shop.charged(), left(kit))


def test_most_per_month(kit, shop, clock):
    """A loop in the company's code costs no more than it has agreed to; next month it goes on."""
    agree(kit, most_per_month=2)
    for _ in range(4):
        top_up(kit)
        use(kit, left(kit))
    march = (shop.charged(), kit.top_up("acme", "credits").bought)
    clock.advance(31 * DAY)
    top_up(kit)

    assert ((2000, 2), 3000) == (march, shop.charged())


@pytest.mark.parametrize(
    ("card", "error"),
    [("pm_card_chargeCustomerFail", "declined"), ("pm_card_authenticationRequired", "requires authentication")],
)
def test_a_card_that_is_declined(kit, shop, clock, card, error):
    """Nothing is owed; it is tried again a day later, and no more after three times in a row."""
    agree(kit)
    shop.pay_with(card)
    for _ in range(5):
        top_up(kit)
        top_up(kit)
        clock.advance(DAY)
    found = kit.top_up("acme", "credits")

    assert 3 * [("void", 0)] == shop.invoices()
    assert (False, 3) == (found.enabled, found.failures)
    assert error in found.error


def test_notices(make_selling_kit, shop, clock):
    """Of each failure, once; with what follows."""
    told = Told()
    kit = make_selling_kit(notify=[Notify.top_up_failed(to=told)])
    kit.provision()
    kit.link("acme", shop.customer)
    shop.pay_with("pm_card_chargeCustomerFail")
    agree(kit)
    said = []
    for _ in range(4):
        top_up(kit)
        clock.advance(DAY - 60)
        kit.process().dispatcher.evaluate()
        kit.process().dispatcher.deliver("told")
        said.append([each.text for each in told.notices])
        told.notices.clear()
        clock.advance(60)

    assert [1, 1, 1, 0] == list(map(len, said))
    assert ["tried again a day later" in each[0] for each in said[:3]] == [True, True, False]
    assert "Your card was declined" in said[0][0]


def test_another_card(kit, shop, clock):
    """After a failure, the next attempt is charged to the card of then; agreeing again does not wait for it."""
    shop.pay_with("pm_card_chargeCustomerFail")
    agree(kit)
    top_up(kit)
    shop.pay_with("pm_card_visa")
    top_up(kit)
    waits = shop.charged()
    agree(kit)
    top_up(kit)

    assert (0, 1000) == (waits, shop.charged())
    assert (0, None) == (kit.top_up("acme", "credits").failures, kit.top_up("acme", "credits").error)


def test_a_card_that_is_no_default(kit, shop, api):
    """Checkout saves a card without making it the default."""
    api.customers.update(shop.customer, {"invoice_settings": {"default_payment_method": ""}})
    agree(kit)
    top_up(kit)
    (payment,) = api.payment_intents.list({"customer": shop.customer}).data

    assert (1000, "card") == (shop.charged(), api.payment_methods.retrieve(payment.payment_method).type)


def test_a_debit_that_takes_days(kit, shop, stripe, clock):
    """Nothing else is charged meanwhile, also if the company ends the agreement."""
    stripe.payments(shop.customer, "process")
    agree(kit)
    top_up(kit)
    clock.advance(3 * DAY)
    top_up(kit)
    kit.cancel_top_up("acme", "credits")
    clock.advance(3 * DAY)
    top_up(kit)
    meanwhile = shop.invoices()
    stripe.payments(shop.customer, "succeed")
    clock.advance(3600)
    top_up(kit)

    assert [("open", 0)] == meanwhile
    assert (1000, 1_000) == (shop.charged(), left(kit))


def test_a_debit_that_fails(kit, shop, stripe, clock):
    """It ends as a declined card does."""
    stripe.payments(shop.customer, "process")
    agree(kit)
    top_up(kit)
    stripe.payments(shop.customer, "fail")
    clock.advance(3600)
    top_up(kit)

    assert ([("void", 0)], 1) == (shop.invoices(), kit.top_up("acme", "credits").failures)


def test_what_is_refunded_is_not_bought_again(kit, shop, api, tell, events):
    """The refund lowers the balance, and ends the agreement."""
    agree(kit)
    top_up(kit)
    (payment,) = api.payment_intents.list({"customer": shop.customer}).data
    refund = api.refunds.create({"payment_intent": payment.id})
    tell(kit, *events())
    top_up(kit)
    found = kit.top_up("acme", "credits")

    assert (1000, 0) == (shop.charged(), left(kit))
    assert (False, f"{refund.id} has taken back what was paid") == (found.enabled, found.error)


def test_a_price_that_has_changed(kit, make_selling_kit, shop):
    """What was agreed to is charged: the pack as it was then."""
    agree(kit)
    changed = make_selling_kit(type(SMALL)("1,000 credits", amount=900, price="20.00"))
    changed.provision()
    top_up(changed)

    assert (1000, 1_000) == (shop.charged(), left(changed))


def test_a_price_that_stripe_does_not_have(make_selling_kit, shop):
    """The error names the cure, and nothing is left open."""
    kit = make_selling_kit()
    kit.link("acme", shop.customer)
    agree(kit)
    top_up(kit)

    assert "meterkit provision" in kit.top_up("acme", "credits").error
    assert [] == shop.invoices()


def test_a_customer_that_is_deleted(kit, shop, api):
    """It ends as a declined card does."""
    agree(kit)
    api.customers.delete(shop.customer)

    assert "" == top_up(kit)
    assert "No such customer" in kit.top_up("acme", "credits").error


def test_a_key_that_may_not(kit, shop, stripe):
    """The operator is told, and the attempt waits."""
    agree(kit)
    stripe.fail("429", path="/v1/invoices", reason="global-rate")

    assert "acme" in top_up(kit)
    assert [] == shop.invoices()


def test_one_that_is_in_trouble_keeps_others_waiting_for_a_minute(kit, shop, api, stripe, clock):
    """However long it lasts; and it is named throughout."""
    other = Shop(api)
    kit.link("globex", other.customer)
    agree(kit)
    stripe.fail("502", path="/v1/invoices", times=6)
    jobs = kit.process().stripe_jobs
    waits, named = [], []
    for _ in range(6):
        waits.append(jobs._top_up_in_background() - time.monotonic())
        named.append("top_up_failed" in kit.health()["problems"])
        clock.advance(60)
    kit.set_top_up("globex", "credits", SMALL, below=200)
    jobs._top_up_in_background()

    assert max(waits) <= 60
    assert 6 * [True] == named
    assert (1000, 1000) == (shop.charged(), other.charged())
    assert "top_up_failed" not in kit.health()["problems"]


def test_who_has_agreed_is_in_the_audit_trail(kit):
    """And who has ended it."""
    agree(kit, below="0.5", most_per_month=3, by="ann@acme.example")
    kit.cancel_top_up("acme", "credits", by="bob@acme.example")
    ended, agreed = kit.actions(limit=2)

    assert ("top_up", "acme", "ann@acme.example") == (agreed.action, agreed.subject, agreed.by)
    assert "1,000 credits when credits is below 0.5 credits, at most 3 a month" == agreed.detail
    assert ("bob@acme.example", False) == (ended.by, kit.cancel_top_up("acme", "credits"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"pack": "2 credits"}, "its packs are '1,000 credits', '12,000 credits'"),
        ({"below": 1_000}, "choose a larger pack"),
        ({"below": 0}, "more than 0"),
        ({"below": 0.5}, "not exact"),
        ({"most_per_month": 0}, "from 1 to 1,000"),
        ({"most_per_month": True}, "from 1 to 1,000"),
    ],
)
def test_terms_that_are_wrong(kit, options, said):
    """Nothing is agreed to."""
    with pytest.raises(UsageError, match=said):
        agree(kit, **options)

    assert kit.top_up("acme", "credits") is None


def test_a_company_that_nobody_pays_for(kit):
    """There is no card to charge."""
    with pytest.raises(UsageError, match="no Stripe customer pays for 'globex'"):
        kit.set_top_up("globex", "credits", LARGE, below=1)
