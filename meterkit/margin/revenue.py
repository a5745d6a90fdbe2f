"""What companies bring in for a month: what their usage costs them, with fees, less discounts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from decimal import Decimal, localcontext
from itertools import islice
from typing import Any

import sqlalchemy as sa

from meterkit.core.periods import DAY, Period
from meterkit.errors import ConfigurationError
from meterkit.ledger.bulk import BATCH
from meterkit.ledger.payers import companies_by_customer
from meterkit.margin.usage_sums import Moved, Place, moved_in_month
from meterkit.pricing.bill import Part, currency_of, discounted, price_id, price_in
from meterkit.pricing.invoice_calculator import is_free
from meterkit.pricing.price import EXACT, Price, digits, rounded
from meterkit.pricing.subscription_terms import SubscriptionTerms, read_terms, recurrence
from meterkit.wallets.amounts import shown

NO_SUBSCRIPTION = "no running subscription: priced as if it had the kit's prices"

Used = Mapping[str, Mapping[str, int]]
"""Quantity by company and meter name."""


@dataclass(slots=True)
class Prepaid:
    """
    What wallets have moved in a month: amounts in millionths by unit, and in whole currency by currency.

    Attributes:
        spent: What was paid for what usage has spent.
        unpaid: Units that usage has spent of grants that were free, or whose payment is not known.
        uncovered: Units that usage was worth beyond the balance.
        expired: Units that have expired unspent.
        breakage: What was paid for those.
        revoked: Units that were taken back.
        refunded: What was paid for those.
        refunded_spent: The part of that for units that usage had spent before.
    """

    spent: dict[str, Decimal] = field(default_factory=dict)
    unpaid: dict[str, int] = field(default_factory=dict)
    uncovered: dict[str, int] = field(default_factory=dict)
    expired: dict[str, int] = field(default_factory=dict)
    breakage: dict[str, Decimal] = field(default_factory=dict)
    revoked: dict[str, int] = field(default_factory=dict)
    refunded: dict[str, Decimal] = field(default_factory=dict)
    refunded_spent: dict[str, Decimal] = field(default_factory=dict)

    def move(self, moved: Moved) -> None:
        """Add a movement."""
        worth, currency = moved.worth, moved.currency or ""
        units, money = {
            "available": ({} if worth else self.unpaid, self.spent),
            "uncovered": (self.uncovered if moved.meter else {}, self.refunded_spent),
            "expired": (self.expired, self.breakage),
            "revoked": (self.revoked, self.refunded),
        }[moved.account]
        units[moved.unit] = units.get(moved.unit, 0) + moved.amount
        if worth is not None:
            _add(money, currency, worth)

    def add(self, other: Prepaid) -> None:
        """Add what other wallets have moved."""
        for each in fields(self):
            mine, others = getattr(self, each.name), getattr(other, each.name)
            for key, amount in others.items():
                mine[key] = mine.get(key, 0) + amount

    @property
    def notes(self) -> list[str]:
        """What is not in the revenue, or not as a payment, for people."""
        found = []
        if any(self.unpaid.values()):
            found.append(
                f"{_units(self.unpaid)} spent of grants that nobody is known to have paid for, which bring in nothing"
            )
        if any(self.uncovered.values()):
            found.append(f"usage worth {_units(self.uncovered)} that no balance covered brings in nothing")
        if any(self.expired.values()):
            paid = f", for which {_money(self.breakage)} was paid" if any(self.breakage.values()) else ""
            found.append(f"{_units(self.expired)} expired unspent{paid}; not in the revenue")
        if any(self.revoked.values()):
            paid = f", for which {_money(self.refunded)} was paid" if any(self.refunded.values()) else ""
            spent = self.refunded_spent
            before = f", of which {_money(spent)} for what had been spent" if any(spent.values()) else ""
            found.append(f"{_units(self.revoked)} taken back{paid}{before}; revenue is not less by that")
        return found


def _units(amounts: Mapping[str, int]) -> str:
    return " and ".join(shown(amount, unit) for unit, amount in sorted(amounts.items()) if amount)


def _money(amounts: Mapping[str, Decimal]) -> str:
    known = sorted((code, amount) for code, amount in amounts.items() if amount)
    return " and ".join(f"{digits(rounded(amount, code))} {code}" for code, amount in known)


@dataclass(slots=True)
class Revenue:
    """
    What a company brings in for a month, in whole currency.

    Attributes:
        usage: What its usage of each meter costs it, by the meter's name and currency.
        fees: A month's share of the fees of its subscriptions, by currency.
        discounts: Discounts of its subscriptions, by currency.
        rated: What the values of a meter with a ``Price.by(...)`` were rated at, in trillionths: their shares of it.
        unknown: Why the amounts cannot be told, one sentence each; empty if they can.
        notes: What the amounts rest on, such as a trial.
        prepaid: What its wallets have moved, of which *usage* has what was paid for what was spent.
    """

    usage: dict[tuple[str, str], Decimal] = field(default_factory=dict)
    fees: dict[str, Decimal] = field(default_factory=dict)
    discounts: dict[str, Decimal] = field(default_factory=dict)
    rated: Mapping[Place, int] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    prepaid: Prepaid = field(default_factory=Prepaid)


class RevenueCalculator:
    """
    Computes what companies bring in, as if the month were a billing period, at the prices that hold now.

    Args:
        prices: Prices of companies without a running subscription; the first of each meter counts.
        meter_name: Function that returns the name of the meter with an event name.
        month: The calendar month.
        now: Current time, Unix seconds.
    """

    def __init__(
        self,
        prices: Iterable[Price],
        meter_name: Callable[[str], str],
        *,
        month: Period,
        now: int,
    ) -> None:
        self._prices: dict[str, Price] = {}
        for price in prices:
            self._prices.setdefault(price.meter.name, price)
        self._meter_name = meter_name
        self._month = month
        self._now = now

    def revenues(self, connection: sa.Connection, used: Used) -> dict[str, Revenue]:
        """Return the revenue of each company that has used something, or that a Stripe customer pays for."""
        found: dict[str, Revenue] = {}
        with localcontext(EXACT):
            for payers in _payers(connection, used):
                for customer, all_terms in read_terms(connection, payers).items():
                    known = [terms for terms in all_terms if terms.items]
                    if known:
                        self._add_customer(found, known, sorted(payers[customer]), used)
            for company, quantities in used.items():
                if company not in found:
                    found[company] = self._without_subscription(quantities)
            self._add_prepaid(connection, found, used)
        return found

    def _add_prepaid(self, connection: sa.Connection, found: dict[str, Revenue], used: Used) -> None:
        """Add what was paid ahead for usage, which each company pays for itself, whoever pays its invoices."""
        for moved in moved_in_month(connection, self._month, used):
            revenue = found.setdefault(moved.company, Revenue())
            revenue.prepaid.move(moved)
            if moved.account == "available" and moved.worth is not None:
                _add(revenue.usage, (moved.meter, str(moved.currency)), moved.worth)
        for revenue in found.values():
            revenue.notes += revenue.prepaid.notes

    def _without_subscription(self, quantities: Mapping[str, int]) -> Revenue:
        found = Revenue(notes=[NO_SUBSCRIPTION if self._prices else "no running subscription"])
        for meter, quantity in quantities.items():
            price = self._prices.get(meter)
            if price is not None:
                found.usage[meter, price.currency] = price.amount(max(0, quantity))
        return found

    def _add_customer(
        self, found: dict[str, Revenue], all_terms: list[SubscriptionTerms], companies: Sequence[str], used: Used
    ) -> None:
        """Add what a Stripe customer pays, shared among the companies that it pays for."""
        sums: dict[str, int] = {}
        for company in companies:
            for meter, quantity in used.get(company, {}).items():
                sums[meter] = sums.get(meter, 0) + quantity
        paid = Revenue()
        for terms in all_terms:
            self._add_subscription(paid, terms, sums)
        if len(companies) == 1 and companies[0] not in found:
            found[companies[0]] = paid
            return
        each = {company: found.setdefault(company, Revenue()) for company in companies}
        _share(paid, each, used)

    def _add_subscription(self, paid: Revenue, terms: SubscriptionTerms, used: Mapping[str, int]) -> None:
        why = self._free(terms)
        if why:
            paid.notes.append(why)
            return
        currency = terms.subscription.currency or currency_of(terms.items[0])
        parts: list[Part] = []
        for item in terms.items:
            try:
                price = price_in(item)
            except ConfigurationError as error:
                paid.unknown.append(str(error))
                continue
            if currency_of(item) != currency:
                paid.unknown.append(
                    f"price {price_id(item)} is known in {currency_of(item).upper()} alone, and the subscription is "
                    f"billed in {currency.upper()}"
                )
                continue
            if item.event_name is not None:
                meter = self._meter_name(item.event_name)
                amount = price.amount(max(0, used.get(meter, 0)))
                _add(paid.usage, (meter, currency), amount)
            elif terms.subscription.created < self._month.end:
                amount = price.amount(item.quantity or 0) * self._intervals(item)
                _add(paid.fees, currency, amount)
            else:
                continue
            parts.append((amount, item.id, json.loads(item.price).get("product")))
        discounts = terms.discounts_at(min(self._now, self._month.end - 1))
        if discounts:
            off, unknown = discounted(parts, discounts, currency)
            _add(paid.discounts, currency, off)
            paid.unknown += unknown

    def _free(self, terms: SubscriptionTerms) -> str:
        """Return why nothing was charged for the month; empty if it was."""
        if self._month.end > self._now:
            return is_free(terms, until=self._month.end, now=self._now)
        trial_end = terms.subscription.trial_end
        # Whether collection was paused then is not known; a trial is.
        return "in a trial" if trial_end is not None and trial_end >= self._month.end else ""

    def _intervals(self, item: Any) -> Decimal:
        """Return how many of a fee's intervals a month has: of a yearly fee, a twelfth."""
        interval, count = recurrence(item.price)
        if interval in ("month", "year"):
            return Decimal(1) / (count * (12 if interval == "year" else 1))
        return Decimal((self._month.end - self._month.start) // DAY) / (count * (7 if interval == "week" else 1))


def _share(paid: Revenue, each: Mapping[str, Revenue], used: Used) -> None:
    """Share what a customer pays among companies: usage by quantity, fees and discounts equally."""
    for (meter, currency), amount in paid.usage.items():
        weights = [used.get(company, {}).get(meter, 0) for company in each]
        for revenue, part in zip(each.values(), shares(amount, weights), strict=True):
            _add(revenue.usage, (meter, currency), part)
    for name in ("fees", "discounts"):
        for currency, amount in getattr(paid, name).items():
            for revenue, part in zip(each.values(), shares(amount, [1] * len(each)), strict=True):
                _add(getattr(revenue, name), currency, part)
    for revenue in each.values():
        revenue.unknown += paid.unknown
        revenue.notes += [*paid.notes, f"fees and discounts shared among {len(each)} companies of one payer"]


def shares(amount: Decimal, weights: Sequence[int]) -> list[Decimal]:
    """Return parts of *amount* in proportion to *weights*, which add up to it exactly; equal ones if all are 0."""
    if len(weights) == 1:
        return [amount]
    if not any(weights):
        weights = [1] * len(weights)
    total, parts, left = sum(weights), [], amount
    with localcontext(EXACT):
        for weight in weights[:-1]:
            part = amount * weight / total
            parts.append(part)
            left -= part
    return [*parts, left]


def _add(sums: dict[Any, Decimal], key: Any, amount: Decimal) -> None:
    sums[key] = sums.get(key, Decimal(0)) + amount


def _payers(connection: sa.Connection, used: Used) -> Iterator[dict[str, set[str]]]:
    """Yield the companies of all Stripe customers, by customer, a batch of customers at a time."""
    payers = companies_by_customer(connection)
    ids = iter(used)
    while batch := list(islice(ids, BATCH)):  # some may pay for themselves, without a link
        for customer, companies in companies_by_customer(connection, batch).items():
            payers.setdefault(customer, set()).update(companies)
    customers = iter(sorted(payers))
    while chosen := list(islice(customers, BATCH)):
        yield {customer: payers[customer] for customer in chosen}
