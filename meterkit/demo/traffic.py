"""
The demo's clients: they send one request after the other, and count the responses by outcome.

No connection is used twice, so none is open between two requests, and killing a worker then breaks none.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import httpx

Outcome = Literal["succeeded", "failed"]

FAILURES: tuple[tuple[dict[str, Any], tuple[int, ...]], ...] = (
    ({"person": "a stranger"}, (404,)),
    ({"persona": "ada"}, (400, 422)),
    ({"person": "nobody@home"}, (503,)),
)
"""Requests that fail, and the statuses that each may get."""

PEOPLE = ("ada", "grace", "linus")


@dataclass(frozen=True)
class Call:
    """
    One request to be sent.

    Attributes:
        company: Company that sends it; None for a client without an API key.
        body: JSON body.
        statuses: Expected statuses.
    """

    company: str | None
    body: dict[str, Any]
    statuses: tuple[int, ...]

    @property
    def outcome(self) -> Outcome:
        """Expected outcome."""
        return "succeeded" if self.statuses == (200,) else "failed"


PLAN: dict[tuple[str | None, Outcome], int] = {
    ("acme", "succeeded"): 1_500,
    ("acme", "failed"): 200,
    ("globex", "succeeded"): 80,
    (None, "succeeded"): 50,
}
"""Number of requests of each kind."""

TOTAL = sum(PLAN.values())


def calls() -> list[Call]:
    """Return all requests, with each kind evenly spread."""
    kinds = [
        ((number + 0.5) / count, order, _call(company, outcome, number))
        for order, ((company, outcome), count) in enumerate(PLAN.items())
        for number in range(count)
    ]
    return [call for _, _, call in sorted(kinds, key=lambda kind: kind[:2])]


def send(url: str, api_keys: Mapping[str, str]) -> Iterator[tuple[Call, int]]:
    """
    Send all requests to *url*, and yield each with its status; 0 if there was no response.

    Args:
        url: Base URL of the API.
        api_keys: API keys by company.
    """
    limits = httpx.Limits(max_keepalive_connections=0)
    with httpx.Client(base_url=url, headers={"Connection": "close"}, limits=limits, trust_env=False) as client:
        for call in calls():
            headers = {} if call.company is None else {"X-Api-Key": api_keys[call.company]}
            try:
                status = client.post("/RetrieveCreditScore", json=call.body, headers=headers).status_code
            except httpx.TransportError:
                status = 0
            yield call, status


class Tally:
    """Number of requests by company and outcome; an unexpected status is an outcome of its own."""

    def __init__(self) -> None:
        self.counts: collections.Counter[tuple[str | None, str]] = collections.Counter()

    def enter(self, call: Call, status: int) -> None:
        """Add one response."""
        outcome = call.outcome if status in call.statuses else f"status {status}" if status else "no response"
        self.counts[call.company, outcome] += 1


def _call(company: str | None, outcome: Outcome, number: int) -> Call:
    if outcome == "succeeded":
        return Call(company, {"person": PEOPLE[number % len(PEOPLE)]}, (200,))
    return Call(company, *FAILURES[number % len(FAILURES)])
