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
from meterkit.metering.dimensions.declaration import TOLD_BY_MODELS
from meterkit.metering.meter import MEASURED, Meter, ResponseJson, StatusFilter, StreamedValue
from meterkit.metering.paths import Target, forms, glob, path_filter

TOOL = "TOOL CALL"
"""Method of an exchange that is a call of a tool, whose name is the target. No client can send it: it has a space."""

MAX_REMEMBERED = 4096
"""Distinct combinations in the cache. Clients choose paths, so the cache must be bounded."""

Shape: TypeAlias = "tuple[str, Target, int] | tuple[str, Target, int, str]"
"""Method, target, status; and the route, if there is one and one of the kit's meters has ``route=``."""


@dataclass(slots=True)
class Match:
    """
    The meters whose static filters match an exchange; ``when=`` is still to be evaluated.

    Attributes:
        meters: Matching meters that add up quantities.
        observing: Matching meters with `unique` or `maximum`.
        has_dimensions: Whether one of `meters` has ``by=``.
        body_bytes: Longest response body that these meters keep and read, bytes.
        streamed: Values that are read from the response body while its bytes pass, one of each class.
        has_body: Whether the server sends the body that the app returns; it does not for HEAD, 204 and 304.
        anonymous: What matches if no company is known, where that is less: of an OPTIONS, which browsers send on their
            own, meters without ``method=`` count only one that names a company. Otherwise None.
        one: Name and event name of the meter, if exactly one matches and it counts 1 unconditionally; otherwise None.
        name: Method and path of an exchange that matches no meter; None until `Unmatched` has found them.
        hour: Start and end of the current hour, Unix seconds, and the `MeterWindow` of `one` in it; a cache that the
            recorder keeps.
    """

    meters: tuple[Meter, ...]
    observing: tuple[Meter, ...]
    has_dimensions: bool
    body_bytes: int
    streamed: tuple[StreamedValue, ...]
    has_body: bool
    anonymous: Match | None
    one: tuple[str, str] | None
    name: str | None = None
    hour: tuple[float, float, tuple[str, str, int]] = (0.0, 0.0, ("", "", 0))


class MeterMatcher:
    """
    Finds the meters of a kit that match an exchange.

    Attributes:
        meters: Meters of the kit that count exchanges, in the order of their declaration.
        remembered: Cache of `match`, for callers that want to save the call.
        unseen: Names of the meters that have matched nothing so far.
        usage_names: Names that views may pass to ``add_usage``.
        dimensions: Names of the dimensions that views may pass to ``add_usage``.
        is_timed: Whether a meter may need the duration of an exchange.
    """

    def __init__(self, meters: Iterable[Meter]) -> None:
        self.meters = tuple(meter for meter in meters if meter.http)
        self._rules = [(meter, rule_of(meter)) for meter in self.meters]
        self.remembered: dict[Shape, Match] = {}
        self.unseen = {meter.name for meter in self.meters}
        self.usage_names = {meter.value for meter in self.meters if isinstance(meter.value, str)} - MEASURED.keys()
        self.dimensions = {name for meter in self.meters for name in meter.dimensions} | set(TOLD_BY_MODELS)
        self.is_timed = any(_may_need_duration(meter) for meter in self.meters)
        aggregations = [meter.value for meter in self.meters if isinstance(meter.value, Aggregation)]
        self.usage_names |= {each.of for each in aggregations if isinstance(each.of, str) and each.mark == HIGHEST}

    def match(self, method: str, target: Target, route: str | None, status: int) -> Match:
        """Return the meters that match, in the order of their declaration."""
        shape: Shape = (method, target, status) if route is None else (method, target, status, route)
        match = self.remembered.get(shape)
        if match is None:
            match = self._evaluate(method, target, route, status)
            if len(self.remembered) >= MAX_REMEMBERED:
                self.remembered.clear()
            self.remembered[shape] = match
        return match

    def _evaluate(self, method: str, target: Target, route: str | None, status: int) -> Match:
        verb, paths = method.upper(), forms(target)
        meters = [meter for meter, matches in self._rules if matches(verb, paths, route, status)]
        self.unseen.difference_update(meter.name for meter in meters)
        has_body = method != "HEAD" and status not in (204, 304)
        asked = [meter for meter in meters if verb != "OPTIONS" or meter.method is not None]
        anonymous = None if asked == meters else _match(asked, None, has_body=has_body)
        return _match(meters, anonymous, has_body=has_body)


def _match(meters: list[Meter], anonymous: Match | None, *, has_body: bool) -> Match:
    values = [meter.value for meter in meters]
    read = [*values, *(each.source for meter in meters for each in meter.sources)]
    caps = [value.max_bytes for value in read if isinstance(value, ResponseJson)]
    plain = len(meters) == 1 and meters[0].value is None and meters[0].when is None and anonymous is None
    has_dimensions = any(meter.by for meter in meters)
    return Match(
        meters=tuple(meter for meter in meters if not isinstance(meter.value, Aggregation)),
        observing=tuple(meter for meter in meters if isinstance(meter.value, Aggregation)),
        has_dimensions=has_dimensions,
        body_bytes=max(caps, default=0),
        streamed=tuple({type(value): value for value in values if isinstance(value, StreamedValue)}.values()),
        has_body=has_body,
        anonymous=anonymous,
        one=(meters[0].name, meters[0].event_name) if plain and not has_dimensions else None,
    )


def _may_need_duration(meter: Meter) -> bool:
    return meter.value == "duration_ms" or meter.calls_functions


def rule_of(meter: Meter) -> Callable[[str, tuple[str, ...], str | None, int], bool]:
    """Return a function of a method in upper case, a path's `forms`, a route and a status: whether *meter* matches."""
    methods = _methods_of(meter)
    fits = None if meter.path is None else path_filter(meter.path)
    statuses = _all_codes(meter.status)
    if meter.tool is not None:
        is_call = _calls_of(meter)

        def matches_call(method: str, paths: tuple[str, ...], _route: str | None, status: int) -> bool:
            return status in statuses and is_call(method, paths)

        return matches_call

    def matches(method: str, paths: tuple[str, ...], route: str | None, status: int) -> bool:
        return (
            status in statuses
            and method != TOOL
            and (methods is None or method in methods)
            and (meter.route is None or meter.route == route)
            and (fits is None or any(map(fits, paths)))
        )

    return matches


def may_match(meter: Meter) -> Callable[[str | None, tuple[str, ...]], bool]:
    """
    Return a function of a method and a path's `forms`: whether *meter* may match, before the app has run.

    The method is in upper case; None stands for any. The route is not compared: it may be known only later.
    """
    if meter.tool is not None:
        return _calls_of(meter)
    methods = _methods_of(meter)
    fits = None if meter.path is None else path_filter(meter.path)

    def matches(method: str | None, paths: tuple[str, ...]) -> bool:
        is_served = method != TOOL and (methods is None or method is None or method in methods)
        return is_served and (fits is None or any(map(fits, paths)))

    return matches


def _calls_of(meter: Meter) -> Callable[[str | None, tuple[str, ...]], bool]:
    """Return a function of a method and a target's `forms`: whether they are a call that ``tool=`` names."""
    names = [glob(name) for name in meter.tool or ()]
    return lambda method, paths: method == TOOL and any(fits(paths[-1]) for fits in names)


def _methods_of(meter: Meter) -> frozenset[str] | None:
    """Return the methods that *meter* counts; None for all. Frameworks run the view of a GET for a HEAD."""
    methods = meter.method
    return None if not isinstance(methods, frozenset) else methods | {"HEAD"} if "GET" in methods else methods


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
