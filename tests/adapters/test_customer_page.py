"""A customer sees its own usage at a path, in every stack; nobody sees another's."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from adapter_drivers import Answer
from adapter_stacks import Stack

from meterkit import ConfigurationError, Governance, Meter, MeterKit, Price, Quota, Tier, Webhook

CALLS = Meter("calls", path="/whole")
PRICE = Price.graduated(CALLS, Tier(up_to=2, unit_price="5.00"), Tier(unit_price="3.00"))


def whose(exchange: Any) -> str | None:
    return exchange.headers.get("x-company")  # type: ignore[no-any-return]


@pytest.fixture
def kit(make_kit: Callable[..., MeterKit]) -> MeterKit:
    return make_kit(
        CALLS,
        Meter("all", path="*", status="*"),
        prices=[PRICE],
        governance=Governance(quotas=[Quota(CALLS, 5, per="month")]),
        customer_page="/billing/usage",
        identify=whose,
    )


@pytest.fixture
def ask(stack: Stack, kit: MeterKit) -> Callable[..., Answer]:
    app = stack.make(kit)

    def ask(path: str = "/billing/usage", company: str | None = "acme", method: str = "GET") -> Answer:
        return stack.call(app, method, path, headers={"X-Company": company} if company else {})

    return ask


def test_who_it_is_sees_its_own_usage(ask: Callable[..., Answer], kit: MeterKit) -> None:
    """This period, the place in the tiers, the quota, and the last twelve months; looking is no usage."""
    for company, times in {"acme": 3, "globex": 1}.items():
        for _ in range(times):
            ask("/whole", company)
    kit.flush()
    answers = {company: ask(company=company) for company in ("acme", "globex")}
    found = {company: json.loads(answer.body) for company, answer in answers.items()}
    calls, _ = found["acme"]["meters"]
    kit.flush()

    assert [200, 200] == [answer.status for answer in answers.values()]
    headers = {name.lower(): value for name, value in answers["acme"].headers}
    assert ("no-store", "nosniff") == (headers["cache-control"], headers["x-content-type-options"])
    assert {"acme": 3, "globex": 1} == {company: each["meters"][0]["used"] for company, each in found.items()}
    assert ("acme", "unknown", None) == tuple(found["acme"][name] for name in ("company", "standing", "overdue"))
    assert {"start": "2026-03-01T00:00:00Z", "end": "2026-04-01T00:00:00Z"} == found["acme"]["period"]
    assert (2, None) == (calls["price"]["tier"], calls["price"]["left_in_tier"])
    assert [{"limit": 5, "used": 3, "per": "month", "until": "2026-04-01T00:00:00Z"}] == calls["quotas"]
    assert ["2025-04", "2026-03"] == [found["acme"]["months"][at]["month"] for at in (0, -1)]
    assert {"calls": 3, "all": 3} == found["acme"]["months"][-1]["used"]
    assert 4 == sum(row.quantity for row in kit.usage(meter="all"))


def test_small_prices_are_written_out(stack: Stack, make_kit: Callable[..., MeterKit]) -> None:
    """In digits, however small they are."""
    price = Price.graduated(CALLS, Tier(up_to=2, unit_price="0.0000025"), Tier(unit_price="0.00000015"))
    app = stack.make(make_kit(CALLS, prices=[price], customer_page="/billing/usage", identify=whose))
    page = json.loads(stack.call(app, path="/billing/usage", headers={"X-Company": "acme"}).body)
    tiers = page["meters"][0]["price"]["tiers"]

    assert ["0.0000025", "0.00000015"] == [tier["unit_price"] for tier in tiers]


def test_who_is_not_known_sees_nothing(ask: Callable[..., Answer]) -> None:
    """Nor does it help to name a company in the query."""
    answer = ask(company=None)

    assert 401 == answer.status
    assert b"acme" not in answer.body


def test_other_methods_are_not_allowed(ask: Callable[..., Answer]) -> None:
    """It can only be read."""
    assert [405, 200] == [ask(method=method).status for method in ("POST", "HEAD")]


@pytest.mark.parametrize("path", ["billing", "/a/{company}", 5])
def test_a_path_that_is_none(make_kit: Callable[..., MeterKit], path: Any) -> None:
    """It is said while building."""
    with pytest.raises(ConfigurationError, match="a plain path such as"):
        make_kit(CALLS, customer_page=path)


def test_two_at_one_path(make_kit: Callable[..., MeterKit]) -> None:
    """The webhook's is taken."""
    with pytest.raises(ConfigurationError, match="the same path"):
        make_kit(CALLS, customer_page="/hook", webhook=Webhook("/hook", secret="whsec_1"))
