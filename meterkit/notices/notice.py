"""`Notice` and the `Channel` protocol."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from meterkit.errors import ConfigurationError

Kind: TypeAlias = Literal[
    "tier_near",
    "tier_crossed",
    "threshold",
    "quota_near",
    "quota_reached",
    "overdue",
    "recovered",
    "invoice_upcoming",
    "calls",
    "rejected",
    "waiting",
    "too_old",
    "trouble",
]

Value: TypeAlias = "str | int | None"

FIELDS = (
    "amount",
    "count",
    "currency",
    "customer",
    "due_at",
    "invoice",
    "limit",
    "meter",
    "period_end",
    "period_start",
    "reason",
    "tier",
    "unit_price",
    "url",
    "used",
)
"""What a notice's `fields` may be, whichever kind it is of."""


@dataclass(frozen=True, slots=True)
class Notice:
    """
    Something that somebody wants to be told.

    Attributes:
        key: It is delivered at least once; whoever gets it twice drops the repetition by this.
        kind: Such as ``tier_crossed``.
        company: Whom it concerns; None for what concerns the operator alone.
        title: One line.
        text: Some sentences, without a greeting.
        created_at: Unix seconds.
        fields: What the sentences are made of: ``meter``, ``used``, ``limit``, ``period_start`` and so on, by kind.
            Amounts are text in whole currency, moments unix seconds.
    """

    key: str
    kind: Kind
    company: str | None
    title: str
    text: str
    created_at: int
    fields: Mapping[str, Value] = field(default_factory=dict)


@runtime_checkable
class Channel(Protocol):
    """
    A way to tell somebody.

    Attributes:
        name: By which the ledger remembers what was delivered; the same after a restart, and no secret.
    """

    name: str

    def deliver(self, notice: Notice) -> None:
        """
        Deliver *notice*, or raise. It is tried again later, so it may arrive twice.

        Called in a background thread, one notice after the other; ends within half a minute by itself.
        """


class Callback:
    """
    A function as a channel.

    Args:
        function: Called with each `Notice`; raises if it could not tell.
    """

    def __init__(self, function: Callable[[Notice], object]) -> None:
        self._function = function
        self.name = (
            f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', type(function).__name__)}"
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Callback) and other._function == self._function

    def __hash__(self) -> int:
        return hash(self._function)

    def deliver(self, notice: Notice) -> None:
        """Call the function."""
        self._function(notice)


def channel_of(given: Any) -> Channel:
    """
    What *given* is as a channel: itself, or a function.

    Raises:
        ConfigurationError: It is neither.
    """
    if isinstance(given, type):
        raise ConfigurationError(f"a channel is made, {given.__name__}(...), and not the class")
    if isinstance(given, Channel) and isinstance(given.name, str):
        return given
    if not callable(given) or inspect.iscoroutinefunction(given):
        raise ConfigurationError(
            f"to= is a channel such as meterkit.channels.Email(...), or a plain function, not {given!r:.200}"
        )
    return Callback(given)
