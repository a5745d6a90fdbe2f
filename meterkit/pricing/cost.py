"""What the usage of many companies costs, for caps and notices."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Any, TypeAlias

import sqlalchemy as sa

from meterkit.core.periods import BillingCycle, Period
from meterkit.errors import ConfigurationError
from meterkit.ledger.bulk import BATCH
from meterkit.ledger.payers import companies_by_customer
from meterkit.metering.meter import Meter
from meterkit.pricing.invoice_calculator import usage_cost
from meterkit.pricing.price import EXACT, Price
from meterkit.pricing.stripe_price import price_of
from meterkit.pricing.subscription_terms import SubscriptionTerms, plain_items, read_terms, recurrence

PeriodOf: TypeAlias = Callable[[str, str], Period]
"""Function from a company and the name of a meter to the period that its usage is for."""

UsedSince: TypeAlias = Callable[[sa.Connection, str, str, int], int]
"""Function from a connection, a company, a meter's name and a Unix second to the quantity used since then."""


@dataclass(frozen=True, slots=True)
class Spending:
    """
    What the usage of a company costs in its running billing period.

    Attributes:
        prices: Metered prices of its subscriptions, or the kit's if it has none.
        certain: The part that is billed whatever is not known, in whole currency.
        possible: What it costs at most, in whole currency.
        unknown: Why the amounts cannot be told, one sentence each; empty if they can.
    """

    prices: tuple[Price, ...]
    certain: Decimal
    possible: Decimal
    unknown: tuple[str, ...]

    @property
    def amount(self) -> Decimal | None:
        """What the usage costs, in whole currency; None if it cannot be told."""
        return None if self.unknown or self.certain != self.possible else self.certain


class CostCalculator:
    """
    Computes what usage costs.

    Args:
        prices: Prices of the kit, for companies without a known subscription.
        meters: Meters of the kit, by name.
        used_since: Function that returns usage that is not that of the running period.
    """

    def __init__(
        self, prices: Iterable[Price], meters: Mapping[str, Meter], *, used_since: UsedSince | None = None
    ) -> None:
        self._prices = tuple(prices)
        self._meters = {meter.event_name: meter for meter in meters.values()}
        self._used_since = used_since
        self._parsed: dict[tuple[str, str], Price | None] = {}

    def prices_of(self, connection: sa.Connection, companies: Iterable[str]) -> dict[str, tuple[Price, ...]]:
        """Return the metered prices of each company's running subscriptions, or the kit's prices if none is known."""
        return {company: self._prices_of(rows) for company, rows in self._items(connection, companies).items()}

    def spending(
        self,
        connection: sa.Connection,
        used: Mapping[str, Mapping[str, int]],
        currency: str,
        *,
        now: int,
        period_of: PeriodOf,
    ) -> dict[str, Spending]:
        """
        Return what the usage of each company costs.

        Args:
            connection: Connection to the ledger.
            used: Quantity of the running period by company and meter name.
            currency: Three-letter currency code; prices in other currencies are left out. Empty takes that of each
                company's first price.
            now: Current time, Unix seconds.
            period_of: Periods that *used* is for.
        """
        found: dict[str, Spending] = {}
        special: list[str] = []
        for company, rows in self._items(connection, used).items():
            prices = self._prices_of(rows)
            wanted = currency or next((price.currency for price in prices), "")
            cost = (
                self._plain_cost(company, rows, used[company], wanted, now=now, period_of=period_of)
                if rows
                else cost_of(prices, used[company], wanted)
            )
            found[company] = Spending(prices, cost or Decimal(0), cost or Decimal(0), ())
            if cost is None:
                special.append(company)
        for company, terms in self._terms_of(connection, special).items():
            each = _Company(self, connection, company, used=used[company], now=now, period_of=period_of)
            prices = found[company].prices
            wanted = currency or next((price.currency for price in prices), "")
            found[company] = each.spending(terms, prices, wanted)
        return found

    def _plain_cost(
        self,
        company: str,
        rows: list[Any],
        used: Mapping[str, int],
        currency: str,
        *,
        now: int,
        period_of: PeriodOf,
    ) -> Decimal | None:
        """Return what the usage costs if nothing about the subscriptions is special, as for most; else None."""
        cost = Decimal(0)
        for _, event_name, text, start, end, anchor, known, is_plain in rows:
            price = self.price(event_name, text)
            if not is_plain or price is None or price.currency != known:
                return None
            meter = self.meter_name(event_name)
            begin = start if now < end else BillingCycle(Period(start, end), anchor, *recurrence(text)).at(now).start
            if begin != period_of(company, meter).start:
                return None
            if price.currency == currency:
                cost = EXACT.add(cost, price.amount(max(0, used.get(meter, 0))))
        return cost

    def price(self, event_name: str, text: str) -> Price | None:
        """Return the price in Stripe's JSON *text*, parsed once per text; None if it cannot be computed here."""
        key = (event_name, text)
        if key not in self._parsed:
            try:
                self._parsed[key] = price_of(json.loads(text), self._meters.get(event_name) or Meter(event_name))
            except (ConfigurationError, KeyError):
                self._parsed[key] = None
        return self._parsed[key]

    def meter_name(self, event_name: str) -> str:
        """Return the name of the meter with that event name."""
        meter = self._meters.get(event_name)
        return event_name if meter is None else meter.name

    def used_since(self, connection: sa.Connection, company: str, meter: str, start: int) -> int:
        """Return the usage of a company since the Unix second *start*."""
        return 0 if self._used_since is None else self._used_since(connection, company, meter, start)

    def _items(self, connection: sa.Connection, companies: Iterable[str]) -> dict[str, list[Any]]:
        """Return the metered items of each of *companies*."""
        ids = sorted(companies)
        found: dict[str, list[Any]] = {company: [] for company in ids}
        for start in range(0, len(ids), BATCH):
            payers = companies_by_customer(connection, ids[start : start + BATCH])
            for row in plain_items(connection, payers):
                for company in payers[row[0]]:
                    found[company].append(row)
        return found

    def _terms_of(self, connection: sa.Connection, companies: Iterable[str]) -> dict[str, list[SubscriptionTerms]]:
        """Return the running subscriptions that pay for each of *companies*."""
        ids = sorted(companies)
        found: dict[str, list[SubscriptionTerms]] = {company: [] for company in ids}
        for start in range(0, len(ids), BATCH):
            payers = companies_by_customer(connection, ids[start : start + BATCH])
            for customer, terms in read_terms(connection, payers).items():
                for company in payers[customer]:
                    found[company] += (each for each in terms if each.items)
        return found

    def _prices_of(self, rows: list[Any]) -> tuple[Price, ...]:
        """Return the prices of items; those that are not known in the currency of their subscription are left out."""
        if not rows:
            return self._prices
        found = ((self.price(event_name, text), known) for _, event_name, text, _, _, _, known, _ in rows)
        return tuple(price for price, known in found if price is not None and known in ("", price.currency))


