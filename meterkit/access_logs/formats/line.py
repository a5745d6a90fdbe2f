"""
One line of an access log: what is in it, whatever the format.

A format finds *values* by the names that nginx gives its variables, such as ``status`` or ``http_x_company``, and
`line_of` turns them into a `Line`.
"""

from __future__ import annotations

import math
import re
from calendar import timegm
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import unquote_to_bytes

NO_ANSWER = 499
"""Status of an exchange whose client left before it was answered, as in the logs of nginx; other gateways write 0."""

_ABSENT = ("", "-", '""')
_NAMES = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTHS = {name: number for number, name in enumerate(_NAMES, 1)}
_CLF_TIME = re.compile(r"\[?(\d\d)/(\w{3})/(\d{4}):(\d\d):(\d\d):(\d\d) ([+-])(\d\d)(\d\d)\]?", re.ASCII)
_ISO_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)(?:[.,]\d+)?(?:(Z)|([+-])(\d\d):?(\d\d))", re.ASCII
)
_REQUEST = re.compile(r"([!-~]{1,100}) (\S.*?)(?: (HTTP/\d[\d.]*))?", re.DOTALL | re.ASCII)
_ORIGIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")
_NUMBER = re.compile(r"-?\d{1,18}(?:\.\d+)?", re.ASCII)
_HEADER_PREFIXES = (("http_", 0), ("sent_http_", 1), ("upstream_http_", 1))


class UnreadableError(Exception):
    """A line cannot be read; the text says why."""


class LoggedHeaders(Mapping[str, str]):
    """Header fields that a log has, by names in any case."""

    __slots__ = ("_by_name",)

    def __init__(self, by_name: dict[str, str]) -> None:
        self._by_name = by_name

    def __getitem__(self, name: str) -> str:
        return self._by_name[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)


@dataclass(frozen=True, slots=True)
class Line:
    """
    One request and its response, as a gateway has logged them.

    Attributes:
        at: When it was logged, Unix seconds.
        method: HTTP method; empty if the client sent no request that can be read, such as a TLS handshake in the clear.
        path: Path without the query string, percent-decoded, without ``.`` and ``..`` segments.
        query: Query string as the client sent it, without the question mark; empty if there is none.
        status: Status code; 499 if the client left before it was answered.
        response_bytes: Bytes sent to the client; None if the log does not say.
        request_bytes: Bytes received from the client; None if the log does not say.
        duration: Seconds that it took; None if the log does not say.
        headers: Request headers that were logged.
        response_headers: Response headers that were logged.
        fields: All that was logged, by the names that the format has for it.
    """

    at: float
    method: str
    path: str
    query: str
    status: int
    response_bytes: int | None
    request_bytes: int | None
    duration: float | None
    headers: LoggedHeaders
    response_headers: LoggedHeaders
    fields: Mapping[str, Any]


def line_of(values: Mapping[str, Any], fields: Mapping[str, Any] | None = None) -> Line:
    """
    Return the line with *values*.

    Args:
        values: What was logged, by the names of nginx's variables.
        fields: What was logged, by the log's own names; by default *values*.

    Raises:
        UnreadableError: Something is missing, or is not what it should be.
    """
    method, path, query = _request_of(values)
    headers: tuple[dict[str, str], dict[str, str]] = ({}, {})
    for name, value in values.items():
        header = _header_of(name)
        if header is not None and not is_absent(value):
            headers[header[0]][header[1]] = str(value)
    return Line(
        at=_moment_of(values),
        method=method,
        path=path,
        query=query,
        status=_status(values.get("status")),
        response_bytes=_size(values, "body_bytes_sent", "bytes_sent"),
        request_bytes=_size(values, "request_length", "content_length"),
        duration=_duration(values),
        headers=LoggedHeaders(headers[0]),
        response_headers=LoggedHeaders(headers[1]),
        fields=values if fields is None else fields,
    )


@lru_cache(maxsize=1024)  # the names are the same in each line, but for headers in some JSON, which clients may choose
def _header_of(name: str) -> tuple[int, str] | None:
    """Return the header that the variable *name* is: 0 for one of the request, 1 of the response, and its name."""
    for prefix, which in _HEADER_PREFIXES:
        if name.startswith(prefix):
            return which, name[len(prefix) :].replace("_", "-").lower()
    return None


def is_absent(value: Any) -> bool:
    """Return whether *value* is what gateways write for something that is not there."""
    return value is None or value in _ABSENT


