"""The customer's page: usage, tiers, quotas, the next invoice, invoices, twelve months."""

from __future__ import annotations

from meterkit.core.responses import Response
from meterkit.pages.customer_page import CustomerStatements
from meterkit.pages.request import PageRequest, Route


class CustomerViews:
    """
    The pages of a company.

    Args:
        statements: Computes what a company may see.
    """

    def __init__(self, statements: CustomerStatements) -> None:
        self._statements = statements

    def routes(self) -> list[Route]:
        """Return the pages."""
        return [Route("", self.overview, "customer")]

    def overview(self, request: PageRequest) -> Response:
        """Show all that the company may see."""
        assert request.company is not None
        return request.page("customer.html", statement=self._statements.of(request.company))
