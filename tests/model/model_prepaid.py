"""What the model knows of the wallet: who was granted what, and who holds how much of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from model_zygote import Process

COMPANIES = ("acme", "mover")
"""Who pays ahead."""

WORTH = Decimal("0.5")
"""What one unit takes."""


@dataclass
class Held:
    """
    A hold.

    Attributes:
        id: Number that its process knows it by.
        process: Process that has made it.
        who: Which of the model's processes that is.
        company: Company id.
        quantity: Units.
    """

    id: int
    process: Process
    who: int
    company: str
    quantity: int


class Prepaid:
    """
    The model's own account of the wallet.

    Attributes:
        granted: Amounts by company.
        grants: Company by the key of each grant.
        revoked: Amounts by the key of each revocation, with its company.
        least: Units that were certainly counted, by company.
        most: Units that can have been counted, by company.
    """

    def __init__(self) -> None:
        self.granted: Counter[str] = Counter()
        self.grants: dict[str, str] = {}
        self.revoked: dict[str, tuple[str, Decimal]] = {}
        self.least: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self._holds: list[Held] = []

    def hold(self, held: Held) -> None:
        """One more is held."""
        self._holds.append(held)

    def holds(self, who: int | None = None) -> list[Held]:
        """Those that there are, of one process or of all."""
        self._holds = [each for each in self._holds if each.process.alive]
        return [each for each in self._holds if who in (None, each.who)]

    def end(self, held: Held) -> None:
        """One is settled or released."""
        self._holds.remove(held)

    def count(self, company: str, quantity: int, *, certain: bool) -> None:
        """What a hold was settled with."""
        self.least[company] += quantity if certain else 0
        self.most[company] += quantity

    def differences(self, balances: dict[str, dict[str, Any]]) -> list[str]:
        """Where the balances of companies, at rest, are not what follows."""
        found = []
        for company in COMPANIES:
            balance = {name: Decimal(str(each)) for name, each in balances[company].items()}
            revoked = sum((amount for of, amount in self.revoked.values() if of == company), Decimal(0))
            expected = (Decimal(self.granted[company]), revoked, Decimal(0), Decimal(0))
            if expected != (balance["granted"], balance["revoked"], balance["held"], balance["uncovered"]):
                found.append(f"{company}: granted, revoked, held, uncovered are to be {expected}, and it has {balance}")
            least, most = self.least[company] * WORTH, self.most[company] * WORTH
            if not least <= balance["spent"] <= most:
                found.append(f"{company}: spent {least} to {most}, and it has {balance}")
            if balance["left"] < 0:
                found.append(f"{company}: less than nothing is left: {balance}")
        return found
