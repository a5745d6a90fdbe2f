"""Middleware for FastMCP, 4.x."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastmcp.exceptions import ToolError
from fastmcp.server.middleware import CallNext, Middleware, MiddlewareContext
from fastmcp.tools import InputRequiredToolResult

from meterkit.core.validation import SubjectId
from meterkit.mcp.metered_tools import UNFINISHED, IdentifyCall, MeteredTools, Refused
from meterkit.mcp.tool_call import tool_call
from meterkit.metering.exchange import Identity

if TYPE_CHECKING:
    from meterkit.kit import MeterKit


class MeterMiddleware(Middleware):
    """
    Meters the tools of a ``FastMCP`` server: ``FastMCP("shop", middleware=[MeterMiddleware(kit)])``.

    Does what `meterkit.mcp.MeterMiddleware` does.

    Args:
        kit: Kit that counts.
        identify: Function, sync or async, of a `ToolCall` that returns who pays: a company, an `Identity` or None. By
            default the kit's ``identify=`` is called, with an exchange that has the headers of the HTTP request.
        company: Who pays for all calls, for a server over stdio, which serves one client.

    Raises:
        ConfigurationError: An argument is wrong.
    """

    def __init__(
        self,
        kit: MeterKit,
        *,
        identify: IdentifyCall | None = None,
        company: SubjectId | Identity | None = None,
    ) -> None:
        self._tools = MeteredTools(kit, identify=identify, company=company)

    async def on_call_tool(self, context: MiddlewareContext[Any], call_next: CallNext[Any, Any]) -> Any:
        """Serve one call of a tool."""
        held = context.fastmcp_context
        request_context = None if held is None else held.request_context
        request = getattr(request_context, "request", None)
        call = tool_call(context.message.name, request, getattr(request_context, "request_id", None))
        try:
            return await self._tools.run(call, lambda: call_next(context), _status_of)
        except Refused as refused:
            raise ToolError(str(refused)) from None


def _status_of(result: Any) -> int:
    if isinstance(result, InputRequiredToolResult):
        return UNFINISHED
    return 500 if getattr(result, "is_error", False) else 200
