"""Limits, features, prices and page follow each company's plan, from memory."""

from __future__ import annotations

import json
import os

import pytest
from followed_account import api, events, stripe, tell
from signed import SECRET
from test_governance import CALLS, EGRESS, ask, looked_once, statuses, whose

from meterkit import ConfigurationError, Governance, Meter, Notify, Plan, Price, Quota, UsageError, Webhook

pytestmark = pytest.mark.long

__all__ = ["api", "events", "stripe", "tell"]

FREE = Plan("free", limits=[Quota(CALLS, 1)])
BASIC = Plan("basic", prices=[Price.per_unit(CALLS, "1.00")], limits=[Quota(CALLS, 2)])
PRO = Plan("pro", prices=[Price.per_unit(CALLS, "0.50")], limits=[Quota(CALLS, 4)], features={"export"})


@pytest.fixture
def sell(make_kit, stripe):
    """A function that makes a kit with plans, which is provisioned and has looked once."""

    def sell(*plans, **options):
        defaults = {"identify": whose, "customer_ids": False, "webhook": Webhook(None, secret=SECRET)}
        kit = make_kit(
            CALLS,
            EGRESS,
            plans=plans or [FREE, BASIC, PRO],
            stripe_key=stripe.api_key,
            stripe_base=stripe.url,
            **{**defaults, **options},
        )
        kit.provision()
        return kit if kit.governor is None else looked_once(kit)

    return sell


def page_of(kit, company):
    """What the customer page shows."""
    from plain_exchange import PlainExchange

    exchange = PlainExchange("GET", "/usage", headers={"x-company": company})
    exchange.publish(kit)
    return json.loads(kit.page.respond(exchange).body)


def test_limits_follow_the_plan(sell):
    """Without governance=, too."""
    kit = sell()
    kit.subscribe("acme", plan="basic")
    kit.subscribe("globex", plan="pro")
    kit.flush()

    assert [200, 200, 429] == statuses(kit, 3, company="acme")
    assert [200, 200, 200, 200, 429] == statuses(kit, 5, company="globex")
    assert [200] * 5 == statuses(kit, 5, company="initech")


def test_the_default_plan_is_that_of_companies_without_a_subscription(sell):
    """Of those that nobody knows, too."""
    kit = sell(default_plan="free")
    kit.subscribe("acme", plan="basic")
    kit.flush()

    assert [200, 429] == statuses(kit, 2, company="initech")
    assert [200, 200, 429] == statuses(kit, 3, company="acme")
    assert (FREE, BASIC) == (kit.plan_of("initech"), kit.plan_of("acme"))


def test_a_plans_limit_takes_the_place_of_the_kits(sell):
    """For its companies, and with the same meter and period; the kit's others stay."""
    rules = Governance(quotas=[Quota(CALLS, 1), Quota(CALLS, 3, per="day")])
    kit = sell(PRO, governance=rules)
    kit.subscribe("globex", plan="pro")
    kit.flush()

    assert [200, 429] == statuses(kit, 2, company="acme")
    assert [200, 200, 200, 429] == statuses(kit, 4, company="globex")


def test_a_plan_with_a_soft_limit_instead_of_a_hard_one(sell):
    """It replaces that as well."""
    soft = Plan("pro", prices=PRO.prices, limits=[Quota(CALLS, 1, hard=False)])
    kit = sell(soft, governance=Governance(quotas=[Quota(CALLS, 1)]))
    kit.subscribe("globex", plan="pro")
    kit.flush()

    assert [200, 429] == statuses(kit, 2, company="acme")
    assert [None, "quota"] == [ask(kit, "globex") for _ in range(2)]


def test_a_limit_of_a_plan_that_depends_on_the_company(sell):
    """The function is asked in the background, as that of any quota."""
    asked = []
    plan = Plan("pro", prices=PRO.prices, limits=[Quota(CALLS, lambda company: asked.append(company) or 1)])
    kit = sell(plan)
    kit.subscribe("acme", plan="pro")
    kit.flush()
    statuses(kit, 1, company="acme")
    statuses(kit, 1, company="globex")
    kit.flush()

    assert ["acme"] == asked
    assert [429] == statuses(kit, 1, company="acme")


