"""Quantities that views add together with values of dimensions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from meterkit.metering.dimensions.values import OTHER, value_of

Told: TypeAlias = "tuple[tuple[str, str], ...]"
"""Names of dimensions with their values, in the order of the names; empty if nothing was told."""

NOTHING: Told = ()

MOST_PARTS = 500
"""Combinations of values that one exchange adds under a name; further ones are added up as `OTHER`."""


class Total(int):
    """
    A quantity that consists of several, or of which a view has told values.

    Attributes:
        highest: The highest quantity that was added at once.
        parts: Quantities by what was told of their dimensions; None if nothing was.
    """

    highest: int
    parts: dict[Told, int] | None = None


def with_values(quantity: int, told: Told) -> Total:
    """Return *quantity* as one of which *told* is known."""
    return with_parts(quantity, {told: quantity})


def with_parts(quantity: int, parts: dict[Told, int]) -> Total:
    """Return *quantity*, added at once, as one that consists of *parts*."""
    total = Total(quantity)
    total.highest, total.parts = quantity, parts
    return total


def parts_of(quantity: int) -> Iterable[tuple[Told, int]]:
    """Return the parts of *quantity* with what was told of each."""
    parts = quantity.parts if isinstance(quantity, Total) else None
    return ((NOTHING, int(quantity)),) if parts is None else parts.items()


def totalled(said: Iterable[tuple[str, int | str]]) -> list[tuple[str, int | str]]:
    """Return what was *said* under names, the last value of each name, and the quantities of each added up."""
    sums: dict[str, Total] = {}
    values: dict[str, str] = {}
    for name, each in said:
        if isinstance(each, str):
            values[name] = each
            continue
        before = sums.get(name)
        total = sums[name] = Total(each + (before or 0))
        highest = each.highest if isinstance(each, Total) else each
        total.highest = highest if before is None else max(before.highest, highest)
        total.parts = None if before is None else before.parts
        if isinstance(each, Total) and each.parts is not None:
            total.parts = _added({NOTHING: int(before)} if before and total.parts is None else total.parts or {}, each)
        elif total.parts is not None:
            total.parts[NOTHING] = total.parts.get(NOTHING, 0) + int(each)
    return [*values.items(), *sums.items()]


def _added(parts: dict[Told, int], more: Total) -> dict[Told, int]:
    for told, quantity in parts_of(more):
        key = told
        if key not in parts and len(parts) >= MOST_PARTS:
            key = tuple([(name, OTHER) for name, _ in told])
        parts[key] = parts.get(key, 0) + quantity
    return parts


def told_of(given: Mapping[str, Any], note: Callable[[str, str], None]) -> Told:
    """
    Return what a view tells of dimensions.

    Args:
        given: Values by the names of the dimensions.
        note: Function that notes a problem, given its reason and its message.
    """
    pairs = []
    for name, told in sorted(given.items()):
        value = value_of(told)
        if value is None:
            note("dimension_invalid", invalid(name, told))
            value = OTHER
        pairs.append((name, value))
    return tuple(pairs)


def invalid(name: str, told: Any) -> str:
    """Return the message for *told*, which cannot be a value of the dimension *name*."""
    what = f"{len(told):,} characters" if isinstance(told, str) else type(told).__name__
    return (
        f"a value of the dimension {name!r} must be a text of at most 100 bytes without control characters, and was "
        f"{what}: counted as {OTHER!r}"
    )
