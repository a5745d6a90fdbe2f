"""Usage that Stripe has and that no price bills: named, with the reason and the cure, until a price does."""

from __future__ import annotations

from dataclasses import replace

import pytest
from followed_account import api, events, kit, make_following_kit, price, stripe, tell  # noqa: F401 - fixtures

from meterkit import Notify
from meterkit.accounts.models import Customer, Item, Subscription
from meterkit.outbox.unbilled import unbilled

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("impatient")]

HOUR = 3600
DAY = 24 * HOUR


@pytest.fixture
def base(api):
    """A licensed price, as of a plan that Checkout made."""
    recurring = {"interval": "month"}
    return api.prices.create(
        {"currency": "usd", "unit_amount": 2000, "recurring": recurring, "product_data": {"name": "Base"}}
    ).id


@pytest.fixture
def other_meter(api):
    """A metered price of another meter."""
    meter = api.billing.meters.create(
        {"display_name": "Jobs", "event_name": "jobs", "default_aggregation": {"formula": "sum"}}
    )
    recurring = {"interval": "month", "usage_type": "metered", "meter": meter.id}
    return api.prices.create(
        {"currency": "usd", "unit_amount": 5, "recurring": recurring, "product_data": {"name": "Jobs"}}
    ).id


@pytest.fixture
def customer(api, price):
    """The customer who pays for acme, without a subscription."""
    return api.customers.create({"metadata": {"company": "acme"}}).id


def use(kit, clock, quantity, company="acme"):
    """Usage that is reported an hour later."""
    kit.record("calls", company, quantity)
    clock.advance(HOUR)
    kit.report()


def named(kit):
    """What `kit.health()` says of it, by company."""
    attention = [each for each in kit.health()["attention"] if "are on no invoice" in each]
    assert {account.company: account.unbilled for account in kit.customers() if account.unbilled} == {
        each.company: {"calls": each.quantity} for each in found(kit)
    }
    assert len(attention) == len(found(kit))
    return attention


def found(kit):
    return unbilled(kit.process().database(), now=int(kit.clock()), is_free=None)


def test_a_customer_without_the_meter_on_a_subscription(kit, api, customer, base, clock, tell, events, stripe):
    """Stripe has it all, the month's invoice has the fee alone, and the team is told."""
    api.subscriptions.create({"customer": customer, "items": [{"price": base}]})
    tell(kit, *events())
    use(kit, clock, 1_000)
    (said,) = named(kit)

    assert 1_000 == stripe.usage("calls", customer)
    assert said.startswith("1,000 calls of acme since 2026-03-01 12:10 UTC are on no invoice and will be on none: ")
    assert f"no subscription of {customer} has a price of calls" in said
    assert "backdate_start_date" in said
    assert not kit.health()["ok"]


def test_a_customer_without_a_subscription(kit, api, customer, clock):
    kit.sync()
    use(kit, clock, 1_000)
    (said,) = named(kit)

    assert f"{customer} has no subscription." in said


def test_a_subscription_to_another_meter(kit, api, customer, other_meter, clock):
    api.subscriptions.create({"customer": customer, "items": [{"price": other_meter}]})
    kit.sync()
    use(kit, clock, 1_000)

    assert [1_000] == [each.quantity for each in found(kit)]


def test_a_subscription_that_has_the_meter(kit, api, customer, price, clock, tell, events):
    """Nothing is named; and of usage before it, that alone."""
    kit.sync()
    use(kit, clock, 7)
    before = named(kit)
    api.subscriptions.create({"customer": customer, "items": [{"price": price}]})
    tell(kit, *events())
    use(kit, clock, 1_000)
    (after,) = named(kit)
    clock.advance(41 * DAY)

    assert "has no subscription" in before[0]
    assert after.startswith("7 calls of acme")
    assert "had no price of calls on a subscription until then" in after
    assert [] == found(kit)


def test_a_subscription_that_was_backdated(kit, api, customer, price, clock, tell, events):
    """It bills what was used before, also when its first period has ended."""
    kit.sync()
    use(kit, clock, 7)
    start = int(clock()) - 5 * DAY
    api.subscriptions.create({"customer": customer, "items": [{"price": price}], "backdate_start_date": start})
    tell(kit, *events())
    at_once = found(kit)
    clock.advance(31 * DAY)
    api.subscriptions.list()
    tell(kit, *events())

    assert ([], []) == (at_once, found(kit))


