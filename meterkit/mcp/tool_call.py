"""`ToolCall`: what both SDKs know of a call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from meterkit.metering.exchange import NO_HEADERS

SESSION_HEADER = "mcp-session-id"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """
    A call of a tool. Its arguments are not here: the model writes them, so they cannot say who pays.

    Attributes:
        tool: Name of the tool.
        headers: Headers of the HTTP request, with case-insensitive names; empty over stdio.
        access_token: Access token that the server's authentication has verified, an ``AccessToken`` of the SDK with
            ``client_id``, ``scopes`` and so on; None without authentication, and over stdio.
        session_id: Id of the session; None where there are no sessions: over stdio, and in a stateless server.
        request_id: Id of the request. Each session counts its own.
    """

    tool: str
    headers: Mapping[str, str] = field(default_factory=lambda: NO_HEADERS, repr=False)
    access_token: Any = field(default=None, repr=False)
    session_id: str | None = None
    request_id: str | None = None


def tool_call(tool: str, request: Any, request_id: Any) -> ToolCall:
    """
    Return the call of *tool*.

    Args:
        tool: Name of the tool.
        request: Starlette's request of the HTTP request that brought the call; None over stdio.
        request_id: Id of the JSON-RPC request, or None.
    """
    scope = getattr(request, "scope", None) or {}
    headers: Mapping[str, str] = NO_HEADERS if request is None else request.headers
    return ToolCall(
        tool=tool,
        headers=headers,
        access_token=getattr(scope.get("user"), "access_token", None),  # of this request, not of the session's first
        session_id=headers.get(SESSION_HEADER),
        request_id=None if request_id is None else str(request_id),
    )
