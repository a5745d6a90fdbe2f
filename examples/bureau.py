"""
The application itself, without HTTP and without billing: what three web frameworks put on the air here.

A bureau knows a few people, does not know the others, and is down for some.
"""

from __future__ import annotations

SCORES = {"ada": 810, "grace": 790, "linus": 640}
DOWN_FOR = {"nobody@home"}


class UnknownPersonError(Exception):
    """No bureau has heard of this person: 404."""


class BureauDownError(Exception):
    """The bureau does not answer now: 503."""


def retrieve_score(person: str) -> int:
    """The credit score of *person*."""
    if person in DOWN_FOR:
        raise BureauDownError
    if person not in SCORES:
        raise UnknownPersonError
    return SCORES[person]