def test_a_company_that_changes_its_plan(sell, api, tell, events):
    """With the flush after the webhook."""
    kit = sell(default_plan="free")
    subscription = kit.subscribe("acme", plan="basic").subscription
    kit.flush()
    before = statuses(kit, 3, company="acme"), kit.can("acme", "export")
    (item,) = api.subscriptions.retrieve(subscription)["items"].data
    (price,) = api.prices.list({"lookup_keys": list(PRO.lookup_keys())}).data
    api.subscriptions.update(subscription, {"items": [{"id": item.id, "price": price.id}]})
    tell(kit, *events())
    kit.flush()
    after = statuses(kit, 3, company="acme"), kit.can("acme", "export")
    api.subscriptions.cancel(subscription)
    tell(kit, *events())
    kit.flush()

    assert ([200, 200, 429], False) == before
    assert ([200, 200, 429], True) == after
    assert (FREE, False) == (kit.plan_of("acme"), kit.can("acme", "export"))


def test_an_earlier_version_is_the_same_plan(sell):
    """Limits and features are not part of what is in Stripe."""
    sell(Plan("pro", prices=BASIC.prices)).subscribe("acme", plan="pro")
    kit = sell(PRO)

    assert kit.can("acme", "export")


def test_features(sell):
    """Those of the plan, and nobody else's."""
    kit = sell(BASIC, PRO)
    kit.subscribe("acme", plan="basic")
    kit.subscribe("globex", plan="pro")
    kit.flush()

    assert [False, True, False] == [kit.can(company, "export") for company in ("acme", "globex", "initech")]


def test_a_feature_that_no_plan_has(sell, make_kit):
    """It is a mistake in the code, and no answer is right."""
    with pytest.raises(UsageError, match="only export: add it") as caught:
        sell().can("acme", "exprot")
    with pytest.raises(UsageError, match="has no plans="):
        make_kit().can("acme", "export")

    assert "feature_unknown" == caught.value.reason


def test_a_price_that_provision_adopts(sell, api):
    """A process that had read it without its lookup key learns of it with the next look at the subscription."""
    plan = Plan("team", prices=[Price.per_unit(CALLS, "3.00")], features={"export"})
    kit = sell(BASIC, PRO)
    (meter,) = [each for each in api.billing.meters.list().data if each.event_name == "calls"]
    recurring = {"interval": "month", "usage_type": "metered", "meter": meter.id}
    price = api.prices.create(
        {"currency": "usd", "unit_amount": 300, "product_data": {"name": "x"}, "recurring": recurring}
    )
    customer = api.customers.create({"metadata": {"company": "acme"}}).id
    api.subscriptions.create({"customer": customer, "items": [{"price": price.id}]})
    kit.sync()
    other = sell(BASIC, PRO, plan)  # which provisions it, as a deployment does
    kit.sync()
    other.flush()

    assert plan.lookup_keys() == (api.prices.retrieve(price.id).lookup_key,)
    assert other.plan_of("acme") == plan


def test_the_newest_subscription_counts(sell, api, clock):
    """Checkout has made another, and the old one goes on until its end."""
    kit = sell()
    customer = kit.subscribe("acme", plan="basic").customer
    (price,) = api.prices.list({"lookup_keys": list(PRO.lookup_keys())}).data
    clock.advance(60)
    api.subscriptions.create({"customer": customer, "items": [{"price": price.id}]})
    kit.sync()
    kit.flush()

    assert kit.can("acme", "export")


def test_without_a_subscription_nothing_is_owed(sell):
    """Unless the kit has a default plan, by whose prices it is computed."""
    rules = Governance(spending_cap="0.75")
    kit = sell(BASIC, governance=rules)
    statuses(kit, 3)
    kit.flush()
    without = ask(kit)
    kit.close()
    kit = sell(BASIC, governance=rules, default_plan="basic")
    kit.record(CALLS, "acme", 1)
    kit.flush()

    assert without is None
    assert (402, "spending_cap") == (ask(kit)[0], ask(kit)[1]["reason"])


def test_the_page_shows_the_plan(sell):
    """Its name, its limits, and its prices."""
    kit = sell(default_plan="free", customer_page="/usage")
    kit.subscribe("acme", plan="basic")
    kit.flush()
    free, basic = page_of(kit, "initech"), page_of(kit, "acme")
    prices = [next(each["price"] for each in page["meters"] if each["meter"] == "calls") for page in (free, basic)]

    assert ("free", None, 1) == (free["plan"], prices[0], free["meters"][0]["quotas"][0]["limit"])
    assert ("basic", "1.00", 2) == (
        basic["plan"],
        prices[1]["tiers"][0]["unit_price"],
        basic["meters"][0]["quotas"][0]["limit"],
    )


