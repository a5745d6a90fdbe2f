"""What a view may call about its exchange: `usage` and its handle, `identify`, `add_usage`, `add_value`, `skip`."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from meterkit.core import threads
from meterkit.core.problems import Problems
from meterkit.core.usage_key import Subject
from meterkit.core.validation import SubjectId, checked_id, checked_quantity
from meterkit.errors import UsageError
from meterkit.metering.dimensions.quantities import Told, told_of, with_parts, with_values
from meterkit.metering.exchange import Exchange, Identity, current

outside = Problems(logger="meterkit.exchange")
"""Calls without an exchange, and so without a kit: the health of every kit of the process reports them."""


class ExchangeUsage:
    """
    A handle for the usage of one exchange, made by `meterkit.usage`.

    It belongs to the exchange in which it was made, wherever it is used: another thread, a generator that is closed
    later, a background task. While the exchange is open, it counts there. Once that has been counted, what is added
    counts at once, for the same company and the same meters.
    """

    __slots__ = ("_exchange", "_is_late", "_subject")

    def __init__(self, exchange: Exchange | None) -> None:
        self._exchange = exchange
        self._subject: Subject | None = None
        if exchange is not None:
            exchange.touch()  # so that the exchange, once counted, knows who pays for the rest
        # Who takes a handle after the response may be a task that one request started and that serves all others.
        self._is_late = exchange is not None and exchange.closed

    def identify(self, company: SubjectId, user: SubjectId | None = None) -> None:
        """
        Set the company that pays. The last call wins, and takes precedence over ``identify=``.

        After the exchange was counted, this holds for what the handle adds from then on.
        Never raises: a mistake is logged, and counted in ``kit.health()``.

        Args:
            company: Company id, 1 to 255 printable characters; an int or a UUID stands for its text.
            user: Id of the user within the company, likewise; None if there is none.
        """
        exchange = self._exchange
        if exchange is None:
            return _note_outside("identify()")
        with exchange.touch():
            if not exchange.closed:
                exchange.identity = Identity(company, user)
                exchange.settled = None
                return None
        self._subject = exchange.owner.recorder.check_subject(Identity(company, user))
        return None

    def add(self, name: str, quantity: int, **dimensions: str | int | None) -> None:
        """
        Add usage for the meters with ``value=name``; several calls add up.

        Never raises: a mistake is logged, and counted in ``kit.health()``.

        Args:
            name: The ``value=`` of a meter.
            quantity: Units used, 0 to 999,999,999,999,999, in the meter's own unit.
            dimensions: Values of the dimensions in the meter's ``by=``, such as ``model="small"``.
        """
        exchange = self._exchange
        if exchange is None:
            return _note_outside("add_usage()", quantity)
        checked = _checked_usage(exchange, name, quantity, dimensions)
        return None if checked is None else self._say(exchange, name, checked)

    def add_parts(self, name: str, quantity: int, parts: dict[Told, int]) -> None:
        """Add *quantity* at once, which consists of *parts*, for ``meterkit.llm``. Never raises."""
        exchange = self._exchange
        if exchange is None:
            return _note_outside("add_usage()", quantity)
        checked = _checked_usage(exchange, name, quantity)
        return None if checked is None else self._say(exchange, name, with_parts(checked, parts))

    def add_value(self, name: str, value: str) -> None:
        """
        Set the value that the exchange concerns, such as a device or a document, for meters with ``unique(name)``.

        Never raises: a mistake is logged, and counted in ``kit.health()``.

        Args:
            name: The name passed to `unique`.
            value: 1 to 255 printable characters. No secret: it stays in the ledger long after the billing period.
        """
        exchange = self._exchange
        if exchange is None:
            return _note_outside("add_value()")
        checked = _checked_value(exchange, name, value)
        return None if checked is None else self._say(exchange, name, checked)

    def skip(self) -> None:
        """Count nothing for the exchange: a health check, a trial, a cached response. Never raises."""
        exchange = self._exchange
        if exchange is None:
            return _note_outside("skip()")
        if exchange.closed:
            return _note_late(exchange, "skip()")
        with exchange.touch():
            exchange.skipped = True
        return None

    def _say(self, exchange: Exchange, name: str, said: int | str) -> None:
        if self._subject is None:
            if self._is_late:
                return _note_late(exchange, "usage().add()", said)
            if exchange.say(name, said):
                return None
        if not exchange.owner.recorder.add_late(exchange, name, said, subject=self._subject):
            _note_late(exchange, "usage().add()", said)
        return None


def usage() -> ExchangeUsage:
    """
    Return a handle for the usage of this exchange, for code that outlives the view or runs elsewhere.

    Take it in the view, and use it anywhere: in a generator's ``finally``, a thread, an executor, a background task, a
    dependency after its ``yield``. In a WebSocket's handler, what is added counts at once. A handle that is taken after
    the response, as in an MCP session's tool, needs `ExchangeUsage.identify` before it counts.
    Never raises: outside an exchange, the handle's calls do nothing, and ``kit.health()`` counts them.
    """
    return ExchangeUsage(_current("usage()"))


def identify(company: SubjectId, user: SubjectId | None = None) -> None:
    """
    Set the company that pays for this exchange. The last call wins, and takes precedence over ``identify=``.

    Pass an id that you have authenticated, never one that a header merely claims.
    Works in sync and async views, in streamed bodies, and wherever the context is copied to
    (``asyncio.to_thread``, ``run_in_threadpool``); elsewhere, use the handle that `usage` returns.
    Never raises: a mistake is logged, and counted in ``kit.health()``.

    Args:
        company: Company id, 1 to 255 printable characters; an int or a UUID stands for its text.
        user: Id of the user within the company, likewise; None if there is none.
    """
    exchange = _current("identify()")
    if exchange is not None:
        if exchange.closed:
            _note_late(exchange, "identify()")
        else:
            ExchangeUsage(exchange).identify(company, user)


def add_usage(name: str, quantity: int, **dimensions: str | int | None) -> None:
    """
    Add usage to this exchange for the meters with ``value=name``; several calls add up.

    Never raises: a mistake is logged, and counted in ``kit.health()``.

    Args:
        name: The ``value=`` of a meter.
        quantity: Units used, 0 to 999,999,999,999,999, in the meter's own unit.
        dimensions: Values of the dimensions in the meter's ``by=``, such as ``model="small"``.
    """
    exchange = _current("add_usage()", quantity)
    if exchange is not None:
        checked = _checked_usage(exchange, name, quantity, dimensions)
        if checked is not None:
            _say(exchange, "add_usage()", name, checked)


def add_value(name: str, value: str) -> None:
    """
    Set the value that this exchange concerns, such as a device or a document, for meters with ``value=unique(name)``.

    Never raises: a mistake is logged, and counted in ``kit.health()``.

    Args:
        name: The name passed to `unique`.
        value: 1 to 255 printable characters. No secret: it stays in the ledger long after the billing period.
    """
    exchange = _current("add_value()")
    if exchange is not None:
        checked = _checked_value(exchange, name, value)
        if checked is not None:
            _say(exchange, "add_value()", name, checked)


def skip() -> None:
    """Count nothing for this exchange: a health check, a trial, a cached response. Never raises."""
    exchange = _current("skip()")
    if exchange is not None:
        ExchangeUsage(exchange).skip()


def _say(exchange: Exchange, call: str, name: str, said: int | str) -> None:
    """Add to the exchange of this context while it is open: afterwards, the context may be that of a shared task."""
    if exchange.closed:
        _note_late(exchange, call, said)
    elif not exchange.say(name, said):
        exchange.owner.recorder.add_late(exchange, name, said, subject=None)


def _checked_usage(
    exchange: Exchange, name: Any, quantity: Any, dimensions: Mapping[str, Any] | None = None
) -> int | None:
    """Return *quantity* as a valid one; None, and note a problem, if it or *name* is invalid."""
    if isinstance(name, str):
        try:
            checked = checked_quantity(quantity)
            return with_values(checked, told_of(dimensions, exchange.note)) if dimensions else checked
        except UsageError as error:
            exchange.note(error.reason, f"add_usage({name!r:.100}): {error}; it was not counted")
    else:
        kind = type(name).__name__
        exchange.note("usage_name_not_str", f"add_usage() needs a meter's value=, a str, not {kind}; not counted")
    return None


def _checked_value(exchange: Exchange, name: Any, value: Any) -> str | None:
    """Return *value* as a valid one; None, and note a problem, if it or *name* is invalid."""
    if isinstance(name, str):
        try:
            return checked_id(value, "value")
        except UsageError as error:
            exchange.note(error.reason, f"add_value({name!r:.100}): {error}; it was not counted")
    else:
        kind = type(name).__name__
        exchange.note("value_name_not_str", f"add_value() needs the name passed to unique(), a str, not {kind}")
    return None


def _current(call: str, quantity: Any = 0) -> Exchange | None:
    """Return the exchange of this context; None, and note a problem, if there is none or it may be somebody else's."""
    exchange = current.get()
    if exchange is None:
        _note_outside(call, quantity)
    elif is_collected() or (exchange.is_asgi and _is_finalised()):
        exchange.note(
            "finalised",
            f"meterkit.{call} was called while a generator or an object was being finalised, perhaps in another "
            "customer's request, and did nothing; take usage = meterkit.usage() in the view, before the first yield, "
            "and call usage.add()",
            units=_units(quantity),
        )
        return None
    return exchange


