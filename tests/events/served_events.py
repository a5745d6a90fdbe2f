"""A service that takes usage events, asked as a client would."""

from __future__ import annotations

import asyncio
import json

import httpx

from meterkit.service import Service

BATCH = "application/cloudevents-batch+json"
SINGLE = "application/cloudevents+json"
PLAIN = "application/json"


def event(number=1, *, tokens=3, **attributes):
    """An event that the meter ``tokens`` counts."""
    made = {
        "specversion": "1.0",
        "id": f"e-{number}",
        "source": "shop",
        "type": "prompt",
        "subject": "acme",
        "data": {"tokens": tokens},
        **attributes,
    }
    return {name: value for name, value in made.items() if value is not None}


class Served:
    """A service and its kit."""

    def __init__(self, kit, **options):
        self.kit = kit
        self.app = Service(kit, **(options or {"local": True}))

    def post(self, sent, *, type=None, headers=()):  # noqa: A002
        """Send an event, a list of them, or bytes; return the response."""
        body = sent if isinstance(sent, bytes) else json.dumps(sent).encode()
        if type is None:
            type = BATCH if isinstance(sent, list) else SINGLE  # noqa: A001
        given = [*dict(headers).items(), *([("content-type", type)] if type else [])]
        return self.request("POST", content=body, headers=given)

    def request(self, method, **options):
        """Send a request; return the response."""

        async def ask():
            transport = httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                return await client.request(method, "/v1/events", **options)

        return asyncio.run(ask())

    def used(self, **which):
        """What the ledger has after a flush."""
        self.kit.flush()
        return [(row.company, row.user, row.quantity) for row in self.kit.usage(**which)]
