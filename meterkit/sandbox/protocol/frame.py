"""One HTTP exchange without the HTTP: what came in, what goes out, and what the sandbox's log keeps of both."""

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
    A request as it arrived.

    Attributes:
        method: In capitals.
        path: Without the query string.
        query: The raw query string.
        headers: Names in lower case.
        body: The raw body.

    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def form(self) -> str:
        """The encoded parameters: the query string of a GET or DELETE, the body of a POST."""
        text = self.body.decode("utf-8", "replace")
        return "&".join(part for part in (self.query, text) if part)


@dataclass(frozen=True)
class Reply:
    """An answer; `headers` are those beside Content-Length and Date."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class Reset:
    """Not an answer: the connection breaks."""


@dataclass
class Received:
    """
    One line of the sandbox's request log.

    Attributes:
        method: In capitals.
        path: Without the query string.
        params: Decoded: nested dictionaries and lists of strings; of a JSON body, what it says.
        headers: Names in lower case; the Authorization header is kept, for the key is a fake one.
        status: What was answered; None while in flight and when the connection was broken instead.
        request_id: The `req_…` that the answer carried.

    """

    method: str
    path: str
    params: Any
    headers: Mapping[str, str]
    status: int | None = None
    request_id: str = ""


def is_v2(path: str) -> bool:
    """Whether a path belongs to v2, which speaks JSON and has errors of another shape."""
    return path.startswith("/v2/")


def json_reply(status: int, value: Any, headers: Mapping[str, str] | None = None) -> Reply:
    """An answer with a JSON body, indented as Stripe's are."""
    body = json.dumps(value, indent=2).encode()
    return Reply(status, body, {"Content-Type": "application/json", **(headers or {})})


def html_reply(status: int, title: str) -> Reply:
    """What a proxy in front of the API says when it cannot reach it."""
    page = f"<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>"
    return Reply(status, page.encode(), {"Content-Type": "text/html"})
