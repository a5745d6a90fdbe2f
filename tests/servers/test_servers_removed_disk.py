"""A disk that goes with the process, as in a rolling deployment: what was counted is in the ledger at a clean stop."""

from __future__ import annotations

import importlib.util
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from served_billing import Billing
from served_server import GRANIAN, GUNICORN, HYPERCORN, UVICORN, UWSGI, Server
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


DJANGO = {
    "uvicorn": _django(UVICORN),
    "granian": _django(GRANIAN),
    "hypercorn": _django(HYPERCORN),
    "daphne": [sys.executable, "-m", "daphne", "--fd", "{fd}", "served_django:asgi"],
    "gunicorn": [
        *(sys.executable, "-m", "gunicorn", "--bind", "fd://{fd}", "--timeout", "300"),
        *("--worker-class", "uvicorn.workers.UvicornWorker", "served_django:asgi"),
    ],
    "uvicorn, lifespan off": [*UVICORN, "--lifespan", "off"],
}
OTHERS = {
    "uvicorn, lifespan": UVICORN,
    "granian, lifespan": GRANIAN,
    "hypercorn, lifespan": HYPERCORN,
    "granian, WSGI": [word.replace(":asgi", ":wsgi").replace("asgi", "wsgi") for word in GRANIAN],
    "gunicorn sync": GUNICORN,
    "gunicorn gthread": [*GUNICORN, "--worker-class", "gthread", "--threads", "2"],
    "gunicorn gevent": [*GUNICORN, "--worker-class", "gevent"],
    "uwsgi": [*UWSGI, "--enable-threads"],
    "uwsgi lazy": [*UWSGI, "--enable-threads", "--lazy-apps"],
}
SERVERS = {**DJANGO, **OTHERS}
CASES = [
    *(
        (name, workers, number)
        for name in DJANGO
        for workers in ((1,) if name == "daphne" else (1, 2))
        for number in ("SIGTERM", "SIGINT")
        if (name, number) != ("gunicorn", "SIGINT")  # uvicorn's worker does not hear it, and is killed
    ),
    *((name, 2, "SIGTERM") for name in OTHERS),
]
USUAL = [("uvicorn", 1, "SIGTERM"), ("granian", 1, "SIGTERM")]
NEEDED = {"gunicorn": "uvicorn.workers", "daphne": "daphne"}


@pytest.mark.parametrize("case", some(USUAL, among=CASES), ids=str)
def test_nothing_goes_with_the_disk(case: tuple[str, int, str], tmp_path: Path) -> None:
    """Some run no hook of the interpreter, and Django knows no lifespan; the signals end them as before."""
    name, workers, number = case
    if name in NEEDED and importlib.util.find_spec(NEEDED[name]) is None:
        pytest.skip(f"{NEEDED[name]} is not installed")
    with BillingElsewhere(tmp_path) as billing:
        option = "--processes" if name.startswith("uwsgi") else "--workers"
        count = [] if name == "daphne" else [option, str(workers)]
        with Server([*SERVERS[name], *count], billing, tmp_path) as server:
            server.load_until_all_work(workers)
            server.ask_times(REQUESTS)
            server.stop(signal.Signals[number], figure=f"{name}, disk removed, {workers} workers")
            assert "Traceback" not in server.log
        shutil.rmtree(billing.data_dir)
        (billing.data_dir / "journal").mkdir(parents=True)  # of the host that settles

        assert server.sent == server.complete == billing.settle()
