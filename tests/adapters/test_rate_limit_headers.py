"""RateLimit and RateLimit-Policy: what is left of a quota, on what is served and on what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from adapter_drivers import Answer, answering, call_asgi, call_wsgi
from adapter_stacks import Stack
from adapter_usage import looked_once
from fake_clock import Clock

from meterkit import ConfigurationError, Governance, Meter, MeterKit, Plan, Quota
from meterkit.asgi import MeterMiddleware
from meterkit.core.responses import RateLimit, rate_limit_headers
from meterkit.wsgi import MeterMiddleware as WSGIMeterMiddleware

pytestmark = pytest.mark.long

Make = Callable[..., MeterKit]

CALLS = Meter("calls", path="*")
TOKENS = Meter("tokens", path="*", value="tokens")

DAY = 86400


def served(make_kit: Make, stack: Stack, *quotas: Quota, **options: Any) -> tuple[Any, MeterKit]:
    rules = {"rate_limit_headers": True, **options.pop("rules", {})}
    kit = make_kit(CALLS, TOKENS, governance=Governance(quotas=quotas, **rules), **options)
    app = stack.make(kit)
    looked_once(kit)
    return app, kit


def told(answer: Answer) -> dict[str, list[str]]:
    """The header fields of the draft, each with all its values."""
    found: dict[str, list[str]] = {}
    for name, value in answer.headers:
        if name.lower().startswith("ratelimit"):
            found.setdefault(name.lower(), []).append(value)
    return found


def of(*limits: tuple[str, int, int, int, int]) -> dict[str, list[str]]:
    return {
        "ratelimit-policy": [", ".join(f'"{name}";q={quota};w={window}' for name, quota, window, _, _ in limits)],
        "ratelimit": [", ".join(f'"{name}";r={left};t={reset}' for name, _, _, left, reset in limits)],
    }


@pytest.mark.parametrize("exact", [False, True])
def test_what_is_left(make_kit: Make, stack: Stack, clock: Clock, exact: bool) -> None:
    """It includes the request itself; a refused one has nothing left, and waits as long as Retry-After says."""
    clock.now = 20_000 * DAY + 100.0
    app, _ = served(make_kit, stack, Quota(CALLS, 2, per="day", exact=exact), clock=clock)
    answers = [stack.call(app, path=f"/{what}") for what in ("whole", "stream", "whole")]

    assert [201, 200, 429] == [each.status for each in answers]
    assert [of(("calls-day", 2, DAY, left, DAY - 100)) for left in (1, 0, 0)] == list(map(told, answers))
    assert ("retry-after", str(DAY - 100)) in [(name.lower(), value) for name, value in answers[2].headers]


def test_quotas_of_two_meters(make_kit: Make, stack: Stack, clock: Clock) -> None:
    """Both policies are told, in one field each; what a request will add is not known beforehand."""
    clock.now = 20_000 * DAY
    app, kit = served(
        make_kit, stack, Quota(CALLS, 9, per="day"), Quota(TOKENS, 100, per="day", hard=False), clock=clock
    )
    kit.record("tokens", "acme", 30)

    assert of(("calls-day", 9, DAY, 8, DAY), ("tokens-day", 100, DAY, 70, DAY)) == told(stack.call(app, path="/whole"))


def test_once(make_kit: Make, stack: Stack) -> None:
    """Whatever the view does to the response, and beside a warning."""
    app, _ = served(make_kit, stack, Quota(CALLS, 0, hard=False))
    answer = stack.call(app, path="/whole")

    assert [1, 1] == [len(values) for values in told(answer).values()]
    assert ["quota"] == [value for name, value in answer.headers if name.lower() == "x-meterkit-warning"]


@pytest.mark.parametrize(
    ("quota", "options"),
    [
        (Quota(CALLS, 9), {"rules": {"rate_limit_headers": False}}),
        (Quota(CALLS, 9), {"identify": lambda exchange: None}),
        (Quota(CALLS, 9), {"rules": {"exempt": ["/whole"]}}),
        (Quota(CALLS, lambda company: None), {}),
        (Quota(TOKENS, {"globex": 9}.get), {}),
        (Quota(CALLS, 9), {"customer_page": "/whole"}),
    ],
)
def test_where_there_is_none(make_kit: Make, stack: Stack, quota: Quota, options: dict[str, Any]) -> None:
    """Without a company, a quota, a limit, or the wish for it; and on the customer page."""
    app, _ = served(make_kit, stack, quota, **options)

    assert {} == told(stack.call(app, path="/whole"))


def test_the_quota_of_a_plan(make_kit: Make, stack: Stack) -> None:
    """A company is told that of its plan."""
    kit = make_kit(
        CALLS,
        plans=[Plan("free", limits=[Quota(CALLS, 5)])],
        default_plan="free",
        governance=Governance(overdue_days=9, rate_limit_headers=True),
    )
    app = stack.make(kit)
    looked_once(kit)
    policy = told(stack.call(app, path="/whole"))["ratelimit-policy"][0]

    assert policy.startswith('"calls-period";q=5;w=')


def test_early_hints_have_none(make_kit: Make) -> None:
    """A response that precedes the actual one is left as it is."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 103, "headers": []})
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    kit = make_kit(CALLS, governance=Governance(quotas=[Quota(CALLS, 9)], rate_limit_headers=True))
    looked_once(kit)
    starts = [event for event in call_asgi(MeterMiddleware(app, kit)).log if event[0] == "start"]

    assert [(103, 0), (200, 2)] == [(status, len(headers)) for _, status, headers, _ in starts]


def test_bare_wsgi(make_kit: Make) -> None:
    """The app's own list of headers is not changed."""
    kit = make_kit(CALLS, governance=Governance(quotas=[Quota(CALLS, 9)], rate_limit_headers=True))
    looked_once(kit)
    answer = call_wsgi(WSGIMeterMiddleware(answering([b"ok"], ("X-Own", "1")), kit))

    assert ["X-Own", "RateLimit-Policy", "RateLimit"] == [name for name, _ in answer.headers]


def test_names_are_quoted() -> None:
    """As strings of structured fields, which are printable ASCII."""
    found = rate_limit_headers([RateLimit('a"b\\c\u00e4\n', 1, 2, 3, 4)])

    assert [("RateLimit-Policy", '"a\\"b\\\\c??";q=1;w=2'), ("RateLimit", '"a\\"b\\\\c??";r=3;t=4')] == found
    assert [] == rate_limit_headers([])


def test_a_wrong_option() -> None:
    """It is refused while the rules are built."""
    with pytest.raises(ConfigurationError, match="True or False"):
        Governance(overdue_days=1, rate_limit_headers="yes")  # type: ignore[arg-type]
