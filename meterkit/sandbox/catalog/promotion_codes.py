"""Promotion codes: what customers type to get a coupon."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meterkit.sandbox.catalog import coupons
from meterkit.sandbox.protocol.errors import invalid
from meterkit.sandbox.protocol.lists import page
from meterkit.sandbox.protocol.params import (
    METADATA,
    PAGE,
    Boolean,
    Choice,
    Integer,
    Object,
    Rule,
    Span,
    Table,
    Text,
    merged,
    within,
)
from meterkit.sandbox.protocol.routes import Call, Route
from meterkit.sandbox.state.account import fresh_id

if TYPE_CHECKING:
    from meterkit.sandbox.state.account import Account, Record

_OPTIONS = Table({"minimum_amount": Integer(1)})
UPDATE: dict[str, Rule] = {
    "active": Boolean(),
    "metadata": METADATA,
    "restrictions": Object({"currency_options": _OPTIONS}),
}
CREATE: dict[str, Rule] = {
    **UPDATE,
    "code": Text(500),
    "customer": Text(),
    "expires_at": Integer(),
    "max_redemptions": Integer(1),
    "promotion": Object({"coupon": Text(required=True), "type": Choice(("coupon",), required=True)}, required=True),
    "restrictions": Object(
        {
            "currency_options": _OPTIONS,
            "first_time_transaction": Boolean(),
            "minimum_amount": Integer(1),
            "minimum_amount_currency": Text(3),
        }
    ),
}


def create(account: Account, call: Call) -> Record:
    """Create a code for a coupon; a random one unless given."""
    params = call.params
    coupon = account.get("coupon", params["promotion"]["coupon"], param="promotion[coupon]")
    if not coupons.renewed(account, coupon)["valid"]:
        raise invalid(f"Coupon {coupon['id']} is not valid.", param="promotion[coupon]")
    if "customer" in params:
        account.get("customer", params["customer"], param="customer")
    code = params.get("code", fresh_id("", 8).upper())
    _check_free(account, code)
    restrictions = params.get("restrictions", {})
    record: Record = {
        "id": account.new_id("promotion_code"),
        "object": "promotion_code",
        "active": params.get("active", True),
        "code": code,
        "created": account.now,
        "customer": params.get("customer"),
        "customer_account": None,
        "expires_at": params.get("expires_at"),
        "livemode": account.switches.livemode,
        "max_redemptions": params.get("max_redemptions"),
        "metadata": merged({}, params.get("metadata")),
        "promotion": {"coupon": coupon["id"], "type": "coupon"},
        "restrictions": {
            "first_time_transaction": restrictions.get("first_time_transaction", False),
            "minimum_amount": restrictions.get("minimum_amount"),
            "minimum_amount_currency": restrictions.get("minimum_amount_currency"),
            **{name: each for name, each in restrictions.items() if name == "currency_options"},
        },
        "times_redeemed": 0,
    }
    account.announce("promotion_code.created", account.add(record))
    return record


def retrieve(account: Account, call: Call) -> Record:
    """Return one code."""
    return account.get("promotion_code", call.id)


def update(account: Account, call: Call) -> Record:
    """Switch a code on or off, or change its metadata or its minimum amounts."""
    record = account.get("promotion_code", call.id)
    values = {key: value for key, value in call.params.items() if key in UPDATE}
    if "metadata" in values:
        values["metadata"] = merged(record["metadata"], values["metadata"])
    if "restrictions" in values:
        values["restrictions"] = {**record["restrictions"], **values["restrictions"]}
    if values.get("active") and not record["active"]:
        _check_free(account, record["code"])
    account.change(record, "promotion_code.updated", **values)
    return record


def list_all(account: Account, call: Call) -> Record:
    """Return codes, newest first."""
    params = call.params
    exact = [key for key in ("active", "customer") if key in params]
    records = [
        each
        for each in reversed(account.all("promotion_code"))
        if all(each[key] == params[key] for key in exact)
        and str(params.get("code", each["code"])).lower() == each["code"].lower()
        and params.get("coupon") in (None, each["promotion"]["coupon"])
        and within(each["created"], params.get("created"))
    ]
    return page(call, records, "promotion code")


def _check_free(account: Account, code: str) -> None:
    if any(each["active"] and each["code"].lower() == code.lower() for each in account.all("promotion_code")):
        raise invalid(f"An active promotion code with `code: {code}` already exists.", param="code")


_CODE = "/v1/promotion_codes/{id}"
ROUTES = [
    Route("POST", "/v1/promotion_codes", create, CREATE),
    Route(
        "GET",
        "/v1/promotion_codes",
        list_all,
        {
            **PAGE,
            "active": Boolean(),
            "code": Text(),
            "coupon": Text(),
            "created": Span(),
            "customer": Text(),
        },
    ),
    Route("GET", _CODE, retrieve),
    Route("POST", _CODE, update, UPDATE),
]
