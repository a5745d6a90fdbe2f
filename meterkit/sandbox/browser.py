"""The hosted pages as a browser asks for them: `/c/pay/…` is Checkout, `/p/session/…` the customer portal."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from meterkit.sandbox import cycle
from meterkit.sandbox.hosted import checkout_page, checkout_sessions, portal_page, portal_sessions
from meterkit.sandbox.hosted.html import fill, page
from meterkit.sandbox.platform import test_clocks
from meterkit.sandbox.protocol.errors import ApiError
from meterkit.sandbox.protocol.routes import Call

if TYPE_CHECKING:
    from meterkit.sandbox.protocol.frame import Reply, Request
    from meterkit.sandbox.state.account import Account

logger = logging.getLogger("meterkit.sandbox")

CHECKOUT = "/c/pay/"
PORTAL = "/p/session/"
PAGES = (CHECKOUT, PORTAL)
_CHECKOUT = (checkout_page.show, checkout_page.submit)
_PORTAL = (portal_page.show, portal_page.submit)
_LOOPBACK = ("127.0.0.1", "localhost")


class Browser:
    """
    Serves the hosted pages. No key is needed: the id of a session is as secret as Stripe's URL.

    Args:
        account: Account whose sessions are served, with those of the accounts connected to it.

    """

    def __init__(self, account: Account) -> None:
        self._account = account

    def respond(self, request: Request) -> Reply:
        """Return the page, or a redirection after a form was sent."""
        if request.headers.get("host", "").partition(":")[0] not in _LOOPBACK:
            return page("Not found", fill("<p>Open this page at 127.0.0.1.</p>"), status=403)
        try:
            with self._account.lock:
                cycle.run_due(self._account, self._account.now)
                return self._page(request)
        except ApiError as error:
            return page("Something is wrong", fill("<p>{text}</p>", text=error.message), status=error.status)
        except Exception:
            logger.exception("The sandbox failed at %s %s; this is a bug in the sandbox.", request.method, request.path)
            return page("Something is wrong", fill("<p>This is a bug in the sandbox.</p>"), status=500)

    def _page(self, request: Request) -> Reply:
        at_checkout = request.path.startswith(CHECKOUT)
        identity = request.path.removeprefix(CHECKOUT if at_checkout else PORTAL)
        account = self._world(checkout_sessions.KIND if at_checkout else portal_sessions.KIND, identity)
        show, submit = _CHECKOUT if at_checkout else _PORTAL
        with account.at(test_clocks.of_call(account, Call(request.path, identity, {}))):
            return submit(account, identity, _form(request)) if request.method == "POST" else show(account, identity)

    def _world(self, kind: str, identity: str) -> Account:
        """Return the account that a session belongs to."""
        found = (account for account in self._account.worlds if account.find(kind, identity) is not None)
        return next(found, self._account)


def _form(request: Request) -> dict[str, str]:
    return dict(parse_qsl(request.body.decode("utf-8", "replace"), keep_blank_values=True))
