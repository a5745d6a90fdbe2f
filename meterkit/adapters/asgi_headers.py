"""Header views for ASGI."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any


class RawHeaders(Mapping[str, str]):
    """
    Headers as ASGI has them: pairs of bytes, in order; several of one name are joined with a comma.

    Attributes:
        pairs: Filled in by who makes this. No ``__init__``, which Python 3.11 calls in a roundabout way.
    """

    __slots__ = ("pairs",)

    pairs: Iterable[tuple[bytes, bytes]]

    def __getitem__(self, name: str) -> str:
        value: str | None = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def get(self, name: str, default: Any = None) -> Any:
        """A header's value, or *default*. Mapping's own takes longer, and ``identify=`` calls this."""
        key = _KEYS[name]
        found = None
        for each, value in self.pairs:
            if each == key:  # servers are to make them small letters; for those that do not, it is looked up again
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
    """*pairs*, to be looked up by name."""
    headers = RawHeaders()
    headers.pairs = pairs
    return headers


class _Keys(dict[str, bytes]):
    """By the name of a header, as it stands in a scope."""

    def __missing__(self, name: str) -> bytes:
        key = name.lower().encode("latin-1", "replace")
        if len(self) < MOST_NAMES:
            self[name] = key
        return key


MOST_NAMES = 1000
"""Names of headers remembered. They stand in code; but who knows what code does."""

_KEYS = _Keys()