def moment(value: Any) -> float:
    """
    Return a time in Unix seconds: one as in ``$time_local``, in ISO 8601 with a zone, or seconds, or milli-, micro- or
    nanoseconds.

    Raises:
        UnreadableError: *value* is none of these.
    """
    if isinstance(value, str):
        if not value[:1].isdigit() or not _NUMBER.fullmatch(value):
            return _written_moment(value)
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e19:
        raise UnreadableError(f"its time is {value!r:.60}")
    for unit in (1e9, 1e6, 1e3):
        if value >= 1e8 * unit:
            return value / unit
    return float(value)


@lru_cache(maxsize=64)  # thousands of lines have the same second
def _written_moment(text: str) -> float:
    zone: tuple[str, str, str]
    found = _CLF_TIME.fullmatch(text)
    if found is not None and found[2] in _MONTHS:
        day, _, year, hour, minute, second, *rest = found.groups()
        month, zone = _MONTHS[found[2]], (rest[0], rest[1], rest[2])
    else:
        found = _ISO_TIME.fullmatch(text)
        if found is None:
            raise UnreadableError(f"its time is {text!r:.60}, which is none with a time zone")
        year, number, day, hour, minute, second, utc, *rest = found.groups()
        month, zone = int(number), ("+", "0", "0") if utc else (rest[0], rest[1], rest[2])
    if not (1 <= month <= 12 and 1 <= int(day) <= 31 and int(hour) < 24 and int(minute) < 60 and int(second) <= 60):
        raise UnreadableError(f"its time is {text!r:.60}")
    offset = int(zone[1]) * 3600 + int(zone[2]) * 60
    utc_seconds = timegm((int(year), month, int(day), int(hour), int(minute), int(second)))
    return float(utc_seconds - (offset if zone[0] == "+" else -offset))


def _moment_of(values: Mapping[str, Any]) -> float:
    for name in ("time_local", "time_iso8601", "msec", "time"):
        value = values.get(name)
        if not is_absent(value):
            return moment(value)
    raise UnreadableError("it has no time: log $time_iso8601")


def _request_of(values: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return method, path and query string; empty if the client sent no request that can be read."""
    request = values.get("request")
    if request is not None:
        found = _REQUEST.fullmatch(_text(request))
        if found is None or found[1] == "-":
            return "", "", ""
        return (found[1], *_split(found[2]))
    method = _text(values.get("request_method"))
    if is_absent(method):
        if "request_method" in values:
            return "", "", ""
        raise UnreadableError("it has no request: log $request, or $request_method and $request_uri")
    target = values.get("request_uri")
    if is_absent(target):
        target = values.get("uri")
    if is_absent(target):
        raise UnreadableError("it has no path: log $request_uri")
    path, query = _split(_text(target))
    args = values.get("args")
    return method, path, query or ("" if is_absent(args) else _text(args).removeprefix("?"))


def _split(target: str) -> tuple[str, str]:
    """Return path and query string of a request target, the path as gateways and apps understand it."""
    if not target.startswith("/"):
        target = _ORIGIN.sub("", target, count=1)
    target = target.partition("#")[0]  # nobody routes by it, so nobody must be able to hide a path with it
    path, _, query = target.partition("?")
    if "%" in path or not path.isascii():
        path = unquote_to_bytes(path.encode("utf-8", "surrogateescape")).decode("utf-8", "replace")
    return _without_dots(path) if "/." in path else path or "/", query


def _without_dots(path: str) -> str:
    kept: list[str] = []
    segments = path.split("/")
    for segment in segments:
        if segment == "..":
            del kept[max(1, len(kept) - 1) :]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/".join(kept) or "/"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)


def _status(value: Any) -> int:
    text = _text(value)
    if text in ("-", "0", "000"):
        return NO_ANSWER
    if not (len(text) == 3 and text.isascii() and text.isdigit() and "100" <= text <= "599"):
        raise UnreadableError(f"its status is {text!r:.40}" if text else "it has no status: log $status")
    return int(text)


def _size(values: Mapping[str, Any], *names: str) -> int | None:
    for name in names:
        if name in values:
            text = _text(values[name])
            if text in _ABSENT:
                return 0
            if not (text.isascii() and text.isdigit() and len(text) <= 15):
                raise UnreadableError(f"its {name} is {text!r:.40}")
            return int(text)
    return None


def _duration(values: Mapping[str, Any]) -> float | None:
    for name, unit in (("request_time", 1.0), ("request_time_ms", 1e3), ("request_time_us", 1e6)):
        if name in values and not is_absent(values[name]):
            text = _text(values[name])
            try:
                seconds = float(text) / unit
            except ValueError:
                seconds = math.nan
            if not math.isfinite(seconds) or seconds > 1e9:
                raise UnreadableError(f"its duration is {text!r:.40}")
            return max(0.0, seconds)
    return None
