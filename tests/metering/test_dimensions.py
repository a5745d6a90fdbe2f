"""``Meter(by=...)``: the same usage, told apart by the values of its dimensions."""

from __future__ import annotations

import enum
import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from plain_exchange import PlainExchange, counted, serve

import meterkit
from meterkit import ConfigurationError, Governance, Meter, Quota, UsageError, maximum, response_json, unique
from meterkit.llm import tokens

JSON = {"content-type": "application/json"}


class Model(str, enum.Enum):
    SMALL = "small"


def acme(_exchange):
    return "acme"


def by(kit, *names, meter="tokens"):
    """What was used, by the values of *names*."""
    kit.flush()
    found = {}
    for row in kit.usage(by=names, meter=meter):
        key = tuple(row.values[name] for name in names)
        found[key] = found.get(key, 0) + row.quantity
    return found


def problems(kit):
    return sorted(reason for reason in kit.health()["problems"] if reason not in ("no_stripe_key", "meter_unfiltered"))


@pytest.fixture
def kit(make_kit):
    """Two meters count what views add as ``tokens``; one tells it apart."""
    meters = [Meter("tokens", path="*", value="tokens", by=("model", "kind")), Meter("all", path="*", value="tokens")]
    return make_kit(*meters, identify=acme)


def test_the_view_says_which(kit):
    """In several calls, which add up by the values; the sum of the meter is that of a meter without dimensions."""

    def view():
        meterkit.add_usage("tokens", 12, model="small", kind="input")
        meterkit.add_usage("tokens", 3, model="small", kind="output")
        meterkit.usage().add("tokens", 5, kind="input", model="small")

    serve(kit, view=view)
    serve(kit, view=lambda: meterkit.add_usage("tokens", 7, model="large", kind="input"))

    assert {("small", "input"): 17, ("small", "output"): 3, ("large", "input"): 7} == by(kit, "model", "kind")
    assert {("small",): 20, ("large",): 7} == by(kit, "model")
    assert {("tokens", "acme"): 27, ("all", "acme"): 27} == counted(kit)
    assert [] == problems(kit)


def test_what_is_missing_is_unknown(kit):
    """No unit is dropped for it."""

    def view():
        meterkit.add_usage("tokens", 1)
        meterkit.add_usage("tokens", 2, model="small")
        meterkit.add_usage("tokens", 4, model=None, kind="")

    serve(kit, view=view)

    assert {("", ""): 5, ("small", ""): 2} == by(kit, "model", "kind")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (Model.SMALL, "small"),
        (" small\n", "small"),
        (7, "7"),
        (True, "true"),
        ("é" * 50, "é" * 50),
        ("a'\"\\ :,{}", "a'\"\\ :,{}"),
    ],
)
def test_values(kit, given, expected):
    """Texts, also of an enum, and whole numbers; without spaces around them."""
    serve(kit, view=lambda: meterkit.add_usage("tokens", 1, model=given))

    assert {(expected,): 1} == by(kit, "model")


@pytest.mark.parametrize("given", ["a\x00b", "a\nb", "a\x07b", "\udc80", "é" * 51, "a" * 101, 1.5, ["small"], 10**200])
def test_what_cannot_be_a_value_is_counted_as_other(kit, given):
    """And named."""
    serve(kit, view=lambda: meterkit.add_usage("tokens", 1, model=given, kind="input"))

    assert {("other", "input"): 1} == by(kit, "model", "kind")
    assert "'model' must be a text of at most 100 bytes" in kit.health()["problems"]["dimension_invalid"]["message"]


def test_a_misspelt_dimension_is_named(kit):
    """What it was told of counts all the same."""
    serve(kit, view=lambda: meterkit.add_usage("tokens", 4, modle="small"))

    assert {("", ""): 4} == by(kit, "model", "kind")
    assert "modle" in kit.health()["problems"]["dimension_unknown"]["message"]


def test_functions_and_bodies_tell_values(make_kit):
    """Of what is measured, of a field, and of what views add; the view has the last word."""
    plan = {"plan": lambda exchange: exchange.headers.get("x-plan")}
    kit = make_kit(
        Meter("calls", path="*", by=plan),
        Meter("egress", path="*", value="response_bytes", by=plan),
        Meter("rows", path="*", value=response_json("rows"), by={"table": response_json("meta.table"), **plan}),
        Meter("tokens", path="*", value="tokens", by={**plan, "model": None}),
        identify=acme,
    )
    body = json.dumps({"rows": 3, "meta": {"table": "users"}}).encode()

    def view():
        meterkit.add_usage("tokens", 1, model="small")
        meterkit.add_usage("tokens", 2, model="small", plan="said")

    serve(kit, PlainExchange(headers={"x-plan": "pro"}), view=view, body=body, headers=JSON)

    assert {("pro",): 1} == by(kit, "plan", meter="calls")
    assert {("pro",): len(body)} == by(kit, "plan", meter="egress")
    assert {("users", "pro"): 3} == by(kit, "table", "plan", meter="rows")
    assert {("small", "pro"): 1, ("small", "said"): 2} == by(kit, "model", "plan")


