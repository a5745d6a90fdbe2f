"""
The meter, its price and how a company is identified: the same code for every framework.

Every app in this directory imports `kit` from here, and so does the command line: ``meterkit usage billing:kit``.
"""

from __future__ import annotations

from meterkit import Exchange, Meter, MeterKit, Price, Tier

# In your application: the table of API keys. A client must not be able to choose who pays, so identify the company by
# the secret that it authenticates with, never by a header that merely claims an id.
API_KEYS = {
    "key-of-acme": "acme",
    "key-of-globex": "globex",
}


def company_of(exchange: Exchange) -> str | None:
    """Return the company that pays, or None if it is unknown; that usage is counted and shown, but billed to no one."""
    return API_KEYS.get(exchange.headers.get("x-api-key", ""))


credit_scores = Meter("credit_scores", route="/RetrieveCreditScore", method="POST", status=200)

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
