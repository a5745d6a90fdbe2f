"""Which of many cases a run of the tests tries: all of them with ``METERKIT_TEST_THOROUGH``, as nox -s reliability."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")

IS_THOROUGH = bool(os.environ.get("METERKIT_TEST_THOROUGH"))


def some(usual: Iterable[T], *, among: Iterable[T]) -> list[T]:
    """All cases *among* which the *usual* ones are, or those alone: one of each kind, in a run that has to be short."""
    every, chosen = list(among), list(usual)
    assert set(map(str, chosen)) <= set(map(str, every))
    return every if IS_THOROUGH else chosen
