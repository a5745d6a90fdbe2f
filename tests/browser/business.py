"""Companies of the shop with some months behind them, for the pages of the team and for the screenshots."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import datetime, timezone

import shop
import stripe as stripe_python

DAY = 24 * 3600

COMPANIES = {"acme": "Acme", "globex": "Globex", "initech": "Initech", "hooli": "<b>Hooli</b> \u202e& Söhne"}


def api(stripe):
    """The account's API."""
    return stripe_python.StripeClient(stripe.api_key, base_addresses={"api": stripe.url}).v1


@contextmanager
def shop_kit(stripe, directory):
    """The shop's kit in this process, beside the server's, in the same ledger."""
    kit = shop.make_kit(base=stripe.url, stripe_key=stripe.api_key, data_dir=directory / "data")
    try:
        yield kit
    finally:
        kit.close()


def trade(stripe, directory, *, months):
    """Let all companies subscribe, and use more each month; the customers by company."""
    with shop_kit(stripe, directory) as kit:
        customers = {}
        for company, name in COMPANIES.items():
            plan = "team" if company == "initech" else "pro"
            email = f"billing@{company}.example"
            customers[company] = kit.subscribe(company, plan=plan, name=name, email=email).customer
        for month in range(months):
            start = stripe.now
            stripe.advance(seconds=27 * DAY)
            for day in range(28):
                at = datetime.fromtimestamp(start + day * DAY, timezone.utc)
                for number, company in enumerate(COMPANIES, 1):
                    kit.record(shop.CALLS, company, (20 + 3 * month + (day * number) % 7) // number, at=at)
                    if day % 3 == 0:
                        kit.record(shop.EXPORTS, company, 1 + number % 2, at=at)
            kit.report(include_open=True)
            if month < months - 1:
                stripe.advance(seconds=5 * DAY)  # over the end of the billing period, and the hour of its invoices
        kit.sync()
    return customers
