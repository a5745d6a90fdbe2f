"""Subscriptions move to other prices: each at once, and what was used before is billed at the old price."""

from __future__ import annotations

from decimal import Decimal

import pytest
import thorough
from fake_clock import NOON
from stripe_types import wrong_requests

from meterkit import Amounts, Meter, MeterKit, Plan, Price, StripeFailedError, UsageError
from meterkit.sandbox import Sandbox

pytestmark = pytest.mark.long

DAY = 24 * 3600
CALLS, EGRESS = Meter("calls"), Meter("egress")
CHEAP, DEAR = Price.per_unit(CALLS, "1.00"), Price.per_unit(CALLS, "2.00")
OLD, NEW = Plan("pro", prices=[CHEAP]), Plan("pro", prices=[DEAR])
BASIC = Plan("basic", prices=[CHEAP], fee="10.00")
GOLD = Plan("gold", prices=[DEAR, Price.per_unit(EGRESS, "0.10")], fee="30.00")
KEY = "meterkit:calls:usd:month"


@pytest.fixture
def kit_of(stripe, tmp_path):
    """A function that makes kits of one ledger, on the account's clock, and provisions them."""
    kits = []

    def kit_of(*plans, **options):
        kit = MeterKit(
            meters=[CALLS, EGRESS],
            plans=plans,
            data_dir=tmp_path / "meterkit",
            stripe_key=stripe.api_key,
            stripe_base=stripe.url,
            clock=lambda: stripe.now,
            **options,
        )
        kits.append(kit)
        kit.provision()
        return kit

    yield kit_of
    for kit in kits:
        kit.close()


def prices_of(api, subscription):
    """The lookup keys of a subscription's prices."""
    return sorted(str(item.price.lookup_key) for item in api.subscriptions.retrieve(subscription)["items"].data)


def totals(api):
    """The totals of all invoices that are not empty, in cents."""
    return sorted(invoice.total for invoice in api.invoices.list({"limit": 100}).data if invoice.total)


def states(moves):
    return [(move.companies, move.state) for move in moves]


def test_usage_is_billed_at_the_price_of_its_time(kit_of, stripe, api):
    """The open hour is reported first, so that it is before the move for Stripe as well."""
    kit = kit_of(OLD)
    subscription = kit.subscribe("acme", plan="pro").subscription
    stripe.advance(seconds=DAY)
    kit.record(CALLS, "acme", 100)
    stripe.advance(seconds=60)
    kit.close()
    kit = kit_of(NEW)
    moves = kit.move(plan="pro", to="pro")
    stripe.advance(seconds=DAY)
    kit.record(CALLS, "acme", 10)
    kit.report(include_open=True)
    stripe.advance(seconds=32 * DAY)

    assert [(("acme",), "moved")] == states(moves)
    assert sorted(NEW.lookup_keys()) == prices_of(api, subscription)
    assert [100_00 + 20_00] == totals(api)


def test_done_twice_it_changes_nothing(kit_of, writes):
    """There is nothing left to move."""
    kit_of(OLD).subscribe("acme", plan="pro")
    kit = kit_of(NEW)
    kit.move(plan="pro", to="pro")
    before = writes()

    assert [] == kit.move(plan="pro", to="pro")
    assert before == writes()


def test_a_dry_run_shows_both_amounts(kit_of, stripe, writes, api):
    """Of the last full month, with the fees."""
    kit = kit_of(BASIC, GOLD)
    subscription = kit.subscribe("acme", plan="basic").subscription
    kit.record(CALLS, "acme", 50)
    kit.record(EGRESS, "acme", 200)
    kit.report(include_open=True)
    stripe.advance(seconds=35 * DAY)
    before = writes()
    (move,) = kit.move(plan="basic", to="gold", dry_run=True)

    assert ("planned", Decimal("60.00"), Decimal("150.00"), "usd") == (move.state, move.old, move.new, move.currency)
    assert (set(BASIC.lookup_keys()), set(GOLD.lookup_keys())) == (set(move.leaves), set(move.takes))
    assert before == writes()
    assert sorted(BASIC.lookup_keys()) == prices_of(api, subscription)


def test_to_another_plan_and_back(kit_of, api):
    """What has no counterpart is added or removed; what Stripe remembers of the first move does no harm."""
    kit = kit_of(BASIC, GOLD)
    subscription = kit.subscribe("acme", plan="basic").subscription
    found = []
    for old, new in (("basic", "gold"), ("gold", "basic"), ("basic", "gold")):
        kit.move(plan=old, to=new)
        found.append(prices_of(api, subscription))

    assert [sorted(plan.lookup_keys()) for plan in (GOLD, BASIC, GOLD)] == found


KINDS = ["reset_before", "reset_after", "500", "500_after", "502", "502_after"]


@pytest.mark.parametrize("kind", thorough.first(["reset_after", "500"], among=KINDS))
def test_a_run_that_was_broken_off_is_continued(kit_of, stripe, api, kind):
    """Whatever became of the request in which it was."""
    kit = kit_of(OLD)
    subscriptions = [kit.subscribe(company, plan="pro").subscription for company in ("acme", "globex", "initech")]
    kit = kit_of(NEW)
    stripe.fail(kind, path=f"/v1/subscriptions/{subscriptions[1]}", times=10)
    with pytest.raises(StripeFailedError, match="run it again"):
        kit.move(plan="pro", to="pro")
    stripe.heal()
    kit.move(plan="pro", to="pro")

    assert [sorted(NEW.lookup_keys())] * 3 == [prices_of(api, each) for each in subscriptions]