def test_notices_follow_the_plan(sell):
    """A rule about quotas is about those of plans."""
    kit = sell(default_plan="free", notify=[Notify.quota(to=lambda notice: None)])
    kit.record(CALLS, "acme", 1)
    kit.flush()
    kit.process().dispatcher.evaluate()

    assert [("quota_reached", "acme")] == [(each.notice.kind, each.notice.company) for each in kit.notices()]


def test_a_simulation_prices_each_company_by_its_plan(sell):
    """As the code has it now; without a plan, nothing is owed."""
    kit = sell()
    kit.subscribe("acme", plan="basic")
    kit.subscribe("globex", plan="pro")
    kit.close()
    dearer = Plan("basic", prices=[Price.per_unit(CALLS, "3.00")])
    kit = sell(dearer, PRO)
    for company in ("acme", "globex", "initech"):
        kit.record(CALLS, company, 10)

    assert [("acme", "10.00", "30.00"), ("globex", "5.00", "5.00"), ("initech", "None", "0")] == [
        (bill.company, str(bill.old), str(bill.new)) for bill in kit.simulate()
    ]


def test_customers_are_shown_with_their_plans(sell):
    """The default plan is that of companies without a subscription."""
    kit = sell(default_plan="free")
    kit.subscribe("acme", plan="basic")
    kit.record(CALLS, "globex", 1)
    kit.flush()

    assert [("acme", "basic"), ("globex", "free")] == [(each.company, each.plan) for each in kit.customers()]


def test_a_plan_that_has_left_the_code(sell):
    """Its companies are on no plan, which is said, and not on the default one: they pay."""
    sell().subscribe("acme", plan="basic")
    kit = sell(FREE, PRO, default_plan="free")
    kit.flush()

    assert kit.plan_of("acme") is None
    assert [200, 200] == statuses(kit, 2, company="acme")
    assert "'basic'" in kit.health()["problems"]["plan_unknown"]["message"]


def test_a_company_that_is_a_customer(sell, stripe, api):
    """With customer_ids=, it pays for itself, and is on the plan of its own subscriptions."""
    kit = sell(customer_ids=True)
    customer = api.customers.create({}).id
    kit.subscribe(customer, plan="pro")
    kit.flush()

    assert kit.can(customer, "export")


def test_what_is_free_by_the_plan_is_not_missed(sell, api, clock):
    """Stripe bills it on no invoice, as the default plan says; without one, it is named."""
    kit = sell(default_plan="free")
    kit.link("acme", api.customers.create({}).id)
    kit.sync()
    kit.record(CALLS, "acme", 5)
    clock.advance(3600)
    kit.report()
    free = " ".join(kit.health()["attention"])
    kit.close()
    named = " ".join(sell().health()["attention"])

    assert "acme" not in free
    assert "5 calls of acme" in named


def test_a_forked_child_knows_the_plans(sell):
    """And goes on to follow them."""
    kit = sell()
    kit.subscribe("globex", plan="pro")
    kit.flush()
    known = kit.can("globex", "export")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, b"1" if kit.can("globex", "export") and not kit.can("acme", "export") else b"0")
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        found = pipe.read()
    os.waitpid(child, 0)

    assert (True, b"1") == (known, found)


WRONG = {
    "no quota": ({"limits": [5]}, "is not a Quota"),
    "twice": ({"limits": [Quota(CALLS, 1), Quota(CALLS, 2)]}, "two quotas of"),
    "unknown meter": ({"limits": [Quota(Meter("other"), 1)]}, "not in meters="),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_limits_that_are_refused(make_kit, wrong):
    """While the kit is built."""
    options, message = WRONG[wrong]
    with pytest.raises(ConfigurationError, match=message):
        make_kit(CALLS, plans=[Plan("pro", **options)], identify=whose)


def test_limits_need_identify(make_kit):
    """Nobody could be blocked without."""
    with pytest.raises(ConfigurationError, match=r"Plan\(limits=...\) needs identify="):
        make_kit(CALLS, plans=[PRO])
