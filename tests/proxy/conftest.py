"""An app, the proxy in front of it, and a kit that meters what passes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from proxy_ends import OK, RawApp, answering, served

from meterkit.asgi import MeterMiddleware
from meterkit.proxy import Proxy


@pytest.fixture
def raw_app():
    """A function that starts a `RawApp`."""
    apps = []

    def start(answer=None, **options):
        apps.append(RawApp(answer or answering(OK), **options))
        return apps[-1]

    yield start
    for app in apps:
        app.close()


@pytest.fixture
def proxied(make_kit):
    """A function that serves the proxy of an app, metered by a kit: its ``port``, and what the kit ``counted``."""
    with_ends = []

    def start(upstream, *meters, proxy=None, **options):
        options.setdefault("identify", lambda exchange: exchange.headers.get("x-api-key"))
        kit = make_kit(*meters, **options)
        running = served(MeterMiddleware(Proxy(getattr(upstream, "url", upstream), **(proxy or {})), kit))
        with_ends.append(running)

        def counted():
            kit.flush()
            return {(row.meter, row.company): row.quantity for row in kit.usage()}

        port = running.__enter__()
        return SimpleNamespace(kit=kit, port=port, counted=counted, problems=lambda: kit.health()["problems"])

    yield start
    for each in with_ends:
        each.__exit__(None, None, None)