def test_only_one_company(kit_of, api):
    """The others stay where they are."""
    kit = kit_of(OLD)
    acme, globex = (kit.subscribe(company, plan="pro").subscription for company in ("acme", "globex"))
    kit_of(NEW).move(plan="pro", to="pro", company="globex")

    assert (sorted(OLD.lookup_keys()), sorted(NEW.lookup_keys())) == (prices_of(api, acme), prices_of(api, globex))


def test_each_step_is_told(kit_of):
    """What will be done first, then each subscription that was moved."""
    kit_of(OLD).subscribe("acme", plan="pro")
    told = []
    kit_of(NEW).move(plan="pro", to="pro", on_plan=lambda moves: told.append(states(moves)), on_move=told.append)

    assert [(("acme",), "planned")] == told[0]
    assert ["moved"] == [move.state for move in told[1:]]


def test_classic_billing_mode_is_left(kit_of, api):
    """Stripe would not bill what was used before."""
    kit = kit_of(OLD)
    (price,) = api.prices.list({"lookup_keys": list(OLD.lookup_keys())}).data
    customer = api.customers.create({"metadata": {"company": "acme"}}).id
    subscription = api.subscriptions.create(
        {"customer": customer, "items": [{"price": price.id}], "billing_mode": {"type": "classic"}}
    ).id
    kit.sync()
    (move,) = kit_of(NEW).move(plan="pro", to="pro")

    assert ("left", sorted(OLD.lookup_keys())) == (move.state, prices_of(api, subscription))
    assert f"/v1/subscriptions/{subscription}/migrate" in move.why


def test_a_currency_that_the_new_plan_lacks(kit_of):
    """It is left where it is, which is said."""
    euros = Amounts(prices=[Price.per_unit(CALLS, "1.50", currency="eur")])
    kit_of(Plan("pro", prices=[CHEAP], currencies={"eur": euros})).subscribe("acme", plan="pro", currency="eur")
    (move,) = kit_of(NEW).move(plan="pro", to="pro")

    assert ("left", "eur") == (move.state, move.currency)
    assert "not sold in EUR" in move.why


def test_another_interval_is_left(kit_of):
    """Stripe would begin a period anew."""
    kit_of(OLD).subscribe("acme", plan="pro")
    (move,) = kit_of(Plan("pro", prices=[Price.per_unit(CALLS, "9.00", interval="year")])).move(plan="pro", to="pro")

    assert "another interval" in move.why


def test_from_a_price_to_the_one_that_has_replaced_it(kit_of, api):
    """A kit without plans: `provision` has given its lookup key to a new price."""
    old = kit_of(prices=[CHEAP]).subscribe("acme")
    kit = kit_of(prices=[DEAR])
    moves = kit.move(price=KEY, to=KEY)
    again = kit.subscribe("acme")

    assert [(("acme",), "moved")] == states(moves)
    assert [KEY] == prices_of(api, old.subscription)
    assert (old.subscription, False) == (again.subscription, again.is_new)


def test_from_a_price_by_its_id(kit_of, api):
    """As the refusal of `subscribe` says it."""
    old = kit_of(prices=[CHEAP]).subscribe("acme")
    kit = kit_of(prices=[DEAR])
    (item,) = api.subscriptions.retrieve(old.subscription)["items"].data
    kit.move(price=item.price.id, to=KEY, company="acme")

    assert [KEY] == prices_of(api, old.subscription)


def test_what_stripe_has_not_added_up_yet(tmp_path):
    """The customer is left for the next run: what Stripe adds up after a move is billed on no invoice."""
    with Sandbox(now=NOON, event_lag=60) as stripe:
        options = {"data_dir": tmp_path, "stripe_key": stripe.api_key, "stripe_base": stripe.url}
        old, new = (MeterKit(meters=[CALLS], plans=[plan], clock=lambda: stripe.now, **options) for plan in (OLD, NEW))
        old.provision()
        old.subscribe("acme", plan="pro")
        old.record(CALLS, "acme", 100)
        old.close()
        new.provision()
        first = new.move(plan="pro", to="pro")
        stripe.advance(seconds=90)
        second = new.move(plan="pro", to="pro")
        new.close()

        assert [] == wrong_requests(stripe)
    assert (["left"], "0 of 100 calls") == ([move.state for move in first], first[0].why[11:25])
    assert ["moved"] == [move.state for move in second]


def test_while_stripe_takes_no_usage(kit_of, stripe, api):
    """Nothing is moved before the open hour is reported."""
    kit = kit_of(OLD)
    subscription = kit.subscribe("acme", plan="pro").subscription
    kit.record(CALLS, "acme", 5)
    kit.close()
    stripe.fail("500", times=50)
    with pytest.raises(StripeFailedError, match="nothing was moved"):
        kit_of(NEW).move(plan="pro", to="pro")

    assert sorted(OLD.lookup_keys()) == prices_of(api, subscription)


WRONG = {
    "nothing": ({"to": "pro"}, "a plan or a price"),
    "both": ({"to": "pro", "plan": "pro", "price": "x"}, "a plan or a price"),
    "unknown plan": ({"to": "gold", "plan": "pro"}, "no plan 'gold'"),
    "nobody's plan": ({"to": "pro", "plan": "silver"}, "belongs to a plan 'silver'"),
    "unknown price": ({"to": KEY, "price": "nope"}, "no price with the lookup key or id"),
    "replaced none": ({"to": OLD.lookup_keys()[0], "price": OLD.lookup_keys()[0]}, "has replaced none"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_choice(kit_of, wrong):
    """The message says what there is."""
    options, message = WRONG[wrong]
    with pytest.raises(UsageError) as caught:
        kit_of(OLD).move(**options)

    assert message in str(caught.value)
