"""The formats by name, and which of them a file has."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Protocol

from meterkit.access_logs.formats.line import Line, UnreadableError
from meterkit.access_logs.formats.structured import JSON_FORMATS
from meterkit.access_logs.formats.templates import TextFormat, template
from meterkit.errors import ConfigurationError

AUTO = "auto"
"""Name of the format that is found out from the first lines."""

LOOKED_AT = 1000
"""Lines from which a format is found out, at most."""


class Format(Protocol):
    """A format of access logs."""

    @property
    def name(self) -> str:
        """Name of the format."""

    def read(self, line: bytes) -> Line:
        """
        Return what is in *line*.

        Raises:
            UnreadableError: It does not have this format.
        """


_COMMON = '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent'
_COMBINED = f'{_COMMON} "$http_referer" "$http_user_agent"'

_QUOTED = rb'"(?:[^"\\]|\\.)*"'
_TIME = rb"\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}"

# What these write is not escaped: so the parts that clients choose have no blanks, or are not looked at, and what
# comes after them is matched from the end of the line.
_TRAEFIK = (
    rb'(?P<remote_addr>\S+) - (?P<remote_user>[^"]*?) \[(?P<time_local>' + _TIME + rb')\] "(?P<request>[^" ]+ [^" ]* '
    rb'[^" ]*)" (?P<status>\d+|-) (?P<body_bytes_sent>\d+|-) ".*" (?P<request_count>\d+|-) "(?P<router>[^"]*)" '
    rb'"(?P<server_url>[^"]*)" (?P<request_time_ms>\d+)ms'
)
_ENVOY = (
    rb"\[(?P<time_iso8601>[0-9T:.Z+-]+)\] \"(?P<request_method>[^\" ]+) (?P<request_uri>[^ ]+) "
    rb"(?P<server_protocol>HTTP/[\d.]+|-)\" (?P<status>\d+) (?P<response_flags>[A-Za-z_,-]+) .*?"
    rb"(?P<request_length>\d+) (?P<body_bytes_sent>\d+) (?P<request_time_ms>\d+) (?P<upstream_ms>\d+|-) \".*\""
)
_BALANCER_REQUEST = rb'"(?P<request>[^ ]+ [^ ]+ (?:HTTP/[\d.]+|- ?))" '
_ALB = (
    rb"(?P<type>https?|h2|grpcs|wss?) (?P<time_iso8601>\S+) (?P<elb>\S+) (?P<client>\S+) (?P<target>\S+) "
    rb"(?P<processing_1>\S+) (?P<processing_2>\S+) (?P<processing_3>\S+) (?P<status>\d+|-) (?P<target_status>\d+|-) "
    rb"(?P<request_length>\d+) (?P<bytes_sent>\d+) " + _BALANCER_REQUEST + rb".*"
    rb'"(?P<trace_id>[^"]*)" "(?P<domain_name>[^"]*)" "(?P<chosen_cert_arn>[^"]*)" (?P<rule_priority>\S+) '
    rb'(?P<created>\d{4}-\d\d-\d\dT\S+) "[^"]*" "[^"]*" "[^"]*"(?: .*)?'
)
_ELB = (
    rb"(?P<time_iso8601>\d{4}-\S+) (?P<elb>\S+) (?P<client>\S+) (?P<target>\S+) "
    rb"(?P<processing_1>\S+) (?P<processing_2>\S+) (?P<processing_3>\S+) (?P<status>\d+|-) (?P<target_status>\d+|-) "
    rb"(?P<request_length>\d+) (?P<bytes_sent>\d+) " + _BALANCER_REQUEST + rb"\".*"
)
_HAPROXY = (
    rb"(?:.*?haproxy\[\d+\]: )?(?P<client>[0-9A-Fa-f.:]+):\d+ \[(?P<accepted>\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d\.\d{3})\] "
    rb"(?P<frontend>\S+) (?P<backend>[^ /]+)/(?P<server>\S+) (?P<timers>[\d/+-]+) (?P<status>\d{3}|-1) "
    rb"\+?(?P<bytes_sent>\d+) \S+ \S+ (?P<termination>\S{4}) [\d/+]+ \d+/\d+ "
    # A long line is cut off, so the last quote may be missing.
    rb'(?:\{(?P<request_captures>[^}]*)\} )?(?:\{(?P<response_captures>[^}]*)\} )?"(?P<request>[^"]*)"?'
)


def _of_balancer(values: dict[str, str]) -> None:
    try:
        times = [float(values[f"processing_{number}"]) for number in (1, 2, 3)]
    except ValueError:
        raise UnreadableError("its processing times are no numbers") from None
    if min(times) >= 0:
        values["request_time"] = str(sum(times))
    if values.get("domain_name", "-") != "-":
        values["http_host"] = values["domain_name"]


def _of_haproxy(values: dict[str, str]) -> None:
    """Find the time: HAProxy writes when it accepted the request, in the zone of its host, and how long it took."""
    try:
        whole, _, milliseconds = values["accepted"].partition(".")
        begun = time.mktime(time.strptime(whole, "%d/%b/%Y:%H:%M:%S")) + int(milliseconds) / 1e3
        took = max(0, int(values["timers"].rpartition("/")[2].lstrip("+"))) / 1e3
    except (ValueError, OverflowError):
        raise UnreadableError("its times are not those of HAProxy") from None
    values["msec"], values["request_time"] = str(begun + took), str(took)
    if values["status"] == "-1":
        values["status"] = "0"
    for kind in ("request", "response"):
        for number, value in enumerate((values.get(f"{kind}_captures") or "").split("|"), 1):
            values[f"{kind}_capture_{number}"] = value


def _from_haproxy(value: bytes) -> bytes:
    """Undo the escapes of HAProxy, ``#`` and two hexadecimal digits."""
    first, *others = value.split(b"#")
    for each in others:
        try:
            first += bytes([int(each[:2], 16)]) + each[2:]
        except ValueError:
            first += b"#" + each
    return first


