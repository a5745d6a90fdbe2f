"""
Problems seen while serving, counted by reason and logged at most once a minute.

Nothing that goes wrong while serving is raised into a request (promise 4), so it must be visible here. Each log record
of the library, but for notices, is written by `log_event`.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from dataclasses import dataclass

from meterkit.core import threads

QUIET_SECONDS = 60.0
"""Shortest time between two log records of the same reason, seconds. Occurrences in between are still counted."""


def log_event(
    event: str,
    message: str,
    *,
    level: int = logging.WARNING,
    logger: str = "meterkit",
    template: str = "%s ({event})",
    arguments: tuple[object, ...] = (),
    error: Exception | None = None,
    **fields: object,
) -> None:
    """
    Log *message* as one kind of event: with fields that programs can read, and a template that is the same each time.

    Sentry and others group records by the template, so the event is a part of it, and *message* is not. Never raises.

    Args:
        event: Stable name of what happened, in lower case with underscores.
        message: What happened, and the cure.
        level: Level of the log record.
        logger: Name of the logger.
        template: Format of the line, ``%``-style, in which ``{event}`` stands for *event*.
        arguments: Values of the template after *message*.
        error: Exception whose traceback is shown.
        fields: Attributes of the record besides ``event`` and ``detail``, the message; None is left out.
    """
    with suppress(Exception):
        # What the application's own record factory has set may not be set again: logging would raise.
        taken = vars(logging.getLogRecordFactory()(logger, level, "", 0, "", (), None))
        extra = {"event": event, "detail": message, **fields}
        # Taken when it is used: logging.config disables the loggers that exist before it, unless told not to.
        logging.getLogger(logger).log(
            level,
            template.replace("{event}", event),
            message,
            *arguments,
            exc_info=error,
            extra={name: value for name, value in extra.items() if name not in taken and value is not None},
        )


@dataclass(slots=True)
class Problem:
    """
    One kind of problem.

    Attributes:
        count: Number of occurrences in this process.
        message: Message of the latest occurrence, with the cure.
        logged_at: Time when the problem was last logged, ``time.monotonic()`` seconds.
        units: Units that were not counted for it.
    """

    count: int
    message: str
    logged_at: float
    units: int = 0


class Problems:
    """
    Counts problems by reason. Safe to use from any thread, signal handler or logging handler.

    Args:
        logger: Name of the logger that shows them.
    """

    def __init__(self, *, logger: str = "meterkit") -> None:
        self._logger = logger
        # Re-entrant, because a signal handler or finaliser may note a problem while its thread is noting one.
        self._lock = threads.rlock()
        self._by_reason: dict[str, Problem] = {}
        self._ever: dict[str, tuple[int, int]] = {}

    def note(
        self,
        reason: str,
        message: str,
        *,
        level: int = logging.WARNING,
        units: int = 0,
        error: Exception | None = None,
        **fields: str | None,
    ) -> None:
        """
        Count *reason*, and log *message* unless the same reason was logged within the last minute.

        Logging happens outside the lock: a handler may be slow, count usage itself, or raise.

        Args:
            reason: Kind of problem, as in ``kit.health()["problems"]``.
            message: What happened, and the cure.
            level: Level of the log record.
            units: Units that were not counted for it.
            error: Exception of the application's code, whose traceback goes into the first log record.
            fields: Attributes of the log record, such as *company*; None is left out.
        """
        now = time.monotonic()
        with self._lock:
            problem = self._by_reason.get(reason)
            if problem is None:
                problem = self._by_reason[reason] = Problem(0, message, now - QUIET_SECONDS)
            problem.count += 1
            problem.message = message
            problem.units += units
            ever = self._ever.get(reason, (0, 0))
            self._ever[reason] = (ever[0] + 1, ever[1] + units)
            if now - problem.logged_at < QUIET_SECONDS:
                return
            problem.logged_at = now
            count = problem.count
        log_event(
            reason,
            message,
            level=level,
            logger=self._logger,
            template="%s ({event}, %d so far)",
            arguments=(count,),
            error=error if count == 1 else None,
            occurrences=count,
            units=units or None,
            **fields,
        )

    def internal(self, error: Exception) -> None:
        """Count and log *error*, with which metering itself failed."""
        message = f"metering failed with {shown(error)}; the response is unchanged. Please report this"
        self.note("internal_error", message, error=error)

    def clear(self, reason: str) -> None:
        """Forget *reason*: the problem is solved."""
        with self._lock:
            self._by_reason.pop(reason, None)

    def after_fork(self) -> None:
        """Start empty, with a new lock, because another thread may have held the old one during the fork."""
        self._lock = threads.rlock()
        self._by_reason, self._ever = {}, {}

    def ever(self) -> dict[str, tuple[int, int]]:
        """Return how often each problem has occurred, solved ones too, and the units lost for it."""
        with self._lock:
            return dict(self._ever)

    def as_dict(self) -> dict[str, dict[str, str | int]]:
        """Return the problems so far: ``{reason: {"count": ..., "message": ...}}``, and ``units`` if some are lost."""
        shown: dict[str, dict[str, str | int]] = {}
        with self._lock:
            for reason, problem in sorted(self._by_reason.items()):
                shown[reason] = {"count": problem.count, "message": problem.message}
                if problem.units:
                    shown[reason]["units"] = problem.units
        return shown


def shown(error: Exception) -> str:
    """Return *error* as text. Its ``__repr__`` is the application's code, so it may raise, too."""
    try:
        return f"{error!r:.200}"
    except Exception:
        return type(error).__name__
