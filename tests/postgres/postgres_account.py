"""A Stripe account for many companies: who they are there, and what they are billed for."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager

import stripe as stripe_python

from meterkit.sandbox import Sandbox


@contextmanager
def open_account(**switches):
    """A sandbox in which the meter ``calls`` exists."""
    with Sandbox(**switches) as sandbox:
        _api(sandbox).billing.meters.create(
            {"display_name": "calls", "event_name": "calls", "default_aggregation": {"formula": "sum"}}
        )
        yield sandbox


def make_customers(sandbox: Sandbox, companies: list[str]) -> dict[str, str]:
    """A Stripe customer for each company."""
    return {company: _api(sandbox).customers.create({"name": company}).id for company in companies}


def billed(sandbox: Sandbox, customers: dict[str, str]) -> dict[str, int]:
    """What Stripe adds up, by company."""
    return {company: int(sandbox.usage("calls", customer)) for company, customer in customers.items()}


def used(kit) -> Counter[str]:
    """What is in the ledger, by company; a test by the real time may see two hours."""
    return sum((Counter({row.company: row.quantity}) for row in kit.usage()), Counter())


def _api(sandbox: Sandbox):
    return stripe_python.StripeClient(sandbox.api_key, base_addresses={"api": sandbox.url}).v1
