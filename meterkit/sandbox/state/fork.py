"""A fork of an account: what would happen to one customer, without its happening."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from meterkit.sandbox.state.account import Account
from meterkit.sandbox.state.clock import Clock

if TYPE_CHECKING:
    from meterkit.sandbox.state.account import Record

_LEFT_OUT = ("event", "v2.billing.meter_event_adjustment", "v2.billing.meter_event_session", "v2.core.event")
_CATALOG = ("price", "product", "billing.meter")  # not copied: an item contains its price itself
_REDEEMED = ("coupon", "promotion_code")  # of all customers


def fork(account: Account, customer: str) -> Account:
    """
    Return an account in which everything about one customer is a copy, at the same time on a clock of its own.

    The usage is shared, with its clock: what a summary does not include yet, the fork does not include either.
    """
    forked = Account(Clock(account.now), account.switches)
    memo = {id(record): record for kind in _CATALOG for record in account.tables[kind].values()}
    for kind, records in account.tables.items():
        if kind in _CATALOG:
            forked.tables[kind] = dict(records)
        elif kind not in _LEFT_OUT:
            forked.tables[kind] = {
                identity: copy.deepcopy(record, memo)
                for identity, record in records.items()
                if kind in _REDEEMED or kind == "payment_method" or _belongs(record, customer, account)
            }
    forked.forked = True
    forked.usage = account.usage
    forked.outcomes = account.outcomes
    return forked


def _belongs(record: Record, customer: str, account: Account) -> bool:
    if record["object"] == "customer":
        return bool(record["id"] == customer)
    if record["object"] == "subscription_item":
        subscription = account.find("subscription", record["subscription"])
        return subscription is not None and subscription["customer"] == customer
    return record.get("customer", record.get("_customer")) in (None, customer)
