"""
How samples are taken: one process for each variant, in turns, each between two samples of the bare app.

The machine's speed changes from second to second, but for all variants alike. So the result of a sample is how much
longer it takes than the mean of its bare neighbours. The bare app is a variant, too: it shows the measurement error.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

SAMPLE_SECONDS = 0.05
"""How long a sample takes: much longer than a context switch, much shorter than changes of the machine's speed."""

TICKS_SECONDS = 0.03
"""Three of the ticks in which Linux accounts CPU time."""

LONGEST_SECONDS = 1.0
"""Bound on a sample: some peers take minutes for as many requests as the bare app serves in one."""

BURST_SECONDS = 30.0
"""If the first pass over all companies is faster than this, the journal may not have grown yet."""

WARM_UP = 2000
"""Requests before the first sample."""


@dataclass(frozen=True)
class Cost:
    """
    What a variant adds to a request, in microseconds.

    Attributes:
        median: Of all samples.
        low: The first quartile.
        high: The third.
        bare: What the bare app takes.
    """

    median: float
    low: float
    high: float
    bare: float


class Process:
    """A variant of a stack in a process of its own."""

    def __init__(self, stack: str, variant: str, companies: int = 1) -> None:
        command = [sys.executable, "-m", "benchmarks.sample", stack, variant, str(companies)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.exists = self._answer() == "ready"

    def __enter__(self) -> Process:  # noqa: PYI034 - typing.Self needs Python 3.11
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def busy(self) -> int:
        """Ticks for which it has computed, in all of its threads; 0 where the system does not tell."""
        stat = Path(f"/proc/{self._process.pid}/stat")
        if not stat.exists():
            return 0
        user, system = stat.read_text().rpartition(")")[2].split()[11:13]
        return int(user) + int(system)

    def sample(self, times: int) -> float:
        """Microseconds per request, of so many."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{times}\n")
        self._process.stdin.flush()
        return int(self._answer()) / times / 1000

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def compare(
    stack: str,
    variants: Mapping[str, tuple[str, int]],
    *,
    rounds: int,
    companies: int = 1,
    again: Collection[str] = (),
) -> dict[str, Cost]:
    """
    What each of *variants* costs, by the name it is given; those that cannot be had are left out.

    Args:
        stack: One of `benchmarks.stacks.STACKS`.
        variants: By name, the variant and how many companies ask.
        rounds: How many samples of each.
        companies: How many companies ask the bare app.
        again: Those of which each company has been there before.
    """
    with ExitStack() as processes:
        bare = processes.enter_context(Process(stack, "bare", companies))
        made = {name: processes.enter_context(Process(stack, *how)) for name, how in variants.items()}
        found = {name: process for name, process in made.items() if process.exists}
        bare.sample(WARM_UP)
        times = max(50, int(SAMPLE_SECONDS * 1e6 / bare.sample(WARM_UP)))
        fewer = {name: int(LONGEST_SECONDS * 1e6 / each.sample(WARM_UP)) for name, each in found.items()}
        for name in found.keys() & set(again):
            _let_all_come(found[name], variants[name][1])
        extra: dict[str, list[float]] = {name: [] for name in found}
        base: list[float] = []
        for _ in range(rounds):
            for name in random.sample(list(found), len(found)):
                _wait_until_idle([bare, *found.values()])
                before = bare.sample(times)
                sample = found[name].sample(min(times, fewer[name]))
                after = bare.sample(times)
                extra[name].append(sample - (before + after) / 2)
                base.append(after)
    return {name: _cost(values, median(base)) for name, values in extra.items()}


def _let_all_come(process: Process, companies: int) -> None:
    """So many at once do not fit into the first files of the journal; those of the third time find a large one."""
    begun = time.monotonic()
    process.sample(companies)
    if time.monotonic() - begun < BURST_SECONDS:
        process.sample(2 * companies)


def _wait_until_idle(processes: Sequence[Process]) -> None:
    """One's flush must not take its time from another's sample: they share a core."""
    before = -1
    while (now := sum(each.busy() for each in processes)) != before:
        before = now
        time.sleep(TICKS_SECONDS)


def _cost(values: Iterable[float], bare: float) -> Cost:
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return Cost(median=middle, low=low, high=high, bare=bare)
