"""
Fold published generations into the ledger, many in one transaction.

A message is acknowledged after the commit. If a collector is killed in between, the message is delivered again, and the
ledger knows it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from nats.aio.msg import Msg

from meterkit.accounts.period_edges import PeriodEdges
from meterkit.core.problems import Problems
from meterkit.core.usage_key import Counted, UsageKey
from meterkit.core.windows import Windows
from meterkit.errors import LedgerError
from meterkit.jetstream.client import Client
from meterkit.jetstream.config import JetStream
from meterkit.jetstream.message import MessageError, NewerMessageError, PublishedGeneration, Sender, decoded
from meterkit.ledger.database import Database, UnstorableError
from meterkit.ledger.ledger import FOLDS_KEPT_SECONDS, Ledger
from meterkit.ledger.record_keys import Conflict

BATCH = 50
"""Generations in one transaction, unless told otherwise."""

MOST_ROWS = 20_000
"""
Rows that a transaction adds to, unless a single generation has more.

Other collectors wait for these rows until it commits. Counts of many generations for the same row are added up before.
"""

PATIENCE = 20.0
"""Seconds to wait for such rows: no request waits here."""

WAIT_SECONDS = 1.0
"""Seconds to wait for a generation: as long as a collector may take to stop."""

NEWER_SECONDS = 60.0
"""Seconds until a message of a newer version is delivered again, to a collector that can read it."""

AGAIN_SECONDS = 1.0
"""Seconds until messages are delivered again that the ledger did not take."""

CHORES_SECONDS = 3600.0
"""Interval at which expired records are deleted."""

OLDEST_SECONDS = FOLDS_KEPT_SECONDS - 24 * 3600
"""Age at which it is no longer certain that the ledger remembers a generation: a day earlier, as clocks may differ."""


@dataclass(frozen=True, slots=True)
class Collected:
    """
    What one round of a collector did.

    Attributes:
        messages: Messages that were delivered.
        new: Generations in them that were new to the ledger.
    """

    messages: int
    new: int


class Collector:
    """
    Folds what hosts have published.

    Args:
        config: Where JetStream is.
        database: Database of the ledger.
        sender: Stripe account that the kit bills.
        problems: Where problems are reported.
        clock: Function that returns Unix seconds.
        batch: Generations in one transaction at most.
    """

    def __init__(
        self,
        config: JetStream,
        database: Database,
        *,
        sender: Sender,
        problems: Problems,
        clock: Callable[[], float],
        batch: int = BATCH,
    ) -> None:
        self._config = config
        self._client = Client(config)
        self._database = database
        self._ledger = Ledger(database, clock=clock)
        self._edges = PeriodEdges(Windows(), clock=clock)
        self._sender = sender
        self._problems = problems
        self._clock = clock
        self._batch = batch
        self._next_chores = time.monotonic()
        database.patience = max(database.patience, PATIENCE)

    def prepare(self) -> None:
        """
        Make the streams and the consumer, as far as they are missing, and open the ledger.

        Raises:
            LedgerError: JetStream or the ledger failed, or a stream that exists could lose usage.
        """
        self._client.make_streams()
        self._edges.read(self._database)
        self._do_chores()

    @property
    def source(self) -> str:
        """Stream that this reads, and its servers."""
        return f"{self._config.stream} at {self._config.address}"

    def collect(self) -> Collected:
        """
        Wait a moment for generations, and fold them.

        Raises:
            LedgerError: JetStream or the ledger failed. What is not in the ledger is delivered again.
        """
        if time.monotonic() >= self._next_chores:
            self._do_chores()
        messages = self._client.fetch(self._batch, wait=WAIT_SECONDS)
        if not messages:
            return Collected(0, 0)
        try:
            new = sum([self._fold(each) for each in _parts(self._readable(messages))])
        except LedgerError:
            self._put_back(messages, delay=AGAIN_SECONDS)
            raise
        return Collected(len(messages), new)

    def close(self) -> None:
        """Close the connection to JetStream; what is under way is delivered again, to another collector."""
        self._client.close()

    def _do_chores(self) -> None:
        self._next_chores = time.monotonic() + CHORES_SECONDS
        self._ledger.forget([])  # what has expired

    def _readable(self, messages: Sequence[Msg]) -> list[tuple[Msg, PublishedGeneration]]:
        """Return what is in *messages*; those that cannot be folded are moved out of the way."""
        found: list[tuple[Msg, PublishedGeneration]] = []
        for message in messages:
            try:
                generation = decoded(message.data)
            except NewerMessageError as error:
                self._problems.note(
                    "collector_outdated",
                    f"a message waits: {error}. Upgrade meterkit where collectors run",
                    level=logging.ERROR,
                )
                self._put_back([message], delay=NEWER_SECONDS)
            except MessageError as error:
                self._refuse(message, str(error))
            else:
                why = self._unfoldable(generation)
                if why is None:
                    found.append((message, generation))
                else:
                    self._refuse(message, why)
        return found

    def _unfoldable(self, generation: PublishedGeneration) -> str | None:
        if generation.sender.differs_from(self._sender):
            return (
                f"it is for {generation.sender}, and this collector's ledger for {self._sender}: each ledger needs a "
                "stream of its own"
            )
        # It was folded after its latest count, or never: if the former, the ledger remembers it until this age.
        age = self._clock() - generation.latest
        if age > OLDEST_SECONDS:
            return (
                f"it is {age / 86400:,.0f} days old, so it is not certain whether the ledger had it, and Stripe would "
                "not take it"
            )
        return None

    def _fold(self, generations: Sequence[tuple[Msg, PublishedGeneration]]) -> int:
        self._edges.read(self._database, since=min([each.begun for _, each in generations if each.begun], default=None))
        by_id = {each.id: self._placed(each) for _, each in generations}
        try:
            new = len(self._ledger.fold_many(by_id, conflict=self._note_conflict))
        except Exception as error:
            if isinstance(error, LedgerError) and not isinstance(error, UnstorableError):
                raise
            new = self._fold_each(generations)  # one of them is the reason
        else:
            self._client.settle([message for message, _ in generations])
        return new

    def _fold_each(self, generations: Sequence[tuple[Msg, PublishedGeneration]]) -> int:
        new = 0
        for message, each in generations:
            try:
                new += self._ledger.fold(each.id, self._placed(each), conflict=self._note_conflict)
            except Exception as error:
                if isinstance(error, LedgerError) and not isinstance(error, UnstorableError):
                    raise
                self._refuse(
                    message, str(error) if isinstance(error, LedgerError) else f"its counts are not sound: {error!r}"
                )
            else:
                self._client.settle([message])
        return new

    def _placed(self, generation: PublishedGeneration) -> Iterable[Counted]:
        return self._edges.placed(generation.cells, since=generation.begun)

    def _refuse(self, message: Msg, why: str) -> None:
        self._client.refuse(message, why)
        self._problems.note(
            "generation_refused",
            f"a generation cannot be folded, and is kept in the stream {self._config.refused_stream}: {why}",
            level=logging.ERROR,
        )

    def _put_back(self, messages: Sequence[Msg], *, delay: float) -> None:
        try:
            self._client.put_back(messages, delay=delay)
        except LedgerError as error:  # they come again when their time has passed
            self._problems.note("jetstream_failed", str(error), level=logging.ERROR)

    def _note_conflict(self, found: Conflict) -> None:
        self._problems.note("key_reused", found.message, meter=found.meter, company=found.company)


def _parts(found: Sequence[tuple[Msg, PublishedGeneration]]) -> Iterator[list[tuple[Msg, PublishedGeneration]]]:
    """Yield *found* in parts that add to `MOST_ROWS` rows at most, or have one generation."""
    part: list[tuple[Msg, PublishedGeneration]] = []
    rows: set[UsageKey] = set()
    for message, generation in found:
        own = {key for key, _, _ in generation.cells}
        if part and len(rows | own) > MOST_ROWS:
            yield part
            part, rows = [], set()
        part.append((message, generation))
        rows |= own
    if part:
        yield part
