"""Meters that are billed more than once: named, with the prices that do it."""

from __future__ import annotations

import pytest
from followed_account import (  # noqa: F401 - fixtures
    api,
    events,
    kit,
    make_following_kit,
    price,
    stripe,
    tell,
)


@pytest.fixture
def customer(api):
    """The customer who pays for acme."""
    return api.customers.create({"metadata": {"company": "acme"}}).id


@pytest.fixture
def subscribe(api, customer, price):
    """A function that makes a subscription of the customer to the price."""
    return lambda **options: api.subscriptions.create({"customer": customer, "items": [{"price": price}], **options})


def named(kit):
    """What `kit.health()` says of it, and the meters by company."""
    attention = [each for each in kit.health()["attention"] if "several prices" in each]
    return attention, {each.company: each.repeated for each in kit.customers() if each.repeated}


def test_two_subscriptions_on_one_meter(kit, subscribe, api, tell, events, price):
    """Until one of them has ended."""
    first, second = subscribe(), subscribe()
    tell(kit, *events())
    (said,), repeated = named(kit)
    api.subscriptions.cancel(second.id)
    tell(kit, *events())

    assert said.startswith("acme has several prices of calls, and Stripe bills each unit at each of them: ")
    assert all(f"{price} on {each.id}" in said for each in (first, second))
    assert {"acme": ("calls",)} == repeated
    assert ([], {}) == named(kit)


@pytest.mark.long
def test_what_is_not_billed_twice(make_following_kit, subscribe, api, tell, events, price):
    """By another customer, whom nobody has linked, or by a subscription whose invoices are voided."""
    subscribe()
    paused = subscribe()
    api.subscriptions.update(paused.id, {"pause_collection": {"behavior": "void"}})
    stranger = api.customers.create({}).id
    kit = make_following_kit(customer_ids=False)
    for _ in range(2):
        api.subscriptions.create({"customer": stranger, "items": [{"price": price}]})
    tell(kit, *events())

    assert ([], {}) == named(kit)


def test_metadata_that_name_different_companies(kit, api, customer, price, tell, events):
    """The customer pays for both, and it is said until the application has said so."""
    named = {"metadata": {"company": "globex"}}
    subscription = api.subscriptions.create({"customer": customer, "items": [{"price": price}], **named})
    tell(kit, *events())
    (said,) = kit.health()["attention"]
    payers = {each.company: each.customer for each in kit.customers()}
    kit.link("globex", customer)

    assert {"acme": customer, "globex": customer} == payers
    assert said.startswith(f"{customer} pays for acme by its metadata, and for globex by those of {subscription.id}: ")
    assert [] == kit.health()["attention"]
