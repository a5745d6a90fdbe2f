"""
What a process does that counts and does not flush: hand over what it has counted to the one that flushes for all.

A generation is handed over by releasing the lock of its file; whoever adopts it folds it. So at each moment it belongs
to one process, or waits for the next that looks, and a kill at any step leaves it to that one.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from meterkit.core.problems import Problems
from meterkit.flusher.lock import FlusherLock
from meterkit.journal.file_format import VERSION
from meterkit.journal.journal import Journal

if TYPE_CHECKING:
    from meterkit.runtime.settings import Settings

MOST_WAITING = 2
"""Generations of this process that may wait to be folded: while the ledger fails, they must not pile up."""

LATE_SECONDS = 15.0
"""How long a generation may wait: the process that flushes looks ten times a second, unless it hangs."""


class HandOver:
    """
    Hands over what this process has counted. For one thread at a time.

    Args:
        journal: Journal of this process.
        lock: Lock of the `data_dir`, whose holder flushes.
        problems: Where problems are reported.
        fold: Function that folds what this process has retired, if nobody else can.
        clock: Function that returns Unix seconds.
    """

    def __init__(
        self,
        journal: Journal,
        lock: FlusherLock,
        problems: Problems,
        *,
        fold: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._journal = journal
        self._lock = lock
        self._problems = problems
        self._fold = fold
        self._clock = clock

    def run(self, *, is_last: bool = False) -> bool:
        """
        Retire the current generation, and hand over all that are retired and have a file.

        Args:
            is_last: Whether the process ends, so that nothing may stay, however much waits.

        Returns:
            Whether the process that flushes keeps up. If not, nothing was handed over: this one had better flush, too.

        Raises:
            LedgerError: Something has no file, and could not be folded.
        """
        waiting = self._journal.waiting()
        if waiting and time.monotonic() - waiting[0].since > LATE_SECONDS:
            return False
        if len(waiting) < MOST_WAITING or is_last:
            self._retire_and_hand_over()
        else:
            self._lock.ask()
        if not waiting:
            self._problems.clear("flusher_late")
        return True

    def note_late(self) -> None:
        """Note that this process has flushed, since the other does not keep up; so it is not the ledger that fails."""
        holder = self._lock.holder() or "which has just ended"
        self._problems.note(
            "flusher_late",
            f"the process that flushes for all ({holder}) is late: what this one has handed over has waited for "
            f"{LATE_SECONDS:.0f} seconds. So this one flushes, too. Usage is reported to Stripe, and notices are sent, "
            "only by the other: see its log, and end it if it hangs",
            level=logging.ERROR,
        )

    def _retire_and_hand_over(self) -> None:
        self._journal.rotate(now=self._clock())
        retired = self._journal.retired_ids()
        if self._journal.hand_over(retired):
            self._lock.ask()
        if set(retired) & set(self._journal.retired_ids()):
            self._fold()
        self._journal.prepare()


def next_moment(interval: float, *, now: float) -> float:
    """
    Return when to hand over next: at the multiple of *interval* that comes closest to its end.

    All processes of a machine have the same multiples. So the one that flushes finds what all of them have counted, and
    adds it in one transaction.

    Args:
        interval: Seconds between two hand-overs.
        now: Time by the machine's monotonic clock.
    """
    return round(now / interval + 1) * interval


def ledger_name(settings: Settings) -> str:
    """Return a short word that tells the ledger of *settings* from others, and from which nothing can be read."""
    # The directory may be mounted elsewhere in another container.
    return _digest("" if settings.has_default_ledger else settings.ledger, size=4)


def flushes_as(settings: Settings, *, notifies: bool) -> str:
    """
    Return what a process that may flush for this one has in common with it, as a short word.

    These are the ledger, the Stripe account, the format of the journal, whether there are functions to call, and until
    when another program bills.
    """
    account = (settings.stripe_key, settings.stripe_base, settings.stripe_account, settings.webhook is not None)
    shadow = (settings.shadow_until,) if settings.shadow_until else ()  # it reports nothing for those that bill
    text = repr((VERSION, ledger_name(settings), *account, settings.find_customer is not None, notifies, *shadow))
    return _digest(text, size=8)


def _digest(text: str, *, size: int) -> str:
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=size).hexdigest()
