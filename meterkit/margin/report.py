"""What is left of what usage brings in, as `meterkit.MeterKit.margin` returns it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal, localcontext

from meterkit.margin.cost_table import shown
from meterkit.metering.dimensions.values import shown as shown_value
from meterkit.pricing.price import EXACT, digits, rounded

_NOUNS = {"company": ("company", "companies"), "meter": ("meter", "meters")}

SHOWN = 3
"""Most values without a known cost that a remark names."""

NAMED = 20
"""Most companies, or values without a known cost, that a sentence names."""


@dataclass(frozen=True, slots=True)
class Margin:
    """
    What a company, a meter or a value brings in and costs in a month, in one currency. Amounts are in whole currency.

    Attributes:
        company: Company id; empty for usage without a company; None if this is not about one company.
        meter: Name of the meter; None if this is not about one meter.
        value: Value of the dimension; None if this is not about one value.
        currency: Three-letter currency code.
        revenue: What usage costs the customer, with `fees`, less `discount`; before tax and credits.
        fees: A month's share of the fees of subscriptions.
        discount: Discounts of subscriptions.
        cost: What usage costs the seller, as far as that is known.
        uncosted: The part of `revenue` that is for usage whose cost is not known; it is not in the margin.
        unknown: Values whose cost is not known, as ``meter: model / kind``.
        why: Why the margin cannot be told, one sentence each; empty if it can.
        notes: What the amounts rest on, such as a trial.
    """

    company: str | None
    meter: str | None
    value: str | None
    currency: str
    revenue: Decimal
    fees: Decimal
    discount: Decimal
    cost: Decimal
    uncosted: Decimal
    unknown: tuple[str, ...]
    why: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def margin(self) -> Decimal | None:
        """`revenue` less `uncosted` and `cost`, in whole currency; None if it cannot be told."""
        if self.why:
            return None
        with localcontext(EXACT):
            return self.revenue - self.uncosted - self.cost

    @property
    def percent(self) -> Decimal | None:
        """`margin` in percent of the revenue that it is of, to a tenth; None if there is none, or no revenue."""
        margin = self.margin
        with localcontext(EXACT):
            of = self.revenue - self.uncosted
            if margin is None or of <= 0:
                return None
            return (margin * 100 / of).quantize(Decimal("0.1"), rounding=ROUND_HALF_EVEN)

    @property
    def loses(self) -> bool:
        """Whether it costs more than it brings in."""
        margin = self.margin
        return margin is not None and margin < 0

    @property
    def remark(self) -> str:
        """What is to be noted of it, for people; empty for nothing."""
        found = ["LOSES MONEY"] if self.loses else []
        if self.unknown:
            some = f"{', '.join(self.unknown[:SHOWN])}{', ...' if len(self.unknown) > SHOWN else ''}"
            worth = f"{digits(rounded(self.uncosted, self.currency))} {self.currency}"
            found.append(f"without {len(self.unknown):,} of unknown cost, and its revenue of {worth}: {some}")
        return "; ".join([*found, *self.why, *self.notes])

    @property
    def name(self) -> str:
        """What it is about, for people."""
        if self.company is not None:
            return self.company or "(nobody)"
        if self.value is not None:
            return shown_value(self.value)
        return self.meter or "all"


@dataclass(frozen=True, slots=True)
class UnknownCost:
    """
    Usage whose cost is not known.

    Attributes:
        meter: Name of the meter.
        values: Values of the dimensions that the cost depends on.
        quantity: Usage in the meter's unit.
        companies: Number of companies that have used it.
    """

    meter: str
    values: tuple[str, ...]
    quantity: int
    companies: int

    @property
    def name(self) -> str:
        """Meter and values, for people: ``tokens: small / input``."""
        return f"{self.meter}: {shown(self.values)}"


@dataclass(frozen=True, slots=True)
class MarginReport:
    """
    The margin of a month.

    Attributes:
        month: Month in UTC, such as ``2026-03``.
        by: What `rows` are about: ``company``, ``meter``, or the name of a dimension.
        rows: Margins, by currency, the worst first; those that cannot be told come last.
        totals: One for each currency, of all companies whose margin can be told.
        unknown: Usage whose cost is not known, the most first.
        left_out: Why companies are in no total, and not in `rows` by meter or value; one sentence each.
        notes: What the amounts rest on, one sentence each.
    """

    month: str
    by: str
    rows: tuple[Margin, ...]
    totals: tuple[Margin, ...]
    unknown: tuple[UnknownCost, ...]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def attention(self) -> tuple[str, ...]:
        """What somebody should look at, one sentence each: losses, and costs that are not known."""
        found: list[str] = []
        losing = [row for row in self.rows if row.loses and row.company != ""]
        if losing:
            one, many = _NOUNS.get(self.by, ("value", "values"))
            who = f"1 {one} loses" if len(losing) == 1 else f"{len(losing):,} {many} lose"
            found.append(f"{who} money: {_listed(map(_loss, losing))}")
        if self.unknown:
            number = len(self.unknown)
            what = f"{number:,} value{'' if number == 1 else 's'} whose cost is not known"
            each = (f"{one.name} ({one.quantity:,})" for one in self.unknown)
            found.append(f"Margin without {what}: {_listed(each)}. Add them to costs=, or update the package of prices")
        return (*found, *self.left_out)


def _loss(row: Margin) -> str:
    return f"{row.name} ({digits(rounded(row.margin or Decimal(0), row.currency))} {row.currency})"


def _listed(names: Iterable[str]) -> str:
    given = list(names)
    more = f" and {len(given) - NAMED:,} more" if len(given) > NAMED else ""
    return f"{', '.join(given[:NAMED])}{more}"
