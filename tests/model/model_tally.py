"""What the model itself knows to have been counted, and how the books and Stripe are held against it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import combinations
from typing import Any

Key = tuple[str, "str | None", int]
"""Meter, payer, window."""


class Tally:
    """
    The model's own count.

    A process that is killed while it counts has counted or not, so there is a least and a most.

    Attributes:
        least: What was certainly counted.
        most: What can have been counted.
        by_region: Both, by the value of the dimension.
    """

    def __init__(self) -> None:
        self.least: Counter[Key] = Counter()
        self.most: Counter[Key] = Counter()
        self.by_region: tuple[Counter[str], Counter[str]] = (Counter(), Counter())

    def count(
        self, meter: str, payer: str | None, window: int, quantity: int, *, certain: bool, region: str | None = None
    ) -> None:
        """One count; *region* is None if the meter does not tell them apart."""
        self.least[meter, payer, window] += quantity if certain else 0
        self.most[meter, payer, window] += quantity
        if region is not None:
            least, most = self.by_region
            least[region] += quantity if certain else 0
            most[region] += quantity

    def differences_by_region(self, found: dict[str, int]) -> list[str]:
        """Where usage by region, at rest, is not what was counted."""
        least, most = self.by_region
        return [
            f"{region!r}: counted {least[region]} to {most[region]}, and there is {found.get(region, 0)}"
            for region in sorted({*most, *found})
            if not least[region] <= found.get(region, 0) <= most[region]
        ]

    def of_meter(self, meter: str) -> tuple[int, int]:
        """The least and the most that was counted by *meter*."""
        least = sum(quantity for key, quantity in self.least.items() if key[0] == meter)
        return least, sum(quantity for key, quantity in self.most.items() if key[0] == meter)


class Settlement:
    """
    Where everything is, at rest: billed, or listed with a reason.

    Args:
        billed: By Stripe.
        books: All rows of usage and all reports.
        payer: Who pays for a company.
    """

    def __init__(self, billed: Counter[Key], books: dict[str, Any], payer: Callable[[str | None], str | None]) -> None:
        self._books = books
        self._payer = payer
        self.billed = billed
        self.listed: Counter[Key] = Counter()
        self.uncertain: dict[Key, list[int]] = {}
        for row in books["usage"]:
            self.listed[row["meter"], payer(row["company"]), row["window"]] += row["quantity"] - row["reported"]
        for report in books["reports"]:
            key = report["meter"], payer(report["company"]), report["window"]
            if report["state"] == "rejected":
                self.listed[key] += report["quantity"]
            elif report["state"] == "uncertain":
                self.uncertain.setdefault(key, []).append(report["quantity"])

    def drop(self, customer: str) -> None:
        """What was sent for *customer* is of no use, and that is no fault of ours."""
        for report in self._books["reports"]:
            if report["customer"] == customer and report["state"] == "sent":
                self.listed[report["meter"], self._payer(report["company"]), report["window"]] += report["quantity"]

    def differences(self, tally: Tally) -> list[str]:
        """Where what was counted is neither billed nor listed, or is more than once."""
        found = []
        for key in sorted({*tally.most, *self.billed, *self.listed, *self.uncertain}, key=str):
            least, most = tally.least[key], tally.most[key]
            placed = self.billed[key] + self.listed[key]
            # Stripe has an uncertain one or not; that is what it is listed for.
            if not any(least <= placed + missing <= most for missing in _sums(self.uncertain.get(key, []))):
                found.append(
                    f"{key}: counted {least} to {most}; billed {self.billed[key]}, listed {self.listed[key]}, "
                    f"uncertain {self.uncertain.get(key, [])}"
                )
        return found


def _sums(quantities: list[int]) -> set[int]:
    return {sum(chosen) for size in range(len(quantities) + 1) for chosen in combinations(quantities, size)}
