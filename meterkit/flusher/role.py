"""What this process is for, as far as it is known when a kit is imported."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

is_command = False
"""Whether this process runs a command of meterkit, the flusher included."""

is_child = False
"""Whether this process is a worker's child that flushes for it."""

drops_counts = False
"""Whether what is counted is dropped, because the flusher is importing a kit that it does not serve with."""


@contextmanager
def importing_for_flusher() -> Iterator[None]:
    """Drop what the application counts while the flusher imports it: the process that serves has counted that."""
    global drops_counts  # noqa: PLW0603 - of the process, as the import is
    drops_counts = True
    try:
        yield
    finally:
        drops_counts = False
