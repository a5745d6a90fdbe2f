"""Across forks, each process counts its own, once, and nothing is lost."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import traceback

import pytest
from plain_exchange import counted

pytestmark = [
    pytest.mark.long,
    # The very thing under test: a server that forks while a thread of ours runs.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks on this system"),
]


def in_child(work):
    """Do *work* in a forked child that ends as a killed worker does: without exit hooks."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return child


def ended(child):
    """Wait for *child* and see that all went well in it."""
    _, status = os.waitpid(child, 0)
    assert 0 == status


def test_parent_and_child(kit):
    """What the parent had counted is the parent's, what the child counts is the child's."""
    kit.record("calls", "acme", 1)

    def work():
        kit.record("calls", "acme", 10)
        kit.flush()

    ended(in_child(work))
    kit.record("calls", "acme", 100)

    assert {("calls", "acme"): 111} == counted(kit)


def test_the_child_does_not_flush_the_parents(kit):
    """A child's flush takes nothing from its living parent."""
    kit.record("calls", "acme", 1)
    ended(in_child(lambda: (kit.record("calls", "acme", 10), kit.flush())))

    assert [10] == [row.quantity for row in kit.usage()]
    assert {("calls", "acme"): 11} == counted(kit)


def test_a_child_that_never_flushes(kit):
    """What a child leaves behind is flushed by whoever flushes next."""
    ended(in_child(lambda: kit.record("calls", "acme", 10)))

    assert {("calls", "acme"): 10} == counted(kit)


def test_a_child_that_counts_nothing(kit):
    """A child that does not count changes nothing, also if it closes the kit."""
    kit.record("calls", "acme", 1)
    ended(in_child(lambda: None))
    ended(in_child(kit.close))
    ended(in_child(lambda: (kit.health(), kit.usage())))

    assert {("calls", "acme"): 1} == counted(kit)


def test_fork_before_the_first_count(kit):
    """Workers of a server that loads the app before it forks start each for itself."""
    children = [in_child(lambda: kit.record("calls", "acme", 10)) for _ in range(3)]
    kit.record("calls", "acme", 1)
    for child in children:
        ended(child)

    assert {("calls", "acme"): 31} == counted(kit)


def test_double_fork(kit):
    """A daemon's child of a child counts for itself, too."""
    kit.record("calls", "acme", 1)

    def child():
        kit.record("calls", "acme", 10)
        ended(in_child(lambda: kit.record("calls", "acme", 100)))
        kit.record("calls", "acme", 1000)
        kit.flush()

    ended(in_child(child))

    assert {("calls", "acme"): 1111} == counted(kit)


def test_fork_from_a_thread(kit):
    """A thread may fork while the main thread counts."""
    kit.record("calls", "acme", 1)
    children = []
    thread = threading.Thread(
        target=lambda: children.append(in_child(lambda: (kit.record("calls", "acme", 10), kit.flush())))
    )
    thread.start()
    kit.record("calls", "acme", 1)
    thread.join()
    ended(children[0])

    assert {("calls", "acme"): 12} == counted(kit)


