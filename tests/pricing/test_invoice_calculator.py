"""The next invoice on accounts as people have them: changed prices, trials, pauses, coupons, currencies, thresholds."""

from __future__ import annotations

import json
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
TIERS = [{"up_to": 100, "unit_amount": 500}, {"up_to": "inf", "unit_amount": 300}]


@pytest.fixture
def kit(make_shown_kit):
    """A kit that sees the account through the proxy."""
    return make_shown_kit()


@pytest.fixture
def make_price(api, stripe):
    """A function that makes a price: of the meter calls at so many cents a unit, unless other fields are given."""
    meter = make_meter(stripe, "calls").id
    metered = {"interval": "month", "usage_type": "metered", "meter": meter}

    def make(cents=None, *, fee=False, every=None, **fields):
        recurring = {**({"interval": "month"} if fee else metered), **(every or {})}
        amount = {} if cents is None else {"unit_amount_decimal": str(cents)}
        product = {"name": "Fee" if fee else "Calls"}
        return api.prices.create(
            {"currency": "usd", "product_data": product, "recurring": recurring, **amount, **fields}
        ).id

    return make


@pytest.fixture
def subscribe(api):
    """A function that makes a customer acme with a subscription to prices; answers the subscription."""

    def subscribe(*prices, **options):
        customer = api.customers.create({"metadata": {"company": "acme"}}).id
        return api.subscriptions.create(
            {"customer": customer, "items": [{"price": each} for each in prices], **options}
        )

    return subscribe


def use(kit, clock, quantity):
    """Use so much, and report it an hour later."""
    kit.record("calls", "acme", quantity)
    clock.advance(HOUR)
    kit.report()


def preview(kit):
    (found,) = kit.preview("acme")
    return found


def total(kit):
    """What the next invoice asks for, if that is known."""
    return preview(kit).total


@pytest.fixture
def change_price(api, tell, clock, kit):
    """A function that gives the only item of a subscription another price, and tells the kit by a webhook."""

    def change(subscription, price):
        api.subscription_items.update(subscription["items"].data[0].id, {"price": price})
        about = {"object": "subscription", "id": subscription.id}
        tell(kit, snapshot("customer.subscription.updated", about, created=int(clock.now)))

    return change


@pytest.mark.parametrize(("mode", "asked"), [("flexible", "110.00"), ("classic", "10.00")])
def test_a_price_that_is_changed_within_the_period(kit, clock, make_price, subscribe, change_price, mode, asked):
    """What was used before is billed at what it cost then; in classic mode Stripe does not bill it at all."""
    before, after = make_price(10), make_price(100)
    subscription = subscribe(before, billing_mode={"type": mode})
    kit.sync()
    use(kit, clock, 1000)
    change_price(subscription, after)
    use(kit, clock, 10)

    assert Decimal(asked) == total(kit)
    assert [] == [each for each in preview(kit).assumed if "proration_behavior" in each]


def test_where_tiers_begin_after_a_change_is_not_known(kit, clock, make_price, subscribe, change_price):
    """So there is no total, and it says why."""
    before = make_price(10)
    after = make_price(billing_scheme="tiered", tiers_mode="graduated", tiers=TIERS)
    subscription = subscribe(before)
    kit.sync()
    use(kit, clock, 1000)
    change_price(subscription, after)
    use(kit, clock, 10)

    assert total(kit) is None
    assert any("tiers" in each for each in preview(kit).unknown)


def test_a_price_that_has_lost_its_lookup_key_is_the_same(kit, clock, api, make_price, subscribe, change_price):
    """Provisioning gives the key to the price that follows."""
    price = make_price(10, lookup_key="calls")
    subscription = subscribe(price)
    kit.sync()
    use(kit, clock, 1000)
    make_price(20, lookup_key="calls", transfer_lookup_key=True)
    change_price(subscription, price)

    assert (Decimal("100.00"), 1) == (total(kit), len(preview(kit).lines))


def test_a_price_in_several_currencies(kit, clock, shown, make_price, subscribe):
    """The amounts are those of the customer's currency; where Stripe has none, no figure is shown."""
    subscribe(make_price(10))
    euros = {"unit_amount": 8, "unit_amount_decimal": "8"}

    def has_euros(price):
        price["currency_options"] = {"usd": {"unit_amount_decimal": "10"}, "eur": euros}

    shown.rewrite("price", has_euros)
    shown.rewrite("subscription", {"currency": "eur"})
    kit.sync()
    use(kit, clock, 1000)
    found = preview(kit)

    assert (Decimal("80.00"), "eur") == (found.total, found.currency)


