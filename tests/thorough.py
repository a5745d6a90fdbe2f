"""
Which of many cases a run of the tests tries.

The usual ones always, the others that `first` knows with ``nox -s long``, and those that `some` knows with
``METERKIT_TEST_THOROUGH``, as ``nox -s reliability`` does, which also runs what is marked as ``thorough``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TypeVar

import pytest

T = TypeVar("T")

IS_THOROUGH = bool(os.environ.get("METERKIT_TEST_THOROUGH"))


def some(usual: Iterable[T], *, among: Iterable[T]) -> list[T]:
    """All cases *among* which the *usual* ones are, or those alone: one of each kind, in a run that has to be short."""
    every, chosen = list(among), list(usual)
    assert set(map(str, chosen)) <= set(map(str, every))
    return every if IS_THOROUGH else chosen


def first(usual: Iterable[T], *, among: Iterable[T]) -> list[object]:
    """All cases *among* which the *usual* ones are, to be tried first; the others are marked as long."""
    every, chosen = list(among), list(map(str, usual))
    assert set(chosen) <= set(map(str, every))
    return [each if str(each) in chosen else pytest.param(each, marks=pytest.mark.long) for each in every]