class _Company:
    """One company, and its usage in the running period."""

    def __init__(
        self,
        calculator: CostCalculator,
        connection: sa.Connection,
        company: str,
        *,
        used: Mapping[str, int],
        now: int,
        period_of: PeriodOf,
    ) -> None:
        self._calculator = calculator
        self._connection = connection
        self._company = company
        self._used = used
        self._now = now
        self._period_of = period_of

    def spending(self, terms: list[SubscriptionTerms], prices: tuple[Price, ...], currency: str) -> Spending:
        certain = possible = Decimal(0)
        unknown: list[str] = []
        with localcontext(EXACT):
            for each in terms:
                least, most, why = self._of_subscription(each, currency)
                certain, possible = certain + least, possible + most
                unknown += why
        return Spending(prices, certain, possible, tuple(unknown))

    def _of_subscription(self, terms: SubscriptionTerms, currency: str) -> tuple[Decimal, Decimal, list[str]]:
        try:
            bill = usage_cost(terms, self, now=self._now)
        except ConfigurationError as error:
            return Decimal(0), Decimal(0), [str(error)]
        if bill.currency != currency or bill.free:
            return Decimal(0), Decimal(0), []
        if bill.unknown:
            return Decimal(0), bill.total, bill.unknown
        return max(Decimal(0), bill.total - bill.uncertain), bill.total, []

    def received(self, event_name: str, start: int, end: int) -> int:
        """Return at most what Stripe had received by *end* of the usage between two Unix seconds."""
        return self.between(event_name, start, end)

    def between(self, event_name: str, start: int, end: int) -> int:
        """Return the quantity used between two Unix seconds, *end* excluded."""
        meter = self._calculator.meter_name(event_name)
        period = self._period_of(self._company, meter)
        since = self._used.get(meter, 0) if start == period.start else self._since(meter, start)
        return since - (self._since(meter, end) if end <= self._now else 0)

    def _since(self, meter: str, start: int) -> int:
        return self._calculator.used_since(self._connection, self._company, meter, start)


def cost_of(prices: Iterable[Price], used: Mapping[str, int], currency: str) -> Decimal:
    """
    Return what usage costs at a list of prices, in whole *currency*.

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
