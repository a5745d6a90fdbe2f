"""Exact amounts of rated usage, as lines of invoices have them."""

from __future__ import annotations

from decimal import Decimal, localcontext
from typing import Any

import sqlalchemy as sa

from meterkit.core.periods import Period
from meterkit.core.usage_key import decoded_values
from meterkit.ledger import schema
from meterkit.ledger.payers import companies_paid_by
from meterkit.ledger.rating.reading import Charge, charges, in_currency, unbilled
from meterkit.ledger.rating.rows import Raters
from meterkit.pricing.bill import Bill, PreviewLine, price_id
from meterkit.pricing.price import EXACT, chargeable, decimals_of, rounded, whole
from meterkit.pricing.subscription_terms import SubscriptionTerms

MOST_LINES = 200
"""Lines by value on an invoice, of all meters together. Stripe: an invoice has at most 250 items (changelog of its API,
2016-02-22); the others are left to corrections, and to what your team adds."""

IS_ITEM = sa.and_(schema.rated_lines.c.state != "replaced", schema.rated_lines.c.amount != 0)
"""What holds for a row that is an item of an invoice, or will be: nothing is made of what costs nothing."""

REST = "rest"
"""In place of values: the line is for all combinations that have none of their own."""


def in_minor(trillionths: int, currency: str) -> int:
    """Return an exact amount in the minor unit of *currency*, rounded half up as Stripe rounds lines."""
    with localcontext(EXACT):
        amount = chargeable(rounded(in_currency(abs(trillionths)), currency), currency)
        minor = int(amount.scaleb(decimals_of(currency)))
    return -minor if trillionths < 0 else minor


def merged(sums: dict[str, Charge], *, lines: int = 0) -> dict[str, Charge]:
    """
    Return *sums* with those of the smallest amounts in one, if the invoice would have more than `MOST_LINES`.

    Args:
        sums: What is to be billed, by values.
        lines: Number of lines by value that the invoice has already, of all meters.
    """
    left = max(1, MOST_LINES - lines)
    if len(sums) <= left:
        return sums
    ordered = sorted(sums.items(), key=lambda each: (-abs(each[1].exact), each[0]))
    found = dict(ordered[: left - 1])
    rest = found[REST] = Charge(combinations=len(ordered) - len(found))
    for _, of in ordered[left - 1 :]:
        rest.quantity += of.quantity
        rest.exact += of.exact
    return found


def lines_of(connection: sa.Connection, subscription: str, *, since: int) -> int:
    """
    Return how many lines of earlier periods are on the next invoice of a subscription.

    Args:
        connection: Connection to the ledger.
        subscription: Id of the subscription.
        since: Unix second at which the period begins that the invoice is for: what was made before is on another.
    """
    lines = schema.rated_lines.c
    late = sa.select(sa.func.count()).where(lines.subscription == subscription, lines.is_late, IS_ITEM)
    return connection.scalar(late.where(lines.created_at >= since)) or 0


def add_lines(connection: sa.Connection, bill: Bill, terms: SubscriptionTerms, raters: Raters) -> None:
    """
    Add the lines that the usage of a billing period will be, with ``bill="lines"``.

    Args:
        connection: Connection to the ledger.
        bill: The next invoice of the subscription.
        terms: The subscription.
        raters: Tables of the kit.
    """
    before = len(bill.lines)
    late = lines_of(connection, terms.subscription.id, since=bill.period.start)
    for meter, rater in raters.items():  # in the order in which the lines are made
        for item in terms.items:
            if item.event_name == rater.sold_as and rater.currency == bill.currency:
                place = {"meter": meter, "amounts": rater.name}
                charged = charges(connection.execute(_unbilled(connection, terms, bill.period, place)), rater)
                for dimensions, charge in merged(charged, lines=late + len(bill.lines) - before).items():
                    bill.lines.append(_line(price_id(item), item.event_name, dimensions, charge, bill.currency))
    if len(bill.lines) > before and terms.discounts_at(bill.period.end):
        bill.unknown.append("how a discount applies to lines by value is not known")


def _unbilled(
    connection: sa.Connection, terms: SubscriptionTerms, period: Period, place: dict[str, str]
) -> sa.Select[Any]:
    """Return the query for what a subscription is to be billed of the usage in *period*."""
    rated, companies = schema.rated, sorted(companies_paid_by(connection, terms.subscription.customer))
    query = sa.select(rated).filter_by(**place).where(rated.c.company.in_(companies), unbilled())
    return query.where(rated.c.window >= period.start, rated.c.window < period.end)


def _line(price: str, event_name: str, dimensions: str, charge: Charge, currency: str) -> PreviewLine:
    amount = whole(in_minor(charge.exact, currency), currency)
    unit_price = in_currency(charge.exact // charge.quantity) if charge.quantity else Decimal(0)
    return PreviewLine(price, event_name, charge.quantity, unit_price, amount, 0, described(dimensions, charge))


def described(dimensions: str, charge: Charge) -> str:
    """Return what a line is for, as people read it: the values, or how many have no line of their own."""
    return f"{charge.combinations:,} further values" if dimensions == REST else shown_values(dimensions)


def shown_values(dimensions: str) -> str:
    """Return values as text, as people read them: ``model small, kind unknown``."""
    return ", ".join(f"{name} {value or 'unknown'}" for name, value in decoded_values(dimensions).items())
