"""Notices in the application's log."""

from __future__ import annotations

import logging

from meterkit.core.problems import log_event
from meterkit.notices.notice import Notice


class Log:
    """
    Writes each notice to a logger, with its kind in the message template, and its key and company as ``extra``.

    Args:
        logger: Name of the logger.
        level: Level of the standard library's logging.
    """

    def __init__(self, *, logger: str = "meterkit.notices", level: int = logging.INFO) -> None:
        self._logger = logger
        self._level = level
        self.name = f"log:{logger}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Log) and (other.name, other._level) == (self.name, self._level)

    def __hash__(self) -> int:
        return hash(self.name)

    def deliver(self, notice: Notice) -> None:
        """Log *notice*."""
        log_event(
            "notice",
            notice.title,
            level=self._level,
            logger=self._logger,
            template=f"%s: %s ({{event}}, {notice.kind})",
            arguments=(notice.text,),
            notice_key=notice.key,
            notice_kind=notice.kind,
            company=notice.company,
        )
