"""Serve a kit's middleware around a `Proxy` under uvicorn, with h11: one implementation of HTTP, which rejects most."""

from __future__ import annotations

import argparse
import copy
import logging
import signal
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.config import LOGGING_CONFIG

from meterkit.asgi import MeterMiddleware
from meterkit.errors import ConfigurationError
from meterkit.metering.meter import ResponseJson, StreamedValue
from meterkit.proxy.app import Proxy
from meterkit.proxy.failures import BrokenResponseError
from meterkit.proxy.options import Options
from meterkit.proxy.relay import Receive, Send

if TYPE_CHECKING:
    from meterkit.kit import MeterKit


def app(kit: MeterKit, options: Options) -> Any:
    """
    Return the ASGI app that meters what passes.

    Raises:
        ConfigurationError: An option is wrong, the kit has no ``identify=``, or a meter has a ``route=``.
    """
    if not kit.recorder.identity.is_set:
        raise ConfigurationError(
            "no view behind a proxy can say who pays: give the kit an identify= that reads the request, such as "
            "identify=lambda exchange: API_KEYS.get(exchange.headers.get('x-api-key'))"
        )
    by_route = [meter for meter in kit.meters.values() if meter.route is not None]
    if by_route:
        raise ConfigurationError(
            f"{by_route[0]}: a proxy does not know the app's routes, so route={by_route[0].route!r} would match "
            "nothing; use path=, in which * stands for any characters"
        )
    arguments = dict(options.arguments)
    if any(isinstance(meter.value, ResponseJson | StreamedValue) for meter in kit.meters.values()):
        arguments["uncompressed"] = True
    proxy = Proxy(options.upstream, **arguments)
    metered = MeterMiddleware(proxy, kit)
    return metered if options.ready_path is None else Ready(metered, proxy, options.ready_path)


class Ready:
    """
    Answers whether the app can be reached, before anything is metered.

    Args:
        app: App that serves everything else.
        proxy: Proxy that knows where the app is.
        path: Path that is answered.
    """

    def __init__(self, app: Any, proxy: Proxy, path: str) -> None:
        if not path.startswith("/"):
            raise ConfigurationError(f"--ready-path must begin with a slash, not {path!r:.100}")
        self._app = app
        self._proxy = proxy
        self._path = path

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http" or scope["path"] != self._path or scope["method"] not in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        reached = await self._proxy.reaches_app()
        body = b"ready\n" if reached else b"the app cannot be reached\n"
        headers = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": 200 if reached else 503, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def serve(served: Any, arguments: argparse.Namespace) -> None:
    """
    Serve until SIGTERM or SIGINT.

    Args:
        served: The app; with several workers, the import path of a function that makes it.
        arguments: Arguments of the command.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # until uvicorn has its own
    try:
        uvicorn.run(
            served,
            factory=isinstance(served, str),
            host=arguments.host,
            port=arguments.port,
            uds=arguments.uds,
            fd=arguments.fd,
            workers=arguments.workers,
            http="h11",
            ws="websockets-sansio",
            lifespan="on",
            proxy_headers=False,  # the proxy itself decides whom it believes
            server_header=False,  # the app's own headers pass
            date_header=False,
            access_log=arguments.access_log,
            timeout_graceful_shutdown=arguments.drain_timeout,
            log_config=_logging(),
        )
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # uvicorn repeats it when all is done, which would be a failure


class Terse(logging.Filter):
    """Leaves out the traceback of responses that the app broke off: the proxy has said which, once a minute."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether *record* is shown."""
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        return not isinstance(error, BrokenResponseError)


def _logging() -> dict[str, Any]:
    """Return uvicorn's logging, with meterkit's own records, and all of it on standard error."""
    config = copy.deepcopy(LOGGING_CONFIG)
    config["filters"] = {"terse": {"()": Terse}}
    config["handlers"]["default"]["filters"] = ["terse"]
    config["handlers"]["access"]["stream"] = "ext://sys.stderr"
    config["loggers"]["meterkit"] = {"handlers": ["default"], "level": "INFO", "propagate": False}
    return config
