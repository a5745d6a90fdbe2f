"""
Respond to requests to the webhook path.

Stripe gets 200 when the event is in the ledger; anything else makes it send the event again, for three days.
"""

from __future__ import annotations

from collections.abc import Callable

from meterkit.core.problems import Problems
from meterkit.core.responses import Response, json_response
from meterkit.errors import LedgerError, WebhookError
from meterkit.webhooks.signature import parse_signature

ERRORS = {
    400: "not an event signed with this endpoint's secret",
    411: "the length of the body is unknown; send Content-Length",
    413: "the body is too large",
}
"""What a client is told, by status."""


class WebhookEndpoint:
    """
    Responds to requests to the path of the kit's `meterkit.Webhook`.

    Args:
        path: Path as clients see it.
        receive: Function that stores an event, as `meterkit.MeterKit.receive` does.
        problems: Where internal errors are reported.
    """

    def __init__(self, path: str, *, receive: Callable[[bytes, str | None], bool], problems: Problems) -> None:
        self.path = path
        self._receive = receive
        self._problems = problems

    def reads_body(self, method: str, signature: str | None) -> bool:
        """
        Return whether the body of a request is worth reading: it may be from Stripe.

        Args:
            method: HTTP method.
            signature: Value of the header ``Stripe-Signature``, or None.
        """
        try:
            parse_signature(signature)
        except WebhookError:
            return False
        return method == "POST"

    def respond(self, method: str, read: Callable[[], bytes], signature: str | None) -> Response:
        """
        Store the event, and return the response. Never raises; waits for the ledger.

        Args:
            method: HTTP method; only POST is accepted.
            read: Function that returns the body of the request, up to one byte over `LARGEST_BYTES`, or raises
                WebhookError. Not called if `reads_body` returns False.
            signature: Value of the header ``Stripe-Signature``, or None.
        """
        if method != "POST":
            return json_response(405, {"error": "use POST"}, ("Allow", "POST"))
        try:
            self._receive(read() if self.reads_body(method, signature) else b"", signature)
        except WebhookError as error:  # its message is for the operator, not for the client
            if error.status == 411:
                self._problems.note("webhook_unreadable", f"a webhook request could not be read: {error}")
            return json_response(error.status, {"error": ERRORS.get(error.status, ERRORS[400])})
        except LedgerError:
            return json_response(503, {"error": "the event could not be stored; send it again"})
        except Exception as error:
            self._problems.internal(error)
            return json_response(500, {"error": "the event could not be stored; send it again"})
        return json_response(200, {"received": True})
