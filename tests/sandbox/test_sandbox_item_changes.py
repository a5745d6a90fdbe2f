"""Changes within a period: items, quantities, prices, the billing date and the end."""

from __future__ import annotations

import pytest
from sandbox_shop import APRIL, DAY, HOUR, START, day, lines, refused

pytestmark = pytest.mark.long

MIDDLE = START + 31 * DAY // 2


@pytest.fixture
def two(shop):
    """Two metered prices of one meter: 0.10 and 1.00."""
    meter, product = shop.meter(), shop.product(name="Calls", unit_label=None).id
    return shop.price(meter, product, unit_amount=10), shop.price(meter, product, unit_amount=100)


def fee(shop, amount=3100, name="Gold", **params):
    return shop.price(unit_amount=amount, product=shop.product(name=name, unit_label=None).id, **params)


def totals(shop, customer):
    """The totals of a customer's invoices, oldest first."""
    return [each.total for each in reversed(shop.invoices(customer))]


@pytest.mark.parametrize(
    ("mode", "behavior", "total"),
    [
        ("flexible", "create_prorations", 11_000),
        ("flexible", "none", 1000),
        ("classic", "create_prorations", 1000),
    ],
)
def test_a_metered_price_is_replaced(shop, sandbox, two, mode, behavior, total):
    """Flexible: 1,000 units at 0.10 as an item of the next invoice, and 10 units at 1.00; else these 10 alone."""
    customer = shop.customer()
    subscription = shop.subscribe(customer, two[0], billing_mode={"type": mode})
    shop.send(customer, 1000)
    sandbox.advance(to=MIDDLE)
    change = {"items": [{"id": subscription.items.data[0].id, "price": two[1].id}], "proration_behavior": behavior}
    (item,) = shop.v1.subscriptions.update(subscription.id, change).items.data
    shop.send(customer, 10)
    preview = shop.v1.invoices.create_preview({"customer": customer.id})
    sandbox.advance(to=APRIL + HOUR)

    assert (item.price.id, item.plan.id, item.billed_until) == (two[1].id, two[1].id, MIDDLE)
    assert (item.current_period_start, item.current_period_end) == (START, APRIL)
    assert (preview.total, totals(shop, customer)[-1]) == (total, total)


def test_the_usage_at_the_old_price_is_an_item_of_its_own(shop, sandbox, two):
    """With its price, its quantity and its time; it waits for the next invoice."""
    customer = shop.customer()
    subscription = shop.subscribe(customer, two[0])
    shop.send(customer, 1000)
    sandbox.advance(to=MIDDLE)
    item_id = subscription.items.data[0].id
    shop.v1.subscription_items.update(item_id, {"price": two[1].id})

    (item,) = shop.v1.invoice_items.list({"customer": customer.id, "pending": True}).data
    sandbox.advance(to=APRIL)
    (invoice,) = shop.invoices(customer)

    assert (item.amount, item.quantity, item.proration) == (10_000, 1000, True)
    assert (item.period.start, item.period.end) == (START, MIDDLE)
    assert item.pricing.price_details.price == two[0].id
    assert item.parent.subscription_details.to_dict() == {
        "subscription": subscription.id,
        "subscription_item": item_id,
    }
    line = invoice.lines.data[-1]
    details = line.parent.subscription_item_details
    assert (details.invoice_item, details.proration, details.subscription_item) == (item.id, True, item_id)


def test_an_added_metered_item_bills_later_usage_only(shop, sandbox, two):
    """In both billing modes."""
    for mode in ("flexible", "classic"):
        customer = shop.customer()
        subscription = shop.subscribe(customer, fee(shop), billing_mode={"type": mode})
        shop.send(customer, 5)
        sandbox.advance(seconds=DAY)
        added = shop.v1.subscription_items.create({"subscription": subscription.id, "price": two[1].id})
        shop.send(customer, 7)
        end = subscription.items.data[0].current_period_end
        sandbox.advance(to=end + HOUR)

        assert (added.quantity, added.current_period_end) == (None, end)
        assert totals(shop, customer) == [3100, 3100 + 700]