def _as_it_is(value: bytes) -> bytes:
    return value


_FORMATS: tuple[Format, ...] = (
    *JSON_FORMATS,
    template(f'{_COMBINED} kong_request_id: "$kong_request_id"', name="kong"),
    TextFormat("traefik", _TRAEFIK, unescape=_as_it_is),
    template(_COMBINED, name="combined"),
    template(_COMMON, name="common"),
    template(f"$host:$server_port {_COMBINED}", name="vhost-combined"),
    TextFormat("envoy", _ENVOY, unescape=_as_it_is),
    TextFormat("alb", _ALB, adapt=_of_balancer),
    TextFormat("elb", _ELB, adapt=_of_balancer),
    TextFormat("haproxy", _HAPROXY, adapt=_of_haproxy, unescape=_from_haproxy),
)
"""In the order in which they are tried: those that only few lines have come first."""

BY_NAME = {each.name: each for each in _FORMATS}


def format_named(name: str) -> Format:
    """
    Return the format *name*, or the one that is written there, as in the gateway's configuration.

    Raises:
        ConfigurationError: There is none of that name.
    """
    if "$" in name or "%" in name:
        return template(name)
    if name not in BY_NAME:
        raise ConfigurationError(
            f"there is no format {name!r:.100}: choose from {AUTO}, {', '.join(BY_NAME)}, or give the log_format of "
            "nginx or the LogFormat of Apache in single quotes",
        )
    return BY_NAME[name]


def recognized(lines: Sequence[bytes]) -> Format | None:
    """Return the format that most of *lines* have; None if none has any of them."""
    best, most = None, 0
    looked_at = lines[:LOOKED_AT]
    for each in _FORMATS:
        readable = sum(is_readable(each, line) for line in looked_at)
        if readable == len(looked_at):
            return each
        if readable > most:
            best, most = each, readable
    return best


def is_readable(format_: Format, line: bytes) -> bool:
    """Return whether *line* has the format."""
    try:
        format_.read(line)
    except UnreadableError:
        return False
    return True


def read_by_any(formats: Iterable[Format], line: bytes) -> Line:
    """
    Return what is in *line*, by the first of *formats* that it has.

    Raises:
        UnreadableError: It has none of them.
    """
    why = UnreadableError("no format is known")
    for each in formats:
        try:
            return each.read(line)
        except UnreadableError as error:
            why = error
    raise why
