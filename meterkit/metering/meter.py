"""
`Meter`: which exchanges count, and for how much.

A `Meter` is data. `meterkit.metering.matching` decides which meters an exchange matches.
"""

from __future__ import annotations

import inspect
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias

from meterkit.core.usage_key import UNIQUE
from meterkit.core.validation import MAX_EVENT_NAME_LENGTH, checked_quantity
from meterkit.errors import ConfigurationError, UsageError
from meterkit.metering.aggregation import Aggregation
from meterkit.metering.delivered_bytes import delivered_bytes
from meterkit.metering.dimensions.declaration import DEFAULT_LIMIT, Dimension, checked_limit, dimensions_of
from meterkit.metering.dimensions.quantities import NOTHING, Told
from meterkit.metering.dimensions.sources import EVENT_PATH, checked_sources
from meterkit.metering.exchange import Exchange

if TYPE_CHECKING:
    from meterkit.events.event import Event

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
        return checked_quantity(self.find(body, encoding))

    def find(self, body: bytes | bytearray, encoding: str) -> Any:
        """
        Return what is at `path` in *body*.

        Raises:
            UsageError: The body is too long, compressed, not JSON, or has nothing at `path`.
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
        return value


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


class BodyReader(Protocol):
    """Reads a response's body while its bytes pass, and keeps only what it finds."""

    def feed(self, chunk: bytes, /) -> None:
        """Take the next bytes. Must not raise."""


class StreamedValue(ABC):
    """
    A quantity that is read from a response's body while its bytes pass. Values of one class share a reader.

    Attributes:
        told: Names of the dimensions that the body tells.
    """

    told: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def reader(self, encoding: str) -> BodyReader:
        """Return a new reader of a body with the Content-Encoding *encoding*; empty if there is none."""
        raise NotImplementedError

    @abstractmethod
    def read(self, reader: Any) -> int:
        """
        Return the quantity that *reader*, which `reader` has made for a value of this class, has found.

        Raises:
            UsageError: It has found none.
        """
        raise NotImplementedError

    def parts(self, reader: Any) -> Iterable[tuple[Told, int]]:
        """
        Return the quantities that *reader* has found, each with what the body tells of its dimensions.

        Raises:
            UsageError: It has found none.
        """
        return [(NOTHING, self.read(reader))]


