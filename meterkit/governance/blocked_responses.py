"""The responses to blocked requests, and how many there were since the last flush."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import quote

from meterkit.core import threads
from meterkit.core.problems import Problems
from meterkit.core.responses import Response
from meterkit.core.text_templates import fill
from meterkit.core.usage_key import NOBODY
from meterkit.governance.policy import Governance
from meterkit.governance.refusal import Block, Refusal
from meterkit.metering.exchange import Exchange

if TYPE_CHECKING:
    from meterkit.ledger.database import Database

Leave: TypeAlias = "Callable[[Mapping[tuple[str, str], int]], object]"

MAX_COMPANIES = 10_000
"""Companies whose blocked requests are counted one by one between two flushes; clients may invent company ids."""


class BlockedResponses:
    """
    Answers blocked requests as a `Governance` says, and counts them. Safe for several threads.

    Args:
        governance: Its ``refusals`` and ``settle_url``.
        problems: Where a refusal that raises is reported.

    Attributes:
        total: Number of requests that this process blocked, by reason; the reason begins with ``warn:`` for those that
            were only warned about, and with ``shadow:`` for those that would have been blocked without shadow mode.
    """

    def __init__(self, governance: Governance, problems: Problems) -> None:
        self._governance = governance
        self._problems = problems
        self.reset()

    def reset(self) -> None:
        """Drop what was counted, and a lock of the parent process."""
        self._lock = threads.rlock()
        self._counts: dict[tuple[str, str], int] = {}
        self.total: dict[str, int] = {}

    def refuse(self, exchange: Exchange, block: Block) -> Response:
        """Return the response that blocks *exchange* because of *block*, and count it."""
        block = self.linked(block)
        self.count(block, is_hard=True)
        exchange.blocked = self._refusal_of(block).worded(block)
        response = self._respond(block)
        response.headers.extend(exchange.added_headers)
        return response

    def linked(self, block: Block) -> Block:
        """Return *block* with the URL at which to settle it, if the governance has one."""
        url = self._governance.settle_url
        if block.settle_url is not None or url is None:
            return block
        values = {name: getattr(block, name) for name in block.__dataclass_fields__}
        return replace(block, settle_url=fill(url, values, escape=lambda text: quote(text, safe="", errors="replace")))

    def count(self, block: Block, *, is_hard: bool, is_shadow: bool = False) -> None:
        """
        Count a request.

        Args:
            block: Why it is blocked.
            is_hard: Whether it is, and not only warned about.
            is_shadow: Whether it would be, without shadow mode.
        """
        reason = f"{'shadow:' if is_shadow else ''}{block.reason}" if is_hard else f"warn:{block.reason}"
        with self._lock:
            self.total[reason] = self.total.get(reason, 0) + 1
            if is_hard:
                company = block.company or NOBODY
                key = (company if len(self._counts) < MAX_COMPANIES else NOBODY, reason)
                self._counts[key] = self._counts.get(key, 0) + 1

    def add(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Add *counts* of blocked requests, by company and reason, to those that are to be written."""
        with self._lock:
            for key, count in counts.items():
                self._counts[key] = self._counts.get(key, 0) + count

    def write(self, database: Callable[[], Database], now: int, *, leave: Leave | None) -> None:
        """
        Write what has been counted.

        Args:
            database: Function that opens and returns the ledger's database.
            now: Current time, Unix seconds.
            leave: Function that leaves the counts to the process that flushes; None writes them to the ledger.

        Raises:
            LedgerError: The ledger failed; all of it is written the next time.
            OSError: The counts could not be left; they are the next time.
        """
        with self._lock:
            counts, self._counts = self._counts, {}
        if not counts:
            return
        try:
            if leave is not None:
                leave(counts)
            else:
                from meterkit.governance.blocked_requests import add_blocked

                add_blocked(database(), counts, now)
        except BaseException:
            self.add(counts)
            raise

    def _respond(self, block: Block) -> Response:
        try:
            return self._refusal_of(block).respond(block)
        except Exception as error:
            message = f"the Refusal of {block.reason!r} raised {error!r:.200}"
            self._problems.note("refusal_raised", message, error=error, company=block.company)
            return Refusal().respond(block)

    def _refusal_of(self, block: Block) -> Refusal:
        return self._governance.refusals.get(block.reason) or Refusal()
