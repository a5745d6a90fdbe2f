"""
The hot path: notice when a response is complete, and record its usage exactly once.

The adapters call `whole`, or `chunk` (or `sendfile`) and `close` (or `broke`). Nothing here ever raises.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from meterkit.core.problems import Problems
from meterkit.core.usage_key import MeterWindow, Sink, both_of, usage_key_of
from meterkit.core.windows import HOUR, Windows
from meterkit.errors import ConfigurationError
from meterkit.metering.evaluation import Evaluator
from meterkit.metering.exchange import NO_HEADERS, Exchange
from meterkit.metering.identification import Identify, IdentityResolver
from meterkit.metering.matching import Match, MeterMatcher
from meterkit.metering.route_check import RouteCheck

MARK = "meterkit.exchange"
"""The key in an environ or scope under which the outermost middleware leaves its exchange."""


class Recorder:
    """
    Applies the rules to exchanges, and puts what they count into the journal.

    Args:
        rulebook: The kit's meters.
        identify: Who pays for an exchange, where the view has not said so.
        sink: Where the counts go.
        problems: Where mistakes go.
        clock: Unix time in seconds.
        windows: In which a company's usage is added up.

    Attributes:
        is_timed: A meter may ask how long an exchange took.
    """

    def __init__(
        self,
        *,
        rulebook: MeterMatcher,
        identify: Identify | None,
        sink: Sink,
        problems: Problems,
        clock: Callable[[], float],
        windows: Windows,
    ) -> None:
        self._rulebook = rulebook
        self.identity = IdentityResolver(identify, problems)
        self._sink = sink
        self.problems = problems
        self._clock = clock
        self._windows = windows
        self.evaluator = Evaluator(
            rulebook=rulebook,
            identity=self.identity,
            sink=sink,
            problems=problems,
            clock=clock,
            windows=windows,
        )
        self.is_timed = rulebook.is_timed
        self._by_route = any(meter.route is not None for meter in rulebook.meters)
        self._routes = RouteCheck(rulebook.meters, problems)
        self._remembered = {} if self._by_route else rulebook.remembered

    def counts_already(self, mark: Any) -> bool:
        """
        Whether *mark*, found under `MARK`, is an exchange that a middleware further out counts.

        A closed one is none: the app made a second request out of the first one's environ or scope.
        """
        if not isinstance(mark, Exchange) or mark.closed:
            return False
        if mark.owner.recorder is not self:
            self.problems.note(
                "two_kits",
                "two kits stand around one exchange, and only the outer one counts it: install the middleware with "
                "one kit, and give that one the meters of both",
                level=logging.ERROR,
            )
        return True

    def refuse(self, exchange: Exchange) -> None:
        """*exchange* does not reach the app: it is no usage."""
        exchange.closed = True
        exchange.end()
        exchange.retract()

    def chunk(self, exchange: Exchange, data: bytes, *, last: bool = False) -> None:
        """
        *data* is about to leave. Call it before handing it on, so that usage is counted before it is delivered.

        *last* says that nothing follows. Otherwise the Content-Length tells whether this completes the response;
        where there is none, only the end of the stream does.
        """
        if exchange.closed:
            return
        try:
            if not exchange.begun:
                length = None if last else self._complete_at(exchange)
                if last or (length and length == len(data)):
                    self.whole(exchange, data)
                    return
                exchange.begun, exchange.length = True, length
                body_bytes = self._match(exchange).body_bytes
                if body_bytes:
                    exchange.body, exchange.body_cap = bytearray(), body_bytes
            if exchange.length != 0:  # the server keeps the body of a HEAD, 204 or 304 to itself
                exchange.response_bytes += len(data)
                if exchange.body is not None:
                    exchange.body += data[: max(0, exchange.body_cap + 1 - len(exchange.body))]
        except Exception as error:
            self.problems.internal(error)
        if last or (exchange.length is not None and exchange.response_bytes >= exchange.length):
            self.close(exchange)

    def whole(self, exchange: Exchange, body: bytes) -> None:
        """
        All of the response is about to leave at once, and *exchange* is not closed.

        This is the way of most requests, so nothing is called here that can be said here.
        """
        exchange.closed = True
        try:
            match = self._remembered.get((exchange.method, exchange.path, exchange.status))
            if match is None:
                self._look_at_routes(exchange)
                match = self._match(exchange)
            if match.one is not None and not exchange.touched:
                who = exchange.identified
                if who is None:
                    who = self.identity.asked(exchange)
                clock = self._clock
                now = clock()  # not yet an int: that would take as long as this
                begin, end, place = match.hour
                boundaries = self._windows.boundaries
                if not begin <= now < end or (boundaries and both_of(who)[0] in boundaries):
                    place = self._place_of(match, int(now), both_of(who)[0])
                if not self._sink.journal.count_one(place, who, now):
                    self._sink.count([(usage_key_of(place, self.identity.sound(who)), 1)], now)
            elif not exchange.skipped:
                self._count_whole(exchange, match, body)
        except Exception as error:
            self.problems.internal(error)
        exchange.native = None  # what `end` does
        exchange.headers = NO_HEADERS

    def sendfile(self, exchange: Exchange) -> None:
        """The server is about to send a file past the middleware: count it now, its bytes by the Content-Length."""
        if exchange.closed:
            return
        try:
            exchange.response_bytes = max(exchange.response_bytes, self._complete_at(exchange) or 0)
        except Exception as error:
            self.problems.internal(error)
        self.close(exchange)

    def close(self, exchange: Exchange) -> None:
        """Count *exchange*, once, however often it is called: it is complete, or the client is gone."""
        if exchange.closed:
            return
        exchange.closed = True
        self._look_at_routes(exchange)
        try:
            if not exchange.skipped:
                self.evaluator.measure(exchange, self._match(exchange))
        except Exception as error:
            self.problems.internal(error)
        exchange.end()

    def broke(self, exchange: Exchange) -> None:
        """The app raised, or ended without completing its response: that is a 500, whatever it had promised."""
        if not exchange.closed:
            exchange.status = 500
            self.close(exchange)

    def _look_at_routes(self, exchange: Exchange) -> None:
        try:
            if self._routes.active:
                self._routes.check(exchange)
        except Exception as error:
            self._routes.active = False
            self.problems.internal(error)

    def _complete_at(self, exchange: Exchange) -> int | None:
        return exchange.declared_bytes if self._match(exchange).has_body else 0

    def _match(self, exchange: Exchange) -> Match:
        route = exchange.route if self._by_route else None
        return self._rulebook.match(exchange.method, exchange.path, route, exchange.status)

    def _place_of(self, match: Match, now: int, company: str) -> MeterWindow:
        """Where *match* counts in the window of *company*; for all companies that have the whole hour, the same."""
        assert match.one is not None
        name, event_name = match.one
        window, hour = self._windows.at(now, company), now - now % HOUR
        if window != hour:
            return (name, event_name, window)
        begin, _, place = match.hour
        if begin != hour:
            place = (name, event_name, hour)
            match.hour = (float(hour), float(hour + HOUR), place)
        return place

    def _count_whole(self, exchange: Exchange, match: Match, body: bytes) -> None:
        if match.has_body:
            exchange.response_bytes = len(body)
            if match.body_bytes:
                # One byte over the cap is enough to tell that the body is too long.
                exchange.body = bytearray(body[: match.body_bytes + 1])
        try:
            self.evaluator.measure(exchange, match)
        finally:
            exchange.end()


def recorder_of(kit: Any) -> Recorder:
    """
    What *kit* counts with; the adapters ask while they are built.

    Raises:
        ConfigurationError: *kit* is not a MeterKit.
    """
    recorder = getattr(kit, "recorder", None)
    if not isinstance(recorder, Recorder):
        raise ConfigurationError(f"the middleware takes a MeterKit, such as billing.kit, not {kit!r:.200}")
    return recorder
