"""
Workers of the proxy, killed at random instants under load: what a client got whole is billed, and nothing twice.

A response is whole for the client if its status is 200 and its body is complete. Each of those is counted. Beyond them,
only a response can be counted that the app gave and that was on its way when a worker was killed.
``METERKIT_TEST_KILLS`` sets how often (the default is a short run), ``METERKIT_TEST_SEED`` repeats one.
"""

from __future__ import annotations

import os
import random
import signal
import threading
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest
from figures import note_figure
from guard import GUARD, tries
from test_command import KIT, proxy

from meterkit import Meter

pytestmark = pytest.mark.long

KILLS = int(os.environ.get("METERKIT_TEST_KILLS", "4"))
SEED = int(os.environ.get("METERKIT_TEST_SEED", random.randrange(2**32)))
WORKERS, CLIENTS = 3, 4
BETWEEN_KILLS = 20
"""Whole responses between two kills, on the average."""


class Clients:
    """
    Ask again and again, each on connections that are kept until they break.

    Args:
        port: Port of the proxy.
    """

    def __init__(self, port) -> None:
        self._port = port
        self._more = threading.Condition()
        self._stops = False
        self.whole: list[bytes] = []
        self._threads = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]
        for each in self._threads:
            each.start()

    def wait_for(self, more) -> None:
        """Until so many more responses were whole."""
        with self._more:
            goal = len(self.whole) + more
            assert self._more.wait_for(lambda: len(self.whole) >= goal, timeout=GUARD), "no more responses"

    def stop(self) -> None:
        """Let each finish."""
        self._stops = True
        for each in self._threads:
            each.join(GUARD)

    def _ask(self) -> None:
        while not self._stops:
            connection = HTTPConnection("127.0.0.1", self._port, timeout=GUARD)
            try:
                while not self._stops:
                    connection.request("GET", "/v1/x", headers={"X-Api-Key": "acme"})
                    response = connection.getresponse()
                    body = response.read()
                    if response.status == 200:
                        with self._more:
                            self.whole.append(body)
                            self._more.notify_all()
            except (HTTPException, OSError):
                pass  # its worker was killed
            finally:
                connection.close()


def workers_of(pid):
    """The pids of the processes that *pid* has started to serve."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(each) for each in children if b"spawn_main" in Path(f"/proc/{each}/cmdline").read_bytes()]


def numbering(app, connection):
    """Answer each request with another number, in two pieces."""
    while app.read(connection):
        with app.more:
            app.given += 1
            body = b"%08d" % app.given
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n" + body[:4])
        connection.sendall(body[4:])


def test_kills_of_the_proxys_workers(tmp_path, raw_app, make_kit):
    """What was whole is counted, each once, and no more than the app gave."""
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    (tmp_path / "billing.py").write_text(KIT)
    data_dir = tmp_path / "data"
    app = raw_app(numbering)
    app.given = 0
    with proxy(tmp_path, "--upstream", app.url, "--workers", str(WORKERS), data_dir=data_dir) as (process, port):
        clients = Clients(port)
        try:
            for _ in range(KILLS):
                clients.wait_for(chance.randint(1, 2 * BETWEEN_KILLS))
                for _ in tries():
                    workers = workers_of(process.pid)
                    if workers:
                        break
                os.kill(chance.choice(workers), signal.SIGKILL)
            clients.wait_for(BETWEEN_KILLS)
        finally:
            clients.stop()
    kit = make_kit(Meter("calls", path="/v1/*"), data_dir=data_dir)
    kit.flush()

    counted = sum(row.quantity for row in kit.usage())
    note_figure(
        "kills of the proxy's workers",
        kills=KILLS,
        seed=SEED,
        complete=len(clients.whole),
        counted=counted,
        sent=app.given,
    )
    print(f"{KILLS} kills, {len(clients.whole)} whole <= {counted} counted <= {app.given} given")
    assert len(set(clients.whole)) == len(clients.whole), f"seed {SEED}"
    assert len(clients.whole) <= counted <= min(app.given, len(clients.whole) + KILLS * CLIENTS), f"seed {SEED}"
    assert {"acme"} == {row.company for row in kit.usage()}
    assert [] == list((data_dir / "journal").iterdir())
