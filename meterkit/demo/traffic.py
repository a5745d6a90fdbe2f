"""
The demo's clients. They send what customers send, one request after the other, and note what came back.

No connection is used twice, so between two requests none is open, and a worker can be killed without harm to one.
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
"""Requests that the examples cannot serve, and the statuses that say so."""

PEOPLE = ("ada", "grace", "linus")


@dataclass(frozen=True)
class Call:
    """
    One request to be sent.

    Attributes:
        company: Who sends it; None for somebody without an API key.
        body: The JSON.
        statuses: What may be answered.
    """

    company: str | None
    body: dict[str, Any]
    statuses: tuple[int, ...]

    @property
    def outcome(self) -> Outcome:
        """What is to come of it."""
        return "succeeded" if self.statuses == (200,) else "failed"


PLAN: dict[tuple[str | None, Outcome], int] = {
    ("acme", "succeeded"): 1_500,
    ("acme", "failed"): 200,
    ("globex", "succeeded"): 80,
    (None, "succeeded"): 50,
}
"""How many requests of each kind are sent."""

TOTAL = sum(PLAN.values())


def calls() -> list[Call]:
    """All requests, each kind spread evenly over the whole."""
    kinds = [
        ((number + 0.5) / count, order, _call(company, outcome, number))
        for order, ((company, outcome), count) in enumerate(PLAN.items())
        for number in range(count)
    ]
    return [call for _, _, call in sorted(kinds, key=lambda kind: kind[:2])]


def send(url: str, api_keys: Mapping[str, str]) -> Iterator[tuple[Call, int]]:
    """
    Send all requests to *url*, and answer each with its status as it comes; 0 where none came.

    Args:
        url: The API's base address.
        api_keys: By company.
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
    """What came back, by company and outcome; a status that was not expected is an outcome of its own."""

    def __init__(self) -> None:
        self.counts: collections.Counter[tuple[str | None, str]] = collections.Counter()

    def enter(self, call: Call, status: int) -> None:
        """Add one answer."""
        outcome = call.outcome if status in call.statuses else f"answered {status}" if status else "not answered"
        self.counts[call.company, outcome] += 1


def _call(company: str | None, outcome: Outcome, number: int) -> Call:
    if outcome == "succeeded":
        return Call(company, {"person": PEOPLE[number % len(PEOPLE)]}, (200,))
    return Call(company, *FAILURES[number % len(FAILURES)])
