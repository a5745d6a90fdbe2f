"""A worker's child that flushes for it, with real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from guard import GUARD, UNHURRIED, tries
from thorough import first

import meterkit
from meterkit import Meter

ROOT = Path(meterkit.__file__).parents[1]

BILLING = """
from meterkit import Meter, MeterKit
kit = MeterKit(meters=[Meter("calls")], customer_ids=True, flush_interval=0.05)
"""

EVERYTHING = """
from meterkit import Governance, Meter, MeterKit, Plan, Price, Quota, Wallet
calls, tokens = Meter("calls"), Meter("tokens", http=False, billable=False)
kit = MeterKit(
    meters=[calls, tokens],
    plans=[Plan("pro", prices=[Price.per_unit(calls, "1")], limits=[Quota(calls, 1_000_000)])],
    wallets=[Wallet("credits", unit="credits", spends={tokens: 2})],
    governance=Governance(overdue_days=7),
    identify=lambda _: None,
    customer_ids=True,
    flush_interval=0.05,
)
"""

WORKER = (
    UNHURRIED
    + """
import json, os, sys, time
from meterkit.flusher import child
child.FIRST_WAIT_SECONDS = 0.01
from billing import kit

def said():
    found = kit.health()
    print(json.dumps({**found["flusher"], "problems": list(found["problems"])}), flush=True)

def until(true):
    while not true():
        kit.record("calls", "cus_1")
        time.sleep(0.01)

def has_child():
    child = kit.process().child
    return child is not None and child.is_ready

for line in sys.stdin:
    exec(line)
"""
)


class Worker:
    """A process that does what it is told to, one line of Python after the other."""

    def __init__(self, directory, environment, *, words=("worker.py",)):
        self.log = directory / "log"
        self._stderr = self.log.open("ab")
        self.process = subprocess.Popen(
            [sys.executable, *words],
            cwd=directory,
            env={**os.environ, "METERKIT_DATA_DIR": str(directory / "data"), "PYTHONPATH": str(ROOT), **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
        )

    def tell(self, *lines):
        """Let it run these lines."""
        for line in lines:
            print(line, file=self.process.stdin, flush=True)

    def health(self):
        """What its kit says of the flusher, and of what needs attention."""
        self.tell("said()")
        line = self.process.stdout.readline()
        assert line, self.log.read_text()
        return json.loads(line)

    def flusher(self, *, but=None):
        """Its child that flushes, once there is one that is ready."""
        self.tell("until(lambda: has_child())")
        for _ in tries(self.log.read_text):
            found = self.health()["child"]
            if found not in (None, but):
                return found
        raise AssertionError

    def end(self):
        """Let it close its kit, and end."""
        self.tell("kit.close()")
        self.process.stdin.close()
        return self.process.wait(GUARD)


@pytest.fixture
def directory(tmp_path):
    """With a kit and a worker."""
    directory = tmp_path / "app"
    directory.mkdir()
    (directory / "billing.py").write_text(BILLING)
    (directory / "worker.py").write_text(WORKER)
    return directory


@pytest.fixture
def start(directory):
    """A function that starts a worker."""
    workers = []

    def start(**environment):
        workers.append(Worker(directory, environment))
        return workers[-1]

    yield start
    for worker in workers:
        worker.process.kill()
        worker.process.wait()
        worker.process.stdin.close()
        worker.process.stdout.close()
        worker._stderr.close()
        print(worker.log.read_text())


@pytest.fixture
def usage(make_kit, directory):
    """A function that returns what all have counted, after the last has ended."""

    def usage():
        kit = make_kit(Meter("calls"), data_dir=directory / "data")
        kit.flush()
        assert [] == list((directory / "data" / "journal").iterdir())
        return sum(row.quantity for row in kit.usage())

    return usage


def is_gone(pid):
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


def wait_for_end(pid):
    for _ in tries():
        if is_gone(pid):
            return


def test_the_worker_imports_no_stripe_and_the_child_flushes(start, directory):
    """What is counted is in the ledger when the worker has closed its kit, and the child is gone and reaped."""
    worker = start()
    flusher = worker.flusher()
    assert f"process {flusher}" in worker.health()["holder"]
    worker.tell(
        "kit.record('calls', 'cus_2', 5)", "kit.close()", "print(sorted({'stripe', 'httpx'} & set(sys.modules)))"
    )

    assert "[]\n" == worker.process.stdout.readline()
    assert [] == list((directory / "data" / "journal").iterdir())
    assert not Path(f"/proc/{flusher}").exists()
    assert 0 == worker.end()


def test_a_kit_that_declares_everything_has_a_child(start, directory):
    """Which finds the same kit when it imports it, and spends what was paid for ahead."""
    (directory / "billing.py").write_text(EVERYTHING)
    worker = start()
    worker.flusher()
    worker.tell("kit.grant('cus_1', 'credits', 1_000_000)", "kit.record('tokens', 'cus_1', 7)")
    log = worker.end(), worker.log.read_text()
    balance = subprocess.run(
        [sys.executable, "-c", "from billing import kit; kit.flush(); print(kit.balance('cus_1', 'credits').spent)"],
        cwd=directory,
        env={**os.environ, "METERKIT_DATA_DIR": str(directory / "data"), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert (0, "14") == (log[0], balance.stdout.strip()), log


def test_it_is_started_by_a_count_and_by_nothing_before(start, directory):
    """Not at import, nor by a look at the health."""
    worker = start()

    assert worker.health()["child"] is None
    assert not (directory / "data" / "flusher.lock").exists()


@pytest.mark.long
def test_a_child_that_is_killed_is_started_again(start, usage):
    """The problem is named until the next one flushes; what was counted meanwhile is not lost."""
    worker = start()
    first = worker.flusher()
    os.kill(first, signal.SIGKILL)
    second = worker.flusher(but=first)
    os.kill(second, signal.SIGKILL)
    third = worker.flusher(but=second)

    assert len({first, second, third}) == 3
    assert [] == [each for each in worker.health()["problems"] if each.startswith("flusher")]
    assert "it was ended by signal 9" in worker.log.read_text()
    worker.tell("kit.record('calls', 'cus_2', 1_000_000)")
    assert 0 == worker.end()
    assert 1_000_000 <= usage()


@pytest.mark.parametrize("number", first([signal.SIGTERM], among=[signal.SIGTERM, signal.SIGINT, signal.SIGHUP]))
def test_a_signal_to_all_ends_the_worker_only(start, number):
    """The child goes on until the worker has ended: what that still counts is to be flushed."""
    worker = start()
    flusher = worker.flusher()

    os.kill(flusher, number)

    assert flusher == worker.flusher()


def test_it_ends_with_a_worker_that_is_killed(start, usage):
    """After a last flush."""
    worker = start()
    flusher = worker.flusher()
    worker.tell("kit.record('calls', 'cus_2', 1_000_000)", "print('counted', flush=True)")
    worker.process.stdout.readline()

    worker.process.kill()
    wait_for_end(flusher)

    assert 1_000_000 <= usage()


@pytest.mark.long
def test_it_ends_with_its_worker_though_a_fork_of_that_lives(start):
    """The fork has inherited what the worker had open, with fork hooks or without."""
    worker = start()
    flusher = worker.flusher()
    worker.tell(
        "import ctypes; fork = ctypes.PyDLL(None).fork()", "print(fork, flush=True) if fork else time.sleep(999)"
    )
    forked = int(worker.process.stdout.readline())
    try:
        worker.process.kill()
        wait_for_end(flusher)
        assert not is_gone(forked)
    finally:
        os.kill(forked, signal.SIGKILL)


@pytest.mark.long
def test_of_two_workers_one_has_a_child_and_the_other_follows(start, usage):
    """When the first ends, its child does, and the second starts one."""
    first = start()
    child = first.flusher()
    second = start()
    second.tell("kit.record('calls', 'cus_2', 1_000_000)")
    assert (None, None) == (second.health()["child"], second.health()["in_thread"])

    first.process.kill()
    assert child != second.flusher()

    assert 0 == second.end()
    assert 1_000_000 <= usage()


HIDDEN = f"""
class Settings:
    {BILLING.strip().replace(chr(10), chr(10) + "    ")}