def test_a_removed_metered_item_is_billed_to_its_end(shop, sandbox, two):
    """By flexible billing; it is gone from the subscription."""
    customer = shop.customer()
    subscription = shop.subscribe(customer, fee(shop), two[1])
    metered = subscription.items.data[1].id
    shop.send(customer, 5)
    sandbox.advance(seconds=DAY)

    gone = shop.v1.subscription_items.delete(metered)
    shop.send(customer, 7)
    sandbox.advance(to=APRIL + HOUR)

    assert (gone.id, gone.deleted) == (metered, True)
    assert [item.price.unit_amount for item in shop.v1.subscriptions.retrieve(subscription.id).items.data] == [3100]
    assert totals(shop, customer) == [3100, 3100 + 500]
    assert refused(shop.v1.subscription_items.delete, subscription.items.data[0].id).param == "items"


def test_a_removed_metered_item_is_not_billed_in_classic_mode(shop, sandbox, two):
    """Nor with `proration_behavior=none`."""
    for mode, params in [("classic", {}), ("flexible", {"proration_behavior": "none"})]:
        customer = shop.customer()
        subscription = shop.subscribe(customer, fee(shop), two[1], billing_mode={"type": mode})
        shop.send(customer, 5)
        sandbox.advance(seconds=DAY)
        shop.v1.subscription_items.delete(subscription.items.data[1].id, {"clear_usage": True, **params})
        sandbox.advance(to=subscription.items.data[0].current_period_end + HOUR)

        assert totals(shop, customer) == [3100, 3100]


def test_licensed_items_are_prorated(shop, sandbox):
    """Half a month of two seats more costs as much as a month of one."""
    customer = shop.customer()
    subscription = shop.subscribe(customer, fee(shop))
    sandbox.advance(to=MIDDLE)

    shop.v1.subscription_items.update(subscription.items.data[0].id, {"quantity": 3})
    pending = shop.v1.invoice_items.list({"customer": customer.id}).data
    sandbox.advance(to=APRIL + HOUR)

    assert [(each.description, each.amount, each.period.end) for each in reversed(pending)] == [
        ("Unused time on Gold after 16 Mar 2026", -1550, APRIL),
        ("Remaining time on 3 \N{MULTIPLICATION SIGN} Gold after 16 Mar 2026", 4650, APRIL),
    ]
    assert totals(shop, customer) == [3100, 9300 + 3100]


@pytest.mark.parametrize(("behavior", "found"), [("none", [3100]), ("always_invoice", [3100, 3100])])
def test_prorations_are_left_out_or_invoiced_at_once(shop, sandbox, behavior, found):
    """`none` changes the next period alone."""
    customer = shop.customer()
    subscription = shop.subscribe(customer, fee(shop))
    sandbox.advance(to=MIDDLE)

    shop.v1.subscriptions.update(
        subscription.id,
        {"items": [{"id": subscription.items.data[0].id, "quantity": 3}], "proration_behavior": behavior},
    )

    assert totals(shop, customer) == found
    assert shop.v1.invoice_items.list({"customer": customer.id, "pending": True}).data == []
    assert [each.billing_reason for each in shop.invoices(customer)][:-1] == ["subscription_update"] * (len(found) - 1)


def test_a_proration_date_sets_the_time(shop, sandbox):
    """As a preview showed it before."""
    customer = shop.customer()
    subscription = shop.subscribe(customer, fee(shop))
    sandbox.advance(to=APRIL - 1)
    item = {"id": subscription.items.data[0].id, "quantity": 2}
    details = {"items": [item], "proration_date": MIDDLE}

    preview = shop.v1.invoices.create_preview({"subscription": subscription.id, "subscription_details": details})
    shop.v1.subscriptions.update(subscription.id, {"items": [item], "proration_date": MIDDLE})

    assert preview.total == 6200 + 1550
    assert sum(each.amount for each in shop.v1.invoice_items.list({"customer": customer.id}).data) == 1550


def test_an_item_is_swapped_for_others(shop, sandbox, two):
    """One call removes, adds and changes."""
    customer, gold, silver = shop.customer(), fee(shop), fee(shop, 310, "Silver")
    subscription = shop.subscribe(customer, gold)
    changed = shop.v1.subscriptions.update(
        subscription.id,
        {
            "items": [
                {"id": subscription.items.data[0].id, "deleted": True},
                {"price": silver.id, "quantity": 2},
                {"price": two[0].id, "metadata": {"a": "b"}},
            ]
        },
    )

    assert [(item.price.id, item.quantity) for item in changed.items.data] == [(silver.id, 2), (two[0].id, None)]
    assert (changed.items.total_count, changed.items.data[1].metadata.to_dict()) == (2, {"a": "b"})
    assert sum(each.amount for each in shop.v1.invoice_items.list({"customer": customer.id}).data) == 620 - 3100
    (event,) = shop.v1.events.list({"type": "customer.subscription.updated"}).data
    assert [item["price"]["id"] for item in event.data.previous_attributes["items"]["data"]] == [gold.id]


