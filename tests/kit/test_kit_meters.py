"""Meters that only ``record()`` counts for, and meters of which Stripe never hears."""

from __future__ import annotations

import json
from datetime import datetime, timezone

import pytest
from plain_exchange import PlainExchange, counted, serve
from stripe_account import api

from meterkit import ConfigurationError, Governance, Meter, Price, Quota, maximum, response_json, unique

DAY = 24 * 3600
CALLS = Meter("calls", path="/v1/*")
JOBS = Meter("jobs", http=False)
COST = Meter("upstream_cost", value="micros", billable=False)


def acme(_exchange):
    return "acme"


def test_a_meter_for_record_only(make_kit):
    """No exchange counts for it; what is recorded does."""
    seats = Meter("seats", http=False, value=maximum("seats"))
    kit = make_kit(JOBS, seats, CALLS, identify=acme)
    serve(kit, PlainExchange(path="/login"))
    serve(kit, PlainExchange(path="/v1/a"))
    kit.record("jobs", "acme", 3)
    kit.record("seats", "acme", 7)

    assert {("calls", "acme"): 1, ("jobs", "acme"): 3, ("seats", "acme"): 7} == counted(kit)
    assert {"GET /login": 1} == kit.health()["unmatched"]


@pytest.mark.parametrize(
    "options",
    [
        {"path": "/v1/*"},
        {"route": "/items/{id}"},
        {"method": "POST"},
        {"when": bool},
        {"status": "*"},
        {"value": "tokens"},
        {"value": response_json("rows")},
    ],
    ids=lambda options: next(iter(options)),
)
def test_filters_of_a_meter_for_record_only(options):
    """They would do nothing."""
    (name,) = options
    with pytest.raises(ConfigurationError, match=f"so {name}= would do nothing; remove that, or remove http=False"):
        Meter("jobs", http=False, **options)


def test_a_quota_that_would_block_nothing(make_kit):
    """No request counts for the meter, so none would be blocked."""
    with pytest.raises(ConfigurationError, match="use check= to block requests by what was recorded"):
        make_kit(JOBS, identify=lambda _: "acme", governance=Governance(quotas=[Quota(JOBS, 10)]))


@pytest.mark.parametrize(
    ("meters", "expected"),
    [
        ([Meter("calls"), Meter("jobs")], []),
        ([CALLS, Meter("jobs")], ["jobs"]),
        ([Meter("a"), Meter("b"), Meter("users", value=unique("user"))], ["a", "b"]),
        ([CALLS, Meter("jobs", path="*")], []),
        ([CALLS, JOBS], []),
        ([Meter("calls"), JOBS], []),
    ],
)
def test_a_meter_that_counts_everything_beside_others(make_kit, caplog, meters, expected):
    """It may be meant for record() only; the log says so once, with both cures."""
    make_kit(*meters)
    warnings = [
        record.getMessage() for record in caplog.records if "every successful exchange counts" in record.message
    ]

    assert bool(expected) == bool(warnings)
    assert all(f"Meter({name!r})" in warnings[0] for name in expected)
    assert all("add http=False" in each and 'add path="*"' in each for each in warnings)


@pytest.fixture
def billed(make_kit, stripe, customer, impatient):
    """A kit with a meter that is reported, and one that is not."""

    def make(*more, **options):
        kit = make_kit(CALLS, COST, *more, stripe_key=stripe.api_key, stripe_base=stripe.url, identify=acme, **options)
        kit.link("acme", customer)
        return kit

    return make


def books(kit, meter):
    return {place: quantity for place, quantity in kit.health()["books"][meter].items() if quantity}


def test_stripe_never_hears_of_a_meter_that_is_not_billable(billed, stripe, clock):
    """The ledger keeps its usage, as often as it is folded and reported; the books balance."""
    users = Meter("users", value=unique("user"), billable=False)
    kit = billed(users)
    for number in range(3):
        kit.record("upstream_cost", "acme", 100, user="ada")
        kit.record("upstream_cost", "cus_unknown", 1)
        kit.record("upstream_cost", "unlinked", 1)
        kit.record("users", "acme", user=f"user {number}")
        kit.record("calls", "acme", 1)
        kit.flush()
        clock.advance(1800)
        kit.report()
    clock.advance(3600)
    summary = kit.report()

    assert {("calls", 3)} == {("calls", stripe.usage("calls", stripe.meter_events[0].customer))}
    assert {"calls"} == {event.event_name for event in stripe.meter_events}
    usage = {}
    for row in kit.usage(meter="upstream_cost"):
        usage[row.company] = usage.get(row.company, 0) + row.quantity
        assert 0 == row.reported
    assert {"acme": 300, "cus_unknown": 3, "unlinked": 3} == usage
    assert {"counted": 306, "nonbillable": 306, "balanced": True} == books(kit, "upstream_cost")
    assert {"counted": 3, "nonbillable": 3, "balanced": True} == books(kit, "users")
    assert (0, []) == (summary.postponed, kit.health()["attention"])


def test_reversing_what_is_not_billable(billed, stripe, clock):
    """Stripe is told of nothing, neither then nor later."""
    kit = billed()
    kit.record("upstream_cost", "acme", 100)
    at = datetime.fromtimestamp(clock(), timezone.utc)
    kit.correct("upstream_cost", "acme", 30, at=at)
    clock.advance(7200)
    kit.report()

    assert [] == stripe.meter_events
    assert {"counted": 70, "nonbillable": 70, "balanced": True} == books(kit, "upstream_cost")


def test_what_is_not_billable_is_not_kept_for_ever(billed, clock):
    """``keep_days=`` holds for it, too, and the books balance."""
    kit = billed(keep_days=70)
    for user in range(600):
        kit.record("upstream_cost", "acme", 2, user=f"user {user}")
    clock.advance(69 * DAY)
    kit.record("upstream_cost", "acme", 5)
    clock.advance(2 * DAY)
    kit.report()

    assert [5] == [row.quantity for row in kit.usage()]
    assert {"counted": 5, "nonbillable": 5, "balanced": True} == books(kit, "upstream_cost")


def test_a_quota_on_what_is_not_billable(billed):
    """It holds as any."""
    kit = billed(governance=Governance(quotas=[Quota(COST, 10)]))
    kit.record("upstream_cost", "acme", 10)
    kit.flush()
    kit.flush()
    exchange = PlainExchange()
    exchange.publish(kit)
    answer = kit.governor.check(exchange)
    kit.recorder.refuse(exchange)

    assert 429 == answer.status


def test_no_customer_sees_it(billed, stripe):
    """Not on the customer page, and Stripe has no meter for it."""
    kit = billed(customer_page="/usage")
    kit.record("upstream_cost", "acme", 10)
    kit.flush()
    exchange = PlainExchange(path="/usage")
    exchange.publish(kit)
    page = json.loads(kit.page.respond(exchange).body)
    kit.recorder.refuse(exchange)
    kit.provision()

    assert ["calls"] == [each["meter"] for each in page["meters"]]
    assert "upstream_cost" not in json.dumps(page)
    assert {"calls"} == {meter.event_name for meter in api(stripe).billing.meters.list()}


def test_what_contradicts_it(make_kit):
    """An event name and a price are for what Stripe hears of."""
    with pytest.raises(ConfigurationError, match="billable=False reports nothing to Stripe; leave event_name= out"):
        Meter("cost", billable=False, event_name="cost")
    with pytest.raises(ConfigurationError, match="remove the price, or billable=False"):
        make_kit(COST, prices=[Price.per_unit(COST, "1")])
