"""What a customer may see of its own account: usage, tiers, next invoice, standing, twelve months."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any, NamedTuple

import sqlalchemy as sa

from meterkit.accounts.billing_periods import Periods
from meterkit.accounts.period_usage import used_by, used_in
from meterkit.accounts.standing import standings
from meterkit.core.periods import Period, day_of, month_of
from meterkit.errors import ConfigurationError
from meterkit.ledger import schema
from meterkit.ledger.database import Database
from meterkit.ledger.dimensions.reading import grouped, highest, told_values
from meterkit.ledger.payers import companies_paid_by, payer_of
from meterkit.metering.meter import Meter
from meterkit.pricing.cost import CostCalculator
from meterkit.pricing.preview import previews
from meterkit.pricing.price import Price, decimals_of, digits

MONTHS = 12

MOST_VALUES = 100
"""Most combinations of values that a statement lists for each meter: those that are used most."""

MOST_INVOICES = 24
"""Most invoices that a statement lists: two years of monthly ones."""


class Limit(NamedTuple):
    """
    The limit of one quota for one company.

    Attributes:
        meter: Name of the meter.
        per: Kind of period: ``period``, ``month`` or ``day``.
        units: Units that may be used in it; None for no limit.
    """

    meter: str
    per: str
    units: int | None


def statement(
    database: Database,
    company: str,
    *,
    meters: Mapping[str, Meter],
    prices: Iterable[Price],
    limits: Iterable[Limit],
    now: int,
) -> dict[str, Any]:
    """
    Return what *company* may see, ready for ``json.dumps``; `docs/customer-page.md` describes it.

    Args:
        database: Database of the ledger.
        company: Company id.
        meters: Meters of the kit, by name; only these are shown.
        prices: Prices of the kit, for companies without a known subscription.
        limits: Limits of the company's quotas.
        now: Current time, Unix seconds.

    Raises:
        LedgerError: The ledger cannot be read.
    """
    with database.snapshot() as connection:
        periods = Periods({name: meter.event_name for name, meter in meters.items()})
        periods.refresh(connection, now, only=company)
        period = periods.of(company, now)
        used = {meter: quantity for (_, meter), quantity in used_in(connection, periods, [company], now).items()}
        values = {
            name: _by_values(connection, company, meter, periods.of(company, now, name).start, used.get(name, 0))
            for name, meter in meters.items()
            if meter.by
        }
        billed_by = CostCalculator(prices, meters).prices_of(connection, [company])[company]
        quotas = [
            _quota(connection, company, limit, _period(periods, company, limit, now), used.get(limit.meter, 0))
            for limit in limits
        ]
        standing = standings(connection, now=now, company=company)
        months = _months(connection, company, meters, now)
        billed = _billed(connection, company)
    overdue = next(iter(standing.overdue.get(company, ())), None)
    return {
        "company": company,
        "as_of": _instant(now),
        "period": {"start": _instant(period.start), "end": _instant(period.end)},
        "standing": standing.of(company),
        "overdue": None
        if overdue is None
        else {
            "invoice": overdue.number,
            "amount": digits(overdue.amount),
            "currency": overdue.currency,
            "url": overdue.url,
        },
        "meters": [{**_meter(name, used.get(name, 0), billed_by, quotas), **values.get(name, {})} for name in meters],
        "invoices": _invoices(database, company, now, {meter.event_name: name for name, meter in meters.items()}),
        "billed": billed,
        "months": months,
    }


def _period(periods: Periods, company: str, limit: Limit, now: int) -> Period:
    if limit.per == "period":
        return periods.of(company, now, limit.meter)
    return month_of(now) if limit.per == "month" else day_of(now)


def _quota(connection: sa.Connection, company: str, limit: Limit, period: Period, in_period: int) -> dict[str, Any]:
    return {
        "meter": limit.meter,
        "limit": limit.units,
        "used": in_period if limit.per == "period" else used_by(connection, company, limit.meter, period.start),
        "per": limit.per,
        "until": _instant(period.end),
    }


def _meter(name: str, used: int, prices: Iterable[Price], limits: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    price = next((price for price in prices if price.meter.name == name), None)
    quotas = [
        {key: value for key, value in limit.items() if key != "meter"} for limit in limits if limit["meter"] == name
    ]
    return {"meter": name, "used": used, "price": None if price is None else _price(price, used), "quotas": quotas}


def _by_values(connection: sa.Connection, company: str, meter: Meter, since: int, used: int) -> dict[str, Any]:
    """Return how much of what is *used* is of which values; what is not known of is of unknown ones."""
    names = meter.dimensions
    found = told_values(connection, since=since, company=company, meter=meter.name)
    sums = {values: quantity for *_, values, quantity in grouped(found, names)}
    rest = used - sum(sums.values())
    if rest:
        unknown = ("",) * len(names)
        sums[unknown] = sums.get(unknown, 0) + rest
    shown, (number, quantity) = highest(sums.items(), MOST_VALUES)
    return {
        "by": {
            "dimensions": list(names),
            "used": [{"values": list(values), "used": each} for values, each in shown],
            "more": {"combinations": number, "used": quantity},
        }
    }


def _price(price: Price, used: int) -> dict[str, Any]:
    """Return the tiers of *price*, and the one that the next unit falls into."""
    tiers = [
        {
            "up_to": tier.up_to,
            "unit_price": digits(tier.unit_price),
            "flat_price": None if tier.flat_price is None else digits(tier.flat_price),
        }
        for tier in price.tiers
    ]
    current = next(number for number, tier in enumerate(price.tiers, 1) if tier.up_to is None or used < tier.up_to)
    left = price.tiers[current - 1].up_to
    return {
        "scheme": price.scheme,
        "currency": price.currency,
        "interval": price.interval,
        "package_size": price.size,
        "tiers": tiers,
        "tier": current,
        "left_in_tier": None if left is None else left - used,
    }


def _invoices(database: Database, company: str, now: int, names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the next invoice of each subscription; none if a Stripe price cannot be computed here."""
    try:
        found = previews(database, company, clock=lambda: now)
    except ConfigurationError:
        return []
    return [
        {
            "subscription": each.subscription,
            "currency": each.currency,
            "total": None if each.total is None else digits(each.total),
            "discount": digits(each.discount),
            "period": {"start": _instant(each.period_start), "end": _instant(each.period_end)},
            "lines": [
                {
                    "meter": None if line.event_name is None else names.get(line.event_name, line.event_name),
                    "quantity": line.quantity,
                    "unit_price": digits(line.unit_price),
                    "amount": digits(line.amount),
                    "tier": line.tier,
                    "note": line.note,
                }
                for line in (() if each.unknown else each.lines)
            ],
            "assumed": list(each.assumed),
            "unknown": list(each.unknown),
        }
        for each in found
    ]


