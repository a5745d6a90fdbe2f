"""
Aggregate: from an exchange to the journal, in the request's own time.

The adapters call `open`, then `chunk` (or `sendfile`) and `close` (or `broke`); ``kit.record()`` calls `record`.
Nothing but `record` ever raises.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any, Protocol, TypeAlias

from meterkit.errors import ConfigurationError, UsageError
from meterkit.exchange import Exchange, Identity
from meterkit.limits import checked_id, checked_moment, checked_quantity
from meterkit.meter import Meter
from meterkit.problems import Problems
from meterkit.routewatch import RouteWatch
from meterkit.rulebook import Rulebook
from meterkit.windows import Windows

NOBODY = ""
"""Stands for no company, or no user. An id is never empty, so it cannot be mistaken for one."""

CAPPED = "capped"
"""The user of nobody under which a flood of unknown companies is counted: nobody has no other."""

MARK = "meterkit.exchange"
"""The key in an environ or scope under which the outermost middleware leaves its exchange."""

Cell: TypeAlias = "tuple[str, str, str, str, int]"
"""What is counted apart: meter name, Stripe event name, company, user, window."""

Identify: TypeAlias = Callable[[Exchange], "str | Identity | None"]


class Sink(Protocol):
    """What keeps the counts: the journal."""

    def count(self, cells: list[tuple[Cell, int]], now: int) -> None:
        """Add each quantity to its cell; *now* is the unix second of the usage."""


class Counting:
    """
    Applies the rules to exchanges, and puts what they count into the journal.

    Args:
        rulebook: The kit's meters.
        identify: Who pays for an exchange, where the view has not said so.
        sink: Where the counts go.
        problems: Where mistakes go.
        clock: Unix time in seconds.
        windows: In which a company's usage is added up.
    """

    def __init__(
        self,
        *,
        rulebook: Rulebook,
        identify: Identify | None,
        sink: Sink,
        problems: Problems,
        clock: Callable[[], float],
        windows: Windows,
    ) -> None:
        self._rulebook = rulebook
        self._identify = identify
        self._sink = sink
        self._problems = problems
        self._clock = clock
        self._windows = windows
        self._routes = RouteWatch(rulebook.meters, problems)

    def counts_already(self, mark: Any) -> bool:
        """
        Whether *mark*, found under `MARK`, is an exchange that a middleware further out counts.

        A closed one is none: the app made a second request out of the first one's environ or scope.
        """
        if not isinstance(mark, Exchange) or mark.closed:
            return False
        if not mark.reports_to(self._problems):
            self._problems.note(
                "two_kits",
                "two kits stand around one exchange, and only the outer one counts it: install the middleware with "
                "one kit, and give that one the meters of both",
                level=logging.ERROR,
            )
        return True

    def open(self, exchange: Exchange) -> None:
        """The request came in: let the view say who and how much."""
        exchange.publish(self._problems)

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
                exchange.begun = True
                self._first_chunk(exchange, last=last)
            if exchange.length != 0:  # the server keeps the body of a HEAD, 204 or 304 to itself
                exchange.response_bytes += len(data)
                if exchange.body is not None:
                    # One byte over the cap is enough to tell that the body is too long.
                    exchange.body += data[: max(0, exchange.body_cap + 1 - len(exchange.body))]
        except Exception as error:
            self.internal(error)
        if last or (exchange.length is not None and exchange.response_bytes >= exchange.length):
            self.close(exchange)

    def sendfile(self, exchange: Exchange) -> None:
        """The server is about to send a file past the middleware: count it now, its bytes by the Content-Length."""
        if exchange.closed:
            return
        try:
            exchange.response_bytes = max(exchange.response_bytes, _complete_at(exchange) or 0)
        except Exception as error:
            self.internal(error)
        self.close(exchange)

    def close(self, exchange: Exchange) -> None:
        """Count *exchange*, once, however often it is called: it is complete, or the client is gone."""
        if exchange.closed:
            return
        exchange.closed = True
        if self._routes.watching:
            self._look_at_routes(exchange)
        try:
            if not exchange.skipped:
                self._count(exchange)
        except Exception as error:
            self.internal(error)
        exchange.native = exchange.body = None  # the carrier may outlive the request; what hangs on it must not

    def broke(self, exchange: Exchange) -> None:
        """The app raised, or ended without completing its response: that is a 500, whatever it had promised."""
        if not exchange.closed:
            exchange.status = 500
            self.close(exchange)

    def internal(self, error: Exception) -> None:
        """Metering itself failed with *error*, which goes no further."""
        self._problems.note(
            "internal_error",
            f"metering failed with {_shown(error)}; the response is unchanged. Please report this",
        )

    def record(
        self, meter: Meter, company: str, quantity: int, *, user: str | None = None, at: datetime | None = None
    ) -> None:
        """
        Count outside HTTP, now or *at* a moment of the last 35 days.

        Raises:
            UsageError: An argument cannot be counted.
        """
        quantity, company, user = checked_quantity(quantity), checked_id(company, "company"), _checked_user(user)
        moment = None if at is None else checked_moment(at, self._clock())
        if quantity:
            self._put([(meter, quantity)], company, user, moment)

    def _look_at_routes(self, exchange: Exchange) -> None:
        try:
            self._routes.look(exchange)
        except Exception as error:
            self._routes.watching = False
            self.internal(error)

    def _first_chunk(self, exchange: Exchange, *, last: bool) -> None:
        if not last or _is_bodiless(exchange):
            exchange.length = _complete_at(exchange)
        if self._rulebook.reads_bodies:
            match = self._rulebook.match(exchange.method, exchange.path, exchange.route, exchange.status)
            if match.body_bytes:
                exchange.body, exchange.body_cap = bytearray(), match.body_bytes

    def _count(self, exchange: Exchange) -> None:
        match = self._rulebook.match(exchange.method, exchange.path, exchange.route, exchange.status)
        for name in exchange.usage:
            if name not in self._rulebook.usage_names:
                message = f"add_usage({name!r:.100}): no meter has this value=; not counted"
                self._problems.note("usage_name_unknown", message)
        counted = []
        for meter in match.meters:
            quantity = self._quantity(meter, exchange)
            if quantity:
                counted.append((meter, quantity))
        if counted:
            company, user = self._who(exchange)
            self._put(counted, company, user)

    def _quantity(self, meter: Meter, exchange: Exchange) -> int:
        if meter.when is not None:
            try:
                if not meter.when(exchange):
                    return 0
            except Exception as error:
                self._problems.note("when_raised", f"{meter}: when= raised {_shown(error)}; nothing was counted")
                return 0
        try:
            return meter.quantity(exchange)
        except UsageError as error:
            self._problems.note(error.reason, f"{meter}: {error}; nothing was counted")
        except Exception as error:
            self.internal(error)  # of this meter; the others still count
        return 0

    def _who(self, exchange: Exchange) -> tuple[str, str]:
        who: Any = exchange.identity
        if who is None and self._identify is not None:
            try:
                who = self._identify(exchange)
            except Exception as error:
                self._problems.note(
                    "identify_raised", f"identify= raised {_shown(error)}; its usage is kept under no company"
                )
                return NOBODY, NOBODY
        company, user = (who.company, who.user) if isinstance(who, Identity) else (who, None)
        if company is None:
            self._problems.note(
                "no_company",
                f"{exchange.method} {exchange.path!r:.100} matched a meter, but nobody said which company pays; "
                "its usage is kept under no company. Answer one from identify=, or call meterkit.skip()",
            )
            return NOBODY, NOBODY
        try:
            company = checked_id(company, "company")
        except UsageError as error:
            self._problems.note(error.reason, f"identify: {error}; its usage is kept under no company")
            return NOBODY, NOBODY
        try:
            return company, _checked_user(user)
        except UsageError as error:
            self._problems.note(error.reason, f"identify: {error}; its usage is kept under no user")
            return company, NOBODY

    def _put(self, counted: list[tuple[Meter, int]], company: str, user: str, at: int | None = None) -> None:
        now = int(self._clock()) if at is None else at
        window = self._windows.at(now, company)
        self._sink.count(
            [((meter.name, meter.event_name, company, user, window), quantity) for meter, quantity in counted],
            now,
        )


def counting_of(kit: Any) -> Counting:
    """
    What *kit* counts with; the adapters ask while they are built.

    Raises:
        ConfigurationError: *kit* is not a MeterKit.
    """
    counting = getattr(kit, "counting", None)
    if not isinstance(counting, Counting):
        raise ConfigurationError(f"the middleware takes a MeterKit, such as billing.kit, not {kit!r:.200}")
    return counting


def _is_bodiless(exchange: Exchange) -> bool:
    return exchange.method == "HEAD" or exchange.status in (204, 304)


def _complete_at(exchange: Exchange) -> int | None:
    if _is_bodiless(exchange):
        return 0
    length = exchange.response_headers.get("content-length", "")
    return int(length) if length.isascii() and length.isdigit() else None


def _shown(error: Exception) -> str:
    try:
        return f"{error!r:.200}"
    except Exception:
        return type(error).__name__  # it is the application's code that shows an error, too


def _checked_user(user: str | None) -> str:
    return NOBODY if user is None else checked_id(user, "user")
