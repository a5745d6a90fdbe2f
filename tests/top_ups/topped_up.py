"""Companies that are topped up: the kits, what was charged to them, and their cards."""

from __future__ import annotations

import pytest
from signed import SECRET

from meterkit import Meter, Pack, Wallet, Webhook

DAY = 24 * 3600
CALLS = Meter("calls", http=False, billable=False)
SMALL = Pack("1,000 credits", amount=1_000, price="10.00")
LARGE = Pack("12,000 credits", amount=12_000, price="100.00")


@pytest.fixture
def make_selling_kit(make_kit, stripe):
    """A function that makes kits which sell packs."""

    def make(*packs, **options):
        wallet = Wallet("credits", unit="credits", spends={CALLS: 1}, packs=packs or [SMALL, LARGE])
        about = {"stripe_key": stripe.api_key, "stripe_base": stripe.url, "webhook": Webhook(None, secret=SECRET)}
        return make_kit(CALLS, wallets=[wallet], **{**about, "customer_ids": False, **options})

    return make


@pytest.fixture
def shop(api):
    """What Stripe has of the company."""
    return Shop(api)


@pytest.fixture
def kit(make_selling_kit, shop):
    """A kit whose packs are in Stripe, and whose company has a card."""
    kit = make_selling_kit()
    kit.provision()
    kit.link("acme", shop.customer)
    return kit


class Shop:
    """
    The company in Stripe.

    Attributes:
        customer: Id of its customer.
    """

    def __init__(self, api):
        self.api = api
        self.customer = api.customers.create({"name": "Acme"}).id
        self.pay_with("pm_card_visa")

    def pay_with(self, card):
        """Let it have that card as its default."""
        method = self.api.payment_methods.attach(card, {"customer": self.customer})
        self.api.customers.update(self.customer, {"invoice_settings": {"default_payment_method": method.id}})

    def invoices(self):
        """Its invoices, newest first: their status and what was paid."""
        found = self.api.invoices.list({"customer": self.customer, "limit": 100}).data
        return [(each.status, each.amount_paid) for each in found]

    def charged(self):
        """What was charged to it in all."""
        return sum(paid for _, paid in self.invoices())


def agree(kit, pack=SMALL, *, below=200, **options):
    """Let the company agree."""
    return kit.set_top_up("acme", "credits", pack, below=below, **options)


def top_up(kit):
    """Do once what the process that flushes does every few seconds; return what it finds to be trouble."""
    return kit.process().stripe_jobs.top_up()


def left(kit):
    """What the company has left."""
    return int(kit.balance("acme", "credits").left)


def use(kit, quantity):
    """Let the company use so much."""
    kit.record("calls", "acme", quantity)
    kit.flush()
