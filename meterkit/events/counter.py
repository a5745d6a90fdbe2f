"""
Count events, once for each source and id.

A request's events are checked first, all of them, and then added to the journal, which a kill does not take. Each has a
key made of its source and id, so events that are sent again, because a response was lost or a part of them did not fit,
count once, as the keys of ``kit.record()`` do.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from meterkit.core import threads
from meterkit.core.problems import Problems
from meterkit.core.usage_key import Counted, event_key, keyed
from meterkit.core.windows import Windows
from meterkit.events.attributes import checked
from meterkit.events.errors import SHOWN, EventError, EventsError, WrongEvent
from meterkit.events.event import Attributes, Event
from meterkit.events.matching import EventMatcher
from meterkit.metering.dimensions.limit import CombinationLimit
from meterkit.metering.paths import glob


class EventSink(Protocol):
    """Destination of the counts."""

    def store(self, counts: list[Counted]) -> int:
        """Add as many of *counts* as a kill could not take, in their order; return how many."""


@dataclass(frozen=True, slots=True)
class Sender:
    """
    Who sends events, and what it may say.

    Attributes:
        name: Name of its key.
        sources: Globs for the ``source`` of its events; None for any.
        companies: Companies that its events may name; None for any.
    """

    name: str
    sources: tuple[str, ...] | None = None
    companies: Collection[str] | None = None


class EventCounter:
    """
    Counts events in the journal. Safe for several threads.

    Args:
        matcher: Matcher for the kit's meters.
        sink: Destination of the counts.
        problems: Collector of mistakes.
        clock: Function that returns Unix seconds.
        windows: Windows in which usage is added up.
    """

    def __init__(
        self,
        *,
        matcher: EventMatcher,
        sink: EventSink,
        problems: Problems,
        clock: Callable[[], float],
        windows: Windows,
    ) -> None:
        self.matcher = matcher
        self.sink = sink
        self.windows = windows
        self._problems = problems
        self._clock = clock
        self.limit = CombinationLimit(problems)
        self._lock = threads.rlock()
        self._unmatched = 0

    def batch(self, sender: Sender, *, strict: bool, refuse_unmatched: bool = False) -> EventBatch:
        """
        Return an empty batch of events of *sender*.

        Args:
            sender: Who sends them.
            strict: Whether they must be complete CloudEvents.
            refuse_unmatched: Whether an event that no meter counts is wrong.

        Raises:
            EventsError: The kit counts no events at all (status 503).
        """
        if not self.matcher.meters:
            raise EventsError(
                503,
                "no_event_meter",
                "the kit has no Meter with event_type=, so no event would count; add one, and send the events again",
                retry_after=60,
            )
        return EventBatch(self, sender, now=self._clock(), strict=strict, refuse_unmatched=refuse_unmatched)

    def note_unmatched(self, types: Sequence[str]) -> None:
        """Take note of accepted events, by their types, that no meter counts."""
        with self._lock:
            self._unmatched += len(types)
            number = self._unmatched
        self._problems.note("event_unmatched", f"events that counted for nothing: {number:,}; {self.hint(types[-1])}")

    def hint(self, event_type: str) -> str:
        """Return a sentence about *event_type*, which no meter counts, with the cure."""
        import difflib

        types = self.matcher.types
        close = difflib.get_close_matches(event_type[:200], types, n=1)
        cure = f"did you mean {close[0]!r}?" if close else f"they count {', '.join(map(repr, types[:10]))}"
        return f"no meter has event_type={event_type[:200]!a}; {cure}"

    def note_changed(self, event: Event) -> None:
        """Take note that a request has *event* again, with another content, which does not count."""
        self._problems.note(
            "key_reused",
            f"the event {event.id[:100]!r} of {event.source[:100]!r} is in one request twice, and differs: the first "
            "counts. Give each event its own id",
        )


class EventBatch:
    """
    The events of one request: first `add` all, then `check`, then `store` until that is done.

    Args:
        counter: Where they are counted.
        sender: Who sends them.
        now: Current time, Unix seconds.
        strict: Whether they must be complete CloudEvents.
        refuse_unmatched: Whether an event that no meter counts is wrong.

    Attributes:
        accepted: Number of events, without repeated ones.
        repeated: Number of events that are in the batch a second time.
        unmatched: Number of events that no meter counts.
    """

    def __init__(
        self, counter: EventCounter, sender: Sender, *, now: float, strict: bool, refuse_unmatched: bool
    ) -> None:
        self._counter = counter
        self._sender = sender
        self._sources = None if sender.sources is None else [glob(each) for each in sender.sources]
        self._now = now
        self._strict = strict
        self._refuse_unmatched = refuse_unmatched
        self._index = 0
        self._seen: dict[str, Event] = {}
        self._counts: list[Counted] = []
        self._stored = 0
        self._types: list[str] = []
        self._wrong: list[WrongEvent] = []
        self._wrong_number = 0
        self.repeated = 0

    @property
    def accepted(self) -> int:
        """Number of events, without repeated ones."""
        return len(self._seen)

    @property
    def unmatched(self) -> int:
        """Number of events that no meter counts."""
        return len(self._types)

    @property
    def unmatched_types(self) -> list[str]:
        """Types of events that no meter counts, each once."""
        return list(dict.fromkeys(self._types))

    def add(self, events: Iterable[Attributes]) -> None:
        """
        Check *events*, and find out what they count.

        Raises:
            EventsError: A function of the application raised (status 500).
        """
        for each in events:
            try:
                self._add(each)
            except EventError as error:
                self._wrong_number += 1
                if len(self._wrong) < SHOWN:
                    self._wrong.append(WrongEvent(self._index, _id_of(each), error.reason, error.detail))
            self._index += 1

    def check(self) -> None:
        """
        Check that all events can be counted.

        Raises:
            EventsError: One cannot, and none is counted (status 422).
        """
        number = self._wrong_number
        if not number:
            return
        first = self._wrong[0]
        which = "" if self._index == 1 else f"event {first.index} (of {self._index:,}, from 0): "
        more = f"; and {number - 1:,} more" if number > 1 else ""
        raise EventsError(
            422,
            first.reason if number == 1 else "events_wrong",
            f"nothing was counted: {which}{first.detail}{more}",
            wrong=tuple(self._wrong),
            number=number,
        )

    def store(self) -> bool:
        """Add what the events count to the journal, as far as there is room; return whether all is stored."""
        left = self._counts[self._stored :] if self._stored else self._counts
        if left:
            self._stored += self._counter.sink.store(left)
        return self._stored == len(self._counts)

    def finish(self) -> None:
        """Take note of the events that no meter counts, now that the others are stored."""
        if self._types:
            self._counter.note_unmatched(self._types)

    def _add(self, attributes: Attributes) -> None:
        default = "" if self._strict else self._sender.name
        event = checked(attributes, now=self._now, default_source=default, strict=self._strict)
        self._check_sender(event)
        key = event_key(event.source, event.id)
        seen = self._seen.get(key)
        if seen is not None:
            self.repeated += 1
            if _differ(seen, event):
                self._counter.note_changed(event)
            return
        counts = self._counter.matcher.counts(event)
        if counts is None:
            if self._refuse_unmatched:
                is_shown = len(self._wrong) < SHOWN  # to look for similar types takes a while
                raise EventError("event_unmatched", self._counter.hint(event.type) if is_shown else "")
            self._types.append(event.type)
        else:
            window = self._counter.windows.of_the_past(event.moment, event.company)
            for meter, quantity, observation, values in counts:
                if quantity:
                    what = observation or keyed(quantity, event.user, key)
                    event_name = self._counter.windows.event_name(meter.event_name, window)
                    if values:
                        event_name += self._counter.limit.suffix(meter, values, event.company, self._now)
                    usage_key = (meter.name, event_name, event.company, what, window)
                    self._counts.append((usage_key, 1, event.moment))
        self._seen[key] = event

    def _check_sender(self, event: Event) -> None:
        if self._sources is not None and not any(matches(event.source) for matches in self._sources):
            raise EventError(
                "source_not_allowed",
                f"the key of {self._sender.name} is for events of {' or '.join(self._sender.sources or ())}, not of "
                f"{event.source[:100]!r}: set source to that, or add it to the sources of the key",
            )
        if self._sender.companies is not None and event.company not in self._sender.companies:
            raise EventError(
                "company_not_allowed",
                f"the key of {self._sender.name} is not for the company {event.company!r}; add it to the companies of "
                "the key",
            )


def _differ(one: Event, other: Event) -> bool:
    try:
        return (one.type, one.company, one.user, one.data) != (other.type, other.company, other.user, other.data)
    except RecursionError:  # of data that nest deeply
        return True


def _id_of(attributes: Attributes) -> str:
    given = attributes.given
    found = given.get("id") if isinstance(given, dict) else None
    return found[:100] if isinstance(found, str) else ""
