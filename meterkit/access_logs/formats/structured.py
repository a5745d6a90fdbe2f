"""Formats of lines of JSON: of Caddy, Traefik, Envoy and Kong, and what nginx and Apache are configured to write."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from meterkit.access_logs.formats.line import Line, UnreadableError, line_of

Values: TypeAlias = "dict[str, Any]"

_BYTE_ESCAPE = re.compile(rb"\\(x[0-9A-Fa-f]{2}|.)", re.DOTALL)

_SAME = {
    "time_local": ("time_local", "@timestamp", "timestamp", "time", "ts", "start_time", "date"),
    "status": ("status", "status_code", "response_code", "code"),
    "request_method": ("request_method", "method", "verb"),
    "request_uri": ("request_uri", "path", "url"),
    "args": ("args", "query_string", "query"),
    "body_bytes_sent": ("body_bytes_sent", "response_bytes"),
    "bytes_sent": ("bytes_sent", "size", "bytes"),
    "request_length": ("request_length", "bytes_received", "request_bytes"),
    "request_time_ms": ("request_time_ms", "duration_ms", "response_time_ms"),
    "request_time_us": ("request_time_us", "duration_us"),
    "remote_user": ("remote_user", "user"),
    "http_host": ("http_host", "host", "authority"),
    "http_user_agent": ("http_user_agent", "user_agent", "agent"),
    "http_referer": ("http_referer", "referer", "referrer"),
}
"""Keys that logs use for nginx's variables, in the order in which they are looked for."""


class JsonFormat:
    """
    A format of lines of JSON.

    Args:
        name: Name of the format.
        has: Function that returns whether an object is of this format.
        values: Function that returns the values of an object by the names of nginx's variables.
    """

    def __init__(
        self, name: str, has: Callable[[Mapping[str, Any]], bool], values: Callable[[Mapping[str, Any]], Values]
    ) -> None:
        self.name = name
        self._has = has
        self._values = values

    def read(self, line: bytes) -> Line:
        """
        Return what is in *line*.

        Raises:
            UnreadableError: It does not have this format.
        """
        content = _object(line)
        if not self._has(content):
            raise UnreadableError(f"it is JSON, but not of the format {self.name}")
        try:
            return line_of(self._values(content), content)
        except (TypeError, ValueError, AttributeError, KeyError, OverflowError) as error:
            raise UnreadableError(f"it is not what {self.name} writes: {type(error).__name__}") from None


def _object(line: bytes) -> Mapping[str, Any]:
    if not line.startswith(b"{"):
        raise UnreadableError("it is not a JSON object")
    text = line.decode("utf-8", "surrogateescape")
    try:
        content = _parsed(text)
    except UnreadableError:
        raise
    except (ValueError, RecursionError):
        if b"\\x" not in line:
            raise UnreadableError("it is not a JSON object") from None
        # nginx without escape=json, and Apache: bytes are escaped as \xHH, backslashes, too, so this is certain.
        repaired = _BYTE_ESCAPE.sub(_as_json, line).decode("utf-8", "surrogateescape")
        try:
            content = _parsed(repaired)
        except (ValueError, RecursionError):
            raise UnreadableError("it is not a JSON object: in nginx, write log_format ... escape=json") from None
    if not isinstance(content, dict):
        raise UnreadableError("it is not a JSON object")
    return content


def _parsed(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_once_each, parse_constant=_no_number)


def _as_json(found: re.Match[bytes]) -> bytes:
    return b"\\u00" + found[1][1:] if len(found[1]) == 3 else found[0]


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object. A key that is there twice may have been written by a client, so neither is believed."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise UnreadableError("it has a key twice, as if a client had written into the line: in nginx, escape=json")
    return found


def _no_number(name: str) -> Any:
    raise UnreadableError(f"it has {name}, which is no number")


def at(content: Mapping[str, Any], name: str) -> Any:
    """Return what a log has under *name*, in which dots lead into inner objects; None if there is nothing."""
    if name in content:
        return content[name]
    found: Any = content
    for key in name.split("."):
        if isinstance(found, list) and len(found) == 1:
            found = found[0]
        if not isinstance(found, Mapping):
            return None
        found = found.get(key)
    return found[0] if isinstance(found, list) and len(found) == 1 else found