def test_a_function_that_raises_costs_nothing(make_kit):
    """Its value is unknown, and health says why."""
    kit = make_kit(
        Meter("calls", path="*", by={"plan": lambda _: {}["plan"], "body": response_json("a")}), identify=acme
    )
    serve(kit, body=b"no json")

    assert {("", ""): 1} == by(kit, "plan", "body", meter="calls")
    assert ["body_not_json", "dimension_raised"] == problems(kit)


def test_what_comes_after_the_response_counts_with_its_values(make_kit):
    """What functions found in the exchange holds for it, too."""
    meter = Meter(
        "tokens", path="*", value="tokens", by={"plan": lambda exchange: exchange.headers["x-plan"], "model": None}
    )
    kit = make_kit(meter, identify=acme)
    handles = []
    serve(kit, PlainExchange(headers={"x-plan": "pro"}), view=lambda: handles.append(meterkit.usage()))
    handles[0].add("tokens", 5, model="small")
    handles[0].add("tokens", 6)

    assert {("pro", "small"): 5, ("pro", ""): 6} == by(kit, "plan", "model")


def test_a_stream_that_adds_thousands_of_times(kit):
    """What is added up meanwhile keeps its values; far too many of them become other, and no unit is lost."""

    def view():
        usage = meterkit.usage()
        usage.add("tokens", 7)
        for number in range(3_000):
            usage.add("tokens", 1, model=f"m{number % 3}", kind="output")
        for number in range(2_000):
            usage.add("tokens", 1, model=f"x{number}", kind="input")
        usage.add("tokens", 10)

    serve(kit, view=view)
    found = by(kit, "model", "kind")

    assert [1_000] * 3 == [found[f"m{number}", "output"] for number in range(3)]
    assert 17 == found["", ""]
    assert 5_017 == sum(found.values()) == counted(kit)["all", "acme"]
    assert len(found) <= 510


def test_the_highest_of_what_is_told_apart(make_kit):
    """A meter with maximum() of the same name sees each quantity as a whole."""
    meters = [Meter("tokens", path="*", value="tokens", by="model"), Meter("peak", path="*", value=maximum("tokens"))]
    kit = make_kit(*meters, identify=acme)

    def view():
        meterkit.add_usage("tokens", 8, model="small")
        meterkit.add_usage("tokens", 5)

    serve(kit, view=view)

    assert {("tokens", "acme"): 13, ("peak", "acme"): 8} == counted(kit)


def test_what_is_recorded(make_kit, clock):
    """With values; a key counts once, and with those that it came with first."""
    kit = make_kit(Meter("tokens", http=False, by=("model", "kind")), Meter("jobs", http=False))
    kit.record("tokens", "acme", 5, dimensions={"model": "small"})
    kit.record("tokens", "acme", 2)
    for model in ("small", "small", "large"):
        kit.record("tokens", "acme", 7, key="job-1", dimensions={"model": model, "kind": "input"})
        kit.flush()
    past = datetime.fromtimestamp(clock.now, timezone.utc) - timedelta(days=3)
    kit.record("tokens", "acme", 9, at=past, user="ann", dimensions={"kind": "input", "model": "small"})

    assert {("small", ""): 5, ("", ""): 2, ("small", "input"): 16} == by(kit, "model", "kind")
    assert 23 == sum(row.quantity for row in kit.usage(meter="tokens"))
    for wrong, reason in (
        ({"modle": "small"}, "dimension_unknown"),
        ({"model": "a\x00"}, "dimension_invalid"),
        ("small", "dimension_unknown"),
    ):
        with pytest.raises(UsageError) as raised:
            kit.record("tokens", "acme", 1, dimensions=wrong)
        assert reason == raised.value.reason
    with pytest.raises(UsageError, match="has no dimension 'model': it has no by="):
        kit.record("jobs", "acme", 1, dimensions={"model": "small"})


def test_a_client_that_invents_models(make_kit):
    """What is kept is bounded; the kind of token stays known; no unit is lost, and health names the meter."""
    meter = Meter("tokens", path="*", value="tokens", by=("model", "kind"), by_limit=200)
    kit = make_kit(meter, identify=acme)
    for number in range(2_000):
        kind = ("input", "output")[number % 2]
        serve(kit, view=lambda number=number, kind=kind: meterkit.add_usage("tokens", 1, model=f"m{number}", kind=kind))
    found = by(kit, "model", "kind")

    assert 2_000 == sum(found.values()) == counted(kit)["tokens", "acme"]
    assert 202 == len(found)
    assert (900, 900) == (found["other", "input"], found["other", "output"])
    assert 1_800 == kit.health()["problems"]["dimension_limit"]["count"]
    assert any("'acme' has used more than 200 new combinations" in each for each in kit.health()["attention"])


def test_a_client_that_invents_everything(make_kit):
    """Then all is other."""
    kit = make_kit(Meter("tokens", path="*", value="tokens", by=("model", "kind"), by_limit=50), identify=acme)
    for number in range(1_000):
        serve(kit, view=lambda n=number: meterkit.add_usage("tokens", 1, model=f"m{n}", kind=f"k{n}"))
    found = by(kit, "model", "kind")

    assert 1_000 == sum(found.values())
    assert len(found) <= 50 + 100 + 1
    assert found["other", "other"] >= 800


