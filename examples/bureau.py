"""
The business logic, without HTTP and without billing, which the three web frameworks expose.

The bureau knows a few people, does not know the others, and is down for some.
"""

from __future__ import annotations

SCORES = {"ada": 810, "grace": 790, "linus": 640}
DOWN_FOR = {"nobody@home"}


class UnknownPersonError(Exception):
    """The bureau does not know this person: 404."""


class BureauDownError(Exception):
    """The bureau does not respond: 503."""


def retrieve_score(person: str) -> int:
    """Return the credit score of *person*."""
    if person in DOWN_FOR:
        raise BureauDownError
    if person not in SCORES:
        raise UnknownPersonError
    return SCORES[person]
