"""All route templates of a Django project, joined as its URL resolver joins them."""

from __future__ import annotations

from typing import Any


def routes_in(resolver: Any, prefix: str) -> list[str] | None:
    """Return the templates below *resolver*, joined as Django joins them; None if they depend on the language."""
    routes: list[str] = []
    for pattern in resolver.url_patterns:
        if type(pattern.pattern).__name__ == "LocalePrefixPattern":
            return None
        text = str(pattern.pattern)
        route = prefix + text.removeprefix("^") if prefix else text
        if not hasattr(pattern, "url_patterns"):
            routes.append(route)
            continue
        more = routes_in(pattern, route)
        if more is None:
            return None
        routes += more
    return routes
