"""
The types of the public API: checked, never run.

Each ``type: ignore`` says what must not pass; one that ignores nothing is an error itself.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from flask import Flask
from typing_extensions import assert_type

import meterkit.asgi
import meterkit.flask
import meterkit.wsgi
from meterkit import (
    Amounts,
    Exchange,
    Identity,
    Meter,
    MeterKit,
    Plan,
    Price,
    Quota,
    Tier,
    add_usage,
    identify,
    llm,
    response_json,
    skip,
)


def who(exchange: Exchange) -> str | Identity | None:
    """All that an identity may be."""
    company = assert_type(exchange.headers.get("x-company-id"), str | None)
    return Identity(company, user="ann") if company else None


def only_str(exchange: Exchange) -> str:
    """One of them is enough."""
    return exchange.path


async def later(exchange: Exchange) -> str:
    """This is not one."""
    return exchange.path


calls = Meter(
    "calls", path="/v1/*", method=["GET", "POST"], status=("2xx", 304), when=lambda exchange: exchange.status < 300
)
rows = Meter("rows", route="/query", value=response_json("meta.rows", max_bytes=1000))
searches = Meter("searches", tool=["search", "find_*"])
tokens = Meter("tokens", route="/v1/chat", value=llm.tokens("input", *llm.OUTPUT))
llm.tokens("inputs")  # type: ignore[arg-type]
assert_type(llm.watch(httpx.Client()), httpx.Client)
assert_type(llm.usage_of(b"{}").total, int)
Meter("calls", "/v1/*")  # type: ignore[call-arg]
Meter("calls", status=2.5)  # type: ignore[arg-type]
Meter("calls", when=str.isdigit)  # type: ignore[arg-type]

price = Price.graduated(calls, Tier(up_to=100, unit_price="5.00"), Tier(unit_price=Decimal(3), flat_price=1))
Price.package(rows, "4.00", size=60, round="up", currency="eur", interval="year")
Tier(unit_price=0.1)  # type: ignore[arg-type]
Price.package(rows, "4.00", size=60, round="half")  # type: ignore[arg-type]
assert_type(price.amount(1500), Decimal)

plan = Plan(
    "pro",
    fee="20.00",
    prices=[price],
    includes={calls: 10},
    trial_days=14,
    limits=[Quota(calls, 100)],
    features={"export"},
    currencies={"eur": Amounts(fee=18, prices=[Price.per_unit(calls, "0.01", currency="eur")])},
)
Plan("pro", fee=20.0)  # type: ignore[arg-type]
Plan("pro", features=["a", 5])  # type: ignore[list-item]
assert_type(plan.version, str)

kit = MeterKit(
    meters=[calls, rows],
    prices=[price],
    identify=who,
    stripe_key="sk_test_1",
    stripe_base=None,
    stripe_account="acct_1",
    customer_ids=False,
    data_dir=Path("data"),
    ledger="sqlite:///ledger.sqlite",
    flush_interval=5,
    report_interval=60.0,
    clock=lambda: 1_772_366_400,
)
MeterKit(meters=(calls,), identify=only_str)
MeterKit(meters=[calls], identify=later)
MeterKit([calls])  # type: ignore[call-arg]
MeterKit(meters=["calls"])  # type: ignore[list-item]

kit.record(calls, "acme")
kit.record("calls", "acme", 5, user="ann")
kit.record("calls", "acme", 0.5)  # type: ignore[arg-type]
kit.link("acme", "cus_1")
kit.flush()
assert_type(kit.report(include_open=True).sent, int)
assert_type(kit.report().error, str)
assert_type([row.quantity for row in kit.usage(company="acme", meter=calls, since=0, until=1)], list[int])
assert_type([row.customer for row in kit.usage()], list[str | None])
assert_type(kit.health(), dict[str, Any])
assert_type(kit.meters["calls"], Meter)
kit.close()

identify("acme", user="ann")
identify(5, user=UUID(int=3))
identify(5.0)  # type: ignore[arg-type]
add_usage("tokens", 512)
add_usage("tokens", 0.5)  # type: ignore[arg-type]
skip()

app = Flask("billing")
meterkit.flask.init_app(app, kit)
meterkit.flask.init_app(kit, app)  # type: ignore[arg-type]
meterkit.wsgi.MeterMiddleware(app.wsgi_app, kit)
meterkit.wsgi.MeterMiddleware(app.wsgi_app, None)  # type: ignore[arg-type]
meterkit.asgi.MeterMiddleware(lambda scope, receive, send: later, kit=kit)  # type: ignore[arg-type, return-value]

assert_type(meterkit.__version__, str)
meterkit.Metre()  # type: ignore[attr-defined]
