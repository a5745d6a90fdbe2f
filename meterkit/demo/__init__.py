"""
Faces: ``meterkit demo`` bills a month: real requests to a real server, a killed worker, and the invoices.

Nothing is faked but Stripe itself::

    traffic ──HTTP──▶ server: the example app in two processes ──▶ journal ──▶ ledger ──HTTP──▶ meterkit.sandbox
                         ▲ SIGKILL to one of them, half-way                                        │
    figures: is it what it has to be? ◀── stripe_account: the invoices, a month later ◀────────────┘
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, TypeVar

from meterkit.demo import traffic
from meterkit.demo.server import WORKERS, Server
from meterkit.demo.stripe_account import Invoice, StripeAccount
from meterkit.kit import MeterKit
from meterkit.ledger.lease import LEASE_SECONDS
from meterkit.sandbox import Sandbox

COMPANIES = ("acme", "globex")

FOREIGN = ("GUNICORN_", "METERKIT_", "STRIPE_", "UVICORN_", "WEB_CONCURRENCY")
"""Variables that begin so are the user's own, and are kept from the demo: it must not touch a real ledger."""

DAY = 24 * 3600

T = TypeVar("T")


class Narrator(Protocol):
    """Tells what is going on."""

    def say(self, text: str) -> None:
        """Tell that something was done."""

    def track(self, things: Iterable[T], total: int) -> Iterable[T]:
        """Go through *things*, and show how far it is."""


class Silence:
    """A narrator that tells nothing, for programs that wait for the data."""

    def say(self, text: str) -> None:
        """Keep quiet."""

    def track(self, things: Iterable[T], total: int) -> Iterable[T]:  # noqa: ARG002 - the protocol's
        """Go through *things*."""
        return things


@dataclass(frozen=True)
class Kill:
    """
    The end of a worker.

    Attributes:
        pid: Of the worker.
        after: How many requests had been answered.
        held: How much usage was in its journal, and not in the ledger yet.
    """

    pid: int
    after: int
    held: int


@dataclass(frozen=True)
class Month:
    """
    What a month came to.

    Attributes:
        framework: The example's.
        meter: The meter's name.
        requests: How many came back, by company and outcome.
        kill: The worker that was killed.
        reported: What the report did.
        books: Where the usage is.
        invoices: By company.
    """

    framework: str
    meter: str
    requests: dict[tuple[str | None, str], int]
    kill: Kill | None
    reported: dict[str, Any]
    books: dict[str, Any]
    invoices: dict[str, Invoice]


def bill_a_month(framework: str, narrator: Narrator, *, kill_after: int = traffic.TOTAL // 2) -> Month:
    """
    Play a month of usage, and see it billed.

    Args:
        framework: One of `meterkit.demo.server.FRAMEWORKS`.
        narrator: Who tells of it.
        kill_after: The worker is killed when so many requests have been answered.

    Raises:
        ServerError: The web server did not start.
        LedgerError: The ledger failed.
    """
    with tempfile.TemporaryDirectory(prefix="meterkit-demo-") as directory, Sandbox() as sandbox:
        data_dir = Path(directory) / "data"
        with _environment(
            METERKIT_DATA_DIR=str(data_dir),
            METERKIT_STRIPE_BASE=sandbox.url,
            STRIPE_SECRET_KEY=sandbox.api_key,
            NO_PROXY="127.0.0.1",
        ):
            billing = _example("billing")
            kit: MeterKit = billing.kit
            with closing(kit), closing(StripeAccount(sandbox.api_key, sandbox.url)) as account:
                (price,) = kit.prices
                account.sell(price, COMPANIES)
                for company, customer in account.customers.items():
                    kit.link(company, customer)
                narrator.say(
                    f"A pocket Stripe listens on {sandbox.url}, with a price, two customers and subscriptions."
                )

                requests, kill = _serve(framework, narrator, billing, Path(directory), kill_after)

                kit.flush()
                reported = _report(kit)
                books = kit.health()["books"][price.meter.name]
                narrator.say(f"Flushed the journal and reported the usage: {reported['sent']} meter events.")

                sandbox.advance(to=account.period_end + DAY)
                narrator.say("A month later, the subscriptions' invoices are final.")
                invoices = {company: account.invoice(company) for company in COMPANIES}
    return Month(framework, price.meter.name, requests, kill, reported, books, invoices)


def _serve(
    framework: str, narrator: Narrator, billing: ModuleType, directory: Path, kill_after: int
) -> tuple[dict[tuple[str | None, str], int], Kill | None]:
    """Start the example, send it everything, and kill one of its workers on the way."""
    api_keys = {company: key for key, company in billing.API_KEYS.items()}
    tally = traffic.Tally()
    kill = None
    with Server(framework, examples=_examples(), directory=directory) as server:
        narrator.say(f"{server.name} serves {framework}_app.py on {server.url}, with {WORKERS} workers.")
        answers = narrator.track(traffic.send(server.url, api_keys), traffic.TOTAL)
        for number, (call, status) in enumerate(answers, 1):
            tally.enter(call, status)
            if number == kill_after:
                pid, held = server.kill_worker(directory / "data" / "journal")
                kill = Kill(pid, number, held)
                narrator.say(f"kill -9 {pid}: a worker died after {number} requests, with {held} in its journal only.")
    return dict(tally.counts), kill


def _report(kit: MeterKit) -> dict[str, Any]:
    """Report everything; if the killed worker died while it reported, when its lease has run out."""
    deadline = time.monotonic() + LEASE_SECONDS + 5
    sent = 0
    while True:
        summary = kit.report(include_open=True)
        sent += summary.sent
        if not summary.error or time.monotonic() > deadline:
            break
        time.sleep(1)
    return {"sent": sent, "rejected": summary.rejected, "postponed": summary.postponed, "error": summary.error}


def _examples() -> Path:
    """The examples: in a wheel they are in this package, in a checkout at its top."""
    packaged = Path(__file__).parent / "examples"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "examples"


def _example(name: str) -> ModuleType:
    """An example's module, made anew, because it reads the environment."""
    spec = importlib.util.spec_from_file_location(f"meterkit.demo.examples.{name}", _examples() / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """For this process and its children: *variables*, and none that would lead out of the demo."""
    before = dict(os.environ)
    for name in before:
        if name.startswith(FOREIGN):
            del os.environ[name]
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