"""
ANOTHER = BILLING.replace("customer_ids=True", "customer_ids=True, keep_days=70 + __import__('os').getpid()")
BROKEN = """
import os
if os.environ.get("SEEN"):
    raise RuntimeError("only once")
os.environ["SEEN"] = "yes"
"""
EMBEDDED = """
import sys
sys.executable = "/usr/bin/uwsgi"
sys.exec_prefix = sys.base_exec_prefix = "/nowhere"
"""
REFUSED = """
import subprocess
def refuse(*_, **__):
    raise PermissionError(1, "Operation not permitted")
subprocess.Popen = refuse
"""

STARTS = """
import threading, time
threading.Thread(target=time.sleep, args=[3600], name="scheduler").start()
"""
NEVER_ENDS = """
import sys, time
while "--lock" in sys.argv:
    time.sleep(60)
"""
FUNCTION = BILLING.replace("customer_ids=True", "find_customer=lambda company: company")

THREAD = {
    "hidden": (HIDDEN, "a kit that another process can import"),
    "another": (ANOTHER, "another keep_days="),
    "broken": (BROKEN + BILLING, "only once"),
    "embedded": (EMBEDDED + BILLING, "no Python interpreter"),
    "refused": (REFUSED + BILLING, "Operation not permitted"),
    "starts a thread": (STARTS.replace("]", "], daemon=True") + BILLING, "starts threads or processes (scheduler)"),
    "never ends": (NEVER_ENDS + BILLING, "has not imported the kit within 0 seconds"),
    "calls a function": (FUNCTION, "(find_customer=)"),
}


@pytest.mark.parametrize("case", first(["another", "starts a thread"], among=THREAD))
def test_where_no_child_can_work_a_thread_flushes(start, usage, directory, case):
    """As without the setting, and why is said once, as information."""
    code, why = THREAD[case]
    (directory / "billing.py").write_text(code)
    if case == "hidden":
        program = WORKER.replace("from billing import kit", "import billing; kit = billing.Settings.kit")
        (directory / "worker.py").write_text(program)
    if case == "never ends":
        (directory / "worker.py").write_text(WORKER.replace("child.FIRST", "child.IMPORT_SECONDS = child.FIRST"))
    worker = start()
    worker.tell("import logging; logging.basicConfig(level=logging.INFO)", "kit.record('calls', 'cus_2', 5)")
    worker.tell("until(lambda: kit.process().child.why_none)", "until(lambda: kit.usage(company='cus_2'))")
    said = worker.health()

    assert why in said["in_thread"]
    assert said["child"] is None
    assert 0 == worker.end()
    assert 1 == worker.log.read_text().count("(flusher_in_thread)")
    assert 5 < usage()


@pytest.mark.long
def test_who_asks_for_a_process_has_one_though_its_import_starts_threads(start, directory):
    """They run twice then. The child ends all the same: neither they nor what the import wants at the exit keep it."""
    at_exit = "import atexit, pathlib; atexit.register(lambda: pathlib.Path('tidied').touch())\n"
    (directory / "billing.py").write_text(STARTS + at_exit + BILLING)
    worker = start(METERKIT_FLUSHER="process")
    flusher = worker.flusher()

    worker.process.kill()
    wait_for_end(flusher)

    assert not (directory / "tidied").exists()


@pytest.mark.long
def test_what_the_interpreter_starts_is_no_reason_against_a_child(start, directory):
    """As a tracer does in each process of an application, before that is imported."""
    tracer = directory / "tracer"
    tracer.mkdir()
    (tracer / "sitecustomize.py").write_text(STARTS.replace("]", "], daemon=True"))
    worker = start(PYTHONPATH=os.pathsep.join([str(tracer), str(ROOT)]))

    assert worker.flusher()


@pytest.mark.long
def test_a_child_whose_import_never_ends_ends_with_its_worker(start, directory):
    """It would keep the lock for ever."""
    (directory / "billing.py").write_text(NEVER_ENDS + BILLING)
    worker = start()
    worker.tell("until(lambda: kit.health()['flusher']['child'])")
    child = worker.health()["child"]

    worker.process.kill()

    wait_for_end(child)


@pytest.mark.long
def test_a_program_that_only_counts_and_ends_starts_none(directory, usage):
    """As a command of manage.py does: a child is started with the first flush, and this ends before."""
    program = """
