"""What the holds of a kit are made of: they take from the slices that governance takes from."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from meterkit.core.problems import Problems
from meterkit.errors import LedgerError, UsageError
from meterkit.governance.refusal import InsufficientBalanceError
from meterkit.holds.part import Part
from meterkit.metering.aggregation import Aggregation
from meterkit.metering.meter import Meter
from meterkit.slices.estimates import Estimates
from meterkit.slices.taken import ShortageError, Taken

if TYPE_CHECKING:
    from meterkit.governance.governor import Governor
    from meterkit.metering.evaluation import Evaluator
    from meterkit.metering.exchange import Exchange
    from meterkit.slices.slices import Slices
    from meterkit.slices.taken import Owner


class Wanted(Protocol):
    """What a hold is of, a `Terms`, as far as it matters here."""

    @property
    def company(self) -> str:
        """Id of the company."""

    @property
    def rates(self) -> Mapping[str, int]:
        """Units of the hold that one unit of each meter takes."""

    @property
    def added_names(self) -> Mapping[str, str]:
        """Names under which views add usage, by the meters that they add it for."""

    @property
    def limits(self) -> Mapping[str, int]:
        """What is drawn for the hold, as `Slices` names it, and what a unit of the hold takes of each."""


class HoldSource:
    """
    What the holds of a kit are made of.

    Args:
        governor: Governor of the kit, or None.
        evaluator: Counts what is settled.
        meters: Meters of the kit.
        wallets: Names of the wallets of the kit.
        problems: Where problems are reported.

    Attributes:
        evaluator: Counts what is settled.
        problems: Where problems are reported.
        estimates: What work under a hold has taken lately.
    """

    def __init__(
        self,
        governor: Governor | None,
        evaluator: Evaluator,
        *,
        meters: Collection[Meter],
        wallets: Iterable[str] = (),
        problems: Problems,
    ) -> None:
        self._governor = governor
        self._added_names = {meter.name: meter.added_name for meter in meters if meter.added_name is not None}
        summed = [meter for meter in meters if not isinstance(meter.value, Aggregation)]
        self._limited = [meter for meter in summed if self.limits_of(meter.name)]
        self.evaluator = evaluator
        self.problems = problems
        self.estimates = Estimates([*(meter.name for meter in self._limited), *wallets])

    def added_names(self, meters: Iterable[str]) -> dict[str, str]:
        """Return the names under which views add usage, for those of the *meters* of these names that take it."""
        return {meter: self._added_names[meter] for meter in meters if meter in self._added_names}

    def limits_of(self, meter: str) -> Mapping[str, int]:
        """Return what is drawn for the *meter* of this name, and what one unit of it takes of each."""
        return {} if self._governor is None else self._governor.exact.drawn_for(meter)

    def chosen(self, meter: Meter | None) -> Meter:
        """
        Return *meter*, or the only one that can be held.

        Raises:
            UsageError: The meter cannot be held, or there are several to choose from.
        """
        if meter is None and len(self._limited) == 1:
            return self._limited[0]
        if meter is None or meter not in self._limited:
            names = ", ".join(each.name for each in self._limited) or "none"
            what = "say what to hold with meter= or wallet=" if meter is None else f"nothing limits {meter.name}"
            raise UsageError(
                f"hold(): {what}. A meter can be held if it has a Quota(..., exact=True) or a wallet, which is the "
                f"case for: {names}",
                reason="hold_unlimited",
            )
        return meter

    def take(self, wanted: Wanted, quantity: int, owner: Owner, exchange: Exchange | None) -> Sequence[Part]:
        """Take *quantity* units, as `Terms.take` says."""
        governor, company = self._governor, wanted.company
        assert governor is not None  # otherwise, nothing can be held
        slices = governor.wait_for_slices()
        if slices is None:
            governor.exact.note_not_exact("the ledger has not been read yet", company)
            return ()
        parts: list[Part] = []
        before = [] if exchange is None else self._taken_for(exchange, wanted, slices)
        for taken, amount in before:
            taken.reduce(amount)
        try:
            for name, rate in wanted.limits.items():
                parts.append(Part(slices.take(company, name, quantity * rate, exchange=owner), rate))
        except ShortageError as shortage:
            block = governor.block_of(shortage, company, counts=exchange is None)
        except LedgerError as error:
            governor.exact.note_not_exact(error, company)
            block = None
        else:
            return parts
        for part in parts:
            part.release()
        for taken, amount in before:
            with suppress(LedgerError):
                taken.more(amount)
        if block is not None:
            raise InsufficientBalanceError(block)
        return ()

    def _taken_for(self, exchange: Exchange, wanted: Wanted, slices: Slices) -> list[tuple[Taken, int]]:
        """Return what governance has taken for what the view of *exchange* may add, and how much the hold covers."""
        assert self._governor is not None
        of, found = self._governor.exact.estimates.of, list[tuple[Taken, int]]()
        units = sum(wanted.rates[meter] * of(wanted.company, meter) for meter in wanted.added_names)
        for name, rate in wanted.limits.items() if wanted.added_names else ():
            # That of a quota is all for its meter. That of a wallet may be for others, too.
            most = None if name in wanted.rates else max(1, rate * units)
            for taken in slices.taken_by(exchange, wanted.company, name):
                found += [(taken, taken.quantity if most is None else min(taken.quantity, most))]
        return found

    def more(self, company: str, parts: Sequence[Part], quantity: int) -> bool:
        """Take *quantity* units more of all *parts*, as `Terms.more` says."""
        governor = self._governor
        assert governor is not None  # otherwise, nothing can be held
        grown: list[Part] = []
        try:
            for part in parts:
                if not part.more(quantity):
                    for each in grown:
                        each.reduce(quantity)
                    return not governor.blocks
                grown.append(part)
        except LedgerError as error:
            governor.exact.note_not_exact(error, company)
        return True

    def covers(self, company: str, name: str) -> bool:
        """Return whether what *company* has used of *name* was left, now that it has been counted."""
        slices = None if self._governor is None else self._governor.exact.slices
        try:
            return slices is None or slices.cover(company, name)
        except LedgerError:  # the fold of what was counted settles it
            return True
