"""Find the values of an exchange's dimensions, and how much of each meter is of which."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from meterkit.core.problems import Problems, shown
from meterkit.core.validation import checked_quantity
from meterkit.errors import UsageError
from meterkit.metering.dimensions.declaration import Dimension
from meterkit.metering.dimensions.quantities import NOTHING, Told, invalid, parts_of
from meterkit.metering.dimensions.values import OTHER, UNKNOWN, value_of
from meterkit.metering.exchange import Exchange
from meterkit.metering.meter import MEASURED, Meter, ResponseJson, StreamedValue

Part: TypeAlias = "tuple[Meter, tuple[str, ...], int]"
"""Meter, values in the order of its dimensions, and quantity."""

_NO_VALUES: Mapping[str, str] = {}


class Capture:
    """
    Finds values. Never raises what an application's function raises.

    Args:
        problems: Collector of mistakes.
    """

    def __init__(self, problems: Problems) -> None:
        self._problems = problems

    def found(self, meter: Meter, exchange: Exchange) -> Mapping[str, str]:
        """Return the values that the functions and paths of *meter* find in *exchange*, by the dimensions' names."""
        if not meter.asked:
            return _NO_VALUES
        return {each.name: self._value(meter, each, exchange) for each in meter.asked}

    def parts(self, meter: Meter, exchange: Exchange) -> list[Part]:
        """
        Return how much *exchange* counts for *meter*, by values.

        Raises:
            UsageError: A quantity is not countable.
        """
        value = meter.value
        told: Iterable[tuple[Told, int]]
        if isinstance(value, str) and value not in MEASURED:
            said = [each for name, each in exchange.said if name == value and isinstance(each, int)]
            if not said:
                return []
            told = [part for each in said for part in parts_of(each)]
        elif isinstance(value, StreamedValue):
            reader = (exchange.readers or {}).get(type(value))
            told = value.parts(value.reader("") if reader is None else reader)
        else:
            told = ((NOTHING, meter.quantity(exchange)),)
        return split(meter, told, self.found(meter, exchange))

    def values(self, meter: Meter, dimensions: Iterable[Dimension], event: Any) -> tuple[str, ...]:
        """Return the values of *dimensions* of *meter* that their functions find in an *event*."""
        return tuple([self._value(meter, each, event) for each in dimensions])

    def _value(self, meter: Meter, dimension: Dimension, of: Any) -> str:
        source = dimension.source
        try:
            told = _in_body(source, of) if isinstance(source, ResponseJson) else source(of)
        except UsageError as error:
            if error.reason != "body_no_value":
                message = f"{meter}: by={{{dimension.name!r}: ...}}: {error}; counted as unknown"
                self._problems.note(error.reason, message, meter=meter.name)
            return UNKNOWN
        except Exception as error:
            message = f"{meter}: by={{{dimension.name!r}: ...}} raised {shown(error)}; counted as unknown"
            self._problems.note("dimension_raised", message, error=error, meter=meter.name)
            return UNKNOWN
        value = value_of(told)
        if value is None:
            self._problems.note("dimension_invalid", f"{meter}: {invalid(dimension.name, told)}", meter=meter.name)
            return OTHER
        return value


def split(meter: Meter, told: Iterable[tuple[Told, int]], found: Mapping[str, str] = _NO_VALUES) -> list[Part]:
    """
    Return the quantities in *told* by the values of the meter's dimensions, each combination once.

    Args:
        meter: Meter with dimensions.
        told: Quantities, each with what was told of its dimensions, which comes before what was found.
        found: Values that were found otherwise.

    Raises:
        UsageError: The sum of a combination is not countable.
    """
    names = meter.dimensions
    sums: dict[tuple[str, ...], int] = {}
    for pairs, quantity in told:
        given = dict(pairs)
        values = tuple([given.get(name) or found.get(name, UNKNOWN) for name in names])
        sums[values] = sums.get(values, 0) + quantity
    return [(meter, values, checked_quantity(quantity)) for values, quantity in sums.items() if quantity]


def quantities(counted: Iterable[tuple[Meter, int]], parts: Iterable[Part]) -> dict[str, int]:
    """Return what was counted by the meter's name: of meters without dimensions, and *parts*, whatever their values."""
    sums = {meter.name: quantity for meter, quantity in counted}
    for meter, _, quantity in parts:
        sums[meter.name] = sums.get(meter.name, 0) + quantity
    return sums


def checked_values(meter: Meter, given: Mapping[str, Any] | None) -> tuple[str, ...]:
    """
    Return the values that a call gives for *meter*, in the order of its dimensions; `UNKNOWN` for missing ones.

    Raises:
        UsageError: The meter has no such dimension, or a value cannot be one.
    """
    if given is not None and not isinstance(given, Mapping):
        raise UsageError(
            f"dimensions= must map names to values, such as {{'model': 'small'}}, not {given!r:.100}",
            reason="dimension_unknown",
        )
    unknown = [name for name in given or () if name not in meter.dimensions]
    if unknown:
        known = f"its dimensions are {', '.join(meter.dimensions)}" if meter.by else "it has no by="
        raise UsageError(f"{meter} has no dimension {unknown[0]!r:.100}: {known}", reason="dimension_unknown")
    values = []
    for name in meter.dimensions:
        told = (given or {}).get(name)
        value = value_of(told)
        if value is None:
            raise UsageError(
                f"{name} must be a text of at most 100 bytes without control characters, not {told!r:.120}",
                reason="dimension_invalid",
            )
        values.append(value)
    return tuple(values)


def _in_body(path: ResponseJson, exchange: Exchange) -> Any:
    return path.find(exchange.body or b"", exchange.response_headers.get("content-encoding", ""))