def test_changes_of_items_are_checked_before_any(shop, two):
    """Unknown items, a price twice, a quantity of a metered item; nothing is left half done."""
    customer = shop.customer()
    subscription = shop.subscribe(customer, two[0])
    item = subscription.items.data[0].id
    update = shop.v1.subscriptions.update

    for change, param in [
        ({"id": "si_none"}, "items[0][id]"),
        ({"price": two[0].id}, "items[1][price]"),
        ({"id": item, "quantity": 2}, "items[0][quantity]"),
        ({"id": item, "deleted": True}, "items"),
        ({"quantity": 2}, "items[0][price]"),
    ]:
        assert refused(update, subscription.id, {"items": [change]}).param == param
    assert refused(shop.v1.subscription_items.update, item, {"quantity": 2}).param == "quantity"
    again = {"subscription": subscription.id, "price": two[0].id}
    assert refused(shop.v1.subscription_items.create, again).param == "price"
    assert [each.id for each in shop.v1.subscriptions.retrieve(subscription.id).items.data] == [item]


def test_a_request_that_is_refused_changes_nothing(shop, two):
    """Not the discount that it redeems before the item that it gets wrong."""
    customer = shop.customer()
    subscription = shop.subscribe(customer, two[0])
    coupon = shop.v1.coupons.create({"percent_off": 50, "duration": "forever"})
    good, bad = {"coupon": coupon.id}, {"coupon": "none"}
    params = {"discounts": [good], "description": "x"}

    refused(shop.v1.subscriptions.update, subscription.id, {**params, "items": [{"id": "si_none"}]})
    refused(shop.v1.subscriptions.update, subscription.id, {**params, "trial_end": START})
    refused(shop.subscribe, customer, two[1], discounts=[good, bad])
    refused(
        shop.v1.subscription_items.create,
        {"subscription": subscription.id, "price": two[1].id, "discounts": [good, bad]},
    )

    after = shop.v1.subscriptions.retrieve(subscription.id)
    assert (after.discounts, after.description, len(after.items.data)) == ([], None, 1)
    assert [each.id for each in shop.v1.subscriptions.list().data] == [subscription.id]
    assert shop.v1.coupons.retrieve(coupon.id).times_redeemed == 0
    assert shop.events("customer.subscription.updated", "customer.discount.created") == []


def test_another_interval_begins_a_new_period(shop, sandbox):
    """The rest of the month is credited, the year is paid at once."""
    customer = shop.customer()
    subscription = shop.subscribe(customer, fee(shop))
    year = fee(shop, 31_000, "Year", recurring={"interval": "year"})
    sandbox.advance(to=MIDDLE)

    changed = shop.v1.subscriptions.update(
        subscription.id, {"items": [{"id": subscription.items.data[0].id, "price": year.id}]}
    )

    assert (changed.billing_cycle_anchor, changed.items.data[0].current_period_start) == (MIDDLE, MIDDLE)
    assert changed.items.data[0].current_period_end == MIDDLE + 365 * DAY
    assert totals(shop, customer) == [3100, 31_000 - 1550]
    assert [amount for _, _, amount in lines(shop.invoices(customer)[0])] == [31_000, -1550]


@pytest.mark.parametrize(("behavior", "total"), [("create_prorations", 3100 - 1550 + 500), ("none", 3100 + 500)])
def test_the_billing_date_moves_to_now(shop, sandbox, two, behavior, total):
    """Usage so far is billed at once, with the new period's fee."""
    customer = shop.customer()
    subscription = shop.subscribe(customer, fee(shop), two[1])
    shop.send(customer, 5)
    sandbox.advance(to=MIDDLE)

    moved = shop.v1.subscriptions.update(
        subscription.id, {"billing_cycle_anchor": {"type": "now"}, "proration_behavior": behavior}
    )
    shop.send(customer, 1)

    assert moved.billing_cycle_anchor == MIDDLE
    assert {(each.current_period_start, each.current_period_end) for each in moved.items.data} == {
        (MIDDLE, day(4, 16) + 12 * HOUR)
    }
    assert totals(shop, customer) == [3100, total]


