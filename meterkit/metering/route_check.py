"""
Warn about `route=` meters that can never match.

An app's route templates are known only once it serves, so this logs an error instead of raising one at build time.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from meterkit.core.problems import Problems
from meterkit.metering.exchange import Exchange
from meterkit.metering.meter import Meter

MAX_WITHOUT_ROUTE = 100
"""Successful exchanges without a template before an app that has templates is reported as not publishing them."""


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
                self._compare({"/" + route.lstrip("/") for route in known})
        if exchange.route is not None:
            self.active = False  # templates are published
        elif 200 <= exchange.status < 300:
            self._without += 1
            # An app with templates may respond without one: static files, a health check in a middleware.
            if self._without >= (MAX_WITHOUT_ROUTE if self._compared else 1):
                self.active = False
                self._warn_missing()

    def _compare(self, known: set[str]) -> None:
        import difflib

        unknown = []
        for meter in self._meters:
            if meter.route not in known:
                close = difflib.get_close_matches(str(meter.route), known, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(sorted(known)[:10])}"
                unknown.append(f"{meter}: the app has no route {meter.route!r}, so it counts nothing; {hint}")
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
