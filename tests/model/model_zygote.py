"""The test's side of the model's processes: start them, tell them what to do, hold them, kill them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from multiprocessing import Pipe, reduction
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from guard import GUARD
from model_clocks import Clocks

NO_PLAN = ("none", "", 0)


@dataclass(frozen=True)
class Outcome:
    """
    What became of an operation.

    Attributes:
        end: ``done``, ``held`` or ``died``.
        value: What it answered, or the step at which it is held.
    """

    end: str
    value: Any = None


class Process:
    """
    A process with a kit.

    Attributes:
        host: On which it runs.
        held: It is in the midst of an operation, and waits to be told to go on.
        alive: It has not been killed.
    """

    def __init__(self, zygote: Zygote, connection: Connection, pid: int, host: int) -> None:
        self._zygote = zygote
        self._connection = connection
        self._pid = pid
        self.host = host
        self.held = False
        self.alive = True

    def do(self, command: str, *, plan: tuple[str, str, int] = NO_PLAN, **arguments: object) -> Outcome:
        """
        Let it do something.

        Args:
            command: A method of `model_process.Served`.
            plan: As in `model_process.Plan`: ``("crash", "after commit", 2)``.
            arguments: Of the command.
        """
        self._connection.send((command, arguments, plan))
        return self._outcome(command)

    def ask(self, command: str, **arguments: object) -> Any:
        """The answer to *command*."""
        outcome = self.do(command, **arguments)
        assert outcome.end == "done", (command, outcome)
        return outcome.value

    def go_on(self) -> Outcome:
        """Let the held operation go on."""
        self.held = False
        self._connection.send(("go_on", {}, NO_PLAN))
        return self._outcome("go_on")

    def kill(self) -> None:
        """SIGKILL, and wait until the system has taken everything from it."""
        os.kill(self._pid, signal.SIGKILL)
        self._bury()

    def _outcome(self, command: str) -> Outcome:
        try:
            if not self._connection.poll(GUARD):
                raise AssertionError(f"{command} does not come back")
            end, value = self._connection.recv()
        except (EOFError, ConnectionResetError):
            self._bury()
            return Outcome("died")
        if end == "failed":
            raise AssertionError(f"{command} raised\n{value}")
        if end == "held":
            self.held = True
        return Outcome(end, value)

    def _bury(self) -> None:
        # Its end of the pipe may be closed before its locks are free: only a process that was waited for is gone.
        status = self._zygote.wait_for(self._pid)
        self.alive = self.held = False
        self._connection.close()
        assert os.WIFSIGNALED(status), "it ended by itself"
        assert signal.SIGKILL == os.WTERMSIG(status)


class Zygote:
    """
    The process from which the model's processes are forked; in a with statement.

    Args:
        held: Where the sandbox tells which requests it holds; see `held`.
    """

    def __init__(self, held: Path) -> None:
        self._control, theirs = Pipe()
        script = Path(__file__).with_name("model_process.py")
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("STRIPE_", "METERKIT_"))
        }
        environment["PYTHONPATH"] = str(script.parents[1])
        self._process = subprocess.Popen(
            [sys.executable, script, str(theirs.fileno()), held], pass_fds=[theirs.fileno()], env=environment
        )
        theirs.close()

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        self._control.close()
        self._process.wait(GUARD)

    def start(self, clocks: Clocks, host: int, **setting: object) -> Process:
        """A process on *host*; *setting* are the options of its kit."""
        ours, theirs = Pipe()
        assert self._process.poll() is None, f"the zygote is gone: {self._process.returncode}"
        self._control.send({"clocks": str(clocks.path), "host": host, **setting})
        reduction.send_handle(self._control, theirs.fileno(), self._process.pid)
        theirs.close()
        return Process(self, ours, self._control.recv(), host)

    def wait_for(self, pid: int) -> int:
        """The status with which the process *pid* ended, or will."""
        self._control.send(pid)
        status: int = self._control.recv()
        return status
