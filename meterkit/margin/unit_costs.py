"""What a unit costs, by time and by the values of dimensions: what every source of costs returns."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple, Protocol


class UnitCost(NamedTuple):
    """
    What a unit costs from a moment on.

    Attributes:
        since: Unix second from which it costs that: the start of a UTC day.
        each: Cost of one unit in whole currency; None if it is not known.
    """

    since: int
    each: Decimal | None


class UnitCosts(Protocol):
    """What units cost, as far as it is known now."""

    def of(self, values: Sequence[str], start: int, end: int) -> tuple[UnitCost, ...]:
        """
        Return what a unit costs from the Unix second *start* to *end*, excluded; the first rate begins at *start*.

        Args:
            values: Values of the dimensions that the cost depends on, in their order.
            start: Start of the time that is asked for, Unix seconds.
            end: End of that time, Unix seconds.
        """


class CostSource(Protocol):
    """Where rates come from."""

    def check(self) -> None:
        """
        Check what can be checked while a kit is built, without loading much.

        Raises:
            ConfigurationError: The rates cannot be used; the message says how to correct that.
        """

    def current(self) -> UnitCosts:
        """
        Return the rates as they are now.

        Raises:
            ConfigurationError: They cannot be read; the message says how to correct that.
        """