def _flat(content: Mapping[str, Any]) -> Values:
    values: Values = dict(content)
    for name, keys in _SAME.items():
        found = next((content[key] for key in keys if key in content), None)
        if found is not None:
            values[name] = found
    if "uri" in content and "request_uri" not in values:
        values["uri"] = content["uri"]
    return values


def _envoy(content: Mapping[str, Any]) -> Values:
    values = _flat(content)
    if "duration" in content:
        values["request_time_ms"] = content["duration"]
    return values


def _caddy(content: Mapping[str, Any]) -> Values:
    request = content["request"]
    values: Values = {
        "time_local": content.get("ts"),
        "request_method": request.get("method"),
        "request_uri": request.get("uri"),
        "status": content.get("status"),
        "body_bytes_sent": content.get("size", 0),
        "request_length": content.get("bytes_read", 0),
        "remote_user": content.get("user_id"),
        **_headers("http_", request.get("headers")),
        **_headers("sent_http_", content.get("resp_headers")),
        "http_host": request.get("host"),
    }
    duration = content.get("duration")
    if isinstance(duration, str):  # with duration_format string: "1.5ms"
        values["request_time"] = _go_duration(duration)
    elif duration is not None:
        values["request_time"] = duration
    return values


def _traefik(content: Mapping[str, Any]) -> Values:
    values: Values = {
        "time_local": content.get("time") or content.get("StartUTC"),
        "request_method": content.get("RequestMethod"),
        "request_uri": content.get("RequestPath"),
        "status": content.get("DownstreamStatus", content.get("OriginStatus")),
        "body_bytes_sent": content.get("DownstreamContentSize", 0),
        "request_length": content.get("RequestContentSize", 0),
        "request_time_us": float(content.get("Duration", 0)) / 1e3,
        "remote_user": content.get("ClientUsername"),
        "http_host": content.get("RequestHost"),
    }
    for key, value in content.items():
        for prefix, name in (("request_", "http_"), ("downstream_", "sent_http_")):
            if key.startswith(prefix):
                values[name + key[len(prefix) :]] = value
    return values


def _kong(content: Mapping[str, Any]) -> Values:
    request, response = content["request"], content["response"]
    target = request.get("uri")
    if isinstance(request.get("url"), str):  # with the query string
        target = request["url"]
    return {
        "time_local": content["started_at"],
        "request_method": request["method"],
        "request_uri": target,
        "status": response["status"],
        "bytes_sent": response.get("size", 0),
        "request_length": request.get("size", 0),
        "request_time_ms": (content.get("latencies") or {}).get("request"),
        "remote_user": (content.get("consumer") or {}).get("username"),
        **_headers("http_", request.get("headers")),
        **_headers("sent_http_", response.get("headers")),
    }


def _headers(prefix: str, headers: Any) -> Values:
    if not isinstance(headers, Mapping):
        return {}
    return {
        f"{prefix}{name}": ", ".join(map(str, value)) if isinstance(value, list) else value
        for name, value in headers.items()
    }


_GO_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def _go_duration(text: str) -> float:
    """Return the seconds of a duration as Go writes it, such as ``1m2.5s``."""
    parts = re.findall(r"([\d.]{1,20})(ns|us|µs|ms|s|m|h)", text)
    if "".join(number + unit for number, unit in parts) != text:
        return float(text)
    return sum(float(number) * _GO_UNITS[unit] for number, unit in parts)


def _is_caddy(content: Mapping[str, Any]) -> bool:
    return isinstance(content.get("request"), dict) and "uri" in content["request"] and "status" in content


def _is_kong(content: Mapping[str, Any]) -> bool:
    return all(isinstance(content.get(name), dict) for name in ("request", "response")) and "started_at" in content


JSON_FORMATS = (
    JsonFormat("kong-json", _is_kong, _kong),
    JsonFormat("caddy", _is_caddy, _caddy),
    JsonFormat("traefik-json", lambda content: "RequestPath" in content, _traefik),
    JsonFormat("envoy-json", lambda content: "response_code" in content, _envoy),
    JsonFormat("json", lambda _: True, _flat),
)
"""In the order in which they are tried: each has what the later ones do not have."""
