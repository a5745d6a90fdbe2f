"""The benchmark runs, and its model of many customers says what happens. How fast anything is, no test asserts."""

from __future__ import annotations

import re
from statistics import median

import pytest

from benchmarks import events, forecasts, pages, scale
from benchmarks.clients import Load
from benchmarks.customers import customers
from benchmarks.rounds import Cost, compare
from benchmarks.served import Served


@pytest.mark.long
def test_variants_are_measured_in_turns_and_shown():
    """Beside the bare app; what cannot be had for a stack is left out."""
    variants = {name: (name, 1) for name in ("bare again", "counter by hand", "meterkit")}
    costs = {"wsgi": compare("wsgi", variants, rounds=2)}

    assert variants.keys() == costs["wsgi"].keys()
    assert ["bare app, total", *variants] == [
        line.split(" | ")[0].strip("| ") for line in pages.costs_table(costs).splitlines()[2:]
    ]
    assert pages.plot(costs).count("<rect") == 4


@pytest.mark.long
def test_events_are_measured_beside_a_bare_app():
    """In batches and one by one, and the table has both."""
    found = {batch: events.rates(batch, 2, 1) for batch in (1, 10)}
    text = events.table(10, found[10], found[1], {"new keys": 1.25})

    assert all(rate > 0 for each in found.values() for rate in each.values())
    assert ["in batches of 10", "one by one", "new keys"] == re.findall(r"^\| ([a-z][a-z0-9 ]+) \|", text, re.MULTILINE)


def test_a_skewed_month_is_as_predicted():
    """As many meter events as customers' hours with usage, each customer's sum exact."""
    found = scale.month(customers=60, hours=6, per_hour=400, seed=7)

    assert (2400, 2400, 0) == (found["counted"], found["billed"], found["customers_wrong"])
    assert found["rows"] == found["events"]
    assert abs(found["events"] / found["events_predicted"] - 1) < 0.1


def test_forecasts_are_as_good_as_the_page_says():
    """
    Better than a straight line, and the range and the warnings hold what docs/forecast.md claims.

    Of customers that the method was not tuned on.
    """
    assert forecasts.HELD_OUT != forecasts.TUNED_ON
    found = forecasts.backtest(200, seed=forecasts.HELD_OUT)
    middle, late = found.by_day[16], found.by_day[24]
    errors = list(found.by_day.values())

    def median_of(day, whose):
        return median(getattr(found.by_day[day], whose))

    assert [] == [day for day in forecasts.SHOWN_DAYS if median_of(day, "ours") > median_of(day, "straight")]
    assert median(middle.ours) < 0.12
    assert median(late.ours) < 0.06
    assert sorted(middle.ours)[int(len(middle.ours) * 0.9)] < 0.45
    assert 0.75 < sum(each.held for each in errors) / sum(len(each.ours) for each in errors) < 0.9
    assert found.natural.missed < 0.1 * found.natural.reached
    assert found.natural.wrong < 0.15 * (found.natural.wrong + found.natural.quiet)
    assert found.by_limit[1.5].wrong < 0.1 * found.by_limit[1.5].quiet
    assert 7 <= median(found.by_limit[0.8].ahead)
    assert len(forecasts.errors_table(found).splitlines()) == 2 + len(forecasts.SHOWN_DAYS)
    assert len(forecasts.warnings_table(found).splitlines()) == 3 + len(forecasts.LIMITS)


def test_customers_are_skewed_as_in_production():
    """The top tenth makes about 90 % of the usage, and the same seed makes the same customers."""
    sums = sorted((sum(each.days) for each in customers(1000, seed=1)), reverse=True)

    assert 0.85 < sum(sums[:100]) / sum(sums) < 0.95
    assert customers(3, seed=5) == customers(3, seed=5) != customers(3, seed=6)


def _cost(median, low):
    return Cost(median=median, low=low, high=median, bare=1.0)


FOUND = {
    "importing": {"milliseconds": 1.0, "milliseconds_with_kit": 1.0, "heavy_modules": 0},
    "memory": {"bytes_per_cell": 1.0, "kibibytes_after_a_million": 0},
    "pauses": {"longest_milliseconds": 1.0},
    "folding": {"ratio": 3.1},
    "reporting": {"v1": 999.0, "stream": 10_000.0, "v1_far_away": 1.0, "stream_far_away": 1.0},
    "ledger_size": {"flush_10": 1.0, "flush_20": 1.0, "report_10": 1.0, "report_20": 1.0},
}
"""Of the budgets beside the costs of a request, two are missed."""


def _served(per_second, p99, *, longest=10.0, resident=30.0, heavy=0):
    load = Load(per_second=per_second, p99=p99, longest=longest)
    return [Served(first=load, settled=load, paced_p99=1.0, first_byte=1.0, resident=resident, heavy=heavy)]


def test_a_budget_is_met_missed_or_not_to_be_told():
    """A ratio to what may as well cost nothing says nothing; the others are held against their budget."""
    names = ("counter by hand", "prometheus_client", "meterkit", "meterkit, governance", "meterkit, 100 meters")
    null = dict(zip(names, (_cost(1, 1), _cost(2, 2), _cost(2, 2), _cost(3, 3), _cost(2, 2)), strict=True))
    null["meterkit, 100,000 companies"] = _cost(4, 4)
    flask = {**null, "prometheus_client": _cost(-9, -20)}
    runs = {
        "bare": _served(1000, 1.0),
        "bare again": _served(1000, 1.0, longest=20.0),
        "prometheus_client": _served(800, 2.0),
        "meterkit": _served(800, 2.5, longest=15.0, resident=35.0, heavy=2),
    }

    table = pages.budgets_table(FOUND, {"wsgi": null, "flask": flask}, {"uvicorn": runs})
    verdicts = {row[1].strip(): row[-2].strip() for row in (line.split("|") for line in table.splitlines()[2:])}

    assert verdicts["wsgi: one meter, vs. prometheus_client"] == ""
    assert verdicts["flask: one meter, vs. prometheus_client"] == "too noisy to tell"
    assert verdicts["uvicorn, from the first request on: requests/s, vs. prometheus_client"] == ""
    assert verdicts["uvicorn: longest wait, vs. the bare app's longest"] == ""
    assert [what for what, verdict in verdicts.items() if verdict == "**missed**"] == [
        "wsgi: governed, vs. prometheus_client",
        "wsgi: 100,000 companies, vs. 1,000",
        "flask: 100,000 companies, vs. 1,000",
        "uvicorn, from the first request on: p99, vs. prometheus_client",
        "uvicorn, after the first flush: p99, vs. prometheus_client",
        "uvicorn: memory of a worker, beyond the bare app's",
        "uvicorn: modules for a database or Stripe in a worker",
        "folding 100,000 usage keys into SQLite, vs. a bare upsert",
        "reporting, one by one",
    ]
