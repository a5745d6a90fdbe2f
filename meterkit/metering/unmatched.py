"""
Count the successes that no meter matched, and warn where a ``path=`` or a ``route=`` seems to be misspelled.

An app may have free paths, so most of them are information; but without it, a ``path=`` that matches nothing, or a
client that has found a free way to a view, would go unnoticed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace

from meterkit.core import threads
from meterkit.core.problems import Problems
from meterkit.metering.exchange import Exchange
from meterkit.metering.matching import Match, MeterMatcher, rule_of
from meterkit.metering.meter import Meter
from meterkit.metering.paths import DEEPEST, canonical, forms, glob

MOST_NAMES = 50
"""Methods and paths that are counted one by one. Clients choose paths, so there must be a limit."""

OTHERS = "(others)"
"""Name under which the rest is counted."""

PATIENCE = 1000
"""Successes that no meter matched before a ``path=`` that has matched nothing is reported."""

MAX_WITHOUT_ROUTE = 100
"""Successful exchanges without a template before an app that has templates is reported as not publishing them."""


class Unmatched:
    """
    Counts successes that no meter matched. Safe to use from any thread.

    Args:
        matcher: Matcher for the kit's meters.
        problems: Collector of the warnings.
    """

    def __init__(self, matcher: MeterMatcher, problems: Problems) -> None:
        self._matcher = matcher
        self._problems = problems
        self._nearly = [(meter, _nearly(meter)) for meter in matcher.meters if meter.path is not None]
        self.after_fork()

    def after_fork(self) -> None:
        """Start empty, with a new lock, because another thread may have held the old one during the fork."""
        self._lock = threads.rlock()
        self._counts: dict[str, int] = {}
        self._total = 0
        self._reported: list[Meter] = []

    def note(self, exchange: Exchange, match: Match) -> None:
        """Count *exchange*, whose *match* has no meters, if it is a success."""
        if not 200 <= exchange.status < 300:
            return
        if match.name is None:  # computed once: the match is cached
            match.name = _name_of(exchange)
        with self._lock:
            name = match.name
            is_new = name not in self._counts
            if is_new and len(self._counts) >= MOST_NAMES:
                name, is_new = OTHERS, False
            self._counts[name] = self._counts.get(name, 0) + 1
            self._total += 1
            is_time = self._total == PATIENCE
        if is_new:
            self._compare(exchange, name)
        if is_time or self._reported:
            self._report()

    def as_dict(self) -> dict[str, int]:
        """Return the counts by method and path, or route template where one is known; the highest first."""
        with self._lock:
            return dict(sorted(self._counts.items(), key=lambda item: (-item[1], item[0])))

    def _compare(self, exchange: Exchange, name: str) -> None:
        for meter, nearly in self._nearly:
            if nearly(exchange):
                self._problems.note(
                    "path_differs",
                    f"{name} succeeded, and no meter matched; it differs from path={meter.path!r} of {meter} only by a "
                    "prefix, or in upper and lower case. Correct path=, or use route=; if it is free, call "
                    "meterkit.skip() in its view",
                    meter=meter.name,
                )

    def _report(self) -> None:
        """Report the meters whose ``path=`` has matched nothing so far, or that this is over."""
        unseen = [meter for meter, _ in self._nearly if meter.name in self._matcher.unseen]
        reported = [meter for meter in self._reported if meter in unseen] if self._reported else unseen
        if reported == self._reported:
            return
        self._problems.clear("path_unknown")
        self._reported = reported
        if reported:
            self._problems.note("path_unknown", "\n".join(map(self._sentence, reported)), level=logging.ERROR)

    def _sentence(self, meter: Meter) -> str:
        import difflib

        paths = [name.partition(" ")[2] for name in self.as_dict() if name != OTHERS]
        close = difflib.get_close_matches(str(meter.path), paths, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"they have {', '.join(paths[:10])}"
        what = f"{meter}: path={meter.path!r} has matched nothing so far"
        return f"{what}, and {PATIENCE:,} successes matched no meter; {hint}"


def _name_of(exchange: Exchange) -> str:
    path = exchange.route or canonical(exchange.path)
    return f"{exchange.method:.20} {path if path.isprintable() else ascii(path)[1:-1]:.200}"


def _nearly(meter: Meter) -> Callable[[Exchange], bool]:
    """Return a function of an exchange: whether *meter* would match it with a prefix, or in another case."""
    pattern = str(meter.path).lower()
    if not pattern.partition("*")[0].strip("/"):
        return lambda _: False  # "/*" would be nearly everything
    matches = rule_of(replace(meter, path=None))
    fits = glob(pattern.rstrip("/"))

    def nearly(exchange: Exchange) -> bool:
        if not matches(exchange.method, (), exchange.route, exchange.status):
            return False
        return any(
            fits(each) for path in forms(exchange.target) for each in _without_prefixes(path.lower().rstrip("/"))
        )

    return nearly


def _without_prefixes(path: str) -> Iterable[str]:
    segments = path.split("/")
    return ("/" + "/".join(segments[start:]) for start in range(1, min(len(segments), DEEPEST + 1)))


def unknown_routes(meters: Iterable[Meter], known: Iterable[str]) -> list[str]:
    """Return a sentence for each meter whose ``route=`` is none of the templates *known* of the app."""
    import difflib

    there = {"/" + route.lstrip("/") for route in known}
    unknown = []
    for meter in meters:
        if meter.route is not None and meter.route not in there:
            close = difflib.get_close_matches(str(meter.route), there, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(sorted(there)[:10])}"
            unknown.append(f"{meter}: the app has no route {meter.route!r}, so it counts nothing; {hint}")
    return unknown


class RouteCheck:
    """
    Compares the ``route=`` of meters with the templates that the app publishes, during its first exchanges.

    Args:
        meters: Meters of the kit; those without ``route=`` are ignored.
        problems: Collector of the warnings.

    Attributes:
        active: Whether `check` still has something to find out.
    """

    def __init__(self, meters: Iterable[Meter], problems: Problems) -> None:
        self._meters = [meter for meter in meters if meter.route is not None]
        self._problems = problems
        self._compared = False
        self._without = 0
        self.active = bool(self._meters)

    def check(self, exchange: Exchange) -> None:
        """Warn if this exchange shows that a meter can never match; call it while `active`."""
        if not self._compared:
            known = exchange.known_routes()
            if known is not None:
                self._compared = True
                self._compare(known)
        if exchange.route is not None:
            self.active = False  # templates are published
        elif 200 <= exchange.status < 300:
            self._without += 1
            # An app with templates may respond without one: static files, a health check in a middleware.
            if self._without >= (MAX_WITHOUT_ROUTE if self._compared else 1):
                self.active = False
                self._warn_missing()

    def _compare(self, known: Iterable[str]) -> None:
        unknown = unknown_routes(self._meters, known)
        if unknown:  # in one warning, because only the first of each reason is logged
            self._warn("route_unknown", "\n".join(unknown))

    def _warn_missing(self) -> None:
        names = ", ".join(meter.name for meter in self._meters)
        self._warn(
            "route_missing",
            f"the meters {names} have route=, but this app publishes no route templates, so they count nothing. "
            "Use path=, or the middleware for your framework (meterkit.flask, meterkit.django, or meterkit.asgi with "
            "starlette 1.7 or newer)",
        )

    def _warn(self, reason: str, message: str) -> None:
        self._problems.note(reason, message, level=logging.ERROR)
