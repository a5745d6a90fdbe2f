"""Usage that has a price by its values: what it costs, to the cent, and what has no price."""

from __future__ import annotations

import contextlib
import random
import threading
from datetime import datetime, timezone
from decimal import ROUND_HALF_UP, Decimal

import pytest
from followed_account import api, stripe  # noqa: F401 - fixtures
from guard import GUARD
from plain_exchange import PlainExchange

from meterkit import Governance, Meter, Price, UsageError

HOUR = 3600
DAY = 24 * HOUR

TOKENS = Meter("tokens", http=False, by=("model", "kind"))
SMALL = {"small": "0.10", "large": "2.50"}


@pytest.fixture
def rating_kit(make_following_kit):
    """A function that makes kits with one price by model, which Stripe has, and a subscription of acme."""

    def make(prices=SMALL, *, company="acme", **options):
        terms = {"per": 1_000_000, **options.pop("price", {})}
        price = Price.by(TOKENS, "model", prices, **terms)
        kit = make_following_kit(meters=[TOKENS], prices=[price], **options)
        kit.provision()
        kit.subscribe(company)
        kit.sync()
        return kit

    return make


@pytest.fixture
def ledger():
    """Where the ledger is kept: in the directory of the journal."""
    return


@pytest.fixture
def make_following_kit(make_kit, stripe, ledger):
    """A function that makes kits which ask the sandbox, with their own meters."""

    def make(*, meters, **options):
        return make_kit(*meters, ledger=ledger, stripe_key=stripe.api_key, stripe_base=stripe.url, **options)

    return make


def use(kit, quantity, model="small", *, company="acme", kind="input", **about):
    """Count *quantity* tokens."""
    kit.record("tokens", company, quantity, dimensions={"model": model, "kind": kind}, **about)


def cents(amount):
    """An exact amount as Stripe rounds it: half up."""
    return int((amount * 100).quantize(Decimal(1), rounding=ROUND_HALF_UP))


def finish(kit, clock, api):
    """Let the billing period end, and return the total of its invoice in cents."""
    kit.report()
    clock.advance(29 * DAY)
    kit.report()
    clock.advance(4 * DAY)
    (customer,) = api.customers.list().data
    cycles = [each for each in api.invoices.list({"customer": customer.id}).data if each.status != "draft"]
    return ([each.total for each in cycles if each.billing_reason == "subscription_cycle"] or [0])[-1]


def values(kit):
    """Company, model, units and exact amount of all that was rated this month."""
    return [(each.company, each.values.get("model"), each.quantity, each.amount) for each in kit.rated()]


def amounts(api, kit):
    """What Stripe has been sent, in millionths, by company."""
    return {row.customer: row.stripe for row in kit.reconcile()}


def test_five_hundred_models_to_the_cent(rating_kit, api, clock):
    """One line in Stripe, and equal to the exact sum of all amounts; as the preview said it would be."""
    chance = random.Random(7)
    prices = {f"model-{number}": f"{chance.randrange(1, 10**6)}e-5" for number in range(500)}
    kit = rating_kit(prices)
    exact = Decimal(0)
    for hour in range(6):
        for model in chance.sample(sorted(prices), 200):
            quantity = chance.randrange(1, 5_000)
            use(kit, quantity, model)
            exact += quantity * Decimal(prices[model]) / 1_000_000
        kit.flush()
        if hour % 2:
            kit.report(include_open=True)
        clock.advance(HOUR)
    (preview,) = kit.preview("acme")

    assert 5 < exact
    assert cents(exact) == int(preview.total * 100)
    assert cents(exact) == finish(kit, clock, api)
    assert [] == kit.health()["attention"]


def test_fractions_of_millionths_are_not_lost(rating_kit, api, clock):
    """A hundred flushes of nine tenths of a millionth are 90, and what is below one goes on to the next report."""
    kit = rating_kit()
    for _ in range(100):
        use(kit, 9)
        kit.flush()
    use(kit, 5)
    kit.report(include_open=True)
    first = list(amounts(api, kit).values())
    use(kit, 5)
    kit.report(include_open=True)

    assert ([90], [91]) == (first, list(amounts(api, kit).values()))


def test_a_half_cent_is_rounded_as_the_exact_sum(rating_kit, api, clock):
    """0.0049999 is 0.00, and 0.005 is 0.01: the millionths are rounded down."""
    kit = rating_kit({"small": "4999.9", "large": "0.1"})
    use(kit, 1)
    kit.report(include_open=True)

    assert [Decimal("0.00")] == [each.total for each in kit.preview("acme")]

    use(kit, 1, "large")
    kit.report(include_open=True)

    assert [Decimal("0.01")] == [each.total for each in kit.preview("acme")]
    assert 1 == finish(kit, clock, api)


