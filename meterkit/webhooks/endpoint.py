"""
Answer requests to the webhook path.

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
        receive: Takes an event, as `meterkit.MeterKit.receive` does.
        problems: Where faults of our own are reported.
    """

    def __init__(self, path: str, *, receive: Callable[[bytes, str | None], bool], problems: Problems) -> None:
        self.path = path
        self._receive = receive
        self._problems = problems

    def respond(self, method: str, payload: bytes, signature: str | None) -> Response:
        """
        Take the event, and say what came of it. Never raises; waits for the ledger.

        Args:
            method: Only POST is allowed.
            payload: The body, as far as it was read: no further than one byte over `LARGEST_BYTES`.
            signature: The header ``Stripe-Signature``.
        """
        if method != "POST":
            return json_response(405, {"error": "Stripe sends a POST"}, ("Allow", "POST"))
        try:
            self._receive(payload, signature)
        except WebhookError as error:  # whose message is for us, not for whoever sent this
            if error.status == 413:
                return json_response(413, {"error": "the body is too large"})
            return json_response(400, {"error": "no event that is signed with this endpoint's secret"})
        except LedgerError:
            return json_response(503, {"error": "the event could not be kept; send it again"})
        except Exception as error:
            self._problems.internal(error)
            return json_response(500, {"error": "the event could not be kept; send it again"})
        return json_response(200, {"received": True})