@dataclass(frozen=True)
class Meter:
    """
    Which exchanges or usage events count, and for how much. Every meter that matches counts.

    Attributes:
        name: Name of the meter, unique in the kit, at most 100 characters.
        path: Glob for the whole path, such as ``"/v1/*"``; ``*`` matches any characters, including slashes. Repeated
            slashes and one at the end make no difference, and the prefix of a mount may be written or left out.
        route: The framework's route template, such as ``"/items/{id}"`` (FastAPI), ``"/items/<int:id>"`` (Flask) or
            ``"items/<int:id>/"`` (Django); a leading slash makes no difference.
        method: One method or several; ``"GET"`` includes HEAD. By default every method, but of OPTIONS, which browsers
            send on their own, only requests that name a company.
        tool: Name of a tool of an MCP server, with ``*`` for any characters, or several: the meter counts calls of such
            tools, which ``meterkit.mcp`` meters, and no HTTP exchanges. A result that is an error has status 500.
        status: A code, a class such as ``"2xx"``, ``"*"``, or several. By default ``"2xx"``: failures are free.
        event_type: Type of the usage events that count, such as ``"prompt"``, or several; ``*`` matches any characters.
            Such a meter counts what is posted to ``/v1/events``, and no exchange.
        value: What is added up. None counts 1 per exchange or event; ``"request_bytes"``, ``"response_bytes"`` and
            ``"duration_ms"`` add up that measurement, `response_json` a field of the body, ``meterkit.llm.tokens`` the
            tokens that a language model's response tells, and any other name the quantities that the view passes to
            ``add_usage`` under that name. With *event_type*, ``"$.tokens"`` adds up a number in the event's data; keys
            and list indexes are joined with dots. `unique` counts each value once per billing period; `maximum` counts
            the highest value.
        by: Dimensions that usage is told apart by, such as ``("model", "kind")``: names whose values the view passes to
            ``add_usage``, or a mapping of names to functions of the exchange or to `response_json`. With *event_type*,
            names of fields of the event's data, or a mapping to paths such as ``"$.model"``. Values are texts of at
            most 100 bytes; one that is missing is shown as unknown. The meter's sum, quotas and notices do not change.
            In the attribute, `Dimension` objects; None becomes an empty tuple.
        by_limit: New combinations of values that one company may use in an hour and process; all companies together may
            use ten times as many. Further usage is counted as ``other``, and ``kit.health()`` names the meter.
        when: Further condition, ``Exchange -> bool``, or with *event_type* ``Event -> bool``, for what the other
            filters cannot express.
        event_name: The Stripe meter's ``event_name``; by default the meter's name; empty if it is not billable.
        http: Whether exchanges count. False for a meter that counts only what ``kit.record()`` and imports give it;
            always false with *event_type*.
        customer_key: Key of the customer's id in meter events: the meter's ``customer_mapping.event_payload_key`` in
            Stripe, if it was made with another than ``stripe_customer_id``.
        value_key: Key of the quantity in meter events: the meter's ``value_settings.event_payload_key`` in Stripe, if
            it was made with another than ``value``.
        billable: Whether usage is reported to Stripe. If False, it stays in the ledger, for ``kit.usage()`` and quotas,
            and is not on the customer page: for costs of your own, or to try a meter out.
        aggregation: Only ``"sum"``: usage from many processes and hours must merge into one figure.
        dimensions: Names of the dimensions in `by`, in their order.
        asked: Those of them whose values a function or a path tells.

    Raises:
        ConfigurationError: An attribute is invalid; the message says how to fix it.
    """

    name: str
    _: KW_ONLY
    path: str | None = None
    route: str | None = None
    method: str | Iterable[str] | None = None
    tool: str | Iterable[str] | None = None
    status: StatusFilter | Iterable[StatusFilter] = "2xx"
    value: str | ResponseJson | StreamedValue | Aggregation | None = None
    by: str | Iterable[str | Dimension] | Mapping[str, Any] | None = None
    by_limit: int = DEFAULT_LIMIT
    when: Callable[[Exchange], bool] | Callable[[Event], bool] | None = None
    event_type: str | Iterable[str] | None = None
    event_name: str = ""
    customer_key: str = CUSTOMER_KEY
    value_key: str = VALUE_KEY
    http: bool = True
    billable: bool = True
    aggregation: str = "sum"
    dimensions: tuple[str, ...] = field(init=False, repr=False, compare=False)
    asked: tuple[Dimension, ...] = field(init=False, repr=False, compare=False)

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
        object.__setattr__(self, "tool", _tools(self.tool, self))
        object.__setattr__(self, "by", dimensions_of(self.by, self))
        checked_limit(self.by_limit, self)
        if self.event_type is None:
            _check_value(self.value, self)
        else:
            object.__setattr__(self, "event_type", _event_types(self.event_type, self))
            _check_event_meter(self)
            object.__setattr__(self, "http", False)
        if self.when is not None and (not callable(self.when) or inspect.iscoroutinefunction(self.when)):
            raise ConfigurationError(f"{self}: when= must be a plain function of an {self._counted}, not {self.when!r}")
        _check_aggregation(self.aggregation, self)
        object.__setattr__(self, "by", checked_sources(self, body_field=ResponseJson))
        # Once, because requests read them.
        object.__setattr__(self, "dimensions", tuple([each.name for each in self.sources]))
        object.__setattr__(self, "asked", tuple([each for each in self.sources if each.source is not None]))
        if not self.http and self.event_type is None:
            _check_recorded(self)

    def __str__(self) -> str:
        return f"Meter({self.name!r})"

    @property
    def sources(self) -> tuple[Dimension, ...]:
        """The dimensions in `by`."""
        assert isinstance(self.by, tuple)
        return self.by

    @property
    def calls_functions(self) -> bool:
        """Whether functions of the application are asked about each exchange or event."""
        of = self.value.of if isinstance(self.value, Aggregation) else None
        return self.when is not None or callable(of) or any(callable(each.source) for each in self.asked)

    @property
    def _counted(self) -> str:
        return "Exchange" if self.event_type is None else "Event"

    @property
    def added_name(self) -> str | None:
        """Name under which views add what this meter counts; None if it counts something else."""
        if self.event_type is not None:
            return None
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
        if isinstance(self.value, StreamedValue):
            reader = (exchange.readers or {}).get(type(self.value))
            return self.value.read(self.value.reader("") if reader is None else reader)
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


