"""
`Meter`: which exchanges count, and for how much.

A `Meter` is data. `meterkit.metering.matching` decides which meters an exchange matches.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import KW_ONLY, dataclass
from typing import Any, TypeAlias

from meterkit.core.validation import MAX_EVENT_NAME_LENGTH, checked_quantity
from meterkit.errors import ConfigurationError, UsageError
from meterkit.metering.aggregation import Aggregation
from meterkit.metering.exchange import Exchange

MEASURED: dict[str, Callable[[Exchange], int]] = {
    "request_bytes": lambda exchange: exchange.request_bytes,
    "response_bytes": lambda exchange: exchange.response_bytes,
    "duration_ms": lambda exchange: round(exchange.duration * 1000),
}
"""The values that an exchange brings along; every other name is what the view adds with ``add_usage``."""

StatusFilter: TypeAlias = int | str
_STATUS_CLASS = re.compile(r"[1-5]xx")

_NOT_A_SUM = {
    "max": "an invoice adds the hours up; use value=maximum(...)",
    "min": "the minimum of an hour says nothing about the month's once hours are added up",
    "last": "which of two workers was last is not known, and an invoice adds the hours up",
    "avg": "the average of averages is not the average",
    "average": "the average of averages is not the average",
    "mean": "the average of averages is not the average",
    "median": "the median of medians is not the median",
    "percentile": "percentiles of parts do not give the percentile of the whole",
    "unique": "the same user in two hours would be billed twice; use value=unique(...)",
    "distinct": "the same user in two hours would be billed twice; use value=unique(...)",
}


@dataclass(frozen=True)
class ResponseJson:
    """
    A number in the response's JSON body; made by `response_json`.

    Attributes:
        path: Keys and list indexes joined with dots, such as ``"meta.rows"`` or ``"choices.0.tokens"``.
        max_bytes: A longer body is not read, and counts as a mistake.
    """

    path: str
    max_bytes: int

    def read(self, body: bytes | bytearray, encoding: str) -> int:
        """
        The number at the path.

        Raises:
            UsageError: The body is too long, compressed, not JSON, or has no countable number there.
        """
        if encoding not in ("", "identity"):
            raise UsageError(
                f"the response body is {encoding}-encoded: install the middleware inside the one that compresses",
                reason="body_encoded",
            )
        if len(body) > self.max_bytes:
            raise UsageError(
                f"the response body is over {self.max_bytes} bytes; raise max_bytes= or use add_usage()",
                reason="body_too_long",
            )
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            raise UsageError("the response body is not JSON", reason="body_not_json") from None
        for key in self.path.split("."):
            try:
                value = value[int(key)] if isinstance(value, list) else value[key]
            except (LookupError, TypeError, ValueError):
                raise UsageError(f"the response body has nothing at {self.path!r}", reason="body_no_value") from None
        return checked_quantity(value)


def response_json(path: str, *, max_bytes: int = 1_000_000) -> ResponseJson:
    """
    Count a number that stands in the response's JSON body. Only then is a body read at all.

    Args:
        path: Keys and list indexes joined with dots, such as ``"meta.rows"``.
        max_bytes: A longer body is not read; its exchange is not counted, and ``kit.health()`` says so.

    Raises:
        ConfigurationError: *path* is not dotted keys, or *max_bytes* is not positive.
    """
    if not isinstance(path, str) or not all(path.split(".")):
        raise ConfigurationError(f"response_json() takes keys joined with dots, such as 'meta.rows', not {path!r}")
    if not isinstance(max_bytes, int) or max_bytes <= 0:
        raise ConfigurationError(f"response_json(max_bytes=...) is a positive number of bytes, not {max_bytes!r}")
    return ResponseJson(path, max_bytes)


@dataclass(frozen=True)
class Meter:
    """
    Which exchanges count, and for how much. Every meter that matches counts.

    Attributes:
        name: Unique in the kit, at most 100 characters.
        path: A glob over the whole path, such as ``"/v1/*"``; ``*`` stands for any characters, slashes too.
        route: The framework's own template, such as ``"/items/{id}"`` (FastAPI), ``"/items/<int:id>"`` (Flask),
            ``"items/<int:id>/"`` (Django); a leading slash makes no difference.
        method: One method or several. By default every method but OPTIONS, which browsers send on their own.
        status: A code, a class such as ``"2xx"``, ``"*"``, or several. By default ``"2xx"``: failures are free.
        value: None counts 1 for each exchange. ``"request_bytes"``, ``"response_bytes"`` and ``"duration_ms"``
            sum what was measured, `response_json` a field of the body, and any other name what the view added
            under it with ``add_usage``. `unique` counts each value once in a billing period, `maximum` the highest.
        when: A last condition, ``Exchange -> bool``, for what the others cannot say.
        event_name: The Stripe meter's ``event_name``; by default the meter's name.
        aggregation: Only ``"sum"``: usage of many processes and hours has to merge into one figure.

    Raises:
        ConfigurationError: An attribute is wrong; the message says the cure.
    """

    name: str
    _: KW_ONLY
    path: str | None = None
    route: str | None = None
    method: str | Iterable[str] | None = None
    status: StatusFilter | Iterable[StatusFilter] = "2xx"
    value: str | ResponseJson | Aggregation | None = None
    when: Callable[[Exchange], bool] | None = None
    event_name: str = ""
    aggregation: str = "sum"

    def __post_init__(self) -> None:
        _check_name(self.name, "name")
        if self.event_name:
            _check_name(self.event_name, f"{self!s}: event_name")
        else:
            object.__setattr__(self, "event_name", self.name)
        if self.path is not None:
            _check_glob(self.path, self)
        if self.route is not None:
            object.__setattr__(self, "route", _normal_route(self.route, self))
        object.__setattr__(self, "method", _methods(self.method, self))
        object.__setattr__(self, "status", _statuses(self.status, self))
        _check_value(self.value, self)
        if self.when is not None and (not callable(self.when) or inspect.iscoroutinefunction(self.when)):
            raise ConfigurationError(f"{self}: when= is a plain function that takes an Exchange, not {self.when!r}")
        _check_aggregation(self.aggregation, self)

    def __str__(self) -> str:
        return f"Meter({self.name!r})"

    def quantity(self, exchange: Exchange) -> int:
        """
        How much *exchange* counts for this meter, given that it matches.

        Raises:
            UsageError: What was found is not countable.
        """
        if self.value is None:
            return 1
        assert not isinstance(self.value, Aggregation)
        if isinstance(self.value, ResponseJson):
            encoding = exchange.response_headers.get("content-encoding", "")
            return self.value.read(exchange.body or b"", encoding)
        measure = MEASURED.get(self.value)
        return checked_quantity(exchange.usage.get(self.value, 0) if measure is None else measure(exchange))


def _check_name(name: Any, what: str) -> None:
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise ConfigurationError(f"a meter's {what} is a non-empty printable str, not {name!r}")
    if len(name) > MAX_EVENT_NAME_LENGTH:
        raise ConfigurationError(
            f"a meter's {what} has at most {MAX_EVENT_NAME_LENGTH} characters (Stripe's limit), not {len(name)}: "
            f"{name[:40]!r}..."
        )


def _check_glob(path: Any, meter: Meter) -> None:
    if not isinstance(path, str) or not path.startswith(("/", "*")):
        raise ConfigurationError(f"{meter}: path= is a str that begins with '/', such as '/v1/*', not {path!r}")
    for sign, cure in {
        "?": "a path has no query string; use when= to look at it",
        "{": "path= matches what the client sent; a template goes into route=",
        "<": "path= matches what the client sent; a template goes into route=",
        "[": "the only wildcard is *; give each alternative a meter, or use when=",
        "**": "one * already stands for any characters, slashes too",
    }.items():
        if sign in path:
            raise ConfigurationError(f"{meter}: path={path!r} contains {sign!r}: {cure}")


def _normal_route(route: Any, meter: Meter) -> str:
    if not isinstance(route, str) or not route:
        raise ConfigurationError(f"{meter}: route= is the framework's template, such as '/items/{{id}}', not {route!r}")
    if "*" in route and "{" not in route and "(" not in route:
        raise ConfigurationError(f"{meter}: route={route!r} is compared as it is, not as a glob; use path=")
    return "/" + route.lstrip("/")


def _methods(method: Any, meter: Meter) -> frozenset[str] | None:
    if method is None:
        return None
    methods = [method] if isinstance(method, str) else method
    if not isinstance(methods, Iterable) or not (methods := list(methods)):
        raise ConfigurationError(f"{meter}: method= is a method such as 'POST', or several, not {method!r}")
    for each in methods:
        if not isinstance(each, str) or not each.isascii() or not each.isalpha():
            raise ConfigurationError(f"{meter}: method= is a method such as 'POST', not {each!r}")
    return frozenset(each.upper() for each in methods)


def _statuses(status: Any, meter: Meter) -> tuple[StatusFilter, ...]:
    statuses = [status] if isinstance(status, int | str) else status
    if not isinstance(statuses, Iterable) or not (statuses := list(statuses)):
        raise ConfigurationError(f"{meter}: status= is a code, a class such as '2xx', or several, not {status!r}")
    for each in statuses:
        is_code = isinstance(each, int) and not isinstance(each, bool) and 100 <= each <= 599
        is_class = isinstance(each, str) and (each == "*" or _STATUS_CLASS.fullmatch(each))
        if not is_code and not is_class:
            raise ConfigurationError(
                f"{meter}: status= is a code from 100 to 599 (an int), a class such as '2xx', or '*', not {each!r}"
            )
    return tuple(statuses)


def _check_value(value: Any, meter: Meter) -> None:
    if value is None or isinstance(value, ResponseJson | Aggregation):
        return
    known = ", ".join(repr(name) for name in MEASURED)
    if not isinstance(value, str) or not value.strip():
        raise ConfigurationError(
            f"{meter}: value= is {known}, response_json(...), unique(...), maximum(...) or a name that views pass to "
            f"add_usage(), not {value!r}"
        )
    if value == "count":
        raise ConfigurationError(f"{meter}: leave value= out to count exchanges")
    import difflib

    close = difflib.get_close_matches(value, MEASURED, n=1, cutoff=0.8)
    if close and value not in MEASURED:
        raise ConfigurationError(f"{meter}: value={value!r} is unknown; did you mean {close[0]!r}?")


def _check_aggregation(aggregation: Any, meter: Meter) -> None:
    if aggregation == "sum":
        return
    if aggregation == "count":
        raise ConfigurationError(f"{meter}: to count exchanges, leave value= and aggregation= out; the ones are summed")
    why = _NOT_A_SUM.get(aggregation, "it is not known") if isinstance(aggregation, str) else "it is not known"
    raise ConfigurationError(
        f"{meter}: aggregation={aggregation!r} cannot be merged as sums over processes and hours: {why}. "
        "Use 'sum' and let value= say what is added up."
    )
