"""
What an invoice will be: the one place in which a subscription, its history and its usage become lines and a total.

The preview, the spending cap, notices, the customer page and late items ask it. What it cannot know it says in
`Bill.unknown`; then nobody is charged, blocked or told a figure on its account.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from meterkit.core.periods import Period, instant
from meterkit.pricing.bill import Bill, PreviewLine, Usage, currency_of, discounted, lines_of, price_id, price_in
from meterkit.pricing.price import chargeable, whole
from meterkit.pricing.subscription_terms import SubscriptionTerms

FREE_PAUSES = {"void": "voids its invoices", "mark_uncollectible": "marks its invoices as uncollectible"}


def next_invoice(terms: SubscriptionTerms, used: Usage) -> Bill:
    """
    Return the next invoice of a subscription: that of the items whose period ends first.

    Args:
        terms: Subscription; it has an item.
        used: Usage of its customer.

    Raises:
        ConfigurationError: A price cannot be computed; the message names it and says why.
    """
    subscription = terms.subscription
    ends_at = subscription.cancel_at
    end = min(item.period_end for item in terms.items)
    due = [item for item in terms.items if item.period_end == end]
    if ends_at is not None and ends_at <= end:
        end, due = ends_at, terms.items
    bill = Bill(subscription.currency or currency_of(due[0]), Period(min(item.period_start for item in due), end))
    bill.unknown += _unreadable(terms, due)
    for item in due:
        if item.event_name is not None:
            _add_usage(bill, terms, item, period=Period(item.period_start, end), used=used)
        else:
            _add_licence(bill, terms, item, end)
    _add_former(bill, terms, due, used)
    _subtract_billed(bill, terms)
    _apply_discounts(bill, terms, end)
    _note_states(bill, terms)
    if any(line.amount != chargeable(line.amount, bill.currency) for line in bill.lines):
        bill.unknown.append(
            f"Stripe rounds the last digit of amounts in {bill.currency.upper()}, and where is not known"
        )
    return bill


def usage_cost(terms: SubscriptionTerms, used: Usage, *, now: int) -> Bill:
    """
    Return what the usage of the running periods costs at *now*, a Unix second: the metered lines alone.

    A discount of an amount is taken off these lines in full, so that the cost is never more than what is billed.

    Args:
        terms: Subscription; it has an item.
        used: Usage of a company.
        now: Current time, Unix seconds.

    Raises:
        ConfigurationError: A price cannot be computed; the message names it and says why.
    """
    metered = [item for item in terms.items if item.event_name is not None]
    periods = {item.id: terms.period(item, now) for item in metered}
    subscription = terms.subscription
    whole_period = Period(
        min((period.start for period in periods.values()), default=now),
        min((period.end for period in periods.values()), default=now),
    )
    bill = Bill(subscription.currency or currency_of(terms.items[0]), whole_period)
    bill.unknown += _unreadable(terms, metered)
    for item in metered:
        _add_usage(bill, terms, item, period=periods[item.id], used=used)
    if any(former.until > period.start for former in terms.former for period in periods.values()):
        _add_former(bill, terms, metered, used)
    _apply_discounts(bill, terms, whole_period.end)
    _note_states(bill, terms, now=now)
    return bill


def is_free(terms: SubscriptionTerms, *, until: int, now: int | None = None) -> str:
    """
    Return why nothing is charged for a period that ends at the Unix second *until*; empty if it is charged.

    Args:
        terms: Subscription.
        until: End of the period, Unix seconds.
        now: Current time, Unix seconds, if the trial may have ended since the subscription was read.
    """
    known = terms.subscription
    if known.pause in FREE_PAUSES and (known.resumes_at is None or known.resumes_at > until):
        return f"collection is paused, and Stripe {FREE_PAUSES[known.pause]}"
    if known.status == "paused":
        return "the subscription is paused, and Stripe makes no invoices"
    if known.trial_end is not None and known.trial_end >= until and (now is None or now < known.trial_end):
        return f"the trial lasts until {instant(known.trial_end)}, and usage in it is free"
    return ""


def first_billed(terms: SubscriptionTerms, item: Any, start: int) -> int:
    """Return the Unix second from which usage is billed at the price of *item*, in a period that begins at *start*."""
    known = terms.subscription
    if known.trial_end is not None:
        start = max(start, known.trial_end)
    return start if item.since <= known.created else max(start, item.since)


def _add_usage(bill: Bill, terms: SubscriptionTerms, item: Any, *, period: Period, used: Usage) -> None:
    start = first_billed(terms, item, period.start)
    if start >= period.end:  # all of it is in a trial
        return
    before = _before(terms, item, start, period, used) if start > period.start else 0
    if before and price_in(item).scheme != "per_unit":
        bill.unknown.append(
            f"price {price_id(item)} replaced another at {instant(item.since)}; where its tiers begin is not known"
        )
    bill.lines += lines_of(item, max(0, used.between(item.event_name, start, period.end)))


def _add_licence(bill: Bill, terms: SubscriptionTerms, item: Any, end: int) -> None:
    """Add what a licensed price costs in the next period, which is billed in advance."""
    ends_at = terms.subscription.cancel_at
    if _is_prorated(terms, item):
        bill.unknown.append(f"price {price_id(item)} was changed within the period, and Stripe prorates it")
    if ends_at is None or ends_at > end:
        bill.lines += lines_of(item, item.quantity or 0)
        if not terms.cycle(item).begins_at(end):
            bill.unknown.append(f"the next period of price {price_id(item)} is a short one, and Stripe prorates it")
    elif item.period_end > end:
        bill.unknown.append(f"the subscription ends at {instant(end)}, within a period that is paid for already")


def _before(terms: SubscriptionTerms, item: Any, start: int, period: Period, used: Usage) -> int:
    """Return the usage of a period that was billed, or would have been, at what an item cost before."""
    former = [each for each in terms.former if each.event_name == item.event_name and each.until > period.start]
    return used.between(item.event_name, max(period.start, min(each.since for each in former)), start) if former else 0


def _add_former(bill: Bill, terms: SubscriptionTerms, due: Sequence[Any], used: Usage) -> None:
    """Add what was used in the period before items were changed or removed: Stripe bills it in flexible mode alone."""
    started = min((item.period_start for item in due), default=bill.period.start)
    licensed = {item.id for item in terms.items if item.event_name is None}
    for former in terms.former:
        if former.until <= started or _is_billed(terms, former):
            continue
        if former.event_name is None:
            if former.id not in licensed:
                bill.unknown.append(f"price {price_id(former)} was removed within the period, and Stripe prorates it")
        elif terms.subscription.billing_mode == "flexible":
            _add_usage_before(bill, terms, former, started, used)


def _add_usage_before(bill: Bill, terms: SubscriptionTerms, former: Any, started: int, used: Usage) -> None:
    start, until = first_billed(terms, former, started), instant(former.until)
    quantity = used.received(former.event_name, start, former.until) if former.until > start else 0
    if former.until > start and quantity < used.between(former.event_name, start, former.until):
        bill.assumed.append(
            f"usage until {until}, when the price was changed, is not billed if Stripe had not received it by then"
        )
    if former.changed_after < former.until and used.between(
        former.event_name, max(start, former.changed_after), former.until
    ):
        bill.assumed.append(
            f"the price was changed at {until}: that is when it was read from Stripe, and no webhook told when it was"
        )
    if quantity <= 0:
        return
    if former.prorated is False:
        bill.assumed.append(
            f"usage until {until}, before the price was changed, is not billed: Stripe has made no invoice item of it, "
            "as if it was changed with proration_behavior=none"
        )
        return
    if price_in(former).scheme != "per_unit":
        bill.unknown.append(f"price {price_id(former)} held until {until}, and how its tiers end there is not known")
    if any(each.billing_reason == "subscription_threshold" for each in _invoices_of(bill, terms)):
        bill.unknown.append(f"invoices that a threshold made due may have billed usage until {until} already")
    lines = [replace(line, note=f"until {until}, at the price before") for line in lines_of(former, quantity)]
    bill.lines += lines
    bill.uncertain += sum((line.amount for line in lines), Decimal(0))
    if not former.prorated:
        bill.assumed.append(
            f"usage until {until}, before the price was changed, is billed as an invoice item: the change was not made "
            "with proration_behavior=none"
        )


def _is_billed(terms: SubscriptionTerms, former: Any) -> bool:
    """Return whether what an item was is on an invoice already: the change was invoiced at once."""
    return any(
        line["item"] == former.id and line["price"] == price_id(former) and line["proration"]
        for invoice in terms.invoices
        if invoice.created >= former.until and invoice.status != "void"
        for line in json.loads(invoice.lines)
    )


def _invoices_of(bill: Bill, terms: SubscriptionTerms) -> list[Any]:
    return [each for each in terms.invoices if bill.period.start <= each.created <= bill.period.end]


def _subtract_billed(bill: Bill, terms: SubscriptionTerms) -> None:
    """Subtract what an invoice has billed already because a billing threshold was reached; its tiers go on."""
    metered = {item.id: item for item in terms.items if item.event_name is not None}
    for invoice in _invoices_of(bill, terms):
        if invoice.billing_reason != "subscription_threshold":
            continue
        number = invoice.number or invoice.id
        known = json.loads(invoice.lines)
        lines = [each for each in known if each["item"] in metered and not each["proration"]]
        billed = sum(each["amount"] for each in lines if each["start"] >= metered[each["item"]].period_start)
        if not known:
            billed = invoice.total
        if not billed:
            continue  # it ended the period before
        if invoice.currency != bill.currency or invoice.status == "void":
            bill.unknown.append(f"what invoice {number} has billed of the period is not known")
        amount = whole(billed, bill.currency)
        note = f"billed before, by invoice {number}"
        price, event_name = (lines[0]["price"], metered[lines[0]["item"]].event_name) if lines else ("", None)
        bill.lines.append(PreviewLine(price, event_name, 0, -amount, -amount, 0, note))


def _apply_discounts(bill: Bill, terms: SubscriptionTerms, at: int) -> None:
    applied = terms.discounts_at(at)
    if not applied:
        return
    if any(line.note for line in bill.lines):
        bill.unknown.append("how a discount applies to what was billed before is not known")
    items = {price_id(item): item.id for item in terms.items}
    products = {price_id(item): json.loads(item.price).get("product") for item in terms.items}
    parts = [(line.amount, items.get(line.price), products.get(line.price)) for line in bill.lines]
    bill.discount, unknown = discounted(parts, applied, bill.currency)
    bill.unknown += unknown


def _note_states(bill: Bill, terms: SubscriptionTerms, *, now: int | None = None) -> None:
    known = terms.subscription
    bill.free = is_free(terms, until=bill.period.end, now=now)
    if bill.free:
        bill.assumed.append(bill.free)
    elif known.pause is not None and known.resumes_at is None:
        bill.assumed.append("collection is paused: Stripe keeps the invoice as a draft until it is resumed")


def _unreadable(terms: SubscriptionTerms, items: Iterable[Any]) -> Iterator[str]:
    """Yield why prices cannot be applied to a subscription, if they cannot."""
    currency = terms.subscription.currency
    if not currency:
        yield f"subscription {terms.subscription.id} was read by a former version: run meterkit sync"
        return
    for item in items:
        if currency_of(item) != currency:
            yield (
                f"price {price_id(item)} is known in {currency_of(item).upper()} alone, and the subscription is billed "
                f"in {currency.upper()}"
            )


def _is_prorated(terms: SubscriptionTerms, item: Any) -> bool:
    """Return whether a licensed price was changed or added within its running period."""
    if item.since <= terms.subscription.created:
        return False
    return bool(item.since > item.period_start) or not terms.cycle(item).begins_at(item.period_start)
