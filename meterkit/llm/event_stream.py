"""Server-sent events: hand on what stands in their ``data`` lines, without holding an event."""

from __future__ import annotations

import re

from meterkit.llm.json_scanner import JsonScanner

_FIELD = b"data:"
_LINE_END = re.compile(rb"[\r\n]")
_EMPTY_LINE = re.compile(rb"\r\n(?=[\r\n])|\n(?=[\r\n])|\r(?=\r)")
_USAGE = re.compile(rb'"usage(?:Metadata|_metadata)?"\s*:(?!\s*null)')


class EventStream:
    """
    Feeds the data of each event to a scanner, which begins anew with each.

    Source: HTML, "Server-sent events": lines end with LF, CR or CRLF; an empty line ends an event; comments begin with
    a colon.

    Args:
        scanner: Scanner of the data.
    """

    def __init__(self, scanner: JsonScanner) -> None:
        self._scanner = scanner
        self._name = bytearray()  # the line so far, as long as it may be a data line
        self._is_data = self._is_other = self._after_cr = self._has_data = False

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        at = 0
        if self._after_cr and data[:1] == b"\n":
            at = 1
        self._after_cr = False if data else self._after_cr
        while at < len(data):
            match = _LINE_END.search(data, at)
            end = len(data) if match is None else match.start()
            if not self._is_without_usage(data, at, end):
                self._line(data[at:end])
            if match is None:
                return
            self._end_line()
            at = end + 1
            if data[end] == 0x0D:
                if at == len(data):
                    self._after_cr = True
                elif data[at] == 0x0A:
                    at += 1

    def _is_without_usage(self, data: bytes, at: int, end: int) -> bool:
        """Return whether the line is the whole data of an event without usage, as most are: then nothing reads it."""
        if self._name or self._has_data or self._is_other or not data.startswith(_FIELD, at):
            return False
        return _EMPTY_LINE.match(data, end) is not None and _USAGE.search(data, at, end) is None

    def _line(self, part: bytes) -> None:
        if self._is_other or not part:
            return
        if not self._is_data:
            missing = len(_FIELD) - len(self._name)
            self._name += part[:missing]
            part = part[missing:]
            if not _FIELD.startswith(self._name):
                self._is_other = True
                return
            self._is_data = len(self._name) == len(_FIELD)
            self._has_data = self._has_data or self._is_data
        if self._is_data and part:
            self._scanner.feed(part)

    def _end_line(self) -> None:
        if not self._name:
            self._scanner.reset()  # an empty line ends the event
            self._has_data = False
        elif self._is_data:
            self._scanner.feed(b"\n")
        self._name.clear()
        self._is_data = self._is_other = False