def test_units_are_not_reported(rating_kit, stripe, api, clock):
    """Stripe has one meter, of the amounts; the ledger has both, and the books balance."""
    kit = rating_kit()
    use(kit, 3_000_000)
    use(kit, 1_000_000, "large")
    kit.report(include_open=True)
    books = kit.health()["books"]

    assert ["tokens_usd_millionths"] == [each.event_name for each in api.billing.meters.list().data]
    assert [2_800_000] == list(amounts(api, kit).values())
    assert (4_000_000, 2_800_000) == (books["tokens"]["nonbillable"], books["tokens_usd_millionths"]["sent"])
    assert all(each["balanced"] for each in books.values())
    assert [
        ("acme", "large", 1_000_000, Decimal("2.5")),
        ("acme", "small", 3_000_000, Decimal("0.3")),
    ] == values(kit)
    assert {"tokens": 4_000_000, "tokens_usd_millionths": 2_800_000} == {
        meter: sum(each.quantity for each in kit.usage(meter=meter)) for meter in kit.meters
    }


def test_a_rate_stays_when_the_table_changes(rating_kit, api, clock):
    """What was counted before keeps it, reported or not, also after another process takes over."""
    kit = rating_kit()
    use(kit, 1_000_000)
    kit.report(include_open=True)
    use(kit, 1_000_000)
    kit.flush()
    kit.close()
    kit = rating_kit({"small": "9.00"})
    use(kit, 1_000_000)

    assert 920 == finish(kit, clock, api)
    assert [Decimal("0.2"), Decimal(9)] == sorted(each.amount for each in kit.rated(month="2026-03"))


def test_what_has_no_price_is_named(rating_kit, api, clock):
    """It is counted and not blocked, and neither free nor billed."""
    kit = rating_kit()
    use(kit, 7, "new")
    use(kit, 1_000_000)
    kit.report(include_open=True)
    (said,) = kit.health()["attention"]

    assert "7 tokens of one company have no price" in said
    assert "model new, kind input" in said or "kind input, model new" in said
    assert [("acme", "new", 7, None), ("acme", "small", 1_000_000, Decimal("0.1"))] == values(kit)
    assert 10 == finish(kit, clock, api)


def test_a_free_value(rating_kit, api, clock):
    """An entry of 0 is a price, and nothing is named."""
    kit = rating_kit({"small": "0"})
    use(kit, 7)
    kit.report(include_open=True)

    assert [] == kit.health()["attention"]
    assert 0 == finish(kit, clock, api)


@pytest.mark.parametrize("is_reported", [False, True])
def test_a_correction_takes_back_what_it_cost(rating_kit, api, clock, is_reported):
    """At the rate that the units had, not at that of today."""
    kit = rating_kit()
    use(kit, 3_000_000)
    use(kit, 1_000_000, "large")
    if is_reported:
        kit.report(include_open=True)
    at = datetime.fromtimestamp(clock(), timezone.utc)
    kit.close()
    kit = rating_kit({"small": "50", "large": "50"})
    kit.correct("tokens", "acme", 1_000_000, at=at, dimensions={"model": "small", "kind": "input"})
    kit.report(include_open=True)

    assert [2_700_000] == list(amounts(api, kit).values())
    assert all(each["balanced"] for each in kit.health()["books"].values())
    assert 270 == finish(kit, clock, api)


def test_a_correction_of_all(rating_kit, api, clock):
    """Nothing is left of the hour, whatever its values were."""
    kit = rating_kit()
    use(kit, 3)
    use(kit, 1, "large")
    use(kit, 5, "new")
    kit.report(include_open=True)
    kit.correct("tokens", "acme", 9, at=datetime.fromtimestamp(clock(), timezone.utc))

    assert [] == values(kit)
    assert 0 == finish(kit, clock, api)


def test_a_correction_that_is_refused(rating_kit, clock):
    """It is not clear what the units have cost, or there are fewer; nothing was changed."""
    kit = rating_kit()
    use(kit, 3)
    use(kit, 1, "large")
    at = datetime.fromtimestamp(clock(), timezone.utc)

    with pytest.raises(UsageError, match="dimensions="):
        kit.correct("tokens", "acme", 2, at=at)
    with pytest.raises(UsageError, match=r"only [03] of 4"):
        kit.correct("tokens", "acme", 4, at=at, dimensions={"model": "small", "kind": "input"})
    assert 2 == len(values(kit))


def test_usage_from_before_the_price(make_following_kit, rating_kit, api, clock, stripe):
    """Units that were counted as units stay units, and are not billed twice."""
    before = make_following_kit(meters=[TOKENS], prices=[Price.per_unit(TOKENS, "0.01")])
    before.provision()
    before.subscribe("acme")
    use(before, 100)
    before.report(include_open=True)
    before.close()
    kit = rating_kit()
    use(kit, 1_000_000)
    kit.report(include_open=True)

    assert {"tokens": 100, "tokens_usd_millionths": 100_000} == {row.meter: row.stripe for row in kit.reconcile()}


