"""What the usage of a month costs the seller, by company, meter and values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import NamedTuple

import sqlalchemy as sa

from meterkit.core.periods import Period
from meterkit.core.usage_key import decoded_values
from meterkit.margin.cost import Cost
from meterkit.margin.unit_costs import UnitCost, UnitCosts
from meterkit.margin.usage_sums import Place, Sums, used_between
from meterkit.metering.meter import Meter


class Part(NamedTuple):
    """
    What a company has used of one place.

    Attributes:
        place: Meter and values.
        quantity: Usage in the meter's unit.
        cost: What the part of it with a known cost costs, in whole currency.
        unknown: The part of the quantity whose cost is not known.
    """

    place: Place
    quantity: int
    cost: Decimal
    unknown: int


class UsageCosts:
    """
    Computes what usage costs, and knows the values of places.

    Args:
        costs: Costs of the kit, which are read now.
        meters: Meters of the kit, by name.

    Attributes:
        costs: Costs by the name of their meter.

    Raises:
        ConfigurationError: A file of costs cannot be read.
    """

    def __init__(self, costs: Iterable[Cost], meters: Mapping[str, Meter]) -> None:
        self.costs = {cost.meter.name: cost for cost in costs}
        self._meters = meters
        self._rates: dict[str, UnitCosts] = {name: cost.source.current() for name, cost in self.costs.items()}
        self._values: dict[str, dict[str, str]] = {}

    def values(self, place: Place) -> dict[str, str]:
        """Return the values of *place* by the names of their dimensions."""
        text = place[1]
        if text not in self._values:
            self._values[text] = decoded_values(text)
        return self._values[text]

    def value(self, place: Place, dimension: str) -> str | None:
        """Return the value of a dimension; empty text if nobody has told it, None if the meter has no such one."""
        meter = self._meters.get(place[0])
        is_known = meter is not None and dimension in meter.dimensions
        return self.values(place).get(dimension, "" if is_known else None)

    def costed_by(self, place: Place) -> tuple[str, ...]:
        """Return the values that the cost of *place* depends on; empty text for those that nobody has told."""
        values = self.values(place)
        return tuple(values.get(name, "") for name in self.costs[place[0]].dimensions)

    def parts(self, connection: sa.Connection, sums: Sums, month: Period) -> dict[str, list[Part]]:
        """Return what each company has used, and what that costs."""
        found: dict[str, list[Part]] = {}
        for place, quantities in sums.items():
            rates: tuple[UnitCost, ...] = (UnitCost(month.start, Decimal(0)),)
            if place[0] in self.costs:
                rates = self._rates[place[0]].of(self.costed_by(place), month.start, month.end)
            for part, company in _priced(connection, place, quantities, rates, month.end):
                found.setdefault(company, []).append(part)
        return found


def _priced(
    connection: sa.Connection, place: Place, quantities: Mapping[str, int], rates: tuple[UnitCost, ...], end: int
) -> Iterator[tuple[Part, str]]:
    if len(rates) == 1:
        each = rates[0].each
        for company, quantity in quantities.items():
            cost, unknown = (Decimal(0), quantity) if each is None else (quantity * each, 0)
            yield Part(place, quantity, cost, unknown), company
        return
    ends = [*(rate.since for rate in rates[1:]), end]
    spans = [
        (rate.each, used_between(connection, place, quantities, rate.since, until))
        for rate, until in zip(rates, ends, strict=True)
        if rate.each is not None
    ]
    for company, quantity in quantities.items():
        cost, known = Decimal(0), 0
        for amount, used in spans:
            cost += used.get(company, 0) * amount
            known += used.get(company, 0)
        yield Part(place, quantity, cost, max(0, quantity - known)), company
