"""What a view may call about the current exchange: `identify`, `add_usage`, `add_value`, `skip`."""

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
    Set the company that pays for this exchange. The last call wins, and takes precedence over ``identify=``.

    Pass an id that you have authenticated, never one that a header merely claims.
    Works in sync and async views, in streamed bodies, and wherever the context is copied to
    (``asyncio.to_thread``, ``run_in_threadpool``).
    Never raises: a mistake is logged, and counted in ``kit.health()``.

    Args:
        company: Company id, 1 to 255 printable characters.
        user: Id of the user within the company, 1 to 255 printable characters; None if there is none.
    """
    exchange = _open_exchange("identify()")
    if exchange is not None:
        exchange.touched = True
        exchange.identity = Identity(company, user)
        if exchange.passed_unidentified:
            exchange.note(
                "identified_late",
                f"meterkit.identify({company!r:.100}) was called in a view, but governance= had already let "
                f"{exchange.method} {exchange.path!r:.100} pass, because identify= returned None: no quota, cap or "
                "overdue invoice could block it. Let identify= return the company, by the API key for example; or "
                "add the path to Governance(exempt=...)",
            )


def add_usage(name: str, quantity: int) -> None:
    """
    Add usage to this exchange for the meters with ``value=name``; several calls add up.

    Never raises: a mistake is logged, and counted in ``kit.health()``.

    Args:
        name: The ``value=`` of a meter.
        quantity: Units used, 0 to 999,999,999,999,999, in the meter's own unit.
    """
    exchange = _open_exchange("add_usage()")
    if exchange is None:
        return
    if not isinstance(name, str):
        kind = type(name).__name__
        exchange.note("usage_name_not_str", f"add_usage() needs a meter's value=, a str, not {kind}; not counted")
    else:
        try:
            exchange.say(name, checked_quantity(quantity))
        except UsageError as error:
            exchange.note(error.reason, f"add_usage({name!r:.100}): {error}; it was not counted")


def add_value(name: str, value: str) -> None:
    """
    Set the value that this exchange concerns, such as a device or a document, for meters with ``value=unique(name)``.

    Never raises: a mistake is logged, and counted in ``kit.health()``.

    Args:
        name: The name passed to `unique`.
        value: 1 to 255 printable characters. No secret: it stays in the ledger long after the billing period.
    """
    exchange = _open_exchange("add_value()")
    if exchange is None:
        return
    if not isinstance(name, str):
        kind = type(name).__name__
        exchange.note("value_name_not_str", f"add_value() needs the name passed to unique(), a str, not {kind}")
    else:
        try:
            exchange.say(name, checked_id(value, "value"))
        except UsageError as error:
            exchange.note(error.reason, f"add_value({name!r:.100}): {error}; it was not counted")


def skip() -> None:
    """Count nothing for this exchange: a health check, a trial, a cached response. Never raises."""
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
            f"meterkit.{call} was called after the response was complete, and did nothing; call it before the "
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
                "meterkit.%s was called outside an exchange, and did nothing. Is the middleware installed, and the "
                "context copied to this thread (contextvars.copy_context().run)? Outside HTTP, use kit.record().",
                call,
            )
