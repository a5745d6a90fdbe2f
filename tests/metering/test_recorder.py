"""From an exchange to a count: who pays, and how much; and no mistake reaches the client."""

from __future__ import annotations

import enum
import logging
import math
from uuid import UUID

import pytest
from plain_exchange import PlainExchange, counted, serve

import meterkit
from meterkit import ConfigurationError, Identity, Meter, UsageError, response_json
from meterkit.metering.recorder import recorder_of


def raising(error):
    """A callback that raises."""

    def callback(_exchange):
        raise error

    return callback


class Account(enum.IntEnum):
    """A primary key with a name."""

    ACME = 17


class Unprintable(Exception):
    """Not even its repr works."""

    def __repr__(self):
        raise RuntimeError("no repr")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("acme", ("acme", None)),
        ("cus_123", ("cus_123", None)),
        (Identity("acme"), ("acme", None)),
        (Identity("acme", "ann"), ("acme", "ann")),
        ("{0} %s '; DROP TABLE usage; --", ("{0} %s '; DROP TABLE usage; --", None)),
        ("../../etc/passwd", ("../../etc/passwd", None)),
    ],
)
def test_who_pays(make_kit, answer, expected):
    """``identify=`` answers a company, or a company and its user; an id is text, and nothing more."""
    kit = make_kit(identify=lambda _: answer)

    serve(kit)
    kit.flush()

    assert [expected] == [(row.company, row.user) for row in kit.usage()]


def test_identify_sees_the_exchange(make_kit):
    """It is called once, when the response is complete, with all there is to know."""
    seen = []

    def identify(exchange):
        seen.append((exchange.method, exchange.path, exchange.route, exchange.status, exchange.headers["x-key"]))
        return "acme"

    kit = make_kit(Meter("calls"), Meter("bytes", value="response_bytes"), identify=identify)
    serve(kit, PlainExchange("POST", "/a", headers={"x-key": "k"}), status=201, route="/{name}")

    assert [("POST", "/a", "/{name}", 201, "k")] == seen
    assert {("calls", "acme"): 1, ("bytes", "acme"): 2} == counted(kit)


def test_identify_is_not_asked_for_nothing(make_kit):
    """An exchange that no meter counts costs no look-up of who made it."""
    kit = make_kit(Meter("calls", path="/billed"), identify=raising(AssertionError("asked")))

    serve(kit, PlainExchange(path="/free"))

    assert "identify_raised" not in kit.health()["problems"]


@pytest.mark.parametrize(
    ("identify", "reason"),
    [
        (None, "no_company"),
        (lambda _: None, "no_company"),
        (lambda _: Identity(None), "no_company"),
        (raising(KeyError("x-company-id")), "identify_raised"),
        (raising(Unprintable()), "identify_raised"),
        (lambda _: True, "company_not_str"),
        (lambda _: ["acme"], "company_not_str"),
        (lambda _: {"id": "acme"}, "company_not_str"),
        (lambda _: Identity(5.0), "company_not_str"),
        (lambda _: "", "company_empty"),
        (lambda _: "x" * 10_000, "company_too_long"),
        (lambda _: "acme\r\n", "company_unprintable"),
    ],
)
def test_nobody_pays(make_kit, identify, reason):
    """Whatever is wrong with who pays, the usage is kept, under no company, and health says why."""
    kit = make_kit(identify=identify)

    serve(kit)

    assert {("calls", None): 1} == counted(kit)
    assert 1 == kit.health()["problems"][reason]["count"]
    assert 1 == kit.health()["books"]["calls"]["unattributed"]


@pytest.mark.parametrize(
    "identify", [lambda _: 17, lambda _: Account.ACME, lambda _: Identity(17), lambda _: UUID(int=17)]
)
def test_primary_keys(make_kit, identify):
    """An int and a UUID, as ORMs return them, are ids like their text."""
    kit = make_kit(identify=identify)

    serve(kit)
    serve(kit, view=lambda: meterkit.identify(UUID(int=17), user=3))
    kit.record("calls", 17, user=UUID(int=3))

    assert {"17", str(UUID(int=17))} == {company for _, company in counted(kit)}
    assert 3 == sum(row.quantity for row in kit.usage())
    assert {None, "3", str(UUID(int=3))} == {row.user for row in kit.usage()}
    assert {"no_stripe_key"} == set(kit.health()["problems"])


@pytest.mark.parametrize(
    ("user", "reason"),
    [(5.0, "user_not_str"), ({}, "user_not_str"), ("", "user_empty"), ("x" * 10_000, "user_too_long")],
)
def test_a_wrong_user(make_kit, user, reason):
    """The company pays, whatever is wrong with its user."""
    kit = make_kit(identify=lambda _: Identity("acme", user))

    serve(kit)

    assert {("calls", "acme"): 1} == counted(kit)
    assert 1 == kit.health()["problems"][reason]["count"]


