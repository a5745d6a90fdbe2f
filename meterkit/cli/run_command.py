"""
The commands that run until they are told to stop.

`run` flushes, reports, follows and notifies for all processes of this host that share the kit's directory; `serve` is
the service over HTTP; `tail` counts access logs; `proxy` passes requests on to an app and meters them.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import time
from contextlib import closing
from functools import partial
from types import FrameType
from typing import Any

from meterkit.access_logs import command as access_logs
from meterkit.cli.arguments import Commands, add_command, add_kit
from meterkit.cli.kit_loader import CommandError, load_kit
from meterkit.cli.output import say
from meterkit.core.filesystem import make_private_directory, network_type
from meterkit.core.problems import log_event
from meterkit.errors import LedgerError, MeterKitError
from meterkit.flusher import role
from meterkit.flusher.importable import names_of
from meterkit.flusher.launch import difference, identity
from meterkit.flusher.parent import Parent, running
from meterkit.flusher.role import importing_for_flusher
from meterkit.project_settings import settings_of_app
from meterkit.proxy import options
from meterkit.runtime.process import ProcessRuntime
from meterkit.runtime.settings import Settings
from meterkit.service import uvicorn

POLL_SECONDS = 0.1
"""How often a process that waits for the lock tries to take it."""

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def add_parsers(commands: Commands) -> None:
    """Add the commands of this module."""
    command = add_command(
        commands, "run", run, "flush and report the usage of all processes of this host until SIGTERM or Ctrl-C"
    )
    add_kit(command)
    command.add_argument("--lock", type=int, help=argparse.SUPPRESS)  # of a worker, which starts this process
    command = add_command(commands, "serve", serve, "take usage events and answer gateways over HTTP until SIGTERM")
    add_kit(command)
    uvicorn.add_arguments(command)
    command = add_command(commands, "tail", tail, "count the access logs of a gateway until SIGTERM or Ctrl-C")
    add_kit(command)
    access_logs.add_arguments(command)

    command = add_command(
        commands, "proxy", proxy, "meter and govern an app that cannot be changed, as a reverse proxy"
    )
    add_kit(command)
    options.add_arguments(command)


def run(arguments: argparse.Namespace) -> bool:
    """Flush and report until SIGTERM or SIGINT; as a worker's child, until the worker ends."""
    role.is_command = True  # for `manage.py`, which has a main program of its own
    if arguments.lock is not None:
        return _run_for_worker(arguments)
    with importing_for_flusher():
        kit = load_kit(arguments.kit)
    _log_to_stderr()
    with closing(kit):
        runtime = kit.process()
        _stop_at_signals(runtime)
        _check_directory(runtime.settings)
        is_well = not _acquired(runtime) or runtime.flush_for_all(ready=lambda: _say_ready(runtime.settings))
    said = "stopped after a last flush" if is_well else "stopped, and the last flush failed: see above"
    log_event("flusher_stopped", said, level=logging.INFO if is_well else logging.ERROR)
    return is_well


def serve(arguments: argparse.Namespace) -> bool:
    """Serve until SIGTERM or SIGINT."""
    uvicorn.serve(partial(load_kit, arguments.kit), arguments)
    return True


def tail(arguments: argparse.Namespace) -> bool:
    """Count access logs until SIGTERM or SIGINT, or to their end."""
    _log_to_stderr()
    return access_logs.tail(partial(load_kit, arguments.kit), arguments, say)


def proxy(arguments: argparse.Namespace) -> bool:
    """Pass requests on to an app and meter them, until SIGTERM or SIGINT."""
    role.is_command = False  # what is counted is flushed, as in any server
    try:
        from meterkit.proxy import uvicorn as server
    except ImportError as error:
        raise CommandError(f"the proxy needs {error.name}: pip install 'meterkit[proxy]'") from None
    kit = load_kit(arguments.kit)
    given = options.Options.of(arguments)
    served = server.app(kit, given)
    if arguments.workers < 1:
        raise CommandError(f"--workers must be a positive number, not {arguments.workers}")
    if arguments.workers == 1:
        server.serve(served, arguments)
        return True
    if not isinstance(arguments.kit, str):
        raise CommandError(
            "workers import the kit by its path: run meterkit proxy module:kit, with DJANGO_SETTINGS_MODULE set in a "
            "Django project"
        )
    given.hand_over()
    server.serve(f"{__name__}:proxy_app", arguments)
    return True


