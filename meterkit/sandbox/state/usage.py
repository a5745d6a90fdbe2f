"""The accepted meter events, and their sums by each meter's formula, in exact decimals."""

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
        event_name: Event name of the meter.
        identifier: Identifier, unique for 24 hours.
        customer: Stripe customer id in the payload; "" if an asynchronous check found none.
        value: Exact quantity; 1 for a meter that counts events.
        timestamp: Unix second at which the usage happened.
        received_at: Unix second at which the event was received.
        meter: Id of the meter; "" if an asynchronous check found none.
        error_code: Code of the error for which an asynchronous check dropped it; None if the event counts.

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
    """All accepted meter events, and their sums."""

    def __init__(self, clock: Clock, switches: Switches) -> None:
        self._clock = clock
        self._switches = switches
        self.events: list[MeterEvent] = []
        self._counted: dict[tuple[str, str], list[int]] = defaultdict(list)  # (meter, customer) -> places in events
        self._identifiers: dict[tuple[str, ...], int] = {}  # identifier in its scope -> when it was received
        self._canceled: dict[int, int] = {}  # place in events -> when the cancellation takes effect

    def remembers(self, event_name: str, customer: str, identifier: str) -> bool:
        """Return whether an event with that identifier was received within the duplicate window."""
        received_at = self._identifiers.get(self._scope(event_name, customer, identifier))
        return received_at is not None and self._clock.now < received_at + self._switches.duplicate_window

    def consume(self, event_name: str, customer: str, identifier: str) -> None:
        """Mark an identifier as used."""
        self._identifiers[self._scope(event_name, customer, identifier)] = self._clock.now

    def keep(self, event: MeterEvent) -> None:
        """Store an accepted event."""
        if event.error_code is None:
            self._counted[event.meter, event.customer].append(len(self.events))
        self.events.append(event)
        self.consume(event.event_name, event.customer, event.identifier)

    def drop(self, event: MeterEvent) -> None:
        """Store an event that does not count; a switch decides whether its identifier is used up."""
        self.events.append(event)
        if self._switches.rejected_consumes_identifier:
            self.consume(event.event_name, event.customer, event.identifier)

    def cancel(self, event_name: str, identifier: str) -> int | None:
        """
        Cancel the latest event with that identifier, if it was received within the last 24 hours.

        Returns:
            Unix second at which the cancellation takes effect; None if there is no such event.

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
        Return the events of a customer that count on a meter, in the order of receipt.

        Args:
            meter: Record of the meter.
            customer: Id of the customer.
            lagging: Whether to ignore events and cancellations that are younger than the processing lag.

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
        # A pre-aggregated meter keeps the event received last in each UTC hour or day, whatever its timestamp.
        survivors = {event.timestamp // window: event for event in events}
        return list(survivors.values())

    def _scope(self, event_name: str, customer: str, identifier: str) -> tuple[str, ...]:
        scope = self._switches.identifier_scope
        within = {"account": (), "event_name": (event_name,), "customer": (customer,)}[scope]
        return (*within, identifier)

    def total(self, meter: dict[str, Any], customer: str, *, start: int, end: int, lagging: bool = True) -> Decimal:
        """Return a customer's usage in `start <= timestamp < end`, by the meter's formula."""
        events = self.counted(meter, customer, lagging=lagging)
        return aggregate(meter, (event for event in events if start <= event.timestamp < end))


def aggregate(meter: dict[str, Any], events: Iterable[MeterEvent]) -> Decimal:
    """Apply the meter's formula to events in the order of receipt; 0 if there are none."""
    formula = meter["default_aggregation"]["formula"]
    chosen = list(events)
    if formula == "count":
        return Decimal(len(chosen))
    if formula == "last":
        # On equal timestamps, the event received last wins; max() returns the first, so go through them backwards.
        return max(reversed(chosen), key=lambda event: event.timestamp).value if chosen else Decimal(0)
    return sum((event.value for event in chosen), Decimal(0))