def test_a_subscription_that_has_ended(kit, api, customer, price, clock, tell, events):
    """What is used after it is named at once; what was used before it, if no last invoice has come within the hour."""
    subscription = api.subscriptions.create({"customer": customer, "items": [{"price": price}]}).id
    tell(kit, *events())
    use(kit, clock, 100)
    api.subscriptions.cancel(subscription)
    tell(kit, *events())
    clock.advance(60)
    use(kit, clock, 5)
    clock.advance(-HOUR)
    at_once = [each.quantity for each in found(kit)]
    clock.advance(HOUR)

    assert [5] == at_once
    assert [105] == [each.quantity for each in found(kit)]
    assert "has ended or lost the price" in named(kit)[0]


def test_a_subscription_that_has_ended_with_a_last_invoice(kit, api, customer, price, clock, tell, events):
    subscription = api.subscriptions.create({"customer": customer, "items": [{"price": price}]}).id
    tell(kit, *events())
    use(kit, clock, 100)
    api.subscriptions.cancel(subscription, {"invoice_now": True})
    clock.advance(60)
    use(kit, clock, 5)
    clock.advance(2 * HOUR)
    tell(kit, *events())

    assert [5] == [each.quantity for each in found(kit)]


def test_a_subscription_that_ends_with_its_period(kit, api, customer, price, clock, tell, events):
    """Its last invoice comes by itself."""
    subscription = api.subscriptions.create({"customer": customer, "items": [{"price": price}]}).id
    api.subscriptions.update(subscription, {"cancel_at_period_end": True})
    kit.sync()
    clock.advance(20 * DAY)
    use(kit, clock, 100)
    clock.advance(15 * DAY)
    use(kit, clock, 3)
    tell(kit, *events())

    assert [3] == [each.quantity for each in found(kit)]


def test_customers_that_nobody_has_read(kit, api, customer, price, clock):
    """Of them it cannot be known; a link alone tells nothing."""
    kit.link("acme", customer)
    use(kit, clock, 1_000)
    unread = (named(kit), kit.health()["ok"])
    kit.sync()

    assert ([], True) == unread
    assert [1_000] == [each.quantity for each in found(kit)]


def test_a_customer_that_is_new_to_the_ledger(kit, api, customer, price, clock, tell, events):
    """Its subscriptions are read with it, though their events came before there was a webhook."""
    api.subscriptions.create({"customer": customer, "items": [{"price": price}]})
    api.customers.update(customer, {"name": "Acme"})
    tell(kit, events()[-1])
    use(kit, clock, 1_000)

    assert (1, [], True) == (len(kit.customers()[0].subscriptions), named(kit), kit.health()["ok"])


def test_what_was_taken_back(kit, api, customer, clock):
    """Of what is left, nothing is unbilled."""
    kit.sync()
    use(kit, clock, 10)
    reporter = kit.process().stripe_jobs.reporter()
    at = int(clock()) - HOUR
    reporter.correct(company="acme", meter="calls", event_name="calls", at=at, quantity=4, reason="a test")
    kit.report()
    some = [each.quantity for each in found(kit)]
    reporter.correct(company="acme", meter="calls", event_name="calls", at=at, quantity=6, reason="a test")
    kit.report()

    assert ([6], []) == (some, found(kit))


def test_companies_that_are_free(kit, api, customer, clock):
    """By a rule of the kit, which is asked by company."""
    kit.sync()
    use(kit, clock, 10)
    database = kit.process().database()

    assert [[], ["acme"]] == [
        [each.company for each in unbilled(database, now=int(clock()), is_free=is_free)]
        for is_free in ({"acme"}.__contains__, {"globex"}.__contains__)
    ]


@pytest.mark.parametrize("rule", [Notify.unbilled, Notify.trouble])
def test_the_team_is_told(make_following_kit, api, customer, clock, rule):
    """Once a month for each company and meter, whatever is added meanwhile."""
    told = []
    kit = make_following_kit(notify=[rule(to=told.append)])
    kit.sync()
    use(kit, clock, 10)
    for step in (0, 2 * HOUR, 31 * DAY):
        clock.advance(step)
        use(kit, clock, 1)
        kit.process().dispatcher.evaluate()
        kit.process().dispatcher.deliver(next(iter(kit.process().dispatcher._channels)))

    assert [("unbilled", "acme", 11), ("unbilled", "acme", 13)] == [
        (each.kind, each.company, each.fields["used"]) for each in told
    ]
    assert {"meter": "calls", "customer": customer}.items() <= told[0].fields.items()


