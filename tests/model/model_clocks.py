"""The model's times: Stripe's, which only goes on, and that of each host, which may be wrong."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from pathlib import Path

HOUR = 3600
DAY = 24 * HOUR
BEGIN = 1_772_366_400 + 600
"""2026-03-01 12:10:00 UTC."""


class Clocks:
    """
    Times that stand still until the test moves them, in a file, so that all processes of the model see the same.

    Args:
        path: Of the file, which is made if it is not there.
        hosts: How many hosts there are.
    """

    def __init__(self, path: Path, hosts: int = 1) -> None:
        fresh = not path.exists()
        if fresh:
            path.write_bytes(bytes(8 * (1 + hosts)))
        with path.open("r+b") as file:
            self._times = memoryview(mmap.mmap(file.fileno(), 0)).cast("d")
        self.path = path
        if fresh:
            self._times[0] = BEGIN

    def true(self) -> float:
        """Stripe's time."""
        return self._times[0]

    def of_host(self, host: int) -> float:
        """What the clock of *host* shows."""
        return self._times[0] + self._times[1 + host]

    def pass_by(self, seconds: float) -> None:
        """Let time pass, for all."""
        self._times[0] += seconds

    def set_wrong(self, host: int, seconds: float) -> None:
        """From now on the clock of *host* is so many seconds ahead, or behind; 0 corrects it."""
        self._times[1 + host] = seconds

    def asked_on(self, host: int) -> Callable[[], float]:
        """The clock of *host*, as a kit takes it."""
        return lambda: self.of_host(host)
