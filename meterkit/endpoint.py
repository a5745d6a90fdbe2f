"""
Wiring: the answer to a webhook, the same in every framework.

Stripe hears 200 when the event is in the ledger; anything else makes it send the event again, for three days.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from meterkit.errors import LedgerError, WebhookError
from meterkit.webhook import LARGEST_BYTES

if TYPE_CHECKING:
    from meterkit.kit import MeterKit

__all__ = ["LARGEST_BYTES", "Answer", "Endpoint", "endpoint_of", "in_thread"]

T = TypeVar("T")


class Answer(NamedTuple):
    """
    What an adapter sends.

    Attributes:
        status: The HTTP status.
        reason: Its words.
        headers: As pairs of text.
        body: JSON.
    """

    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes


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
            return _answer(405, "Method Not Allowed", "Stripe sends a POST", ("Allow", "POST"))
        try:
            self._kit.receive(payload, signature)
        except WebhookError as error:  # whose message is for us, not for whoever sent this
            if error.status == 413:
                return _answer(413, "Content Too Large", "the body is too large")
            return _answer(400, "Bad Request", "no event that is signed with this endpoint's secret")
        except LedgerError:
            return _answer(503, "Service Unavailable", "the event could not be kept; send it again")
        except Exception as error:
            self._kit.counting.internal(error)
            return _answer(500, "Internal Server Error", "the event could not be kept; send it again")
        return Answer(200, "OK", _headers(b'{"received": true}'), b'{"received": true}')


async def in_thread(call: Callable[[], T]) -> T:
    """What *call* answers, while the event loop goes on, asyncio's or trio's."""
    import asyncio  # which a WSGI app does without

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return await sys.modules["trio"].to_thread.run_sync(call)  # type: ignore[no-any-return]
    return await asyncio.to_thread(call)


def endpoint_of(kit: MeterKit) -> Endpoint | None:
    """The endpoint that an adapter answers; None if there is none, or a view of the application's answers it."""
    path = None if kit.webhook is None else kit.webhook.path
    return None if path is None else Endpoint(kit, path)


def _answer(status: int, reason: str, error: str, *headers: tuple[str, str]) -> Answer:
    body = json.dumps({"error": error}).encode()
    return Answer(status, reason, [*_headers(body), *headers], body)


def _headers(body: bytes) -> list[tuple[str, str]]:
    return [("Content-Type", "application/json"), ("Content-Length", str(len(body))), ("Cache-Control", "no-store")]
