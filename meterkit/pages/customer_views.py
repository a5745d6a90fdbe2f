"""The customer's page: usage, tiers, quotas, the next invoice, invoices, twelve months."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from meterkit.core.responses import Response
from meterkit.pages.customer_page import CustomerStatements
from meterkit.pages.request import PageRequest, Route
from meterkit.pages.sign_up import SignUp
from meterkit.pricing.plan import Plan


class CustomerViews:
    """
    The page of a company, and the same for an iframe.

    Args:
        statements: Computes what a company may see.
        sign_up: What the company may subscribe to.
    """

    def __init__(self, statements: CustomerStatements, sign_up: SignUp) -> None:
        self._statements = statements
        self._sign_up = sign_up

    def routes(self) -> list[Route]:
        """Return the pages."""
        return [Route("", self.overview, "customer"), Route("embed", self.embedded, "token")]

    def overview(self, request: PageRequest) -> Response:
        """Show all that the company may see, and what it can subscribe to."""
        settled = self._sign_up.settle(request)
        if settled is not None:
            return settled
        assert request.company is not None
        statement = self._statements.of(request.company)
        is_subscribed = bool(statement["invoices"])
        offers = [] if is_subscribed else [_offer(plan) for plan in self._sign_up.plans]
        return request.page(
            "customer.html",
            statement=statement,
            offers=offers,
            sells_prices=self._sign_up.sells_prices and not is_subscribed,
            has_portal=self._sign_up.has_key and (is_subscribed or bool(statement["billed"])),
        )

    def embedded(self, request: PageRequest) -> Response:
        """Show the same, without buttons."""
        assert request.company is not None
        statement = self._statements.of(request.company)
        return request.page("customer.html", statement=statement, offers=[], sells_prices=False, has_portal=False)


def _offer(plan: Plan) -> dict[str, Any]:
    """Return what is shown of a plan: its fee, and what the first paid unit of each meter costs."""
    fee = plan.fee_in()
    prices = [
        {
            "meter": price.meter.name,
            "included": plan.includes.get(price.meter, 0),
            "unit_price": next((tier.unit_price for tier in price.tiers if Decimal(tier.unit_price)), Decimal(0)),
            "currency": price.currency,
            "size": price.size,
        }
        for price in plan.prices_in()
    ]
    shown = None if fee is None else {"amount": fee.amount, "currency": fee.currency, "interval": fee.interval}
    return {"name": plan.name, "fee": shown, "trial_days": plan.trial_days, "prices": prices}