def test_many_companies(kit, api, price, clock):
    """Health lists twenty, and says how many more there are; `customers` has all."""
    for number in range(23):
        api.customers.create({"metadata": {"company": f"company-{number}"}})
        kit.record("calls", f"company-{number}", 100 - number)
    kit.sync()
    clock.advance(HOUR)
    kit.report()
    attention = kit.health()["attention"]

    assert 21 == len(attention)
    assert attention[0].startswith("100 calls of company-0 ")
    assert "usage of 3 more is on no invoice, see meterkit customers" == attention[-1]
    assert 23 == len([account for account in kit.customers() if account.unbilled])


@pytest.mark.parametrize(("mode", "quantities"), [("classic", [9]), ("flexible", [])])
def test_a_price_that_is_changed_within_a_period(kit, customer, clock, mode, quantities):
    """Classic billing forgets what was used before that in the period; flexible billing bills it."""
    kit.sync()
    begin = int(clock()) - DAY
    item = Item("si_1", "sub_1", customer, "calls", None, begin, begin + 30 * DAY, '{"id": "price_a"}', since=begin)
    first = Subscription(
        "sub_1", customer, "active", begin, None, None, begin, (item,), billing_mode=mode, started_at=begin
    )
    use(kit, clock, 9)
    changed = replace(first, items=(replace(item, price='{"id": "price_b"}'),))
    with kit.process().database().transaction() as connection:
        kit.process().accounts().put(connection, first)
        kit.process().accounts().put(connection, changed, changed_at=int(clock()))
    use(kit, clock, 5)

    assert quantities == [each.quantity for each in found(kit)]


def test_customers_of_a_test_clock(kit, api, price, clock, tell, events):
    """Stripe's lists leave them out, so a sync does not know that one has no subscription; a webhook does."""
    test_clock = api.test_helpers.test_clocks.create({"frozen_time": int(clock()) + HOUR})
    customer = api.customers.create({"test_clock": test_clock.id, "metadata": {"company": "acme"}}).id
    unread = Customer(customer, "Acme", "acme", deleted=False, checked_at=0)
    with kit.process().database().transaction() as connection:
        kit.process().accounts().put(connection, unread)
    kit.sync()
    use(kit, clock, 10)
    synced = found(kit)
    api.subscriptions.create({"customer": customer, "items": [{"price": price}]})
    api.customers.update(customer, {"name": "Acme & Sons"})
    tell(kit, *events())
    use(kit, clock, 5)

    assert ([], [10]) == (synced, [each.quantity for each in found(kit)])


@pytest.mark.parametrize("by", ["webhook", "sync"])
def test_a_meter_that_was_replaced(kit, api, customer, price, clock, tell, events, by):
    """The price on the subscription stays with the deactivated one, and the other counts from then on."""
    api.subscriptions.create({"customer": customer, "items": [{"price": price}]})
    tell(kit, *events())
    use(kit, clock, 5)
    (meter,) = api.billing.meters.list({}).data
    api.billing.meters.deactivate(meter.id)
    api.billing.meters.create(
        {"display_name": "Calls", "event_name": "calls", "default_aggregation": {"formula": "sum"}}
    )
    if by == "webhook":
        tell(kit, *events())
    else:
        kit.sync()
    use(kit, clock, 1_000)
    replaced = [each.quantity for each in found(kit)]

    assert ([1_000], []) == (replaced, [each for each in kit.webhook_events() if each.state == "received"])
    assert "has ended or lost the price" in named(kit)[0]


def test_a_price_that_was_lost_within_its_period(kit, api, customer, price, clock, tell, events):
    """What was used of it is named once, also if it came within the period."""
    subscription = api.subscriptions.create({"customer": customer, "items": [{"price": price}]})
    other = api.prices.create(
        {
            "currency": "usd",
            "unit_amount": 5,
            "recurring": {
                "interval": "month",
                "usage_type": "metered",
                "meter": api.prices.retrieve(price).recurring.meter,
            },
            "product_data": {"name": "Calls"},
        }
    )
    tell(kit, *events())
    use(kit, clock, 7)
    api.subscription_items.update(subscription["items"].data[0].id, {"price": other.id})
    tell(kit, *events())
    use(kit, clock, 5)
    api.subscriptions.cancel(subscription.id)
    tell(kit, *events())
    clock.advance(2 * HOUR)

    assert [12] == [each.quantity for each in found(kit)]


def later(kit, quantity, at):
    """Usage of the past that comes to light now."""
    kit.process().ledger().fold(f"late {at}", [(("calls", "calls", "acme", "", at), quantity, at)])
    kit.report(include_open=True)


