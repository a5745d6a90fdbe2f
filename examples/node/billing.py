"""
The meter, its price and how a company is identified, for an app that is not in Python.

As in the other examples, but for ``path=``: what is outside of the app does not know its routes.
"""

from __future__ import annotations

from meterkit import Exchange, Meter, MeterKit, Price, Tier

API_KEYS = {
    "key-of-acme": "acme",
    "key-of-globex": "globex",
}


def company_of(exchange: Exchange) -> str | None:
    """Return the company that pays, or None if it is unknown; that usage is counted and shown, but billed to no one."""
    return API_KEYS.get(exchange.headers.get("x-api-key", ""))


credit_scores = Meter("credit_scores", path="/RetrieveCreditScore", method="POST", status=200)

kit = MeterKit(
    meters=[credit_scores],
    prices=[
        Price.graduated(
            credit_scores,
            Tier(up_to=100, unit_price="5.00"),
            Tier(up_to=1_000, unit_price="3.00"),
            Tier(unit_price="2.00"),
        )
    ],
    identify=company_of,
)
