"""The differences between two sets of sums, and what they cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Literal, TypeAlias

from meterkit.core.periods import DAY
from meterkit.core.windows import HOUR
from meterkit.pricing.price import EXACT, Price

Interval: TypeAlias = 'Literal["hour", "day", "month"]'
"""Time over which usage is added up before it is compared."""

Sums: TypeAlias = "dict[tuple[str, str], dict[int, Decimal]]"
"""Quantity by payer and meter name, and then by the Unix second at which an interval begins."""


@dataclass(frozen=True, slots=True)
class IntervalDifference:
    """
    An hour, a day or a month in which the two differ.

    Attributes:
        start: Unix second at which it begins.
        counted: Quantity that meterkit has counted.
        billed: Quantity that the other program has billed.
    """

    start: int
    counted: Decimal
    billed: Decimal


@dataclass(frozen=True, slots=True)
class Comparison:
    """
    One meter of one payer in a month, as meterkit has counted it and as another program has billed it.

    Attributes:
        companies: Ids of the companies; of all for whom the Stripe customer pays.
        customer: Id of the Stripe customer, or None if it is not known.
        meter: Name of the meter.
        counted: Quantity that meterkit has counted.
        billed: Quantity that the other program has billed; None if the request to Stripe failed.
        differences: Hours, days or months in which they differ, oldest first.
        currency: Three-letter code of the currency of `amount`; empty without a price.
        amount: By how much the month would cost more if meterkit billed it, in whole currency; negative if less, None
            if that is not known.
        error: Why the request to Stripe failed; empty if it did not.
    """

    companies: tuple[str, ...]
    customer: str | None
    meter: str
    counted: Decimal
    billed: Decimal | None
    differences: tuple[IntervalDifference, ...]
    currency: str
    amount: Decimal | None
    error: str = ""

    def agrees(self, *, tolerance: Decimal | int = 0) -> bool:
        """
        Return whether both have the same.

        Args:
            tolerance: Percentage of the larger quantity by which the intervals may differ in total.
        """
        if self.billed is None:
            return False
        apart = sum((abs(each.counted - each.billed) for each in self.differences), Decimal(0))
        return apart * 100 <= tolerance * max(self.counted, self.billed)


def step_of(interval: Interval) -> int | None:
    """Return the length of *interval* in seconds; None for the month that is compared."""
    return {"hour": HOUR, "day": DAY}.get(interval)


def start_of(moment: int, step: int | None, *, month: int) -> int:
    """
    Return the Unix second at which the interval of *moment* begins.

    Args:
        moment: Unix second.
        step: Length of an interval in seconds; None for the whole month.
        month: Unix second at which the month begins.
    """
    return month if step is None else moment - moment % step


def compared(
    counted: Sums,
    billed: Sums,
    *,
    payers: Mapping[str, tuple[tuple[str, ...], str | None]],
    prices_of: Callable[[str], Iterable[Price]],
    errors: Mapping[tuple[str, str], str],
) -> list[Comparison]:
    """
    Return the comparison of each payer and meter that either side knows, those first that differ by most money.

    Args:
        counted: Sums of what meterkit has counted.
        billed: Sums of what the other program has billed.
        payers: Companies and Stripe customer of each payer.
        prices_of: Function that returns the prices of a company.
        errors: Why the sums of a payer and meter could not be read.
    """
    found = []
    for payer, meter in sorted({*counted, *billed, *errors}):
        companies, customer = payers.get(payer, ((payer,), None))
        ours, theirs = counted.get((payer, meter), {}), billed.get((payer, meter), {})
        error = errors.get((payer, meter), "")
        total, billed_total = _total(ours), _total(theirs)
        currency, amount = "", None
        if not error and total != billed_total:
            currency, amount = _cost(companies, meter, prices_of, total, billed_total)
        elif not error:
            currency, amount = _cost(companies, meter, prices_of, Decimal(0), Decimal(0))
        found.append(
            Comparison(
                companies=companies,
                customer=customer,
                meter=meter,
                counted=total,
                billed=None if error else billed_total,
                differences=() if error else _differences(ours, theirs),
                currency=currency,
                amount=amount,
                error=error,
            )
        )
    return sorted(found, key=_by_money)


def _total(sums: Mapping[int, Decimal]) -> Decimal:
    return sum(sums.values(), Decimal(0))


def _differences(ours: Mapping[int, Decimal], theirs: Mapping[int, Decimal]) -> tuple[IntervalDifference, ...]:
    nothing = Decimal(0)
    every = (
        IntervalDifference(start, ours.get(start, nothing), theirs.get(start, nothing))
        for start in sorted({*ours, *theirs})
    )
    return tuple(each for each in every if each.counted != each.billed)


def _cost(
    companies: tuple[str, ...],
    meter: str,
    prices_of: Callable[[str], Iterable[Price]],
    ours: Decimal,
    theirs: Decimal,
) -> tuple[str, Decimal | None]:
    """Return the currency, and what *ours* costs more than *theirs*; of companies with a common payer, for all."""
    price = next((each for company in companies for each in prices_of(company) if each.meter.name == meter), None)
    if price is None:
        return "", None
    with localcontext(EXACT):
        return price.currency, price.amount(max(0, int(ours))) - price.amount(max(0, int(theirs)))


def _by_money(each: Comparison) -> tuple[bool, Decimal, Decimal, tuple[str, ...], str]:
    apart = sum((abs(one.counted - one.billed) for one in each.differences), Decimal(0))
    return not each.error, -abs(each.amount or Decimal(0)), -apart, each.companies, each.meter
