"""What a company's usage costs so far in its current period."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal, localcontext

import sqlalchemy as sa

from meterkit.errors import ConfigurationError
from meterkit.ledger import schema
from meterkit.ledger.bulk import BATCH
from meterkit.ledger.payers import companies_by_customer
from meterkit.metering.meter import Meter
from meterkit.pricing.price import EXACT, Price
from meterkit.pricing.stripe_price import price_of


class CostCalculator:
    """
    Computes what usage costs.

    Args:
        prices: Prices of the kit, for companies without a known subscription.
        meters: Meters of the kit, by name.
    """

    def __init__(self, prices: Iterable[Price], meters: Mapping[str, Meter]) -> None:
        self._prices = list(prices)
        self._meters = {meter.event_name: meter for meter in meters.values()}
        self._parsed: dict[tuple[str, str], Price | None] = {}

    def prices_of(self, connection: sa.Connection, companies: Iterable[str]) -> dict[str, list[Price]]:
        """Return the metered prices of each company's running subscriptions, or the kit's prices if none is known."""
        ids = sorted(companies)
        found: dict[str, list[Price]] = {}
        for start in range(0, len(ids), BATCH):
            for company, event_name, text in _items(connection, ids[start : start + BATCH]):
                price = self._price(event_name, text)
                if price is not None:
                    found.setdefault(company, []).append(price)
        return {company: found.get(company, self._prices) for company in ids}

    def _price(self, event_name: str, text: str) -> Price | None:
        """Return the price in Stripe's JSON *text*, parsed once per text; None if it cannot be computed here."""
        key = (event_name, text)
        if key not in self._parsed:
            try:
                self._parsed[key] = price_of(json.loads(text), self._meters.get(event_name) or Meter(event_name))
            except (ConfigurationError, KeyError):
                self._parsed[key] = None
        return self._parsed[key]


def cost_of(prices: Iterable[Price], used: Mapping[str, int], currency: str) -> Decimal:
    """
    Return what usage costs, in whole *currency*.

    Args:
        prices: Prices to apply; of several for one meter, the first in *currency* counts.
        used: Quantity by meter name.
        currency: Three-letter currency code; prices in other currencies are ignored.
    """
    amounts: dict[str, Decimal] = {}
    with localcontext(EXACT):
        for price in prices:
            name = price.meter.name
            if price.currency == currency and name not in amounts:
                amounts[name] = price.amount(max(0, used.get(name, 0)))
        return sum(amounts.values(), Decimal(0))


def _items(connection: sa.Connection, companies: list[str]) -> Iterator[tuple[str, str, str]]:
    """Yield company, event name and Stripe's price as JSON for each metered item of a running subscription."""
    items, subscriptions = schema.items, schema.subscriptions
    payers = companies_by_customer(connection, companies)
    running = (
        sa.select(items.c.customer, items.c.event_name, items.c.price)
        .join_from(items, subscriptions, subscriptions.c.id == items.c.subscription)
        .where(items.c.customer.in_(payers), subscriptions.c.ended_at.is_(None), items.c.event_name.is_not(None))
        .order_by(subscriptions.c.created, items.c.id)
    )
    for row in connection.execute(running):
        for company in payers[row.customer]:
            yield company, row.event_name, row.price
