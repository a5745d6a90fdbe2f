"""What a client gets if its request cannot be passed on, or no response comes: a document that names no host."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

RETRY_SECONDS = 1
"""``Retry-After`` of a request for which there is no connection."""


class Failure(Exception):  # noqa: N818 - not every failure is an error of the proxy
    """
    Why there is no response of the app.

    Args:
        status: HTTP status that the client gets instead.
        error: Type of the error by RFC 9209, for the ``Proxy-Status`` header.
        detail: Sentence for the client.
        cause: What happened, for the log; may name the upstream.
        reason: Problem under which the log and ``kit.health()`` have it; None if it is the client's mistake.
    """

    def __init__(self, status: int, error: str, detail: str, *, cause: str = "", reason: str | None = None) -> None:
        super().__init__(cause or detail)
        self.status = status
        self.error = error
        self.detail = detail
        self.cause = cause or detail
        self.reason = reason


class BrokenResponseError(Exception):
    """The app's response ended before its end, after a part of it was sent: the server must break off the client's."""


def bad_request(detail: str, status: int = 400) -> Failure:
    """Return the failure of a request that is not passed on."""
    return Failure(status, "http_request_error", detail)


def unreachable(cause: str, *, error: str = "connection_refused") -> Failure:
    """Return the failure of a connection that could not be made."""
    return Failure(
        502, error, "The service behind this proxy cannot be reached.", cause=cause, reason="upstream_unreachable"
    )


def timed_out(what: str, *, error: str = "http_response_timeout") -> Failure:
    """Return the failure of an app that was silent for too long."""
    return Failure(504, error, "The service behind this proxy took too long.", cause=what, reason="upstream_timeout")


def invalid(cause: str, *, error: str = "http_protocol_error") -> Failure:
    """Return the failure of a response that is none."""
    return Failure(
        502, error, "The service behind this proxy sent no valid response.", cause=cause, reason="upstream_invalid"
    )


def busy(most: int) -> Failure:
    """Return the failure of a request for which there is no connection."""
    return Failure(
        503,
        "connection_limit_reached",
        "The service behind this proxy is busy.",
        cause=f"all {most} connections are in use: raise max_connections=, or start more workers",
        reason="upstream_busy",
    )


def response(failure: Failure) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Return the headers and the body of the response for *failure*: a problem document (RFC 9457)."""
    title = HTTPStatus(failure.status).phrase
    body = json.dumps({"title": title, "status": failure.status, "detail": failure.detail}).encode()
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        (b"proxy-status", f"meterkit; error={failure.error}".encode()),
    ]
    if failure.status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers.append((b"retry-after", str(RETRY_SECONDS).encode()))
    return headers, body


async def send_failure(failure: Failure, send: Send, method: str) -> None:
    """Send the response for *failure*."""
    headers, body = response(failure)
    await send({"type": "http.response.start", "status": failure.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})
