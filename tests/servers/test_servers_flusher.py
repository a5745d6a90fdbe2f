"""
Real servers whose first worker starts a process that flushes: clients are billed for what they received.

Whatever is killed: that process, its worker, or all. Nothing of it is left when the server has ended. It is what a kit
does that says nothing; a few have a thread of a worker instead.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from guard import tries
from served_billing import Billing
from served_server import GUNICORN, HYPERCORN, UVICORN, UWSGI, Server
from thorough import first, some

from meterkit.flusher.lock import FlusherLock

pytestmark = pytest.mark.long

REQUESTS = 24

SERVE = """
import socket, sys, served_app, waitress
waitress.serve(served_app.wsgi, sockets=[socket.socket(fileno=int(sys.argv[1]))])
"""
WAITRESS = [sys.executable, "-c", SERVE, "{fd}"]

SERVERS = {
    "gunicorn sync": [*GUNICORN, "--workers", "2", "--worker-class", "sync"],
    "gunicorn gthread": [*GUNICORN, "--workers", "2", "--worker-class", "gthread", "--threads", "2"],
    "gunicorn gevent": [*GUNICORN, "--workers", "2", "--worker-class", "gevent"],
    "gunicorn preload": [*GUNICORN, "--workers", "2", "--preload"],
    "uvicorn": [*UVICORN, "--workers", "2"],
    "uwsgi": [*UWSGI, "--processes", "2", "--enable-threads", "--lazy-apps"],
    "uwsgi prefork": [*UWSGI, "--processes", "2", "--enable-threads"],
    "hypercorn": [*HYPERCORN, "--workers", "2"],
    "waitress": WAITRESS,
}

RESTART_WORKERS = [name for name in SERVERS if name.startswith(("gunicorn", "uvicorn", "uwsgi"))]
"""Those that start another worker when one is killed."""


@pytest.fixture
def billing(tmp_path):
    with Billing(tmp_path) as billing:
        yield billing


@pytest.fixture
def serve(billing, tmp_path):
    """A function that starts a server by its name. A master that loads the app may count: then it has the child."""

    def serve(name, *, master_counts=False, **environment):
        if name == "waitress":
            pytest.importorskip("waitress")
        early = {"SERVED_AT_IMPORT": billing.early} if master_counts and "pre" in name else {}
        environment = {**early, **environment}
        return Server(SERVERS[name], billing, tmp_path, **environment)

    return serve


def flusher_of(server, billing, *, but=(), is_worker=False):
    """The process that holds the lock, once one does that is none of those to ignore, and that is ready."""
    lock = FlusherLock(billing.data_dir)
    for _ in tries(lambda: server.log):
        server.ask()
        found = re.match(r"process (\d+)", lock.holder() or "")
        pid = int(found[1]) if found else None
        if pid is None or pid in but or not billing.ledger.exists():
            continue
        if (b"--lock" not in command_line(pid)) == is_worker:
            return pid
    raise AssertionError


def command_line(pid):
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def parent_of(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def files_of(pid):
    """What the open descriptors of a process are: sockets, pipes and files, by their numbers."""
    found = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found.add(str(descriptor.readlink()))
    return found


def zombies_of(pids):
    """Children of these processes that have ended, and nobody has waited for."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            state, parent = status.read_text().rpartition(")")[2].split()[:2]
            if state == "Z" and int(parent) in pids:
                found.append(status.parent.name)
    return found


def is_gone(pid):
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


def wait_for_end(pid):
    """Until it has ended: its files are closed a moment before."""
    for _ in tries():
        if is_gone(pid):
            return


USUAL = ["gunicorn sync", "uvicorn"]

KINDS = [*USUAL[:1], "uvicorn", "uwsgi prefork"]
"""One of each kind: nox -s reliability tries all."""

GUNICORNS = [each for each in SERVERS if "gunicorn" in each]

RELOADED = ["gunicorn gthread", "gunicorn preload"]


