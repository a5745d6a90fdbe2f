"""Requests to a service, without a server: what its client sees."""

from __future__ import annotations

import asyncio

import httpx

GATEWAY, SENDER, OPERATOR = "the-secret-of-the-gateway", "the-secret-of-the-sender", "the-secret-of-the-operator"

AS_GATEWAY = {"X-Meterkit-Key": GATEWAY}


def ask(app, path, method="GET", *, client="192.0.2.1", base="http://localhost", **request):
    """Send one request; the response."""

    async def send():
        transport = httpx.ASGITransport(app, client=(client, 40_000))
        async with httpx.AsyncClient(transport=transport, base_url=base) as session:
            return await session.request(method, path, **request)

    return asyncio.run(send())


def problem_of(response):
    """The status and the type of a problem document, which is complete."""
    found = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert found["status"] == response.status_code
    assert found["title"]
    assert found["detail"]
    return response.status_code, found["type"].removeprefix("urn:meterkit:problem:")
