"""
The app that real servers serve for `benchmarks.served`: ``BENCHMARK_VARIANT`` around Starlette or Flask.

``GET /worker`` returns the resident memory of the worker, in bytes, and which heavy modules it has imported.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from benchmarks.budgets import resident
from benchmarks.served_kit import wrap
from benchmarks.stacks import BODY, PATH

PIECES = 5
PAUSE_SECONDS = 0.02
"""Between the pieces of a streamed response."""

HEAVY = {"sqlalchemy", "sqlite3", "psycopg", "stripe", "httpx"}


def worker() -> bytes:
    """What `/worker` answers."""
    return json.dumps({"resident": resident(), "heavy": sorted(HEAVY & sys.modules.keys())}).encode()


def make_asgi() -> Any:
    """Starlette."""
    import asyncio

    from starlette.applications import Starlette
    from starlette.responses import Response, StreamingResponse
    from starlette.routing import Route

    async def score(_request: Any) -> Response:
        return Response(BODY, media_type="application/json")

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(PIECES):
            yield b"x" * 100
            await asyncio.sleep(PAUSE_SECONDS)

    async def stream(_request: Any) -> Response:
        return StreamingResponse(pieces())

    async def itself(_request: Any) -> Response:
        return Response(worker(), media_type="application/json")

    app = Starlette(
        routes=[Route(PATH, score, methods=["POST"]), Route("/stream", stream), Route("/worker", itself)],
    )
    assert wrap.asgi is not None
    return wrap.asgi(app)


def make_wsgi() -> Any:
    """Flask."""
    from flask import Flask, Response

    app = Flask("benchmarked")

    @app.post(PATH)
    def score() -> Response:
        return Response(BODY, content_type="application/json")

    @app.get("/stream")
    def stream() -> Response:
        def pieces() -> Iterator[bytes]:
            for _ in range(PIECES):
                yield b"x" * 100
                time.sleep(PAUSE_SECONDS)

        return Response(pieces())

    @app.get("/worker")
    def itself() -> Response:
        return Response(worker(), content_type="application/json")

    if wrap.flask is not None:
        wrap.flask(app)
    elif wrap.wsgi is not None:
        app.wsgi_app = wrap.wsgi(app.wsgi_app)  # type: ignore[method-assign]
    return app