@pytest.mark.parametrize("used", [0, 9])
def test_late_usage_of_a_period(kit, api, customer, price, clock, used):
    """Without other usage, Stripe has made no invoice of that period, which the usage could have missed."""
    api.subscriptions.create({"customer": customer, "items": [{"price": price}]})
    kit.sync()
    clock.advance(DAY)
    if used:
        use(kit, clock, used)
    clock.advance(32 * DAY)
    api.invoices.list({})
    kit.sync()
    later(kit, 20, int(clock()) - 3 * DAY)
    (said,) = [each for each in kit.health()["attention"] if "20 calls of acme" in each]

    assert ([] if used else [20]) == [each.quantity for each in found(kit)]
    assert ("after invoice" in said) is bool(used)
    assert ("no invoice of that period. Bill it by hand" in said) is not used


def test_usage_before_the_billing_cycle_was_begun_anew(kit, api, customer, price, clock, tell, events):
    """Stripe makes the invoice at once, of what it has."""
    subscription = api.subscriptions.create({"customer": customer, "items": [{"price": price}]})
    tell(kit, *events())
    clock.advance(DAY)
    kit.record("calls", "acme", 100)
    clock.advance(600)
    api.subscriptions.update(subscription.id, {"billing_cycle_anchor": {"type": "now"}})
    clock.advance(60)
    tell(kit, *events())
    clock.advance(HOUR)
    kit.report()
    clock.advance(2 * HOUR)
    tell(kit, *events())

    assert [100] == [each.quantity for each in found(kit)]
    assert 0 == sum(each.total for each in api.invoices.list({}).data)


def test_usage_before_a_change_that_comes_after_it(kit, api, customer, price, clock, tell, events):
    """Stripe has billed what it had by then."""
    subscription = api.subscriptions.create({"customer": customer, "items": [{"price": price}]})
    other = api.prices.create(
        {
            "currency": "usd",
            "unit_amount": 5,
            "recurring": {
                "interval": "month",
                "usage_type": "metered",
                "meter": api.prices.retrieve(price).recurring.meter,
            },
            "product_data": {"name": "Calls"},
        }
    )
    tell(kit, *events())
    clock.advance(DAY)
    use(kit, clock, 7)
    at = int(clock()) + 60
    clock.advance(120)
    api.subscription_items.update(subscription["items"].data[0].id, {"price": other.id})
    clock.advance(60)
    tell(kit, *events())
    later(kit, 20, at)
    use(kit, clock, 3)
    clock.advance(32 * DAY)
    (said,) = named(kit)

    assert [20] == [each.quantity for each in found(kit)]
    assert "received it after the price was changed" in said
    assert 7 * 500 + 3 * 5 == sum(each.total for each in api.invoices.list({}).data)


def test_late_usage_of_two_subscriptions(kit, api, customer, price, clock):
    """It is named once, and not at all if one of them has billed the period."""
    for _ in range(2):
        api.subscriptions.create({"customer": customer, "items": [{"price": price}]})
    kit.sync()
    clock.advance(33 * DAY)
    api.invoices.list({})
    kit.sync()
    later(kit, 20, int(clock()) - 4 * DAY)

    assert [20] == [each.quantity for each in found(kit)]


def test_late_usage_of_a_trial(kit, api, customer, price, clock):
    """It is free, and not missed."""
    api.subscriptions.create({"customer": customer, "items": [{"price": price}], "trial_period_days": 10})
    kit.sync()
    clock.advance(11 * DAY)
    api.invoices.list({})
    kit.sync()
    later(kit, 20, int(clock()) - 5 * DAY)

    assert [] == found(kit)


def test_usage_before_a_change_that_comes_after_the_invoice(kit, api, customer, price, clock, tell, events):
    """It is named once, as late."""
    fee = {"currency": "usd", "unit_amount": 700, "recurring": {"interval": "month"}, "product_data": {"name": "Fee"}}
    items = [{"price": price}, {"price": api.prices.create(fee).id}]
    subscription = api.subscriptions.create({"customer": customer, "items": items})
    tell(kit, *events())
    clock.advance(DAY)
    use(kit, clock, 7)
    at = int(clock()) - 600
    api.subscriptions.update(subscription.id, {"items": [{"id": subscription["items"].data[0].id, "deleted": True}]})
    tell(kit, *events())
    clock.advance(32 * DAY)
    api.invoices.list({})
    tell(kit, *events())
    later(kit, 20, at)

    assert [] == found(kit)
    assert 1 == len([each for each in kit.health()["attention"] if "20 calls of acme" in each])
