"""Count logged exchanges with the meters of the kit, at the times of their lines."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from meterkit.access_logs.exchange import LogExchange
from meterkit.access_logs.formats.line import Line, is_absent
from meterkit.access_logs.formats.structured import at
from meterkit.core.problems import Problems
from meterkit.core.usage_key import Counted, MeterWindow, OneByOne, Subject, UsageKey
from meterkit.core.windows import Windows
from meterkit.errors import ConfigurationError
from meterkit.metering.evaluation import Evaluator
from meterkit.metering.exchange import Exchange, Identity
from meterkit.metering.identification import IdentityResolver
from meterkit.metering.matching import MeterMatcher
from meterkit.metering.meter import Meter, ResponseJson, StreamedValue


class _WindowsOfLines(Windows):
    """Windows in which what happens now may be weeks ago."""

    __slots__ = ()

    def at(self, moment: int, company: str) -> int:
        return self.of_the_past(moment, company)


class LineCounter:
    """
    Adds up what lines count. It also stands for the middleware, which exchanges have as their owner.

    Args:
        meters: Meters that are counted; those that a log cannot say are left out, see `uncountable`.
        identity: Resolver of the company and user.
        problems: Collector of mistakes.
        shadow_until: Unix second, of a whole hour, until which usage is counted in shadow mode.

    Attributes:
        recorder: The part of a recorder that an exchange uses: this.
        windows: Windows in which usage is added up; whoever counts keeps them up to date.
        is_timed: Whether durations are measured: logs have them.
        unmatched: Number of successes that no meter matched.
    """

    is_timed = False

    def __init__(
        self, meters: Iterable[Meter], *, identity: IdentityResolver, problems: Problems, shadow_until: float = 0.0
    ) -> None:
        self.windows: Windows = _WindowsOfLines(shadow_until)
        self.problems = problems
        self._identity = identity
        self._matcher = MeterMatcher(meter for meter in meters if uncountable(meter) is None)
        self._now = 0
        self._sums: dict[UsageKey, tuple[int, int]] = {}
        self._evaluator = Evaluator(
            matcher=self._matcher,
            identity=identity,
            sink=self,
            problems=problems,
            clock=lambda: self._now,
            windows=self.windows,
        )

    @property
    def recorder(self) -> LineCounter:
        """The part of a recorder that an exchange uses."""
        return self

    @property
    def journal(self) -> OneByOne:
        """Where single counts would go."""
        return self

    def count_one(self, _place: MeterWindow, _who: Subject, _now: float) -> bool:
        """Count nothing: everything comes in `count`."""
        return False

    def count(self, cells: list[tuple[UsageKey, int]], now: float) -> None:
        """Add each quantity to its usage key, which was used at the Unix second *now*."""
        for key, quantity in cells:
            before, latest = self._sums.get(key, (0, 0))
            self._sums[key] = (before + quantity, max(latest, int(now)))

    def add(self, line: Line, now: int) -> None:
        """Count *line*, which happened at the Unix second *now*. Never raises."""
        if not line.method:
            return  # no request that an app has got
        self._now = now
        try:
            exchange = LogExchange(line, self)
            self._evaluator.measure(exchange, self._matcher.match(line.method, line.path, None, line.status))
        except Exception as error:
            self.problems.internal(error)

    def take(self) -> list[Counted]:
        """Return what has been added up since the last call."""
        sums, self._sums = self._sums, {}
        return [(key, quantity, last) for key, (quantity, last) in sums.items()]

    def unmatched(self) -> dict[str, int]:
        """Return the number of successes that no meter matched, by method and path."""
        return self._evaluator.unmatched.as_dict()

    def add_late(self, _exchange: Exchange, _name: str, _said: int | str, *, subject: Subject | None) -> bool:
        """Count nothing: no view runs."""
        return subject is None

    def check_subject(self, identity: Identity) -> Subject:
        """Return *identity* as a subject; `NOBODY`, and note a problem, if it is not valid."""
        return self._identity.checked(identity)

    def counts_already(self, _mark: Any) -> bool:
        """Return False: no middleware is further out."""
        return False


def uncountable(meter: Meter) -> str | None:
    """Return why an access log cannot say what *meter* counts, and the cure; None if it can."""
    if meter.event_type is not None:
        return f"{meter} has event_type=, and counts what is posted to /v1/events"
    if not meter.http:
        return f"{meter} has http=False, so only kit.record() counts for it"
    if meter.tool is not None:
        return f"{meter} has tool=, and counts calls of the tools of an MCP server, which meterkit.mcp meters"
    if meter.route is not None:
        return f"{meter} has route=, which only the app knows: use path=, such as path='/items/*'"
    if isinstance(meter.value, ResponseJson | StreamedValue):
        return f"{meter} reads the body of responses, which no access log has: use the middleware, or post events"
    if any(isinstance(each.source, ResponseJson) for each in meter.sources):
        return f"{meter} reads dimensions from the body of responses, which no access log has: use the middleware"
    if meter.added_name is not None:
        return (
            f"{meter} counts what views add as {meter.added_name!r}, which no access log has: use the middleware, or "
            "for unique() and maximum() a function of the exchange that reads what is logged"
        )
    return None


def countable(meters: Iterable[Meter], names: Iterable[str] = ()) -> tuple[list[Meter], list[str]]:
    """
    Return the meters that an access log can count, and why the others cannot.

    Args:
        meters: Meters of the kit.
        names: Names of those that are to be counted; empty for all.

    Raises:
        ConfigurationError: A name is unknown, or there is none that can be counted.
    """
    by_name = {meter.name: meter for meter in meters}
    chosen = list(names)
    unknown = [name for name in chosen if name not in by_name]
    if unknown:
        raise ConfigurationError(f"this kit has no meter {unknown[0]!r}, only {', '.join(by_name)}")
    found = [by_name[name] for name in chosen] if chosen else list(by_name.values())
    why = [reason for meter in found if (chosen or meter.http) and (reason := uncountable(meter)) is not None]
    counted = [meter for meter in found if uncountable(meter) is None]
    if not counted:
        raise ConfigurationError(f"an access log can count no meter: {'; '.join(why) or 'all have http=False'}")
    return counted, why


def by_field(name: str, user: str | None = None) -> Callable[[Exchange], Identity | None]:
    """
    Return an ``identify=`` that takes the company, and perhaps the user, from fields of the log.

    Args:
        name: Name of the field, such as ``remote_user`` or ``consumer.custom_id``, with dots into inner objects.
        user: Name of the field with the user, likewise.
    """

    def identify(exchange: Exchange) -> Identity | None:
        company = at(exchange.native, name)
        if is_absent(company):
            return None
        who = None if user is None else at(exchange.native, user)
        return Identity(company, None if is_absent(who) else who)

    return identify