def _billed(connection: sa.Connection, company: str) -> list[dict[str, Any]]:
    """
    Return the invoices of *company*, newest first, without drafts.

    None where its Stripe customer pays for other companies, too: their usage would be on them.
    """
    customer = payer_of(connection, company)
    if customer is None or companies_paid_by(connection, customer) - {company}:
        return []
    table = schema.invoices
    query = sa.select(table).where(table.c.customer == customer, table.c.status != "draft")
    return [
        {
            "invoice": row.number or row.id,
            "status": row.status,
            "currency": row.currency,
            "total": _amount(row.total, row.currency),
            "due": _amount(row.amount_remaining, row.currency) if row.status == "open" else "0",
            "created": _instant(row.created),
            "period": {"start": _instant(row.period_start), "end": _instant(row.period_end)},
            "url": row.url,
        }
        for row in connection.execute(query.order_by(table.c.created.desc(), table.c.id.desc()).limit(MOST_INVOICES))
    ]


def _amount(minor: int, currency: str) -> str:
    return digits(Decimal(minor).scaleb(-decimals_of(currency)))


def _months(connection: sa.Connection, company: str, meters: Mapping[str, Meter], now: int) -> list[dict[str, Any]]:
    """Return the usage by calendar month in UTC, oldest first; the last month is the current one."""
    months = [month_of(now)]
    while len(months) < MONTHS:
        months.insert(0, month_of(months[0].start - 1))
    table = schema.totals
    query = sa.select(table).where(table.c.company == company, table.c.day >= months[0].start)
    used: list[dict[str, int]] = [dict.fromkeys(meters, 0) for _ in months]
    for row in connection.execute(query):
        for number, month in enumerate(months):
            if month.start <= row.day < month.end and row.meter in meters:
                used[number][row.meter] += row.quantity
    return [
        {"month": _instant(month.start)[:7], "used": of_month} for month, of_month in zip(months, used, strict=True)
    ]


def _instant(moment: int) -> str:
    return datetime.fromtimestamp(moment, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
