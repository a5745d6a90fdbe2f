"""Meter events at rest, and what they add up to: the arithmetic of meters, in exact decimals."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from meterkit.sandbox.state.clock import Clock
    from meterkit.sandbox.state.switches import Switches

WINDOWS = {"hour": 3600, "day": 86400}


@dataclass(frozen=True)
class MeterEvent:
    """
    A meter event that Stripe has accepted.

    Attributes:
        event_name: The name that the meter listens to.
        identifier: Unique for 24 hours.
        customer: The Stripe customer id in its payload; "" if an asynchronous check found none.
        value: The quantity, exactly; 1 where a counting meter got none.
        timestamp: When the usage happened, unix seconds.
        received_at: When Stripe got it, unix seconds.
        meter: The id of the meter that took it; "" where an asynchronous check found none.
        error_code: Why an asynchronous check dropped it after the 200; None for an event that counts.

    """

    event_name: str
    identifier: str
    customer: str
    value: Decimal
    timestamp: int
    received_at: int
    meter: str
    error_code: str | None = None


class Usage:
    """All accepted meter events, and the sums over them."""

    def __init__(self, clock: Clock, switches: Switches) -> None:
        self._clock = clock
        self._switches = switches
        self.events: list[MeterEvent] = []
        self._counted: dict[tuple[str, str], list[int]] = defaultdict(list)  # (meter, customer) -> places in events
        self._identifiers: dict[tuple[str, ...], int] = {}  # identifier in its scope -> when it was received
        self._canceled: dict[int, int] = {}  # place in events -> when the cancellation takes effect

    def remembers(self, event_name: str, customer: str, identifier: str) -> bool:
        """Whether an event with that identifier came within the duplicate window."""
        received_at = self._identifiers.get(self._scope(event_name, customer, identifier))
        return received_at is not None and self._clock.now < received_at + self._switches.duplicate_window

    def consume(self, event_name: str, customer: str, identifier: str) -> None:
        """Remember an identifier from now on."""
        self._identifiers[self._scope(event_name, customer, identifier)] = self._clock.now

    def keep(self, event: MeterEvent) -> None:
        """Accept an event."""
        if event.error_code is None:
            self._counted[event.meter, event.customer].append(len(self.events))
        self.events.append(event)
        self.consume(event.event_name, event.customer, event.identifier)

    def drop(self, event: MeterEvent) -> None:
        """Have received an event of which nothing comes; what becomes of its identifier is a switch."""
        self.events.append(event)
        if self._switches.rejected_consumes_identifier:
            self.consume(event.event_name, event.customer, event.identifier)

    def cancel(self, event_name: str, identifier: str) -> int | None:
        """
        Take the latest event of that identifier back, if it was received within the last 24 hours.

        Returns:
            When that takes effect, unix seconds; None where there is no such event.

        """
        now = self._clock.now
        for place in reversed(range(len(self.events))):
            event = self.events[place]
            if (event.event_name, event.identifier) == (event_name, identifier):
                if place in self._canceled or now > event.received_at + 24 * 3600:
                    return None
                self._canceled[place] = now + self._switches.event_lag
                return self._canceled[place]
        return None

    def counted(self, meter: dict[str, Any], customer: str, *, lagging: bool) -> list[MeterEvent]:
        """
        The events of a customer that count on a meter, in the order of their receipt.

        Args:
            meter: The meter's record.
            customer: The customer's id.
            lagging: Whether events and cancellations younger than the processing lag are still out of sight.

        """
        now, lag = self._clock.now, self._switches.event_lag
        events = [
            self.events[place]
            for place in self._counted[meter["id"], customer]
            if not (place in self._canceled and (not lagging or self._canceled[place] <= now))
            and not (lagging and self.events[place].received_at + lag > now)
        ]
        window = WINDOWS.get(meter["event_time_window"] or "")
        if window is None:
            return events
        # A pre-aggregated meter keeps what was received last in each UTC hour or day, whatever its timestamp.
        survivors = {event.timestamp // window: event for event in events}
        return list(survivors.values())

    def _scope(self, event_name: str, customer: str, identifier: str) -> tuple[str, ...]:
        scope = self._switches.identifier_scope
        within = {"account": (), "event_name": (event_name,), "customer": (customer,)}[scope]
        return (*within, identifier)

    def total(self, meter: dict[str, Any], customer: str, *, start: int, end: int, lagging: bool = True) -> Decimal:
        """What a customer used in `start <= timestamp < end`, by the meter's formula."""
        events = self.counted(meter, customer, lagging=lagging)
        return aggregate(meter, (event for event in events if start <= event.timestamp < end))


def aggregate(meter: dict[str, Any], events: Iterable[MeterEvent]) -> Decimal:
    """The meter's formula over events in the order of their receipt; 0 for none."""
    formula = meter["default_aggregation"]["formula"]
    chosen = list(events)
    if formula == "count":
        return Decimal(len(chosen))
    if formula == "last":
        # max keeps the first of equals, and the event received later wins a tie: so look from the end.
        return max(reversed(chosen), key=lambda event: event.timestamp).value if chosen else Decimal(0)
    return sum((event.value for event in chosen), Decimal(0))
