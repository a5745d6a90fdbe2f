"""Take what a request may count of exact quotas and wallets, or say which is used up."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

from meterkit.core.problems import Problems
from meterkit.core.usage_key import WALLET
from meterkit.errors import LedgerError
from meterkit.governance.figures import CompanyFigures
from meterkit.governance.limits.limit_cache import LimitCache
from meterkit.governance.matching import RequestScope
from meterkit.governance.policy import Quota
from meterkit.governance.refusal import Block
from meterkit.metering.exchange import Exchange
from meterkit.metering.meter import Meter
from meterkit.slices.estimates import Estimates
from meterkit.snapshot.reader import SnapshotSource

if TYPE_CHECKING:
    from meterkit.governance.limits.sources import BalanceOf, Prepaid, Sources
    from meterkit.journal.journal import Journal
    from meterkit.ledger.database import Database
    from meterkit.slices.slices import Slices
    from meterkit.slices.taken import ShortageError

HELD_SECONDS = 10
"""When to try again if the last units are with other processes, which give back what they do not use as they flush."""


class ExactLimits:
    """
    The exact quotas and wallets of a kit.

    Args:
        quotas: Quotas of the governance, in their order; those that are not exact are left out.
        limits: Limit caches, in the order of the quotas.
        wallets: Wallets of the kit, whose meters are spent.
        meters: Meters of the kit, by name.
        balance: Function that returns what a company has left of a wallet, in millionths, with what processes hold;
            None without wallets.
        source: Snapshot that requests are checked against.
        problems: Where problems are reported.
        clock: Function that returns Unix seconds.

    Attributes:
        spending: For each wallet, its name and its meters.
        meters: The meters that it concerns, by name.
        estimates: What requests count for meters with a ``value=``.
        slices: What this process may use without asking the ledger; None before the first snapshot, or without an
            exact quota or a wallet.
    """

    def __init__(
        self,
        quotas: Iterable[Quota],
        limits: Sequence[LimitCache],
        *,
        wallets: Iterable[Prepaid],
        meters: Mapping[str, Meter],
        balance: BalanceOf | None,
        source: SnapshotSource,
        problems: Problems,
        clock: Callable[[], float],
    ) -> None:
        self._quotas, self._limits = tuple(quotas), limits
        self._wallets, self._balance = tuple(wallets), balance
        self._source = source
        self._problems = problems
        self._clock = clock
        self.spending = [
            (wallet.name, [meter for name in wallet.rates if (meter := meters.get(name)) is not None])
            for wallet in self._wallets
        ]
        self.meters = {meter.name: meter for _, of_wallet in self.spending for meter in of_wallet}
        self.meters |= {quota.meter.name: quota.meter for quota in self._quotas if quota.exact}
        self.estimates = Estimates([name for name, meter in self.meters.items() if meter.value is not None])
        self.slices: Slices | None = None

    def __bool__(self) -> bool:
        """Return whether there are any."""
        return bool(self._wallets) or any(quota.exact for quota in self._quotas)

    def spent_by(self, meters: Collection[str] | None) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Return what requests take from wallets that may count for *meters*; for all if None."""
        found = []
        for wallet in self._wallets:
            names = tuple(sorted(name for name in wallet.rates if meters is None or name in meters))
            if names:
                found.append((f"{WALLET}{wallet.name}", names))
        return tuple(found)

    def drawn_for(self, meter: str) -> dict[str, int]:
        """
        Return what is drawn for the *meter* of this name, as `Slices` names it, and what one unit takes of each.

        Those are its exact quotas, and the wallet that pays for it.
        """
        found = {meter: 1} if any(quota.exact and quota.meter.name == meter for quota in self._quotas) else {}
        for wallet in self._wallets:
            if meter in wallet.rates:
                found[f"{WALLET}{wallet.name}"] = wallet.rates[meter]
        return found

    def take(self, exchange: Exchange, company: str, scope: RequestScope) -> ShortageError | None:
        """Take what *exchange* may count; return what is used up, or None."""
        if self.slices is None:
            return None
        from meterkit.slices.taken import ShortageError

        try:
            if scope.is_ahead:
                self.slices.look(company, scope.wants)
            else:
                self.slices.take_all(exchange, company, scope.wants)
        except ShortageError as shortage:
            return shortage
        except LedgerError as error:
            self.note_not_exact(error, company)
        return None

    def block_of(self, shortage: ShortageError, company: str, known: CompanyFigures) -> Block:
        """Return why *company* is blocked, of which *known* is known, by a *shortage*."""
        from meterkit.governance.limits.sources import WalletSource

        source: Any = shortage.source
        if isinstance(source, WalletSource):
            block = _no_balance(source.wallet, company, shortage.left)
        else:
            used = source.limit - shortage.left
            block = known.used_up(source.quota, limit=source.limit, used=used, now=int(self._clock()))
        return replace(block, retry_after=HELD_SECONDS) if shortage.is_held else block

    def note_not_exact(self, why: object, company: str) -> None:
        """Say in the kit's health that work of *company* goes on without units of an exact quota or a wallet."""
        message = f"a request was allowed without units of an exact quota or a wallet: {why}"
        self._problems.note("quota_not_exact", message, company=company)

    def renew(self, database: Callable[[], Database], journal: Journal) -> None:
        """
        Give back what is drawn and not needed, or begin to draw. Called after each flush.

        Args:
            database: Function that opens and returns the ledger's database.
            journal: Journal of this process.

        Raises:
            LedgerError: The ledger failed; it is given back after the next flush.
        """
        if not self:
            return
        if self.slices is None:
            from meterkit.slices.slices import Slices

            sources = self._sources()
            self.slices = Slices(
                database(),
                journal,
                sources=sources.of,
                rates=sources.rates,
                estimate=self.estimates.of,
                estimated=self.estimates.meters,
                problems=self._problems,
                clock=self._clock,
            )
        self.slices.give_back()

    def _sources(self) -> Sources:
        from meterkit.governance.limits.sources import Sources

        return Sources(
            self._quotas,
            self._limits,
            wallets=self._wallets,
            balance=self._balance,
            figures=partial(CompanyFigures.of, self._source),
            clock=self._clock,
        )


def _no_balance(wallet: Prepaid, company: str, left: int) -> Block:
    rest = f"{Decimal(left).scaleb(-6).normalize():f}"
    is_short = f"is {rest}, which is less than this needs" if left > 0 else "is used up"
    detail = f"The balance of {wallet.name} {is_short}."
    return Block("balance", company, detail, wallet=wallet.name, amount=rest, currency=wallet.currency)
