"""An exchange of no framework: what the adapters make of a request, filled in by hand."""

from __future__ import annotations

from contextvars import copy_context
from types import SimpleNamespace

from meterkit import Exchange


class PlainExchange(Exchange):
    """Carries what a test gives it."""

    def __init__(self, method="GET", path="/", *, headers=None, routes=None, timed=False):
        owner = SimpleNamespace(recorder=SimpleNamespace(is_timed=timed))
        copy_context().run(self.begin, method, path, {}, headers or {}, owner)  # no view is to see it yet
        self._routes = routes
        self.sent_headers = {}

    def publish(self, kit):
        """As the middleware of *kit* does when a request comes."""
        self.begin(self.method, self.path, {}, self.headers, kit)

    @property
    def response_headers(self):
        return self.sent_headers

    def known_routes(self):
        return self._routes


def serve(kit, exchange=None, *, view=lambda: None, status=200, body=b"ok", headers=None, route=None):
    """Let *exchange* happen as an adapter does: in, through the view, out."""
    exchange = exchange or PlainExchange()
    exchange.publish(kit)
    view()
    exchange.status, exchange.sent_headers, exchange.route = status, headers or {}, route
    kit.recorder.chunk(exchange, body, last=True)
    exchange.retract()
    return exchange


def counted(kit):
    """What a user sees of the kit's counts: (meter, company) and the quantity."""
    kit.flush()
    return {(row.meter, row.company): row.quantity for row in kit.usage()}
