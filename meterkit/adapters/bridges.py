"""
Recognise one request on both sides of a bridge between ASGI and WSGI, such as a2wsgi.

A bridge builds a new environ or scope, in which the mark of the outer middleware is lost. It hands on the context, so
the inner middleware finds an open exchange; and the request itself, by which it knows that the two are one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meterkit.metering.exchange import Exchange, current
from meterkit.metering.recorder import MARK


def crosses_bridge(exchange: Exchange, carrier: Any) -> bool:
    """
    Return whether *exchange*, which has an outer one, is the same request on the other side of a bridge.

    If so, the outer exchange is made current again: that is the one that counts, and that views speak of.

    Args:
        exchange: The inner exchange, which has just begun.
        carrier: Its environ or scope.
    """
    outer = exchange.outer
    try:
        if outer is None or not _is_same(outer, exchange, carrier):
            return False
        exchange.owner.recorder.counts_already(outer)  # says so if the outer one is another kit's
    except Exception as error:
        exchange.owner.recorder.problems.internal(error)
        return False
    _offer_route(outer, exchange, carrier)
    exchange.closed = True
    exchange.outer = None
    current.set(outer)
    return True


def _offer_route(outer: Exchange, inner: Exchange, carrier: Any) -> None:
    """Let *outer* find the route that *inner*'s framework matches, preceded by the mounts between the two."""
    mounted_at = carrier.get("SCRIPT_NAME", "") if _is_wsgi(carrier) else carrier.get("root_path", "")

    def inner_route() -> str | None:
        route = inner.route
        root = "" if isinstance(outer.target, str) else outer.target[0]
        return None if route is None else mounted_at[len(root) :] + route

    outer.inner_route = inner_route
    inner.find_route()
    outer.find_route()  # WSGI publishes none otherwise


def _is_same(outer: Exchange, inner: Exchange, carrier: Any) -> bool:
    if not isinstance(outer.native, Mapping) or _is_wsgi(outer.native) == _is_wsgi(carrier):
        return False  # on one side of a bridge, the mark tells
    origin = carrier.get("asgi.scope") or carrier.get("wsgi_environ")  # a2wsgi's keys
    if isinstance(origin, Mapping):
        return origin.get(MARK) is outer
    # Another app that is called in process has other headers, if only other ones of its client.
    return (
        outer.method == inner.method
        and (outer.path.endswith(inner.path) or inner.path.endswith(outer.path))  # the mount is there or not, or twice
        and _query(outer.native) == _query(carrier)
        and _plain(outer.headers) == _plain(inner.headers)
    )


def _is_wsgi(carrier: Any) -> bool:
    return "wsgi.version" in carrier


def _query(carrier: Any) -> str:
    query = carrier.get("QUERY_STRING", "") if _is_wsgi(carrier) else carrier.get("query_string", b"")
    return query.decode("latin-1") if isinstance(query, bytes) else query


def _plain(headers: Mapping[str, str]) -> dict[str, str]:
    """Return *headers* as any bridge leaves them: an environ has no hyphens, and repeated ones are joined variously."""
    return {name.replace("_", "-"): value.replace(", ", ",") for name, value in headers.items() if value}
