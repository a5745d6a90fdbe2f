"""
Match exchanges against meters; the static part of every rule is cached.

The static parts of a rule (method, path, route, status) are looked at once for each distinct combination and
remembered, so that a request pays for the meters it matches, not for those there are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from meterkit.core.usage_key import HIGHEST
from meterkit.metering.aggregation import Aggregation
from meterkit.metering.meter import MEASURED, Meter, ResponseJson, StatusFilter

MAX_REMEMBERED = 4096
"""Distinct combinations kept. Clients choose paths, so the memory has to have an end."""

Shape: TypeAlias = "tuple[str, str, int] | tuple[str, str, int, str]"
"""Method, path, status; and the route where there is one, of a kit whose meters ask for it."""


@dataclass(slots=True)
class Match:
    """
    What the static parts of the rules say about an exchange.

    Attributes:
        meters: Those that match, but for ``when=``, and sum something up.
        peaks: Those that match, but for ``when=``, and look for what is unique, or the highest.
        body_bytes: How much of the response's body they need to see.
        has_body: The server sends what the app makes: it does not for HEAD, 204 and 304.
        one: Name and event name of the only one that matches, if it counts 1, whatever the exchange is like.
        hour: When the present hour begins and ends, and where `one` is counted in it; kept by who counts.
    """

    meters: tuple[Meter, ...]
    peaks: tuple[Meter, ...]
    body_bytes: int
    has_body: bool
    one: tuple[str, str] | None
    hour: tuple[float, float, tuple[str, str, int]] = (0.0, 0.0, ("", "", 0))


class MeterMatcher:
    """
    All meters of a kit, ready to be matched.

    Attributes:
        remembered: What `match` answered; for who would save the call.
        is_timed: A meter may ask how long an exchange took.
    """

    def __init__(self, meters: Iterable[Meter]) -> None:
        self.meters = tuple(meters)
        self._rules = [(meter, _matcher(meter)) for meter in self.meters]
        self.remembered: dict[Shape, Match] = {}
        self.usage_names = {meter.value for meter in self.meters if isinstance(meter.value, str)} - MEASURED.keys()
        self.is_timed = any(_may_ask_for_duration(meter) for meter in self.meters)
        peaks = [meter.value for meter in self.meters if isinstance(meter.value, Aggregation)]
        self.usage_names |= {peak.of for peak in peaks if isinstance(peak.of, str) and peak.mark == HIGHEST}

    def match(self, method: str, path: str, route: str | None, status: int) -> Match:
        """The meters that match, in the order of their declaration."""
        shape: Shape = (method, path, status) if route is None else (method, path, status, route)
        match = self.remembered.get(shape)
        if match is None:
            match = self._look(method, path, route, status)
            if len(self.remembered) >= MAX_REMEMBERED:
                self.remembered.clear()
            self.remembered[shape] = match
        return match

    def _look(self, method: str, path: str, route: str | None, status: int) -> Match:
        meters = tuple(meter for meter, matches in self._rules if matches(method, path, route, status))
        caps = [meter.value.max_bytes for meter in meters if isinstance(meter.value, ResponseJson)]
        plain = len(meters) == 1 and meters[0].value is None and meters[0].when is None
        return Match(
            meters=tuple(meter for meter in meters if not isinstance(meter.value, Aggregation)),
            peaks=tuple(meter for meter in meters if isinstance(meter.value, Aggregation)),
            body_bytes=max(caps, default=0),
            has_body=method != "HEAD" and status not in (204, 304),
            one=(meters[0].name, meters[0].event_name) if plain else None,
        )


def _may_ask_for_duration(meter: Meter) -> bool:
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
    Whether an exchange of a method and a path may turn out to match *meter*, before it is known how it is answered.

    Of a route, the parts that are not variable have to stand in the path; an expression says nothing.
    """
    methods = meter.method
    globbed = None if meter.path is None else glob(meter.path)
    route = None if meter.route is None else _glob_of_route(meter.route)

    def matches(method: str, path: str) -> bool:
        return (
            (method in methods if isinstance(methods, frozenset) else method != "OPTIONS")
            and (globbed is None or globbed(path))
            and (route is None or route(path))
        )

    return matches


def _glob_of_route(route: str) -> Callable[[str], bool]:
    if set(route) & set("^$()[]\\?+*|"):
        return lambda _: True
    return glob("*" + re.sub(r"\{[^{}]*\}|<[^<>]*>", "*", route))  # whatever it is mounted at


def glob(pattern: str) -> Callable[[str], bool]:
    """
    Whether a path matches *pattern*, in which ``*`` stands for any characters.

    No regular expression: clients choose paths, and one that makes ``.*`` backtrack would hold up the app for seconds.
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
