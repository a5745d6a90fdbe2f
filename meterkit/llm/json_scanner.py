"""
Find a few values in JSON while its bytes pass, without holding the rest.

The body of a response may be huge, and may break off. So it is not parsed: only what leads to the wanted values is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import TypeAlias

Path: TypeAlias = "tuple[str, ...]"

LONGEST_VALUE = 65_536
"""Longest value that is kept, bytes. A block of usage has some hundred."""

LONGEST_KEY = 64
"""Longest key that is compared, bytes."""

WINDOW = 16_384
"""Most bytes that are looked at together: what a search remembers grows with them."""

_STRUCTURE = re.compile(rb'["{}\[\],:]')
_REST_OF_STRING = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*("?)', re.DOTALL)
_SKIPPED = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*("?)|[{}\[\]]', re.DOTALL)

_QUOTE, _COLON, _COMMA = b'":,'


class JsonScanner:
    """
    Calls a function with each wanted value, as JSON, once it is complete.

    An array around the documents, and several documents one after the other, make no difference.
    Memory: one value and one key. Never raises; of what is not JSON, nothing or something is found.

    Args:
        wanted: Paths of at most two keys.
        found: Function that is called with the path and the value's bytes.
    """

    def __init__(self, wanted: Collection[Path], found: Callable[[Path, bytes], None]) -> None:
        self._wanted = {tuple(key.encode() for key in path): path for path in wanted}
        self._parents = {path[0] for path in self._wanted if len(path) == 2}
        self._found = found
        self.reset()

    def reset(self) -> None:
        """Begin a new document."""
        self._depth = 0
        self._base = 0  # depth of the array around the documents
        self._off: int | None = None  # depth at which the path to the wanted values was left
        self._in_string = self._is_escaped = False
        self._key: bytearray | None = None  # the key that is being read
        self._expects_key = False
        self._keys: list[bytes] = [b"", b""]
        self._path: Path | None = None  # of the value that is being kept
        self._value = bytearray()
        self._kept_at = 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        for at in range(0, len(data), WINDOW):
            self._read(data if len(data) <= WINDOW else data[at : at + WINDOW])

    def _read(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            if self._in_string:
                at = self._string(data, at)
            elif self._path is None and self._off is not None:
                at = self._skip(data, at)
            else:
                at = self._structure(data, at)

    def _structure(self, data: bytes, at: int) -> int:
        """Go on to the next sign, where a value may begin or end; return what follows it."""
        match = _STRUCTURE.search(data, at)
        end = len(data) if match is None else match.start()
        if self._path is not None:
            self._keep(data[at:end])
        if match is None:
            return end
        self._mark(data[end])
        return end + 1

    def _skip(self, data: bytes, at: int) -> int:
        """Go on to the end of what leads to no wanted value; return what follows it."""
        for match in _SKIPPED.finditer(data, at):
            sign = data[match.start()]
            if sign == _QUOTE:
                if not match.group(1):
                    self._in_string, self._is_escaped = True, match.end() < len(data)
                    return len(data)
            elif sign in b"{[":
                self._depth += 1
            else:
                self._close()
                if self._off is None:
                    return match.end()
        return len(data)

    def _string(self, data: bytes, at: int) -> int:
        """Read on in a string from *at*; return what follows."""
        start = at
        if self._is_escaped:
            self._is_escaped = False
            at += 1
        match = _REST_OF_STRING.match(data, at)
        assert match is not None
        if not match.group(1):  # a backslash may be left, which says what the next byte is
            self._keep(data[start:])
            self._is_escaped = match.end() < len(data)
            return len(data)
        self._keep(data[start : match.end()])
        self._in_string = False
        if self._key is not None:
            self._keys[self._depth - self._base - 1] = bytes(self._key[:-1])
            self._key = None
        return match.end()

    def _keep(self, data: bytes) -> None:
        if self._path is not None:
            self._value += data[: LONGEST_VALUE + 1 - len(self._value)]
        elif self._key is not None:
            self._key += data[: LONGEST_KEY + 1 - len(self._key)]

    def _mark(self, sign: int) -> None:
        """Go on after a *sign* outside of strings."""
        if self._path is not None and self._depth == self._kept_at and sign in b",}]":
            self._emit()
        if self._path is not None:
            self._keep(bytes([sign]))
        if sign == _QUOTE:
            self._in_string = True
            if self._path is None and self._off is None and self._expects_key:
                self._key, self._expects_key = bytearray(), False
        elif sign == _COLON:
            self._begin_value()
        elif sign == _COMMA:
            self._expects_key = self._path is None and self._off is None and self._depth > self._base
        elif sign in b"{[":
            self._open(sign)
        else:
            self._close()

    def _begin_value(self) -> None:
        level = self._depth - self._base
        if self._path is None and self._off is None and level > 0:
            path = self._wanted.get(tuple(self._keys[:level]))
            if path is not None:
                self._path, self._kept_at = path, self._depth
                self._value.clear()

    def _emit(self) -> None:
        path, self._path = self._path, None
        if path is not None and len(self._value) <= LONGEST_VALUE:
            self._found(path, bytes(self._value))

    def _open(self, sign: int) -> None:
        if self._path is None and self._off is None:
            level = self._depth - self._base
            if sign == b"["[0] and self._depth == 0:
                self._base = 1
            elif sign == b"{"[0] and (level == 0 or (level == 1 and self._keys[0] in self._parents)):
                self._expects_key = True
            else:
                self._off = self._depth
        self._depth += 1

    def _close(self) -> None:
        self._depth = max(0, self._depth - 1)
        self._expects_key = False
        if self._off is not None and self._depth <= self._off:
            self._off = None
        if self._depth == 0:
            self._base = 0
