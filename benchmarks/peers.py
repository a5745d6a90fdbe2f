"""
Third-party packages, set up as their documentation says. Those that are not installed are left out.

They send what they collect to a sink on the loopback interface, which responds at once.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from benchmarks.stacks import App, Wrap

_sinks: list[subprocess.Popen[str]] = []
"""Each ends with this process, when its standard input is closed."""


def opentelemetry() -> Wrap:
    """The HTTP server metrics of OpenTelemetry, without traces; kept in memory, as with a reader that is asked."""
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware as ASGIMiddleware
    from opentelemetry.instrumentation.flask import FlaskInstrumentor
    from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware as WSGIMiddleware
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    provider = MeterProvider([InMemoryMetricReader()])
    return Wrap(
        wsgi=lambda app: WSGIMiddleware(app, meter_provider=provider),
        asgi=lambda app: ASGIMiddleware(app, meter_provider=provider),
        flask=lambda app: FlaskInstrumentor().instrument_app(app, meter_provider=provider),
    )


def moesif() -> Wrap:
    """Moesif: each request and response, with its body, to a queue and from there to its service."""
    import moesifasgi
    import moesifwsgi

    settings = {"APPLICATION_ID": "benchmark", "BASE_URI": _sink(), "LOG_BODY": True}

    def wsgi(app: App) -> App:
        return moesifwsgi.MoesifMiddleware(app, dict(settings))

    def asgi(app: App) -> App:
        return moesifasgi.MoesifMiddleware(app, settings=dict(settings))

    return Wrap(wsgi=wsgi, asgi=asgi)


def apitally() -> Wrap:
    """Apitally: traces and metrics of each request by way of OpenTelemetry, to files and from there to its service."""
    import apitally.fastapi
    import apitally.flask
    import apitally.starlette

    settings: dict[str, Any] = {"write_token": "apt_" + 24 * "0", "env": "benchmark", "otlp_endpoint": _sink()}
    return Wrap(
        flask=lambda app: apitally.flask.init(app, **settings),
        starlette=lambda app: apitally.starlette.init(app, **settings),
        fastapi=lambda app: apitally.fastapi.init(app, **settings),
    )


def _sink() -> str:
    command = [sys.executable, "-m", "benchmarks.instant_stripe"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    _sinks.append(process)
    assert process.stdout is not None
    return f"http://127.0.0.1:{process.stdout.readline().strip()}"


PEERS: dict[str, Any] = {"OpenTelemetry metrics": opentelemetry, "Moesif": moesif, "Apitally": apitally}
