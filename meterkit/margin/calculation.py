"""Put together what companies bring in and what their usage costs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from decimal import Decimal, localcontext
from functools import partial
from typing import TypeAlias

from meterkit.core.periods import Period
from meterkit.core.usage_key import NOBODY
from meterkit.errors import UsageError
from meterkit.ledger.database import Database
from meterkit.margin.cost import Cost
from meterkit.margin.report import Margin, MarginReport, UnknownCost
from meterkit.margin.revenue import Prepaid, Revenue, RevenueCalculator, shares
from meterkit.margin.usage_costs import Part, UsageCosts
from meterkit.margin.usage_sums import Place, rated_in_month, used_in_month
from meterkit.metering.meter import Meter
from meterkit.pricing.price import EXACT, Price
from meterkit.pricing.rates.table import RateTable

ASSUMED = (
    "Revenue is what the usage of the month costs at the prices that hold now, as if the month were one billing "
    "period, before tax, credits and what was changed on invoices."
)
WITH_FEES = "It includes a month's share of the fees of running subscriptions, and is less their discounts."
WITHOUT_FEES = (
    "It is without fees and discounts; of a meter that is priced as a whole, values have their share by quantity."
)
PREPAID = "What a wallet covered is revenue when it is used, at what was paid for each unit of the grant that it spent."

Key: TypeAlias = "tuple[str | None, str | None, str | None]"
"""What a margin is about: company, meter, value."""


@dataclass(slots=True)
class _Sum:
    revenue: Decimal = Decimal(0)
    fees: Decimal = Decimal(0)
    discount: Decimal = Decimal(0)
    cost: Decimal = Decimal(0)
    uncosted: Decimal = Decimal(0)
    unknown: dict[str, None] = field(default_factory=dict)

    def add(self, other: _Sum) -> None:
        self.revenue += other.revenue
        self.fees += other.fees
        self.discount += other.discount
        self.cost += other.cost
        self.uncosted += other.uncosted
        self.unknown.update(other.unknown)

    def add_cost(self, cost: Decimal, unknown: Iterable[str]) -> None:
        """Add a cost, and the names of what has none that is known."""
        self.cost += cost
        self.unknown.update((name, None) for name in unknown if name)

    @property
    def is_nothing(self) -> bool:
        return not (self.revenue or self.fees or self.discount or self.cost)


_ByCurrency: TypeAlias = "dict[str, _Sum]"


def margin_report(
    database: Database,
    *,
    month: Period,
    now: int,
    meters: Mapping[str, Meter],
    costs: Iterable[Cost],
    prices: Iterable[Price],
    rates: Mapping[str, RateTable],
    by: str = "company",
    company: str | None = None,
) -> MarginReport:
    """
    Return the margin of a calendar month in UTC.

    Args:
        database: Database of the ledger.
        month: The month.
        now: Current time, Unix seconds.
        meters: Meters of the kit, by name.
        costs: Costs of the kit.
        prices: Prices of companies without a running subscription.
        rates: Tables of the kit's ``Price.by(...)``, by the name of the meter whose usage they rate.
        by: What the rows are about: ``company``, ``meter``, or the name of a dimension.
        company: Only this company; None for all, and for what nobody pays for.

    Raises:
        UsageError: *by* is neither, nor a dimension of a meter.
        ConfigurationError: A file of costs cannot be read.
        LedgerError: The ledger cannot be read.
    """
    _check_by(by, meters)
    books = UsageCosts(costs, meters)
    event_names = {meter.event_name: name for name, meter in meters.items()}
    units = {table.name: meter for meter, table in rates.items()}
    with database.snapshot() as connection, localcontext(EXACT):
        parts = books.parts(connection, used_in_month(connection, month), month)
        calculator = RevenueCalculator(prices, lambda name: event_names.get(name, name), month=month, now=now)
        revenues = calculator.revenues(connection, _used(parts))
        parts = {company: [part for part in each if part.place[0] not in units] for company, each in parts.items()}
        rated = rated_in_month(connection, month, _told_apart(parts, rates, by, meters))
    for payer, revenue in revenues.items():
        revenue.rated = rated.get(payer, {})
        usage: dict[tuple[str, str], Decimal] = {}
        for (name, code), amount in revenue.usage.items():  # a meter may be both billed and paid ahead
            key = (units.get(name, name), code)
            usage[key] = usage.get(key, Decimal(0)) + amount
        revenue.usage = usage
    report = _Report(books, by)
    with localcontext(EXACT):
        for each in sorted({*parts, *revenues}) if company is None else [company]:
            if each in parts or each in revenues:
                report.add(each, parts.get(each, []), revenues.get(each) or Revenue())
        return report.made(datetime.fromtimestamp(month.start, timezone.utc).strftime("%Y-%m"))


def _check_by(by: str, meters: Mapping[str, Meter]) -> None:
    dimensions = dict.fromkeys(name for meter in meters.values() for name in meter.dimensions)
    if by not in ("company", "meter", *dimensions):
        raise UsageError(
            f"by= must be {', '.join(map(repr, ('company', 'meter', *dimensions)))}, not {by!r:.50}",
            reason="dimension_unknown",
        )


def _told_apart(
    parts: Mapping[str, Iterable[Part]], rates: Iterable[str], by: str, meters: Mapping[str, Meter]
) -> set[str]:
    """Return the meters with a ``Price.by(...)`` of which the revenue of single values is needed."""
    unknown = {part.place[0] for of_company in parts.values() for part in of_company if part.unknown}
    return {name for name in rates if name in unknown or (name in meters and by in meters[name].dimensions)}


def _used(parts: Mapping[str, Iterable[Part]]) -> dict[str, dict[str, int]]:
    """Return the quantity by company and meter, without what nobody pays for."""
    found: dict[str, dict[str, int]] = {}
    for company, of_company in parts.items():
        if company != NOBODY:
            sums = found[company] = {}
            for part in of_company:
                meter = part.place[0]
                sums[meter] = sums.get(meter, 0) + part.quantity
    return found


class _Report:
    def __init__(self, books: UsageCosts, by: str) -> None:
        self._books = books
        self._by = by
        self._rows: dict[Key, _ByCurrency] = {}
        self._about: dict[Key, tuple[tuple[str, ...], tuple[str, ...]]] = {}
        self._totals: _ByCurrency = {}
        self._unknown: dict[tuple[str, tuple[str, ...]], list[int]] = {}
        self._without_cost: set[str] = set()
        self._sold: set[str] = set()
        self._unsold: set[str] = set()
        self._mixed: list[str] = []
        self._untold: list[str] = []
        self._prepaid = Prepaid()

    def add(self, company: str, parts: list[Part], revenue: Revenue) -> None:
        """Add a company."""
        self._prepaid.add(revenue.prepaid)
        whole: _ByCurrency = {}
        rows: dict[Key, _ByCurrency] = {}
        for meter, of_meter in _by_meter(parts, revenue).items():
            self._add_meter(rows, whole, meter, of_meter, revenue)
        for currency, amount in revenue.fees.items():
            _at(whole, currency).add(_Sum(revenue=amount, fees=amount))
        for currency, amount in revenue.discounts.items():
            _at(whole, currency).add(_Sum(revenue=-amount, discount=amount))
        currencies = [currency for currency, each in whole.items() if not each.is_nothing]
        why = tuple(dict.fromkeys(revenue.unknown))
        if why:
            self._untold.append(company)
        elif len(currencies) > 1:
            self._mixed.append(company)
            named = " and ".join(sorted(currency.upper() for currency in currencies))
            why = (f"revenue and cost are in {named}, which are not added up",)
        if self._by == "company":
            key: Key = (company, None, None)
            self._rows[key] = whole
            self._about[key] = why, tuple(dict.fromkeys(revenue.notes))
        elif not why:
            for key, sums in rows.items():
                _add_all(self._rows.setdefault(key, {}), sums)
        if not why:
            _add_all(self._totals, whole)

    def _add_meter(
        self, rows: dict[Key, _ByCurrency], whole: _ByCurrency, meter: str, parts: list[Part], revenue: Revenue
    ) -> None:
        cost = self._books.costs.get(meter)
        if cost is None and parts:
            self._without_cost.add(meter)
        places = parts or [Part((meter, ""), 0, Decimal(0), 0)]  # a flat fee without usage
        names = [self._unknown_of(part) if part.unknown else "" for part in places]
        is_by_company = self._by == "company"
        if cost is not None:
            _at(whole, cost.currency).add_cost(sum([part.cost for part in places], Decimal(0)), names)
            for part, name in zip(places, names, strict=True) if not is_by_company else ():
                _at(rows.setdefault(self._key(part.place), {}), cost.currency).add_cost(part.cost, [name])
        currencies = {currency for name, currency in revenue.usage if name == meter}
        (self._sold if currencies else self._unsold).add(meter)
        for currency in currencies:
            amount = revenue.usage[meter, currency]
            of_all = _at(whole, currency)
            of_all.revenue += amount
            if is_by_company and not any(names):  # most companies, of which there may be many
                continue
            for part, share in zip(places, _shares(amount, places, revenue), strict=True):
                uncosted = share * part.unknown / part.quantity if part.unknown else Decimal(0)
                of_all.uncosted += uncosted
                if not is_by_company:
                    of_row = _at(rows.setdefault(self._key(part.place), {}), currency)
                    of_row.revenue += share
                    of_row.uncosted += uncosted

    def _unknown_of(self, part: Part) -> str:
        """Note that a part of *part* has no known cost, and return its name."""
        meter, values = part.place[0], self._books.costed_by(part.place)
        found = self._unknown.setdefault((meter, values), [0, 0])
        found[0] += part.unknown
        found[1] += 1
        return UnknownCost(meter, values, 0, 0).name

    def _key(self, place: Place) -> Key:
        meter = place[0]
        if self._by in ("company", "meter"):
            return None, meter, None
        value = self._books.value(place, self._by)
        return (None, meter, None) if value is None else (None, None, value)

    def made(self, month: str) -> MarginReport:
        """Return the report of all that was added."""
        rows = [row for key, sums in self._rows.items() for row in self._margins(key, sums)]
        rows.sort(key=lambda row: (row.currency, row.margin is None, row.margin or Decimal(0), row.name))
        unknown = [UnknownCost(*key, quantity, companies) for key, (quantity, companies) in self._unknown.items()]
        unknown.sort(key=lambda each: (-each.quantity, each.name))
        notes = [ASSUMED, WITH_FEES if self._by == "company" else WITHOUT_FEES]
        if self._without_cost:
            notes.append(f"costs= says of no cost of {', '.join(sorted(self._without_cost))}: it counts as nothing.")
        unsold = sorted(self._unsold - self._sold)
        if unsold:
            notes.append(
                f"Nobody has a price of {', '.join(unsold)}, or has paid for it ahead: it brings in nothing here."
            )
        if any(self._prepaid.spent.values()):
            notes.append(PREPAID)
        notes += [f"Of wallets: {note}." for note in self._prepaid.notes]
        return MarginReport(
            month,
            self._by,
            rows=tuple(rows),
            totals=tuple(row for row in self._margins((None, None, None), self._totals)),
            unknown=tuple(unknown),
            left_out=tuple(self._left_out()),
            notes=tuple(notes),
        )

    def _margins(self, key: Key, sums: _ByCurrency) -> Iterator[Margin]:
        why, notes = self._about.get(key, ((), ()))
        shown = [currency for currency, each in sums.items() if not each.is_nothing] or list(sums)[:1]
        unknown = tuple(dict.fromkeys(name for each in sums.values() for name in each.unknown))
        for currency in sorted(shown):
            each = sums[currency]
            company, meter, value = key
            yield Margin(
                company=company,
                meter=meter,
                value=value,
                currency=currency,
                revenue=_tidy(each.revenue),
                fees=_tidy(each.fees),
                discount=_tidy(each.discount),
                cost=_tidy(each.cost),
                uncosted=_tidy(each.uncosted),
                unknown=unknown,
                why=why,
                notes=notes,
            )

    def _left_out(self) -> Iterator[str]:
        where = "in no total" if self._by == "company" else "left out"
        named = partial(_companies, where=where)
        if self._mixed:
            yield f"{named(self._mixed)}: revenue and cost are in different currencies, which are not added up"
        if self._untold:
            yield f"{named(self._untold)}: what they owe cannot be told"


def _tidy(amount: Decimal) -> Decimal:
    """Return *amount* to a millionth of a millionth, without zeros at its end: parts of thirds have no last digit."""
    if not amount:
        return _NOTHING
    found = amount.quantize(_SMALLEST).normalize()
    return found if int(found.as_tuple().exponent) <= 0 else found.quantize(Decimal(1))


_SMALLEST, _NOTHING = Decimal(1).scaleb(-12), Decimal(0)


def _companies(ids: list[str], *, where: str) -> str:
    shown = ", ".join(ids[:5]) + (", ..." if len(ids) > 5 else "")
    return f"{len(ids):,} {'company is' if len(ids) == 1 else 'companies are'} {where} ({shown})"


def _by_meter(parts: Iterable[Part], revenue: Revenue) -> dict[str, list[Part]]:
    found: dict[str, list[Part]] = {}
    for part in parts:
        found.setdefault(part.place[0], []).append(part)
    for meter, _ in revenue.usage:
        found.setdefault(meter, [])
    return found


def _shares(amount: Decimal, parts: list[Part], revenue: Revenue) -> list[Decimal]:
    """Return the share of each part in the revenue of a meter: by what it was rated at, or else by quantity."""
    weights = [revenue.rated.get(part.place, 0) for part in parts]
    return shares(amount, weights if any(weights) else [part.quantity for part in parts])


def _at(sums: _ByCurrency, currency: str) -> _Sum:
    found = sums.get(currency)
    if found is None:
        found = sums[currency] = _Sum()
    return found


def _add_all(sums: _ByCurrency, others: _ByCurrency) -> None:
    for currency, each in others.items():
        _at(sums, currency).add(each)
