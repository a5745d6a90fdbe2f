"""Prices: per unit, in packages, graduated or by volume; licensed or fed by a meter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meterkit.sandbox.catalog import price_amounts, products
from meterkit.sandbox.protocol.errors import invalid
from meterkit.sandbox.protocol.lists import page
from meterkit.sandbox.protocol.params import (
    METADATA,
    PAGE,
    Array,
    Boolean,
    Choice,
    Integer,
    Number,
    Object,
    Rule,
    Span,
    Table,
    Text,
    UpTo,
    merged,
    within,
)
from meterkit.sandbox.protocol.routes import Call, Route

if TYPE_CHECKING:
    from meterkit.sandbox.state.account import Account, Record

_INTERVALS = Choice(("day", "week", "month", "year"))
_USAGE_TYPES = Choice(("licensed", "metered"))
_TIER: dict[str, Rule] = {
    "flat_amount": Integer(0),
    "flat_amount_decimal": Number(12),
    "unit_amount": Integer(0),
    "unit_amount_decimal": Number(12),
    "up_to": UpTo(required=True),
}
_TAX_BEHAVIORS = Choice(("exclusive", "inclusive", "unspecified"))
_OPTIONS = Table(
    {
        "tax_behavior": _TAX_BEHAVIORS,
        "tiers": Array(Object(_TIER)),
        "unit_amount": Integer(0),
        "unit_amount_decimal": Number(12),
    },
    nullable=True,
)
UPDATE: dict[str, Rule] = {
    "active": Boolean(),
    "currency_options": _OPTIONS,
    "lookup_key": Text(200, nullable=True),
    "metadata": METADATA,
    "nickname": Text(nullable=True),
    "tax_behavior": _TAX_BEHAVIORS,
    "transfer_lookup_key": Boolean(),
}
CREATE: dict[str, Rule] = {
    **UPDATE,
    "billing_scheme": Choice(("per_unit", "tiered")),
    "currency": Text(3, required=True),
    "currency_options": _OPTIONS,
    "product": Text(),
    "product_data": Object(products.INLINE),
    "recurring": Object(
        {
            "interval": Choice(_INTERVALS.options, required=True),
            "interval_count": Integer(1, 1095),
            "meter": Text(),
            "usage_type": _USAGE_TYPES,
        }
    ),
    "tiers": Array(Object(_TIER)),
    "tiers_mode": Choice(("graduated", "volume")),
    "transform_quantity": Object(
        {"divide_by": Integer(1, required=True), "round": Choice(("up", "down"), required=True)}
    ),
    "unit_amount": Integer(0),
    "unit_amount_decimal": Number(12),
}
LIST: dict[str, Rule] = {
    **PAGE,
    "active": Boolean(),
    "created": Span(),
    "currency": Text(3),
    "lookup_keys": Array(Text(200), 10),
    "product": Text(),
    "recurring": Object({"interval": _INTERVALS, "meter": Text(), "usage_type": _USAGE_TYPES}),
    "type": Choice(("one_time", "recurring")),
}


def create(account: Account, call: Call) -> Record:
    """Create a price."""
    params = call.params
    scheme = params.get("billing_scheme", "per_unit")
    recurring = _recurring(account, params.get("recurring"))
    tiers = price_amounts.tiers(params) if scheme == "tiered" else None
    amounts = price_amounts.unit_price(params) if tiers is None else {"unit_amount": None, "unit_amount_decimal": None}
    _claim_lookup_key(account, params)
    record: Record = {
        "id": account.new_id("price"),
        "object": "price",
        "active": params.get("active", True),
        "billing_scheme": scheme,
        "created": account.now,
        "currency": params["currency"].lower(),
        "currency_options": price_amounts.currency_options(params, {**amounts, "tiers": tiers}, scheme),
        "custom_unit_amount": None,
        "livemode": account.switches.livemode,
        "lookup_key": params.get("lookup_key"),
        "metadata": merged({}, params.get("metadata")),
        "nickname": params.get("nickname"),
        "product": _product(account, params),
        "recurring": recurring,
        "tax_behavior": params.get("tax_behavior", "unspecified"),
        "tiers": tiers,
        "tiers_mode": params.get("tiers_mode"),
        "transform_quantity": params.get("transform_quantity"),
        "type": "one_time" if recurring is None else "recurring",
        **amounts,
    }
    account.announce("price.created", account.add(record))
    return record


def retrieve(account: Account, call: Call) -> Record:
    """Return one price."""
    return account.get("price", call.id)


def update(account: Account, call: Call) -> Record:
    """Change the fields that can change; amounts cannot."""
    record = account.get("price", call.id)
    _claim_lookup_key(account, call.params, besides=record)
    values = {key: value for key, value in call.params.items() if key in record and key in UPDATE}
    if "metadata" in values:
        values["metadata"] = merged(record["metadata"], values["metadata"])
    if "currency_options" in values:
        values["currency_options"] = _changed_options(record, values["currency_options"])
    account.change(record, "price.updated", **values)
    return record


def list_all(account: Account, call: Call) -> Record:
    """Return prices, newest first."""
    params = call.params
    exact = [key for key in ("active", "currency", "product", "type") if key in params]
    periodic = params.get("recurring", {})
    records = [
        price
        for price in reversed(account.all("price"))
        if all(price[key] == params[key] for key in exact)
        and all((price["recurring"] or {}).get(key) == value for key, value in periodic.items())
        and ("lookup_keys" not in params or price["lookup_key"] in params["lookup_keys"])
        and within(price["created"], params.get("created"))
    ]
    return page(call, records, "price")


def _changed_options(price: Record, given: dict[str, Any] | None) -> Record:
    """Return `currency_options` after an update, which may add, change or (all at once) remove other currencies."""
    own = {price["currency"]: price["currency_options"][price["currency"]]}
    if given is None:
        return own
    if price["currency"] in given:
        raise invalid(
            "The amounts in the price's own currency cannot change.", param=f"currency_options[{price['currency']}]"
        )
    return {**price["currency_options"], **price_amounts.options(given, price["billing_scheme"], price["tiers"])}


def _product(account: Account, params: dict[str, Any]) -> str:
    if ("product" in params) == ("product_data" in params):
        raise invalid("You must specify either `product` or `product_data` when creating a price.", param="product")
    if "product" in params:
        identity: str = account.get("product", params["product"], param="product")["id"]
        return identity
    made: str = products.build(account, params["product_data"])["id"]
    return made


def _recurring(account: Account, params: dict[str, Any] | None) -> Record | None:
    if params is None:
        return None
    usage_type = params.get("usage_type", "licensed")
    if usage_type == "metered" and "meter" not in params:
        raise invalid(
            "Prices with `recurring[usage_type]=metered` must be backed by a meter: set `recurring[meter]`.",
            param="recurring[meter]",
        )
    if usage_type == "licensed" and "meter" in params:
        raise invalid("`recurring[meter]` needs `recurring[usage_type]=metered`.", param="recurring[meter]")
    if "meter" in params:
        meter = account.get("billing.meter", params["meter"], param="recurring[meter]")
        if meter["status"] != "active":
            raise invalid(f"The meter {meter['id']} is inactive.", param="recurring[meter]")
    return {
        "interval": params["interval"],
        "interval_count": params.get("interval_count", 1),
        "meter": params.get("meter"),
        "trial_period_days": None,
        "usage_type": usage_type,
    }


def _claim_lookup_key(account: Account, params: dict[str, Any], besides: Record | None = None) -> None:
    """Release a lookup key that another price has, even an inactive one, if the caller requests a transfer."""
    key = params.get("lookup_key")
    for price in account.all("price"):
        if key is None or price is besides or price["lookup_key"] != key:
            continue
        if not params.get("transfer_lookup_key"):
            raise invalid(f"A price (`{price['id']}`) already uses that lookup key.", param="lookup_key")
        account.change(price, "price.updated", lookup_key=None)


ROUTES = [
    Route("POST", "/v1/prices", create, CREATE),
    Route("GET", "/v1/prices", list_all, LIST),
    Route("GET", "/v1/prices/{id}", retrieve),
    Route("POST", "/v1/prices/{id}", update, UPDATE),
]
