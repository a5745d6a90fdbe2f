"""
The variants that are put around an app: nothing, a hand-written counter, a Prometheus counter, meterkit, and peers.

Each variant runs in a process of its own. The peers are in `benchmarks.peers`.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable
from typing import Any

from benchmarks.peers import PEERS
from benchmarks.stacks import PATH, App, Wrap


def bare() -> Wrap:
    """Nothing."""
    return Wrap(wsgi=lambda app: app, asgi=lambda app: app, flask=lambda _: None, django="")


def passing() -> Wrap:
    """A middleware that does nothing: the minimum that any middleware costs."""

    def wsgi(app: App) -> App:
        return lambda environ, start_response: app(environ, start_response)  # noqa: PLW0108 - a middleware that does nothing

    def asgi(app: App) -> App:
        async def passed(scope: Any, receive: Any, send: Any) -> None:
            await app(scope, receive, send)

        return passed

    return Wrap(wsgi=wsgi, asgi=asgi, django="benchmarks.django_middleware.Passing")


def around(count: Callable[[str, str, int], None]) -> Wrap:
    """Hand-written glue: company, path and status of each response."""

    def wsgi(app: App) -> App:
        def counted(environ: Any, start_response: Any) -> Any:
            def started(status: str, headers: Any, exc_info: Any = None) -> Any:
                count(environ.get("HTTP_X_COMPANY", ""), environ["PATH_INFO"], int(status[:3]))
                return start_response(status, headers, exc_info)

            return app(environ, started)

        return counted

    def asgi(app: App) -> App:
        async def counted(scope: Any, receive: Any, send: Any) -> None:
            async def sent(message: Any) -> None:
                if message["type"] == "http.response.start":
                    company = next((value.decode() for name, value in scope["headers"] if name == b"x-company"), "")
                    count(company, scope["path"], message["status"])
                await send(message)

            await app(scope, receive, sent)

        return counted

    return Wrap(wsgi=wsgi, asgi=asgi, django="benchmarks.django_middleware.Recorder", count=count)


def counter() -> Wrap:
    """A dict and a lock: not durable, no rules."""
    lock = threading.Lock()
    counts: dict[tuple[str, str, int], int] = {}

    def count(company: str, path: str, status: int) -> None:
        key = (company, path, status)
        with lock:
            counts[key] = counts.get(key, 0) + 1

    return around(count)


def prometheus() -> Wrap:
    """One labelled counter of prometheus_client."""
    from prometheus_client import CollectorRegistry, Counter

    calls = Counter("calls", "Requests", ["company", "path", "status"], registry=CollectorRegistry())

    def count(company: str, path: str, status: int) -> None:
        calls.labels(company, path, str(status)).inc()

    return around(count)


def meterkit(meters: int = 1, *, governed: bool = False) -> Wrap:
    """
    The middleware as it is installed. If there are several meters, one matches, as for most endpoints.

    What it imports is what one stack needs: a worker's memory is measured.
    """
    from meterkit import Governance, Meter, MeterKit, Quota

    calls = Meter("credit_score", path=PATH, method="POST", status=200)
    others = [Meter(f"other_{number}", path=f"/other/{number}/*", method="POST") for number in range(1, meters)]
    kit = MeterKit(
        meters=[calls, *others],
        identify=lambda exchange: exchange.headers.get("x-company"),
        governance=Governance(overdue_days=7, quotas=[Quota(calls, 10**12)]) if governed else None,
        data_dir=os.environ.get("METERKIT_DATA_DIR") or tempfile.mkdtemp(prefix="meterkit-benchmark-"),
    )

    def wsgi(app: App) -> App:
        from meterkit.wsgi import MeterMiddleware

        return MeterMiddleware(app, kit)

    def asgi(app: App) -> App:
        from meterkit.asgi import MeterMiddleware

        return MeterMiddleware(app, kit)

    def install(app: App) -> None:
        from meterkit.flask import init_app

        init_app(app, kit)

    return Wrap(wsgi=wsgi, asgi=asgi, flask=install, django="meterkit.django.MeterMiddleware", kit=kit)


VARIANTS: dict[str, Callable[[], Wrap]] = {
    "bare": bare,
    "bare again": bare,
    "pass-through": passing,
    "counter by hand": counter,
    "prometheus_client": prometheus,
    "meterkit": meterkit,
    "meterkit, 10 meters": lambda: meterkit(10),
    "meterkit, 100 meters": lambda: meterkit(100),
    "meterkit, governance": lambda: meterkit(governed=True),
    **PEERS,
}
