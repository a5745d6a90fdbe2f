"""`kit.subscribe` takes what was chosen, and never makes a second customer or subscription where one is."""

from __future__ import annotations

import pytest
from fake_clock import NOON

from meterkit import Amounts, ConfigurationError, Meter, MeterKit, Plan, Price, StripeFailedError, UsageError

CALLS, EGRESS = Meter("calls"), Meter("egress")
CHEAP, DEAR = Price.per_unit(CALLS, "1.00"), Price.per_unit(CALLS, "2.00")
PRO = Plan("pro", fee="20.00", prices=[CHEAP], trial_days=14)
BASIC = Plan("basic", prices=[DEAR])
KEY = "meterkit:calls:usd:month"


@pytest.fixture
def kit_of(stripe, tmp_path):
    """A function that makes kits of one ledger, and provisions them unless told otherwise."""
    kits = []

    def kit_of(*prices, provisioned=True, **options):
        defaults = {"meters": [CALLS, EGRESS], "prices": prices}
        kit = MeterKit(
            data_dir=tmp_path / "meterkit",
            stripe_key=stripe.api_key,
            stripe_base=stripe.url,
            clock=lambda: NOON,
            **{**defaults, **options},
        )
        kits.append(kit)
        if provisioned:
            kit.provision()
        return kit

    yield kit_of
    for kit in kits:
        kit.close()


@pytest.fixture
def subscriptions(api):
    """A function that answers the lookup keys of each subscription that there is."""

    def subscriptions():
        found = api.subscriptions.list({"limit": 100}).data
        return [sorted(str(item.price.lookup_key) for item in each["items"].data) for each in found]

    return subscriptions


def refused(kit, *args, **options):
    """Subscribe; answer why that was refused."""
    with pytest.raises(UsageError) as caught:
        kit.subscribe(*args, **options)
    return str(caught.value)


def test_a_plan_is_taken_as_it_is(kit_of, subscriptions):
    """And nothing of the other plan."""
    plan = Plan("pro", fee="20.00", prices=[CHEAP])
    kit_of(plans=[BASIC, plan]).subscribe("acme", plan="pro")

    assert [sorted(plan.lookup_keys())] == subscriptions()


def test_done_twice_it_changes_nothing(kit_of, writes, api):
    """Neither with the name, which an existing customer keeps."""
    kit = kit_of(plans=[BASIC])
    first = kit.subscribe("acme", plan="basic", email="billing@acme.example")
    before = writes()
    second = kit.subscribe("acme", plan="basic", email="billing@acme.example")

    assert (True, False) == (first.is_new, second.is_new)
    assert (first.customer, first.subscription) == (second.customer, second.subscription)
    assert before == writes()


def test_after_a_price_has_changed(kit_of, subscriptions, stripe):
    """The subscription bills the whole meter already, so a second one would double the bill."""
    old = kit_of(CHEAP).subscribe("acme")
    message = refused(kit_of(DEAR), "acme")

    assert [["None"]] == subscriptions()
    assert old.subscription in message
    assert f"--to {KEY} --company acme moves it" in message


def test_a_meter_with_two_prices_needs_a_choice(kit_of, subscriptions):
    """With both, each unit would be billed twice."""
    basic, pro = (Price.per_unit(CALLS, amount, lookup_key=key) for key, amount in (("basic", "1"), ("pro", "2")))
    kit = kit_of(basic, pro)
    message = refused(kit, "acme")
    kit.subscribe("acme", prices=["pro"])

    assert "--price basic or --price pro" in message
    assert [["pro"]] == subscriptions()
    assert "billed twice" in refused(kit, "globex", prices=["basic", "pro"])
    assert "moves it" in refused(kit, "acme", prices=["basic"])


WRONG = {
    "no plan": ({}, "--plan basic, --plan pro"),
    "unknown plan": ({"plan": "gold"}, "only basic, pro"),
    "plan and prices": ({"plan": "pro", "prices": ["a"]}, "not both"),
    "currency": ({"plan": "pro", "currency": "eur"}, "only in usd"),
    "currency of a price": ({"prices": ["a"], "currency": "eur"}, "a price has its own"),
    "too many": ({"prices": [f"key{number}" for number in range(21)]}, "at most 20"),
}


@pytest.mark.parametrize("choice", WRONG)
def test_a_wrong_choice_asks_stripe_nothing(kit_of, choice, stripe):
    """And the message says what there is to choose."""
    options, message = WRONG[choice]

    assert message in refused(kit_of(plans=[BASIC, PRO], provisioned=False), "acme", **options)
    assert [] == stripe.requests


