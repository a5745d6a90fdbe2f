"""What the journal does without its lock is done in steps between which CPython runs nothing else."""

from __future__ import annotations

import inspect

import pytest
from interpreter import gaps

from meterkit.journal.generation import Generation
from meterkit.journal.journal import Journal


def steps_of(function, first, last):
    """The offsets of the instructions of the lines that begin with *first* to *last*, but for the first one."""
    lines, begin = inspect.getsourcelines(function)
    numbers = [begin + at for at, line in enumerate(lines) if line.strip().startswith((first, last))]
    code = function.__code__
    offsets = [
        offset
        for start, end, number in code.co_lines()
        if number and numbers[0] <= number <= numbers[-1]
        for offset in range(start, end, 2)
    ]
    return set(offsets[1:])


@pytest.mark.parametrize(
    ("function", "first", "last"),
    [
        (Journal.count_one, "if at and self.counts", "current.total += 1"),
        (Journal._begin, "self._older, self._current =", "self._older, self._current ="),
        (Generation.count, "words[at] +=", "words[at] +="),
    ],
    ids=["count-one", "begin", "count"],
)
def test_nothing_runs_in_between(function, first, last):
    """That the generation is the current one, and the count in it; the change of generations; a count of more."""
    steps = steps_of(function, first, last)

    assert len(steps) > 5
    assert steps.isdisjoint(gaps(function.__code__))