@pytest.mark.parametrize("name", first(USUAL, among=SERVERS))
def test_a_stop_loses_and_doubles_nothing(name, serve, billing):
    """The process has none of the server's sockets and files, and ends with it."""
    with serve(name, master_counts=True) as server:
        server.load_until_all_work(1 if name == "waitress" else 2)
        flusher = flusher_of(server, billing)
        shared = files_of(flusher) & files_of(parent_of(flusher))
        server.ask_times(REQUESTS)
        server.stop(figure=f"{name} with a flusher's process")

        assert [] == [each for each in shared if each.startswith("socket:") or each.endswith(".journal")]
        wait_for_end(flusher)
        assert server.sent == server.complete == billing.settle()
        assert ("pre" in name) == billing.billed(billing.early)  # by the import of the process that forks


@pytest.mark.parametrize("name", first(USUAL[:1], among=some(KINDS, among=SERVERS)))
def test_a_flusher_that_is_killed_is_started_again(name, serve, billing):
    """In mid-traffic, twice; nothing is lost or doubled, and no zombie stays."""
    killed = []
    with serve(name) as server:
        with server.load():
            for _ in range(2):
                flusher = flusher_of(server, billing, but=killed)
                killed.append(flusher)
                os.kill(flusher, signal.SIGKILL)
            workers = {parent_of(flusher_of(server, billing, but=killed))}
        assert [] == zombies_of(workers)
        server.ask_times(REQUESTS)
        server.stop(figure=f"{name} after kills of the flusher")

    assert server.sent == server.complete == billing.settle()


@pytest.mark.parametrize("name", first(USUAL[:1], among=some(KINDS, among=RESTART_WORKERS)))
def test_a_flusher_ends_with_its_worker_and_another_follows(name, serve, billing):
    """A worker is killed in mid-traffic: its child ends, and that of the next one goes on."""
    with serve(name) as server:
        with server.load():
            flusher = flusher_of(server, billing)
            os.kill(parent_of(flusher), signal.SIGKILL)
            wait_for_end(flusher)
            assert flusher != flusher_of(server, billing, but=[flusher])
        server.ask_times(REQUESTS)
        server.stop(figure=f"{name} after a kill of the flusher's worker")

    assert server.complete <= billing.settle() <= server.sent


@pytest.mark.parametrize("name", first(["gunicorn gthread"], among=some(RELOADED, among=GUNICORNS)))
def test_a_reload_loses_and_doubles_nothing(name, serve, billing):
    """SIGHUP replaces the workers; the flusher of the former ones ends, and those that follow have another."""
    with serve(name) as server:
        flusher = flusher_of(server, billing)
        server.send_signal(signal.SIGHUP)
        assert flusher != flusher_of(server, billing, but=[flusher])
        wait_for_end(flusher)
        server.ask_times(REQUESTS)
        server.stop(figure=f"{name} after a reload with a flusher's process")

    assert server.complete <= billing.settle() <= server.sent


def test_ctrl_c_reaches_the_flusher_too(serve, billing, tmp_path):
    """In a terminal, it goes to all processes of the group at once; what workers count until their end is billed."""
    with serve("gunicorn gthread") as server:
        server.load_until_all_work()
        flusher = flusher_of(server, billing)
        server.ask_times(REQUESTS)
        os.killpg(os.getpgid(flusher), signal.SIGINT)
        server.wait()

        wait_for_end(flusher)
        assert server.sent == server.complete == billing.settle()


@pytest.mark.parametrize("name", first(USUAL[:1], among=some(KINDS, among=RESTART_WORKERS)))
def test_with_a_thread_a_killed_flusher_is_followed_by_another(name, serve, billing):
    """One of the workers flushes, and then the next."""
    with serve(name, METERKIT_FLUSHER="thread") as server:
        with server.load():
            flusher = flusher_of(server, billing, is_worker=True)
            os.kill(flusher, signal.SIGKILL)
            assert flusher != flusher_of(server, billing, but=[flusher], is_worker=True)
        server.ask_times(REQUESTS)
        server.stop(figure=f"{name} after a kill of the worker that flushes")

    assert server.complete <= billing.settle() <= server.sent
