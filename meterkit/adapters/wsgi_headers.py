"""Header views for WSGI and Django."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


class HeaderPairs(Mapping[str, str]):
    """Headers as WSGI responses have them: pairs, in order; several of one name are joined with a comma."""

    __slots__ = ("_pairs",)

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self._pairs = pairs

    def __getitem__(self, name: str) -> str:
        name = name.lower()
        values = [value for key, value in self._pairs if key.lower() == name]
        if not values:
            raise KeyError(name)
        return ", ".join(values)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(key.lower() for key, _ in self._pairs))

    def __len__(self) -> int:
        return len({key.lower() for key, _ in self._pairs})


class EnvironHeaders(Mapping[str, str]):
    """
    The request's headers, looked up in the environ, or in the ``META`` of a Django request.

    Attributes:
        environ: Filled in by who makes this. No ``__init__``, which Python 3.11 calls in a roundabout way.
    """

    __slots__ = ("environ",)

    environ: WSGIEnvironment

    def __getitem__(self, name: str) -> str:
        value: str | None = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def get(self, name: str, default: Any = None) -> Any:
        """A header's value, or *default*. Mapping's own takes four times as long, and ``identify=`` calls this."""
        key = _KEYS[name]
        value = self.environ.get(key)
        if value:
            return value
        # Servers leave a Content-Type or Content-Length empty where the client sent none.
        return default if value is None or key in _WITHOUT_PREFIX else value

    def __iter__(self) -> Iterator[str]:
        for key, value in self.environ.items():
            if key.startswith("HTTP_"):
                yield key[5:].replace("_", "-").lower()
            elif value and key in _WITHOUT_PREFIX:
                yield key.replace("_", "-").lower()

    def __len__(self) -> int:
        return sum(1 for _ in self)


class _Keys(dict[str, str]):
    """By the name of a header, its key in an environ."""

    def __missing__(self, name: str) -> str:
        key = name.upper().replace("-", "_")
        if key not in _WITHOUT_PREFIX:
            key = f"HTTP_{key}"
        if len(self) < MOST_NAMES:
            self[name] = key
        return key


MOST_NAMES = 1000
"""Names of headers remembered. They stand in code; but who knows what code does."""

_KEYS = _Keys()

_WITHOUT_PREFIX = ("CONTENT_TYPE", "CONTENT_LENGTH")
