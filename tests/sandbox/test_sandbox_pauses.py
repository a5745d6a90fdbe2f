"""Paused collection: invoices as always, but nobody pays them."""

from __future__ import annotations

import pytest
from sandbox_shop import APRIL, DAY, HOUR, START, day, refused

pytestmark = pytest.mark.long

MAY = day(5, 1)


@pytest.fixture
def customer(shop):
    return shop.customer()


@pytest.fixture
def subscription(shop, customer):
    """1.00 a call."""
    return shop.subscribe(customer, shop.price(shop.meter(), unit_amount=100))


def pause(shop, subscription, behavior, **params):
    return shop.v1.subscriptions.update(subscription.id, {"pause_collection": {"behavior": behavior, **params}})


@pytest.mark.parametrize(
    ("behavior", "status", "event"),
    [("void", "void", "invoice.voided"), ("mark_uncollectible", "uncollectible", "invoice.marked_uncollectible")],
)
def test_invoices_of_a_pause_are_closed_when_they_are_final(
    shop, sandbox, customer, subscription, behavior, status, event
):
    """The subscription stays active, and its usage is on them."""
    paused = pause(shop, subscription, behavior)
    shop.send(customer, 5)
    sandbox.advance(to=APRIL)
    draft = shop.invoices(customer)[0].status
    sandbox.advance(seconds=HOUR)

    (invoice,) = shop.invoices(customer)
    assert (paused.status, paused.pause_collection.to_dict()) == (
        "active",
        {"behavior": behavior, "resumes_at": None},
    )
    assert (draft, invoice.status, invoice.total, invoice.amount_paid) == ("draft", status, 500, 0)
    assert shop.events("invoice.paid", event) == [event]
    assert shop.v1.subscriptions.retrieve(subscription.id).status == "active"


def test_invoices_of_a_pause_stay_drafts(shop, sandbox, customer, subscription):
    """Until somebody finalises them, after the pause too."""
    pause(shop, subscription, "keep_as_draft")
    shop.send(customer, 5)
    sandbox.advance(to=APRIL)
    shop.v1.subscriptions.update(subscription.id, {"pause_collection": ""})
    sandbox.advance(to=MAY + HOUR)

    (invoice,) = shop.invoices(customer)
    assert (invoice.status, invoice.auto_advance, invoice.automatically_finalizes_at) == ("draft", False, None)
    assert shop.v1.invoices.finalize_invoice(invoice.id, {"auto_advance": True}).status == "paid"


def test_an_invoice_that_is_made_at_once_stays_a_draft_too(shop, sandbox, customer, subscription):
    """Here, because the billing date moves."""
    pause(shop, subscription, "keep_as_draft")
    shop.send(customer, 5)
    sandbox.advance(seconds=DAY)
    shop.v1.subscriptions.update(subscription.id, {"billing_cycle_anchor": {"type": "now"}})

    assert [(each.total, each.status) for each in shop.invoices(customer)] == [(500, "draft")]


def test_a_draft_goes_on_when_told(shop, sandbox, customer, subscription):
    """`auto_advance` finalises it after the grace period."""
    pause(shop, subscription, "keep_as_draft")
    shop.send(customer, 5)
    sandbox.advance(to=APRIL + DAY)
    (draft,) = shop.invoices(customer)

    changed = shop.v1.invoices.update(draft.id, {"auto_advance": True, "metadata": {"a": "b"}})
    sandbox.advance(seconds=HOUR)

    assert (changed.automatically_finalizes_at, changed.metadata.to_dict()) == (APRIL + DAY + HOUR, {"a": "b"})
    assert shop.v1.invoices.retrieve(draft.id).status == "paid"


def test_a_pause_ends_by_itself(shop, sandbox, customer, subscription):
    """The invoices that follow are paid; that of the pause stays void."""
    pause(shop, subscription, "void", resumes_at=APRIL + DAY)
    shop.send(customer, 5)
    sandbox.advance(to=APRIL + HOUR)
    shop.send(customer, 7)
    sandbox.advance(to=MAY + HOUR)

    assert [(each.total, each.status) for each in shop.invoices(customer)] == [(700, "paid"), (500, "void")]
    assert shop.v1.subscriptions.retrieve(subscription.id).pause_collection is None
    resumed = [
        each.created
        for each in shop.v1.events.list({"type": "customer.subscription.updated"}).data
        if "pause_collection" in each.data.to_dict().get("previous_attributes", {}) and each.created > START
    ]
    assert resumed == [APRIL + DAY]


def test_an_invoice_from_before_a_pause_is_collected(shop, sandbox, customer, subscription):
    """A pause is about invoices that are made in it."""
    shop.send(customer, 5)
    sandbox.advance(to=APRIL)
    pause(shop, subscription, "void")
    sandbox.advance(seconds=HOUR)

    assert [each.status for each in shop.invoices(customer)] == ["paid"]


def test_a_pause_ends_in_the_future(shop, subscription):
    """And has a behaviour that Stripe knows."""
    update = shop.v1.subscriptions.update

    assert refused(pause, shop, subscription, "void", resumes_at=START).param == "pause_collection[resumes_at]"
    assert refused(pause, shop, subscription, "forget").param == "pause_collection[behavior]"
    assert refused(update, subscription.id, {"pause_collection": {"resumes_at": APRIL}}).code == "parameter_missing"
