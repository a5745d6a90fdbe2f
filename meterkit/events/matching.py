"""Find the meters that count an event, and how much each counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, cast

from meterkit.core.problems import Problems, shown
from meterkit.core.usage_key import HIGHEST
from meterkit.core.validation import checked_id
from meterkit.errors import UsageError
from meterkit.events.errors import EventError, EventsError
from meterkit.events.event import Event
from meterkit.events.json_path import finder, quantity
from meterkit.metering.aggregation import Aggregation
from meterkit.metering.dimensions.capture import Capture
from meterkit.metering.dimensions.declaration import Dimension
from meterkit.metering.meter import Meter
from meterkit.metering.paths import glob

MOST_REMEMBERED = 1_000
"""Types of events whose meters are remembered. Senders choose them, so there must be a limit."""


class Counts(NamedTuple):
    """
    What an event counts for one meter.

    Attributes:
        meter: The meter.
        quantity: Quantity to add up; 1 for an observation.
        observation: Observed value, as it stands in a usage key; empty if the quantity is added up.
        values: Values of the meter's dimensions, in their order.
    """

    meter: Meter
    quantity: int
    observation: str
    values: tuple[str, ...] = ()


class _Rule(NamedTuple):
    """
    How one meter counts events.

    Attributes:
        meter: The meter.
        when: Its condition, or None.
        path: Path of its value in the data; empty if it counts 1 each, or has a function.
        find: Function of an event that returns the value; None to count 1 each.
        aggregation: Its aggregation; None for a sum.
        dimensions: Its dimensions, whose sources are functions.
    """

    meter: Meter
    when: Callable[[Event], Any] | None
    path: str
    find: Callable[[Event], Any] | None
    aggregation: Aggregation | None
    dimensions: tuple[Dimension, ...]


class EventMatcher:
    """
    Finds what events count.

    Args:
        meters: Meters of the kit; those without ``event_type=`` are ignored.
        problems: Collector of mistakes in the application's functions.
    """

    def __init__(self, meters: Iterable[Meter], problems: Problems) -> None:
        self.meters = tuple(meter for meter in meters if meter.event_type is not None)
        self._problems = problems
        self._capture = Capture(problems)
        self._rules = [(_types_of(meter), _rule(meter)) for meter in self.meters]
        self._remembered: dict[str, tuple[_Rule, ...]] = {}

    @property
    def types(self) -> list[str]:
        """Types and patterns of types that the meters count, in their order, each once."""
        return list(dict.fromkeys(each for meter in self.meters for each in meter.event_type or ()))

    def counts(self, event: Event) -> list[Counts] | None:
        """
        Return what *event* counts, for each meter whose condition holds; None if no meter counts its type.

        Raises:
            EventError: The event has no countable value.
            EventsError: A function of the application raised (status 500).
        """
        rules = self._remembered.get(event.type)
        if rules is None:
            rules = self._find(event.type)
        if not rules:
            return None
        found = []
        for rule in rules:
            if rule.when is None or self._call(rule.meter, "when", rule.when, event):
                counts = self._count(rule, event)
                if counts is not None:
                    values = self._capture.values(rule.meter, rule.dimensions, event) if rule.dimensions else ()
                    found.append(counts._replace(values=values) if values else counts)
        return found

    def _find(self, event_type: str) -> tuple[_Rule, ...]:
        rules = tuple(rule for matches, rule in self._rules if any(each(event_type) for each in matches))
        if len(self._remembered) >= MOST_REMEMBERED:
            self._remembered.clear()
        self._remembered[event_type] = rules
        return rules

    def _count(self, rule: _Rule, event: Event) -> Counts | None:
        if rule.find is None:
            return Counts(rule.meter, 1, "")
        if rule.path:
            value = rule.find(event)
        else:
            value = self._call(rule.meter, "value", rule.find, event)
            if value is None:  # the function says that there is nothing to count
                return None
        where = rule.path or f"value= of {rule.meter.name}"
        if rule.aggregation is None:
            return Counts(rule.meter, quantity(value, where), "")
        if rule.aggregation.mark == HIGHEST:
            return Counts(rule.meter, 1, rule.aggregation.observation(quantity(value, where)))
        try:
            text = format(value, "d") if type(value) is int else value
            return Counts(rule.meter, 1, rule.aggregation.observation(checked_id(text, "value")))
        except UsageError as error:
            raise EventError(error.reason, f"{where} cannot be counted: {error}") from None

    def _call(self, meter: Meter, name: str, function: Callable[[Event], Any], event: Event) -> Any:
        """
        Return what *function*, the *name* of *meter*, says of *event*.

        Raises:
            EventsError: It raised. The sender keeps the events until that is mended.
        """
        try:
            return function(event)
        except Exception as error:
            message = f"{meter}: {name}= raised {shown(error)} for an event; its request was refused, nothing is lost"
            reason = f"{name}_raised"
            self._problems.note(reason, message, error=error, meter=meter.name)
            raise EventsError(
                500,
                reason,
                f"{name}= of the meter {meter.name} raised an exception, and nothing was counted: see the service's "
                "log, correct the function, and send the events again",
                retry_after=60,
            ) from None


def _types_of(meter: Meter) -> list[Callable[[str], bool]]:
    return [glob(each) for each in meter.event_type or ()]


def _rule(meter: Meter) -> _Rule:
    when: Any = meter.when
    value = meter.value
    dimensions = tuple([Dimension(each.name, _source(each.source)) for each in meter.sources])
    if value is None:
        return _Rule(meter, when, "", None, None, dimensions)
    if isinstance(value, str):
        return _Rule(meter, when, value, finder(value), None, dimensions)
    assert isinstance(value, Aggregation), "a meter of events adds up no field of a response"
    of: Any = value.of
    if callable(of):
        return _Rule(meter, when, "", of, value, ())
    return _Rule(meter, when, of, _user if of == "user" else finder(of), value, ())


def _source(source: Any) -> Callable[[Event], Any]:
    """Return a function of an event that returns the value of a dimension; None if the event has none."""
    if callable(source):
        return cast("Callable[[Event], Any]", source)
    find = finder(source)

    def found(event: Event) -> Any:
        try:
            return find(event)
        except EventError:
            return None

    return found


def _user(event: Event) -> str:
    if not event.user:
        raise EventError("user_missing", "the attribute user is missing, and the meter counts users")
    return event.user
