"""What was between two looks at a subscription: only its events know, and what was used then is billed at its price."""

from __future__ import annotations

from decimal import Decimal

import pytest
from followed_account import (  # noqa: F401 - fixtures
    api,
    events,
    make_following_kit,
    make_shown_kit,
    shown,
    stripe,
    tell,
)
from signed import snapshot
from stripe_account import make_meter

pytestmark = pytest.mark.long

HOUR, DAY = 3600, 24 * 3600


@pytest.fixture
def prices(api, stripe):
    """Prices of the meter calls at one, two and four dollars."""
    recurring = {"interval": "month", "usage_type": "metered", "meter": make_meter(stripe, "calls").id}
    return [
        api.prices.create(
            {"currency": "usd", "unit_amount": cents, "recurring": recurring, "product_data": {"name": "Calls"}}
        ).id
        for cents in (100, 200, 400)
    ]


@pytest.fixture
def subscription(api, prices):
    """What acme has subscribed to: the first of them."""
    customer = api.customers.create({"metadata": {"company": "acme"}}).id
    return api.subscriptions.create({"customer": customer, "items": [{"price": prices[0]}]})


@pytest.fixture
def kit(make_following_kit, subscription, tell, events, clock):
    """A kit that knows of it, and starts an hour later."""
    kit = make_following_kit()
    tell(kit, *events())
    clock.advance(HOUR)
    return kit


@pytest.fixture
def change(api, subscription):
    """A function that gives the subscription's item another price."""

    def change(price, **options):
        return api.subscription_items.update(subscription["items"].data[0].id, {"price": price, **options})

    return change


def use(kit, clock, quantity):
    """Use so much, and report it within the hour."""
    kit.record("calls", "acme", quantity)
    clock.advance(60)
    kit.report(include_open=True)


def shown_and_billed(kit, api, subscription):
    """The total of the next invoice, by the kit and by Stripe."""
    (preview,) = kit.preview("acme")
    return preview.total, Decimal(api.invoices.create_preview({"subscription": subscription.id}).total).scaleb(-2)


@pytest.fixture
def change_twice(change, prices, kit, clock, events):
    """A function that changes the price twice with usage before, between and after; answers the events of that."""

    def change_twice():
        before = {each["id"] for each in events()}
        use(kit, clock, 1)
        for price, quantity in ((prices[1], 10), (prices[2], 100)):
            clock.advance(60)
            change(price)
            clock.advance(60)
            use(kit, clock, quantity)
        return [each for each in events() if each["id"] not in before and "subscription" in each["type"]]

    return change_twice


def test_a_price_between_two_changes(kit, api, subscription, change_twice, tell):
    """Both are followed together."""
    tell(kit, *change_twice())

    assert (Decimal(421), Decimal(421)) == shown_and_billed(kit, api, subscription)


@pytest.mark.long
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_events_that_come_late_and_in_any_order(kit, api, subscription, change_twice, tell, clock, order):
    """Each is followed by itself, when both changes were made."""
    changes = change_twice()
    for each in order:
        tell(kit, changes[each])
        clock.advance(200)

    assert (Decimal(421), Decimal(421)) == shown_and_billed(kit, api, subscription)


def test_a_price_from_before_the_first_look(make_following_kit, api, subscription, change, prices, tell, events, clock):
    """The subscription was changed before its creation was followed."""
    kit = make_following_kit()
    customers = [each for each in events() if each["type"] == "customer.created"]
    tell(kit, *customers)
    clock.advance(HOUR)
    use(kit, clock, 1)
    change(prices[1])
    clock.advance(60)
    use(kit, clock, 10)
    tell(kit, *events())

    assert (Decimal(21), Decimal(21)) == shown_and_billed(kit, api, subscription)


@pytest.mark.long
def test_an_event_that_is_missing(kit, api, subscription, change_twice, tell):
    """The next says what was before it, and the preview says that no webhook told since when."""
    *_, last = change_twice()
    tell(kit, last)
    (preview,) = kit.preview("acme")

    assert any("no webhook told when it was" in each for each in preview.assumed)


