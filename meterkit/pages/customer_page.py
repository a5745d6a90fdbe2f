"""The endpoint at which a company sees its own usage, as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from meterkit.core.responses import Response, json_response, response
from meterkit.errors import ConfigurationError, LedgerError
from meterkit.governance.company_plans import CompanyPlans
from meterkit.governance.limits.limit_cache import LimitCache
from meterkit.metering.exchange import Exchange
from meterkit.metering.meter import Meter
from meterkit.metering.recorder import Recorder
from meterkit.pricing.price import Price
from meterkit.wallets.wallet import Wallet

if TYPE_CHECKING:
    from meterkit.accounts.statement import Limit
    from meterkit.forecast.forecast import Cap, Forecast
    from meterkit.ledger.database import Database


class CustomerStatements:
    """
    Computes what each company may see of its account, for the pages and the JSON.

    Args:
        database: Function that opens the ledger.
        prices: Prices of the kit, for companies without a known subscription.
        meters: Meters of the kit, by name; a statement shows those that are billable.
        limits: Limit caches of the quotas to show.
        plans: Plans of the companies; None for a kit without plans.
        clock: Function that returns Unix seconds.
        wallets: Wallets of the kit, by name.
        cap: Spending cap of the kit, or None.
    """

    def __init__(
        self,
        *,
        database: Callable[[], Database],
        prices: Iterable[Price],
        meters: Mapping[str, Meter],
        limits: Iterable[LimitCache],
        plans: CompanyPlans | None,
        clock: Callable[[], float],
        wallets: Mapping[str, Wallet],
        cap: Cap | None = None,
    ) -> None:
        self._database = database
        self._wallets = wallets
        self._prices = tuple(prices)
        self._meters = meters
        self._shown = {name: meter for name, meter in meters.items() if meter.billable}
        self._cap = cap
        self._limits = tuple(limits)
        self._plans = plans
        self._clock = clock

    def of(self, company: str) -> dict[str, Any]:
        """
        Return the statement of *company*; `docs/customer-page.md` describes it.

        Raises:
            LedgerError: The ledger cannot be read.
        """
        from meterkit.accounts.statement import statement

        found = statement(
            self._database(),
            company,
            meters=self._shown,
            prices=self._prices,
            limits=self._limits_of(company),
            now=int(self._clock()),
        )
        if self._wallets:
            from meterkit.wallets.statement import shown_to_customer

            found["wallets"] = [
                shown_to_customer(self._database(), company, wallet, now=int(self._clock()))
                for wallet in self._wallets.values()
            ]
        found["forecast"] = self._shown_forecast(company)
        if self._plans is not None:
            plan = self._plans.looked_up(company)
            found["plan"] = None if plan is None else plan.name
        return found

    def forecast(self, company: str) -> Forecast:
        """
        Return the forecast of *company*.

        Raises:
            LedgerError: The ledger cannot be read.
        """
        from meterkit.forecast.forecaster import Forecaster

        forecaster = Forecaster(self._meters, self._prices, cap=self._cap)
        with self._database().snapshot() as connection:
            return forecaster.of(connection, company, limits=self._limits_of(company), now=int(self._clock()))

    def forecasts(self, companies: Iterable[str]) -> Iterator[Forecast]:
        """
        Yield the forecasts of many companies.

        Raises:
            LedgerError: The ledger cannot be read.
        """
        from meterkit.forecast.forecaster import Forecaster
        from meterkit.ledger.bulk import BATCH

        forecaster, ids = Forecaster(self._meters, self._prices, cap=self._cap), list(companies)
        for start in range(0, len(ids), BATCH):
            with self._database().snapshot() as connection:
                found = forecaster.of_all(
                    connection, ids[start : start + BATCH], limits_of=self._limits_of, now=int(self._clock())
                )
            yield from found

    def _limits_of(self, company: str) -> list[Limit]:
        from meterkit.accounts.statement import Limit

        return [
            Limit(each.quota.meter.name, each.quota.per, each.get(company))
            for each in self._limits
            if each.applies_to(company)
        ]

    def _shown_forecast(self, company: str) -> dict[str, Any]:
        from meterkit.forecast.forecast import as_json

        found = as_json(self.forecast(company))
        return {
            "usage": [each for each in found["usage"] if each["meter"] in self._shown],
            "cost": found["cost"],
            "limits": [each for each in found["limits"] if each["meter"] is None or each["meter"] in self._shown],
        }


class CustomerPage:
    """
    Responds to requests for one path with the usage of the company that ``identify=`` returns.

    Args:
        path: Path of the page, as clients see it.
        recorder: Recorder that identifies the company.
        statements: Computes the usage.

    Attributes:
        prefix: The path.
    """

    def __init__(self, path: str, *, recorder: Recorder, statements: CustomerStatements) -> None:
        self.prefix = path
        self._recorder = recorder
        self._statements = statements

    def serves(self, exchange: Exchange) -> bool:
        """Return whether *exchange* is for this page. Never raises."""
        return exchange.path == self.prefix

    def respond(self, exchange: Exchange, query: str = "") -> Response:  # noqa: ARG002 - it has no parameters
        """Return the response to *exchange*, which is not metered. Reads the ledger; never raises."""
        if exchange.method == "OPTIONS":  # of a browser, to which what adds CORS headers then answers
            return response(200, b"", ("Allow", "GET, HEAD, OPTIONS"))
        if exchange.method not in ("GET", "HEAD"):
            return json_response(405, {"error": "only GET and HEAD are allowed"}, ("Allow", "GET, HEAD"))
        try:
            company = self._recorder.identity.early(exchange)
            if company is None:
                return json_response(401, {"error": "no company was identified for this request"})
            return json_response(200, self._statements.of(company))
        except LedgerError:
            return json_response(503, {"error": "usage is temporarily unavailable"}, ("Retry-After", "10"))
        except Exception as error:
            self._recorder.problems.internal(error)
            return json_response(500, {"error": "usage could not be computed"})


def check_path(path: Any, webhook: str | None) -> None:
    """
    Check ``customer_page=``, the path of the customer page.

    Args:
        path: Path to check.
        webhook: Path of the webhook endpoint; None if there is none.

    Raises:
        ConfigurationError: *path* is not a plain path, or is the webhook's.
    """
    if not isinstance(path, str) or not path.startswith("/") or set(path) & set("?#*{<"):
        raise ConfigurationError(f"customer_page= must be a plain path such as '/billing/usage', not {path!r:.200}")
    if path == webhook:
        raise ConfigurationError(f"customer_page= and webhook= have the same path, {path!r}; change one of them")
