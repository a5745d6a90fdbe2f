"""Turn one exchange into quantities for the meters that it matches."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from meterkit.core.problems import Problems, shown
from meterkit.core.usage_key import Sink, both_of, keyed
from meterkit.core.validation import checked_id, checked_moment, checked_quantity
from meterkit.core.windows import Windows
from meterkit.errors import UsageError
from meterkit.metering.aggregation import Aggregation
from meterkit.metering.exchange import Exchange
from meterkit.metering.identification import IdentityResolver, checked_user
from meterkit.metering.matching import Match, MeterMatcher
from meterkit.metering.meter import Meter


class Evaluator:
    """
    Computes what meters count, and adds it to the journal. Only `record` raises.

    Args:
        matcher: Matcher for the kit's meters.
        identity: Resolver of the company and user.
        sink: Destination of the counts.
        problems: Collector of mistakes.
        clock: Function that returns Unix seconds.
        windows: Windows in which usage is added up.
    """

    def __init__(
        self,
        *,
        matcher: MeterMatcher,
        identity: IdentityResolver,
        sink: Sink,
        problems: Problems,
        clock: Callable[[], float],
        windows: Windows,
    ) -> None:
        self._matcher = matcher
        self._identity = identity
        self._sink = sink
        self._problems = problems
        self._clock = clock
        self._windows = windows

    def measure(self, exchange: Exchange, match: Match) -> None:
        """Count *exchange* for all meters of *match*."""
        for name in exchange.usage:
            if name not in self._matcher.usage_names:
                message = f"add_usage({name!r:.100}): no meter has this value=; not counted"
                self._problems.note("usage_name_unknown", message)
        counted = []
        for meter in match.meters:
            quantity = self._quantity(meter, exchange)
            if quantity:
                counted.append((meter, quantity))
        observing = [meter for meter in match.observing if self._when_holds(meter, exchange)]
        if counted or observing:
            company, user = both_of(self._identity.subject(exchange))
            if counted:
                self._put(counted, company, user)
            for meter in observing:
                self._observe(meter, exchange, company, user)

    def record(
        self,
        meter: Meter,
        company: str,
        quantity: int,
        *,
        user: str | None = None,
        value: str | None = None,
        at: datetime | None = None,
        key: str | None = None,
    ) -> None:
        """
        Count usage outside HTTP, now or *at* a time in the last 35 days.

        Raises:
            UsageError: An argument is invalid.
        """
        quantity, company, user = checked_quantity(quantity), checked_id(company, "company"), checked_user(user)
        moment = None if at is None else checked_moment(at, self._clock())
        if key is not None:
            key = checked_id(key, "key")
        if isinstance(meter.value, Aggregation):
            if key is not None:
                raise UsageError(
                    f"{meter} needs no key=: its usage is not added up, so a second record() changes nothing",
                    reason="key_unwanted",
                )
            observation = meter.value.recorded(quantity, user, value)
            self._put([(meter, 1)], company, observation, moment)
        elif value is not None:
            raise UsageError(f"{meter} does not count values: value= needs a unique() meter", reason="value_unwanted")
        elif quantity and key is not None:
            self._put([(meter, 1)], company, keyed(quantity, user, key), moment)
        elif quantity:
            self._put([(meter, quantity)], company, user, moment)

    def _when_holds(self, meter: Meter, exchange: Exchange) -> bool:
        try:
            return meter.when is None or bool(meter.when(exchange))
        except Exception as error:
            self._problems.note("when_raised", f"{meter}: when= raised {shown(error)}; nothing was counted")
            return False

    def _observe(self, meter: Meter, exchange: Exchange, company: str, user: str) -> None:
        """Count an observation of a value. The ledger decides how much it adds to the billing period."""
        assert isinstance(meter.value, Aggregation)
        try:
            value = meter.value.found(exchange, user or None)
            if value is None and meter.value.of == "user":
                message = f"{meter}: the user is unknown; return Identity(company, user) from identify="
                self._problems.note("no_user", message)
            if value is not None:
                self._put([(meter, 1)], company, meter.value.observation(value))
        except UsageError as error:
            self._problems.note(error.reason, f"{meter}: {error}; nothing was counted")
        except Exception as error:
            self._problems.note("value_raised", f"{meter}: value= raised {shown(error)}; nothing was counted")

    def _quantity(self, meter: Meter, exchange: Exchange) -> int:
        if meter.when is not None and not self._when_holds(meter, exchange):
            return 0
        try:
            return meter.quantity(exchange)
        except UsageError as error:
            self._problems.note(error.reason, f"{meter}: {error}; nothing was counted")
        except Exception as error:
            self._problems.internal(error)  # concerns this meter only; the others still count
        return 0

    def _put(self, counted: list[tuple[Meter, int]], company: str, user: str, at: int | None = None) -> None:
        if at is None:
            now = int(self._clock())
            window = self._windows.at(now, company)
        else:
            now, window = at, self._windows.of_the_past(at, company)
        self._sink.count(
            [((meter.name, meter.event_name, company, user, window), quantity) for meter, quantity in counted],
            now,
        )