def test_a_wrong_identify_in_the_view(make_kit):
    """What a view says wrongly is treated as what the callback says wrongly."""
    kit = make_kit(identify=lambda _: "acme")

    serve(kit, view=lambda: meterkit.identify(b"acme"))

    assert {("calls", None): 1} == counted(kit)
    assert 1 == kit.health()["problems"]["company_not_str"]["count"]


def test_logged_once_and_counted_always(make_kit, caplog):
    """A mistake in every request is one line in the log a minute, and all of them in health."""
    kit = make_kit(identify=raising(KeyError("x-company-id")), stripe_key="sk_test_1")

    for _ in range(50):
        serve(kit)

    assert [
        "identify= raised KeyError('x-company-id'); the usage is kept under no company (identify_raised, 1 so far)"
    ] == [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert 50 == kit.health()["problems"]["identify_raised"]["count"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_is_meant_for_the_process(make_kit, error):
    """An order to stop that arrives in a callback is not swallowed."""
    kit = make_kit(identify=raising(error()))

    with pytest.raises(error):
        serve(kit)


@pytest.mark.parametrize(
    ("when", "expected"), [(lambda exchange: exchange.status == 200, 1), (lambda exchange: exchange.path == "/x", None)]
)
def test_when(make_kit, when, expected):
    """A condition has the last word on an exchange that matches."""
    kit = make_kit(Meter("calls", when=when), identify=lambda _: "acme")

    serve(kit)

    assert expected == counted(kit).get(("calls", "acme"))


@pytest.mark.parametrize("error", [ValueError("no"), Unprintable()])
def test_a_condition_that_raises(make_kit, error):
    """A meter whose condition fails counts nothing; the other meters do."""
    kit = make_kit(Meter("heavy", when=raising(error)), Meter("calls"), identify=lambda _: "acme")

    serve(kit)

    assert {("calls", "acme"): 1} == counted(kit)
    assert 1 == kit.health()["problems"]["when_raised"]["count"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"rows": -1}', "quantity_negative"),
        (b'{"rows": 1.5}', "quantity_not_int"),
        (b'{"rows": NaN}', "quantity_not_int"),
        (b'{"rows": 1000000000000000}', "quantity_too_large"),
        (b"{}", "body_no_value"),
        (b"[" * 100_000, "body_not_json"),
        (b"<html>", "body_not_json"),
        (b" " * 2000, "body_too_long"),
    ],
)
def test_a_body_that_cannot_be_counted(make_kit, body, reason):
    """A body without a countable number costs its own meter the count, and no other."""
    rows = Meter("rows", value=response_json("rows", max_bytes=200_000 if body[:1] == b"[" else 1000))
    kit = make_kit(rows, Meter("calls"), identify=lambda _: "acme")

    serve(kit, body=body)

    assert {("calls", "acme"): 1} == counted(kit)
    assert 1 == kit.health()["problems"][reason]["count"]


def test_a_meter_that_fails(make_kit):
    """What no one has thought of costs its own meter the count, and no other; health asks for a report."""

    class Odd(PlainExchange):
        @property
        def request_bytes(self):
            raise LookupError("no environ")

    kit = make_kit(Meter("ingress", value="request_bytes"), Meter("calls"), identify=lambda _: "acme")

    serve(kit, Odd())

    assert {("calls", "acme"): 1} == counted(kit)
    assert "Please report this" in kit.health()["problems"]["internal_error"]["message"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("cals", "acme", 1), "meter_unknown"),
        ((["calls"], "acme", 1), "meter_unknown"),
        ((Meter("other"), "acme", 1), "meter_unknown"),
        (("calls", "", 1), "company_empty"),
        (("calls", None, 1), "company_not_str"),
        (("calls", "x" * 10_000, 1), "company_too_long"),
        (("calls", "acme", -1), "quantity_negative"),
        (("calls", "acme", 1.0), "quantity_not_int"),
        (("calls", "acme", math.nan), "quantity_not_int"),
        (("calls", "acme", 10**15), "quantity_too_large"),
    ],
)
def test_record_raises(kit, arguments, reason):
    """A direct call is told what is wrong, and counts nothing."""
    with pytest.raises(UsageError) as caught:
        kit.record(*arguments)

    assert (reason, {}) == (caught.value.reason, counted(kit))


def test_record_nothing(kit):
    """A quantity of 0 is right, and leaves no trace."""
    kit.record("calls", "acme", 0)

    assert {} == counted(kit)


def test_record_with_a_wrong_user(kit):
    """Half an identity is not counted by a direct call."""
    with pytest.raises(UsageError, match="user id must be a str"):
        kit.record("calls", "acme", user=5.0)

    assert {} == counted(kit)


@pytest.mark.parametrize("kit", [None, "billing:kit", object()])
def test_a_middleware_without_a_kit(kit):
    """A middleware asks for its kit while it is built."""
    with pytest.raises(ConfigurationError, match="the middleware needs a MeterKit"):
        recorder_of(kit)
