"""The lock of a data_dir: one process flushes for all that share it."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import signal
import subprocess
import sys

import pytest
from guard import GUARD, tries

from meterkit.core import filesystem
from meterkit.flusher.lock import FlusherLock

HOLD = """
import sys, time
from pathlib import Path
from meterkit.flusher.lock import FlusherLock
lock = FlusherLock(Path(sys.argv[1]), ledger="one")
print(lock.try_acquire(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock."""
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout.readline() == "True\n"
        yield process
        process.kill()


def test_one_of_two_holds_it(tmp_path):
    """The other has it when the first lets go."""
    one, other = FlusherLock(tmp_path), FlusherLock(tmp_path)

    assert [True, False, True] == [one.try_acquire(), other.try_acquire(), one.try_acquire()]
    assert (True, False) == (one.held, other.held)
    one.release()
    assert (False, True) == (one.held, other.try_acquire())
    other.release()


def test_it_is_free_when_its_process_is_killed(tmp_path, holder):
    """However it ends."""
    lock = FlusherLock(tmp_path, ledger="one")
    assert not lock.try_acquire()
    assert f"process {holder.pid}" in lock.holder()

    holder.send_signal(signal.SIGKILL)
    holder.wait(GUARD)

    assert lock.holder() is None
    assert lock.try_acquire()
    lock.release()


def test_it_says_into_which_ledger_its_holder_flushes(tmp_path, holder):
    """What is handed over to one with another ledger would be counted there."""
    assert FlusherLock(tmp_path, ledger="one").is_ours
    assert FlusherLock(tmp_path, ledger="other").is_ours is False


def test_who_has_only_just_begun_has_not_said_it(tmp_path):
    """So a process asks again at its next flush."""
    (tmp_path / "flusher.lock").touch()

    assert FlusherLock(tmp_path, ledger="one").is_ours is None


def test_a_forked_child_does_not_hold_it(tmp_path):
    """Nor does it keep it from others when its parent has ended."""
    lock = FlusherLock(tmp_path)
    assert lock.try_acquire()
    reader, writer = multiprocessing.Pipe(duplex=False)

    child = os.fork()
    if not child:
        lock.abandon()
        writer.send((lock.held, lock.try_acquire(), FlusherLock(tmp_path).try_acquire()))
        signal.pause()
    try:
        assert (False, False, False) == reader.recv()
        lock.release()
        assert FlusherLock(tmp_path).try_acquire()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_child_that_abandons_it_does_not_take_it_from_its_parent(tmp_path):
    """The lock belongs to the open file, which both have."""
    lock = FlusherLock(tmp_path)
    assert lock.try_acquire()

    child = os.fork()
    if not child:
        lock.abandon()
        os._exit(0)
    os.waitpid(child, 0)

    assert not FlusherLock(tmp_path).try_acquire()
    lock.release()


def test_a_deleted_file_is_made_again(tmp_path):
    """By the next who tries, who then holds it; the former holder learns of it when it tries."""
    former, other = FlusherLock(tmp_path), FlusherLock(tmp_path)
    assert former.try_acquire()
    (tmp_path / "flusher.lock").unlink()

    assert other.try_acquire()
    assert not former.try_acquire()
    assert not former.held
    other.release()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOTSUP, errno.EINVAL])
def test_without_locks_each_process_flushes(tmp_path, monkeypatch, code):
    """As if there were no others."""

    def flock(*_):
        raise OSError(code, "no locks here")

    monkeypatch.setattr(fcntl, "flock", flock)
    one, other = FlusherLock(tmp_path), FlusherLock(tmp_path)

    assert one.try_acquire()
    assert other.try_acquire()
    assert (True, False) == (one.held, one.works)


def test_on_a_network_file_system_each_process_flushes(tmp_path, monkeypatch):
    """Locks may be there, and work on one host only."""
    monkeypatch.setattr(filesystem, "NETWORK", {filesystem.file_system_type(tmp_path)})

    assert FlusherLock(tmp_path).try_acquire()
    assert FlusherLock(tmp_path).try_acquire()


def test_a_directory_that_cannot_be_made(tmp_path):
    """It is the journal that says so."""
    (tmp_path / "file").touch()

    assert FlusherLock(tmp_path / "file" / "meterkit").try_acquire()


def test_a_link_is_not_followed(tmp_path):
    """It would be written into, wherever it leads."""
    (tmp_path / "precious").write_text("gold")
    (tmp_path / "flusher.lock").symlink_to(tmp_path / "precious")

    assert FlusherLock(tmp_path).try_acquire()
    assert (tmp_path / "precious").read_text() == "gold"


def test_only_its_user_can_read_it(tmp_path):
    """Like everything in there."""
    lock = FlusherLock(tmp_path / "meterkit")
    assert lock.try_acquire()

    assert (tmp_path / "meterkit" / "flusher.lock").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "meterkit").stat().st_mode & 0o777 == 0o700
    lock.release()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_what_root_makes_is_the_users_of_the_directory(tmp_path):
    """A command that runs as root does not keep the app from the lock."""
    os.chown(tmp_path, 1234, 1234)
    lock = FlusherLock(tmp_path)
    assert lock.try_acquire()

    assert 1234 == (tmp_path / "flusher.lock").stat().st_uid
    lock.release()


def test_the_holder_is_asked(tmp_path):
    """By any other process, once for each time."""
    lock, other = FlusherLock(tmp_path), FlusherLock(tmp_path)
    assert lock.try_acquire()
    assert not lock.was_asked()

    other.ask()
    assert next(True for _ in tries() if lock.was_asked())
    assert not lock.was_asked()
    lock.release()


def test_whom_nobody_can_ask(tmp_path):
    """Where there is no file, nothing happens."""
    FlusherLock(tmp_path / "nowhere").ask()

    assert not FlusherLock(tmp_path).was_asked()
