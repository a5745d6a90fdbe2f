"""Where the tokens go that a watched client has used: to the exchange that called it, or to ``kit.record()``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from meterkit.core.problems import shown
from meterkit.core.validation import SubjectId
from meterkit.errors import MeterKitError, UsageError
from meterkit.llm.token_usage import Kind, TokenUsage
from meterkit.metering.context import ExchangeUsage, outside
from meterkit.metering.dimensions.quantities import Told
from meterkit.metering.exchange import Identity, current

if TYPE_CHECKING:
    from meterkit.kit import MeterKit

Company: TypeAlias = "SubjectId | Identity | Callable[[], SubjectId | Identity | None] | None"
Counts: TypeAlias = "Callable[[str, int, dict[Told, int]], None]"
Notes: TypeAlias = "Callable[[str, str], None]"


@dataclass(frozen=True)
class UsageSink:
    """
    Counts `TokenUsage` for whom the client was called.

    Attributes:
        names: Name under which usage is added, and the kinds of token that it is the sum of.
        kit: Kit that records what is used outside of exchanges; None if that is a mistake.
        company: Company, or company and user, that pays for that, or a function that returns it.
    """

    names: Mapping[str, tuple[Kind, ...]]
    kit: MeterKit | None
    company: Company

    def note(self, reason: str, message: str) -> None:
        """Note a problem of a response of which it is not known who has asked for it."""
        (outside if self.kit is None else self.kit.recorder.problems).note(reason, message)

    def open(self) -> OpenCall:
        """Return where the usage of a call that is made now goes: it may be known only when nobody knows who called."""
        exchange = current.get()
        is_inside = exchange is not None and not exchange.closed
        if self.kit is None or is_inside:
            note = outside.note if exchange is None else exchange.note
            add = ExchangeUsage(exchange if is_inside else None).add_parts
            return OpenCall(self.names, add, note, is_inside=is_inside)
        who = self.company() if callable(self.company) else self.company
        identity = who if isinstance(who, Identity) else None if who is None else Identity(who)
        return OpenCall(self.names, _Recording(self.kit, identity), self.kit.recorder.problems.note, is_inside=True)


class _Recording:
    """Records usage under a name for one company."""

    def __init__(self, kit: MeterKit, identity: Identity | None) -> None:
        self._kit = kit
        self._identity = identity

    def __call__(self, name: str, quantity: int, parts: dict[Told, int]) -> None:
        if self._identity is None:
            raise UsageError("company= has returned None, so nobody pays", reason="no_company")
        meters = [each for each in self._kit.meters.values() if name == (each.added_name if each.http else each.name)]
        if not meters:
            raise UsageError(
                f"no meter has value={name!r}, and none with http=False has that name: name one in names= of watch()",
                reason="usage_name_unknown",
            )
        for meter in meters:
            if not meter.by:
                self._kit.record(meter, self._identity.company, quantity, user=self._identity.user)
                continue
            for told, part in parts.items():
                values = {dimension: value for dimension, value in told if dimension in meter.dimensions}
                self._kit.record(meter, self._identity.company, part, user=self._identity.user, dimensions=values)


class OpenCall:
    """
    A call whose usage is not known yet.

    Args:
        names: Name under which usage is added, and the kinds of token that it is the sum of.
        add: Function that adds a quantity, which consists of parts, under a name.
        note: Function that notes a problem.
        is_inside: Whether anybody pays for it.
    """

    def __init__(
        self, names: Mapping[str, tuple[Kind, ...]], add: Counts, note: Callable[..., None], *, is_inside: bool
    ) -> None:
        self._names = names
        self._add = add
        self.note = note
        self._is_inside = is_inside

    def count(self, usage: TokenUsage) -> None:
        """Count *usage*. Never raises."""
        if not self._is_inside:
            self.note(
                "outside_exchange",
                "a client that meterkit.llm.watch() watches was called outside an exchange, or after its response, and "
                "nothing was counted. In another thread or executor, run it with contextvars.copy_context(); for jobs "
                "and background tasks, pass watch(client, kit=kit, company=...)",
                units=usage.total,
            )
            return
        for name, kinds in self._names.items():
            quantity = usage.count(*kinds)
            if quantity:
                self._add_one(name, quantity, usage.parts(kinds))

    def _add_one(self, name: str, quantity: int, parts: dict[Told, int]) -> None:
        try:
            self._add(name, quantity, parts)
        except UsageError as error:
            self.note(error.reason, f"watch(): {error}; {quantity} were not counted", units=quantity)
        except (MeterKitError, OSError) as error:
            message = f"watch(): {shown(error)}; {quantity} of {name!r:.100} were not counted"
            self.note("watch_failed", message, units=quantity)

    def missing(self, error: UsageError) -> None:
        """Note that a response has told nothing that can be counted."""
        self.note(error.reason, f"watch(): {error}; nothing was counted")
