"""Webhooks that are really delivered, to an app that is really served: the ledger follows what happens in Stripe."""

from __future__ import annotations

import random
import threading

import flask
import pytest
from signed import SECRET
from werkzeug.serving import make_server

import meterkit.flask
from meterkit import Webhook

pytestmark = pytest.mark.long

DAY = 24 * 3600


@pytest.fixture
def kit(make_following_kit):
    """A kit whose middleware takes the webhooks."""
    return make_following_kit(webhook=Webhook("/stripe/webhook", secret=SECRET), flush_interval=0.05)


@pytest.fixture
def endpoint(kit, stripe):
    """A Flask app behind a real server, and the sandbox that delivers to it."""
    app = flask.Flask("shop")
    meterkit.flask.init_app(app, kit)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield stripe.webhooks.send_to(f"http://127.0.0.1:{server.port}/stripe/webhook", secret=SECRET)
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def acme(api, price, endpoint):
    """A customer who pays for acme, with a subscription."""
    customer = api.customers.create({"metadata": {"company": "acme"}}).id
    api.subscriptions.create({"customer": customer, "items": [{"price": price}]})
    return customer


def use(api, customer, quantity):
    payload = {"stripe_customer_id": customer, "value": str(quantity)}
    api.billing.meter_events.create({"event_name": "calls", "payload": payload})


def standing(kit, stripe, **how):
    """How acme stands, when all that is due has been delivered and looked at."""
    stripe.webhooks.deliver(**how)
    kit.process().stripe_jobs.follow()
    (account,) = kit.customers()
    return account.standing, account.overdue, [status for _, status, _ in account.subscriptions]


def test_a_payment_that_fails_and_is_made_good(kit, stripe, api, acme):
    """Overdue while the invoice is open; settled when it is paid, also by what came another way."""
    use(api, acme, 5)
    stripe.payments(acme, "fail")
    new = standing(kit, stripe)
    stripe.advance(seconds=32 * DAY)
    overdue = standing(kit, stripe)
    (invoice,) = api.invoices.list().data
    api.invoices.pay(invoice.id, {"paid_out_of_band": True})
    settled = standing(kit, stripe)

    assert ("good", {}, ["active"]) == new
    assert ("overdue", {"usd": 2500}, ["past_due"]) == overdue
    assert ("good", {}, ["active"]) == settled
    assert {200} == {delivery.status for delivery in stripe.webhooks.delivered}


def test_an_invoice_that_was_sent(kit, stripe, api, price, endpoint, clock):
    """It is overdue when its date has passed, and not before."""
    customer = api.customers.create({"metadata": {"company": "acme"}}).id
    sent = {"collection_method": "send_invoice", "days_until_due": 14}
    api.subscriptions.create({"customer": customer, "items": [{"price": price}], **sent})
    use(api, customer, 5)
    clock.advance(32 * DAY)
    stripe.advance(seconds=0)
    open_ = standing(kit, stripe)
    clock.advance(20 * DAY)
    stripe.advance(seconds=0)

    assert ("good", {}, ["active"]) == open_
    assert ("overdue", {"usd": 2500}, ["past_due"]) == standing(kit, stripe)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_in_any_order_and_twice(kit, stripe, api, acme, seed):
    """The end is the same."""
    use(api, acme, 5)
    stripe.payments(acme, "fail")
    shuffle = random.Random(seed).shuffle
    standing(kit, stripe, times=2, order=shuffle)
    stripe.advance(seconds=60 * DAY)

    assert ("overdue", {"usd": 2500}, []) == standing(kit, stripe, times=2, order=shuffle)
    ids = [event.id for event in kit.webhook_events(limit=1000)]
    assert len(ids) == len(set(ids)) == len({delivery.event for delivery in stripe.webhooks.delivered})


def test_what_is_not_stripes_is_answered_with_400(kit, stripe, api, acme, endpoint):
    """A wrong secret, and a replay of long ago; a replay of now is taken, and changes nothing."""
    (delivery, *_) = stripe.webhooks.deliver()
    before = len(kit.webhook_events())

    assert [400, 400, 200] == [
        stripe.webhooks.replay(endpoint, delivery.event, secret="whsec_wrong"),
        stripe.webhooks.replay(endpoint, delivery.event, at=stripe.now - 301),
        stripe.webhooks.replay(endpoint, delivery.event),
    ]
    assert before == len(kit.webhook_events())