def test_a_price_without_amounts_in_the_currency(kit, clock, shown, make_price, subscribe):
    """Nothing is computed in another."""
    subscribe(make_price(10))
    shown.rewrite("subscription", {"currency": "eur"})
    kit.sync()
    use(kit, clock, 1000)
    found = preview(kit)

    assert (None, "eur") == (found.total, found.currency)
    assert any("known in USD alone" in each for each in found.unknown)


def test_a_yearly_fee_and_monthly_usage(kit, clock, shown, make_price, subscribe):
    """The next invoice is that of the usage; the fee comes with the year."""
    subscribe(make_price(100), make_price(120000, fee=True))
    year = {"current_period_end": int(clock.now) + 365 * DAY}
    shown.rewrite("subscription_item", lambda item: item.update({} if item["price"]["recurring"]["meter"] else year))
    kit.sync()
    use(kit, clock, 5)
    found = preview(kit)

    assert (Decimal("5.00"), 31) == (found.total, (found.period_end - found.period_start) // DAY)


def test_a_trial(kit, clock, shown, make_price, subscribe):
    """Its usage is free; the invoice at its end has the fee of what follows."""
    subscribe(make_price(100), make_price(2000, fee=True))
    shown.rewrite(
        "subscription",
        lambda each: each.update(
            status="trialing",
            trial_start=each["start_date"],
            trial_end=each["items"]["data"][0]["current_period_end"],
        ),
    )
    kit.sync()
    use(kit, clock, 30)

    assert Decimal("20.00") == total(kit)
    assert any("trial" in each for each in preview(kit).assumed)


@pytest.mark.parametrize("behavior", ["void", "mark_uncollectible"])
def test_a_pause(kit, clock, shown, make_price, subscribe, behavior):
    """Stripe makes the invoice, and nobody pays it: that is said."""
    subscribe(make_price(100))
    shown.rewrite("subscription", {"pause_collection": {"behavior": behavior, "resumes_at": None}})
    kit.sync()
    use(kit, clock, 30)

    assert any("paused" in each for each in preview(kit).assumed)


def coupon(shown, *, products=None, **terms):
    """Show a discount of all subscriptions."""
    end = terms.pop("end", None)
    applied = {"percent_off": None, "amount_off": None, "currency": None, "duration": "forever", **terms}
    applied["applies_to"] = {"products": products} if products else None
    discount = {"object": "discount", "id": "di_1", "start": 0, "end": end, "source": {"coupon": applied}}
    shown.rewrite("subscription", {"discounts": [discount]})


@pytest.mark.parametrize(
    ("terms", "asked"),
    [
        ({"percent_off": 100}, "0.00"),
        ({"percent_off": 12.5}, "26.25"),
        ({"amount_off": 1000, "currency": "usd"}, "20.00"),
        ({"amount_off": 9000, "currency": "usd"}, "0.00"),
        ({"percent_off": 50, "end": 1}, "30.00"),
        ({"percent_off": 50, "products": ["prod_other"]}, "30.00"),
        ({"amount_off": 1000, "currency": "eur"}, None),
    ],
)
def test_a_coupon(kit, clock, shown, make_price, subscribe, terms, asked):
    """A percentage or an amount, for as long as it holds, on what it applies to."""
    subscribe(make_price(100))
    coupon(shown, **terms)
    kit.sync()
    use(kit, clock, 30)

    assert (None if asked is None else Decimal(asked)) == total(kit)


def test_what_a_threshold_has_billed_is_not_billed_again(kit, clock, api, stripe, shown, make_price, subscribe):
    """The next invoice has the rest; tiers go on."""
    subscription = subscribe(make_price(billing_scheme="tiered", tiers_mode="graduated", tiers=TIERS))
    kit.sync()
    use(kit, clock, 110)
    invoice = json.loads(str(api.invoices.create_preview({"subscription": subscription.id})))
    start = subscription["items"].data[0].current_period_start
    invoice |= {
        "id": "in_threshold",
        "billing_reason": "subscription_threshold",
        "status": "paid",
        "number": "A-1",
        "created": int(clock.now),
        "period_start": start,
        "period_end": int(clock.now),
        "next_payment_attempt": None,
    }
    shown.answer("GET", "/v1/invoices", 200, {"object": "list", "data": [invoice], "has_more": False, "url": "/"})
    kit.sync()
    use(kit, clock, 10)
    found = preview(kit)

    assert (530_00, Decimal("30.00")) == (invoice["total"], found.total)
    assert ["billed before, by invoice A-1"] == [line.note for line in found.lines if line.note]


def test_shillings_of_uganda(kit, clock, make_price, subscribe):
    """Stripe has them in hundredths that must be 0."""
    subscribe(make_price("10000.5", currency="ugx"))
    kit.sync()
    use(kit, clock, 3)

    assert Decimal(300) == total(kit)


def test_what_a_former_version_has_read(kit, clock, make_price, subscribe):
    """It lacks what a bill depends on, until the next sync."""
    subscribe(make_price(100))
    kit.sync()
    with kit.process().database().transaction() as connection:
        connection.exec_driver_sql("UPDATE meterkit_subscriptions SET currency = ''")
    use(kit, clock, 3)
    before = preview(kit)
    kit.sync()

    assert (None, Decimal("3.00")) == (before.total, total(kit))
    assert any("meterkit sync" in each for each in before.unknown)


@pytest.mark.parametrize(("where", "asked"), [("customer", "26.25"), ("item", "15.00"), ("both", "20.00")])
def test_a_coupon_of_a_customer_or_an_item(make_following_kit, api, stripe, clock, make_price, subscribe, where, asked):
    """That of a customer counts where the subscription has none."""
    price = make_price(100)
    subscription = subscribe(price)
    eighth = api.coupons.create({"percent_off": 12.5, "duration": "forever"}).id
    if where == "item":
        half = api.coupons.create({"percent_off": 50, "duration": "forever"}).id
        item = subscription["items"].data[0].id
        api.subscriptions.update(subscription.id, {"items": [{"id": item, "discounts": [{"coupon": half}]}]})
    else:
        stripe.discount(subscription.customer, eighth)
    if where == "both":
        ten = api.coupons.create({"amount_off": 1000, "currency": "usd", "duration": "forever"}).id
        api.subscriptions.update(subscription.id, {"discounts": [{"coupon": ten}]})
    kit = make_following_kit()
    kit.sync()
    use(kit, clock, 30)
    upcoming = api.invoices.create_preview({"subscription": subscription.id})

    assert Decimal(asked) == total(kit) == Decimal(upcoming.total).scaleb(-2)


@pytest.mark.parametrize("whose", ["subscription", "customer"])
def test_a_coupon_that_is_used_up(make_following_kit, api, stripe, clock, make_price, subscribe, tell, events, whose):
    """The event about the discount tells that the next invoice is without it."""
    subscription = subscribe(make_price(100))
    coupon = api.coupons.create({"percent_off": 50, "duration": "once"}).id
    if whose == "customer":
        stripe.discount(subscription.customer, coupon)
    else:
        api.subscriptions.update(subscription.id, {"discounts": [{"coupon": coupon}]})
    kit = make_following_kit()
    kit.sync()
    use(kit, clock, 30)
    clock.advance(31 * DAY - HOUR)  # the invoice is a draft
    api.invoices.list()  # lets the sandbox bring itself up to date
    kit.sync()
    clock.advance(HOUR)
    use(kit, clock, 20)
    before = total(kit)
    tell(kit, *(event for event in events() if event["type"] == "customer.discount.deleted"))

    assert (Decimal("10.00"), Decimal("20.00")) == (before, total(kit))


@pytest.mark.parametrize(("between", "is_said"), [(0, False), (40, True)])
def test_a_change_that_no_webhook_told(kit, api, clock, make_price, subscribe, between, is_said):
    """It is taken to be when it was read; where that matters, the preview says so."""
    before, after = make_price(10), make_price(100)
    subscription = subscribe(before)
    kit.sync()
    use(kit, clock, 1000)
    kit.sync()
    if between:
        use(kit, clock, between)
    api.subscription_items.update(subscription["items"].data[0].id, {"price": after})
    kit.sync()
    clock.advance(1)
    use(kit, clock, 10)

    assert Decimal(110) + between / Decimal(10) == total(kit)
    assert is_said is any("no webhook told" in each for each in preview(kit).assumed)
