"""The table of what the service serves, and its OpenAPI description."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Collection
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Literal, TypeAlias

import meterkit
from meterkit.core.responses import Response
from meterkit.service.calls import Call
from meterkit.service.problems import PROBLEM

Handler: TypeAlias = "Callable[[Call], Awaitable[Response]]"


@dataclass(frozen=True)
class Route:
    """
    One path of the service.

    Attributes:
        path: Exact path, below the one at which the service is mounted.
        handler: Async function that takes a `Call` and returns the response; it raises `RequestError` for a request
            that is wrong.
        methods: Methods in upper case; empty for any. HEAD is served as GET.
        scope: What a key must be for: ``events``, ``check`` or ``health``; None if none is needed.
        below: Whether paths below *path* are served, too.
        operations: The path item of the OpenAPI description: operations by method in lower case.
        rated: Whether a request counts for the rate of its source; if not, the handler calls ``call.source.take``.
        copies_body: Whether a response that is not a success has its body in the header ``X-Meterkit-Body`` as well.
    """

    path: str
    handler: Handler
    _: KW_ONLY
    methods: Collection[str] = ()
    scope: Literal["events", "check", "health"] | None = None
    below: bool = False
    operations: dict[str, Any] = field(default_factory=dict)
    rated: bool = True
    copies_body: bool = False


class RouteTable:
    """
    Routes by path.

    Args:
        routes: Routes.
    """

    def __init__(self, routes: Collection[Route]) -> None:
        self.routes = tuple(routes)
        self._exact = {route.path: route for route in self.routes}
        self._below = [(f"{route.path}/", route) for route in self.routes if route.below]

    def find(self, path: str) -> Route | None:
        """Return the route of *path*, or None."""
        found = self._exact.get(path)
        if found is None:
            found = next((route for prefix, route in self._below if path.startswith(prefix)), None)
        return found


PROBLEM_DOCUMENT: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What is wrong, and what to do."},
        "retry_after": {"type": "integer", "description": "Seconds after which to send the request again."},
    },
}

KEYS: dict[str, Any] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "Key of the source; not for /v1/check."},
    "header": {"type": "apiKey", "in": "header", "name": "X-Meterkit-Key", "description": "Key of the source."},
}


DESCRIBED: dict[str, Any] = {
    "get": {
        "operationId": "description",
        "summary": "This description",
        "responses": {
            "200": {"description": "OpenAPI 3.1.", "content": {"application/json": {"schema": {"type": "object"}}}}
        },
    }
}
"""The operation that returns the description."""


def description(routes: Collection[Route]) -> bytes:
    """Return the description of *routes* as JSON."""
    paths = {route.path: {verb: _operation(route, each) for verb, each in route.operations.items()} for route in routes}
    return json.dumps(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "meterkit",
                "version": meterkit.__version__,
                "description": "Usage-based billing for apps in any language. Errors are problem documents (RFC 9457).",
            },
            "paths": paths,
            "components": {
                "securitySchemes": KEYS,
                "schemas": {"Problem": PROBLEM_DOCUMENT},
                "responses": {
                    "Problem": {
                        "description": "The request is wrong, and the problem document says what to do.",
                        "content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}},
                    }
                },
            },
        },
        indent=1,
    ).encode()


def _operation(route: Route, operation: dict[str, Any]) -> dict[str, Any]:
    """Return *operation* with what all that need a key have in common."""
    if route.scope is None:
        return {**operation, "security": []}
    problem = {"$ref": "#/components/responses/Problem"}
    schemes: list[dict[str, list[str]]] = (
        [{"header": []}] if route.scope == "check" else [{"bearer": []}, {"header": []}]
    )
    return {
        **operation,
        "security": schemes,
        "responses": {"401": problem, "403": problem, "429": problem, **operation["responses"]},
    }
