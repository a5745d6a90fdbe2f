"""An app without lifespan, on a disk that goes with the process: what was counted is in the ledger at a clean stop."""

from __future__ import annotations

import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from served_billing import Billing
from served_server import GRANIAN, HYPERCORN, UVICORN, Server
from thorough import some

from meterkit import Meter, MeterKit

REQUESTS = 24


class BillingElsewhere(Billing):
    """Its ledger is not on the disk of the processes under test."""

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, "METERKIT_LEDGER": self.ledger_url}

    @property
    def ledger_url(self) -> str:
        return f"sqlite:///{self.data_dir.parent / 'elsewhere.sqlite'}"

    def _kit(self, **options: object) -> MeterKit:
        about: Any = {"data_dir": self.data_dir, "ledger": self.ledger_url, "customer_ids": True, **options}
        return MeterKit(meters=[Meter("calls")], **about)


def _django(command: list[str]) -> list[str]:
    return [word.replace("served_app:", "served_django:") for word in command]


SERVERS = {
    "uvicorn": _django(UVICORN),
    "granian": _django(GRANIAN),
    "hypercorn": _django(HYPERCORN),
    "gunicorn": [
        *(sys.executable, "-m", "gunicorn", "--bind", "fd://{fd}", "--timeout", "300"),
        *("--worker-class", "uvicorn.workers.UvicornWorker", "served_django:asgi"),
    ],
    "uvicorn, lifespan off": [*UVICORN, "--lifespan", "off"],
}
CASES = [
    (name, workers, number)
    for name in SERVERS
    for workers in (1, 2)
    for number in ("SIGTERM", "SIGINT")
    if (name, number) != ("gunicorn", "SIGINT")  # uvicorn's worker does not hear it, and is killed
]
USUAL = [("uvicorn", 1, "SIGTERM"), ("granian", 1, "SIGTERM")]


@pytest.mark.parametrize("case", some(USUAL, among=CASES), ids=str)
def test_nothing_goes_with_the_disk(case: tuple[str, int, str], tmp_path: Path) -> None:
    """No hook of the interpreter runs in some of them; the signals end them as before."""
    name, workers, number = case
    if name.startswith("gunicorn") and find_missing("uvicorn.workers"):
        pytest.skip("this uvicorn has no worker for gunicorn")
    with BillingElsewhere(tmp_path) as billing:
        with Server([*SERVERS[name], "--workers", str(workers)], billing, tmp_path) as server:
            server.load_until_all_work(workers)
            server.ask_times(REQUESTS)
            server.stop(signal.Signals[number], figure=f"{name} without lifespan, {workers} workers")
            assert "Traceback" not in server.log
        shutil.rmtree(billing.data_dir)
        (billing.data_dir / "journal").mkdir(parents=True)  # of the host that settles

        assert server.sent == server.complete == billing.settle()


def find_missing(module: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(module) is None
