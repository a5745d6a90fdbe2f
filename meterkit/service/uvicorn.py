"""Run the service under uvicorn, in one process or several: ``meterkit serve``."""

from __future__ import annotations

import argparse
import copy
import inspect
import logging
import os
import pickle
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meterkit.core.problems import log_event
from meterkit.errors import ConfigurationError
from meterkit.flusher import role
from meterkit.service.app import MAX_BODY, Service
from meterkit.service.keys import VARIABLE, environment_keys, is_loopback

if TYPE_CHECKING:
    from meterkit.kit import MeterKit

HOST, PORT = "127.0.0.1", 8350

BACKLOG = 2048
"""Connections that wait to be accepted, as uvicorn's own default."""

IDLE_SECONDS = 75
"""How long a connection is kept open: longer than gateways keep theirs, so that none sends into one that closes."""

STOP_SECONDS = 10
"""How long an exit waits for requests that are underway."""

HANGING_SECONDS = 60
"""How long a worker may not answer before another takes its place: a machine that is busy starts one slowly."""

SOCKET_MODE = 0o660
"""Permissions of a Unix socket: whoever may write to it needs no key if there are no keys."""

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of ``meterkit serve``."""
    command.add_argument("--host", default=HOST, metavar="ADDRESS", help=f"address to listen at (default: {HOST})")
    command.add_argument(
        "--port", type=_port, default=PORT, metavar="N", help=f"port, 0 for any free one (default: {PORT})"
    )
    command.add_argument("--uds", metavar="PATH", help="listen at this Unix socket instead")
    command.add_argument("--workers", type=_workers, default=1, metavar="N", help="processes (default: 1)")
    command.add_argument(
        "--keys",
        metavar="FILE",
        help=f"JSON file with the keys of the sources (default: {VARIABLE}, which is the JSON)",
    )
    command.add_argument(
        "--company-header",
        metavar="NAME",
        help="header in which the gateway names the company to /v1/check (default: the kit's identify= is asked)",
    )
    command.add_argument(
        "--max-body",
        type=int,
        default=MAX_BODY,
        metavar="BYTES",
        help=f"most bytes of a request body (default: {MAX_BODY:,})",
    )


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text[:6]) > 65_535:
        raise argparse.ArgumentTypeError(f"must be 0 to 65535, not {text!r:.40}")
    return int(text)


def _workers(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text[:6]) <= MOST_WORKERS:
        raise argparse.ArgumentTypeError(f"must be 1 to {MOST_WORKERS}, not {text!r:.40}")
    return int(text)


MOST_WORKERS = 1000


@dataclass(frozen=True)
class ServiceFactory:
    """
    Builds the service in each worker.

    Attributes:
        load: Function that imports the kit.
        keys: File with the keys; None for those in the environment.
        company_header: See `Service`.
        max_body: See `Service`.
    """

    load: Callable[[], MeterKit]
    keys: str | None
    company_header: str | None
    max_body: int

    def __call__(self) -> Service:
        """Return the service."""
        keys = environment_keys(self.keys)
        kit = self.load()
        return Service(kit, keys=keys, local=not keys, company_header=self.company_header, max_body=self.max_body)


def serve(load: Callable[[], MeterKit], arguments: argparse.Namespace) -> None:
    """
    Serve until SIGTERM or SIGINT.

    Args:
        load: Function that imports the kit; to be pickled if there are several workers.
        arguments: Parsed options of `add_arguments`.

    Raises:
        ConfigurationError: The service cannot be started so; the message says how to correct it.
    """
    try:
        import uvicorn
        from uvicorn.supervisors import Multiprocess
    except ImportError:
        raise ConfigurationError("the service runs under uvicorn: pip install 'meterkit[serve]'") from None
    role.is_command = False  # it counts as a server does, and its usage is flushed
    factory = ServiceFactory(load, arguments.keys, arguments.company_header, arguments.max_body)
    app = factory()  # also for workers, which would be started again and again if it cannot be built
    if arguments.workers > 1:
        _check_picklable(factory)
    if not environment_keys(arguments.keys) and arguments.uds is None and not is_loopback(arguments.host):
        raise ConfigurationError(
            f"without keys, everybody who reaches {arguments.host} could send usage: name a file with --keys or set "
            f"{VARIABLE}; or listen at 127.0.0.1 or --uds"
        )
    with _listening(arguments) as (listener, address):
        since_037: dict[str, Any] = {"timeout_worker_healthcheck": HANGING_SECONDS}
        if not inspect.signature(uvicorn.Config).parameters.keys() >= since_037.keys():
            since_037 = {}
        config = uvicorn.Config(
            app if arguments.workers == 1 else factory,
            factory=arguments.workers > 1,
            workers=arguments.workers,
            lifespan="on",
            ws="none",
            proxy_headers=False,  # the address of the gateway counts, and not what it says
            server_header=False,
            access_log=False,
            backlog=BACKLOG,
            timeout_keep_alive=IDLE_SECONDS,
            timeout_graceful_shutdown=STOP_SECONDS,
            log_config=_log_config(),
            **since_037,
        )
        log_event("service_listens", f"listens at {address}", level=logging.INFO)
        # uvicorn raises them once more when it has stopped; this process then ends in any case.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        server = uvicorn.Server(config)
        if arguments.workers == 1:
            server.run(sockets=[listener])
        else:
            supervisor: Any = Multiprocess
            of_old = {"target": server.run} if "target" in inspect.signature(supervisor).parameters else {}
            supervisor(config, sockets=[listener], **of_old).run()
    log_event("service_stopped", "stopped after the requests that were underway", level=logging.INFO)


def _check_picklable(factory: ServiceFactory) -> None:
    try:
        pickle.dumps(factory)
    except Exception:  # pickle raises whatever an object does
        raise ConfigurationError(
            "the workers cannot import this project's kit by themselves: name it, as in meterkit serve billing:kit "
            "--workers 4; or leave out --workers"
        ) from None


def _log_config() -> dict[str, Any]:
    """Return uvicorn's configuration of logging, and meterkit's records from INFO on if the app shows none."""
    from uvicorn.config import LOGGING_CONFIG

    config = copy.deepcopy(LOGGING_CONFIG)
    logger = logging.getLogger("meterkit")
    if not logger.hasHandlers():
        config["formatters"]["meterkit"] = {"format": LOG_FORMAT}
        config["handlers"]["meterkit"] = {
            "class": "logging.StreamHandler",
            "formatter": "meterkit",
            "stream": "ext://sys.stderr",
        }
        config["loggers"]["meterkit"] = {"handlers": ["meterkit"], "level": "INFO"}
    return config


@contextmanager
def _listening(arguments: argparse.Namespace) -> Iterator[tuple[socket.socket, str]]:
    """Yield a socket that listens, and its address as people write it."""
    if arguments.uds is not None:
        with _at_path(arguments.uds) as listener:
            yield listener, f"unix:{arguments.uds}"
        return
    family = socket.AF_INET6 if ":" in arguments.host else socket.AF_INET
    # asyncio has connections send at once (TCP_NODELAY) only if the protocol is named; otherwise a gateway waits 40 ms.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((arguments.host, arguments.port))
            listener.listen(BACKLOG)
        except (OSError, OverflowError) as error:
            raise ConfigurationError(
                f"{arguments.host}:{arguments.port} is not available ({error}); choose another with --host and --port"
            ) from None
        host = f"[{arguments.host}]" if family == socket.AF_INET6 else arguments.host
        yield listener, f"http://{host}:{listener.getsockname()[1]}"


@contextmanager
def _at_path(path: str) -> Iterator[socket.socket]:
    """Yield a Unix socket that listens at *path*; one that a process that is gone has left there is removed."""
    with socket.socket(socket.AF_UNIX) as listener:
        try:
            _remove_left(path)
            before = os.umask(0o777 & ~SOCKET_MODE)
            try:
                listener.bind(path)
            finally:
                os.umask(before)
            listener.listen(BACKLOG)
        except OSError as error:
            raise ConfigurationError(f"{path} is not available ({error}); choose another with --uds") from None
        try:
            yield listener
        finally:
            with suppress(OSError):
                Path(path).unlink()


def _remove_left(path: str) -> None:
    with suppress(FileNotFoundError):
        if not Path(path).is_socket():
            return  # bind says that it is in use
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                Path(path).unlink()
