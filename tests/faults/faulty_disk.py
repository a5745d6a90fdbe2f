"""Disks that are full and directories that may not be entered, made for one process from the outside."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path

if sys.platform == "linux":
    import resource

DISK_BYTES = 8 << 20
"""Room for a ledger and some generations of the journal."""

MOUNTED = 'mount -t tmpfs -o size="$1",mode=0700 none "$2" && shift 2 && exec "$@"'


def own_disk(path):
    """The command before a command that gives its process a small disk of its own at *path*; None if it cannot."""
    path.mkdir(exist_ok=True)
    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--user", "--map-root-user"]
    wrapper = [*unshare, "sh", "-c", MOUNTED, "sh", str(DISK_BYTES), str(path)]
    if sys.platform != "linux" or not shutil.which("unshare"):
        return None
    tried = subprocess.run([*wrapper, "true"], check=False, stdin=subprocess.DEVNULL, capture_output=True)
    return wrapper if tried.returncode == 0 else None


@contextmanager
def filled(directory):
    """While this lasts, the disk of *directory* is full to the last byte."""
    ballast = directory / "ballast"
    descriptor = os.open(ballast, os.O_WRONLY | os.O_CREAT)
    try:
        for size in (1 << 16, 1):
            with suppress(OSError):
                while True:
                    os.write(descriptor, bytes(size))
        yield
    finally:
        os.close(descriptor)
        ballast.unlink(missing_ok=True)  # with the process, its disk is gone


@contextmanager
def kept_small(app):
    """While this lasts, no file of the *app* grows over a size that its log stays below, and the ledger does not."""
    _, most = resource.prlimit(app.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(app.pid, resource.RLIMIT_FSIZE, (8192, most))
    try:
        yield
    finally:
        resource.prlimit(app.pid, resource.RLIMIT_FSIZE, (most, most))


def without_power():
    """
    The command before a command that lets its process obey the modes of files; None if it cannot.

    root may do everything to every file by two capabilities. To start the app as somebody else would do as well, but
    nobody else may be able to read the Python that runs the tests.
    """
    if os.geteuid() != 0:
        return []
    if sys.platform != "linux" or not shutil.which("setpriv"):
        return None
    without = "-dac_override,-dac_read_search"
    return ["setpriv", f"--inh-caps={without}", f"--bounding-set={without}"]


@contextmanager
def closed(directory, mode):
    """While this lasts, *directory* and all those in it have the *mode*."""
    directories = [directory, *(path for path in sorted(directory.rglob("*")) if path.is_dir())]
    for each in reversed(directories):
        each.chmod(mode)
    try:
        yield
    finally:
        for each in directories:
            each.chmod(0o700)


def ledger_of(data_dir):
    """The file of the ledger."""
    return Path(data_dir) / "ledger.sqlite"
