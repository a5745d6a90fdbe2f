"""
`Hold`: units of a quota or a wallet that are set aside for work whose usage is only known at its end.

What is held is in memory, and in the ledger's row for this process's journal generation: a process that dies gives it
back when its journal is adopted.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from decimal import Decimal
from enum import Enum
from types import TracebackType
from typing import Any, NoReturn

from meterkit.core import threads
from meterkit.core.threads import in_thread
from meterkit.core.validation import checked_quantity
from meterkit.errors import UsageError
from meterkit.holds import scope
from meterkit.holds.part import Part
from meterkit.holds.terms import Dimensions, Terms
from meterkit.metering.exchange import Exchange
from meterkit.wallets.amounts import Amount


class _State(Enum):
    NEW = "not begun"
    TAKING = "asking the ledger"
    HELD = "in its block"
    SETTLED = "settled"
    RELEASED = "released"


class _Owner:
    """For whom units are taken. What an exception lost before it was in the hold is free again with this."""

    native: Any = True


class Hold:
    """
    Units that are held for one piece of work, made by `MeterKit.hold`. Use it with ``with`` or ``async with``, once.

    Usage that is counted for the same company and meter in the block is covered by the hold: that of ``kit.record()``
    and, in a request, of ``add_usage()``. At the end of the block, what was not used is given back. In a request, what
    the view has added stays held until the request has been counted.

    Attributes:
        company: Id of the company that pays.
    """

    def __init__(self, terms: Terms, *, exchange: Exchange | None = None) -> None:
        self.company = terms.company
        self._terms = terms
        self._exchange = exchange
        self._ends_with_exchange = exchange is not None  # a dependency's: it has no block
        self._lock = threads.rlock()
        self._process = os.getpid()
        self._owner = _Owner()
        self._parts: Sequence[Part] = ()
        self._held = 0  # units that are held, used or not
        self._used = 0  # units that were counted under this hold
        self._kept: Mapping[str, int] = {}  # by meter, what its exchange has still to count after the block
        self._dimensions: Dimensions = None  # of what was settled
        self._is_counted = False  # whether the exchange has counted
        self._state = _State.NEW
        self._is_async = False

    def __repr__(self) -> str:
        return f"<Hold of {self.quantity} {self._terms.name} for {self.company!r}, {self._state.value}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a hold belongs to its process: pass the company and the estimate on, and call kit.hold() where the work is"
            " done"
        )

    @property
    def quantity(self) -> int | Decimal:
        """Units that are held and were not used; 0 before and after the block. Of a wallet, a `Decimal`."""
        return self._terms.shown(max(0, self._held - self._used) if self._state is _State.HELD else 0)

    @property
    def used(self) -> int | Decimal:
        """Units that were counted under this hold so far. Of a wallet, a `Decimal`."""
        return self._terms.shown(self._used)

    def __enter__(self) -> Hold:  # noqa: PYI034 - typing has Self since Python 3.11
        self._open()
        try:
            self._take()
        except BaseException:
            self.release()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()

    async def __aenter__(self) -> Hold:  # noqa: PYI034
        self._open()  # here, because the thread has only a copy of the context
        self._is_async = True
        try:
            await in_thread(self._take)
        except BaseException:  # a task may be cancelled while its thread goes on
            self.release()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.release()  # awaits nothing, so that a second cancellation cannot interrupt it

    def more(self, quantity: Amount) -> bool:
        """
        Hold *quantity* units more, or none; return whether there was enough. May wait for the ledger for milliseconds.

        Args:
            quantity: Units of the meter, 0 to 999,999,999,999,999; or an amount of the wallet.

        Raises:
            UsageError: *quantity* is no such number, or the hold is not in use in this process.
        """
        units = self._terms.checked(quantity)
        self._check_held("more()")
        if not self._terms.more(self._parts, units):
            return False
        with self._lock:
            self._held += units
        return True

    async def amore(self, quantity: Amount) -> bool:
        """Do what `more` does, in a thread; for coroutines."""
        return await in_thread(lambda: self.more(quantity))

    def settle(self, actual: int, *, dimensions: Dimensions = None) -> None:
        """
        Count what was used in all, and give back the rest. Once for each hold; awaits nothing.

        What was counted under the hold before is part of *actual*, and does not count again. If *actual* is more than
        is held, the rest is taken as well, after ``async with`` in a thread. If there is not so much, it counts all the
        same, and ``kit.health()`` names it as ``hold_exceeded``.

        Args:
            actual: Units that were used, 0 to 999,999,999,999,999.
            dimensions: Values of the dimensions in the meter's ``by=``, by their names, of what was not counted under
                the hold before; a missing one is unknown.

        Raises:
            UsageError: *actual* is no such number, or less than what was counted; the meter does not take the values;
                the hold is of a wallet; or it is not in use in this process. Nothing was counted.
        """
        actual = checked_quantity(actual)
        self._check_held("settle()")
        with self._lock:
            self._check_held("settle()")  # another thread may have been faster
            self._terms.check_settles(dimensions)
            rest = actual - self._used - self._amount(self._added())
            if rest < 0:
                raise UsageError(
                    f"settle({actual}): {actual - rest} {self._terms.name} were counted under this hold before, and "
                    "settle() takes the total; to reverse usage, use `meterkit correct`",
                    reason="hold_settled_below",
                )
            self._dimensions = dimensions
            self._state = _State.SETTLED  # first: whatever interrupts this, nothing counts twice
            is_exceeded = actual > self._held
        try:
            if rest:
                self._terms.record(rest, dimensions)
                self._cover({self._terms.name: rest})
        finally:
            self._leave()
        if is_exceeded:
            self._terms.draw_exceeded(in_background=self._is_async)

    def release(self) -> None:
        """Give back what was not used, as the end of the block does. Never raises; further calls do nothing."""
        if self._is_elsewhere:
            return
        with self._lock:
            if self._state in (_State.SETTLED, _State.RELEASED):
                return
            self._state = _State.RELEASED
        self._leave()

    def is_of(self, evaluator: object) -> bool:
        """Return whether *evaluator* is that of the hold's kit; for meterkit's own parts."""
        return self._terms.evaluator is evaluator

    def cover(self, company: str, counted: dict[str, int]) -> None:
        """
        Take off *counted* what this hold covers. For meterkit's own parts.

        Args:
            company: Id of the company that the usage was counted for.
            counted: Quantities by the name of the meter.
        """
        if company == self.company and self._state is _State.HELD and not self._is_elsewhere:
            self._cover({meter: counted.pop(meter) for meter in self._terms.rates if meter in counted})

    def exchange_ended(self, company: str, counted: dict[str, int]) -> None:
        """
        Take off what this hold covers of what its exchange has *counted*, as `cover` does. For meterkit's own parts.

        Args:
            company: Id of the company that the exchange was counted for.
            counted: Quantities by the name of the meter.
        """
        if self._is_elsewhere:
            return
        with self._lock:
            self._is_counted = True
            kept, self._kept = self._kept, {}
            if not kept:
                self.cover(company, counted)
                if self._ends_with_exchange:
                    self.release()
                return
            for meter, quantity in kept.items():
                covered = min(quantity, counted.get(meter, 0)) if company == self.company else 0
                if covered:
                    counted[meter] -= covered
                if self._state is _State.SETTLED and quantity > covered:
                    # settle() was told the total, and left this part of it to the exchange, which did not count it.
                    self._terms.record(quantity - covered, self._dimensions)
                    covered = quantity
                self._used += covered * self._terms.rates[meter]
            self._end()

    @property
    def kept(self) -> Mapping[str, int]:
        """Units by meter that the exchange has still to count for this hold, after its block."""
        return self._kept

    @property
    def _is_elsewhere(self) -> bool:
        """Whether this is a forked child of the process that holds. Its locks may be held for ever here."""
        return os.getpid() != self._process

    def _open(self) -> None:
        with self._lock:
            if self._state is not _State.NEW:
                raise UsageError("a hold is used once: call kit.hold() for each piece of work", reason="hold_reused")
            self._state = _State.TAKING
        self._exchange = scope.enter(self, self._exchange)

    def _take(self) -> None:
        quantity = self._terms.estimate()
        parts = self._terms.take(quantity, self._owner, self._exchange)
        with self._lock:
            if self._state is _State.TAKING:
                self._parts, self._held, self._state = parts, quantity, _State.HELD
                return
        for part in parts:  # released meanwhile: the task was cancelled
            part.release()

    def _cover(self, counted: Mapping[str, int]) -> None:
        """Give up what was held for *counted*, quantities by meter, which are in the journal now."""
        with self._lock:
            amount = self._amount(counted)
            covered = min(amount, max(0, self._held - self._used))
            self._used += amount
            for part in self._parts:
                part.reduce(covered)

    def _amount(self, quantities: Mapping[str, int]) -> int:
        """Return what *quantities* by meter take of the hold."""
        return sum(self._terms.rates[meter] * quantity for meter, quantity in quantities.items())

    def _added(self) -> dict[str, int]:
        """Return, by meter, what the view has added for this hold, as far as that is not covered yet."""
        exchange = self._exchange
        if exchange is None or self._is_counted or not self._terms.added_names:
            return {}
        with exchange.touch():
            if exchange.closed:  # another thread is about to tell what it has counted
                company, counted = exchange.counted or ("", {})
                names = self._terms.rates if company == self.company else ()
                return {meter: counted[meter] for meter in names if counted.get(meter)}
            said, found = exchange.usage, {}
            for meter, name in self._terms.added_names.items():
                left = said.get(name, 0) - sum(each.kept.get(meter, 0) for each in exchange.holds)
                if left > 0:
                    found[meter] = left
            return found

    def _leave(self) -> None:
        with self._lock:
            with nullcontext() if self._exchange is None else self._exchange.touch():  # which is not counted meanwhile
                self._kept = self._added()
            if not self._kept:
                self._end()
                return
            unused = max(0, self._held - self._used - self._amount(self._kept))
            self._held -= unused
            for part in self._parts:
                part.reduce(unused)

    def _end(self) -> None:
        scope.leave(self, self._exchange)
        self._owner.native = None
        parts, self._parts = self._parts, ()
        for part in parts:
            part.release()
        if self._used:
            self._terms.learn(self._used)

    def _check_held(self, call: str) -> None:
        """
        Check that the hold can be used.

        Raises:
            UsageError: It cannot.
        """
        if self._is_elsewhere:
            raise UsageError(
                f"{call}: this hold was taken in process {self._process}, and this is {os.getpid()}; call kit.hold() "
                "in the process that does the work. Nothing was counted",
                reason="hold_elsewhere",
            )
        if self._state is _State.HELD:
            return
        if self._state in (_State.NEW, _State.TAKING):
            raise UsageError(f"{call}: nothing is held yet; use `with kit.hold(...) as hold:`", reason="hold_unused")
        raise UsageError(
            f"{call}: this hold was {self._state.value} before, and nothing was counted now; call settle() once, in "
            "the block, and count what comes later with kit.record()",
            reason="hold_ended",
        )