def test_a_plan_that_costs_nothing(kit_of):
    """There is nothing to subscribe to, and default_plan= is what was meant."""
    kit = kit_of(plans=[Plan("free", features={"export"})], provisioned=False)

    assert "default_plan='free'" in refused(kit, "acme", plan="free")


def test_prices_that_do_not_fit_together(kit_of):
    """Said before a customer is made."""
    euros = Price.per_unit(EGRESS, "1", currency="eur")
    weekly = Price.per_unit(EGRESS, "1", interval="week")

    assert "more than one currency (eur, usd)" in refused(kit_of(CHEAP, euros, provisioned=False), "acme")
    assert "more than one interval (month, week)" in refused(kit_of(CHEAP, weekly, provisioned=False), "acme")


def test_a_price_that_is_not_provisioned(kit_of, api):
    """No customer is left without a subscription."""
    with pytest.raises(ConfigurationError, match="run meterkit provision first"):
        kit_of(plans=[BASIC], provisioned=False).subscribe("acme", plan="basic")

    assert [] == api.customers.list().data


def test_a_customer_with_the_email_is_not_made_again(kit_of, api, subscriptions):
    """Checkout has made it; a second one would have no card, and be billed beside it."""
    there = api.customers.create({"name": "Acme", "email": "billing@acme.example"}).id
    kit = kit_of(plans=[BASIC])
    message = refused(kit, "acme", plan="basic", email="billing@acme.example")
    before = subscriptions()
    kit.link("acme", there)
    result = kit.subscribe("acme", plan="basic", email="billing@acme.example")

    assert f"meterkit link acme {there}" in message
    assert ([], there) == (before, result.customer)
    assert [there] == [each.id for each in api.customers.list().data]


def test_a_customer_whose_metadata_name_the_company(kit_of, api):
    """It is the one that was meant, though no webhook has told of it."""
    there = api.customers.create({"email": "billing@acme.example", "metadata": {"company": "acme"}}).id
    result = kit_of(plans=[BASIC]).subscribe("acme", plan="basic", email="billing@acme.example")

    assert there == result.customer


@pytest.mark.parametrize("company", ["acme", "A\"c\\me's"])
def test_a_customer_that_the_ledger_has_not_read(kit_of, api, company):
    """It is found by its metadata, without an e-mail address."""
    customer = api.customers.create({"metadata": {"company": company}}).id
    api.customers.create({"metadata": {"company": "globex"}})
    found = kit_of(plans=[BASIC]).subscribe(company, plan="basic")

    assert (customer, 2) == (found.customer, len(api.customers.list({}).data))


def test_two_customers_that_name_the_company(kit_of, api, subscriptions):
    """Which one pays is for the owner to say."""
    for _ in range(2):
        api.customers.create({"metadata": {"company": "acme"}})

    assert "meterkit link acme cus_" in refused(kit_of(plans=[BASIC]), "acme", plan="basic")
    assert [] == subscriptions()


def test_another_plan_is_refused_with_the_cure(kit_of, subscriptions):
    """It would be billed beside the one that the company has."""
    kit = kit_of(plans=[BASIC, Plan("pro", fee="20.00", prices=[CHEAP])])
    kit.subscribe("acme", plan="basic")

    assert "meterkit move --plan basic --to pro --company acme" in refused(kit, "acme", plan="pro")
    assert [list(BASIC.lookup_keys())] == subscriptions()


def test_an_earlier_version_is_refused_with_the_cure(kit_of):
    """The amounts in the code have changed since."""
    kit_of(plans=[BASIC]).subscribe("acme", plan="basic")
    message = refused(kit_of(plans=[Plan("basic", prices=[CHEAP])]), "acme", plan="basic")

    assert "an earlier version of the plan 'basic'" in message
    assert "meterkit move --plan basic --to basic" in message


def test_another_interval_is_a_subscription_of_its_own(kit_of, subscriptions, api):
    """A yearly licence goes on beside it, and is not billed again."""
    kit = kit_of(plans=[BASIC])
    customer = api.customers.create({"metadata": {"company": "acme"}}).id
    yearly = api.prices.create(
        {"currency": "usd", "unit_amount": 100, "recurring": {"interval": "year"}, "product_data": {"name": "Licence"}}
    )
    api.subscriptions.create({"customer": customer, "items": [{"price": yearly.id}]})
    kit.link("acme", customer)
    kit.subscribe("acme", plan="basic")

    assert [["None"], list(BASIC.lookup_keys())] == sorted(subscriptions())


