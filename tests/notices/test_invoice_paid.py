"""`Notify.invoice_paid`: once for each invoice and company, by Stripe's webhooks."""

from __future__ import annotations

import pytest
from followed_account import api, events, make_following_kit, price, stripe, tell  # noqa: F401 - fixtures

from meterkit import Notify

DAY = 24 * 3600


class Told:
    """A channel that remembers."""

    name = "told"

    def __init__(self):
        self.notices = []

    def deliver(self, notice):
        self.notices.append(notice)


def look(kit, clock):
    """One look at what does not depend on usage, and the deliveries that follow."""
    clock.advance(61)
    kit.process().dispatcher.evaluate()
    kit.process().dispatcher.deliver("told")


@pytest.fixture
def base(api):
    """A fee of 7.00 a month."""
    fee = {"currency": "usd", "unit_amount": 700, "recurring": {"interval": "month"}}
    return api.prices.create({**fee, "product_data": {"name": "Base"}}).id


def test_an_invoice_is_paid(make_following_kit, tell, events, api, price, base, clock):
    """Of a customer that is linked, for more than nothing, and with what was paid."""
    told = Told()
    kit = make_following_kit(notify=[Notify.invoice_paid(to=told)], customer_ids=False)
    customer, other = (api.customers.create({"name": name}).id for name in ("Acme", "Nobody's"))
    kit.link("acme", customer)
    for each in (customer, other):
        api.subscriptions.create({"customer": each, "items": [{"price": base}]})
    api.subscriptions.create({"customer": customer, "items": [{"price": price}]})  # whose first invoice is of nothing
    tell(kit, *events())
    look(kit, clock)
    tell(kit, *events())  # delivered again
    look(kit, clock)
    invoice = next(each for each in api.invoices.list({"customer": customer}).data if each.total)

    (notice,) = told.notices
    assert ("invoice_paid", "acme") == (notice.kind, notice.company)
    assert f"acme has paid invoice {invoice.number}" == notice.title
    assert {
        "invoice": invoice.number,
        "amount": "7.00",
        "currency": "usd",
        "customer": customer,
        "name": "Acme",
        "url": invoice.hosted_invoice_url,
    } == notice.fields


def test_an_invoice_that_was_paid_long_ago(make_following_kit, tell, events, api, base, clock):
    """It is no news to a rule that is new."""
    told = Told()
    kit = make_following_kit()
    customer = api.customers.create({"name": "Acme", "metadata": {"company": "acme"}}).id
    api.subscriptions.create({"customer": customer, "items": [{"price": base}]})
    tell(kit, *events())
    clock.advance(DAY + 1)
    kit = make_following_kit(notify=[Notify.invoice_paid(to=told)])
    look(kit, clock)

    assert [] == told.notices
