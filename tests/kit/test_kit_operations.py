"""What an operator asks of a kit in Python: the same as on the command line, with typed results."""

from __future__ import annotations

from datetime import datetime, timezone
from decimal import Decimal

import pytest
from fake_clock import NOON
from stripe_account import api
from stripe_types import wrong_requests

from meterkit import ConfigurationError, Meter, Price, Tier, UsageError
from meterkit.sandbox import Sandbox

HOUR = 3600
SCORES = Meter("credit_scores", path="/RetrieveCreditScore", method="POST", status=200)
PRICE = Price.graduated(
    SCORES, Tier(up_to=100, unit_price="5.00"), Tier(up_to=1_000, unit_price="3.00"), Tier(unit_price="2.00")
)
THEN = datetime.fromtimestamp(NOON + 300, timezone.utc)


@pytest.fixture
def stripe(clock):
    """An empty Stripe account, whose clock is the tests'."""
    with Sandbox(now=clock) as sandbox:
        yield sandbox
        assert [] == wrong_requests(sandbox)


@pytest.fixture
def kit(make_kit, stripe):
    """A kit with the classical price, and a key for the account."""
    return make_kit(SCORES, prices=[PRICE], stripe_key=stripe.api_key, stripe_base=stripe.url)


@pytest.fixture
def subscribed(kit):
    """The same, provisioned, with acme subscribed."""
    kit.provision()
    kit.subscribe("acme", name="Acme", email="billing@acme.example")
    return kit


def test_from_an_empty_account_to_an_invoice(kit, stripe, clock):
    """Provision, subscribe, record, report: 1,500 queries are 4,200.00."""
    planned = kit.provision(dry_run=True)
    untouched = api(stripe).products.list().data
    seen = []
    plan = kit.provision(on_plan=lambda plan: seen.append(len(plan.steps)), on_step=lambda step: seen.append(step.what))
    found = kit.subscribe("acme", name="Acme", email="billing@acme.example", days_until_due=14)
    again = kit.subscribe("acme")
    kit.record(SCORES, "acme", 1_500)
    clock.advance(HOUR)
    kit.report()
    stripe.advance(seconds=31 * 24 * HOUR)

    customer = api(stripe).customers.retrieve(found.customer)
    totals = [invoice.total for invoice in api(stripe).invoices.list({"customer": found.customer}).data]
    assert ([step.what for step in planned.steps], []) == ([step.what for step in plan.steps], untouched)
    assert [len(plan.steps), *(step.what for step in plan.changes)] == seen
    assert (found.customer, found.subscription, True, False) == (
        again.customer,
        again.subscription,
        found.is_new,
        again.is_new,
    )
    assert ("Acme", "billing@acme.example", "acme") == (customer.name, customer.email, customer.metadata["company"])
    assert 420_000 in totals
    assert [] == kit.provision().changes


def test_a_correction(subscribed, stripe, clock):
    """Of what Stripe has, a part is offset with the next report; it can be reconciled and explained."""
    subscribed.record("credit_scores", "acme", 1_500, at=THEN)
    clock.advance(HOUR)
    subscribed.report()
    found = subscribed.correct(SCORES, "acme", 500, at=THEN, reason="a load test")
    clock.advance(HOUR)
    subscribed.report()
    (compared,) = subscribed.reconcile(month="2026-03")
    explained = subscribed.explain("acme", SCORES)

    assert ("done", 500, "a load test") == (found.state, found.quantity, found.reason)
    assert 1_000 == stripe.usage("credit_scores", compared.customer)
    assert (("acme",), 1_000, 1_000, True) == (compared.companies, compared.ledger, compared.stripe, compared.agree)
    assert compared == subscribed.reconcile()[0]
    assert [""] == [each.error for each in explained]


@pytest.mark.parametrize("month", ["2026-03", "2026-04"])
def test_an_invoice_of_two_months_is_explained_as_a_whole(subscribed, stripe, clock, month):
    """The period begins at noon of 1 March and ends at noon of 1 April."""
    clock.advance(19 * 24 * HOUR)
    subscribed.record(SCORES, "acme", 100)
    clock.advance(11 * 24 * HOUR + 22 * HOUR)  # 1 April, ten past ten
    subscribed.record(SCORES, "acme", 50)
    clock.advance(HOUR)
    subscribed.report()
    clock.advance(3 * HOUR)
    subscribed.sync()

    explained = subscribed.explain("acme", SCORES, month=month)

    events = {each.invoice.billing_reason: [event.report.quantity for event in each.events] for each in explained}
    assert [100, 50] == events["subscription_cycle"]
    assert [""] * len(explained) == [each.error for each in explained]