@pytest.mark.parametrize(
    ("params", "billed", "pending"),
    [
        ({}, [3100], []),
        ({"prorate": True}, [3100], [-1550]),
        ({"invoice_now": True}, [3100, 500], []),
        ({"invoice_now": True, "prorate": True}, [3100, 500 - 1550], []),
    ],
)
def test_a_subscription_is_canceled_at_once(shop, sandbox, two, params, billed, pending):
    """Its usage is billed with `invoice_now` alone, the rest of its fee is credited with `prorate` alone."""
    customer = shop.customer()
    subscription = shop.subscribe(customer, fee(shop), two[1])
    shop.send(customer, 5)
    sandbox.advance(to=MIDDLE)
    shop.v1.subscriptions.cancel(subscription.id, params)
    sandbox.advance(to=day(6, 1))

    assert totals(shop, customer) == billed
    left = shop.v1.invoice_items.list({"customer": customer.id, "pending": True}).data
    assert [each.amount for each in left] == pending


def test_a_subscription_is_canceled_at_a_time(shop, sandbox, two):
    """Its usage until then is billed, the rest of its fee credited."""
    customer = shop.customer()
    subscription = shop.subscribe(customer, fee(shop), two[1])
    planned = shop.v1.subscriptions.update(subscription.id, {"cancel_at": MIDDLE})
    shop.send(customer, 5)
    sandbox.advance(to=MIDDLE)
    shop.send(customer, 7, timestamp=MIDDLE)
    sandbox.advance(to=day(6, 1))

    ended = shop.v1.subscriptions.retrieve(subscription.id)
    assert (planned.cancel_at, planned.cancel_at_period_end, planned.canceled_at) == (MIDDLE, False, START)
    assert (ended.status, ended.ended_at) == ("canceled", MIDDLE)
    assert totals(shop, customer) == [3100, 500 - 1550]
    assert refused(shop.subscribe, customer, two[0], cancel_at=START).param == "cancel_at"


def test_a_short_first_period_is_prorated(shop, sandbox):
    """Up to the billing date that was chosen."""
    customer = shop.customer()
    subscription = shop.subscribe(customer, fee(shop, 2800), billing_cycle_anchor=day(3, 15))
    sandbox.advance(to=day(3, 15) + HOUR)

    assert subscription.items.data[0].current_period_end == day(3, 15)
    assert totals(shop, customer) == [1400, 2800]
    assert lines(shop.invoices(customer)[1]) == [("Remaining time on Gold after 01 Mar 2026", 1, 1400)]
    free = shop.customer()
    shop.subscribe(free, fee(shop, 2800), billing_cycle_anchor=day(3, 20), proration_behavior="none")
    sandbox.advance(to=day(3, 20) + HOUR)
    assert totals(shop, free) == [2800]


def test_a_price_that_begins_now_has_no_line_for_the_time_before(shop, sandbox, two):
    """Nor has one that was left in the same second."""
    customer = shop.customer()
    subscription = shop.subscribe(customer, two[0])
    shop.send(customer, 5)
    sandbox.advance(to=MIDDLE)
    shop.v1.subscriptions.update(
        subscription.id,
        {
            "billing_cycle_anchor": {"type": "now"},
            "items": [{"id": subscription.items.data[0].id, "price": two[1].id}],
        },
    )

    assert [(quantity, amount) for _, quantity, amount in lines(shop.invoices(customer)[0])] == [(5, 50)]


def test_items_of_a_trial_are_not_prorated(shop, sandbox, two):
    """Nor is usage of it billed."""
    customer = shop.customer()
    subscription = shop.subscribe(customer, fee(shop), two[1], trial_end=APRIL)
    shop.send(customer, 5)
    sandbox.advance(to=MIDDLE)
    shop.v1.subscriptions.update(
        subscription.id,
        {
            "items": [
                {"id": subscription.items.data[0].id, "quantity": 2},
                {"id": subscription.items.data[1].id, "price": two[0].id},
            ]
        },
    )
    sandbox.advance(to=APRIL + HOUR)

    assert totals(shop, customer) == [0, 6200]
