"""Prorations: what a change within a period credits and charges, as items of the next invoice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meterkit.sandbox.billing.charges import arrears, part_of
from meterkit.sandbox.invoicing import invoice_items
from meterkit.sandbox.invoicing.invoice_lines import Charge, parts_of, prorated, unit_text
from meterkit.sandbox.state.money import line_amount, text

if TYPE_CHECKING:
    from meterkit.sandbox.invoicing.invoice_lines import Part
    from meterkit.sandbox.state.account import Account, Record


def credit(account: Account, subscription: Record, item: Record, moment: int) -> None:
    """Credit the rest of a licensed item's period, from that Unix second on."""
    _rest(account, subscription, item, moment, unused=True)


def charge(account: Account, subscription: Record, item: Record, moment: int) -> None:
    """Charge the rest of a licensed item's period, from that Unix second on."""
    _rest(account, subscription, item, moment, unused=False)


def bill_usage(account: Account, subscription: Record, item: Record, moment: int) -> None:
    """Bill the usage of a metered item up to that Unix second, at the price that it has now."""
    if subscription["status"] == "trialing":
        return
    for each in arrears(subscription, [item], until=moment):
        for part in parts_of(account, subscription["customer"], subscription["currency"], each, lagging=True):
            if part.quantity or part.amount:
                _add(account, subscription, item, part, each)


def _rest(account: Account, subscription: Record, item: Record, moment: int, *, unused: bool) -> None:
    start, end = item["current_period_start"], item["current_period_end"]
    if subscription["status"] == "trialing" or item["quantity"] is None or not start <= moment < end:
        return
    share = part_of(subscription, item["price"], moment, end)
    each = Charge(subscription["id"], item["id"], item["price"]["id"], moment, end, item["quantity"], share=share)
    part = prorated(account, subscription["currency"], each, unused=unused)
    _add(account, subscription, item, part, each)


def _add(account: Account, subscription: Record, item: Record, part: Part, each: Charge) -> None:
    currency = subscription["currency"]
    record = invoice_items.pending(
        account,
        subscription["customer"],
        line_amount(part.amount, currency, account.switches),
        currency,
        description=part.description,
        discounts=list(item["discounts"]),
        parent={
            "subscription_details": {"subscription": subscription["id"], "subscription_item": item["id"]},
            "type": "subscription_details",
        },
        period={"end": each.end, "start": each.start},
        pricing={
            "price_details": {"price": each.price, "product": item["price"]["product"]},
            "type": "price_details",
            "unit_amount_decimal": unit_text(part.unit),
        },
        proration=True,
        proration_details={"credited_items": None, "discount_amounts": []},
        quantity=int(part.quantity),
        quantity_decimal=text(part.quantity),
        _subscription=subscription["id"],
        _item=item["id"],
    )
    account.announce("invoiceitem.created", account.add(record))
