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
"""Key in an environ or scope under which the outermost middleware stores its exchange."""


class Recorder:
    """
    Matches exchanges against the meters, and counts their usage in the journal.

    Args:
        matcher: Matcher for the kit's meters.
        identify: The kit's ``identify=``; None if there is none.
        sink: Destination of the counts.
        problems: Collector of mistakes.
        clock: Function that returns Unix seconds.
        windows: Windows in which usage is added up.

    Attributes:
        is_timed: Whether a meter may need the duration of an exchange.
    """

    def __init__(
        self,
        *,
        matcher: MeterMatcher,
        identify: Identify | None,
        sink: Sink,
        problems: Problems,
        clock: Callable[[], float],
        windows: Windows,
    ) -> None:
        self._matcher = matcher
        self.identity = IdentityResolver(identify, problems)
        self._sink = sink
        self.problems = problems
        self._clock = clock
        self._windows = windows
        self.evaluator = Evaluator(
            matcher=matcher,
            identity=self.identity,
            sink=sink,
            problems=problems,
            clock=clock,
            windows=windows,
        )
        self.is_timed = matcher.is_timed
        self._by_route = any(meter.route is not None for meter in matcher.meters)
        self._routes = RouteCheck(matcher.meters, problems)
        self._remembered = {} if self._by_route else matcher.remembered

    def counts_already(self, mark: Any) -> bool:
        """
        Return whether *mark*, found under `MARK`, is an exchange that a middleware further out counts.

        A closed exchange does not count: the app made a second request with the environ or scope of the first.
        """
        if not isinstance(mark, Exchange) or mark.closed:
            return False
        if mark.owner.recorder is not self:
            self.problems.note(
                "two_kits",
                "two kits meter the same exchange, and only the outer one counts it: install the middleware with a "
                "single kit that has the meters of both",
                level=logging.ERROR,
            )
        return True

    def refuse(self, exchange: Exchange) -> None:
        """Close *exchange* without counting it, because it does not reach the app."""
        exchange.closed = True
        exchange.end()
        exchange.retract()

    def chunk(self, exchange: Exchange, data: bytes, *, last: bool = False) -> None:
        """
        Take note of *data* before it is handed on, and count the exchange if it completes the response.

        *last* means that nothing follows. Otherwise *data* completes the response if it reaches the Content-Length;
        without one, only the end of the stream shows that the response is complete.
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
            if exchange.length != 0:  # the server does not send the body of a HEAD, 204 or 304
                exchange.response_bytes += len(data)
                if exchange.body is not None:
                    exchange.body += data[: max(0, exchange.body_cap + 1 - len(exchange.body))]
        except Exception as error:
            self.problems.internal(error)
        if last or (exchange.length is not None and exchange.response_bytes >= exchange.length):
            self.close(exchange)

    def whole(self, exchange: Exchange, body: bytes) -> None:
        """
        Count an open *exchange* whose complete response is about to be sent in one piece.

        Most requests take this path, so whatever can be inlined here is.
        """
        exchange.closed = True
        try:
            match = self._remembered.get((exchange.method, exchange.path, exchange.status))
            if match is None:
                self._check_routes(exchange)
                match = self._match(exchange)
            if match.one is not None and not exchange.touched:
                who = exchange.identified
                if who is None:
                    who = self.identity.unchecked_subject(exchange)
                clock = self._clock
                now = clock()  # int() would double the cost of this line
                begin, end, place = match.hour
                boundaries = self._windows.boundaries
                if not begin <= now < end or (boundaries and both_of(who)[0] in boundaries):
                    place = self._place_of(match, int(now), both_of(who)[0])
                if not self._sink.journal.count_one(place, who, now):
                    self._sink.count([(usage_key_of(place, self.identity.checked_subject(who)), 1)], now)
            elif not exchange.skipped:
                self._count_whole(exchange, match, body)
        except Exception as error:
            self.problems.internal(error)
        exchange.native = None  # inlined from `end`
        exchange.headers = NO_HEADERS

    def settle_identity(self, exchange: Exchange) -> None:
        """Find out who pays before the body is streamed, unless no meter matches; see `IdentifyInThread`."""
        match = self._match(exchange)
        if match.meters or match.observing:
            self.identity.settle(exchange)

    def sendfile(self, exchange: Exchange) -> None:
        """Count *exchange* before the server sends a file past the middleware; its bytes, by the Content-Length."""
        if exchange.closed:
            return
        try:
            exchange.response_bytes = max(exchange.response_bytes, self._complete_at(exchange) or 0)
        except Exception as error:
            self.problems.internal(error)
        self.close(exchange)

    def close(self, exchange: Exchange) -> None:
        """Count *exchange*, which is complete or whose client has disconnected. Further calls do nothing."""
        if exchange.closed:
            return
        exchange.closed = True
        self._check_routes(exchange)
        try:
            if not exchange.skipped:
                self.evaluator.measure(exchange, self._match(exchange))
        except Exception as error:
            self.problems.internal(error)
        exchange.end()

    def broke(self, exchange: Exchange) -> None:
        """Count *exchange* as a 500: the app raised, or returned without completing its response."""
        if not exchange.closed:
            exchange.status = 500
            self.close(exchange)

    def _check_routes(self, exchange: Exchange) -> None:
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
        return self._matcher.match(exchange.method, exchange.path, route, exchange.status)

    def _place_of(self, match: Match, now: int, company: str) -> MeterWindow:
        """Return the meter's window for *company*, which is the same for all companies whose hour is not split."""
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
                # One byte over the cap is enough to see that the body is too long.
                exchange.body = bytearray(body[: match.body_bytes + 1])
        try:
            self.evaluator.measure(exchange, match)
        finally:
            exchange.end()


def recorder_of(kit: Any) -> Recorder:
    """
    Return the recorder of *kit*, for an adapter that is being built.

    Raises:
        ConfigurationError: *kit* is not a MeterKit.
    """
    recorder = getattr(kit, "recorder", None)
    if not isinstance(recorder, Recorder):
        raise ConfigurationError(f"the middleware needs a MeterKit, such as billing.kit, not {kit!r:.200}")
    return recorder
