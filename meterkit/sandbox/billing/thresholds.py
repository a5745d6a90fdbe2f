"""Billing thresholds: an invoice within the period as soon as enough was used."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from meterkit.sandbox.billing.charges import arrears, items_of
from meterkit.sandbox.billing.cycles import bill, restart
from meterkit.sandbox.invoicing.invoice_lines import parts_of, quantity_of
from meterkit.sandbox.protocol.params import Boolean, Integer, Object
from meterkit.sandbox.state.money import line_amount

if TYPE_CHECKING:
    from collections.abc import Sequence

    from meterkit.sandbox.invoicing.invoice_lines import Charge
    from meterkit.sandbox.state.account import Account, Record

LEAST = 50  # minor units
PARAM = Object({"amount_gte": Integer(LEAST), "reset_billing_cycle_anchor": Boolean()}, nullable=True)


def settings(given: dict[str, Any] | None) -> Record | None:
    """Return a subscription's `billing_thresholds`."""
    if given is None or "amount_gte" not in given:
        return None
    return {
        "amount_gte": given["amount_gte"],
        "reset_billing_cycle_anchor": given.get("reset_billing_cycle_anchor", False),
    }


def is_reached(account: Account, subscription: Record) -> bool:
    """Return whether the usage since the last invoice has reached a threshold."""
    if subscription["status"] not in ("active", "past_due"):
        return False
    items = items_of(subscription)
    if subscription["billing_thresholds"] is None and all(item["billing_thresholds"] is None for item in items):
        return False
    return _amount_reached(account, subscription) or any(_usage_reached(account, subscription, item) for item in items)


def invoice(account: Account, subscription: Record) -> None:
    """Invoice the usage so far, of which later invoices of the period subtract what this one has billed."""
    now, items = account.now, items_of(subscription)
    start = min(item["current_period_start"] for item in items)
    amount_reached = _amount_reached(account, subscription)
    by_usage = {item["id"]: item for item in items if _usage_reached(account, subscription, item)}
    thresholds = subscription["billing_thresholds"] or {}
    if thresholds.get("reset_billing_cycle_anchor"):
        made = restart(account, subscription, reason="subscription_threshold", credited=items)
    else:
        charges = []
        for each in _accrued(account, subscription, items):
            item = account.tables["subscription_item"][each.item]
            amount, used = _amount(account, subscription, each), _quantity(account, subscription, each)
            if amount or item["id"] in by_usage:
                charges.append(replace(each, end=now, used=used))
            item["_billed"] += amount
            item["_used"] = used
        made = bill(account, subscription, charges, reason="subscription_threshold", period=(start, now))
    made["threshold_reason"] = {
        "amount_gte": thresholds.get("amount_gte") if amount_reached else None,
        "item_reasons": [
            {"line_item_ids": _lines(made, identity), "usage_gte": item["billing_thresholds"]["usage_gte"]}
            for identity, item in by_usage.items()
        ],
    }


def _amount_reached(account: Account, subscription: Record) -> bool:
    thresholds = subscription["billing_thresholds"]
    if thresholds is None:
        return False
    charges = _accrued(account, subscription, items_of(subscription))
    return bool(sum(_amount(account, subscription, each) for each in charges) >= thresholds["amount_gte"])


def _usage_reached(account: Account, subscription: Record, item: Record) -> bool:
    if item["billing_thresholds"] is None:
        return False
    used = sum((_quantity(account, subscription, each) for each in _accrued(account, subscription, [item])), Decimal(0))
    return bool(used - item["_used"] >= item["billing_thresholds"]["usage_gte"])


def _accrued(account: Account, subscription: Record, items: Sequence[Record]) -> list[Charge]:
    """Return the charges for the usage so far: with that of this second, unless a new period begins with it."""
    resets = (subscription["billing_thresholds"] or {}).get("reset_billing_cycle_anchor")
    return arrears(subscription, items, until=account.now + (0 if resets else 1))


def _quantity(account: Account, subscription: Record, charge: Charge) -> Decimal:
    return quantity_of(account, subscription["customer"], charge, lagging=True)


def _amount(account: Account, subscription: Record, charge: Charge) -> int:
    """Return what a charge adds to what was billed before, in minor units."""
    currency = subscription["currency"]
    found = parts_of(account, subscription["customer"], currency, charge, lagging=True)
    return sum(line_amount(part.amount, currency, account.switches) for part in found)


def _lines(made: Record, item: str) -> list[str]:
    return [
        line["id"]
        for line in made["_lines"]
        if (line["parent"]["subscription_item_details"] or {}).get("subscription_item") == item
    ]