from billing import kit
kit.record("calls", "cus_1", 7)
kit.close()
assert kit.process().child.pid is None
"""
    (directory / "billing.py").write_text(BILLING.replace("flush_interval=0.05", "flush_interval=3600.0"))
    environment = {**os.environ, "METERKIT_DATA_DIR": str(directory / "data"), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", UNHURRIED + program], cwd=directory, env=environment, check=True)

    assert 7 == usage()


def test_what_the_app_prints_does_not_reach_the_pipe(start, directory):
    """It goes where the server's log goes, and cannot be taken for what the child says."""
    (directory / "billing.py").write_text(
        "import os; os.write(1, b'{\"error\": \"loud\"}\\n'); print('hello')\n" + BILLING
    )
    worker = start()
    worker.process.stdout.readline()
    worker.process.stdout.readline()
    worker.flusher()

    assert '"loud"' in worker.log.read_text()
    assert "hello" in worker.log.read_text()


@pytest.mark.long
@pytest.mark.parametrize("closed", ["<&- >&- 2>&-", "2>&-"])
def test_a_server_may_have_closed_its_standard_streams(directory, usage, closed):
    """As daemons do: the lock and the pipes then have their numbers."""
    program = """
import time
from billing import kit
while not (kit.process().child.is_ready and kit.usage()):
    kit.record("calls", "cus_1")
    time.sleep(0.01)
kit.record("calls", "cus_1", 1_000_000)
kit.close()
"""
    (directory / "daemon.py").write_text(UNHURRIED + program)
    environment = {**os.environ, "METERKIT_DATA_DIR": str(directory / "data"), "PYTHONPATH": str(ROOT)}

    command = f"exec {sys.executable} daemon.py {closed}"
    subprocess.run(["/bin/sh", "-c", command], cwd=directory, env=environment, check=True, timeout=GUARD)

    assert 1_000_000 < usage()


FLASK = """
from flask import Flask
from meterkit.flask import init_app
app = Flask("shop")
app.config.update(METERKIT_KIT="billing.kit", METERKIT_STRIPE_KEY="sk_test_1")
app.config.update(METERKIT_DATA_DIR=os.environ["SHOP_DATA"])
init_app(app)
"""


@pytest.mark.long
def test_settings_of_a_flask_app_are_passed_on(start, directory, usage):
    """The child has no app, and yet the same directory and key."""
    (directory / "worker.py").write_text(WORKER.replace("from billing import kit", FLASK + "\nfrom billing import kit"))
    worker = start(SHOP_DATA=str(directory / "data"), METERKIT_DATA_DIR="")

    assert worker.flusher()
    assert 0 == worker.end()
    assert 0 < usage()
