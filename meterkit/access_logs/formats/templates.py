"""
Formats of lines of text: regular expressions, and templates as nginx and Apache write them.

What a client chooses stands in quotes, within which gateways escape quotes: so it cannot end there, and begin another
part of the line. A template that does not do so is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from meterkit.access_logs.formats.line import Line, UnreadableError, line_of
from meterkit.errors import ConfigurationError

_ESCAPE = re.compile(rb"\\(x[0-9A-Fa-f]{2}|.)", re.DOTALL)
_ESCAPED = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"b": b"\b", b"v": b"\v", b"f": b"\f"}

_NGINX_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_APACHE_DIRECTIVE = re.compile(r"%[!\d,]*[<>]?(?:\{([^}]*)\})?(\^?[a-zA-Z]{1,3}|%)")

_CHOSEN_BY_CLIENTS = re.compile(
    r"(request|request_uri|uri|document_uri|args|query_string|request_body)$"
    r"|(arg|cookie|http|sent_http|upstream_http|upstream_cookie)_"
)

_APACHE_NAMES = {
    "h": "remote_addr",
    "a": "remote_addr",
    "l": "remote_logname",
    "u": "remote_user",
    "r": "request",
    "s": "status",
    "b": "body_bytes_sent",
    "B": "body_bytes_sent",
    "O": "bytes_sent",
    "I": "request_length",
    "D": "request_time_us",
    "m": "request_method",
    "U": "uri",
    "q": "args",
    "H": "server_protocol",
    "v": "host",
    "V": "host",
    "p": "server_port",
    "P": "pid",
    "k": "keepalives",
    "X": "connection_status",
    "L": "request_id",
    "f": "filename",
    "S": "bytes_both",
}
_APACHE_UNITS = {"s": "request_time", "ms": "request_time_ms", "us": "request_time_us", "": "request_time"}
_APACHE_TIMES = {"": "time_local", "sec": "msec", "msec": "msec", "usec": "msec"}
_APACHE_KINDS = {"i": "http_", "o": "sent_http_", "e": "env_", "n": "note_", "C": "cookie_"}


class TextFormat:
    """
    A format of lines of text.

    Args:
        name: Name of the format.
        pattern: Regular expression of a whole line, whose groups have the names of nginx's variables.
        adapt: Function that changes the values of a line before they are understood.
        unescape: Function that undoes the gateway's escapes in a value.
    """

    def __init__(
        self,
        name: str,
        pattern: bytes,
        *,
        adapt: Callable[[dict[str, str]], object] | None = None,
        unescape: Callable[[bytes], bytes] | None = None,
    ) -> None:
        self.name = name
        self._fullmatch = re.compile(pattern, re.DOTALL).fullmatch
        self._adapt = adapt
        self._unescape = unescaped if unescape is None else unescape

    def read(self, line: bytes) -> Line:
        """
        Return what is in *line*.

        Raises:
            UnreadableError: It does not have this format.
        """
        found = self._fullmatch(line)
        if found is None:
            raise UnreadableError(f"it is not a line of the format {self.name}")
        values: dict[str, str] = {}
        for name, value in found.groupdict().items():
            if value is not None:
                values[name] = self._unescape(value).decode("utf-8", "surrogateescape")
        if self._adapt is not None:
            self._adapt(values)
        return line_of(values)


def unescaped(value: bytes) -> bytes:
    """Return *value* without the escapes of nginx and Apache."""
    return _ESCAPE.sub(_unescape_one, value) if b"\\" in value else value


def _unescape_one(found: re.Match[bytes]) -> bytes:
    code = found[1]
    return bytes([int(code[1:], 16)]) if len(code) == 3 else _ESCAPED.get(code, code)


def template(text: str, *, name: str = "") -> TextFormat:
    """
    Return the format of a ``log_format`` of nginx or a ``LogFormat`` of Apache.

    Raises:
        ConfigurationError: Something in it cannot be read back with certainty.
    """
    parts = _apache_parts(text) if "%" in text and "$" not in text else _nginx_parts(text)
    names = [part for is_variable, part in parts if is_variable]
    if not names:
        raise ConfigurationError(f"{text!r:.200} is no log format: it has no variables such as $status")
    return TextFormat(name or "of your own", _pattern(parts).encode())


def _nginx_parts(text: str) -> list[tuple[bool, str]]:
    return _parts(text, _NGINX_VARIABLE, lambda found: (True, found[1] or found[2]))


def _apache_parts(text: str) -> list[tuple[bool, str]]:
    return _parts(text.replace('\\"', '"').replace("\\t", "\t"), _APACHE_DIRECTIVE, _apache_part)


def _parts(
    text: str, variable: re.Pattern[str], part: Callable[[re.Match[str]], tuple[bool, str]]
) -> list[tuple[bool, str]]:
    """Return the parts of a template: whether each is a variable, and its name or the text itself."""
    parts: list[tuple[bool, str]] = []
    at = 0
    for found in variable.finditer(text):
        parts += [(False, text[at : found.start()]), part(found)]
        at = found.end()
    return [each for each in (*parts, (False, text[at:])) if each[1]]


def _apache_part(found: re.Match[str]) -> tuple[bool, str]:
    argument, letter = found[1] or "", found[2]
    if letter == "%":
        return False, "%"
    if letter == "T" and argument in _APACHE_UNITS:
        return True, _APACHE_UNITS[argument]
    if letter == "t" and argument.removeprefix("end:") in _APACHE_TIMES:
        return True, _APACHE_TIMES[argument.removeprefix("end:")]
    if letter in _APACHE_KINDS and argument:
        return True, _APACHE_KINDS[letter] + re.sub(r"\W", "_", argument).lower()
    if letter in _APACHE_NAMES:
        return True, _APACHE_NAMES[letter]
    raise ConfigurationError(
        f"{found[0]} of this LogFormat is not understood: leave it out, or log JSON with --format json",
    )


def _pattern(parts: list[tuple[bool, str]]) -> str:
    pattern, seen, in_quotes, chosen = "", set[str](), False, 0
    for at, (is_variable, part) in enumerate(parts):
        if not is_variable:
            for section in re.split('(")', part):
                if section == '"':
                    in_quotes, chosen = not in_quotes, 0
                pattern += re.escape(section)
            continue
        is_chosen = _CHOSEN_BY_CLIENTS.match(part) is not None
        chosen += is_chosen
        if is_chosen and (not in_quotes or chosen > 1):
            raise ConfigurationError(
                f"${part} of this log format can be chosen by clients, so it must stand in quotes of its own: "
                f'"${part}". Otherwise a client could write what looks like the rest of the line',
            )
        before = parts[at - 1][1][-1:] if at and not parts[at - 1][0] else ""
        group = f"(?P<{part}>" if part not in seen else "(?:"
        seen.add(part)
        pattern += f"{group}{_content(part, is_chosen=is_chosen, in_quotes=in_quotes, before=before)})"
    return pattern


def _content(name: str, *, is_chosen: bool, in_quotes: bool, before: str) -> str:
    if name == "time_local":
        time = r"\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}"
        return time if before == "[" or in_quotes else rf"\[?{time}\]?"
    if in_quotes:
        return r'(?:[^"\\]|\\.)*?' if is_chosen or name == "remote_user" else r'[^\s"]*'
    if name == "remote_user":  # may have blanks, but no quote: so it cannot be taken for the request that follows
        return r'(?:""|(?:[^"\\]|\\.)*?)'  # Apache writes two quotes for an empty name
    return r'[^\s"]*'
