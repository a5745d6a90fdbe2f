"""
Find the route template that Starlette, FastAPI or Litestar matched.

None is imported: templates are found by inspecting existing objects, which change from version to version. Callers
catch any exception.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, MutableMapping
from typing import Any

MAX_MOUNTS = 1024
"""Concrete mount prefixes in the cache. Those of a templated mount come from clients, so the cache must be bounded."""


class Templates:
    """Finds route templates of the app inside one middleware. Stores no requests, only the templates of mounts."""

    def __init__(self) -> None:
        self._mounts: dict[tuple[int, str], str | None] = {}
        self._litestar: dict[str, str] | None = None

    def matched(self, scope: MutableMapping[str, Any]) -> str | None:
        """Return the template that the app's routers matched, preceded by those of its mounts; None if unknown."""
        path = self._of_litestar(scope) if "path_template" in scope else _endpoint_path(scope)
        if path is None or "app_root_path" not in scope:
            return path
        # A router appends what a mount matched to root_path, and keeps the server's value as app_root_path.
        prefix = scope["root_path"][len(scope["app_root_path"]) :]
        if not prefix:
            return path
        mount = self._mount(scope.get("router"), prefix)
        return None if mount is None else mount + path

    def known(self, scope: MutableMapping[str, Any]) -> list[str] | None:
        """Return all templates of the app; None if some cannot be found."""
        if "litestar_app" in scope:
            is_whole = "path_template" in scope and "router" not in scope
            return [path for path, _ in _litestar_routes(scope)] if is_whole else None
        if type(scope.get("app")).__module__.startswith("connexion."):
            return None  # its operations are in routers that it does not publish
        root = scope.get("router") or scope.get("app")
        if not hasattr(root, "routes"):
            return None
        if "endpoint" in scope and "route" not in scope and not hasattr(root, "include_router"):
            return None  # Starlette before 1.7 does not publish the route that it matched
        return _all_in(root, "") or None

    def _of_litestar(self, scope: MutableMapping[str, Any]) -> str:
        """Return the path as it was declared; Litestar publishes ``{id}`` for ``{id:int}``."""
        if self._litestar is None:
            self._litestar = {template: path for path, template in _litestar_routes(scope)}
        template: str = scope["path_template"]
        return self._litestar.get(template, template)

    def _mount(self, router: Any, prefix: str) -> str | None:
        key = (id(router), prefix)
        if key not in self._mounts:
            if len(self._mounts) >= MAX_MOUNTS:
                self._mounts = {}
            self._mounts[key] = _mount_in(router, prefix + "/")
        return self._mounts[key]


def _litestar_routes(scope: MutableMapping[str, Any]) -> list[tuple[str, str]]:
    """Return the paths of Litestar's routes, as declared and as published."""
    routes = getattr(scope.get("litestar_app"), "routes", ())
    return [(route.path, route.path_format) for route in routes if hasattr(route, "path_format")]


def _endpoint_path(scope: MutableMapping[str, Any]) -> str | None:
    # FastAPI 0.137 and newer keeps the prefix of include_router() separate from the route.
    context = scope["fastapi"].get("effective_route_context") if "fastapi" in scope else None
    if context is not None:
        included: Any
        for included in (context, getattr(context, "starlette_route", None)):
            if getattr(included, "path", "") and _is_endpoint(included):
                return str(included.path)
    route: Any = scope.get("route")
    return str(route.path) if _is_endpoint(route) else None


def _mount_in(app: Any, path: str) -> str | None:
    """Return the template of the mounts that lead to *path*, a concrete prefix followed by a slash."""
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
    """Yield the routes of *app* and of included routers, each with whether its matches are published."""
    publishes = _publishes_plain_routes(getattr(app, "router", app))
    routes: Iterable[Any] = getattr(app, "routes", ())
    for route in routes:
        if hasattr(route, "effective_route_contexts"):
            for context in route.effective_route_contexts():
                yield getattr(context, "starlette_route", None) or context, True
        else:
            yield route, publishes or hasattr(route, "dependant")


def _publishes_plain_routes(router: Any) -> bool:
    """Return whether *router* publishes matches of routes other than FastAPI's own, which publish themselves."""
    serve = getattr(type(router), "app", None)
    if getattr(serve, "__module__", "").startswith("fastapi"):
        return False  # FastAPI 0.137 and newer has its own routing, and does not publish routes of add_route()
    version = getattr(sys.modules.get("starlette"), "__version__", "")
    return not version or tuple(int(part) for part in version.split(".")[:2]) >= (1, 7)


def _unwrapped(route: Any) -> Any:
    """Return the app of a mount, without the middleware around it."""
    app = route.app
    while not hasattr(app, "routes") and hasattr(app, "app"):
        app = app.app
    return app


def _is_endpoint(route: Any) -> bool:
    """Return whether *route* leads to a view, unlike a mount or host, which leads to another app."""
    return getattr(route, "endpoint", None) is not None
