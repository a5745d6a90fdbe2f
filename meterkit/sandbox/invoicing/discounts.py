"""Discounts: coupons that a subscription, an item or a customer has, and what they take off an invoice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meterkit.sandbox.catalog import coupons
from meterkit.sandbox.protocol.errors import invalid
from meterkit.sandbox.protocol.params import Array, Object, Text
from meterkit.sandbox.protocol.routes import Call, Route
from meterkit.sandbox.state.money import line_amount
from meterkit.sandbox.state.periods import boundary

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from meterkit.sandbox.state.account import Account, Record

PARAM = Array(
    Object({"coupon": Text(), "discount": Text(), "promotion_code": Text()}),
    longest=20,
    nullable=True,
)


def attach(
    account: Account,
    given: Sequence[dict[str, Any]] | None,
    customer: str,
    currency: str,
    *,
    kept: Sequence[str] = (),
    **owner: str | None,
) -> list[str]:
    """
    Return the ids of discounts after an update; new ones are made and counted as redeemed.

    Args:
        account: Account with the coupons.
        given: `discounts` of the request; None removes all.
        customer: Id of the customer who redeems.
        currency: Currency of what is discounted.
        kept: Ids of the discounts so far, which the request may name.
        owner: `subscription` and `subscription_item` of the discounts.

    Raises:
        ApiError: 400 if a coupon or a promotion code cannot be redeemed.

    """
    found = [
        _find(account, each, f"discounts[{place}]", customer=customer, currency=currency, kept=kept)
        for place, each in enumerate(given or ())
    ]
    chosen = [each if isinstance(each, str) else _redeem(account, each, customer, owner)["id"] for each in found]
    for identity in set(kept) - set(chosen):
        _announce(account, "customer.discount.deleted", identity)
    return chosen


def active(account: Account, identities: Iterable[str]) -> list[str]:
    """Return the discounts that still apply to an invoice which is made now."""
    found = [account.tables["discount"][each] for each in identities]
    return [each["id"] for each in found if each["end"] is None or account.now < each["end"]]


def apply(account: Account, invoice: Record, lines: Sequence[Record]) -> tuple[int, int]:
    """
    Write into each line what is taken off it, and into the invoice the sum of each discount.

    Returns:
        What the discounts of items take off, and what those of the whole invoice take off, in minor units.

    """
    for line in lines:
        line.update(discount_amounts=[], pretax_credit_amounts=[])
    own = {
        identity: _take(account, identity, [line for line in lines if identity in line["discounts"]])
        for identity in dict.fromkeys(each for line in lines for each in line["discounts"])
    }
    whole = {identity: _take(account, identity, lines) for identity in invoice["discounts"]}
    invoice["total_discount_amounts"] = [
        {"amount": amount, "discount": each} for sums in (own, whole) for each, amount in sums.items()
    ]
    return sum(own.values()), sum(whole.values())


def spend(account: Account, invoice: Record) -> None:
    """Remove from their owners the discounts that apply once, after an invoice has used them."""
    for each in invoice["total_discount_amounts"]:
        discount = account.tables["discount"][each["discount"]]
        if discount["_coupon"]["duration"] == "once" and each["amount"]:
            remove(account, discount)


def remove(account: Account, discount: Record) -> None:
    """Take a discount from its owner."""
    identity = discount["id"]
    for kind in ("subscription", "subscription_item"):
        owner = account.find(kind, discount[kind] or "")
        if owner is not None and identity in owner["discounts"]:
            owner["discounts"] = [each for each in owner["discounts"] if each != identity]
    customer = account.tables["customer"][discount["customer"]]
    if customer["discount"] is discount:
        customer["discount"] = None
    _announce(account, "customer.discount.deleted", identity)


def delete(account: Account, call: Call) -> Record:
    """Remove the discounts of a subscription or of a customer."""
    if call.path.startswith("/v1/customers/"):
        customer = account.get("customer", call.id)
        found = [customer["discount"]] if customer["discount"] else []
    else:
        found = [account.tables["discount"][each] for each in account.get("subscription", call.id)["discounts"]]
    if not found:
        raise invalid("There is no discount to delete.", code="resource_missing", param="id")
    for discount in list(found):
        remove(account, discount)
    return {**found[-1], "deleted": True}


def give(account: Account, customer: Record, coupon: str) -> Record:
    """Give a customer a coupon for all invoices to which no other discount applies, as the Dashboard can."""
    if customer["discount"] is not None:
        remove(account, customer["discount"])
    currency = customer["currency"] or account.get("coupon", coupon, param="coupon")["currency"] or ""
    found = _find(account, {"coupon": coupon}, "coupon", customer=customer["id"], currency=currency)
    assert not isinstance(found, str)
    customer["discount"] = _redeem(account, found, customer["id"], {})
    account.announce("customer.updated", customer, {"discount": None})
    discount: Record = customer["discount"]
    return discount


def _take(account: Account, identity: str, lines: Sequence[Record]) -> int:
    """Take one discount off lines, from what other discounts have left, and return how much that was."""
    coupon = account.tables["discount"][identity]["_coupon"]
    fitting = [line for line in lines if line["discountable"] and _covers(coupon, line)]
    left = [line["amount"] - sum(each["amount"] for each in line["discount_amounts"]) for line in fitting]
    percent, switches = coupon["_percent"], account.switches
    if percent is not None:
        offs = [
            line_amount(rest * percent / 100, line["currency"], switches)
            for rest, line in zip(left, fitting, strict=True)
        ]
    else:
        option = coupon["currency_options"].get(fitting[0]["currency"], {"amount_off": 0}) if fitting else {}
        offs = _spread(option.get("amount_off", 0), [max(rest, 0) for rest in left])
    for line, off in zip(fitting, offs, strict=True):
        line["discount_amounts"].append({"amount": off, "discount": identity})
        line["pretax_credit_amounts"].append(
            {"amount": off, "credit_balance_transaction": None, "discount": identity, "type": "discount"}
        )
    return sum(offs)


def _covers(coupon: Record, line: Record) -> bool:
    if coupon["applies_to"] is None:
        return True
    pricing = line["pricing"]
    return pricing is not None and pricing["price_details"]["product"] in coupon["applies_to"]["products"]


def _spread(amount: int, weights: Sequence[int]) -> list[int]:
    """Return parts of an amount in proportion to the weights, at most these, that add up exactly."""
    whole = sum(weights)
    amount, parts, given, seen = min(amount, whole), [], 0, 0
    for weight in weights:
        seen += weight
        part = amount * seen // whole - given if whole else 0
        given += part
        parts.append(part)
    return parts


def _find(
    account: Account, given: dict[str, Any], param: str, *, customer: str, currency: str, kept: Sequence[str] = ()
) -> str | tuple[Record, Record | None]:
    """Return the id of a discount that is there, or the coupon that can be redeemed with its promotion code."""
    if len(given) != 1:
        raise invalid("Pass exactly one of `coupon`, `discount`, `promotion_code`.", param=param)
    if "discount" in given:
        if given["discount"] not in kept:
            raise invalid(f"No such discount: '{given['discount']}'", param=f"{param}[discount]")
        return str(given["discount"])
    code = None
    if "promotion_code" in given:
        code = account.get("promotion_code", given["promotion_code"], param=f"{param}[promotion_code]")
        _check_code(account, code, customer, param)
    coupon = account.get("coupon", code["promotion"]["coupon"] if code else given["coupon"], param=f"{param}[coupon]")
    if not coupons.renewed(account, coupon)["valid"]:
        raise invalid(f"Coupon {coupon['id']} is used up or has expired.", param=param, code="coupon_expired")
    if coupon["amount_off"] is not None and currency not in coupon["currency_options"]:
        raise invalid(f"Coupon {coupon['id']} has no amount in the currency `{currency}`.", param=param)
    return coupon, code


def _redeem(
    account: Account, found: tuple[Record, Record | None], customer: str, owner: dict[str, str | None]
) -> Record:
    coupon, code = found
    for each in (coupon, code) if code else (coupon,):
        each["times_redeemed"] += 1
    coupons.renewed(account, coupon)
    months = coupon["duration_in_months"]
    record: Record = {
        "id": account.new_id("discount"),
        "object": "discount",
        "checkout_session": None,
        "customer": customer,
        "customer_account": None,
        "end": None if months is None else boundary(account.now, "month", months, 1),
        "invoice": None,
        "invoice_item": None,
        "promotion_code": code["id"] if code else None,
        "source": {"coupon": coupon["id"], "type": "coupon"},
        "start": account.now,
        "subscription": owner.get("subscription"),
        "subscription_item": owner.get("subscription_item"),
        "_coupon": coupon,  # its id may be given to another one
    }
    account.announce("customer.discount.created", account.add(record))
    return record


def _check_code(account: Account, code: Record, customer: str, param: str) -> None:
    wrong = None
    if not code["active"] or (code["expires_at"] is not None and code["expires_at"] <= account.now):
        wrong = "is inactive or has expired"
    elif code["max_redemptions"] is not None and code["times_redeemed"] >= code["max_redemptions"]:
        wrong = "is used up"
    elif code["customer"] not in (None, customer):
        wrong = "belongs to another customer"
    elif code["restrictions"]["first_time_transaction"] and any(
        each["customer"] == customer and each["amount_paid"] > 0 for each in account.all("invoice")
    ):
        wrong = "is for a first purchase, and the customer has paid before"
    if wrong:
        raise invalid(f"The promotion code {code['code']} {wrong}.", param=f"{param}[promotion_code]")


def _announce(account: Account, event: str, identity: str) -> None:
    account.announce(event, account.tables["discount"][identity])


ROUTES = [
    Route("DELETE", "/v1/subscriptions/{id}/discount", delete),
    Route("DELETE", "/v1/customers/{id}/discount", delete),
]
