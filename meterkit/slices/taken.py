"""What one request, or one hold, has taken from a slice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from meterkit.slices.rows import Key

if TYPE_CHECKING:
    from sqlalchemy import Connection


class ShortageError(Exception):
    """
    Neither the slice of this process nor the ledger has as many units as were asked for.

    Attributes:
        source: Quota or wallet that is used up.
        left: What could still be taken of it here.
        is_held: Whether there would be enough, had other processes not drawn some: they give back what they do not use
            with their next flush.
    """

    def __init__(self, source: Source, left: int, *, is_held: bool) -> None:
        super().__init__(f"{left} left of {source}")
        self.source = source
        self.left = left
        self.is_held = is_held


class Source(Protocol):
    """Where slices are drawn from: the quota of a company, or its wallet."""

    def left(self, connection: Connection, company: str) -> int:
        """
        Return what *company* has left in the ledger, including what processes have drawn of it.

        Args:
            connection: Connection of the transaction that draws.
            company: Company id.

        Raises:
            LedgerError: The ledger cannot be read.
        """


class Owner(Protocol):
    """
    For whom units are taken: the `Exchange` of a request, or a hold.

    Attributes:
        native: None once it is over, so that its units are free again.
    """

    native: Any


class Supplier(Protocol):
    """The part of `meterkit.slices.slices.Slices` that what is taken of it uses."""

    def change(self, taken: Taken, quantity: int) -> None:
        """Change what is *taken* to *quantity*, which is not more."""

    def reduce(self, taken: Taken, quantity: int) -> None:
        """Give up *quantity* of what is *taken*, or all of it if that is less."""

    def add(self, taken: Taken, quantity: int) -> None:
        """Take *quantity* more; raise as `Slices.take` does."""


class Taken:
    """
    Units that one request, or one hold, has of the slice of its process.

    They are the request's until it ends: what it has counted by then is used, and the rest is free again. What is taken
    for no request is free again when it is released. The death of the process, in whatever way, releases it, too.

    Attributes:
        key: Company and name of what was taken.
        quantity: Units taken: of the quota's meter, or millionths of the wallet's unit.
        exchange: Request, or hold, for which it was taken; None if for none.
    """

    __slots__ = ("_supplier", "exchange", "key", "quantity")

    def __init__(self, supplier: Supplier, key: Key, quantity: int, exchange: Owner | None) -> None:
        self._supplier = supplier
        self.key = key
        self.quantity = quantity
        self.exchange = exchange

    @property
    def is_open(self) -> bool:
        """Whether its units may still be used: a request that has been counted has no native."""
        return self.quantity > 0 and (self.exchange is None or self.exchange.native is not None)

    def more(self, quantity: int) -> bool:
        """
        Take *quantity* more; return False, and take nothing, if neither the slice nor the ledger has as many.

        If the slice has too few, this waits for the ledger: in an event loop, call it in a thread.

        Raises:
            LedgerError: The ledger failed, or the kit is closing; nothing was taken.
        """
        try:
            self._supplier.add(self, quantity)
        except ShortageError:
            return False
        return True

    def reduce(self, quantity: int) -> None:
        """Free *quantity* units, which have been counted, or are not needed; all if there are fewer."""
        self._supplier.reduce(self, quantity)

    def settle(self, actual: int) -> None:
        """
        Keep only *actual* units, the rest is free again.

        Those of a request are counted when it ends, and taken until then. What was taken for no request has been
        counted by now, so nothing stays taken.
        """
        self._supplier.change(self, 0 if self.exchange is None else min(self.quantity, max(0, actual)))

    def release(self) -> None:
        """Free all units, which nothing will be counted for, or has been. Further calls do nothing."""
        self._supplier.change(self, 0)
