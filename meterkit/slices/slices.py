"""The slices of one process: what it may use of quotas and wallets without asking the ledger."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from meterkit.core import threads
from meterkit.core.problems import Problems
from meterkit.core.threads import DaemonThread, without_greenlets
from meterkit.core.usage_key import WALLET
from meterkit.errors import LedgerError
from meterkit.slices.draw import Draw, Want
from meterkit.slices.rows import Key, Rates
from meterkit.slices.slice import Slice
from meterkit.slices.taken import Owner, ShortageError, Source, Taken

if TYPE_CHECKING:
    from meterkit.journal.journal import Journal
    from meterkit.ledger.database import Database
    from meterkit.metering.exchange import Exchange

Need: TypeAlias = "tuple[str, tuple[str, ...]]"
"""The name of a quota's meter or of a wallet, and the meters of it that a request may count for."""

CLOSE_SECONDS = 1.0
"""How long an exit waits for a request that draws."""

MOST_AT_ONCE = 200
"""Slices that are drawn, or given back, in one transaction, which all processes wait for."""


@dataclass(frozen=True, slots=True)
class _Refused:
    draw: int
    quantity: int
    shortage: ShortageError


class Slices:
    """
    What one process may use of quotas and wallets without asking the ledger. Safe for several threads.

    Args:
        database: Database of the ledger.
        journal: Journal in which requests are counted; it watches all meters of *rates*.
        sources: Function that returns what limits a company's use of a name; nothing if there is no limit.
        rates: Function that returns what one unit of each meter takes from a name.
        estimate: Function that returns what a request of a company will probably count for a meter.
        estimated: Names of the meters for which to call it; of others, a request counts one.
        problems: Where problems are reported.
        clock: Function that returns Unix seconds.
    """

    def __init__(
        self,
        database: Database,
        journal: Journal,
        *,
        sources: Callable[[str, str], Sequence[Source]],
        rates: Callable[[str], Rates],
        estimate: Callable[[str, str], int] = lambda _company, _meter: 1,
        estimated: Collection[str] = frozenset(),
        problems: Problems,
        clock: Callable[[], float],
    ) -> None:
        self._journal = journal
        self._sources = sources
        self._rates = rates
        self._estimate, self._estimated = estimate, frozenset(estimated)
        self._problems = problems
        self._draw = Draw(database, journal, clock=clock)
        self._lock = threads.rlock()  # for what is in memory, so nobody keeps it for long
        self._drawing = threads.rlock()  # for what is written to the ledger; whoever waits for it has no `_lock`
        self._slices: dict[Key, Slice] = {}
        self._refused: dict[Key, _Refused] = {}
        self._draws = 0
        self._low: dict[Key, int] = {}  # what is to be drawn at least
        self._is_refilling = self._is_closed = False

    def try_take(self, exchange: Exchange, company: str, wants: Sequence[Need]) -> bool:
        """Take what *exchange* needs of each of *wants* from memory; return False, and take nothing, if it cannot."""
        with self._lock:
            if len(wants) == 1:  # as for most requests
                ((name, meters),) = wants
                slice_ = self._slices.get((company, name))
                if slice_ is None or self._is_closed:
                    return False
                taken = Taken(self, slice_.key, 0, exchange)
                if not slice_.take(taken, self._quantity(slice_.rates, company, meters)):
                    return False
                if slice_.left < slice_.low:
                    self._refill_soon(slice_)
                return True
            if self._is_closed or not self.has(company, wants):
                return False
            for name, meters in wants:
                slice_ = self._slices[company, name]
                slice_.take(Taken(self, slice_.key, 0, exchange), self._quantity(slice_.rates, company, meters))
                if slice_.left < slice_.low:
                    self._refill_soon(slice_)
            return True

    def has(self, company: str, wants: Iterable[Need]) -> bool:
        """Return whether `try_take` would succeed."""
        with self._lock:
            for name, meters in wants:
                slice_ = self._slices.get((company, name))
                if slice_ is None:
                    return False
                quantity = self._quantity(slice_.rates, company, meters)
                if slice_.left < quantity:
                    slice_.measure()
                if slice_.left < quantity:
                    return False
            return True

    def look(self, company: str, wants: Iterable[Need]) -> None:
        """
        Find out from memory whether something is left of *wants*; what is not known is asked for in the background.

        Raises:
            ShortageError: The ledger had too little of one, when it was last asked since the last flush.
        """
        for name, meters in wants:
            quantity = self._quantity(self._rates(name), company, meters)
            if not self._sources(company, name):
                continue
            with self._lock:
                slice_ = self._slice((company, name))
                slice_.measure()
                if slice_.left >= quantity:
                    continue
                refused = self._refused.get(slice_.key)
                if refused is not None and quantity >= refused.quantity:
                    raise refused.shortage
                self._refill_soon(slice_, quantity)

    def take_all(self, exchange: Exchange, company: str, wants: Iterable[Need]) -> None:
        """
        Take what *exchange* needs of each of *wants*, or nothing at all; wait for the ledger if that is not in memory.

        Of a quota, a request takes what is left if that is less than what it may count.

        Raises:
            ShortageError: One of them is used up.
            LedgerError: The ledger failed, or the kit is closing; nothing was taken.
        """
        taken: list[Taken] = []
        try:
            for name, meters in wants:
                quantity = self._quantity(self._rates(name), company, meters)
                each = Taken(self, (company, name), 0, exchange)
                # A quota lets the last request pass that finds a unit; a wallet has to cover it.
                self.add(each, quantity, fewest=quantity if name[:1] == WALLET else 1)
                taken.append(each)
        except BaseException:
            for each in taken:
                each.release()
            raise

    def take(self, company: str, name: str, quantity: int, *, exchange: Owner | None = None) -> Taken:
        """
        Take *quantity* units, from the slice of this process if it has as many, or else from the ledger.

        If the slice has too few, this waits for the ledger: in an event loop, call it in a thread.

        Args:
            company: Company id.
            name: Name of the quota's meter; or of the wallet, behind `meterkit.core.usage_key.WALLET`.
            quantity: Units of the meter, or millionths of the wallet's unit.
            exchange: Request, or hold, for which they are taken, and with whose end they are free again; None if for
                none.

        Returns:
            What was taken. If nothing limits the company, it can always have more.

        Raises:
            ShortageError: It is used up.
            LedgerError: The ledger failed, or the kit is closing; nothing was taken.
        """
        taken = Taken(self, (company, name), 0, exchange)
        self.add(taken, quantity)
        return taken

    def taken_by(self, exchange: Exchange, company: str, name: str) -> list[Taken]:
        """Return what was taken for *exchange*, such as by governance before it began."""
        with self._lock:
            slice_ = self._slices.get((company, name))
            return [] if slice_ is None else slice_.open_of(exchange)

    def add(self, taken: Taken, quantity: int, *, fewest: int | None = None) -> None:
        """Take *quantity* more for *taken*, or what is left but not less than *fewest*; raise as `take` does."""
        least = quantity if fewest is None else fewest
        with self._lock:
            arrived = self._draws
            if self._take(taken, quantity):
                return
        sources = self._sources(*taken.key)  # may call the application
        if not sources:
            taken.quantity += quantity
            return
        with self._lock:
            self._slice(taken.key).wanted += quantity
        try:
            while not self._take_drawn(taken, quantity, least, sources=sources, arrived=arrived):
                pass
        finally:
            with self._lock:
                self._slice(taken.key).wanted -= quantity

    def change(self, taken: Taken, quantity: int) -> None:
        """Change what is *taken* to *quantity*, which is not more."""
        with self._lock:
            slice_ = self._slices.get(taken.key)
            taken.quantity = quantity
            if slice_ is not None:
                slice_.measure()

    def reduce(self, taken: Taken, quantity: int) -> None:
        """Give up *quantity* of what is *taken*, or all of it if that is less."""
        with self._lock:
            self.change(taken, max(0, taken.quantity - quantity))

    def cover(self, company: str, name: str) -> bool:
        """
        Draw what has been counted beyond what was taken; return whether there was as much.

        Raises:
            LedgerError: The ledger failed.
        """
        key = (company, name)
        with self._lock:
            slice_ = self._slices.get(key)
            if slice_ is None:
                return True
            slice_.measure()
            if slice_.left >= 0:
                return True
        sources = self._sources(company, name)
        with self._drawing:
            if not sources or self._is_closed:
                return True
            return key not in self._draw_now({key: Want(slice_, 0, 0, sources)})

    def give_back(self) -> None:
        """
        Give back what is not needed. Called after each flush.

        Raises:
            LedgerError: The ledger failed; the rest is given back with the next flush.
        """
        with self._drawing:
            self._write(self._unused())

    def close(self) -> None:
        """
        Give back all that no request in flight has, and take nothing any more.

        Raises:
            LedgerError: The ledger failed; whoever finds this process ended gives it back.
        """
        with self._lock:
            self._is_closed = True
        if not self._drawing.acquire(timeout=CLOSE_SECONDS):
            raise LedgerError("a request waits for the ledger")
        try:
            with self._lock:
                for each in self._slices.values():
                    each.measure()
                    _lower(each, max(0, each.left))
                found = list(self._slices.values())
            self._write(found)
            if not self._slices:
                self._journal.lineage.remove()
        finally:
            self._drawing.release()

    def free(self, company: str, name: str) -> int:
        """Return how many units of *name* this process may use for *company* without asking the ledger."""
        with self._lock:
            slice_ = self._slices.get((company, name))
            if slice_ is None:
                return 0
            slice_.measure()
            return slice_.left

    def _take(self, taken: Taken, quantity: int) -> bool:
        """Take from memory. The caller holds the lock."""
        slice_ = self._slices.get(taken.key)
        if slice_ is None or self._is_closed or not slice_.take(taken, quantity):
            return False
        if slice_.left < slice_.low:
            self._refill_soon(slice_)
        return True

    def _take_drawn(self, taken: Taken, quantity: int, fewest: int, *, sources: Sequence[Source], arrived: int) -> bool:
        """Draw, and take of it; return whether that was enough: other requests may have been faster."""
        with self._drawing:
            with self._lock:
                if self._is_closed:
                    raise LedgerError("the kit is being closed")
                if self._take(taken, quantity):  # another thread has drawn meanwhile
                    return True
                before = self._refused.get(taken.key)
                if before is not None and before.draw > arrived and fewest >= before.quantity:
                    raise before.shortage  # nothing was left after this request had come
                slice_ = self._slice(taken.key)
            shortage = self._draw_now({taken.key: Want(slice_, quantity, fewest, sources)}).get(taken.key)
            with self._lock:
                slice_.measure()
                if self._take(taken, max(fewest, min(quantity, slice_.left))):
                    return True
                if shortage is not None:
                    raise shortage
                return False

    def _draw_now(self, wants: Mapping[Key, Want]) -> Mapping[Key, ShortageError]:
        """Draw in one transaction. The caller holds `_drawing`."""
        with self._lock:
            self._draws += 1
        shortages = without_greenlets(lambda: self._draw.draw(wants, lock=self._lock))
        with self._lock:
            for key, want in wants.items():
                self._refused.pop(key, None)
                if key in shortages:
                    self._refused[key] = _Refused(self._draws, want.fewest, shortages[key])
        return shortages

    def _slice(self, key: Key) -> Slice:
        """Return the slice of *key*. The caller holds the lock."""
        found = self._slices.get(key)
        if found is None:
            found = self._slices[key] = Slice(key, self._rates(key[1]), self._counted)
        return found

    def _counted(self, key: Key, rates: Rates) -> int:
        company = key[0]
        return sum([rate * self._journal.counted((company, meter)) for meter, rate in rates.items()])

    def _quantity(self, rates: Rates, company: str, meters: Collection[str]) -> int:
        total = 0
        for meter in meters:
            total += rates[meter] if meter not in self._estimated else rates[meter] * self._estimate(company, meter)
        return total or 1

    def _unused(self) -> list[Slice]:
        """Return the slices of which the ledger is to know less, or nothing any more."""
        found = []
        with self._lock:
            self._refused.clear()
            for each in list(self._slices.values()):
                _lower(each, each.unused())
                if not each.is_begun and each.is_idle:
                    self._forget(each)
                elif not each.is_written or each.is_idle:
                    found.append(each)
        return found

    def _write(self, slices: list[Slice]) -> None:
        """Write what is drawn of *slices*, and forget those of which nothing is left. The caller holds `_drawing`."""
        for start in range(0, len(slices), MOST_AT_ONCE):
            portion = slices[start : start + MOST_AT_ONCE]
            without_greenlets(partial(self._draw.write, portion, lock=self._lock))
        with self._lock:
            for each in slices:
                if not each.is_begun and each.is_idle:
                    self._forget(each)

    def _forget(self, slice_: Slice) -> None:
        """Forget *slice_*, of which neither the ledger nor a request has anything. The caller holds the lock."""
        del self._slices[slice_.key]
        company, others = slice_.key[0], set[str]()
        for key, each in self._slices.items():
            if key[0] == company:
                others.update(each.rates)
        for meter in slice_.rates:
            if meter not in others:
                self._journal.unfollow((company, meter))

    def _refill_soon(self, slice_: Slice, quantity: int = 0) -> None:
        """Draw more in the background, *quantity* at least. The caller holds the lock."""
        slice_.low = 0  # until it is drawn
        self._low[slice_.key] = max(quantity, self._low.get(slice_.key, 0))
        if self._is_refilling:
            return
        self._is_refilling = True
        try:
            DaemonThread(self._refill, name="meterkit-slices")
        except RuntimeError:  # at interpreter shutdown: requests draw what they need
            self._is_refilling = False

    def _refill(self) -> None:
        while True:
            with self._lock:
                keys = {key: self._low.pop(key) for key in list(self._low)[:MOST_AT_ONCE]}
                if not keys or self._is_closed:
                    self._is_refilling = False
                    return
            try:
                sources = {key: self._sources(*key) for key in keys}
                with self._drawing:
                    with self._lock:
                        wants = {
                            key: Want(self._slice(key), quantity, quantity, sources[key])
                            for key, quantity in keys.items()
                            if sources[key]
                        }
                    if wants and not self._is_closed:
                        self._draw_now(wants)
            except LedgerError:
                pass  # requests draw what they need, and say so
            except Exception as error:
                with suppress(Exception):
                    self._problems.internal(error)


def _lower(slice_: Slice, by: int) -> None:
    """Give back so many free units of *slice_*, in memory first: a commit that fails may have succeeded."""
    if by:
        slice_.drawn -= by
        slice_.left -= by
        slice_.is_written = False
