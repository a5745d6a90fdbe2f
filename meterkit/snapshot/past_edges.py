"""Past boundaries of billing periods, by company, as another process publishes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from meterkit.snapshot.reader import SnapshotSource

PAST = "past"
"""Name under which a company's detail has them, Unix seconds."""


class PastEdges(Mapping[str, "tuple[int, ...]"]):
    """
    The boundaries of the last 35 days, for `meterkit.core.windows.Windows`; nothing is kept in memory.

    Args:
        source: Snapshot that is read.
    """

    def __init__(self, source: SnapshotSource) -> None:
        self._source = source

    def __getitem__(self, company: str) -> tuple[int, ...]:
        file = self._source.current
        found = None if file is None else file.record(company).detail.get(PAST)
        if not found:
            raise KeyError(company)
        return tuple(found)

    def __iter__(self) -> Iterator[str]:
        """Iterate over nothing: companies are asked for one by one."""
        return iter(())

    def __len__(self) -> int:
        return 0
