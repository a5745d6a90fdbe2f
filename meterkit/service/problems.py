"""Responses to requests that are wrong, as problem documents (RFC 9457): each says what to do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from meterkit.core.responses import REASONS, Response, response

PROBLEM = "application/problem+json"


class RequestError(Exception):
    """
    A request cannot be served; raised by handlers, and answered with a problem document.

    Args:
        status: HTTP status, 400 to 599.
        detail: What is wrong with this request, and what to do.
        type: Name of the kind of problem, in lower case with underscores.
        retry_after: Seconds after which to send the request again, for the header ``Retry-After``; None for none.
        headers: Additional response headers.
        more: Further members of the problem document.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        type: str,  # noqa: A002 - as RFC 9457 calls it
        retry_after: int | None = None,
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.type = type
        self.retry_after = retry_after
        self.headers = headers or {}
        self.more = more

    def response(self) -> Response:
        """Return the problem document as a response."""
        retry = {} if self.retry_after is None else {"retry_after": self.retry_after}
        problem = {
            "type": f"urn:meterkit:problem:{self.type}",
            "title": TITLES.get(self.type, REASONS.get(self.status, "Error")),
            "status": self.status,
            "detail": self.detail,
            **retry,
            **self.more,
        }
        headers = dict(self.headers)
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        return response(self.status, json.dumps(problem).encode(), *headers.items(), media_type=PROBLEM)


TITLES = {
    "key_missing": "No key",
    "key_wrong": "Wrong key",
    "key_scope": "The key is not for this",
    "key_required": "A key is required",
    "from_browser": "Sent by a browser",
    "not_found": "Not found",
    "method_wrong": "Method not allowed",
    "too_large": "The body is too large",
    "too_many": "Too many requests",
    "failed": "The service failed",
    "company_wrong": "Not a company id",
    "original_ambiguous": "Two original requests",
    "meter_unknown": "Unknown meter",
    "query_of_client": "The client's own query",
    "query_wrong": "The query cannot be read",
    "not_ready": "Not ready",
    "no_prometheus": "No client library of Prometheus",
}
"""Titles of the problems by type; those of packages that add routes are the reason phrases of their statuses."""
