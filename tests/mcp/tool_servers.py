"""Two servers with the same tools, made with the official SDK and with FastMCP."""

from __future__ import annotations

import meterkit
from meterkit import Meter

SEARCHES = Meter("searches", tool="search")
WORDS = Meter("words", tool="words", value="words")
EVERYTHING = Meter("calls", tool="*")
FAILURES = Meter("failures", tool=["search", "broken", "wrong"], status="5xx")
METERS = (SEARCHES, WORDS, EVERYTHING, FAILURES)


def search(query: str) -> str:
    """Find something."""
    return f"results for {query}"


def words(text: str) -> int:
    """Count words, and what that costs."""
    meterkit.add_usage("words", len(text.split()))
    return len(text.split())


async def words_later(text: str) -> int:
    """The same, with a handle."""
    usage = meterkit.usage()
    usage.add("words", len(text.split()))
    return 0


def free(query: str) -> str:
    """A tool that costs nothing today."""
    meterkit.skip()
    return query


def broken() -> str:
    """A tool with a mistake in it."""
    raise ZeroDivisionError


def sdk_server(kit, **options):
    """A server of the official SDK."""
    from mcp.server.mcpserver import MCPServer
    from mcp.server.mcpserver.exceptions import ToolError

    from meterkit.mcp import MeterMiddleware

    server = MCPServer("shop", middleware=[MeterMiddleware(kit, **options)])

    def wrong() -> str:
        """A tool that cannot do what it is asked."""
        raise ToolError("no such thing")

    for tool in (search, words, words_later, free, broken, wrong):
        server.add_tool(tool)
    return server


def fast_server(kit, **options):
    """A server of FastMCP."""
    from fastmcp import FastMCP
    from fastmcp.exceptions import ToolError

    from meterkit.mcp.fastmcp import MeterMiddleware

    server = FastMCP("shop", middleware=[MeterMiddleware(kit, **options)])

    def wrong() -> str:
        """A tool that cannot do what it is asked."""
        raise ToolError("no such thing")

    for tool in (search, words, words_later, free, broken, wrong):
        server.tool(tool)
    return server


SERVERS = {"sdk": sdk_server, "fastmcp": fast_server}


def http_app(server):
    """The ASGI app of a server, for streamable HTTP."""
    make = getattr(server, "streamable_http_app", None) or server.http_app
    return make()
