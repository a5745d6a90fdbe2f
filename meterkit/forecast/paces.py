"""How each of many companies uses each meter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import sqlalchemy as sa

from meterkit.accounts.period_usage import Pair
from meterkit.forecast.history import History, histories
from meterkit.forecast.projection import FEWEST_DAYS, NOTHING, Pace, Projection, pace_of
from meterkit.metering.aggregation import Aggregation
from meterkit.metering.meter import Meter


class Paces:
    """
    How each of some companies uses each meter: read at once for all of them, when one is asked for.

    Args:
        connection: Connection to the ledger, which stays open.
        companies: Company ids.
        meters: Meters of the kit, by name.
        now: Current time, Unix seconds.
    """

    def __init__(
        self, connection: sa.Connection, companies: Iterable[str], meters: Mapping[str, Meter], *, now: int
    ) -> None:
        self._meters = meters
        self._now = now
        self._connection = connection
        self._companies = list(companies)
        self._read: dict[Pair, History] | None = None
        self._paces: dict[Pair, Pace | None] = {}

    def project(self, company: str, meter: str, used: int, *, end: int) -> Projection | None:
        """
        Return what *company* will have used of *meter* at the Unix second *end*; None if that is unknown.

        Args:
            company: Company id.
            meter: Name of the meter.
            used: Quantity so far in the period that ends then.
            end: Unix second at which the period ends.
        """
        pair = company, meter
        if pair not in self._paces:
            history = self._histories.get(pair)
            found = NOTHING if history is None else pace_of(history)
            self._paces[pair] = None if self._is_aggregated(meter) else found
        pace = self._paces[pair]
        return None if pace is None else pace.project(used, now=self._now, end=end)

    def unknown(self, company: str, meter: str) -> str:
        """Return why `project` returns None, in one sentence."""
        if self._is_aggregated(meter):
            return f"{meter} counts different values or the highest one, which does not go on from day to day"
        history = self._histories.get((company, meter))
        days = 0 if history is None else len(history.days)
        return (
            f"{meter} has been used for {days} whole day{'' if days == 1 else 's'}, and a forecast needs {FEWEST_DAYS}"
        )

    @property
    def _histories(self) -> dict[Pair, History]:
        if self._read is None:
            self._read = histories(self._connection, self._companies, now=self._now)
        return self._read

    def _is_aggregated(self, name: str) -> bool:
        meter = self._meters.get(name)
        return meter is not None and isinstance(meter.value, Aggregation)