@pytest.mark.parametrize(
    ("meter", "quantity", "at", "complaint"),
    [
        ("credit_score", 1, THEN, "this kit has no meter 'credit_score', only credit_scores"),
        (SCORES, 0, THEN, "quantity must be 1 or more units to reverse, not 0"),
        (SCORES, True, THEN, "quantity must be 1 or more units to reverse, not True"),
        (SCORES, 1, THEN.replace(tzinfo=None), "time zone"),
        (SCORES, 2_000, THEN, "of 2,000 units can be reversed"),
    ],
)
def test_a_correction_that_makes_no_sense(subscribed, stripe, clock, meter, quantity, at, complaint):
    """Nothing is reversed, and the message says why."""
    subscribed.record("credit_scores", "acme", 1_500, at=THEN)
    with pytest.raises(UsageError, match=complaint):
        subscribed.correct(meter, "acme", quantity, at=at, reason="x")
    clock.advance(HOUR)
    subscribed.report()

    (customer,) = api(stripe).customers.list().data
    assert 1_500 == stripe.usage("credit_scores", customer.id)


def test_what_was_rejected_is_retried(kit, stripe, clock):
    """All of it, or one event by its identifier, once the cause is gone."""
    kit.provision()
    for company in ("acme", "globex"):
        kit.link(company, "cus_unknown")
        kit.record(SCORES, company, 7, at=THEN)
    clock.advance(HOUR)
    kit.report()
    identifiers = [each["identifier"] for each in kit.health()["refused"]]
    customer = api(stripe).customers.create({"name": "Acme"}).id
    for company in ("acme", "globex"):
        kit.link(company, customer)
    retried = [kit.retry("mk_unknown"), kit.retry(identifiers[0]), kit.retry(), kit.retry()]
    kit.report()

    assert [0, 1, 1, 0] == retried
    assert 14 == stripe.usage("credit_scores", customer)
    assert not kit.decide("mk_unknown", arrived=True)


def test_other_prices(subscribed, clock):
    """A month's usage by the kit's prices, beside what it cost."""
    subscribed.record(SCORES, "acme", 1_500, at=THEN)
    clock.advance(HOUR)
    (found,) = subscribed.simulate(month="2026-03", former=[Price.per_unit(SCORES, "1.00")])

    assert (Decimal("1500.00"), Decimal("4200.00")) == (found.old, found.new)
    assert [] == subscribed.simulate(month="2026-01")


@pytest.mark.parametrize("month", ["2026-13", "march", "2026-3-1", ""])
def test_a_month_that_is_not_one(kit, month):
    """The message says how one is written."""
    for ask in (kit.reconcile, kit.simulate, lambda month: kit.explain("acme", SCORES, month=month)):
        with pytest.raises(UsageError, match="is not a month; write it as 2026-03"):
            ask(month=month)


def test_a_month_that_has_not_begun(kit):
    """There is nothing to compare."""
    with pytest.raises(UsageError, match="the month 2026-04 has not begun yet"):
        kit.reconcile(month="2026-04")


def test_a_file_of_the_past(kit, tmp_path):
    """It counts once, however often it is imported."""
    path = tmp_path / "usage.csv"
    path.write_text("meter,company,quantity,at\ncredit_scores,acme,7,2026-02-20T10:00:00Z\n")
    found = [kit.backfill(path), kit.backfill(str(path))]

    assert [(1, 1, 0), (1, 0, 1)] == [(each.rows, each.counted, each.known) for each in found]
    assert [7] == [row.quantity for row in kit.usage()]


def test_without_a_key(make_kit):
    """What needs Stripe says so; what does not, works."""
    kit = make_kit(SCORES, prices=[PRICE])
    kit.record(SCORES, "acme", 7)
    asks = (
        kit.provision,
        kit.retry,
        kit.reconcile,
        lambda: kit.subscribe("acme"),
        lambda: kit.decide("mk_1", arrived=True),
        lambda: kit.correct(SCORES, "acme", 1, at=THEN),
    )
    for ask in asks:
        with pytest.raises(ConfigurationError, match="STRIPE_SECRET_KEY"):
            ask()

    assert [7] == [each.quantity for each in kit.usage()]
    assert kit.explain("acme", SCORES)
