"""Check that something tells the value of each dimension."""

from __future__ import annotations

import re
from typing import Any

from meterkit.errors import ConfigurationError
from meterkit.metering.aggregation import Aggregation
from meterkit.metering.dimensions.declaration import Dimension

EVENT_PATH = re.compile(r"\$(\.[^.\[\]*$\s]+)+")
"""A number or text in an event's data, such as ``$.usage.tokens`` or ``$.items.0.count``."""


def checked_sources(meter: Any, *, body_field: type) -> tuple[Dimension, ...]:
    """
    Return the dimensions of *meter* with their sources; those of a meter of events are paths or functions.

    Args:
        meter: Meter whose dimensions have names.
        body_field: Class of what `response_json` returns.

    Raises:
        ConfigurationError: Nothing tells the value of one, or what is to tell it cannot.
    """
    dimensions: tuple[Dimension, ...] = meter.sources
    if not dimensions:
        return dimensions
    if isinstance(meter.value, Aggregation):
        raise ConfigurationError(
            f"{meter}: by= tells a sum apart, and unique() and maximum() are none: leave by= out, or declare a meter "
            "for each value"
        )
    if meter.event_type is not None:
        return tuple([_of_event(each, meter) for each in dimensions])
    told = getattr(meter.value, "told", ())
    for name, source in dimensions:
        is_field = isinstance(source, body_field)
        if source is None:
            if meter.http and meter.added_name is None and name not in told:
                tells = f"; the response tells {' and '.join(told)}" if told else ""
                raise ConfigurationError(
                    f"{meter}: nothing tells the dimension {name!r} of an exchange: give by= a function, such as "
                    f"by={{{name!r}: lambda exchange: ...}}, or response_json(...), or let views tell it with "
                    f"add_usage(), of a meter whose value= is a name{tells}"
                )
        elif not callable(source) and not is_field:
            raise ConfigurationError(
                f"{meter}: by={{{name!r}: ...}} must be a function of an Exchange, response_json(...), or None for "
                f"what the view tells, not {source!r:.100}"
            )
        elif not meter.http or (meter.tool is not None and is_field):
            raise ConfigurationError(
                f"{meter}: it counts no HTTP exchanges, so by={{{name!r}: ...}} would never be asked: name the "
                "dimension only, and tell its value with the quantity"
            )
    return dimensions


def _of_event(dimension: Dimension, meter: Any) -> Dimension:
    name, source = dimension
    if source is None:
        return Dimension(name, f"$.{name}")
    if not callable(source) and not (isinstance(source, str) and EVENT_PATH.fullmatch(source)):
        raise ConfigurationError(
            f"{meter}: with event_type=, by={{{name!r}: ...}} must be a path into the event's data, such as "
            f"'$.{name}', or a function of the Event, not {source!r:.100}"
        )
    return dimension