def test_forks_amidst_everything(kit):
    """A fork may come while other threads count, flush and note problems, with every lock of the parent's held."""
    stop = threading.Event()
    counted_here = [1]
    kit.record("calls", "acme", 1)
    kit.recorder.problems.internal(
        ValueError()
    )  # logged now: the lock of a log's file is not ours to free in the child

    def count():
        mine = 0
        while not stop.is_set():
            kit.record("calls", "acme", 1)
            mine += 1
        counted_here.append(mine)

    def flush():
        while not stop.is_set():
            kit.flush()

    def trouble():
        while not stop.is_set():
            kit.recorder.problems.internal(ValueError())

    threads = [threading.Thread(target=work) for work in (count, count, flush, trouble)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(30):
            ended(
                in_child(lambda: (kit.recorder.problems.internal(ValueError()), kit.record("calls", "acme", 1_000_000)))
            )
    finally:
        stop.set()
        for thread in threads:
            thread.join()

    assert {("calls", "acme"): 30_000_000 + sum(counted_here)} == counted(kit)
    assert kit.health()["books"]["calls"]["balanced"]


def test_multiprocessing(kit):
    """The children of ``multiprocessing``, which run no exit hooks of ours, lose nothing."""
    kit.record("calls", "acme", 1)
    children = [
        multiprocessing.get_context("fork").Process(target=kit.record, args=("calls", "acme", 10)) for _ in range(3)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join()

    assert [0, 0, 0] == [child.exitcode for child in children]
    assert {("calls", "acme"): 31} == counted(kit)


def test_a_killed_child(kit):
    """A worker that is killed amidst its work leaves all that it had counted."""
    ready, tell = os.pipe()

    def work():
        kit.record("calls", "acme", 10)
        os.write(tell, b"!")
        signal.pause()

    child = in_child(work)
    os.read(ready, 1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(ready)
    os.close(tell)

    assert {("calls", "acme"): 10} == counted(kit)


def test_forks_in_which_no_hook_ran(make_kit, tmp_path):
    """
    Where a server forks behind Python's back, as uWSGI does, the child finds out by its pid.

    Whichever of its threads notices first, and however many at once; with many kits, so that some do at once.
    """
    script = """
        import ctypes, os, sys, threading, traceback
        from meterkit import Meter, MeterKit

        kits = [MeterKit(meters=[Meter("calls")], data_dir=sys.argv[1], flush_interval=3600) for _ in range(50)]
        for kit in kits[1:]:
            kit.record("calls", "acme", 1)

        child = ctypes.PyDLL(None).fork()
        if child == 0:
            status = 1
            try:
                sys.setswitchinterval(1e-6)
                at_once = threading.Barrier(4)

                def work():
                    for kit in kits:
                        at_once.wait()
                        for _ in range(10):
                            kit.record("calls", "acme", 1000)

                workers = [threading.Thread(target=work) for _ in range(4)]
                for worker in workers:
                    worker.start()
                for worker in workers:
                    worker.join()
                kits[0].flush()
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)
        for kit in kits:
            kit.record("calls", "acme", 1)
            kit.close()
        sys.exit(status)
    """
    process = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "meterkit")],
        check=False,
        capture_output=True,
        text=True,
    )

    assert (0, False) == (process.returncode, "Traceback" in process.stderr), process.stderr
    assert {("calls", "acme"): 49 + 50 * 4 * 10 * 1000 + 50} == counted(make_kit())


def locks_of(part, seen):
    """Every lock in *part*, and in what it is made of, by its place; *seen* grows."""
    seen.append(part)
    found = {}
    for name, value in list(vars(part).items()):
        if isinstance(value, (type(threading.Lock()), type(threading.RLock()))):
            found[f"{type(part).__name__}.{name}"] = value
        elif type(value).__module__.startswith("meterkit.") and all(value is not each for each in seen):
            found |= locks_of(value, seen) if hasattr(value, "__dict__") else {}
    return found


def test_a_fork_while_a_lock_is_held(make_kit):
    """The child begins with locks of its own, whichever of its parent's another thread holds at that moment."""
    kit = make_kit(stripe_key="sk_test_1", stripe_base="http://127.0.0.1:9")
    kit.record("calls", "acme", 1)
    kit.report()
    locks = {way: lock for way, lock in locks_of(kit, []).items() if not way.startswith(("WakeUp.", "Event."))}
    locks["Supervisor._starting"] = kit._supervisor._lock()
    assert {"Journal._lock", "Problems._lock", "Database._lock", "ProcessRuntime._flushing", "Reporter._pass"} <= set(
        locks
    )

    for lock in locks.values():
        held, over = threading.Event(), threading.Event()

        def hold(lock=lock, held=held, over=over):
            with lock:
                held.set()
                over.wait()

        holder = threading.Thread(target=hold)
        holder.start()
        held.wait()
        child = in_child(lambda: (kit.record("calls", "acme", 10), kit.flush(), kit.health()))
        ended(child)
        over.set()
        holder.join()

    assert {("calls", "acme"): 1 + 10 * len(locks)} == counted(kit)
