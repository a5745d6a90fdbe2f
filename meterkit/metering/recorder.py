"""
The hot path: notice when a response is complete, and record its usage exactly once.

The adapters call `whole`, or `chunk` (or `sendfile`) and `close` (or `broke`). Nothing here ever raises.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from meterkit.core.problems import Problems
from meterkit.core.usage_key import MeterWindow, Sink, Subject, both_of, usage_key_of
from meterkit.core.windows import HOUR, Windows
from meterkit.errors import ConfigurationError
from meterkit.metering.evaluation import Evaluator, Settled
from meterkit.metering.exchange import NO_HEADERS, Exchange, Identity
from meterkit.metering.identification import Identify, IdentityResolver
from meterkit.metering.matching import Match, MeterMatcher
from meterkit.metering.meter import Meter
from meterkit.metering.unmatched import RouteCheck

MARK = "meterkit.exchange"
"""Key in an environ or scope under which the outermost middleware stores its exchange."""


CLIENT_LEFT = 499
"""Status of an exchange whose client left before the app answered, as in the logs of nginx."""


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
        reads_requests: Whether a meter may need the bytes of a request's body.
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
        self.reads_requests = any(_may_need_request_bytes(meter) for meter in matcher.meters)
        self._by_route = any(meter.route is not None for meter in matcher.meters)
        self._routes = RouteCheck(matcher.meters, problems)
        self._remembered = {} if self._by_route else matcher.remembered

    @property
    def shadow_until(self) -> float:
        """Unix second, of a whole hour, until which usage is counted in shadow mode."""
        return self._windows.shadow_until

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
                _prepare_body(exchange, self._match(exchange))
            if exchange.length != 0:  # the server does not send the body of a HEAD, 204 or 304
                exchange.response_bytes += len(data)
                if exchange.body is not None or exchange.readers is not None:
                    _read_body(exchange, data)
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
            match = self._remembered.get((exchange.verb, exchange.target, exchange.status))
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
            else:
                exchange.end()
        except Exception as error:
            self.problems.internal(error)
        exchange.native = None  # inlined from `end`
        exchange.headers = NO_HEADERS

    async def ask(self, exchange: Exchange, *, shielded: bool = False) -> None:
        """
        Await an async ``identify=`` for an *exchange* that is about to be counted, unless nothing depends on it.

        Args:
            exchange: Exchange whose status and route are known.
            shielded: Whether the request may have been cancelled.
        """
        asks = self.identity.asks
        if asks is None or exchange.skipped or exchange.identity is not None or exchange.identified is not None:
            return
        if exchange.answer is not None and exchange.answer[0] is not None:
            return
        try:
            match = self._match(exchange)
        except Exception as error:
            self.problems.internal(error)
            return
        if match.meters or match.observing:
            await (asks.ask_shielded(exchange) if shielded else asks.ask(exchange))

    def settle_identity(self, exchange: Exchange) -> None:
        """Find out who pays before the body is streamed, unless no meter matches; see `IdentifyInThread`."""
        match = self._match(exchange)
        if match.meters or match.observing:
            self.identity.settle(exchange)

    def sendfile(self, exchange: Exchange, length_of: Callable[[], int | None] = lambda: None) -> None:
        """
        Count *exchange* before the server sends a file past the middleware.

        Its bytes are the Content-Length. Without one, they are what *length_of* returns, if it can know.
        """
        if exchange.closed:
            return
        try:
            length = self._complete_at(exchange)
            if length is None:
                length = length_of()
            exchange.is_length_unknown = length is None
            exchange.response_bytes = max(exchange.response_bytes, length or 0)
        except Exception as error:
            self.problems.internal(error)
        self.close(exchange)

    def close(self, exchange: Exchange) -> None:
        """
        Count *exchange*, which is complete or whose client has disconnected. Further calls do nothing.

        Without a status, the client has left before the app answered, which is no failure of the app: it is a 499.
        """
        if exchange.closed:
            return
        exchange.closed = True
        if not exchange.status:
            exchange.status = CLIENT_LEFT
        self._check_routes(exchange)
        try:
            if not exchange.skipped:
                self.evaluator.measure(exchange, self._match(exchange))
        except Exception as error:
            self.problems.internal(error)
        exchange.end()

    def close_call(self, exchange: Exchange) -> None:
        """Count *exchange*, which is a call of a tool and whose status is known. Never raises."""
        if exchange.closed:
            return
        exchange.closed = True
        try:
            match = self._match(exchange)
            if not exchange.skipped and (match.meters or match.observing):
                self.evaluator.measure(exchange, match)
        except Exception as error:
            self.problems.internal(error)
        exchange.end()

    def broke(self, exchange: Exchange) -> None:
        """Count *exchange* as a 500: the app raised, or returned without completing its response."""
        if not exchange.closed:
            exchange.status = 500
            self.close(exchange)

    def add_late(self, exchange: Exchange, name: str, said: int | str, *, subject: Subject | None) -> bool:
        """
        Count what a view adds to *exchange* after that was counted; return whether it is known who pays for it.

        Args:
            exchange: Exchange that is closed, or that counts at once.
            name: Name under which the view adds.
            said: Quantity or value.
            subject: Company, or company and user, that the view has identified since; None for that of the exchange.
        """
        try:
            if exchange.skipped:
                return True
            settled: Settled | None = exchange.settled
            if settled is None and exchange.counts_at_once and not exchange.closed:
                settled = self._settle(exchange)
            if subject is None and settled is None:
                return False
            if settled is None:  # nobody asked for it while when= could be evaluated
                match = self._match(exchange)
                meters = tuple(each for each in (*match.meters, *match.observing) if each.when is None)
            else:
                meters = settled.meters
                subject = settled.subject if subject is None else subject
            assert subject is not None
            values = None if settled is None else settled.values
            self.evaluator.add_late(meters, subject, name, said, values, holds=exchange.holds)
        except Exception as error:
            self.problems.internal(error)
        return True

    def close_counted_at_once(self, exchange: Exchange) -> None:
        """Close *exchange*, of which what the view added has been counted."""
        try:
            if exchange.touched and exchange.settled is None:  # somebody has a handle, and may use it later
                self._settle(exchange)
        except Exception as error:
            self.problems.internal(error)
        exchange.closed = True
        exchange.end()

    def _settle(self, exchange: Exchange) -> Settled:
        exchange.find_route()
        settled = exchange.settled = self.evaluator.settle(exchange, self._match(exchange))
        return settled

    def check_subject(self, identity: Identity) -> Subject:
        """Return *identity* as a subject; `NOBODY`, and note a problem, if it is not valid."""
        return self.identity.checked(identity)

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
        return self._matcher.match(exchange.verb, exchange.target, route, exchange.status)

    def _place_of(self, match: Match, now: int, company: str) -> MeterWindow:
        """Return the meter's window for *company*, which is the same for all companies whose hour is not split."""
        assert match.one is not None
        name, event_name = match.one
        window, hour = self._windows.at(now, company), now - now % HOUR
        event_name = self._windows.event_name(event_name, window)
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
            if match.body_bytes or match.streamed:
                _prepare_body(exchange, match)
                _read_body(exchange, body)
        try:
            self.evaluator.measure(exchange, match)
        finally:
            exchange.end()


def _prepare_body(exchange: Exchange, match: Match) -> None:
    """Get ready for the body of *exchange*, as far as the meters of *match* read it."""
    if match.body_bytes:
        exchange.body, exchange.body_cap = bytearray(), match.body_bytes
    if match.streamed:
        encoding = exchange.response_headers.get("content-encoding", "")
        exchange.readers = {type(value): value.reader(encoding) for value in match.streamed}


def _read_body(exchange: Exchange, data: bytes) -> None:
    if exchange.body is not None:
        # One byte over the cap is enough to see that the body is too long.
        exchange.body += data[: max(0, exchange.body_cap + 1 - len(exchange.body))]
    if exchange.readers is not None:
        for reader in exchange.readers.values():
            reader.feed(data)


def _may_need_request_bytes(meter: Meter) -> bool:
    return meter.value == "request_bytes" or meter.calls_functions


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
