"""Where requests take units from before they are allowed: exact quotas of companies, and their wallets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from meterkit.accounts.period_usage import used_since
from meterkit.core.usage_key import WALLET
from meterkit.governance.figures import CompanyFigures
from meterkit.governance.limits.limit_cache import LimitCache
from meterkit.governance.policy import Quota

if TYPE_CHECKING:
    from typing import TypeAlias

    from sqlalchemy import Connection

    BalanceOf: TypeAlias = Callable[[Connection, str, str], int]


class Prepaid(Protocol):
    """The part of a `Wallet` that decides on requests."""

    @property
    def name(self) -> str:
        """Name of the wallet."""

    @property
    def currency(self) -> str | None:
        """Three-letter code of its currency, lower case; None if it has another unit."""

    @property
    def rates(self) -> Mapping[str, int]:
        """What one unit of each meter takes, in millionths, by the meter's name."""


@dataclass(frozen=True, slots=True)
class QuotaSource:
    """
    The quota of one company in its current period; see `meterkit.slices.taken.Source`.

    Attributes:
        quota: Quota.
        limit: Units that may be used in the period.
        since: Unix second at which the period began.
    """

    quota: Quota
    limit: int
    since: int

    def left(self, connection: Connection, company: str) -> int:
        """Return what *company* has left in the ledger."""
        used = used_since(connection, {company: self.since}).get((company, self.quota.meter.name), 0)
        return self.limit - used


@dataclass(frozen=True, slots=True)
class WalletSource:
    """
    The wallet of a company; see `meterkit.slices.taken.Source`.

    Attributes:
        wallet: Wallet.
        balance: Function that returns what a company has left of a wallet, in millionths, with what processes hold.
    """

    wallet: Prepaid
    balance: BalanceOf

    def left(self, connection: Connection, company: str) -> int:
        """Return what *company* has left in the ledger, in millionths."""
        return self.balance(connection, company, self.wallet.name)


class Sources:
    """
    What limits the use that companies make of a meter or wallet before their requests are allowed.

    Args:
        quotas: Quotas of the governance, in their order.
        limits: Limit caches, in the order of the quotas.
        wallets: Wallets of the kit.
        balance: Function that returns what a company has left of a wallet, in millionths, with what processes hold;
            None without wallets.
        figures: Function that returns what is known of a company, or None before the first snapshot.
        clock: Function that returns Unix seconds.
    """

    def __init__(
        self,
        quotas: Iterable[Quota],
        limits: Sequence[LimitCache],
        *,
        wallets: Iterable[Prepaid],
        balance: BalanceOf | None,
        figures: Callable[[str], CompanyFigures | None],
        clock: Callable[[], float],
    ) -> None:
        self._quotas: dict[str, list[tuple[Quota, LimitCache]]] = {}
        for quota, limit in zip(quotas, limits, strict=True):
            if quota.exact:
                self._quotas.setdefault(quota.meter.name, []).append((quota, limit))
        self._wallets = {f"{WALLET}{wallet.name}": wallet for wallet in wallets}
        self._balance = balance
        self._figures = figures
        self._clock = clock

    def of(self, company: str, name: str) -> list[QuotaSource | WalletSource]:
        """Return what limits *company*: its quotas of the meter *name*, or the wallet of this name behind `WALLET`."""
        wallet = self._wallets.get(name)
        if wallet is not None:
            return [] if self._balance is None else [WalletSource(wallet, self._balance)]
        known, now, found = self._figures(company), int(self._clock()), list[QuotaSource | WalletSource]()
        for quota, limits in self._quotas.get(name, ()):
            limit = limits.get(company)
            if limit is not None and known is not None:
                found.append(QuotaSource(quota, limit, known.period(quota, now).start))
        return found

    def rates(self, name: str) -> Mapping[str, int]:
        """Return what one unit of each meter takes of *name*."""
        wallet = self._wallets.get(name)
        return {name: 1} if wallet is None else wallet.rates
