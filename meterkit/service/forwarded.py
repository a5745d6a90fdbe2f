"""The request that a gateway asks about, as its headers describe it."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

from meterkit.adapters.asgi_headers import RawHeaders, raw_headers
from meterkit.metering.exchange import NO_HEADERS, Exchange
from meterkit.service.keys import HEADER
from meterkit.service.problems import RequestError

TARGETS = {"x-original-uri": "x-original-method", "x-forwarded-uri": "x-forwarded-method"}
"""Request headers with the path and query that the client sent, and those with its method."""

LONGEST_METHOD = 32


class ForwardedExchange(Exchange):
    """A request that is at a gateway; its ``native`` is an ASGI scope with what is known of it."""

    __slots__ = ()

    is_asgi = True

    @property
    def response_headers(self) -> Mapping[str, str]:
        """No headers: there is no response yet."""
        return NO_HEADERS


def exchange_for(scope: Mapping[str, Any], below: str, owner: SimpleNamespace) -> tuple[ForwardedExchange, bool]:
    """
    Return the exchange that a gateway asks about, and whether its path is known.

    Args:
        scope: ASGI scope of the gateway's own request.
        below: Path below that of the check, which Envoy makes of the original one; empty if there is none.
        owner: Namespace with the recorder.

    Raises:
        RequestError: Headers name two different original requests (status 400).
    """
    headers = raw_headers([pair for pair in scope["headers"] if pair[0].lower() != _HEADER])
    method, target = str(scope["method"]), None
    if below:
        path, query = below, scope.get("query_string", b"")
    else:
        method, target = _original(headers, method)
        path, query = (str(scope["path"]), b"") if target is None else _split(target)
    original = {
        **scope,
        "method": method,
        "path": path,
        "raw_path": None,
        "root_path": "",
        "query_string": query,
        "headers": headers.pairs,
        "state": {},
    }
    exchange = ForwardedExchange()
    exchange.begin(method, path, original, headers, owner)
    return exchange, bool(below) or target is not None


_HEADER = HEADER.encode()


def _original(headers: RawHeaders, method: str) -> tuple[str, str | None]:
    found: dict[str, str] = {}
    for name, of_method in TARGETS.items():
        target = headers.get(name)
        if target:
            found[target] = headers.get(of_method) or method
    if len(found) > 1:
        raise RequestError(
            400,
            "X-Original-URI and X-Forwarded-Uri name different requests, and one may be the client's: have the gateway "
            "remove the one that it does not set.",
            type="original_ambiguous",
        )
    for target, its_method in found.items():
        return its_method[:LONGEST_METHOD], target
    return method, None


def _split(target: str) -> tuple[str, bytes]:
    """Return the path of a request target, percent-decoded as in an ASGI scope, and the query."""
    if not target.startswith("/"):  # the absolute form, or the asterisk of OPTIONS
        try:
            parts = urlsplit(target)
        except ValueError:
            return "", b""
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    path, _, query = target.partition("?")
    return unquote_to_bytes(path.encode("latin-1", "replace")).decode("utf-8", "replace"), query.encode("latin-1")