def _note_late(exchange: Exchange, call: str, quantity: Any = 0) -> None:
    exchange.note(
        "after_response",
        f"meterkit.{call} was called after the response to {exchange.method} {exchange.path!r:.100} was complete, and "
        "did nothing; take usage = meterkit.usage() in the view, and call usage.add() at any time, or use kit.record() "
        "in background tasks and in tasks that another request started, as an MCP session's are",
        units=_units(quantity),
    )


def _note_outside(call: str, quantity: Any = 0) -> None:
    outside.note(
        "outside_exchange",
        f"meterkit.{call} was called outside an exchange, and did nothing. Is the middleware installed? For another "
        "thread, executor or greenlet, take usage = meterkit.usage() in the view; outside HTTP, use kit.record()",
        units=_units(quantity),
    )


def _units(quantity: Any) -> int:
    return quantity if type(quantity) is int and quantity > 0 else 0


def _is_finalised() -> bool:
    """Return whether a generator is being closed: nobody tells by whom, and in whose context."""
    error = sys.exc_info()[1]
    while error is not None:
        if isinstance(error, GeneratorExit):
            return True
        error = error.__context__
    return False


_collecting: int | None = None
"""Id of the thread in which the garbage collector runs now."""


def is_collected() -> bool:
    """Return whether the garbage collector has called: it runs in whatever context happens to allocate memory."""
    return _collecting is not None and _collecting == threads.thread_id()


def _note_collection(get_ident: Callable[[], int], phase: str, _info: dict[str, int]) -> None:
    global _collecting  # noqa: PLW0603 - there is one garbage collector
    _collecting = get_ident() if phase == "start" else None


# With the function at hand: the collector also runs when modules have been taken apart at exit.
gc.callbacks.append(partial(_note_collection, threads.original("_thread", "get_ident")))
