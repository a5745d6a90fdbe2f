"""
Wiring: the answer to a webhook, the same in every framework.

Stripe hears 200 when the event is in the ledger; anything else makes it send the event again, for three days.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from meterkit.core.responses import Answer, json_answer
from meterkit.core.threads import in_thread
from meterkit.errors import LedgerError, WebhookError
from meterkit.webhooks.config import LARGEST_BYTES

if TYPE_CHECKING:
    from meterkit.kit import MeterKit

__all__ = ["LARGEST_BYTES", "Endpoint", "endpoint_of", "in_thread"]

T = TypeVar("T")


class Endpoint:
    """
    Answers the requests to the path of the kit's `meterkit.Webhook`.

    Args:
        kit: That takes the events.
        path: Which path that is, as clients see it.
    """

    def __init__(self, kit: MeterKit, path: str) -> None:
        self._kit = kit
        self.path = path

    def answer(self, method: str, payload: bytes, signature: str | None) -> Answer:
        """
        Take the event, and say what came of it. Never raises; waits for the ledger.

        Args:
            method: Only POST is allowed.
            payload: The body, as far as it was read: no further than one byte over `LARGEST_BYTES`.
            signature: The header ``Stripe-Signature``.
        """
        if method != "POST":
            return json_answer(405, {"error": "Stripe sends a POST"}, ("Allow", "POST"))
        try:
            self._kit.receive(payload, signature)
        except WebhookError as error:  # whose message is for us, not for whoever sent this
            if error.status == 413:
                return json_answer(413, {"error": "the body is too large"})
            return json_answer(400, {"error": "no event that is signed with this endpoint's secret"})
        except LedgerError:
            return json_answer(503, {"error": "the event could not be kept; send it again"})
        except Exception as error:
            self._kit.counting.problems.internal(error)
            return json_answer(500, {"error": "the event could not be kept; send it again"})
        return json_answer(200, {"received": True})


def endpoint_of(kit: MeterKit) -> Endpoint | None:
    """The endpoint that an adapter answers; None if there is none, or a view of the application's answers it."""
    path = None if kit.webhook is None else kit.webhook.path
    return None if path is None else Endpoint(kit, path)
