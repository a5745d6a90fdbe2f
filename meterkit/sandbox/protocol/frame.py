"""Requests and replies as data, and the entries of the request log."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

API_VERSION = "2026-10-28.endive"


@dataclass(frozen=True)
class Request:
    """
    A request as received.

    Attributes:
        method: HTTP method, in upper case.
        path: Path without the query string.
        query: Raw query string.
        headers: Headers; names are in lower case.
        body: Raw body.

    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def form(self) -> str:
        """Encoded parameters: the query string of a GET or DELETE, the body of a POST."""
        text = self.body.decode("utf-8", "replace")
        return "&".join(part for part in (self.query, text) if part)


@dataclass(frozen=True)
class Reply:
    """A response; `headers` lacks Content-Length and Date."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class Reset:
    """Instead of a response: break the connection."""


@dataclass
class Received:
    """
    One entry of the sandbox's request log.

    Attributes:
        method: HTTP method, in upper case.
        path: Path without the query string.
        params: Decoded parameters: nested dictionaries and lists of strings, or the JSON body.
        headers: Headers; names are in lower case. Includes Authorization, because the key is not a real one.
        status: Status of the response; None while in flight, or if the connection was broken instead.
        request_id: Request id in the response, `req_…`.

    """

    method: str
    path: str
    params: Any
    headers: Mapping[str, str]
    status: int | None = None
    request_id: str = ""


def is_v2(path: str) -> bool:
    """Return whether a path belongs to v2, which uses JSON and another error format."""
    return path.startswith("/v2/")


def json_reply(status: int, value: Any, headers: Mapping[str, str] | None = None) -> Reply:
    """Return a response with a JSON body, indented like Stripe's."""
    body = json.dumps(value, indent=2).encode()
    return Reply(status, body, {"Content-Type": "application/json", **(headers or {})})


def html_reply(status: int, title: str) -> Reply:
    """Return a web page, as a proxy sends it if it cannot reach the API."""
    page = f"<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>"
    return Reply(status, page.encode(), {"Content-Type": "text/html"})
