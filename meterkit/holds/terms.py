"""What a hold is of: a company's units of a meter, as far as quotas and wallets limit them, or of a wallet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import TYPE_CHECKING, TypeAlias

from meterkit.core.threads import DaemonThread
from meterkit.core.usage_key import WALLET
from meterkit.core.validation import SubjectId, checked_quantity, checked_subject_id
from meterkit.errors import UsageError
from meterkit.holds.part import Part
from meterkit.holds.source import HoldSource
from meterkit.metering.context import is_collected
from meterkit.metering.dimensions.capture import checked_values
from meterkit.metering.identification import checked_user
from meterkit.metering.meter import Meter
from meterkit.wallets.amounts import Amount, amount, millionths

if TYPE_CHECKING:
    from meterkit.governance.limits.sources import Prepaid
    from meterkit.metering.evaluation import Evaluator
    from meterkit.metering.exchange import Exchange
    from meterkit.slices.taken import Owner

Dimensions: TypeAlias = "Mapping[str, str | int | None] | None"
"""Values of dimensions by their names; None for none."""


class Terms:
    """
    What one hold is of.

    Args:
        source: What the kit's holds are made of.
        company: Company id that the application has passed.
        name: Name of the meter or wallet.
        rates: Units of the hold that one unit of each meter takes.

    Attributes:
        company: Id of the company.
        name: Name of the meter or wallet.
        rates: Units of the hold that one unit of each meter takes.
        added_names: Names under which views add usage, by the meters that they add it for.

    Raises:
        UsageError: An argument is wrong.
    """

    def __init__(self, source: HoldSource, company: SubjectId, *, name: str, rates: Mapping[str, int]) -> None:
        self.company = checked_subject_id(company, "company")
        self.name = name
        self.rates = rates
        self.added_names = source.added_names(rates)
        self._source = source
        self._estimate: int | None = None

    @property
    def evaluator(self) -> Evaluator:
        """Evaluator of the kit."""
        return self._source.evaluator

    @property
    def limits(self) -> Mapping[str, int]:
        """What is drawn for the hold, as `Slices` names it, and what a unit of the hold takes of each."""
        raise NotImplementedError

    def checked(self, quantity: Amount) -> int:
        """
        Return *quantity* in units of the hold.

        Raises:
            UsageError: It is not valid.
        """
        raise NotImplementedError

    def shown(self, units: int) -> int | Decimal:
        """Return units of the hold as the application knows them."""
        raise NotImplementedError

    def check_settles(self, dimensions: Dimensions) -> None:
        """
        Check that it is known what a total is a total of.

        Args:
            dimensions: Values that it is counted with, or None.

        Raises:
            UsageError: It is not: a wallet pays for several meters; or the meter does not take the values.
        """
        raise NotImplementedError

    def record(self, quantity: int, dimensions: Dimensions) -> None:
        """Count *quantity* units of the meter. Only after `check_settles`."""
        raise NotImplementedError

    def estimate(self) -> int:
        """Return how many units to take."""
        return max(1, self._source.estimates.of(self.company, self.name)) if self._estimate is None else self._estimate

    def take(self, quantity: int, owner: Owner, exchange: Exchange | None) -> Sequence[Part]:
        """
        Take *quantity* units of all that limits the hold, or nothing. May wait for the ledger.

        Args:
            quantity: Units of the hold.
            owner: What the units are free again with.
            exchange: Exchange that the hold is for; None if for none.

        Returns:
            What was taken; nothing if the ledger failed, or where nobody is blocked.

        Raises:
            InsufficientBalanceError: There is not enough.
        """
        return self._source.take(self, quantity, owner, exchange)

    def more(self, parts: Sequence[Part], quantity: int) -> bool:
        """Take *quantity* units more of all *parts*, or nothing; return whether the work may go on."""
        return self._source.more(self.company, parts, quantity)

    def learn(self, used: int) -> None:
        """Take note of what was used under a hold, for later estimates."""
        self._source.estimates.note(self.company, self.name, used)

    def draw_exceeded(self, *, in_background: bool) -> None:
        """
        Draw what was counted beyond what was held, and say so in the kit's health if there is not so much.

        Args:
            in_background: Whether to do that in a thread, because it may wait for the ledger.
        """
        if is_collected():
            return  # the fold of what was counted settles it
        if in_background:
            with suppress(RuntimeError):  # at interpreter shutdown: whoever folds what was counted knows
                DaemonThread(self._draw_exceeded, name="meterkit-holds")
        else:
            self._draw_exceeded()

    def _draw_exceeded(self) -> None:
        if not all(self._source.covers(self.company, name) for name in self.limits):
            self._source.problems.note(
                "hold_exceeded",
                f"more of {self.name} was used than a hold had, and the company has not so much left; it counts. Pass "
                "a larger estimate to kit.hold(), or call hold.more() before the work goes on",
                company=self.company,
                meter=self.name,
            )


class MeterTerms(Terms):
    """
    Units of a meter, of all that limits it.

    Args:
        source: What the kit's holds are made of.
        company: Company id that the application has passed.
        estimate: Units to hold; None for the company's median.
        meter: Meter that the hold is for.
        user: Id of the user within the company, or None.

    Raises:
        UsageError: An argument is wrong.
    """

    def __init__(
        self, source: HoldSource, company: SubjectId, estimate: Amount | None, *, meter: Meter, user: SubjectId | None
    ) -> None:
        super().__init__(source, company, name=meter.name, rates={meter.name: 1})
        self._meter = meter
        self._user = None if user is None else checked_user(user)
        self._estimate = None if estimate is None else self.checked(estimate)

    @property
    def limits(self) -> Mapping[str, int]:
        """The exact quotas and the wallet of the meter."""
        return self._source.limits_of(self.name)

    def checked(self, quantity: Amount) -> int:
        """Return *quantity*, units of the meter."""
        return checked_quantity(quantity)

    def shown(self, units: int) -> int:
        """Return units of the meter."""
        return units

    def check_settles(self, dimensions: Dimensions) -> None:
        """Check that the meter takes these values."""
        if dimensions is not None:
            checked_values(self._meter, dimensions)

    def record(self, quantity: int, dimensions: Dimensions) -> None:
        """Count *quantity* units of the meter."""
        record = self._source.evaluator.record
        record(self._meter, self.company, quantity, user=self._user, dimensions=dimensions)


class WalletTerms(Terms):
    """
    An amount of a wallet, in millionths of its unit, for all its meters.

    Args:
        source: What the kit's holds are made of.
        company: Company id that the application has passed.
        estimate: Amount to hold; None for the company's median.
        wallet: Wallet that the hold is of.

    Raises:
        UsageError: An argument is wrong.
    """

    def __init__(self, source: HoldSource, company: SubjectId, estimate: Amount | None, *, wallet: Prepaid) -> None:
        super().__init__(source, company, name=wallet.name, rates=wallet.rates)
        self._estimate = None if estimate is None else self.checked(estimate)

    @property
    def limits(self) -> Mapping[str, int]:
        """The wallet."""
        return {f"{WALLET}{self.name}": 1}

    def checked(self, quantity: Amount) -> int:
        """Return *quantity*, an amount of the wallet, in millionths."""
        return millionths(quantity, "the amount to hold")

    def shown(self, units: int) -> Decimal:
        """Return millionths as an amount of the wallet."""
        return amount(units)

    def check_settles(self, _dimensions: Dimensions) -> None:
        """Raise a `UsageError`: several meters are spent."""
        raise UsageError(
            f"settle() takes units of one meter, and this hold is of the wallet {self.name}: count with kit.record() "
            "or add_usage() in the block, and its end gives back the rest; or hold with meter=",
            reason="hold_of_wallet",
        )


def terms_of(
    source: HoldSource,
    company: SubjectId,
    estimate: Amount | None,
    *,
    meter: Meter | None,
    wallet: Prepaid | None,
    user: SubjectId | None,
) -> Terms:
    """
    Return the terms of a hold of *meter*, of *wallet*, or of the only meter that can be held.

    Raises:
        UsageError: An argument is wrong, the meter cannot be held, or there are several to choose from.
    """
    if wallet is None:
        return MeterTerms(source, company, estimate, meter=source.chosen(meter), user=user)
    if meter is not None or user is not None:
        raise UsageError(
            "hold(): a hold of a wallet is for all its meters and users; say wallet= alone, or meter= instead",
            reason="hold_of_wallet",
        )
    return WalletTerms(source, company, estimate, wallet=wallet)
