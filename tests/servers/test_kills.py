"""
Workers of real servers, killed at random instants under load: nothing lost, nothing twice.

``METERKIT_TEST_KILLS`` sets how often (the default is a short run), ``METERKIT_TEST_SEED`` repeats one.
"""

from __future__ import annotations

import os
import random
import signal
import threading
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from figures import note_figure
from guard import GUARD
from thorough import first

from meterkit import Meter
from meterkit.demo.server import Server
from meterkit.journal import file_format, generation

EXAMPLES = Path(__file__).parents[2] / "examples"
KILLS = int(os.environ.get("METERKIT_TEST_KILLS", "4"))
CLIENTS = 4
BETWEEN_KILLS = 40
"""Complete responses between two kills, on the average."""


class Load:
    """Clients that send without a pause, and count what they know for certain."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._answered = threading.Condition(self._lock)
        self._over = False
        self.sent = 0
        self.complete = 0

    def run(self) -> None:
        """Send until `stop`."""
        # A new connection for each request: one that is refused was not sent, one that breaks may have been.
        with httpx.Client(limits=httpx.Limits(max_keepalive_connections=0), trust_env=False, timeout=GUARD) as client:
            while not self._over:
                with self._lock:
                    self.sent += 1
                with suppress(httpx.TransportError):
                    answer = client.post(
                        f"{self._url}/RetrieveCreditScore", json={"person": "ada"}, headers={"X-Api-Key": "key-of-acme"}
                    )
                    if answer.status_code == 200 and answer.json()["score"] == 810:
                        with self._answered:
                            self.complete += 1
                            self._answered.notify_all()

    def wait_for(self, responses: int) -> None:
        """Until so many more responses are complete."""
        with self._answered:
            goal = self.complete + responses
            assert self._answered.wait_for(lambda: self.complete >= goal, timeout=GUARD), "the server answers no more"

    def stop(self) -> None:
        """Let the clients finish the request they are in."""
        self._over = True


def living_owners(journal: Path) -> list[int]:
    """The workers that have a journal."""
    owners = set()
    for path in journal.glob(f"*{generation.SUFFIX}"):
        with suppress(FileNotFoundError, file_format.ForeignFileError):
            owners.add(file_format.owner(path.read_bytes()))
    return sorted(pid for pid in owners if Path(f"/proc/{pid}/cmdline").exists())


@pytest.mark.parametrize("framework", first(["flask"], among=["flask", "fastapi"]))
def test_kills_under_load_neither_lose_nor_double(framework, tmp_path, monkeypatch, make_kit):
    """What clients received completely is counted, and no more is counted than what they sent."""
    data_dir = tmp_path / "meterkit"
    monkeypatch.setenv("METERKIT_DATA_DIR", str(data_dir))
    seed = int(os.environ.get("METERKIT_TEST_SEED", random.randrange(2**32)))
    chance = random.Random(seed)
    print(f"seed {seed}")
    kills = 0
    with Server(framework, examples=EXAMPLES, directory=tmp_path) as server:
        load = Load(server.url)
        clients = [threading.Thread(target=load.run) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        try:
            while kills < KILLS:
                load.wait_for(chance.randint(1, 2 * BETWEEN_KILLS))
                if workers := living_owners(data_dir / "journal"):
                    with suppress(ProcessLookupError):
                        os.kill(chance.choice(workers), signal.SIGKILL)
                        kills += 1
            load.wait_for(BETWEEN_KILLS)
        finally:
            load.stop()
            for client in clients:
                client.join()

    kit = make_kit(Meter("credit_scores"), data_dir=data_dir)
    kit.flush()
    counted = sum(row.quantity for row in kit.usage(company="acme"))
    note_figure(
        f"kills of {framework}", kills=kills, seed=seed, complete=load.complete, counted=counted, sent=load.sent
    )
    print(f"{framework}: {kills} kills, {load.complete} complete <= {counted} counted <= {load.sent} sent")
    assert load.complete <= counted <= load.sent, f"seed {seed}"
    assert [] == list((data_dir / "journal").iterdir())
    assert kit.health()["books"]["credit_scores"]["balanced"]
