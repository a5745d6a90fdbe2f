"""The benchmark runs, and its model of many customers says what happens. How fast anything is, no test asserts."""

from __future__ import annotations

from benchmarks import pages, scale
from benchmarks.rounds import compare


def test_variants_are_measured_in_turns_and_shown():
    """Beside the bare app; what cannot be had for a stack is left out."""
    variants = {name: (name, 1) for name in ("bare again", "counter by hand", "meterkit")}
    costs = {"wsgi": compare("wsgi", variants, rounds=2)}

    assert variants.keys() == costs["wsgi"].keys()
    assert ["bare takes", *variants] == [
        line.split(" | ")[0].strip("| ") for line in pages.costs_table(costs).splitlines()[2:]
    ]
    assert pages.plot(costs).count("<rect") == 4


def test_a_skewed_month_is_as_predicted():
    """As many meter events as customers' hours with usage, each customer's sum exact."""
    found = scale.month(customers=60, hours=6, per_hour=400, seed=7)

    assert (2400, 2400, 0) == (found["counted"], found["billed"], found["customers_wrong"])
    assert found["rows"] == found["events"]
    assert abs(found["events"] / found["events_predicted"] - 1) < 0.1
