"""Many hosts for one ledger: starts them, kills them, and knows from their own words what each of them counted."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

from guard import GUARD


class Host:
    """
    One process that counts, and what is known of it.

    Attributes:
        begun: What it was about to count, by company.
        counted: What it said that it had counted, by company.
        trouble: The ledger's errors that it met.
    """

    def __init__(self, news: threading.Condition, directory: Path, options: dict) -> None:
        self.begun: Counter[str] = Counter()
        self.counted: Counter[str] = Counter()
        self.trouble: list[str] = []
        self.data_dir = directory
        self._news = news
        self._options = options
        self._ready = False
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None

    def start(self) -> None:
        """Start it in its directory, where an earlier one of it may have left something."""
        self._ready = False
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("postgres_host.py")), json.dumps(self._options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._reader = threading.Thread(target=self._read, args=[self._process.stdout])
        self._reader.start()

    def go(self) -> None:
        """Let it count, as soon as it is there."""
        with self._news:
            assert self._news.wait_for(lambda: self._ready, GUARD), "the host does not start"
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()

    def kill(self) -> None:
        """SIGKILL, wherever it is."""
        if self._process is not None:
            self._process.kill()
            self._end()

    def ask_to_stop(self) -> None:
        """Tell it to finish what it is at; `stop` waits for that."""
        self._process.stdin.close()

    def stop(self) -> None:
        """Wait until it has finished and flushed."""
        assert self._end() == 0, "the host ended in disorder"

    def _end(self) -> int:
        process, self._process = self._process, None
        code = process.wait(GUARD)
        self._reader.join(GUARD)
        process.stdin.close()
        process.stdout.close()
        return code

    def _read(self, pipe) -> None:
        for line in pipe:
            if not line.endswith(b"\n"):
                return  # killed amidst it
            what, *rest = json.loads(line)
            with self._news:
                if what == "ready":
                    self._ready = True
                elif what == "trouble":
                    self.trouble += rest
                else:
                    getattr(self, what)[rest[0]] += rest[1]
                self._news.notify_all()


class Hosts:
    """All hosts of a test, in a with statement."""

    def __init__(self, directory: Path) -> None:
        self.all: list[Host] = []
        self._directory = directory
        self._news = threading.Condition()

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        for host in self.all:
            host.kill()

    def add(self, ledger: str, companies: list[str], *, stripe=None, jetstream=(), chance: random.Random) -> Host:
        """One more; with a Stripe account, it reports there without a pause; with JetStream, it publishes."""
        data_dir = self._directory / f"process-{len(self.all)}"
        kit = {"data_dir": str(data_dir), "ledger": ledger}
        if stripe is not None:
            kit |= {"stripe_key": stripe.api_key, "stripe_base": stripe.url}
        seed = chance.getrandbits(32)
        options = {"kit": kit, "companies": companies, "seed": seed, "reports": stripe is not None, "guard": GUARD}
        options["jetstream"] = list(jetstream)
        host = Host(self._news, data_dir, options)
        self.all.append(host)
        host.start()
        return host

    def go(self) -> None:
        """Let all count, at the same moment."""
        for host in self.all:
            host.go()

    def wait_for(self, quantity: int) -> None:
        """Until so much more has been counted by all together."""
        with self._news:
            goal = self.counted.total() + quantity
            assert self._news.wait_for(lambda: self.counted.total() >= goal, GUARD), "the hosts count no more"

    def wait_for_trouble(self) -> None:
        """Until every host has met one more error of the ledger."""
        with self._news:
            before = [len(host.trouble) for host in self.all]
            assert self._news.wait_for(
                lambda: all(len(host.trouble) > known for host, known in zip(self.all, before, strict=True)), GUARD
            ), "the hosts notice nothing"

    def stop(self) -> None:
        """Let all finish and flush."""
        for host in self.all:
            host.ask_to_stop()
        for host in self.all:
            host.stop()

    @property
    def begun(self) -> Counter[str]:
        """What may have been counted, by company."""
        return sum((host.begun for host in self.all), Counter())

    @property
    def counted(self) -> Counter[str]:
        """What certainly was, by company."""
        return sum((host.counted for host in self.all), Counter())

    @property
    def trouble(self) -> list[str]:
        """What all said of the ledger."""
        return [error for host in self.all for error in host.trouble]