def test_included_spending(make_following_kit, api, clock):
    """A plan may include an amount, whichever values it is used for."""
    from meterkit import Plan

    price = Price.by(TOKENS, "model", SMALL, per=1_000_000)
    plan = Plan("pro", fee="20.00", prices=[price], includes={price.meter: 5_000_000})
    kit = make_following_kit(meters=[TOKENS], plans=[plan], default_plan="pro")
    kit.provision()
    kit.subscribe("acme", plan="pro")
    kit.sync()
    use(kit, 4_000_000, "large")
    kit.report(include_open=True)

    assert [Decimal("25.00")] == [each.total for each in kit.preview("acme")]
    assert 2500 == finish(kit, clock, api)


def test_a_simulation(rating_kit, clock):
    """A month's usage under another table, beside what it costs now; what has no price is not hidden."""
    kit = rating_kit()
    use(kit, 3_000_000)
    use(kit, 10, "new")
    kit.report(include_open=True)
    other = Price.by(TOKENS, "model", {"small": "7", "n*": "1"}, per=10)
    (bill,) = kit.simulate(former=[other])

    assert (Decimal("2100001.00"), Decimal("0.30")) == (bill.old, bill.new)
    assert {"tokens": 10} == bill.unpriced


def test_two_kits_rate_the_usage_of_one_company(rating_kit, make_following_kit, api, clock):
    """At the same time: fractions of a millionth that each has counted add up."""
    first = rating_kit()
    price = Price.by(TOKENS, "model", SMALL, per=1_000_000)
    second = make_following_kit(meters=[TOKENS], prices=[price])

    def work(kit):
        for _ in range(20):
            use(kit, 3)
            use(kit, 10**10, "large", user="ann")
            kit.flush()

    threads = [threading.Thread(target=work, args=[kit]) for kit in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first.report(include_open=True)

    assert [40 * 25_000 * 10**6 + 12] == list(amounts(api, first).values())
    assert all(each["balanced"] for each in first.health()["books"].values())


@pytest.mark.parametrize("bill", ["amount", "lines"])
def test_a_spending_cap_and_the_statement(rating_kit, bill):
    """They know what usage costs, whichever values it has."""
    kit = rating_kit(price={"bill": bill}, identify=lambda _: "acme", governance=Governance(spending_cap="3.00"))
    kit.governor.begin()
    assert kit.governor.ready.wait(GUARD)
    use(kit, 1_000_000, "large")
    kit.flush()
    (of_amounts,) = [each for each in kit.statement("acme")["meters"] if each["meter"] == "tokens_usd_millionths"]
    before = answer(kit)
    use(kit, 1_000_000, "large")
    kit.flush()

    assert 2_500_000 == of_amounts["used"]
    assert ["5.00"] == [each["total"] for each in kit.statement("acme")["invoices"]]
    assert (None, 402) == (before, answer(kit).status)


def answer(kit):
    """What a request is answered with that is blocked; None if it passes."""
    exchange = PlainExchange("GET", "/anything")
    exchange.publish(kit)
    return kit.governor.check(exchange)


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("at", range(3))
@pytest.mark.parametrize("after", [False, True])
def test_a_kill_within_a_fold(rating_kit, api, clock, monkeypatch, at, after):
    """It has rated all of its usage, or none; what a dead process has counted is rated once."""
    from meterkit.ledger.rating import rows

    kit = rating_kit()
    use(kit, 3_000_000)
    use(kit, 1, "large")
    add_to, calls = rows.add_to, []

    def killed(*arguments, **options):
        calls.append(arguments)
        if after:
            add_to(*arguments, **options)
        if len(calls) > at:
            raise Killed
        if not after:
            add_to(*arguments, **options)

    with monkeypatch.context() as context, contextlib.suppress(Killed):
        context.setattr(rows, "add_to", killed)
        kit.flush()
    kit.flush()
    kit.report(include_open=True)

    assert [300_002] == list(amounts(api, kit).values())
    assert all(each["balanced"] for each in kit.health()["books"].values())


def test_retention(rating_kit, api, clock):
    """Old rates are deleted with their usage; what has no price yet stays, and is named."""
    kit = rating_kit(keep_days=70)
    use(kit, 3_000_000)
    use(kit, 5, "new")
    kit.report(include_open=True)
    clock.advance(80 * DAY)
    kit.report()

    assert [] == kit.usage()
    assert [("new", 5)] == [(each.values["model"], each.quantity) for each in kit.rated(month="2026-03")]
    assert all(each["balanced"] for each in kit.health()["books"].values())
