"""Products; their unit label and name make up the text of an invoice line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meterkit.sandbox.protocol.errors import invalid, no_such
from meterkit.sandbox.protocol.lists import page
from meterkit.sandbox.protocol.params import METADATA, PAGE, Array, Boolean, Rule, Span, Text, merged, within
from meterkit.sandbox.protocol.routes import Call, Route

if TYPE_CHECKING:
    from meterkit.sandbox.state.account import Account, Record

_SHARED: dict[str, Rule] = {
    "active": Boolean(),
    "metadata": METADATA,
    "statement_descriptor": Text(22, nullable=True),
    "tax_code": Text(nullable=True),
    "unit_label": Text(12, nullable=True),
}
INLINE: dict[str, Rule] = {**_SHARED, "id": Text(), "name": Text(required=True)}  # a price's product_data
CREATE: dict[str, Rule] = {**INLINE, "description": Text(40000, nullable=True), "url": Text(nullable=True)}
UPDATE: dict[str, Rule] = {
    **_SHARED,
    "name": Text(),
    "description": Text(40000, nullable=True),
    "url": Text(nullable=True),
    "default_price": Text(),
}


def create(account: Account, call: Call) -> Record:
    """Create a product, with the caller's id if given."""
    return build(account, call.params)


def build(account: Account, params: dict[str, Any]) -> Record:
    """
    Create and store a product.

    Raises:
        ApiError: 400 `resource_already_exists`.

    """
    identity = params.get("id") or account.new_id("product")
    if account.find("product", identity) is not None:
        raise invalid("Product already exists.", param="id", code="resource_already_exists")
    record: Record = {
        "id": identity,
        "object": "product",
        "active": True,
        "created": account.now,
        "default_price": None,
        "description": None,
        "images": [],
        "livemode": account.switches.livemode,
        "marketing_features": [],
        "metadata": {},
        "name": "",
        "package_dimensions": None,
        "shippable": None,
        "statement_descriptor": None,
        "tax_code": None,
        "tax_details": None,
        "type": "service",
        "unit_label": None,
        "updated": account.now,
        "url": None,
    }
    record.update({key: value for key, value in params.items() if key in CREATE})
    record["metadata"] = merged({}, params.get("metadata"))
    account.announce("product.created", account.add(record))
    return record


def retrieve(account: Account, call: Call) -> Record:
    """Return one product."""
    return account.get("product", call.id)


def update(account: Account, call: Call) -> Record:
    """Change the fields that were sent."""
    record = account.get("product", call.id)
    values = {key: value for key, value in call.params.items() if key in UPDATE}
    if "metadata" in values:
        values["metadata"] = merged(record["metadata"], values["metadata"])
    if "default_price" in values:
        price = account.get("price", values["default_price"], param="default_price")
        if price["product"] != record["id"]:
            raise no_such("price", price["id"], param="default_price")
    account.change(record, "product.updated", **values, updated=account.now)
    return record


def list_all(account: Account, call: Call) -> Record:
    """Return products, newest first."""
    params = call.params
    records = [
        product
        for product in reversed(account.all("product"))
        if params.get("active") in (None, product["active"])
        and ("ids" not in params or product["id"] in params["ids"])
        and within(product["created"], params.get("created"))
    ]
    return page(call, records, "product")


ROUTES = [
    Route("POST", "/v1/products", create, CREATE),
    Route(
        "GET",
        "/v1/products",
        list_all,
        {**PAGE, "active": Boolean(), "ids": Array(Text()), "created": Span()},
    ),
    Route("GET", "/v1/products/{id}", retrieve),
    Route("POST", "/v1/products/{id}", update, UPDATE),
]
