"""``POST /v1/events``: usage events of apps in any language."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from functools import cache
from typing import TYPE_CHECKING, Any

from meterkit.core.responses import Response, json_response
from meterkit.events.counter import EventBatch, EventCounter, Sender
from meterkit.events.errors import EventsError
from meterkit.service.calls import Call
from meterkit.service.events.description import OPERATIONS
from meterkit.service.events.http_binding import read
from meterkit.service.keys import Source
from meterkit.service.problems import RequestError
from meterkit.service.routes import Route

if TYPE_CHECKING:
    from meterkit.kit import MeterKit

PORTION = 100
"""Events that are checked or stored without a pause, during which other requests are served."""

ROOM_SECONDS = 2.0
"""How long events wait for room in the journal before the sender is told to come again."""

POLL_SECONDS = 0.02

AGAIN_SECONDS = 5
"""Seconds after which a sender is to send again what had no room."""

SHOWN_TYPES = 10


def event_routes(kit: MeterKit) -> list[Route]:
    """Return the routes of this module."""
    handler = _handler(kit.event_counter())
    return [Route("/v1/events", handler, methods=("POST",), scope="events", operations=OPERATIONS)]


def _handler(counter: EventCounter) -> Callable[[Call], Awaitable[Response]]:
    async def take(call: Call) -> Response:
        assert call.source is not None
        try:
            batch = await _checked(counter, call, await call.body())
            await _store(batch)
        except EventsError as error:
            raise _problem(error) from None
        batch.finish()
        types = {"unmatched_types": batch.unmatched_types[:SHOWN_TYPES]} if batch.unmatched else {}
        counts = {"accepted": batch.accepted, "repeated": batch.repeated, "unmatched": batch.unmatched}
        return json_response(202, {**counts, **types})

    return take


async def _checked(counter: EventCounter, call: Call, body: bytes) -> EventBatch:
    assert call.source is not None
    events, strict = read(call.scope["headers"], body, most_bytes=call.most_bytes)
    key = call.source.key
    refuses = key is not None and key.unmatched == "refuse"
    batch = counter.batch(_sender(call.source), strict=strict, refuse_unmatched=refuses)
    for start in range(0, len(events), PORTION):
        if start:
            await asyncio.sleep(0)
        batch.add(events[start : start + PORTION])
    batch.check()
    return batch


async def _store(batch: EventBatch) -> None:
    end = time.monotonic() + ROOM_SECONDS
    while not batch.store():
        if time.monotonic() > end:
            raise EventsError(
                503,
                "journal_full",
                "the journal has no room now: its disk is full, or the ledger does not keep up. Send the same events "
                "again; what was counted of them does not count twice. The operator sees why in /health",
                retry_after=AGAIN_SECONDS,
            )
        await asyncio.sleep(POLL_SECONDS)


@cache
def _sender(source: Source) -> Sender:
    key = source.key
    if key is None:
        return Sender(source.name)
    sources = (source.name, f"{source.name}/*") if key.sources is None else tuple(key.sources)
    return Sender(source.name, sources, None if key.companies is None else frozenset(key.companies))


def _problem(error: EventsError) -> RequestError:
    more: dict[str, Any] = {}
    if error.wrong:
        more = {"wrong": error.number, "events": [asdict(each) for each in error.wrong]}
    return RequestError(error.status, error.detail, type=error.reason, retry_after=error.retry_after, **more)
