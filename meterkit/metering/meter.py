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

from meterkit.core.usage_key import UNIQUE
from meterkit.core.validation import MAX_EVENT_NAME_LENGTH, checked_quantity
from meterkit.errors import ConfigurationError, UsageError
from meterkit.metering.aggregation import Aggregation
from meterkit.metering.delivered_bytes import delivered_bytes
from meterkit.metering.exchange import Exchange

MEASURED: dict[str, Callable[[Exchange], int]] = {
    "request_bytes": lambda exchange: exchange.request_bytes,
    "response_bytes": delivered_bytes,
    "duration_ms": lambda exchange: round(exchange.duration * 1000),
}
"""Values measured on every exchange; any other name is one that the view passes to ``add_usage``."""

CUSTOMER_KEY, VALUE_KEY = "stripe_customer_id", "value"
"""Stripe: keys of a meter event's payload, unless the meter was made with others."""

StatusFilter: TypeAlias = int | str
_STATUS_CLASS = re.compile(r"[1-5]xx")

_NOT_A_SUM = {
    "max": "an invoice adds up the hours; use value=maximum(...)",
    "min": "an invoice adds up the hours, and a sum of minimums is not the minimum of the month",
    "last": "nobody knows which of two workers was last, and an invoice adds up the hours",
    "avg": "the average of averages is not the average",
    "average": "the average of averages is not the average",
    "mean": "the average of averages is not the average",
    "median": "the median of medians is not the median",
    "percentile": "percentiles of the parts do not give the percentile of the whole",
    "unique": "the same user in two hours would be billed twice; use value=unique(...)",
    "distinct": "the same user in two hours would be billed twice; use value=unique(...)",
}


