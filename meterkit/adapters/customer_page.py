"""Wiring: the path at which a customer sees its own usage, the same in every framework."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from meterkit.core.responses import Answer, json_answer
from meterkit.errors import ConfigurationError, LedgerError
from meterkit.governance.policy import Quota
from meterkit.metering.exchange import Exchange
from meterkit.metering.meter import Meter
from meterkit.metering.recorder import Counting
from meterkit.pricing.price import Price

if TYPE_CHECKING:
    from meterkit.kit import MeterKit


class Page:
    """
    Answers requests to a path, each with what the company may see that it is identified as.

    Args:
        path: Which path, as clients see it.
        kit: Whose ledger is read.
        counting: Knows whose an exchange is.
        prices: Of the kit.
        meters: Of the kit, by name.
        quotas: Of its governance.
    """

    def __init__(
        self,
        path: str,
        kit: MeterKit,
        *,
        counting: Counting,
        prices: Iterable[Price],
        meters: Mapping[str, Meter],
        quotas: Iterable[Quota],
    ) -> None:
        self.path = path
        self._kit = kit
        self._counting = counting
        self._prices = tuple(prices)
        self._meters = meters
        self._quotas = tuple(quotas)

    def answer(self, exchange: Exchange) -> Answer:
        """What to send for *exchange*, which is no usage. Never raises; reads the ledger."""
        if exchange.method not in ("GET", "HEAD"):
            return json_answer(405, {"error": "this can only be read"}, ("Allow", "GET, HEAD"))
        try:
            company = self._counting.identifying.early(exchange)
            if company is None:
                return json_answer(401, {"error": "nobody has said whose request this is"})
            from meterkit.accounts.statement import statement

            found = statement(
                self._kit.process().database(),
                company,
                meters=self._meters,
                prices=self._prices,
                quotas=self._quotas,
                now=int(self._kit.clock()),
            )
        except LedgerError:
            return json_answer(503, {"error": "it cannot be read now"}, ("Retry-After", "10"))
        except Exception as error:
            self._counting.problems.internal(error)
            return json_answer(500, {"error": "it cannot be shown"})
        return json_answer(200, found)


def check_path(path: Any, webhook: str | None) -> None:
    """
    It is a path that the page can have, beside the *webhook*'s.

    Raises:
        ConfigurationError: It is not.
    """
    if not isinstance(path, str) or not path.startswith("/") or set(path) & set("?#*{<"):
        raise ConfigurationError(f"customer_page= is one path such as '/billing/usage', not {path!r:.200}")
    if path == webhook:
        raise ConfigurationError(f"customer_page= and the webhook have the same path {path!r}: give one another")
