"""A Checkout session that names the company links it to the customer that Checkout has made."""

from __future__ import annotations

import pytest
from followed_account import (  # noqa: F401 - fixtures
    api,
    events,
    make_following_kit,
    make_shown_kit,
    price,
    shown,
    stripe,
    tell,
)
from hosted_browser import Browser
from signed import snapshot

pytestmark = pytest.mark.long


@pytest.fixture
def kit(make_shown_kit):
    """A kit that sees Checkout sessions."""
    return make_shown_kit()


@pytest.fixture
def customer(api):
    """A customer as Checkout makes it, without metadata."""
    return api.customers.create({"name": "Acme"}).id


@pytest.fixture
def complete(kit, shown, tell, customer):
    """A function that tells the kit of a completed session."""

    def complete(identity="cs_1", **about):
        session = {
            "id": identity,
            "object": "checkout.session",
            "status": "complete",
            "customer": customer,
            "client_reference_id": None,
            "metadata": {},
            "payment_link": None,
            **about,
        }
        shown.answer("GET", f"/v1/checkout/sessions/{identity}", 200, session)
        event = snapshot("checkout.session.completed", {"object": "checkout.session", "id": identity})
        return tell(kit, {**event, "id": f"evt_{identity}"})

    return complete


def links(kit):
    return {account.company: (account.customer, account.source) for account in kit.customers()}


@pytest.mark.parametrize("named", [{"client_reference_id": "acme"}, {"metadata": {"company": "acme"}}])
def test_a_session_that_names_the_company(kit, complete, customer, clock, stripe, named):
    """What it has used waits no longer."""
    kit.record("calls", "acme", 3)
    clock.advance(3600)
    found = complete(**named)

    assert ("", []) == (found.error, found.ambiguous)
    assert {"acme": (customer, "checkout")} == links(kit)


def test_metadata_outweigh_the_reference(kit, complete, customer):
    complete(client_reference_id="cart-7", metadata={"company": "acme"})

    assert ["acme"] == list(links(kit))


@pytest.mark.parametrize(
    "about",
    [
        {"client_reference_id": "acme", "status": "open"},
        {"client_reference_id": "acme", "customer": None},
        {"client_reference_id": "acme", "payment_link": "plink_1"},  # whoever opens the link can choose it
        {"client_reference_id": "cus_other"},
        {"client_reference_id": " "},
        {},
    ],
)
def test_sessions_that_link_nobody(kit, complete, about):
    found = complete(**about)

    assert ("", {}) == (found.error, links(kit))
    assert ["applied"] == [event.state for event in kit.webhook_events()]


def test_a_second_session_of_a_company(kit, complete, api, customer):
    """The customer of the first goes on to pay, and that is named; a link decides."""
    complete(client_reference_id="acme")
    other = api.customers.create({}).id
    found = complete("cs_2", client_reference_id="acme", customer=other)
    before = links(kit)
    kit.link("acme", other)
    again = complete("cs_3", client_reference_id="acme")

    assert (["acme"], {"acme": (customer, "checkout")}) == (found.ambiguous, before)
    assert ([], {"acme": (other, "link")}) == (again.ambiguous, links(kit))


def test_metadata_of_a_customer_outweigh_a_session(kit, complete, api, tell, events):
    complete(client_reference_id="acme")
    other = api.customers.create({"metadata": {"company": "acme"}}).id
    tell(kit, events()[-1])

    assert {"acme": (other, "metadata")} == links(kit)


def test_a_session_that_stripe_no_longer_has(kit, shown, tell):
    refusal = {"error": {"type": "invalid_request_error", "code": "resource_missing", "message": "No such session"}}
    shown.answer("GET", "/v1/checkout/sessions/cs_gone", 404, refusal)
    tell(kit, snapshot("checkout.session.completed", {"object": "checkout.session", "id": "cs_gone"}))

    assert {} == links(kit)


def test_checkout_from_the_page_to_the_invoice(make_following_kit, api, price, clock, tell, events, stripe):
    """What was used before it is billed from then on, and acme is nobody's to link."""
    kit = make_following_kit()
    session = api.checkout.sessions.create(
        {
            "mode": "subscription",
            "success_url": "https://shop.example/thanks",
            "line_items": [{"price": price}],
            "client_reference_id": "acme",
        }
    )
    with Browser() as browser:
        browser.open(session.url).press("Subscribe", email="zoe@acme.example", card_number="4242 4242 4242 4242")
    tell(kit, *events())
    kit.record("calls", "acme", 3)
    clock.advance(3600)
    kit.report()
    (account,) = kit.customers()

    assert ("acme", "checkout", {}, {}) == (account.company, account.source, account.waiting, account.unbilled)
    assert 3 == stripe.usage("calls", account.customer)
    assert kit.health()["ok"]


@pytest.mark.parametrize("via", ["sync", "webhook"])
def test_metadata_of_a_subscription_that_has_ended(make_following_kit, api, price, tell, events, via):
    """They name who paid then. Whoever subscribes for the company now is not outranked."""
    kit = make_following_kit()
    former, now = [api.customers.create({}).id for _ in range(2)]
    about = {"items": [{"price": price}], "metadata": {"company": "acme"}}
    ended = api.subscriptions.create({**about, "customer": former})
    api.subscriptions.cancel(ended.id)
    found = tell(kit, *events()) if via == "webhook" else kit.sync()
    before = links(kit)
    api.subscriptions.create({**about, "customer": now})
    again = tell(kit, *events()) if via == "webhook" else kit.sync()

    assert ({}, [], []) == (before, found.ambiguous, again.ambiguous)
    assert {"acme": (now, "metadata")} == links(kit)


@pytest.mark.parametrize("named", ["session", "subscription", "customer"])
@pytest.mark.parametrize("was", ["ended", "running", "linked"])
def test_a_company_that_comes_back_as_another_customer(kit, api, price, complete, tell, events, named, was):
    """As a shop's own Checkout makes one each time: it pays, once the former one's subscription has ended."""
    former = api.customers.create({}).id
    before = api.subscriptions.create({"customer": former, "items": [{"price": price}]}).id
    tell(kit, *events())
    complete("cs_1", client_reference_id="acme", customer=former)
    if was == "linked":
        kit.link("acme", former)
    if was != "running":
        api.subscriptions.cancel(before)
    about = {"metadata": {"company": "acme"}}
    now = api.customers.create(about if named == "customer" and was != "running" else {}).id
    subscription = {"customer": now, "items": [{"price": price}]}
    api.subscriptions.create({**subscription, **(about if named == "subscription" and was != "running" else {})})
    tell(kit, *events())
    if named == "session" or was == "running":
        complete("cs_2", client_reference_id="acme", customer=now)

    assert (now if was == "ended" else former) == links(kit)["acme"][0]
