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
    "pace",
    "invoice_upcoming",
    "invoice_paid",
    "calls",
    "rejected",
    "unbilled",
    "credit_due",
    "waiting",
    "too_old",
    "trouble",
    "balance_low",
    "balance_empty",
    "grant_expiring",
    "top_up_failed",
]

Value: TypeAlias = "str | int | None"

FIELDS = (
    "amount",
    "count",
    "currency",
    "customer",
    "due_at",
    "expected",
    "invoice",
    "left",
    "limit",
    "meter",
    "name",
    "period_end",
    "period_start",
    "reached_at",
    "reason",
    "since",
    "tier",
    "unit",
    "unit_price",
    "url",
    "used",
    "wallet",
)
"""Names that a notice's `fields` may contain, over all kinds."""


@dataclass(frozen=True, slots=True)
class Notice:
    """
    A message to a customer or an operator.

    Attributes:
        key: Idempotency key: a notice may be delivered more than once, with the same key.
        kind: Kind of notice, such as ``tier_crossed``.
        company: Company id, or None for a notice that is about no company.
        title: Title in one line.
        text: Message in full sentences, without a greeting.
        created_at: Time of creation, Unix seconds.
        fields: Values in the message: ``meter``, ``used``, ``limit``, ``period_start`` and others, depending on the
            kind; and ``name``, the name of the company's customer in Stripe, where that is known. Amounts are text in
            whole currency, times are Unix seconds.
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
    A way to send notices.

    Attributes:
        name: Name under which the ledger records deliveries; stable across restarts, and not secret.
    """

    name: str

    def deliver(self, notice: Notice) -> None:
        """
        Deliver *notice*, or raise: it is then retried later, so it may arrive twice.

        Called in a background thread, one notice after the other; must return within half a minute.
        """


class Callback:
    """
    A function as a channel.

    Args:
        function: Function that takes a `Notice`, and raises if it could not be delivered.
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
    Return *given* as a channel: a channel itself, or a function.

    Raises:
        ConfigurationError: It is neither; the message says how to correct it.
    """
    if isinstance(given, type):
        raise ConfigurationError(f"to= must be a channel, {given.__name__}(...), not the class")
    if isinstance(given, Channel) and isinstance(given.name, str):
        return given
    if not callable(given) or inspect.iscoroutinefunction(given):
        raise ConfigurationError(
            f"to= must be a channel such as meterkit.channels.Email(...) or a plain function, not {given!r:.200}"
        )
    return Callback(given)