@dataclass(frozen=True)
class ResponseJson:
    """
    A number in the response's JSON body; created by `response_json`.

    Attributes:
        path: Keys and list indexes joined with dots, such as ``"meta.rows"`` or ``"choices.0.tokens"``.
        max_bytes: Longest body that is read, bytes; a longer one is not counted.
    """

    path: str
    max_bytes: int

    def read(self, body: bytes | bytearray, encoding: str) -> int:
        """
        Return the number at `path` in *body*.

        Raises:
            UsageError: The body is too long, compressed, not JSON, or has no countable number at `path`.
        """
        if encoding not in ("", "identity"):
            raise UsageError(
                f"the response body is {encoding}-encoded: install this middleware inside the one that compresses",
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
    Count a number from the response's JSON body. Without this, bodies are never read.

    Args:
        path: Keys and list indexes joined with dots, such as ``"meta.rows"``.
        max_bytes: Longest body that is read, bytes. The exchange of a longer one is not counted, and ``kit.health()``
            reports it.

    Raises:
        ConfigurationError: *path* is not a dotted path, or *max_bytes* is not positive.
    """
    if not isinstance(path, str) or not all(path.split(".")):
        raise ConfigurationError(f"response_json() needs keys joined with dots, such as 'meta.rows', not {path!r}")
    if not isinstance(max_bytes, int) or max_bytes <= 0:
        raise ConfigurationError(f"response_json(max_bytes=...) must be a positive number of bytes, not {max_bytes!r}")
    return ResponseJson(path, max_bytes)


@dataclass(frozen=True)
class Meter:
    """
    Which exchanges count, and for how much. Every meter that matches counts.

    Attributes:
        name: Name of the meter, unique in the kit, at most 100 characters.
        path: Glob for the whole path, such as ``"/v1/*"``; ``*`` matches any characters, including slashes. Repeated
            slashes and one at the end make no difference, and the prefix of a mount may be written or left out.
        route: The framework's route template, such as ``"/items/{id}"`` (FastAPI), ``"/items/<int:id>"`` (Flask) or
            ``"items/<int:id>/"`` (Django); a leading slash makes no difference.
        method: One method or several; ``"GET"`` includes HEAD. By default every method, but of OPTIONS, which browsers
            send on their own, only requests that name a company.
        status: A code, a class such as ``"2xx"``, ``"*"``, or several. By default ``"2xx"``: failures are free.
        value: What is added up. None counts 1 per exchange; ``"request_bytes"``, ``"response_bytes"`` and
            ``"duration_ms"`` add up that measurement, `response_json` a field of the body, and any other name the
            quantities that the view passes to ``add_usage`` under that name. `unique` counts each value once per
            billing period; `maximum` counts the highest value.
        when: Further condition, ``Exchange -> bool``, for what the other filters cannot express.
        event_name: The Stripe meter's ``event_name``; by default the meter's name; empty if it is not billable.
        http: Whether exchanges count. False for a meter that counts only what ``kit.record()`` and imports give it.
        customer_key: Key of the customer's id in meter events: the meter's ``customer_mapping.event_payload_key`` in
            Stripe, if it was made with another than ``stripe_customer_id``.
        value_key: Key of the quantity in meter events: the meter's ``value_settings.event_payload_key`` in Stripe, if
            it was made with another than ``value``.
        billable: Whether usage is reported to Stripe. If False, it stays in the ledger, for ``kit.usage()`` and quotas,
            and is not on the customer page: for costs of your own, or to try a meter out.
        aggregation: Only ``"sum"``: usage from many processes and hours must merge into one figure.

    Raises:
        ConfigurationError: An attribute is invalid; the message says how to fix it.
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
    customer_key: str = CUSTOMER_KEY
    value_key: str = VALUE_KEY
    http: bool = True
    billable: bool = True
    aggregation: str = "sum"

    def __post_init__(self) -> None:
        _check_name(self.name, "name")
        if self.event_name:
            _check_name(self.event_name, f"{self!s}: event_name")
            if not self.billable:
                raise ConfigurationError(f"{self}: billable=False reports nothing to Stripe; leave event_name= out")
        elif self.billable:
            object.__setattr__(self, "event_name", self.name)
        _check_keys(self)
        if self.path is not None:
            _check_glob(self.path, self)
        if self.route is not None:
            object.__setattr__(self, "route", _normal_route(self.route, self))
        object.__setattr__(self, "method", _methods(self.method, self))
        object.__setattr__(self, "status", _statuses(self.status, self))
        _check_value(self.value, self)
        if self.when is not None and (not callable(self.when) or inspect.iscoroutinefunction(self.when)):
            raise ConfigurationError(f"{self}: when= must be a plain function of an Exchange, not {self.when!r}")
        _check_aggregation(self.aggregation, self)
        if not self.http:
            _check_recorded(self)

    def __str__(self) -> str:
        return f"Meter({self.name!r})"

    @property
    def added_name(self) -> str | None:
        """Name under which views add what this meter counts; None if it counts something else."""
        if isinstance(self.value, Aggregation):
            of = self.value.of
            return of if isinstance(of, str) and not (self.value.mark == UNIQUE and of == "user") else None
        return self.value if isinstance(self.value, str) and self.value not in MEASURED else None

    def quantity(self, exchange: Exchange) -> int:
        """
        Return how much *exchange* counts for this meter, assuming that it matches.

        Raises:
            UsageError: The value found is not a countable quantity.
        """
        if self.value is None:
            return 1
        assert not isinstance(self.value, Aggregation)
        if isinstance(self.value, ResponseJson):
            encoding = exchange.response_headers.get("content-encoding", "")
            return self.value.read(exchange.body or b"", encoding)
        measure = MEASURED.get(self.value)
        return checked_quantity(exchange.usage.get(self.value, 0) if measure is None else measure(exchange))


def _check_name(name: Any, field: str) -> None:
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise ConfigurationError(f"a meter's {field} must be a non-empty printable str, not {name!r}")
    if len(name) > MAX_EVENT_NAME_LENGTH:
        raise ConfigurationError(
            f"a meter's {field} must have at most {MAX_EVENT_NAME_LENGTH} characters (Stripe's limit), "
            f"not {len(name)}: {name[:40]!r}..."
        )


def _check_keys(meter: Meter) -> None:
    for name in ("customer_key", "value_key"):
        key = getattr(meter, name)
        if not isinstance(key, str) or not key.strip() or not key.isprintable() or len(key) > MAX_EVENT_NAME_LENGTH:
            raise ConfigurationError(
                f"{meter}: {name}= must be a key of the meter's events in Stripe, such as 'customer_id', not "
                f"{key!r:.100}"
            )
    if meter.customer_key == meter.value_key:
        raise ConfigurationError(
            f"{meter}: customer_key= and value_key= are both {meter.value_key!r:.100}, so an event could not carry both"
        )


def _check_glob(path: Any, meter: Meter) -> None:
    if not isinstance(path, str) or not path.startswith(("/", "*")):
        raise ConfigurationError(f"{meter}: path= must be a str that begins with '/', such as '/v1/*', not {path!r}")
    for sign, cure in {
        "?": "a path has no query string; use when= to check it",
        "{": "path= matches the path that the client sent; use route= for a template",
        "<": "path= matches the path that the client sent; use route= for a template",
        "[": "the only wildcard is *; use one meter per alternative, or when=",
        "**": "a single * already matches any characters, including slashes",
    }.items():
        if sign in path:
            raise ConfigurationError(f"{meter}: path={path!r} contains {sign!r}: {cure}")


def _normal_route(route: Any, meter: Meter) -> str:
    if not isinstance(route, str) or not route:
        raise ConfigurationError(
            f"{meter}: route= must be the framework's route template, such as '/items/{{id}}', not {route!r}"
        )
    if "*" in route and "{" not in route and "(" not in route:
        raise ConfigurationError(f"{meter}: route={route!r} is compared literally, not as a glob; use path=")
    return "/" + route.lstrip("/")


def _methods(method: Any, meter: Meter) -> frozenset[str] | None:
    if method is None:
        return None
    methods = [method] if isinstance(method, str) else method
    if not isinstance(methods, Iterable) or not (methods := list(methods)):
        raise ConfigurationError(f"{meter}: method= must be a method such as 'POST', or several, not {method!r}")
    for each in methods:
        if not isinstance(each, str) or not each.isascii() or not each.isalpha():
            raise ConfigurationError(f"{meter}: method= must be a method such as 'POST', not {each!r}")
    return frozenset(each.upper() for each in methods)


def _statuses(status: Any, meter: Meter) -> tuple[StatusFilter, ...]:
    statuses = [status] if isinstance(status, int | str) else status
    if not isinstance(statuses, Iterable) or not (statuses := list(statuses)):
        raise ConfigurationError(f"{meter}: status= must be a code, a class such as '2xx', or several, not {status!r}")
    for each in statuses:
        is_code = isinstance(each, int) and not isinstance(each, bool) and 100 <= each <= 599
        is_class = isinstance(each, str) and (each == "*" or _STATUS_CLASS.fullmatch(each))
        if not is_code and not is_class:
            raise ConfigurationError(
                f"{meter}: status= must be a code from 100 to 599 (an int), a class such as '2xx', or '*', not {each!r}"
            )
    return tuple(statuses)


def _check_value(value: Any, meter: Meter) -> None:
    if value is None or isinstance(value, ResponseJson | Aggregation):
        return
    known = ", ".join(repr(name) for name in MEASURED)
    if not isinstance(value, str) or not value.strip():
        raise ConfigurationError(
            f"{meter}: value= must be {known}, response_json(...), unique(...), maximum(...) or a name that views pass "
            f"to add_usage(), not {value!r}"
        )
    if value == "count":
        raise ConfigurationError(f"{meter}: to count exchanges, leave value= out")
    import difflib

    close = difflib.get_close_matches(value, MEASURED, n=1, cutoff=0.8)
    if close and value not in MEASURED:
        raise ConfigurationError(f"{meter}: value={value!r} is unknown; did you mean {close[0]!r}?")


def _check_recorded(meter: Meter) -> None:
    found = [name for name in ("path", "route", "method", "when") if getattr(meter, name) is not None]
    found += ["status"] if meter.status != ("2xx",) else []
    found += ["value"] if isinstance(meter.value, str | ResponseJson) else []
    if found:
        names = ", ".join(f"{name}=" for name in found)
        raise ConfigurationError(
            f"{meter}: http=False counts only what kit.record() gives it, so {names} would do nothing; remove that, or "
            "remove http=False to count exchanges as well"
        )


def _check_aggregation(aggregation: Any, meter: Meter) -> None:
    if aggregation == "sum":
        return
    if aggregation == "count":
        raise ConfigurationError(f"{meter}: to count exchanges, leave out value= and aggregation=")
    why = _NOT_A_SUM.get(aggregation, "it is unknown") if isinstance(aggregation, str) else "it is unknown"
    raise ConfigurationError(
        f"{meter}: aggregation={aggregation!r} cannot be added up across processes and hours: {why}. "
        "Use 'sum', and let value= choose what is added up."
    )