def proxy_app() -> Any:
    """Return what a worker of the proxy serves."""
    from meterkit.proxy import uvicorn as server

    given = options.Options.of_worker()
    return server.app(load_kit(given.kit), given)


def _run_for_worker(arguments: argparse.Namespace) -> bool:
    role.is_child = True
    parent = Parent()
    try:
        launch = parent.read()
        parent.watch()
        before = running()  # a tracer has started them, which is in each process of the application
        with settings_of_app(launch.settings), importing_for_flusher():
            kit = load_kit(arguments.kit, search_here=False)
        runtime = kit.process()
        differs = difference(launch.identity, identity(runtime.settings, names=names_of(kit)))
        if differs is not None:
            raise CommandError(
                f"{arguments.kit}, imported anew, has another {differs}= than in the process that serves. Build it the "
                "same in both, or start meterkit run beside the server"
            )
        started = running() - before if launch.is_default else set()
        if started:
            names = ", ".join(sorted(each.name for each in started))
            raise CommandError(
                f"importing {arguments.kit} starts threads or processes ({names}), which would run twice. "
                "Build the kit in a module of its own; or set flusher='process' if they may run twice"
            )
        parent.tell(imported=True)
    except EOFError:
        return True  # the worker has ended already, and leaves its usage to the next
    except MeterKitError as error:
        parent.tell(error=str(error))
        raise
    with closing(kit):
        if not runtime.lock.adopt(arguments.lock):
            raise LedgerError("the lock of the worker that started this process is another's by now")
        parent.when_it_ends(runtime.end)
        return runtime.flush_for_all(ready=lambda: parent.tell(ready=True))


def _acquired(runtime: ProcessRuntime) -> bool:
    """Wait for the lock; return False if this process is told to end before."""
    lock, settings, said = runtime.lock, runtime.settings, False
    while not lock.try_acquire():
        if not said:
            holder = lock.holder() or "another process"
            message = f"{holder} flushes {settings.data_dir}; this process takes over when that one ends"
            log_event("flusher_waits", message, level=logging.INFO)
            said = True
        if runtime.wait_for_end(POLL_SECONDS):
            return False
    if not lock.works:
        raise CommandError(
            f"no lock can be taken in {settings.data_dir}, so nothing tells that only one process flushes: use a "
            "data_dir on a local disk of this host, to which this user can write"
        )
    return True


def _check_directory(settings: Settings) -> None:
    """
    Check that usage can be counted in the directory, and that this process can remove it from there.

    Raises:
        CommandError: It cannot.
    """
    directory = settings.data_dir
    network = network_type(directory)
    if network is not None:
        raise CommandError(
            f"{directory} is on a network file system ({network}), on which locks and shared memory do not work: use a "
            "data_dir on a local disk of this host"
        )
    try:
        for each in (directory, directory / "journal"):
            make_private_directory(each)
            probe = each / f".{time.time_ns()}.writable"
            probe.touch(exist_ok=False)
            probe.unlink()
    except OSError as error:
        cure = f"run the command as the user of the app, or give this user rights to {directory}"
        raise CommandError(f"{directory} cannot be written ({error.strerror or error}): {cure}") from None


def _stop_at_signals(runtime: ProcessRuntime) -> None:
    def handle(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)  # a second one ends the process at once
        runtime.end()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _log_to_stderr() -> None:
    """Show log records from INFO on, unless the application has configured logging."""
    logger = logging.getLogger("meterkit")
    if logger.hasHandlers():
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(LOG_FORMAT))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


def _say_ready(settings: Settings) -> None:
    message = f"flushes {settings.data_dir} every {settings.flush_interval:g} seconds"
    log_event("flusher_ready", message, level=logging.INFO)
