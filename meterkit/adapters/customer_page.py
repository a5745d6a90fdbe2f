"""The endpoint at which a company sees its own usage, as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from meterkit.core.responses import Response, json_response
from meterkit.errors import ConfigurationError, LedgerError
from meterkit.governance.limits import LimitCache
from meterkit.metering.exchange import Exchange
from meterkit.metering.meter import Meter
from meterkit.metering.recorder import Recorder
from meterkit.pricing.price import Price

if TYPE_CHECKING:
    from meterkit.ledger.database import Database


class CustomerPage:
    """
    Responds to requests to a path, each with what the company that it is identified as may see.

    Args:
        path: Path as clients see it.
        database: Opens the ledger.
        counting: Recorder that identifies the company.
        prices: Prices of the kit, for companies without a known subscription.
        meters: Meters of the kit, by name.
        limits: Limit caches of the quotas to show.
        clock: Function that returns Unix seconds.
    """

    def __init__(
        self,
        path: str,
        *,
        database: Callable[[], Database],
        recorder: Recorder,
        prices: Iterable[Price],
        meters: Mapping[str, Meter],
        limits: Iterable[LimitCache],
        clock: Callable[[], float],
    ) -> None:
        self.path = path
        self._database = database
        self._recorder = recorder
        self._prices = tuple(prices)
        self._meters = meters
        self._limits = tuple(limits)
        self._clock = clock

    def respond(self, exchange: Exchange) -> Response:
        """What to send for *exchange*, which is no usage. Never raises; reads the ledger."""
        if exchange.method not in ("GET", "HEAD"):
            return json_response(405, {"error": "this can only be read"}, ("Allow", "GET, HEAD"))
        try:
            company = self._recorder.identity.early(exchange)
            if company is None:
                return json_response(401, {"error": "this request has no company"})
            from meterkit.accounts.statement import Limit, statement

            limits = [Limit(each.quota.meter.name, each.quota.per, each.get(company)) for each in self._limits]
            found = statement(
                self._database(),
                company,
                meters=self._meters,
                prices=self._prices,
                limits=limits,
                now=int(self._clock()),
            )
        except LedgerError:
            return json_response(503, {"error": "it cannot be read now"}, ("Retry-After", "10"))
        except Exception as error:
            self._recorder.problems.internal(error)
            return json_response(500, {"error": "it cannot be shown"})
        return json_response(200, found)


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
