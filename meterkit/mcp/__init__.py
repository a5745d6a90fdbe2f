"""
Middleware for servers of the Model Context Protocol: counts tool calls, and blocks those of companies that may not.

`MeterMiddleware` is for the official SDK, ``meterkit.mcp.fastmcp.MeterMiddleware`` for FastMCP.
"""

from meterkit.mcp.sdk import MeterMiddleware
from meterkit.mcp.tool_call import ToolCall

__all__ = ["MeterMiddleware", "ToolCall"]