def _tools(tool: Any, meter: Meter) -> tuple[str, ...] | None:
    if tool is None:
        return None
    tools = [tool] if isinstance(tool, str) else tool
    if not isinstance(tools, Iterable) or not (tools := list(tools)):
        raise ConfigurationError(
            f"{meter}: tool= must be the name of a tool, such as 'search', or several, not {tool!r}"
        )
    for each in tools:
        if not isinstance(each, str) or not each.strip():
            raise ConfigurationError(f"{meter}: tool= must be the name of a tool, such as 'search', not {each!r:.100}")
    found = [name for name in ("path", "route", "method") if getattr(meter, name) is not None]
    found += [] if meter.http else ["http"]
    if isinstance(meter.value, ResponseJson | StreamedValue) or meter.value in ("request_bytes", "response_bytes"):
        found.append("value")
    if found:
        names = ", ".join(f"{name}=" for name in found)
        raise ConfigurationError(
            f"{meter}: with tool= it counts calls of tools, which are no HTTP exchanges, so {names} would do nothing; "
            "remove that, or let the tool say how much it counts, with value= and meterkit.add_usage()"
        )
    return tuple(tools)


def _event_types(types: Any, meter: Meter) -> tuple[str, ...]:
    given = [types] if isinstance(types, str) else types
    if not isinstance(given, Iterable) or not (given := list(given)):
        raise ConfigurationError(
            f"{meter}: event_type= must be a type such as 'prompt', or several, not {types!r:.200}"
        )
    for each in given:
        if not isinstance(each, str) or not each.strip() or not each.isprintable():
            raise ConfigurationError(
                f"{meter}: event_type= must be the type of an event, such as 'prompt', not {each!r:.200}"
            )
    return tuple(given)


def _check_event_meter(meter: Meter) -> None:
    """Refuse what is of exchanges for a meter of events."""
    found = [name for name in ("path", "route", "method", "tool") if getattr(meter, name) is not None]
    found += ["status"] if meter.status != ("2xx",) else []
    if found:
        raise ConfigurationError(
            f"{meter}: event_type= counts usage events, which have no {', '.join(found)}; leave out "
            f"{', '.join(f'{name}=' for name in found)}, use when= for a condition on the event, or declare a second "
            "meter for exchanges"
        )
    value = meter.value
    if isinstance(value, Aggregation):
        _check_observed(value, meter)
    elif value is not None and not (isinstance(value, str) and EVENT_PATH.fullmatch(value)):
        raise ConfigurationError(
            f"{meter}: with event_type=, value= must be a path into the event's data, such as '$.tokens' or "
            f"'$.items.0.count', or unique(...) or maximum(...) of one, not {value!r:.200}; to count events, leave "
            "value= out"
        )


def _check_observed(aggregation: Aggregation, meter: Meter) -> None:
    of = aggregation.of
    is_user = aggregation.mark == UNIQUE and of == "user"
    if isinstance(of, str) and not is_user and not EVENT_PATH.fullmatch(of):
        name = "unique" if aggregation.mark == UNIQUE else "maximum"
        raise ConfigurationError(
            f"{meter}: with event_type=, {name}() needs a path into the event's data, such as {name}('$.{of:.50}'), or "
            f"a function of the Event, not {of!r:.200}"
        )


def _check_value(value: Any, meter: Meter) -> None:
    path = value.of if isinstance(value, Aggregation) else value
    if isinstance(path, str) and path.startswith("$."):
        raise ConfigurationError(
            f"{meter}: {path!r:.200} is a path into the data of usage events: add event_type=, or use "
            f"response_json({path[2:]!r:.200}) for the body of responses"
        )
    if value is None or isinstance(value, ResponseJson | StreamedValue | Aggregation):
        return
    known = ", ".join(repr(name) for name in MEASURED)
    if not isinstance(value, str) or not value.strip():
        raise ConfigurationError(
            f"{meter}: value= must be {known}, response_json(...), llm.tokens(...), unique(...), maximum(...) or a "
            f"name that views pass to add_usage(), not {value!r}"
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
    found += ["value"] if isinstance(meter.value, str | ResponseJson | StreamedValue) else []
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
