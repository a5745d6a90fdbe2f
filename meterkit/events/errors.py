"""Why events are refused: all of a request at once, so that a batch is taken whole or not at all."""

from __future__ import annotations

from dataclasses import dataclass

SHOWN = 100
"""Number of wrong events of a batch that are named."""


@dataclass(frozen=True, slots=True)
class WrongEvent:
    """
    An event that cannot be counted.

    Attributes:
        index: Position in the batch, from 0.
        id: Its id, shortened; empty if it has none.
        reason: Name of the kind of mistake.
        detail: What is wrong, and the cure.
    """

    index: int
    id: str
    reason: str
    detail: str


class EventsError(Exception):
    """
    A request with events is refused, and nothing of it was counted, unless *retry_after* is set.

    Args:
        status: HTTP status to respond with.
        reason: Name of the kind of mistake, in lower case with underscores.
        detail: What is wrong, and the cure.
        retry_after: Seconds after which to send the same events again; None if that would not help. What was counted
            of them does not count again.
        wrong: The first `SHOWN` wrong events.
        number: Number of wrong events.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        detail: str,
        *,
        retry_after: int | None = None,
        wrong: tuple[WrongEvent, ...] = (),
        number: int = 0,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.reason = reason
        self.detail = detail
        self.retry_after = retry_after
        self.wrong = wrong
        self.number = number


class EventError(Exception):
    """
    One event cannot be counted.

    Args:
        reason: Name of the kind of mistake, in lower case with underscores.
        detail: What is wrong, and the cure.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
