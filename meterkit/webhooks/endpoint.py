"""
Respond to requests to the webhook path.

Stripe gets 200 when the event is in the ledger; anything else makes it send the event again, for three days.
"""

from __future__ import annotations

from collections.abc import Callable

from meterkit.core.problems import Problems
from meterkit.core.responses import Response, json_response
from meterkit.errors import LedgerError, WebhookError


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

    def respond(self, method: str, payload: bytes, signature: str | None) -> Response:
        """
        Store the event, and return the response. Never raises; waits for the ledger.

        Args:
            method: HTTP method; only POST is accepted.
            payload: Body of the request, of which at most one byte over `LARGEST_BYTES` was read.
            signature: Value of the header ``Stripe-Signature``.
        """
        if method != "POST":
            return json_response(405, {"error": "use POST"}, ("Allow", "POST"))
        try:
            self._receive(payload, signature)
        except WebhookError as error:  # its message is for the operator, not for the client
            if error.status == 413:
                return json_response(413, {"error": "the body is too large"})
            return json_response(400, {"error": "not an event signed with this endpoint's secret"})
        except LedgerError:
            return json_response(503, {"error": "the event could not be stored; send it again"})
        except Exception as error:
            self._problems.internal(error)
            return json_response(500, {"error": "the event could not be stored; send it again"})
        return json_response(200, {"received": True})
