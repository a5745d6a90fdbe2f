"""Header views for ASGI."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any


class RawHeaders(Mapping[str, str]):
    """
    Headers in ASGI's format. The values of headers with the same name are joined with a comma.

    Attributes:
        pairs: Header names and values as bytes, in order. Set by the creator, because an ``__init__`` is slow to call
            in Python 3.11.
    """

    __slots__ = ("pairs",)

    pairs: Iterable[tuple[bytes, bytes]]

    def __getitem__(self, name: str) -> str:
        value: str | None = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def get(self, name: str, default: Any = None) -> Any:
        """Return a header's value, or *default*. Faster than Mapping's own, because ``identify=`` calls this."""
        key = _KEYS[name]
        found = None
        for each, value in self.pairs:
            if each == key:  # names should be in lower case; for servers that do not comply, see below
                found = value if found is None else found + b", " + value
        if found is None:
            values = [value for each, value in self.pairs if each.lower() == key]
            found = b", ".join(values) if values else None
        return default if found is None else found.decode("latin-1")

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name.lower().decode("latin-1") for name, _ in self.pairs))

    def __len__(self) -> int:
        return len({name.lower() for name, _ in self.pairs})


def raw_headers(pairs: Iterable[tuple[bytes, bytes]]) -> RawHeaders:
    """Return *pairs* as a mapping."""
    headers = RawHeaders()
    headers.pairs = pairs
    return headers


class _Keys(dict[str, bytes]):
    """Header names as they stand in a scope, by name in any case."""

    def __missing__(self, name: str) -> bytes:
        key = name.lower().encode("latin-1", "replace")
        if len(self) < MOST_NAMES:
            self[name] = key
        return key


MOST_NAMES = 1000
"""Header names in the cache. They come from code, which could still make up any number of them."""

_KEYS = _Keys()
