"""The route is the framework's own template, with the prefixes of blueprints, includes, routers and mounts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fastapi
import pytest
from adapter_drivers import call_asgi
from adapter_shops import CASES, SHOPS, around, item, starlette_shop
from starlette.applications import Starlette
from starlette.routing import Route

import meterkit.adapters.starlette_routes
import meterkit.asgi
from meterkit import Meter, MeterKit

pytestmark = pytest.mark.long

MakeKit = Callable[..., MeterKit]


@pytest.mark.parametrize(("shop", "request_line"), CASES)
def test_the_route_is_the_frameworks_template(make_kit: MakeKit, shop: str, request_line: str) -> None:
    """
    Where it matched; None where it did not, or where what it matched is no view.
    """
    call, make, requests = SHOPS[shop]
    status, route = requests[request_line]
    seen: list[Any] = []
    kit = make_kit(
        Meter("calls", path="*", status="*", when=lambda exchange: not seen.append((exchange.status, exchange.route)))
    )
    method, _, path = request_line.rpartition(" ")
    call(make(kit), method or "GET", path)
    kit.flush()

    assert [(status, route)] == seen
    assert [1] == [row.quantity for row in kit.usage()]
    assert "internal_error" not in kit.health()["problems"]


@pytest.mark.parametrize(("shop", "request_line"), [case for case in CASES if SHOPS[case[0]][2][case[1]][1]])
def test_a_route_that_exists_is_no_problem(make_kit: MakeKit, shop: str, request_line: str) -> None:
    """
    Every template that is matched is among those that the app is found to have.
    """
    call, make, requests = SHOPS[shop]
    status, route = requests[request_line]
    kit = make_kit(Meter("calls", route=route, status=status))
    method, _, path = request_line.rpartition(" ")
    call(make(kit), method or "GET", path)

    assert not {"route_unknown", "route_missing"} & set(kit.health()["problems"])


@pytest.mark.parametrize("shop", SHOPS)
def test_a_route_that_does_not_exist_is_said_loudly(make_kit: MakeKit, shop: str, caplog: Any) -> None:
    """
    It would count nothing, and nobody would be billed: with the first success there is an error in the log.
    """
    call, make, requests = SHOPS[shop]
    kit = make_kit(Meter("typo", route="/itmes/{id}"))
    call(make(kit), path=next(path for path, (status, _) in requests.items() if status < 300))

    assert {"route_unknown", "route_missing"} & set(kit.health()["problems"])
    assert ["ERROR"] == [
        record.levelname for record in caplog.records if "/itmes/{id}" in record.message or "typo" in record.message
    ]


def test_a_route_that_is_never_published_is_said_loudly(make_kit: MakeKit) -> None:
    """
    Something between the middleware and the router may hide what matched.
    """

    async def hiding(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope}, receive, send)

    app = starlette_shop()
    kit = make_kit(Meter("calls", route="/layered/x"))
    metered = meterkit.asgi.MeterMiddleware(hiding, kit)
    call_asgi(metered, path="/layered/x")

    assert "route_missing" in kit.health()["problems"]


def test_templates_that_are_there_but_never_published(make_kit: MakeKit, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A middleware inside may hand the router a copy of the scope; after many successes without a template, it is said.
    """

    class Copying:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await self.app({**scope}, receive, send)

    monkeypatch.setattr("meterkit.metering.unmatched.MAX_WITHOUT_ROUTE", 3)
    kit = make_kit(Meter("calls", route="/layered/x"))
    app = starlette_shop()
    app.add_middleware(Copying)
    app.add_middleware(meterkit.asgi.MeterMiddleware, kit=kit)
    for expected in (False, False, True):
        call_asgi(app, path="/layered/x")
        assert expected == ("route_missing" in kit.health()["problems"])


def test_a_plain_route_of_fastapi_is_said_loudly(make_kit: MakeKit) -> None:
    """
    FastAPI's router serves it, but does not publish it.
    """
    app = fastapi.FastAPI()
    app.add_route("/plain/{x}", item)
    kit = make_kit(Meter("calls", route="/plain/{x}"))
    call_asgi(meterkit.asgi.MeterMiddleware(app, kit), path="/plain/7")

    assert "route_missing" in kit.health()["problems"]


def test_what_an_old_starlette_keeps_to_itself_is_said_loudly(
    make_kit: MakeKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    FastAPI's own routes publish themselves under any Starlette, those of a Starlette app mounted in it since 1.7.
    """
    monkeypatch.setattr("starlette.__version__", "0.46.2")
    kit = make_kit(Meter("own", route="/direct/{x}"), Meter("mounted", route="/api/plain/{x}"))
    app = fastapi.FastAPI()
    app.get("/direct/{x}")(lambda x: x)
    app.mount("/api", Starlette(routes=[Route("/plain/{x}", item)]))
    call_asgi(meterkit.asgi.MeterMiddleware(app, kit), path="/direct/7")

    problem = kit.health()["problems"]["route_unknown"]["message"]
    assert "Meter('mounted')" in problem
    assert "Meter('own')" not in problem


def test_a_templated_mount_is_remembered_within_bounds(make_kit: MakeKit, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Clients choose what stands in it.
    """
    monkeypatch.setattr(meterkit.adapters.starlette_routes, "MAX_MOUNTS", 3)
    kit = make_kit(Meter("calls", route="/star/{tenant}/items/{id:int}"))
    app = starlette_shop()
    metered = meterkit.asgi.MeterMiddleware(app, kit)
    for number in range(10):
        call_asgi(metered, path=f"/star/tenant-{number}/items/1")
        assert len(metered.templates._mounts) <= 3
    kit.flush()

    assert [10] == [row.quantity for row in kit.usage()]


def test_a_host_and_a_mount_behind_it(make_kit: MakeKit) -> None:
    """
    A host adds nothing to the path.
    """
    kit = make_kit(Meter("calls", route="/hosted/{x}"))
    call_asgi(around(starlette_shop)(kit), path="/hosted/1", scope={"headers": [(b"host", b"api.example.org")]})
    kit.flush()

    assert [1] == [row.quantity for row in kit.usage()]


def test_a_servers_root_path_is_no_mount(make_kit: MakeKit) -> None:
    """
    What a proxy stripped is in the path, and not in the template.
    """
    kit = make_kit(Meter("calls", route="/star/{tenant}/items/{id:int}", path="/proxy/*"))
    call_asgi(around(starlette_shop)(kit), path="/proxy/star/a/items/1", scope={"root_path": "/proxy"})
    kit.flush()

    assert [1] == [row.quantity for row in kit.usage()]
