"""
Publish the generations of this host, and decide when the ledger may forget that it has folded them.

A copy of a generation may be anywhere: on the disk of a host that went away before it heard the acknowledgement, or in
the stream, twice even, if that took longer than JetStream recognises repetitions. So the ledger's record of it, which
makes it count once, may go only when no copy can come any more: the file is gone for good, and every message that was
in the stream afterwards has been consumed. A generation of which that is never known, because its host died, is
remembered as long as `meterkit.ledger.ledger.FOLDS_KEPT_SECONDS`; a collector refuses it later than that.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from meterkit.core.usage_key import Counted
from meterkit.jetstream.client import Client, State
from meterkit.jetstream.config import JetStream
from meterkit.jetstream.message import Sender, encoded

SETTLED_SECONDS = 1800.0
"""Seconds after which no connection, and no server that was cut off, still holds a copy of a message."""


@dataclass(slots=True)
class _Removed:
    generations: list[str]
    at: float
    last: int | None = None  # number of the stream's last message, `SETTLED_SECONDS` after the files were removed


class JetStreamPublisher:
    """
    Publishes what this process has counted or adopted. For the thread that flushes.

    Args:
        config: Where JetStream is.
        sender: Stripe account that the kit bills.
    """

    def __init__(self, config: JetStream, sender: Sender) -> None:
        self._client = Client(config)
        self._sender = sender
        self._removed: list[_Removed] = []

    def publish(self, generation: str, cells: Iterable[Counted], *, begun: float) -> None:
        """
        Publish a generation, and wait for the acknowledgement.

        Args:
            generation: Id of the generation.
            cells: Its counts.
            begun: Unix time before which nothing in it was counted; 0 if that is not known.

        Raises:
            TooLargeError: It is too large for a message.
            LedgerError: It is not certain that JetStream has it; publish it again.
            ForeignFileError: It is damaged.
        """
        self._client.publish(encoded(generation, cells, begun=begun, sender=self._sender), generation=generation)

    def forgettable(self, removed: list[str]) -> list[str]:
        """
        Return the generations that the ledger may forget, because no copy of them can come any more.

        Args:
            removed: Generations whose files were removed for good since the last call.

        Raises:
            LedgerError: JetStream failed; nothing was lost.
        """
        now = time.monotonic()
        if removed:
            self._removed.append(_Removed(removed, now))
        if not any(now - each.at >= SETTLED_SECONDS for each in self._removed):
            return []
        state = self._client.state()
        for each in self._removed:
            if each.last is None and now - each.at >= SETTLED_SECONDS:
                each.last = state.last
        found = [each for each in self._removed if each.last is not None and each.last < state.first]
        self._removed = [each for each in self._removed if each not in found]
        return [generation for each in found for generation in each.generations]

    def state(self) -> State:
        """
        Return what waits in the stream.

        Raises:
            LedgerError: JetStream failed, or the stream could lose usage.
        """
        return self._client.state()

    def close(self) -> None:
        """Close the connection."""
        self._client.close()
