"""Values of dimensions from usage events: fields of their data, paths, functions of the event."""

from __future__ import annotations

import pytest
from served_events import event

from meterkit import Meter


def by(served, *names, **which):
    served.kit.flush()
    return {tuple(row.values.values()): row.quantity for row in served.kit.usage(by=names, **which)}


@pytest.fixture
def served(serve):
    """A service whose meter tells tokens apart."""
    return serve(Meter("tokens", event_type="prompt", value="$.tokens", by=("model", "kind")))


def told(number, **data):
    return event(number, data=data)


def test_a_name_is_a_field_of_the_data(served):
    """What an event lacks is unknown: it is accepted all the same."""
    sent = [
        told(1, tokens=5, model="small", kind="input"),
        told(2, tokens=7, model="small", kind="output"),
        told(3, tokens=1, model=17),
        told(4, tokens=2, model=None, kind={"a": 1}),
        told(5, tokens=0, model="none"),
    ]
    for _ in range(2):  # each counts once
        assert 202 == served.post(sent).status_code

    assert {("small", "input"): 5, ("small", "output"): 7, ("17", ""): 1, ("", "other"): 2} == by(
        served, "model", "kind"
    )
    assert [("acme", None, 15)] == served.used()
    assert ["dimension_invalid"] == [each for each in served.kit.health()["problems"] if each.startswith("dimension")]


def test_paths_and_functions(serve):
    """Into objects and lists, and of the event itself; a function that raises makes nothing unacceptable."""
    dimensions = {
        "model": "$.models.0.name",
        "source": lambda event: event.source,
        "plan": lambda event: event.extensions["plan"],
    }
    served = serve(Meter("prompts", event_type="prompt", by=dimensions))
    served.post(event(1, data={"models": [{"name": "small"}]}, plan="pro"))
    served.post(event(2, data={"models": []}))

    assert {("small", "shop", "pro"): 1, ("", "shop", ""): 1} == by(served, "model", "source", "plan")


def test_the_first_values_of_an_event_count(served):
    """A second one with its id, in another flush and with other values, does not."""
    served.post(told(1, tokens=5, model="small"))
    served.kit.flush()
    served.post(told(1, tokens=5, model="large"))

    assert {("small",): 5} == by(served, "model")


def test_a_sender_that_invents_models(serve):
    """Beyond the limit they are counted as other."""
    served = serve(Meter("tokens", event_type="prompt", value="$.tokens", by="model", by_limit=10))
    served.post([told(number, tokens=2, model=f"m{number}") for number in range(300)])
    found = by(served, "model")

    assert 600 == sum(found.values())
    assert (11, 580) == (len(found), found["other",])
    assert "dimension_limit" in served.kit.health()["problems"]