OLD = {"data": [{"id": "si_1", "plan": {"id": "plan_1"}, "quantity": 1, "created": 5}]}


@pytest.mark.parametrize(
    "about",
    [
        {},
        {"items": None},
        {"items": {"data": [{}]}},
        {"items": {"data": [{"id": "si_1", "price": {"id": "\0"}, "created": 1}]}},
        {"items": OLD, "status": "active"},
        {"items": OLD, "status": "active", "current_period_start": -1, "current_period_end": 1 << 70},
        {"items": {**OLD, "has_more": True}, "status": "active"},
    ],
)
def test_an_event_that_does_not_say_all(kit, api, subscription, tell, about, prices, change, clock):
    """Its subscription is read all the same."""
    change(prices[1])
    told = snapshot(
        "customer.subscription.updated", {"object": "subscription", "id": subscription.id, **about}, created=clock.now
    )
    tell(kit, {**told, "created": int(clock.now)})
    use(kit, clock, 10)

    assert Decimal(20) == kit.preview("acme")[0].total
    assert [] == [each for each in kit.webhook_events() if each.state == "received"]


def test_a_change_without_prorations(kit, api, subscription, change, prices, tell, events, clock):
    """What was used before is on no invoice: the preview leaves it out, the cap does, and it is named."""
    use(kit, clock, 30)
    clock.advance(60)
    change(prices[1], proration_behavior="none")
    tell(kit, *events())
    clock.advance(60)
    use(kit, clock, 10)
    (preview,) = kit.preview("acme")
    (account,) = kit.customers()

    assert (Decimal(20), Decimal(20)) == shown_and_billed(kit, api, subscription)
    assert any("as if it was changed with proration_behavior=none" in each for each in preview.assumed)
    assert {"calls": 30} == account.unbilled
    assert any(each.startswith("30 calls of acme") for each in kit.health()["attention"])


@pytest.mark.parametrize("behavior", ["create_prorations", "always_invoice"])
def test_a_change_with_prorations(kit, api, subscription, change, prices, tell, events, clock, behavior):
    """Nothing has to be assumed of what was used before, and nothing is named."""
    use(kit, clock, 30)
    clock.advance(60)
    change(prices[1], proration_behavior=behavior)
    tell(kit, *events())
    clock.advance(60)
    use(kit, clock, 10)
    (preview,) = kit.preview("acme")

    assert preview.total == shown_and_billed(kit, api, subscription)[1]
    assert [] == [each for each in preview.assumed if "proration_behavior" in each]
    assert (True, {}) == (kit.health()["ok"], kit.customers()[0].unbilled)


@pytest.mark.long
def test_an_invoice_item_that_stripe_makes_later(
    make_shown_kit, api, subscription, change, prices, tell, events, clock, shown
):
    """It is looked for again with the next change."""
    kit = make_shown_kit()
    tell(kit, *events())
    clock.advance(HOUR)
    use(kit, clock, 30)
    shown.answer("GET", "/v1/invoiceitems", 200, {"object": "list", "data": [], "has_more": False, "url": "/v1/x"})
    change(prices[1])
    tell(kit, *events())
    before = kit.customers()[0].unbilled
    shown.clear()
    api.subscriptions.update(subscription.id, {"metadata": {"seen": "again"}})
    tell(kit, *events())

    assert ({"calls": 30}, {}) == (before, kit.customers()[0].unbilled)


@pytest.mark.long
def test_a_key_that_may_not_read_invoice_items(
    make_shown_kit, api, subscription, change, prices, tell, events, clock, shown
):
    """Then it is assumed that the change was made with prorations."""
    refusal = {"type": "invalid_request_error", "message": "The provided key does not have the required permissions"}
    shown.answer("GET", "/v1/invoiceitems", 403, {"error": refusal})
    kit = make_shown_kit()
    tell(kit, *events())
    clock.advance(HOUR)
    use(kit, clock, 30)
    change(prices[1])
    clock.advance(60)
    tell(kit, *events())
    (preview,) = kit.preview("acme")

    assert Decimal(30) == preview.total
    assert any("was not made with proration_behavior=none" in each for each in preview.assumed)
