"""What the middleware asks of the pages of a kit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from meterkit.core.responses import Response
from meterkit.metering.exchange import Exchange


class ServedPage(Protocol):
    """
    A page, or several, that the middleware serves in place of the app.

    The middleware asks `serves` only of a path that begins with `prefix`, or of a mounted app.
    """

    @property
    def prefix(self) -> str | tuple[str, ...]:
        """What the paths of its requests begin with, for ``str.startswith``."""

    def serves(self, exchange: Exchange) -> bool:
        """Return whether *exchange* is for this page. Never raises."""

    def respond(self, exchange: Exchange, query: str = "") -> Response:
        """Return the response to *exchange*, which has the query string *query*. Reads the ledger; never raises."""


class ServedPages:
    """
    Several pages at different paths.

    Args:
        pages: The pages, in the order in which they are asked.
    """

    def __init__(self, pages: Iterable[ServedPage]) -> None:
        self._pages = tuple(pages)
        self.prefix = tuple(str(page.prefix) for page in self._pages)

    def serves(self, exchange: Exchange) -> bool:
        """Return whether *exchange* is for one of the pages. Never raises."""
        return any(page.serves(exchange) for page in self._pages)

    def respond(self, exchange: Exchange, query: str = "") -> Response:
        """Return the response of the page that *exchange* is for. Reads the ledger; never raises."""
        return next(page for page in self._pages if page.serves(exchange)).respond(exchange, query)
