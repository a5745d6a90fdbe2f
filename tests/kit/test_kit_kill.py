"""Kills, full disks and living neighbours, with real processes: nothing counted is lost, and nothing is doubled."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest
from guard import UNHURRIED
from plain_exchange import counted

PRELUDE = f"""{UNHURRIED}
import os, resource, sys, threading
from meterkit import LedgerError, Meter, MeterKit

kit = MeterKit(meters=[Meter("calls")], data_dir=sys.argv[1], flush_interval=float(sys.argv[2]))

def say(text):
    os.write(1, text.encode())

def wait():
    return sys.stdin.readline()
"""


@pytest.fixture
def start(tmp_path):
    """A function that starts a process with a kit of its own, in the directory of the test's."""
    processes = []

    def start(script, flush_interval=3600):
        code = PRELUDE + textwrap.dedent(script)
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "meterkit"), str(flush_interval)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("flush_interval", [3600, 0.0001])
@pytest.mark.parametrize("after", [1, 100, 3000])
def test_sigkill(start, make_kit, after, flush_interval):
    """What had been counted when a process was killed is flushed by the next one, also if it was being flushed."""
    process = start(
        """
        while True:
            kit.record("calls", "acme")
            say(".")
        """,
        flush_interval,
    )
    said = len(process.stdout.read(after))
    process.kill()
    said += len(process.stdout.read())

    # The count that was under way may have been complete, and not said yet.
    assert counted(make_kit())[("calls", "acme")] in (said, said + 1)


def test_sigkill_of_many_threads(start, make_kit):
    """So it is with many threads, each of which may have counted once more than it could say."""
    process = start(
        """
        def work():
            while True:
                kit.record("calls", "acme")
                say(".")

        for _ in range(7):
            threading.Thread(target=work).start()
        work()
        """,
        0.001,
    )
    said = len(process.stdout.read(5000))
    process.kill()
    said += len(process.stdout.read())

    assert said <= counted(make_kit())[("calls", "acme")] <= said + 8


def test_an_exit_without_a_word(start, make_kit):
    """A process that ends without any hook, by ``os._exit``, leaves everything."""
    start("kit.record('calls', 'acme', 7); os._exit(0)").wait()

    assert {("calls", "acme"): 7} == counted(make_kit())


def test_an_exit_as_usual(start, make_kit):
    """A process that ends as usual has flushed before it ends."""
    start("kit.record('calls', 'acme', 7)").wait()

    assert [7] == [row.quantity for row in make_kit().usage()]


def test_a_count_at_exit(start, make_kit):
    """What other exit hooks count, before or after ours, is not lost."""
    start(
        """
        import atexit
        atexit.register(kit.record, "calls", "acme", 1)
        kit.record("calls", "acme", 10)
        atexit.register(kit.record, "calls", "acme", 100)
        """
    ).wait()

    assert {("calls", "acme"): 111} == counted(make_kit())


def test_a_living_neighbour(start, kit):
    """Nobody takes what a living process is still counting; all see it, and its flush moves it."""
    neighbour = start(
        """
        kit.record("calls", "acme", 5)
        say(".")
        wait()
        kit.flush()
        say(".")
        wait()
        """
    )
    neighbour.stdout.read(1)
    kit.record("calls", "acme", 1)
    kit.flush()
    before = [row.quantity for row in kit.usage()]
    books = kit.health()["books"]["calls"]
    neighbour.stdin.write(b"\n")
    neighbour.stdin.flush()
    neighbour.stdout.read(1)

    assert ([1], 5, 6, True) == (before, books["journal"], books["counted"], books["balanced"])
    assert 6 == sum(row.quantity for row in kit.usage())


def test_several_heirs(start, make_kit):
    """When several processes flush at once, what a dead one left is taken by one of them."""
    start("kit.record('calls', 'acme', 1000); os._exit(0)").wait()
    heirs = [
        start(
            """
            say(".")
            wait()
            for _ in range(20):
                kit.record("calls", "acme", 1)
                kit.flush()
            """
        )
        for _ in range(3)
    ]
    for heir in heirs:
        heir.stdout.read(1)
    for heir in heirs:
        heir.stdin.write(b"\n")
        heir.stdin.flush()

    assert [0, 0, 0] == [heir.wait() for heir in heirs]
    assert {("calls", "acme"): 1060} == counted(make_kit())


def test_a_full_disk(start, make_kit):
    """Where no file may grow, a process counts in memory and says so; once there is room, nothing is missing."""
    process = start(
        """
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (64, most))
        kit.record("calls", "acme", 3)
        try:
            kit.flush()
        except LedgerError:
            say("E")
        if kit.health()["journal"]["in_memory"]:
            say("M")
        kit.record("calls", "acme", 4)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        kit.flush()
        kit.record("calls", "acme", 10)
        if not kit.health()["journal"]["in_memory"]:
            say("J")
        os._exit(0)
        """
    )

    assert b"EMJ" == process.stdout.read()
    assert {("calls", "acme"): 17} == counted(make_kit())


def test_a_disk_that_fills_while_counting(start, make_kit):
    """The journal has taken its room beforehand: a disk that is full now takes nothing from what is counted."""
    process = start(
        """
        kit.record("calls", "acme", 1)
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, most))
        for number in range(5000):
            kit.record("calls", f"company {number}", 1)
        os.kill(os.getpid(), 9)
        """
    )
    process.wait()

    assert 5001 == sum(counted(make_kit()).values())


def test_a_kill_while_a_generation_is_made(start, make_kit, tmp_path):
    """Nothing is counted in it yet; a later process clears it away, but not one that may still be in the making."""
    process = start(
        """
        from meterkit.journal import generation
        allocate = generation._allocate
        generation._allocate = lambda fd, size: (allocate(fd, size), os.kill(os.getpid(), 9))
        kit.record("calls", "acme", 1)
        """
    )
    process.wait()
    journal = next(tmp_path.rglob("*.tmp")).parent
    (left,) = journal.glob("*.tmp")
    young = left.with_name("young.tmp")
    young.touch()
    os.utime(left, (0, 0))

    make_kit().flush()

    assert [young] == list(journal.glob("*.tmp"))
