"""What a kit expects of a company: usage, cost, and when limits are reached."""

from __future__ import annotations

from decimal import Decimal

import pytest

from meterkit import Governance, Meter, Price, Quota, Tier, UsageError, maximum, unique
from meterkit.core.periods import month_of

DAY = 86_400
CALLS = Meter("calls", path="/calls")
EGRESS = Meter("egress", path="/files", billable=False)
PRICE = Price.graduated(CALLS, Tier(up_to=2000, unit_price="0.10"), Tier(unit_price="0.05"))


@pytest.fixture
def used(make_kit):
    """A function that makes kits, in which acme uses a hundred calls a day, and that it is noon of 15 March then."""

    def make(*meters, days=14, **options):
        kit = make_kit(*(meters or (CALLS, EGRESS)), **{"prices": [PRICE], "identify": lambda _: None, **options})
        for _ in range(days):
            kit.record("calls", "acme", 100)
            kit.clock.advance(DAY)
        kit.flush()
        return kit

    return make


def test_usage_and_cost(used):
    """With a range, by the prices of the kit."""
    found = used().forecast("acme")
    (calls,) = found.usage
    at_half_past_eleven_at_night = 1400 + 100 * (16 + (DAY - 43_800) / DAY)

    assert ("acme", month_of(found.as_of)) == (found.company, found.period)
    assert ("calls", 1400, round(at_half_past_eleven_at_night), "") == (
        calls.meter,
        calls.used,
        calls.expected,
        calls.unknown,
    )
    assert 1400 < calls.low < calls.expected < calls.high
    assert (Decimal(140), "usd") == (found.cost.so_far, found.cost.currency)
    assert found.cost.expected == 200 + (calls.expected - 2000) * Decimal("0.05")
    assert found.cost.low < found.cost.expected < found.cost.high == 200 + (calls.high - 2000) * Decimal("0.05")


def test_when_limits_are_reached(used):
    """Quotas of each kind of period but a day, and the cap; in the order of the kit."""
    quotas = [Quota(CALLS, 2000), Quota(CALLS, 1400, per="month"), Quota(CALLS, 101, per="day"), Quota(CALLS, 10**6)]
    found = used(governance=Governance(quotas=quotas, spending_cap="210.00")).forecast("acme")
    reached = [None if each.reached_at is None else (each.reached_at - found.as_of) / DAY for each in found.limits]

    assert [("quota", 2000), ("quota", 1400), ("quota", 10**6), ("spending_cap", Decimal("210.00"))] == [
        (each.kind, each.limit) for each in found.limits
    ]
    assert [6.0, 0.0, None, 8.0] == [each if each is None else round(each, 2) for each in reached]
    assert (Decimal(140), found.cost.expected) == (found.limits[-1].used, found.limits[-1].expected)


def test_a_week_is_needed(used):
    """Until then, it says why there is no forecast, of the usage and of the cost."""
    found = used(days=5).forecast("acme")
    (calls,) = found.usage

    assert (500, None, None, None) == (calls.used, calls.expected, calls.low, calls.high)
    assert "calls has been used for 4 whole days, and a forecast needs 7" == calls.unknown
    assert (Decimal(50), None, (calls.unknown,)) == (found.cost.so_far, found.cost.expected, found.cost.unknown)


@pytest.mark.parametrize("value", [unique("user"), maximum("seats")])
def test_what_is_not_a_sum_of_days(used, value):
    """Nobody can tell how many different values there will be."""
    seats = Meter("seats", path="/seats", value=value)
    kit = used(CALLS, seats, prices=[Price.per_unit(seats, "9")])
    kit.record("seats", "acme", **({"value": "ann"} if value.of == "user" else {"quantity": 4}))
    kit.flush()
    found = kit.forecast("acme")

    assert [("calls", ""), ("seats", True)] == [
        (each.meter, each.unknown and "different values" in each.unknown) for each in found.usage
    ]
    assert found.cost.expected is None


def test_who_has_used_nothing(used):
    """There is nothing to expect, and it costs nothing."""
    found = used().forecast("nobody")

    assert ((), Decimal(0)) == (found.usage, found.cost.expected)


def test_without_prices_there_is_no_cost(used):
    """Of what is not billed, too, there is a forecast."""
    kit = used(prices=[])
    kit.record("egress", "acme", 5)
    kit.flush()
    found = kit.forecast("acme")

    assert found.cost is None
    assert ["calls", "egress"] == [each.meter for each in found.usage]


def test_all_companies(used):
    """Each as if it were alone."""
    kit = used(governance=Governance(quotas=[Quota(CALLS, {"acme": 1500}.get)]))
    kit.record("calls", "globex", 7)
    kit.flush()
    found = list(kit.forecasts())

    assert [kit.forecast("acme"), kit.forecast("globex")] == found
    assert [1, 0] == [len(each.limits) for each in found]


def test_a_company_that_is_none(used):
    """An error, as for a statement."""
    with pytest.raises(UsageError):
        used().forecast("")


def test_the_statement_has_it(used):
    """As the customer page shows it, without what is not billed."""
    kit = used(governance=Governance(quotas=[Quota(CALLS, 2000)], spending_cap="500"))
    kit.record("egress", "acme", 5)
    kit.flush()
    found = kit.statement("acme")["forecast"]

    assert ["calls"] == [each["meter"] for each in found["usage"]]
    assert "200" == found["cost"]["expected"].split(".")[0][:1] + "00"
    assert [("quota", "2026-03-21"), ("spending_cap", None)] == [
        (each["kind"], each["reached_at"] and each["reached_at"][:10]) for each in found["limits"]
    ]
