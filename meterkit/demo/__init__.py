"""
``meterkit demo``: bill a month, with real requests to a real server, a killed worker, and the invoices.

Nothing is faked but Stripe itself::

    traffic ──HTTP──▶ server: the example app in two processes ──▶ journal ──▶ ledger ──HTTP──▶ meterkit.sandbox
                         ▲ SIGKILL to one of them, half-way                                        │
    expectations: is every figure right? ◀── stripe_account: the invoices, a month later ◀─────────┘
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
"""Prefixes of environment variables that the demo removes, so that it never touches the user's ledger or account."""

DAY = 24 * 3600

T = TypeVar("T")


class Narrator(Protocol):
    """Reports the progress of the demo."""

    def say(self, text: str) -> None:
        """Report that something was done."""

    def track(self, things: Iterable[T], total: int) -> Iterable[T]:
        """Yield *things*, and show the progress."""


class SilentNarrator:
    """A narrator that prints nothing, for JSON output."""

    def say(self, text: str) -> None:
        """Do nothing."""

    def track(self, things: Iterable[T], total: int) -> Iterable[T]:  # noqa: ARG002 - the protocol's
        """Return *things* unchanged."""
        return things


@dataclass(frozen=True)
class Kill:
    """
    The kill of a worker.

    Attributes:
        pid: Process id of the worker.
        after: Number of requests that had been completed before the kill.
        held: Quantity of usage that was in its journal, but not in the ledger yet.
    """

    pid: int
    after: int
    held: int


@dataclass(frozen=True)
class Month:
    """
    The result of a demo.

    Attributes:
        framework: Framework of the example, such as ``flask``.
        meter: Name of the meter.
        requests: Number of requests, by company and outcome.
        kill: The kill of a worker, or None if it did not happen.
        reported: Result of the report: ``sent``, ``rejected``, ``postponed``, ``error``.
        books: The books of the meter.
        invoices: Invoices by company.
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
    Generate a month of usage, and bill it.

    Args:
        framework: One of `meterkit.demo.server.FRAMEWORKS`.
        narrator: Reports the progress.
        kill_after: Number of requests after which a worker is killed.

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
                    f"The sandbox listens on {sandbox.url}, with a price and two customers with subscriptions."
                )

                requests, kill = _serve(framework, narrator, billing, Path(directory), kill_after)

                kit.flush()
                reported = _report(kit)
                books = kit.health()["books"][price.meter.name]
                narrator.say(f"Flushed the journal and reported the usage: {reported['sent']} meter events.")

                sandbox.advance(to=account.period_end + DAY)
                narrator.say("A month later, the invoices are finalised.")
                invoices = {company: account.invoice(company) for company in COMPANIES}
    return Month(framework, price.meter.name, requests, kill, reported, books, invoices)


def _serve(
    framework: str, narrator: Narrator, billing: ModuleType, directory: Path, kill_after: int
) -> tuple[dict[tuple[str | None, str], int], Kill | None]:
    """Start the example, send it all requests, and kill one of its workers on the way."""
    api_keys = {company: key for key, company in billing.API_KEYS.items()}
    tally = traffic.Tally()
    kill = None
    with Server(framework, examples=_examples(), directory=directory) as server:
        narrator.say(f"{server.name} serves {framework}_app.py on {server.url}, with {WORKERS} workers.")
        responses = narrator.track(traffic.send(server.url, api_keys), traffic.TOTAL)
        for number, (call, status) in enumerate(responses, 1):
            tally.enter(call, status)
            if number == kill_after:
                pid, held = server.kill_worker(directory / "data" / "journal")
                kill = Kill(pid, number, held)
                narrator.say(
                    f"kill -9 {pid}: worker killed after {number} requests, with {held} units in its journal only."
                )
    return dict(tally.counts), kill


def _report(kit: MeterKit) -> dict[str, Any]:
    """Report everything; if the killed worker was reporting, once its lease has expired."""
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
    """Return the directory of the examples: in a wheel, inside this package; in a checkout, at its top."""
    packaged = Path(__file__).parent / "examples"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "examples"


def _example(name: str) -> ModuleType:
    """Import an example anew, because it reads the environment."""
    spec = importlib.util.spec_from_file_location(f"meterkit.demo.examples.{name}", _examples() / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """Set *variables* for this process and its children, and remove those in `FOREIGN`."""
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
