"""
Keep our requests out of httpx's log.

httpx logs the full URL of each request, at INFO: for a chat channel's webhook, that is the secret itself; and Stripe's
would be thousands of lines an hour. The application's own requests are logged as before.
"""

from __future__ import annotations

import logging
from contextvars import ContextVar, Token

_ours: ContextVar[bool] = ContextVar("meterkit.http_logging", default=False)


class _NotOurs(logging.Filter):
    def filter(self, _record: logging.LogRecord) -> bool:
        return not _ours.get()


_NOT_OURS = _NotOurs()


class Unlogged:
    """A context in which httpx logs nothing."""

    __slots__ = ("_token",)

    _token: Token[bool]

    def __enter__(self) -> None:
        # Each time: the application may have configured its logging anew.
        logging.getLogger("httpx").addFilter(_NOT_OURS)
        self._token = _ours.set(True)

    def __exit__(self, *_: object) -> None:
        _ours.reset(self._token)