def test_others_are_not_harmed(make_kit):
    """Each company has room of its own; only many together take it from each other."""
    kit = make_kit(Meter("tokens", http=False, by="model", by_limit=10))
    for number in range(50):
        kit.record("tokens", "acme", dimensions={"model": f"m{number}"})
    kit.record("tokens", "globex", 5, dimensions={"model": "small"})
    kit.record("tokens", "acme", 7, dimensions={"model": "small"})
    for number in range(200):
        kit.record("tokens", f"fake {number}", dimensions={"model": f"of {number}"})
    found = by(kit, "model")

    assert (12, 100) == (found["small",], len(found))
    assert 40 + 200 - 88 == found["other",]
    assert 262 == sum(found.values())


def test_the_next_hour_begins_anew(make_kit, clock):
    """The limit is of one hour; what was known before is not other in the next."""
    kit = make_kit(Meter("tokens", http=False, by="model", by_limit=1))
    for model in ("a", "b"):
        kit.record("tokens", "acme", dimensions={"model": model})
    clock.advance(3600)
    kit.record("tokens", "acme", dimensions={"model": "b"})

    assert {("a",): 1, ("other",): 1, ("b",): 1} == by(kit, "model")


def test_values_that_are_long_together(make_kit):
    """They would not fit into an index of the ledger."""
    kit = make_kit(Meter("tokens", http=False, by=("a", "b", "c", "d")))
    kit.record("tokens", "acme", 3, dimensions=dict.fromkeys("abcd", '"' * 100))

    assert {("other",) * 4: 3} == by(kit, *"abcd")
    assert ["dimension_invalid"] == problems(kit)


def test_quotas_are_of_the_sum(make_kit):
    """Whatever it consists of."""
    meter = Meter("calls", path="*", by={"path": lambda exchange: exchange.path})
    kit = make_kit(meter, identify=acme, governance=Governance(quotas=[Quota(meter, 2, exact=True)]))
    for path in ("/a", "/b"):
        serve(kit, PlainExchange(path=path))

    assert {("/a",): 1, ("/b",): 1} == by(kit, "path", meter="calls")
    assert 2 == counted(kit)["calls", "acme"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"value": "tokens", "by": []}, "by= must name dimensions"),
        ({"value": "tokens", "by": 7}, "by= must name dimensions"),
        ({"value": "tokens", "by": "token kind"}, "must be a Python name"),
        ({"value": "tokens", "by": "m" * 41}, "must be a Python name"),
        ({"value": "tokens", "by": ("model", 3)}, "must be a Python name"),
        ({"value": "tokens", "by": "quantity"}, "cannot be called 'quantity'"),
        ({"value": "tokens", "by": "class"}, "cannot be called 'class'"),
        ({"value": "tokens", "by": ("model", "model")}, "names 'model' twice"),
        ({"value": "tokens", "by": tuple("abcde")}, "may name 4 dimensions, not 5"),
        ({"value": "tokens", "by": {"model": 3}}, "must be a function of an Exchange"),
        ({"value": "tokens", "by": {"model": "$.model"}}, "must be a function of an Exchange"),
        ({"value": "tokens", "by": "model", "by_limit": 0}, "by_limit= must be a number of combinations"),
        ({"path": "*", "by": "model"}, "nothing tells the dimension 'model'"),
        ({"value": "response_bytes", "by": "model"}, "nothing tells the dimension 'model'"),
        ({"value": tokens(), "by": ("model", "plan")}, "the response tells kind and model and provider"),
        ({"value": unique("user"), "by": "model"}, r"unique\(\) and maximum\(\) are none"),
        ({"http": False, "by": {"model": len}}, "would never be asked"),
        ({"event_type": "prompt", "by": {"model": "model"}}, "must be a path into the event's data"),
    ],
)
def test_what_cannot_be_declared(options, message):
    """The error says how to fix it."""
    with pytest.raises(ConfigurationError, match=message):
        Meter("tokens", **options)


async def _plan(_exchange):
    return "pro"


def test_an_async_function(make_kit):
    """It would be awaited by nobody."""
    with pytest.raises(ConfigurationError, match="must be a plain function"):
        Meter("calls", by={"plan": _plan})


@pytest.mark.parametrize("names", ["modle", (), ("model", "plan")])
def test_asking_for_what_no_meter_has(kit, names):
    """The error lists what there is."""
    with pytest.raises(UsageError, match="choose from model, kind"):
        kit.usage(by=names)


def test_a_meter_knows_its_dimensions():
    """In their order, whichever way they are declared."""
    named = Meter("tokens", value="tokens", by=("model", "kind"))
    mapped = Meter("calls", by={"model": len, "kind": None, "plan": len}, value="tokens")

    assert ("model", "kind") == named.dimensions
    assert ("model", "kind", "plan") == mapped.dimensions
    assert () == Meter("calls").dimensions == replace(Meter("calls"), path="/v1/*").dimensions
    assert {named: 1} == {Meter("tokens", value="tokens", by=named.by): 1}
