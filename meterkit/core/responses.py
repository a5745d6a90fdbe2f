"""HTTP responses that the middleware sends in place of the app's."""

from __future__ import annotations

import json
from typing import Any, NamedTuple


class Response(NamedTuple):
    """
    What an adapter sends.

    Attributes:
        status: The HTTP status.
        reason: Its words.
        headers: As pairs of text.
        body: As it is sent.
    """

    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes


WARNING = "X-Meterkit-Warning"
"""The header of a response that would not have been let pass, with the reason."""

REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    402: "Payment Required",
    403: "Forbidden",
    405: "Method Not Allowed",
    413: "Content Too Large",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


def response(status: int, body: bytes, *headers: tuple[str, str], media_type: str = "application/json") -> Response:
    """An answer that nobody may keep: what it says may be otherwise in a moment."""
    about = [("Content-Type", media_type), ("Content-Length", str(len(body))), ("Cache-Control", "no-store")]
    return Response(status, REASONS.get(status, "Unknown"), [*about, *headers], body)


def json_response(status: int, content: Any, *headers: tuple[str, str]) -> Response:
    """The same, of what ``json.dumps`` takes."""
    return response(status, json.dumps(content).encode(), *headers)
