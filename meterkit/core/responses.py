"""HTTP responses that the middleware sends in place of the app's."""

from __future__ import annotations

import json
from collections.abc import Iterable
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


class RateLimit(NamedTuple):
    """
    What is left of a quota, as a client is told.

    Attributes:
        name: Name of the quota.
        quota: Units that may be used in the window.
        window: Length of the window, seconds.
        remaining: Units that are left.
        reset: Seconds until the next window begins.
    """

    name: str
    quota: int
    window: int
    remaining: int
    reset: int


def rate_limit_headers(limits: Iterable[RateLimit]) -> list[tuple[str, str]]:
    """
    Return the header fields for *limits*; none if there are none.

    Source: draft-ietf-httpapi-ratelimit-headers, of which both fields are lists of structured fields (RFC 9651).
    """
    limits = list(limits)
    if not limits:
        return []
    policies = [f"{_quoted(each.name)};q={each.quota};w={each.window}" for each in limits]
    left = [f"{_quoted(each.name)};r={each.remaining};t={each.reset}" for each in limits]
    return [("RateLimit-Policy", ", ".join(policies)), ("RateLimit", ", ".join(left))]


def _quoted(text: str) -> str:
    printable = "".join(each if " " <= each <= "~" else "?" for each in text)
    return '"' + printable.replace("\\", "\\\\").replace('"', '\\"') + '"'


REASONS = {
    200: "OK",
    202: "Accepted",
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
    415: "Unsupported Media Type",
    422: "Unprocessable Content",
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
