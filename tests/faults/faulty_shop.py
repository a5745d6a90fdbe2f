"""The app in a process of its own, driven over HTTP, and a Stripe account in the test's: what both say, compared."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import urlencode

import stripe as stripe_python
from guard import GUARD, tries
from warm import Warm

import meterkit

APP = Path(__file__).with_name("faulty_app.py")
PYTHONPATH = os.pathsep.join([str(Path(__file__).parents[1]), str(Path(meterkit.__file__).parents[1])])
HOUR = 3600
ROUND = [("GET", "/score", None), ("GET", "/stream", None), ("POST", "/echo", b"x" * 3000)]
FREE = [("GET", "/missing", None), ("GET", "/boom", None), ("HEAD", "/missing", None)]
"""Requests that nobody pays for."""

SAID = re.compile(r"(?P<level>[A-Z]+) meterkit (?P<message>.*) \((?P<reason>\w+), \d+ so far\)")


class App:
    """
    The app, from its start to its end.

    Args:
        data_dir: Of its kit.
        clock: The time at which its kit begins.
        environment: More of it.
        wrapper: The command that starts it, before its own.

    Attributes:
        counted: What it has served and has to be billed.
    """

    def __init__(self, data_dir, clock, *, log, environment=None, wrapper=()):
        self.data_dir = data_dir
        self.counted = 0
        self._log = log
        variables = {
            "PYTHONPATH": PYTHONPATH,
            "METERKIT_DATA_DIR": str(data_dir),
            "FAULTY_NOW": str(clock.now),
            **(environment or {}),
        }
        command, environment = [str(APP)], {**os.environ, **variables}
        with log.open("ab") as stderr:
            if wrapper:
                self._process = subprocess.Popen(
                    [*wrapper, sys.executable, *command],
                    env=environment,
                    cwd=log.parent,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                )
            else:
                self._process = Warm(command, env=environment, cwd=log.parent, stderr=stderr)
        port = self._process.stdout.readline()
        if not port:
            self.kill()
            raise AssertionError(f"the app did not start: {self.log}")
        self._port = int(port)

    @property
    def pid(self):
        return self._process.pid

    @property
    def view(self):
        """Its data directory, as it sees it: it may have mounted one that nobody else sees."""
        return Path(f"/proc/{self.pid}/root{self.data_dir}")

    def serve(self, company, *, rounds=1):
        """Send requests to the bare app and to the metered one, which has to answer the same."""
        for _ in range(rounds):
            for method, path, body in ROUND + FREE:
                bare, metered = (
                    self._request(method, f"/{mount}{path}", body, {"X-Company-Id": company})
                    for mount in ("bare", "metered")
                )
                assert bare == metered
            self.counted += len(ROUND)

    def ask(self, control, **arguments):
        """What the kit answers to *control*."""
        status, _, body = self._request("GET", f"/control/{control}?{urlencode(arguments)}", None, {})
        assert 200 == status, self.log
        return json.loads(body)

    def books(self):
        """Where the usage of the meter is; it has to balance."""
        books = self.ask("health")["books"]["calls"]
        assert books.pop("balanced")
        return {place: quantity for place, quantity in books.items() if quantity}

    def wait_for(self, condition):
        """Ask for the kit's health until *condition* holds for it, and answer it."""
        for _ in tries(lambda: f"{json.dumps(self.ask('health'), indent=1)}\n{self.log[-3000:]}"):
            health = self.ask("health")
            if condition(health):
                break
        return health

    def wait_for_trouble(self, reason):
        """The sentence with which its health tells of *reason*, as soon as it does."""
        health = self.wait_for(lambda health: reason in health["problems"])
        assert not health["ok"]
        assert health["problems"][reason]["message"] in health["attention"]
        return health["problems"][reason]["message"]

    def wait_until_flushed(self):
        """Until everything is in the ledger, and nothing that has to do with that needs attention any more."""
        over = {"flush_failed", "journal_in_memory"}
        return self.wait_for(
            lambda health: (
                not over & set(health["problems"]) and health["books"] and not health["books"]["calls"]["journal"]
            )
        )

    def stop(self):
        """End it, as a server does that is asked to leave; its own exit code."""
        self._process.stdin.close()
        code = self._process.wait(GUARD)
        self._process.stdout.close()
        return code

    def kill(self):
        """End it at once, and let it say nothing."""
        self._process.kill()
        self.stop()

    @property
    def log(self):
        return self._log.read_text()

    def said(self):
        """What it has logged, ``[(level, reason, message)]``; all of it only when it has ended."""
        return [
            (each["level"], each["reason"], each["message"]) for each in map(SAID.match, self.log.splitlines()) if each
        ]

    def said_of(self, reason):
        """The one sentence that it has logged about *reason*; about no reason are there two. It ends for this."""
        self.stop()
        about = [reason for _, reason, _ in self.said()]
        assert sorted(set(about)) == sorted(about)
        (sentence,) = [message for _, about, message in self.said() if about == reason]
        return sentence

    def lost(self):
        """How much usage it has named as lost. It ends for this."""
        self.stop()
        told = " ".join(message for _, reason, message in self.said() if reason == "journal_lost")
        return sum(int(quantity) for quantity in re.findall(r"'calls': (\d+)", told))

    def _request(self, method, path, body, headers):
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=GUARD)
        connection.request(method, path, body=body, headers=headers)
        response = connection.getresponse()
        answer = response.status, [pair for pair in response.getheaders() if pair[0] != "Date"], response.read()
        connection.close()
        return answer


class Account:
    """A Stripe account with one customer, in which the meter ``calls`` exists."""

    def __init__(self, sandbox):
        self.sandbox = sandbox
        api = stripe_python.StripeClient(sandbox.api_key, base_addresses={"api": sandbox.url}).v1
        api.billing.meters.create(
            {"display_name": "calls", "event_name": "calls", "default_aggregation": {"formula": "sum"}}
        )
        self.customer = api.customers.create({"name": "Acme"}).id

    @property
    def environment(self):
        """Where an app finds it."""
        return {"STRIPE_SECRET_KEY": self.sandbox.api_key, "METERKIT_STRIPE_BASE": self.sandbox.url}

    @property
    def billed(self):
        """All that the customer ever used, as Stripe knows it."""
        return self.sandbox.usage("calls", self.customer)


class Meanwhile:
    """Does *work* in a thread, for the length of a block; then waits for its result."""

    def __init__(self, work):
        self.result = None
        self._thread = threading.Thread(target=lambda: setattr(self, "result", work()))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._thread.join(GUARD)
        assert not self._thread.is_alive()