def test_a_plan_in_the_customers_currency(kit_of, api, subscriptions):
    """Stripe lets a customer have subscriptions in one currency."""
    euros = Amounts(prices=[Price.per_unit(CALLS, "1.50", currency="eur")])
    plan = Plan("basic", prices=[CHEAP], currencies={"eur": euros})
    kit = kit_of(plans=[plan])
    kit.subscribe("globex", plan="basic", currency="eur")
    customer = api.customers.create({"metadata": {"company": "acme"}}).id
    yearly = api.prices.create(
        {"currency": "eur", "unit_amount": 100, "recurring": {"interval": "year"}, "product_data": {"name": "Licence"}}
    )
    api.subscriptions.create({"customer": customer, "items": [{"price": yearly.id}]})
    kit.link("acme", customer)
    kit.subscribe("acme", plan="basic")

    assert 2 == sum(keys == list(plan.lookup_keys("eur")) for keys in subscriptions())


def test_a_refusal_of_stripe_is_not_told_to_be_repeated(kit_of, stripe):
    """It would be refused again."""
    kit = kit_of(plans=[BASIC])
    with pytest.raises(StripeFailedError) as caught:
        kit.subscribe("acme", plan="basic", email="a" * 600 + "@acme.example")

    assert "run it again" not in str(caught.value)


def test_what_is_missing_is_added_to_a_subscription_that_runs(kit_of, subscriptions, api, writes):
    """Checkout has made it, with a base fee; twice, it changes nothing."""
    kit = kit_of(plans=[BASIC])
    customer = api.customers.create({"metadata": {"company": "acme"}}).id
    base = api.prices.create(
        {"currency": "usd", "unit_amount": 100, "recurring": {"interval": "month"}, "product_data": {"name": "Base"}}
    )
    there = api.subscriptions.create({"customer": customer, "items": [{"price": base.id}]}).id
    kit.link("acme", customer)
    added = kit.subscribe("acme", plan="basic")
    before = writes()
    again = kit.subscribe("acme", plan="basic")

    assert (there, False, BASIC.lookup_keys()) == (added.subscription, added.is_new, added.added)
    assert (there, False, ()) == (again.subscription, again.is_new, again.added)
    assert [["None", *BASIC.lookup_keys()]] == subscriptions()
    assert before == writes()


def test_a_price_that_the_kit_has_got_since(kit_of, subscriptions):
    """It joins the others on the subscription."""
    first = kit_of(CHEAP).subscribe("acme")
    second = kit_of(CHEAP, Price.per_unit(EGRESS, "0.10")).subscribe("acme")

    assert (first.subscription, ("meterkit:egress:usd:month",)) == (second.subscription, second.added)
    assert [[KEY, "meterkit:egress:usd:month"]] == subscriptions()


def test_a_trial(kit_of, api):
    """Once: who comes back has had it."""
    kit = kit_of(plans=[PRO])
    first = api.subscriptions.retrieve(kit.subscribe("acme", plan="pro").subscription)
    api.subscriptions.cancel(first.id)
    second = api.subscriptions.retrieve(kit.subscribe("acme", plan="pro").subscription)

    assert ("trialing", 14 * 24 * 3600) == (first.status, first.trial_end - first.trial_start)
    assert ("active", None) == (second.status, second.trial_end)


def test_nothing_is_added_to_a_subscription_that_is_to_end(kit_of, api):
    """The company would have no subscription after that."""
    kit = kit_of(plans=[BASIC])
    customer = api.customers.create({"metadata": {"company": "acme"}}).id
    base = api.prices.create(
        {"currency": "usd", "unit_amount": 100, "recurring": {"interval": "month"}, "product_data": {"name": "Base"}}
    )
    ending = api.subscriptions.create({"customer": customer, "items": [{"price": base.id}]}).id
    api.subscriptions.update(ending, {"cancel_at_period_end": True})
    kit.link("acme", customer)
    found = kit.subscribe("acme", plan="basic")

    assert (True, True) == (found.is_new, found.subscription != ending)


def test_a_subscription_with_many_items(kit_of, api):
    """The eleventh is looked at as well."""
    meters = [Meter(f"meter_{number}") for number in range(12)]
    prices = [Price.per_unit(meter, "1") for meter in meters]
    kit = kit_of(prices=prices, meters=meters)
    first, second = kit.subscribe("acme"), kit.subscribe("acme")

    assert (True, False, ()) == (first.is_new, second.is_new, second.added)
