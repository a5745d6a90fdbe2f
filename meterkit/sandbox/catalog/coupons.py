"""Coupons: a percentage or an amount off, once, for some months or forever."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, Any

from meterkit.sandbox.protocol.errors import invalid, missing_parameter
from meterkit.sandbox.protocol.lists import page
from meterkit.sandbox.protocol.params import (
    METADATA,
    PAGE,
    Array,
    Choice,
    Integer,
    Number,
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

_OPTIONS = Table({"amount_off": Integer(1, required=True)})
UPDATE: dict[str, Rule] = {"currency_options": _OPTIONS, "metadata": METADATA, "name": Text(40, nullable=True)}
CREATE: dict[str, Rule] = {
    **UPDATE,
    "amount_off": Integer(1),
    "applies_to": Object({"products": Array(Text())}),
    "currency": Text(3),
    "duration": Choice(("forever", "once", "repeating")),
    "duration_in_months": Integer(1),
    "id": Text(),
    "max_redemptions": Integer(1),
    "percent_off": Number(4),
    "redeem_by": Integer(),
}


def create(account: Account, call: Call) -> Record:
    """Create a coupon, with the caller's id if given."""
    params = call.params
    _check(account, params)
    currency = params["currency"].lower() if "amount_off" in params else None
    percent = params.get("percent_off")
    identity = params.get("id") or fresh_id("", 8)
    options = {key.lower(): each for key, each in params.get("currency_options", {}).items()}
    record: Record = {
        "id": identity,
        "object": "coupon",
        "amount_off": params.get("amount_off"),
        "applies_to": params.get("applies_to"),
        "created": account.now,
        "currency": currency,
        "currency_options": {currency: {"amount_off": params["amount_off"]}, **options} if currency else None,
        "duration": params.get("duration", "once"),
        "duration_in_months": params.get("duration_in_months"),
        "livemode": account.switches.livemode,
        "max_redemptions": params.get("max_redemptions"),
        "metadata": merged({}, params.get("metadata")),
        "name": params.get("name"),
        "percent_off": None if percent is None else float(percent),
        "redeem_by": params.get("redeem_by"),
        "times_redeemed": 0,
        "valid": True,
        "_percent": percent,
    }
    account.announce("coupon.created", account.add(record))
    return record


def retrieve(account: Account, call: Call) -> Record:
    """Return one coupon."""
    return renewed(account, account.get("coupon", call.id))


def update(account: Account, call: Call) -> Record:
    """Change the name and the metadata, or add amounts in further currencies."""
    record = account.get("coupon", call.id)
    values = {key: value for key, value in call.params.items() if key in UPDATE}
    if "metadata" in values:
        values["metadata"] = merged(record["metadata"], values["metadata"])
    if "currency_options" in values:
        if record["amount_off"] is None:
            raise invalid("`currency_options` needs `amount_off`.", param="currency_options")
        values["currency_options"] = {**record["currency_options"], **values["currency_options"]}
    account.change(record, "coupon.updated", **values)
    return record


def delete(account: Account, call: Call) -> Record:
    """Delete a coupon: it cannot be redeemed again, and who has it keeps it."""
    record = account.get("coupon", call.id)
    account.announce("coupon.deleted", record)
    record["deleted"] = True
    return {"id": record["id"], "object": "coupon", "deleted": True}


def list_all(account: Account, call: Call) -> Record:
    """Return coupons, newest first."""
    records = [
        renewed(account, coupon)
        for coupon in reversed(account.all("coupon"))
        if within(coupon["created"], call.params.get("created"))
    ]
    return page(call, records, "coupon")


def renewed(account: Account, coupon: Record) -> Record:
    """Return a coupon after its `valid` was brought up to date."""
    spent = coupon["max_redemptions"] is not None and coupon["times_redeemed"] >= coupon["max_redemptions"]
    late = coupon["redeem_by"] is not None and coupon["redeem_by"] <= account.now
    coupon["valid"] = not spent and not late
    return coupon


def _check(account: Account, params: dict[str, Any]) -> None:
    if ("percent_off" in params) == ("amount_off" in params):
        raise invalid("You must pass either `percent_off` or `amount_off`.", param="percent_off")
    if not 0 < params.get("percent_off", 1) <= 100:
        raise invalid("`percent_off` must be greater than 0 and at most 100.", param="percent_off")
    if "amount_off" in params and "currency" not in params:
        raise missing_parameter("currency")
    if "currency_options" in params and "amount_off" not in params:
        raise invalid("`currency_options` needs `amount_off`.", param="currency_options")
    if (params.get("duration") == "repeating") != ("duration_in_months" in params):
        raise invalid("`duration=repeating`, and no other, needs `duration_in_months`.", param="duration_in_months")
    if params.get("redeem_by", account.now + 1) <= account.now:
        raise invalid("`redeem_by` must be in the future.", param="redeem_by")
    for product in params.get("applies_to", {}).get("products", ()):
        account.get("product", product, param="applies_to[products]")
    identity = params.get("id", "")
    if set(identity) - set(string.ascii_letters + string.digits + "_-"):
        raise invalid("Coupon ids may only contain letters, digits, `_` and `-`.", param="id")
    if identity in account.tables["coupon"] and not account.tables["coupon"][identity].get("deleted"):
        raise invalid("Coupon already exists.", param="id", code="resource_already_exists")


_COUPON = "/v1/coupons/{id}"
ROUTES = [
    Route("POST", "/v1/coupons", create, CREATE),
    Route("GET", "/v1/coupons", list_all, {**PAGE, "created": Span()}),
    Route("GET", _COUPON, retrieve),
    Route("POST", _COUPON, update, UPDATE),
    Route("DELETE", _COUPON, delete),
]
