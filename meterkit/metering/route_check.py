"""
Warn about `route=` meters that can never match.

Which templates an app has is known only once it serves, so this is a loud warning, not an error while building.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from meterkit.core.problems import Problems
from meterkit.metering.exchange import Exchange
from meterkit.metering.meter import Meter

PATIENCE = 100
"""Successes without a template until an app that does have templates is said to hide them."""


class RouteCheck:
    """
    Compares the ``route=`` meters with the templates that the app publishes, at its first exchanges.

    Args:
        meters: The kit's meters that have a ``route=``.
        problems: Where the warning goes.
    """

    def __init__(self, meters: Iterable[Meter], problems: Problems) -> None:
        self._meters = [meter for meter in meters if meter.route is not None]
        self._problems = problems
        self._compared = False
        self._without = 0
        self.active = bool(self._meters)

    def check(self, exchange: Exchange) -> None:
        """Warn if this exchange shows that a meter can never match; call it while ``watching``."""
        if not self._compared:
            known = exchange.known_routes()
            if known is not None:
                self._compared = True
                self._compare({"/" + route.lstrip("/") for route in known})
        if exchange.route is not None:
            self.active = False  # templates are published
        elif 200 <= exchange.status < 300:
            self._without += 1
            # What has templates may still answer without one: static files, a health check in a middleware.
            if self._without >= (PATIENCE if self._compared else 1):
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
        if unknown:  # in one warning, because of one reason only the first is logged
            self._warn("route_unknown", "\n".join(unknown))

    def _warn_missing(self) -> None:
        names = ", ".join(meter.name for meter in self._meters)
        self._warn(
            "route_missing",
            f"the meters {names} have route=, but this app publishes no route templates, so they count nothing. "
            "Use path=, or the middleware made for your framework (meterkit.flask, meterkit.django, "
            "meterkit.asgi with starlette 1.7 or newer)",
        )

    def _warn(self, reason: str, message: str) -> None:
        self._problems.note(reason, message, level=logging.ERROR)
