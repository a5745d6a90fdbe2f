"""A company id that looks like a Stripe customer's: whoever can choose it is not to have that customer pay."""

from __future__ import annotations

import json
from dataclasses import replace
from inspect import signature

import pytest
from guard import GUARD
from plain_exchange import PlainExchange
from stripe_account import api
from test_standing import CUSTOMER, INVOICE

from meterkit import ConfigurationError, Governance, Meter, MeterKit, Price, UsageError

CALLS = Meter("calls")
HOUR = 3600


def make_customer(sandbox):
    return api(sandbox).customers.create({"name": "Victim"}).id


@pytest.fixture
def victim(stripe):
    """A customer of Stripe, as whose id a tenant has signed up."""
    return make_customer(stripe)


@pytest.fixture
def make(make_kit, stripe):
    """A function that makes kits as users do who do not know of the option."""

    def make(**options):
        defaults = {"customer_ids": False, "stripe_key": stripe.api_key, "stripe_base": stripe.url}
        return make_kit(CALLS, **{**defaults, **options})

    return make


def test_a_tenant_who_signs_up_as_a_customer_pays_alone(make, stripe, victim, clock):
    """Its usage waits for a link, as anybody's does, and goes to whom the link names."""
    kit = make()
    kit.record(CALLS, victim, 50)
    clock.advance(HOUR)
    before = kit.report()
    waiting = kit.health()
    own = make_customer(stripe)
    kit.link(victim, own)
    kit.report()

    assert (0, 50) == (before.sent, waiting["books"]["calls"]["unlinked"])
    assert "kit.link" in " ".join(waiting["attention"])
    assert (0, 50) == (stripe.usage("calls", victim), stripe.usage("calls", own))
    assert [(victim, own)] == [(row.company, row.customer) for row in kit.usage()]


def test_where_the_kit_says_so_it_is_the_customer(make, stripe, victim, clock):
    """And can have no link, which says why."""
    kit = make(customer_ids=True)
    kit.record(CALLS, victim, 50)
    clock.advance(HOUR)
    kit.report()

    assert 50 == stripe.usage("calls", victim)
    with pytest.raises(UsageError, match="customer_ids=True") as refused:
        kit.link(victim, make_customer(stripe))
    assert "company_is_customer" == refused.value.reason


@pytest.mark.parametrize("customer_ids", [False, True])
def test_what_a_tenant_sees_and_what_blocks_it(make, victim, clock, customer_ids):
    """The standing and the invoices of the customer of that name are its own only where the kit says so."""
    kit = make(
        customer_ids=customer_ids,
        prices=[Price.per_unit(CALLS, "1.00")],
        identify=lambda exchange: exchange.headers["x-company"],
        governance=Governance(overdue_days=0),
        customer_page="/usage",
    )
    accounts = kit.process().accounts()
    with kit.process().database().transaction() as connection:
        accounts.put(connection, replace(CUSTOMER, id=victim))
        accounts.put(connection, replace(INVOICE, customer=victim, due_at=int(clock()) - HOUR))
    kit.link("acme", victim)
    kit.governor.begin()
    assert kit.governor.ready.wait(GUARD)
    kit.flush()
    page = json.loads(kit.page.respond(published(kit, victim, "/usage")).body)
    blocked = [kit.governor.check(published(kit, company)) is not None for company in (victim, "acme")]

    assert ("overdue" if customer_ids else "unknown", customer_ids) == (page["standing"], page["overdue"] is not None)
    assert [customer_ids, True] == blocked


def published(kit, company, path="/"):
    exchange = PlainExchange("GET", path, headers={"x-company": company})
    exchange.publish(kit)
    return exchange


def test_only_yes_or_no(make):
    """The environment's words are none."""
    with pytest.raises(ConfigurationError, match="True or False"):
        make(customer_ids="no")
    assert False is signature(MeterKit).parameters["customer_ids"].default


@pytest.mark.parametrize("customer", ["acme-gmbh-1", "acct_1SGpGA2eZvKYlo2C", "acme"])
def test_an_id_that_stripe_has_not_made(make, stripe, customer, clock):
    """Older customers have ids that were chosen; usage goes out under them."""
    kit = make(find_customer={"globex": customer}.get)
    kit.link("acme", customer)
    kit.record(CALLS, "acme", 50)
    kit.record(CALLS, "globex", 30)
    clock.advance(HOUR)
    kit.report()

    sent = [each.params["payload"] for each in stripe.requests if each.path == "/v1/billing/meter_events"]
    assert {customer} == {row.customer for row in kit.usage()}
    assert [customer] * 2 == [each["stripe_customer_id"] for each in sent]


def test_company_and_customer_exchanged(make, victim):
    """Since any id may be a customer's, this is the mistake that can still be told."""
    with pytest.raises(UsageError, match="exchange them"):
        make().link(victim, "acme")
