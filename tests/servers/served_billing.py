"""
The other end: what a company is billed when all is over.

Stripe is a sandbox whose clock is an hour ahead, so that the hour of the test has ended when the books are settled.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import stripe

from meterkit import Meter, MeterKit
from meterkit.sandbox import Sandbox
from meterkit.stripe_api.transport import HTTPXClient

AN_HOUR_AND_A_BIT = 3700


def later() -> float:
    return time.time() + AN_HOUR_AND_A_BIT


def an_hour_ago() -> float:
    return time.time() - 3600


class Billing:
    """
    Stripe, and a data directory for the processes under test.

    Attributes:
        stripe: The sandbox.
        company: A Stripe customer: who pays for the requests.
        early: Another: who pays for what was counted before the first request.
        data_dir: Of all kits.
    """

    def __init__(self, directory: Path) -> None:
        self.data_dir = directory / "meterkit"
        self.stripe = Sandbox(now=later)

    def __enter__(self) -> Billing:  # noqa: PYI034 - typing.Self needs Python 3.11
        self.stripe.start()
        http = HTTPXClient()
        client = stripe.StripeClient(self.stripe.api_key, base_addresses={"api": self.stripe.url}, http_client=http)
        client.v1.billing.meters.create(
            {"display_name": "calls", "event_name": "calls", "default_aggregation": {"formula": "sum"}}
        )
        self.company = client.v1.customers.create({"name": "Acme"}).id
        self.early = client.v1.customers.create({"name": "Bird"}).id
        http.close()
        return self

    def __exit__(self, *_: object) -> None:
        self.stripe.stop()

    @property
    def environment(self) -> dict[str, str]:
        """For the processes under test."""
        return {
            "METERKIT_DATA_DIR": str(self.data_dir),
            "METERKIT_STRIPE_BASE": self.stripe.url,
            "STRIPE_SECRET_KEY": self.stripe.api_key,
        }

    @property
    def ledger(self) -> Path:
        return self.data_dir / "ledger.sqlite"

    def use_an_hour_ago(self, quantity: int) -> None:
        """Have usage of `early` in the ledger that is due: the first report of any process sends it."""
        with closing(self._kit(clock=an_hour_ago)) as kit:
            kit.record("calls", self.early, quantity)

    def settle(self) -> int:
        """
        What `company` is billed in the end: after the hour, another process reports what all of them left.

        Whatever happened before, the books balance then, everything counted is sent, and the journal is empty.
        """
        stripe_options = {"stripe_key": self.stripe.api_key, "stripe_base": self.stripe.url}
        with closing(self._kit(clock=later, **stripe_options)) as kit:
            summary = kit.report()
            books = kit.health()["books"]["calls"]
        assert "" == summary.error
        assert [] == sorted((self.data_dir / "journal").iterdir())
        assert books["balanced"]
        billed = self.billed(self.company) + self.billed(self.early)
        assert (billed, billed) == (books["counted"], books["sent"])
        return self.billed(self.company)

    def billed(self, customer: str) -> int:
        """What Stripe has received for *customer*."""
        return int(self.stripe.usage("calls", customer))

    @contextmanager
    def locked_ledger(self) -> Iterator[None]:
        """Another program has the ledger to itself: nobody can read or write it."""
        with closing(sqlite3.connect(self.ledger, isolation_level=None)) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            yield
            connection.execute("ROLLBACK")

    def _kit(self, **options) -> MeterKit:
        return MeterKit(
            meters=[Meter("calls")], data_dir=self.data_dir, flush_interval=3600.0, customer_ids=True, **options
        )
