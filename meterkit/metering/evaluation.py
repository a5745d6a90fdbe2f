"""Turn one exchange into quantities for the meters that it matches."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from meterkit.core.problems import Problems, shown
from meterkit.core.usage_key import NOBODY, Sink, Subject, both_of, keyed
from meterkit.core.validation import SubjectId, checked_id, checked_moment, checked_quantity, checked_subject_id
from meterkit.core.windows import Windows
from meterkit.errors import UsageError
from meterkit.metering.aggregation import Aggregation
from meterkit.metering.exchange import Exchange
from meterkit.metering.identification import IdentityResolver, checked_user
from meterkit.metering.matching import Match, MeterMatcher
from meterkit.metering.meter import Meter
from meterkit.metering.unmatched import Unmatched


@dataclass(slots=True)
class Settled:
    """
    What is known of an exchange that has been counted, for usage that arrives afterwards.

    Attributes:
        subject: Company, or company and user, that pays.
        meters: Matching meters that count what views add.
    """

    subject: Subject
    meters: tuple[Meter, ...]


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

    Attributes:
        unmatched: Counter of the successes that no meter matched.
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
        self.unmatched = Unmatched(matcher, problems)
        self._matcher = matcher
        self._identity = identity
        self._sink = sink
        self._problems = problems
        self._clock = clock
        self._windows = windows

    def measure(self, exchange: Exchange, match: Match) -> None:
        """Count *exchange* for all meters of *match*, and remember who pays for what the view adds later."""
        if not match.meters and not match.observing:
            self.unmatched.note(exchange, match)
        if match.anonymous is not None and not self._identity.is_known(exchange):
            match = match.anonymous
        if exchange.touched:
            with exchange.touch():  # what another thread adds is either counted here or finds the exchange settled
                self._measure(exchange, match)
        else:
            self._measure(exchange, match)

    def _measure(self, exchange: Exchange, match: Match) -> None:
        for name in exchange.usage:
            self._check_name(name)
        adding = [meter for meter in match.meters if self._when_holds(meter, exchange)]
        observing = [meter for meter in match.observing if self._when_holds(meter, exchange)]
        counted = [(meter, quantity) for meter in adding if (quantity := self._quantity(meter, exchange))]
        later = [meter for meter in (*adding, *observing) if meter.added_name is not None] if exchange.touched else []
        subject: Subject = NOBODY
        if counted or observing or later:
            subject = self._identity.subject(exchange, quiet=not (counted or observing))
            company, user = both_of(subject)
            if counted:
                self._put(counted, company, user)
            for meter in observing:
                self._observe(meter, exchange, company, user)
        if exchange.touched:
            exchange.settled = Settled(subject, tuple(later))

    def settle(self, exchange: Exchange, match: Match) -> Settled:
        """Return who pays for what the view adds to *exchange*, and the meters of *match* that count it."""
        meters = (*match.meters, *match.observing)
        later = tuple(meter for meter in meters if meter.added_name is not None and self._when_holds(meter, exchange))
        return Settled(self._identity.subject(exchange) if later else NOBODY, later)

    def add_late(self, meters: Iterable[Meter], subject: Subject, name: str, said: int | str) -> None:
        """Count for *meters* what a view adds under *name* to an exchange that has been counted already."""
        company, user = both_of(subject)
        meters = [meter for meter in meters if meter.added_name == name]
        if isinstance(said, int):
            self._check_name(name)
            counted = [(meter, said) for meter in meters if said and not isinstance(meter.value, Aggregation)]
            if counted:
                self._put(counted, company, user)
        for meter in meters:
            if isinstance(meter.value, Aggregation) and meter.value.takes(said):
                self._put_observation(meter, said, company)

    def _check_name(self, name: str) -> None:
        if name not in self._matcher.usage_names:
            message = f"add_usage({name!r:.100}): no meter has this value=; not counted"
            self._problems.note("usage_name_unknown", message)

    def record(
        self,
        meter: Meter,
        company: SubjectId,
        quantity: int,
        *,
        user: SubjectId | None = None,
        value: str | None = None,
        at: datetime | None = None,
        key: str | None = None,
    ) -> None:
        """
        Count usage outside HTTP, now or *at* a time in the last 35 days.

        Raises:
            UsageError: An argument is invalid.
        """
        quantity, payer, who = checked_quantity(quantity), checked_subject_id(company, "company"), checked_user(user)
        moment = None if at is None else checked_moment(at, self._clock())
        if key is not None:
            key = checked_id(key, "key")
        if isinstance(meter.value, Aggregation):
            if key is not None:
                raise UsageError(
                    f"{meter} needs no key=: its usage is not added up, so a second record() changes nothing",
                    reason="key_unwanted",
                )
            observation = meter.value.recorded(quantity, who, value)
            self._put([(meter, 1)], payer, observation, moment)
        elif value is not None:
            raise UsageError(f"{meter} does not count values: value= needs a unique() meter", reason="value_unwanted")
        elif quantity and key is not None:
            self._put([(meter, 1)], payer, keyed(quantity, who, key), moment)
        elif quantity:
            self._put([(meter, quantity)], payer, who, moment)

    def _when_holds(self, meter: Meter, exchange: Exchange) -> bool:
        try:
            return meter.when is None or bool(meter.when(exchange))
        except Exception as error:
            message = f"{meter}: when= raised {shown(error)}; nothing was counted"
            self._problems.note("when_raised", message, error=error, meter=meter.name)
            return False

    def _observe(self, meter: Meter, exchange: Exchange, company: str, user: str) -> None:
        """Count an observation of a value. The ledger decides how much it adds to the billing period."""
        assert isinstance(meter.value, Aggregation)
        try:
            value = meter.value.found(exchange, user or None)
            if value is None and meter.value.of == "user":
                message = f"{meter}: the user is unknown; return Identity(company, user) from identify="
                self._problems.note("no_user", message, meter=meter.name, company=company or None)
            if value is not None:
                self._put_observation(meter, value, company)
        except UsageError as error:
            self._problems.note(error.reason, f"{meter}: {error}; nothing was counted", meter=meter.name)
        except Exception as error:
            message = f"{meter}: value= raised {shown(error)}; nothing was counted"
            self._problems.note("value_raised", message, error=error, meter=meter.name)

    def _put_observation(self, meter: Meter, value: Any, company: str) -> None:
        assert isinstance(meter.value, Aggregation)
        self._put([(meter, 1)], company, meter.value.observation(value))

    def _quantity(self, meter: Meter, exchange: Exchange) -> int:
        try:
            return meter.quantity(exchange)
        except UsageError as error:
            self._problems.note(error.reason, f"{meter}: {error}; nothing was counted", meter=meter.name)
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
