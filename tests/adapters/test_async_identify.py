"""An ``identify=`` that is async: awaited where the app's event loop runs, and run to completion where none does."""

from __future__ import annotations

import asyncio
import functools
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from adapter_cases import USUAL_FIRST
from adapter_django import django_handler
from adapter_drivers import answering, call_asgi, call_wsgi, scope_for
from adapter_stacks import Stack
from adapter_usage import looked_once, usage_of
from asgiref.sync import sync_to_async
from django.http import HttpResponse
from django.urls import path

import meterkit
from meterkit import Exchange, Governance, Identity, Meter, MeterKit, Quota
from meterkit.asgi import MeterMiddleware
from meterkit.wsgi import MeterMiddleware as WSGIMeterMiddleware

pytestmark = pytest.mark.long

Make = Callable[..., MeterKit]

CALLS = Meter("calls", path="*")
KEYS = {"key-of-acme": "acme"}
TENANT: ContextVar[str] = ContextVar("tenant", default="nobody")


class Accounts:
    """The accounts of an application, asked asynchronously; it writes down how often."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.asked: list[str] = []
        self.seen: list[Any] = []
        self.error = error

    async def company_of(self, exchange: Exchange) -> Identity | None:
        self.asked.append(exchange.path)
        self.seen.append((asyncio.get_running_loop(), TENANT.get(), exchange.status))
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        company = KEYS.get(exchange.headers.get("X-Api-Key", ""))
        return None if company is None else Identity(company, user="ann")


def call(stack: Stack, app: Any, what: str = "whole", **how: Any) -> Any:
    return stack.call(app, path=f"/{what}", headers={"X-Api-Key": "key-of-acme"}, **how)


def payers(kit: MeterKit) -> set[tuple[str | None, str | None]]:
    kit.flush()
    return {(row.company, row.user) for row in kit.usage()}


@pytest.mark.parametrize("what", ["whole", "stream", "sized"])
def test_it_is_asked_once(make_kit: Make, stack: Stack, what: str) -> None:
    """In every stack, for whole responses and streams; the company and the user pay."""
    accounts = Accounts()
    kit = make_kit(CALLS, identify=accounts.company_of)
    answer = call(stack, stack.make(kit), what)

    assert answer.error is None
    assert [f"/{what}"] == accounts.asked
    assert {"calls": 1} == usage_of(kit)
    assert {("acme", "ann")} == payers(kit)
    assert {"no_stripe_key"} >= kit.health()["problems"].keys()


def test_what_nobody_counts_is_not_asked_for(make_kit: Make, stack: Stack) -> None:
    """Neither a request that no meter matches, nor one whose view has said who pays."""
    accounts = Accounts()
    tokens = Meter("tokens", path="/named", value="tokens")
    app = stack.make(make_kit(tokens, identify=accounts.company_of))
    call(stack, app, "whole")
    call(stack, app, "named")

    assert [] == accounts.asked


@pytest.mark.parametrize("exact", [False, True])
def test_governance_awaits_it(make_kit: Make, stack: Stack, exact: bool) -> None:
    """Once, before the view; what is blocked is not billed."""
    accounts = Accounts()
    kit = make_kit(
        CALLS,
        identify=accounts.company_of,
        governance=Governance(quotas=[Quota(CALLS, 1, exact=exact)], exempt=["/nothing"]),
    )
    app = stack.make(kit)
    looked_once(kit)

    assert [201, 429, 429] == [call(stack, app).status for _ in range(3)]
    assert [0, 0, 0] == [status for *_, status in accounts.seen]
    assert {"calls": 1} == usage_of(kit)
    assert 204 == call(stack, app, "nothing").status  # is exempt: nobody needs to know until it is counted
    assert [204] == [status for *_, status in accounts.seen[3:]]


def test_the_customer_page_awaits_it(make_kit: Make, stack: Stack) -> None:
    """Each company sees its own."""
    kit = make_kit(CALLS, identify=Accounts().company_of, customer_page="/whole")
    app = stack.make(kit)

    assert 200 == call(stack, app).status
    assert 401 == stack.call(app, path="/whole").status


@pytest.mark.parametrize("governed", [False, True])
@pytest.mark.parametrize("error", [KeyError("no such key"), TimeoutError()], ids=repr)
def test_it_may_raise(make_kit: Make, stack: Stack, governed: bool, error: Exception) -> None:
    """The request does not notice; the usage is kept under no company, and a problem says so."""
    kit = make_kit(
        CALLS,
        identify=Accounts(error).company_of,
        governance=Governance(quotas=[Quota(CALLS, 9)]) if governed else None,
    )
    app = stack.make(kit)
    if governed:
        looked_once(kit)
    answer = call(stack, app)

    assert (None, 201) == (answer.error, answer.status)
    assert {(None, None)} == payers(kit)
    assert "identify_raised" in kit.health()["problems"]
    assert governed == ("identify_early_raised" in kit.health()["problems"])


def in_async_app(make_kit: Make, identify: Any, app: Any, **how: Any) -> tuple[Any, MeterKit]:
    kit = make_kit(Meter("calls", path="*", status="*"), identify=identify)
    return call_asgi(MeterMiddleware(app, kit), **{"headers": {"X-Api-Key": "key-of-acme"}, **how}), kit


async def whole_app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": iter([(b"content-length", b"2")])})
    await send({"type": "http.response.body", "body": b"ok"})


async def plain(exchange: Exchange) -> str:
    return "acme"


def decorated(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return function(*args)

    return wrapper


class Callable_:
    async def __call__(self, exchange: Exchange) -> str:
        return "acme"


FORMS = {
    "function": plain,
    "partial": functools.partial(plain),
    "partial of an object": functools.partial(Callable_()),
    "object": Callable_(),
    "decorated": decorated(plain),
    "method": Accounts().company_of,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("is_async", [False, True])
def test_the_forms_of_an_async_function(make_kit: Make, form: str, is_async: bool) -> None:
    """It is recognised while the kit is built."""
    if is_async:
        answer, kit = in_async_app(make_kit, FORMS[form], whole_app)
        assert ("content-length", "2") in answer.headers
    else:
        kit = make_kit(Meter("calls", path="*"), identify=FORMS[form])
        app = WSGIMeterMiddleware(answering([b"ok"]), kit)
        call_wsgi(app, headers={"X-Api-Key": "key-of-acme"})

    kit.flush()
    assert [("acme", 1)] == [(row.company, row.quantity) for row in kit.usage()]


@pytest.mark.parametrize("is_async", [False, True])
def test_what_is_not_awaited_is_named(make_kit: Make, is_async: bool) -> None:
    """A plain function that returns a coroutine is not seen before it is called; nothing warns of the coroutine."""
    accounts = Accounts()
    if is_async:
        _, kit = in_async_app(make_kit, lambda exchange: accounts.company_of(exchange) or None, whole_app)
    else:
        kit = make_kit(CALLS, identify=lambda exchange: accounts.company_of(exchange) or None)
        call_wsgi(WSGIMeterMiddleware(answering([b"ok"]), kit))

    assert {(None, None)} == payers(kit)
    assert "async function" in kit.health()["problems"]["identify_not_awaited"]["message"]


def test_it_sees_the_context_of_the_request(make_kit: Make) -> None:
    """And runs in the app's own event loop, where the connections of its pool live."""
    accounts, loops = Accounts(), []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        TENANT.set("north")
        loops.append(asyncio.get_running_loop())
        await whole_app(scope, receive, send)

    in_async_app(make_kit, accounts.company_of, app)

    assert [(loops[0], "north", 200)] == accounts.seen


