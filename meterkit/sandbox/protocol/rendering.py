"""From records to responses: internal fields are removed, and those named in `expand[]` are expanded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meterkit.sandbox.protocol.errors import invalid

if TYPE_CHECKING:
    from collections.abc import Iterable

    from meterkit.sandbox.state.account import Account, Record

# Fields with an id that can be expanded, and the kind of object.
REFERENCES = {
    "configuration": "billing_portal.configuration",
    "customer": "customer",
    "default_payment_method": "payment_method",
    "default_price": "price",
    "coupon": "coupon",
    "credit_balance_transaction": "billing.credit_balance_transaction",
    "credit_grant": "billing.credit_grant",
    "discount": "discount",
    "discounts": "discount",
    "invoice": "invoice",
    "latest_invoice": "invoice",
    "payment_intent": "payment_intent",
    "payment_method": "payment_method",
    "price": "price",
    "product": "product",
    "promotion_code": "promotion_code",
    "schedule": "subscription_schedule",
    "setup_intent": "setup_intent",
    "subscription": "subscription",
    "test_clock": "test_helpers.test_clock",
}
# Fields that are included only if requested with `expand[]`.
ON_DEMAND = {
    ("checkout.session", "line_items"),
    ("coupon", "applies_to"),
    ("coupon", "currency_options"),
    ("invoice", "payments"),
    ("price", "currency_options"),
    ("price", "tiers"),
    ("", "tiers"),  # of a currency option
}
DEEPEST = 4

Tree = dict[str, Any]


def render(account: Account, record: Record, expand: Iterable[str] = ()) -> Record:
    """
    Return the response for a record.

    Raises:
        ApiError: 400 if a path cannot be expanded.

    """
    tree: Tree = {}
    for path in expand:
        names = path.split(".")
        if len(names) > DEEPEST:
            raise invalid(f"You cannot expand more than {DEEPEST} levels of a property. Property: {path}")
        here = tree
        for name in names:
            here = here.setdefault(name, {})
    response: Record = _value(account, record, tree, "")
    return response


def _value(account: Account, value: Any, tree: Tree, path: str) -> Any:
    if isinstance(value, list):
        return [_value(account, item, tree, path) for item in value]
    if not isinstance(value, dict):
        return value
    kind = str(value.get("object", ""))  # in an event's data, "object" is the object itself, not its name
    for name in tree:
        if name not in value:
            raise invalid(f"This property cannot be expanded ({path}{name}).", param="expand")
    return {
        name: None if item is None and (kind, name) in ON_DEMAND else _field(account, name, item, tree, path)
        for name, item in value.items()
        if not name.startswith("_") and ((kind, name) not in ON_DEMAND or name in tree)
    }


def _field(account: Account, name: str, item: Any, tree: Tree, path: str) -> Any:
    if name not in tree:
        return _value(account, item, {}, "")
    if isinstance(item, list) and name in REFERENCES:  # ids
        return [_field(account, name, each, tree, path) for each in item]
    if isinstance(item, (dict, list)):
        return _value(account, item, tree[name], f"{path}{name}.")
    if name not in REFERENCES:
        raise invalid(f"This property cannot be expanded ({path}{name}).", param="expand")
    target = account.find(REFERENCES[name], item) if item is not None else None
    return item if target is None else _value(account, target, tree[name], f"{path}{name}.")
