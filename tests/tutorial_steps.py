"""The tutorial as a list of steps, and a reader who does what it says."""

from __future__ import annotations

import doctest
import os
import re
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from guard import tries

ROOT = Path(__file__).parent.parent
TUTORIAL = ROOT / "docs" / "tutorial.md"

STEP = re.compile(r"^```(\w+)\n(.*?)^```$|^!\[[^\]]*\]\(images/(\S+)\.png\)$", re.MULTILINE | re.DOTALL)
SERVERS = ("uvicorn", "meterkit sandbox", "meterkit dashboard")
"""What goes on until it is stopped; where one is started again, the reader has stopped it before."""

INSTALLING = ("python3 -m venv", ". .venv", "pip install")
PORTS = ("8000", "12111", "8765")
ENDED = "\x01ended\x01"


@dataclass(frozen=True)
class Step:
    """
    A block of the page, or an image.

    Attributes:
        kind: ``console``, ``python``, ``diff`` or ``image``.
        text: Its text; of an image, the name.
    """

    kind: str
    text: str


def steps():
    """What the page says to do, in its order."""
    return [
        Step("image", image) if image else Step(kind, text) for kind, text, image in STEP.findall(TUTORIAL.read_text())
    ]


def commands(step):
    """The commands of a console, each with the output that is shown."""
    found = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", step.text, re.MULTILINE)
    assert found, step.text
    return found


class Reader:
    """
    Does what each step says, in a directory that is empty at first, and compares what happens with what is shown.

    Args:
        directory: The directory.
        installs: Whether to make the environment, too; otherwise, the one of the tests is used.

    Attributes:
        addresses: The last line that each server has printed with an address, by command.
    """

    def __init__(self, directory, *, installs=False):
        self._installs = installs
        self._directory = directory
        self._servers = {}
        self._secret = "whsec_..."
        self._ports = dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))
        left_out = ("PYTEST_", "METERKIT_", "STRIPE_", "SSL_CERT_FILE", "VIRTUAL_ENV", "PYTHONPATH")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
        ours = [] if installs else [str(Path(sys.executable).parent)]
        path = os.pathsep.join([*ours, environment["PATH"]])
        self._shell = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],
            cwd=directory,
            env={**environment, "PATH": path, "NO_PROXY": "127.0.0.1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for command in list(self._servers):
            self.stop(command)
        self._shell.communicate("exit\n")

    def do(self, step):
        """Do what a step says; an image says nothing."""
        if step.kind == "python":
            self._write(step.text)
        elif step.kind == "diff":
            self._patch(step.text)
        elif step.kind == "console":
            for command, shown in commands(step):
                self._run(command, shown)

    def said(self, command):
        """What a server has printed so far."""
        return self._servers[command][1].read_text(errors="replace")

    def stop(self, command):
        """SIGTERM, as a shell without a terminal has what it starts in the background ignore Ctrl-C."""
        pid, _ = self._servers.pop(command)
        self._tell(f"kill {pid}; wait {pid}")

    def _write(self, text):
        first, rest = self._here(text).split("\n", 1)
        name, _, where = first.removeprefix("# ").partition(", ")
        assert where in ("", "at the end"), first
        path = self._project / name
        path.write_text(path.read_text() + "\n\n" + rest if where else rest)

    def _patch(self, text):
        first, *lines = text.splitlines()
        path = self._project / first.removeprefix("--- ")
        before = "\n".join(line[1:] for line in lines if line[0] != "+")
        after = "\n".join(line[1:] for line in lines if line[0] != "-")
        assert path.read_text().count(before) == 1, text
        path.write_text(path.read_text().replace(before, after))

    @property
    def _project(self):
        return Path(self._tell("pwd").strip())

    def _run(self, command, shown):
        if command.startswith(INSTALLING):
            if self._installs:
                self._tell(command.replace("'meterkit[", f"'{ROOT}["), fails=True)
            return
        server = next((each for each in SERVERS if command.startswith(each)), None)
        if server:
            self._serve(server, self._here(command), self._here(shown))
            return
        outputs = []
        for _ in tries(lambda: f"{command}\n{outputs[-1]}"):  # what a background thread does may take a moment
            outputs.append(output := self._tell(self._here(command)))
            if is_as_shown(self._here(shown), output):
                break
            if command.startswith(NOT_TWICE):
                raise AssertionError(f"{command}\n--- shown\n{shown}--- is\n{output}")
        for secret in re.findall(r"whsec_\w+", output):
            self._secret = secret

    def _serve(self, server, command, shown):
        if server in self._servers:
            self.stop(server)
        log = self._directory / f"{server.replace(' ', '-')}.log"
        log.touch()
        pid = int(self._tell(f"{command} >{log} 2>&1 & echo $!").split()[-1])
        self._servers[server] = (pid, log)
        for _ in tries(lambda: self.said(server)):
            if is_as_shown(shown, self.said(server)):
                return

    def _here(self, text):
        for port, other in self._ports.items():
            text = text.replace(port, other)
        return text.replace("whsec_...", self._secret) if "export" in text else text

    def _tell(self, command, *, fails=False):
        """Have the shell run a command; what it prints."""
        self._shell.stdin.write(f"{command}\nprintf '%s%s\\n' '{ENDED}' $?\n")
        self._shell.stdin.flush()
        lines = []
        for line in self._shell.stdout:
            text, ended, status = line.partition(ENDED)
            lines.append(text)
            if ended:
                if fails:
                    assert status == "0\n", (command, "".join(lines))
                return "".join(lines)
        raise AssertionError(f"the shell has ended: {command}")


NOT_TWICE = ("cd", "curl -s -d", "mkdir", "python month.py", *(f"meterkit {each}" for each in ("pro", "rep", "sub")))
"""What does not do the same if it is done again."""


def is_as_shown(shown, output):
    """Whether output is what the page shows, where ``...`` stands for anything."""
    if not shown.strip():
        return True
    shown = re.sub(r"20\d\d-\d\d-\d\dT\d\d:\d\dZ", "...", shown)  # when it was written
    shown = re.sub(r"│ +1 │ +1 │", "│ ... │ ... │", shown)  # meter events, one for each hour: another may just begin
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    return doctest.OutputChecker().check_output(shown, output, flags)


def free_ports(count):
    """Ports that nobody listens on."""
    with_sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in with_sockets]
    for each in with_sockets:
        with suppress(OSError):
            each.close()
    return ports
