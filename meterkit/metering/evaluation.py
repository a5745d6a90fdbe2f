"""Turn one exchange into quantities for the meters that it matches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from meterkit.core.problems import Problems, shown
from meterkit.core.usage_key import NOBODY, Sink, Subject, both_of, keyed, shadowed
from meterkit.core.validation import SubjectId, checked_id, checked_moment, checked_quantity, checked_subject_id
from meterkit.core.windows import Windows
from meterkit.errors import UsageError
from meterkit.metering.aggregation import Aggregation
from meterkit.metering.dimensions.capture import Capture, Part, checked_values, quantities, split
from meterkit.metering.dimensions.limit import CombinationLimit
from meterkit.metering.dimensions.quantities import Total, parts_of
from meterkit.metering.exchange import Exchange, ExchangeHold
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
        values: Values that their functions have found for their dimensions, by the meter's name; None if no meter has
            dimensions.
    """

    subject: Subject
    meters: tuple[Meter, ...]
    values: Mapping[str, Mapping[str, str]] | None = None


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
        learns: Function that is told what an exchange has counted: company, name of the meter, and quantity; or None.
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
        self.learns: Callable[[str, str, int], None] | None = None
        self._matcher = matcher
        self._identity = identity
        self._sink = sink
        self._problems = problems
        self._clock = clock
        self._windows = windows
        self._capture = Capture(problems)
        self._limit = CombinationLimit(problems)

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
        parts: Sequence[Part] = ()
        if match.has_dimensions:
            self._check_dimensions(exchange)
            parts = [part for meter in adding if meter.by for part in self._parts(meter, exchange)]
            counted = [(each, found) for each in adding if not each.by and (found := self._quantity(each, exchange))]
        else:
            counted = [(meter, quantity) for meter in adding if (quantity := self._quantity(meter, exchange))]
        later = [meter for meter in (*adding, *observing) if meter.added_name is not None] if exchange.touched else []
        subject: Subject = NOBODY
        if counted or parts or observing or later:
            subject = self._identity.subject(exchange, quiet=not (counted or parts or observing))
            company, user = both_of(subject)
            if counted or parts:
                self._put(counted, company, user, parts=parts)
                if exchange.holds or self.learns is not None:
                    self._tell(exchange, company, quantities(counted, parts))
            for meter in observing:
                self._observe(meter, exchange, company, user)
        if exchange.touched:
            values = self._found(later, exchange) if match.has_dimensions else None
            exchange.settled = Settled(subject, tuple(later), values)

    def _tell(self, exchange: Exchange, company: str, counted: dict[str, int]) -> None:
        """Tell holds and estimates what *exchange* has *counted* for *company*, by meter."""
        if exchange.holds:
            exchange.counted = company, counted
        if self.learns is not None:
            for meter, quantity in counted.items():
                self.learns(company, meter, quantity)

    def settle(self, exchange: Exchange, match: Match) -> Settled:
        """Return who pays for what the view adds to *exchange*, and the meters of *match* that count it."""
        meters = (*match.meters, *match.observing)
        later = tuple(meter for meter in meters if meter.added_name is not None and self._when_holds(meter, exchange))
        subject = self._identity.subject(exchange) if later else NOBODY
        return Settled(subject, later, self._found(later, exchange) if match.has_dimensions else None)

    def add_late(
        self,
        meters: Iterable[Meter],
        subject: Subject,
        name: str,
        said: int | str,
        values: Mapping[str, Mapping[str, str]] | None,
        *,
        holds: Iterable[ExchangeHold],
    ) -> None:
        """
        Count what a view adds to an exchange that has been counted already.

        Args:
            meters: Meters that count what views add.
            subject: Company, or company and user, that pays.
            name: Name under which the view adds.
            said: Quantity or value.
            values: Values of dimensions that are known of the exchange, by the meter's name; None for none.
            holds: Holds of the exchange.
        """
        company, user = both_of(subject)
        meters = [meter for meter in meters if meter.added_name == name]
        if isinstance(said, int):
            self._check_name(name)
            adding = [meter for meter in meters if said and not isinstance(meter.value, Aggregation)]
            counted = [(meter, int(said)) for meter in adding if not meter.by]
            divided = [split(meter, parts_of(said), (values or {}).get(meter.name, {})) for meter in adding if meter.by]
            if adding:
                parts = [part for each in divided for part in each]
                self._put(counted, company, user, parts=parts)
                covered = quantities(counted, parts)
                for hold in holds:
                    hold.cover(company, covered)
        for meter in meters:
            if isinstance(meter.value, Aggregation) and meter.value.takes(said):
                self._put_observation(meter, said, company)

    def _check_name(self, name: str) -> None:
        if name not in self._matcher.usage_names:
            message = f"add_usage({name!r:.100}): no meter has this value=; not counted"
            self._problems.note("usage_name_unknown", message)

    def _check_dimensions(self, exchange: Exchange) -> None:
        """Note which dimensions the view has told that no meter has: a misspelt one would be unknown for ever."""
        for name, said in exchange.said:
            if isinstance(said, Total) and said.parts is not None:
                told = {dimension for pairs in said.parts for dimension, _ in pairs}
                unknown = sorted(told - self._matcher.dimensions)
                if unknown:
                    message = f"add_usage({name!r:.100}, {unknown[0]}=...): no meter has this dimension in by="
                    self._problems.note("dimension_unknown", message)

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
        dimensions: Mapping[str, str | int | None] | None = None,
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
        values = checked_values(meter, dimensions) if meter.by or dimensions is not None else ()
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
        elif quantity:
            if key is not None:
                quantity, who = 1, keyed(quantity, who, key)
            if meter.by:
                self._put([], payer, who, moment, parts=[(meter, values, quantity)])
            else:
                self._put([(meter, quantity)], payer, who, moment)

    def _when_holds(self, meter: Meter, exchange: Exchange) -> bool:
        when: Any = meter.when  # that of a meter of exchanges, which takes one
        try:
            return when is None or bool(when(exchange))
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

    def _parts(self, meter: Meter, exchange: Exchange) -> list[Part]:
        """Return how much *exchange* counts for *meter*, which has dimensions, by their values."""
        try:
            return self._capture.parts(meter, exchange)
        except UsageError as error:
            self._problems.note(error.reason, f"{meter}: {error}; nothing was counted", meter=meter.name)
        except Exception as error:
            self._problems.internal(error)
        return []

    def _found(self, meters: Iterable[Meter], exchange: Exchange) -> dict[str, Mapping[str, str]]:
        """Return the values of dimensions that functions find in *exchange*, by the meter's name."""
        return {meter.name: self._capture.found(meter, exchange) for meter in meters if meter.by}

    def _put(
        self,
        counted: list[tuple[Meter, int]],
        company: str,
        user: str,
        at: int | None = None,
        *,
        parts: Iterable[Part] = (),
    ) -> None:
        if at is None:
            now = int(self._clock())
            window = self._windows.at(now, company)
        else:
            now, window = at, self._windows.of_the_past(at, company)
        cells = [((meter.name, meter.event_name, company, user, window), quantity) for meter, quantity in counted]
        if window < self._windows.shadow_until:
            cells = [((key[0], shadowed(key[1]), *key[2:]), quantity) for key, quantity in cells]
        for meter, values, quantity in parts:
            event_name = self._windows.event_name(meter.event_name, window)
            event_name += self._limit.suffix(meter, values, company, self._clock())
            cells.append(((meter.name, event_name, company, user, window), quantity))
        self._sink.count(cells, now)