def test_without_an_event_loop_all_requests_share_one(make_kit: Make) -> None:
    """A pool of connections belongs to a loop. The context of the request is seen there, too."""
    accounts = Accounts()
    kit = make_kit(CALLS, identify=accounts.company_of)
    app = WSGIMeterMiddleware(answering([b"ok"]), kit)
    TENANT.set("south")
    for _ in range(3):
        call_wsgi(app)

    assert 1 == len({loop for loop, *_ in accounts.seen})
    assert {"south"} == {tenant for _, tenant, _ in accounts.seen}


def test_in_a_forked_worker() -> None:
    """The loop of the parent does not run in the child, which starts its own."""
    script = """
        import os, sys, warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # of fork beside threads, which this is about
        from meterkit.core.threads import run_async

        async def answer():
            return 42

        assert run_async(answer) == 42
        child = os.fork()
        if not child:
            os._exit(run_async(answer))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]

    assert "42" == subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_django_without_an_event_loop_has_its_own_connection(make_kit: Make) -> None:
    """What Django runs for an async function of a sync project, such as a query, runs in the thread of the request."""
    threads = []

    async def company_of(exchange: Exchange) -> str:
        threads.append(await sync_to_async(threading.get_ident)())
        return "acme"

    kit = make_kit(CALLS, identify=company_of)
    urls = type("Urls", (), {"urlpatterns": [path("", lambda request: HttpResponse(b"done"))]})
    call_wsgi(django_handler(kit, ROOT_URLCONF=urls))

    assert [threading.get_ident()] == threads
    assert {"calls": 1} == usage_of(kit)


async def raising_app(scope: Any, receive: Any, send: Any) -> None:
    raise RuntimeError("the app broke")


def test_an_app_that_raises(make_kit: Make) -> None:
    """Before its response starts: the company is asked for before it is counted as a 500."""
    accounts = Accounts()
    answer, kit = in_async_app(make_kit, accounts.company_of, raising_app)

    assert "the app broke" == str(answer.error)
    assert [500] == [status for *_, status in accounts.seen]
    assert {("acme", "ann")} == payers(kit)


def test_a_client_that_leaves_while_it_is_asked(make_kit: Make) -> None:
    """It pays all the same: the look-up is made again, and cannot be cancelled."""
    asked = []

    async def company_of(exchange: Exchange) -> str:
        asked.append(exchange.path)
        if len(asked) == 1:
            scope.cancel()
        await anyio.lowlevel.checkpoint()
        return "acme"

    kit = make_kit(Meter("calls", path="*"), identify=company_of)
    app = MeterMiddleware(whole_app, kit)
    scope: Any = None

    async def main() -> None:
        nonlocal scope
        with anyio.CancelScope() as scope:
            await app(scope_for(), _never, _never)
            raise AssertionError("it was cancelled")

    anyio.run(main)

    assert 2 == len(asked)
    assert {("acme", None)} == payers(kit)


async def _never(*message: Any) -> Any:
    raise AssertionError("nothing is sent to who has left")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="a task cannot tell whether it was cancelled")
def test_a_cancellation_of_its_own(make_kit: Make) -> None:
    """What it waits for is cancelled, and the request is not."""
    answer, kit = in_async_app(make_kit, Accounts(asyncio.CancelledError()).company_of, whole_app)

    assert (None, 200) == (answer.error, answer.status)
    assert "identify_raised" in kit.health()["problems"]


def test_a_websocket(make_kit: Make) -> None:
    """It is asked at the handshake, and pays for what the handler adds."""
    tokens = Meter("tokens", path="*", value="tokens")
    kit = make_kit(tokens, identify=Accounts().company_of)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        meterkit.add_usage("tokens", 7)

    async def ignore(message: Any) -> None:
        pass

    scope = {**scope_for(headers={"X-Api-Key": "key-of-acme"}), "type": "websocket"}
    asyncio.run(MeterMiddleware(app, kit)(scope, _never, ignore))

    assert {"tokens": 7} == usage_of(kit)
    assert {("acme", "ann")} == payers(kit)


def test_stacks_are_tried() -> None:
    """The fixture of the tests above has sync and async stacks."""
    assert {False, True} == {getattr(each, "values", [each])[0].is_async for each in USUAL_FIRST}
