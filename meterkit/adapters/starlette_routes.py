"""
Find the route template that Starlette or FastAPI matched.

Nothing of them is imported: a template is looked up in objects that are there, and theirs change from one version to
the next. Whatever fails here is caught by who asked.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, MutableMapping
from typing import Any

MAX_MOUNTS = 1024
"""Concrete mount prefixes remembered. A templated mount takes them from clients, so the memory has to have an end."""


class Templates:
    """The templates of the app inside one middleware. Holds no request, only what mounts were found to be."""

    def __init__(self) -> None:
        self._mounts: dict[tuple[int, str], str | None] = {}

    def matched(self, scope: MutableMapping[str, Any]) -> str | None:
        """The template that the app's routers matched, with the templates of mounts before it."""
        path = _endpoint_path(scope)
        if path is None or "app_root_path" not in scope:
            return path
        # A router adds what a mount matched to the root_path, and keeps what the server said as app_root_path.
        prefix = scope["root_path"][len(scope["app_root_path"]) :]
        if not prefix:
            return path
        mount = self._mount(scope.get("router"), prefix)
        return None if mount is None else mount + path

    def known(self, scope: MutableMapping[str, Any]) -> list[str] | None:
        """All templates there are; None where something hides them."""
        root = scope.get("router") or scope.get("app")
        if not hasattr(root, "routes"):
            return None
        if "endpoint" in scope and "route" not in scope and not hasattr(root, "include_router"):
            return None  # Starlette before 1.7: it matched, but does not say what
        return _all_in(root, "")

    def _mount(self, router: Any, prefix: str) -> str | None:
        key = (id(router), prefix)
        if key not in self._mounts:
            if len(self._mounts) >= MAX_MOUNTS:
                self._mounts = {}
            self._mounts[key] = _mount_in(router, prefix + "/")
        return self._mounts[key]


def _endpoint_path(scope: MutableMapping[str, Any]) -> str | None:
    # FastAPI 0.137 and newer keeps the prefix of include_router() apart from the route.
    context = scope["fastapi"].get("effective_route_context") if "fastapi" in scope else None
    if context is not None:
        included: Any
        for included in (context, getattr(context, "starlette_route", None)):
            if getattr(included, "path", "") and _is_endpoint(included):
                return str(included.path)
    route: Any = scope.get("route")
    return str(route.path) if _is_endpoint(route) else None


def _mount_in(app: Any, path: str) -> str | None:
    """The template of the mounts that lead to *path*, which is a concrete prefix and a slash."""
    for route, _ in _flat(app):
        if _is_endpoint(route):
            continue
        if not hasattr(route, "path_regex"):  # Host
            rest, template = path, ""
        elif match := route.path_regex.match(path):
            rest, template = "/" + match["path"], route.path
        else:
            continue
        if rest == "/" and template:
            return str(template)
        inner = _mount_in(_unwrapped(route), rest)
        if inner is not None:
            return str(template) + inner
    return None


def _all_in(app: Any, prefix: str) -> list[str] | None:
    templates = []
    for route, published in _flat(app):
        if _is_endpoint(route):
            if published and hasattr(route, "methods"):  # WebSocket routes have none
                templates.append(prefix + route.path)
            continue
        if not hasattr(route, "app"):
            continue
        inner = _unwrapped(route)
        if not hasattr(inner, "routes"):
            if not any(base.__module__ == "starlette.staticfiles" for base in type(inner).__mro__):
                return None
            continue
        more = _all_in(inner, prefix + getattr(route, "path", ""))
        if more is None:
            return None
        templates += more
    return templates


def _flat(app: Any) -> Iterator[tuple[Any, bool]]:
    """The routes of *app*, those of included routers too, and whether a match of them is published."""
    publishes = _publishes_plain_routes(getattr(app, "router", app))
    routes: Iterable[Any] = getattr(app, "routes", ())
    for route in routes:
        if hasattr(route, "effective_route_contexts"):
            for context in route.effective_route_contexts():
                yield getattr(context, "starlette_route", None) or context, True
        else:
            yield route, publishes or hasattr(route, "dependant")


def _publishes_plain_routes(router: Any) -> bool:
    """Whether *router* tells of routes that are not FastAPI's own kind, which publishes itself."""
    serve = getattr(type(router), "app", None)
    if getattr(serve, "__module__", "").startswith("fastapi"):
        return False  # FastAPI 0.137 and newer routes by itself, and keeps those of add_route() to itself
    version = getattr(sys.modules.get("starlette"), "__version__", "")
    return not version or tuple(int(part) for part in version.split(".")[:2]) >= (1, 7)


def _unwrapped(route: Any) -> Any:
    """The app of a mount, out of the middleware around it."""
    app = route.app
    while not hasattr(app, "routes") and hasattr(app, "app"):
        app = app.app
    return app


def _is_endpoint(route: Any) -> bool:
    """Whether *route* ends in a view; a mount or host goes on in another app."""
    return getattr(route, "endpoint", None) is not None
