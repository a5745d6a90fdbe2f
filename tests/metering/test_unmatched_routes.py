"""A ``route=`` meter that can never match is never silent."""

from __future__ import annotations

import pytest
from plain_exchange import PlainExchange, serve

from meterkit import Meter
from meterkit.metering.unmatched import MAX_WITHOUT_ROUTE

ROUTES = ["/items/{id}", "/users"]


def warnings(kit):
    """What health says about routes, by reason."""
    problems = kit.health()["problems"]
    return {reason: problem["message"] for reason, problem in problems.items() if reason.startswith("route_")}


def test_a_route_that_the_app_has(make_kit):
    """Where all templates are known to the app, there is nothing to say."""
    kit = make_kit(Meter("items", route="/items/{id}"), Meter("users", route="users"))

    serve(kit, PlainExchange(routes=ROUTES), route="/users")

    assert {} == warnings(kit)


def test_routes_without_a_leading_slash(make_kit):
    """Django's templates have none, and are the same with one."""
    kit = make_kit(Meter("items", route="/items/<int:id>/"))

    serve(kit, PlainExchange(routes=["items/<int:id>/"]))

    assert {} == warnings(kit)


def test_a_mistyped_route(make_kit):
    """The first exchange shows that the app has no such template, and which one may be meant."""
    kit = make_kit(Meter("items", route="/item/{id}"))

    serve(kit, PlainExchange(routes=ROUTES), route="/users")

    assert {
        "route_unknown": "Meter('items'): the app has no route '/item/{id}', so it counts nothing; "
        "did you mean '/items/{id}'?"
    } == warnings(kit)


def test_every_mistyped_route_is_named(make_kit, caplog):
    """Two mistakes are two sentences, in the log as well, although one reason is logged once."""
    kit = make_kit(Meter("a", route="/aa"), Meter("b", route="/zz"), Meter("c", route="/users"))

    serve(kit, PlainExchange(routes=ROUTES), route="/users")

    assert [True, True, False] == [f"Meter('{name}'): the app has no route" in caplog.text for name in "abc"]
    assert "it has /items/{id}, /users" in caplog.text


def test_compared_once(make_kit):
    """The comparison is made once, not in every exchange."""
    kit = make_kit(Meter("items", route="/item/{id}"))

    for _ in range(3):
        serve(kit, PlainExchange(routes=ROUTES), route=None, status=404)

    assert 1 == kit.health()["problems"]["route_unknown"]["count"]


def test_an_app_without_templates(make_kit):
    """A success without a template, in an app that names none, means that there will never be one."""
    kit = make_kit(Meter("items", route="/items/{id}"), Meter("users", route="/users"), Meter("calls"))

    serve(kit)

    assert warnings(kit)["route_missing"].startswith("the meters items, users have route=, but this app publishes no")


@pytest.mark.parametrize("status", [304, 404, 500])
def test_a_failure_shows_nothing(make_kit, status):
    """What matched no view has no template in any framework."""
    kit = make_kit(Meter("items", route="/items/{id}"))

    serve(kit, status=status)

    assert {} == warnings(kit)


def test_static_files_show_nothing(make_kit):
    """An app with templates may answer a while without one; for ever, and something hides them."""
    kit = make_kit(Meter("users", route="/users"))

    for _ in range(MAX_WITHOUT_ROUTE - 1):
        serve(kit, PlainExchange(routes=ROUTES))
    patient = warnings(kit)
    serve(kit, PlainExchange(routes=ROUTES))

    assert ({}, ["route_missing"]) == (patient, list(warnings(kit)))


def test_a_template_ends_the_watch(make_kit):
    """One template is proof enough, whatever has none after it."""
    kit = make_kit(Meter("users", route="/users"))

    serve(kit, route="/other")
    serve(kit, route=None)

    assert {} == warnings(kit)


def test_templates_that_cannot_be_read(make_kit):
    """Frameworks change; when their templates cannot be read, usage is counted all the same."""

    class Odd(PlainExchange):
        def known_routes(self):
            raise AttributeError("routes")

    kit = make_kit(Meter("users", route="/users"))

    serve(kit, Odd(), route="/users")
    kit.flush()

    assert [1] == [row.quantity for row in kit.usage()]
    assert 1 == kit.health()["problems"]["internal_error"]["count"]
