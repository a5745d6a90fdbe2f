"""HTTP responses that the middleware sends in place of the app's."""

from __future__ import annotations

import json
from typing import Any, NamedTuple


class Response(NamedTuple):
    """
    A complete HTTP response.

    Attributes:
        status: HTTP status code.
        reason: Reason phrase of the status.
        headers: Header names and values, in order.
        body: Response body, bytes.
    """

    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes


WARNING = "X-Meterkit-Warning"
"""Response header with the reason for which the request would have been blocked."""

REASONS = {
    200: "OK",
    303: "See Other",
    400: "Bad Request",
    401: "Unauthorized",
    402: "Payment Required",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    411: "Length Required",
    413: "Content Too Large",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


def response(status: int, body: bytes, *headers: tuple[str, str], media_type: str = "application/json") -> Response:
    """Return a response that must not be cached, because it may be out of date within seconds, nor taken for HTML."""
    standard = [
        ("Content-Type", media_type),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
    ]
    return Response(status, REASONS.get(status, "Unknown"), [*standard, *headers], body)


def json_response(status: int, content: Any, *headers: tuple[str, str]) -> Response:
    """Return a `response` with *content* as JSON."""
    return response(status, json.dumps(content).encode(), *headers)
