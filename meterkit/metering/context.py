"""What a view may say about the current exchange: `identify`, `add_usage`, `add_value`, `skip`."""

from __future__ import annotations

import logging
from contextlib import suppress
from time import monotonic

from meterkit.core.problems import QUIET_SECONDS
from meterkit.core.validation import checked_id, checked_quantity
from meterkit.errors import UsageError
from meterkit.metering.exchange import Exchange, Identity, current

log = logging.getLogger("meterkit.exchange")


def identify(company: str, user: str | None = None) -> None:
    """
    Say from within a view who pays for this exchange; the last call counts, and outranks ``identify=``.

    Call it with what you have authenticated, never with what a header merely claims.
    Works in sync and async views, in streamed bodies, and wherever the context was copied to
    (``asyncio.to_thread``, ``run_in_threadpool``).
    Never raises: a mistake is logged, and counted in ``kit.health()``.

    Args:
        company: The id of the company, 1 to 255 printable characters.
        user: The id of the user within the company.
    """
    exchange = _open_exchange("identify()")
    if exchange is not None:
        exchange.touched = True
        exchange.identity = Identity(company, user)


def add_usage(name: str, quantity: int) -> None:
    """
    Add to what this exchange used, for the meters that have ``value=name``; several calls sum up.

    Never raises: a mistake is logged, and counted in ``kit.health()``.

    Args:
        name: The ``value=`` of a meter.
        quantity: 0 to 999,999,999,999,999, in the meter's own unit.
    """
    exchange = _open_exchange("add_usage()")
    if exchange is None:
        return
    if not isinstance(name, str):
        what = type(name).__name__
        exchange.note("usage_name_not_str", f"add_usage() takes the value= of a meter, a str, not {what}; not counted")
    else:
        try:
            exchange.say(name, checked_quantity(quantity))
        except UsageError as error:
            exchange.note(error.reason, f"add_usage({name!r:.100}): {error}; it was not counted")


def add_value(name: str, value: str) -> None:
    """
    Say what this exchange has to do with, for the meters that have ``value=unique(name)``: a device, a document.

    Never raises: a mistake is logged, and counted in ``kit.health()``.

    Args:
        name: What `unique` was given.
        value: 1 to 255 printable characters. Kept in the ledger until the billing period is long over: no secret.
    """
    exchange = _open_exchange("add_value()")
    if exchange is None:
        return
    if not isinstance(name, str):
        what = type(name).__name__
        exchange.note("value_name_not_str", f"add_value() takes the name that unique() has, a str, not {what}")
    else:
        try:
            exchange.say(name, checked_id(value, "value"))
        except UsageError as error:
            exchange.note(error.reason, f"add_value({name!r:.100}): {error}; it was not counted")


def skip() -> None:
    """Count nothing for this exchange: a health check, a trial, a cached answer. Never raises."""
    exchange = _open_exchange("skip()")
    if exchange is not None:
        exchange.touched = True
        exchange.skipped = True


def _open_exchange(call: str) -> Exchange | None:
    exchange = current.get()
    if exchange is None:
        _warn_outside(call)
        return None
    if exchange.closed:
        exchange.note(
            "after_response",
            f"meterkit.{call} was called after the response was complete and did nothing; call it before the "
            "last byte, or use kit.record() in background tasks",
        )
        return None
    return exchange


_warned_at = float("-inf")


def _warn_outside(call: str) -> None:
    global _warned_at  # noqa: PLW0603 - there is no kit here to keep it; two threads may at worst both warn
    now = monotonic()
    if now - _warned_at >= QUIET_SECONDS:
        _warned_at = now
        with suppress(Exception):  # a logging handler is the application's code
            log.warning(
                "meterkit.%s was called outside an exchange and did nothing: is the middleware installed, and the "
                "context copied to this thread (contextvars.copy_context().run)? Outside HTTP, use kit.record().",
                call,
            )
