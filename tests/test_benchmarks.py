"""The benchmark runs, and its model of many customers says what happens. How fast anything is, no test asserts."""

from __future__ import annotations

import pytest

from benchmarks import pages, scale
from benchmarks.rounds import Cost, compare


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


def test_a_skewed_month_is_as_predicted():
    """As many meter events as customers' hours with usage, each customer's sum exact."""
    found = scale.month(customers=60, hours=6, per_hour=400, seed=7)

    assert (2400, 2400, 0) == (found["counted"], found["billed"], found["customers_wrong"])
    assert found["rows"] == found["events"]
    assert abs(found["events"] / found["events_predicted"] - 1) < 0.1


def _cost(median, low):
    return Cost(median=median, low=low, high=median, bare=1.0)


STILL, NOISY = _cost(0, 0), _cost(1, -2)


FOUND = {
    "importing": {"milliseconds": 1.0, "milliseconds_with_kit": 1.0, "heavy_modules": 0},
    "memory": {"bytes_per_cell": 1.0, "kibibytes_after_a_million": 0},
    "pauses": {"longest_milliseconds": 1.0},
    "folding": {"ratio": 3.1},
    "reporting": {"v1": 999.0, "stream": 10_000.0, "v1_far_away": 1.0, "stream_far_away": 1.0},
    "ledger_size": {"flush_10": 1.0, "flush_20": 1.0, "report_10": 1.0, "report_20": 1.0},
}
"""Of the budgets beside the costs of a request, two are missed."""


def test_a_budget_is_met_missed_or_not_to_be_told():
    """
    A ratio to what may as well cost nothing says nothing, nor do two microseconds where the bare app differs by more.

    The others are held against their budget.
    """
    names = ("counter by hand", "prometheus_client", "meterkit", "meterkit, 100 meters", "meterkit, 100,000 companies")
    null = dict(zip(names, (_cost(1, 1), _cost(2, 2), _cost(2, 2), _cost(2, 2), _cost(4, 4)), strict=True))
    asgi = {**null, "prometheus_client": _cost(-9, -20)}
    django = {**null, "bare again": STILL, "meterkit": _cost(5, 4)}
    flask = {**django, "bare again": NOISY}

    table = pages.budgets_table(FOUND, {"wsgi": null, "asgi": asgi, "django": django, "flask": flask})
    verdicts = {row[1].strip(): row[-2].strip() for row in (line.split("|") for line in table.splitlines()[2:])}

    assert verdicts["wsgi: one meter, vs. prometheus_client"] == ""
    assert verdicts["asgi: one meter, vs. prometheus_client"] == "too noisy to tell"
    assert verdicts["flask: one meter, beyond its overhead on the null app"] == "too noisy to tell"
    assert [what for what, verdict in verdicts.items() if verdict == "**missed**"] == [
        "wsgi: 100,000 companies, vs. one",
        "asgi: 100,000 companies, vs. one",
        "django: one meter, beyond its overhead on the null app",
        "folding 100,000 usage keys into SQLite, vs. a bare upsert",
        "reporting, one by one",
    ]
