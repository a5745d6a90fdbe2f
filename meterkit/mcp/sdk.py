"""Middleware for the official ``mcp`` SDK, 2.x."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meterkit.core.validation import SubjectId
from meterkit.mcp.metered_tools import UNFINISHED, IdentifyCall, MeteredTools, Refused
from meterkit.mcp.tool_call import tool_call
from meterkit.metering.exchange import Identity

if TYPE_CHECKING:
    from mcp.server.context import CallNext, HandlerResult, ServerRequestContext

    from meterkit.kit import MeterKit


class MeterMiddleware:
    """
    Meters the tools of an ``MCPServer``: ``MCPServer("shop", middleware=[MeterMiddleware(kit)])``.

    Or of a low-level ``Server``: ``server.middleware.append(MeterMiddleware(kit))``. A call counts for the meters with
    ``tool=`` that match, once the tool has returned; one that fails is free, unless the meter's ``status=`` says
    otherwise. A blocked company gets a tool's error with the reason, and the tool does not run.
    In the tool, `meterkit.add_usage` and the like concern the call.

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

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Serve one message."""
        name = (ctx.params or {}).get("name")
        if ctx.method != "tools/call" or ctx.request_id is None or not isinstance(name, str):
            return await call_next(ctx)
        call = tool_call(name, ctx.request, ctx.request_id)
        try:
            return await self._tools.run(call, lambda: call_next(ctx), _status_of)
        except Refused as refused:
            from mcp_types import CallToolResult, TextContent

            return CallToolResult(content=[TextContent(text=str(refused))], is_error=True)


def _status_of(result: HandlerResult) -> int:
    if isinstance(result, dict):
        kind, is_error = result.get("resultType"), result.get("isError")
    else:
        kind, is_error = getattr(result, "result_type", None), getattr(result, "is_error", False)
    return UNFINISHED if kind == "input_required" else 500 if is_error else 200
