"""What a company can agree to: which pack, below which balance, and how often."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from meterkit.errors import UsageError
from meterkit.wallets.amounts import millionths, shown
from meterkit.wallets.pack import Pack
from meterkit.wallets.wallet import Wallet

MOST_PER_MONTH = 1_000
"""The largest limit of purchases in a month."""


@dataclass(frozen=True, slots=True)
class Terms:
    """
    Terms of an agreement.

    Attributes:
        pack: Pack that is bought.
        micros: Balance below which it is bought, in millionths of the wallet's unit.
        most_per_month: How often it is bought in a calendar month (UTC), at most.
    """

    pack: Pack
    micros: int
    most_per_month: int


def checked_terms(wallet: Wallet, pack: Any, below: Any, most_per_month: Any) -> Terms:
    """
    Return the terms that an application gave.

    Args:
        wallet: Wallet that is topped up.
        pack: Pack of it, or the pack's name.
        below: Balance below which it is bought, in the wallet's unit or in whole currency.
        most_per_month: How often it is bought in a calendar month, at most.

    Raises:
        UsageError: The wallet has no such pack, or the pack does not lift a balance above *below*; or an argument is
            no amount or no number.
    """
    found = next((each for each in wallet.packs if pack in (each, each.name)), None)
    if found is None:
        names = ", ".join(repr(each.name) for each in wallet.packs) or "none"
        raise UsageError(f"{wallet} has no pack {pack!r:.120}: its packs are {names}", reason="offer_wrong")
    micros = millionths(below, "below=")
    if not micros:
        raise UsageError("below= must be more than 0: at 0, requests are blocked already", reason="amount_zero")
    if found.micros <= micros:
        raise UsageError(
            f"{found} holds {shown(found.micros, wallet.of)}, so it would be bought several times in a row below "
            f"{shown(micros, wallet.of)}: choose a larger pack, or a lower below=",
            reason="offer_wrong",
        )
    if type(most_per_month) is not int or not 1 <= most_per_month <= MOST_PER_MONTH:
        raise UsageError(
            f"most_per_month= must be an int from 1 to {MOST_PER_MONTH:,}, not {most_per_month!r:.100}",
            reason="offer_wrong",
        )
    return Terms(found, micros, most_per_month)
