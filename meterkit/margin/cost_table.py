"""Costs by patterns of values, as a kit or a file lists them: in the same form as the prices of ``Price.by(...)``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Any

from meterkit.margin.unit_costs import UnitCost
from meterkit.metering.dimensions.values import shown as shown_value
from meterkit.pricing.price import EXACT, money
from meterkit.pricing.rates.declaration import listed_rates
from meterkit.pricing.rates.table import TRILLIONTHS, Rate, in_order


@dataclass(frozen=True)
class CostTable:
    """
    Costs of listed values. Of several entries that match, the most specific counts, as in a price.

    Attributes:
        rates: Entries, in their order.
        default: Cost of one unit of all other values, in trillionths of the currency; None if it is not known.
    """

    rates: tuple[Rate, ...]
    default: int | None = None
    _ordered: list[tuple[tuple[str, ...], list[Rate]]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ordered", in_order(self.rates))

    def check(self) -> None:
        """Do nothing: the entries were checked when they were made."""

    def current(self) -> CostTable:
        """Return the table itself: it does not change."""
        return self

    def of(self, values: Sequence[str], start: int, end: int) -> tuple[UnitCost, ...]:
        """Return what a unit of *values* costs from the Unix second *start* to *end*, excluded."""
        found = [rates for patterns, rates in self._ordered if all(map(fnmatchcase, values, patterns))]
        changes = {rate.since for rates in found for rate in rates if start < rate.since < end}
        costs: list[UnitCost] = []
        for since in (start, *sorted(changes)):
            each = self._each(found, since)
            if not costs or costs[-1].each != each:
                costs.append(UnitCost(since, each))
        return tuple(costs)

    def _each(self, found: Sequence[Sequence[Rate]], at: int) -> Decimal | None:
        """Return what a unit costs at the Unix second *at*, by the entries that match, the most specific ones first."""
        for rates in found:
            held = [rate for rate in rates if rate.since <= at]
            if held:
                return _in_currency(held[-1].price)
        return None if self.default is None else _in_currency(self.default)


@dataclass(frozen=True)
class TableFile:
    """
    A file of costs, which is read again for each report: a corrected file needs no restart.

    Attributes:
        path: Path of the file, which ends with ``.csv``, ``.json`` or ``.toml``.
        dimensions: Names of the dimensions, as fields of the file.
        per: Number of units that the amounts are for.
        default: Cost of *per* units of values that the file lacks, in whole currency; None if it is not known.
        where: What the file belongs to, for error messages.
    """

    path: str
    dimensions: tuple[str, ...]
    per: int
    default: Any
    where: str

    def check(self) -> None:
        """
        Read the file, so that a mistake shows when the kit is built.

        Raises:
            ConfigurationError: The file cannot be read, or an entry of it is wrong.
        """
        self.current()

    def current(self) -> CostTable:
        """
        Return the table as the file has it now.

        Raises:
            ConfigurationError: The file cannot be read, or an entry of it is wrong.
        """
        about: Any = {"table": self.path, "per": self.per, "default": self.default, "what": self.where}
        return CostTable(*listed_rates(self.dimensions, None, amount=money, **about))


def _in_currency(trillionths: int) -> Decimal:
    return EXACT.divide(Decimal(trillionths), Decimal(TRILLIONTHS))


def shown(values: Sequence[str]) -> str:
    """Return the values of dimensions for people, such as ``small / input``."""
    return " / ".join(map(shown_value, values)) or "(no dimension)"
