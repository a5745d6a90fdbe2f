"""
Match exchanges against meters; the static part of every rule is cached.

The static filters of a meter (method, path, route, status) are evaluated once per distinct combination, and the result
is cached, so a request's cost depends on the meters that it matches, not on how many there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from meterkit.core.usage_key import HIGHEST
from meterkit.metering.aggregation import Aggregation
from meterkit.metering.meter import MEASURED, Meter, ResponseJson, StatusFilter

MAX_REMEMBERED = 4096
"""Distinct combinations in the cache. Clients choose paths, so the cache must be bounded."""

Shape: TypeAlias = "tuple[str, str, int] | tuple[str, str, int, str]"
"""Method, path, status; and the route, if there is one and one of the kit's meters has ``route=``."""


@dataclass(slots=True)
class Match:
    """
    The meters whose static filters match an exchange; ``when=`` is still to be evaluated.

    Attributes:
        meters: Matching meters that add up quantities.
        observing: Matching meters with `unique` or `maximum`.
        body_bytes: Longest response body that these meters read, bytes.
        has_body: Whether the server sends the body that the app returns; it does not for HEAD, 204 and 304.
        one: Name and event name of the meter, if exactly one matches and it counts 1 unconditionally; otherwise None.
        hour: Start and end of the current hour, Unix seconds, and the `MeterWindow` of `one` in it; a cache that the
            recorder keeps.
    """

    meters: tuple[Meter, ...]
    observing: tuple[Meter, ...]
    body_bytes: int
    has_body: bool
    one: tuple[str, str] | None
    hour: tuple[float, float, tuple[str, str, int]] = (0.0, 0.0, ("", "", 0))


class MeterMatcher:
    """
    Finds the meters of a kit that match an exchange.

    Attributes:
        meters: Meters of the kit, in the order of their declaration.
        remembered: Cache of `match`, for callers that want to save the call.
        usage_names: Names that views may pass to ``add_usage``.
        is_timed: Whether a meter may need the duration of an exchange.
    """

    def __init__(self, meters: Iterable[Meter]) -> None:
        self.meters = tuple(meters)
        self._rules = [(meter, _matcher(meter)) for meter in self.meters]
        self.remembered: dict[Shape, Match] = {}
        self.usage_names = {meter.value for meter in self.meters if isinstance(meter.value, str)} - MEASURED.keys()
        self.is_timed = any(_may_need_duration(meter) for meter in self.meters)
        aggregations = [meter.value for meter in self.meters if isinstance(meter.value, Aggregation)]
        self.usage_names |= {each.of for each in aggregations if isinstance(each.of, str) and each.mark == HIGHEST}

    def match(self, method: str, path: str, route: str | None, status: int) -> Match:
        """Return the meters that match, in the order of their declaration."""
        shape: Shape = (method, path, status) if route is None else (method, path, status, route)
        match = self.remembered.get(shape)
        if match is None:
            match = self._evaluate(method, path, route, status)
            if len(self.remembered) >= MAX_REMEMBERED:
                self.remembered.clear()
            self.remembered[shape] = match
        return match

    def _evaluate(self, method: str, path: str, route: str | None, status: int) -> Match:
        meters = tuple(meter for meter, matches in self._rules if matches(method, path, route, status))
        caps = [meter.value.max_bytes for meter in meters if isinstance(meter.value, ResponseJson)]
        plain = len(meters) == 1 and meters[0].value is None and meters[0].when is None
        return Match(
            meters=tuple(meter for meter in meters if not isinstance(meter.value, Aggregation)),
            observing=tuple(meter for meter in meters if isinstance(meter.value, Aggregation)),
            body_bytes=max(caps, default=0),
            has_body=method != "HEAD" and status not in (204, 304),
            one=(meters[0].name, meters[0].event_name) if plain else None,
        )


def _may_need_duration(meter: Meter) -> bool:
    is_function = isinstance(meter.value, Aggregation) and callable(meter.value.of)
    return meter.value == "duration_ms" or meter.when is not None or is_function


def _matcher(meter: Meter) -> Callable[[str, str, str | None, int], bool]:
    methods = meter.method
    globbed = None if meter.path is None else glob(meter.path)
    statuses = _all_codes(meter.status)

    def matches(method: str, path: str, route: str | None, status: int) -> bool:
        return (
            status in statuses
            and (method in methods if isinstance(methods, frozenset) else method != "OPTIONS")
            and (meter.route is None or meter.route == route)
            and (globbed is None or globbed(path))
        )

    return matches


def may_match(meter: Meter) -> Callable[[str, str], bool]:
    """
    Return a function of a method and a path: whether such an exchange may match *meter*, before the app has run.

    It does not compare the route, which is known only later, or in an adapter.
    """
    methods = meter.method
    globbed = None if meter.path is None else glob(meter.path)

    def matches(method: str, path: str) -> bool:
        return (method in methods if isinstance(methods, frozenset) else method != "OPTIONS") and (
            globbed is None or globbed(path)
        )

    return matches


def glob(pattern: str) -> Callable[[str], bool]:
    """
    Return a function of a path: whether it matches *pattern*, in which ``*`` matches any characters.

    Not a regular expression: clients choose paths, and one that makes ``.*`` backtrack would block the app for seconds.
    """
    if "*" not in pattern:
        return pattern.__eq__
    first, *middle, last = pattern.split("*")

    def matches(path: str) -> bool:
        at, end = len(first), len(path) - len(last)
        if at > end or not path.startswith(first) or not path.endswith(last):
            return False
        for part in middle:
            found = path.find(part, at, end)
            if found < 0:
                return False
            at = found + len(part)
        return True

    return matches


def _all_codes(status: StatusFilter | Iterable[StatusFilter]) -> frozenset[int]:
    filters = [status] if isinstance(status, int | str) else status
    codes: set[int] = set()
    for each in filters:
        if isinstance(each, int):
            codes.add(each)
        elif each == "*":
            codes.update(range(100, 600))
        else:
            codes.update(range(int(each[0]) * 100, int(each[0]) * 100 + 100))
    return frozenset(codes)
