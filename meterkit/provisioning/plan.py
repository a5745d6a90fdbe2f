"""`Plan` and `Step`: what provisioning would do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["create", "adopt", "change", "unchanged", "drift"]


@dataclass(slots=True)
class Step:
    """
    One object, and what becomes of it.

    Attributes:
        kind: ``create``; ``adopt``: it is there, and gets our lookup key; ``change``; ``unchanged``; ``drift``: Stripe
            cannot change it into what the code says.
        what: ``meter``, ``product`` or ``price``.
        name: By which it is found.
        why: What is different.
        choices: What can be done about drift, and about what a change leaves behind.
    """

    kind: Kind
    what: str
    name: str
    why: str = ""
    choices: tuple[str, ...] = ()
    act: Callable[[], None] | None = field(default=None, repr=False, compare=False)


@dataclass(slots=True)
class Plan:
    """
    All steps, in their order.

    Attributes:
        livemode: Whether it is about the account's real money.
        steps: For each meter, its own, then its product's and its prices'.
    """

    livemode: bool
    steps: list[Step]

    @property
    def drift(self) -> list[Step]:
        """What has to be decided by a human."""
        return [step for step in self.steps if step.kind == "drift"]

    @property
    def changes(self) -> list[Step]:
        """What applying it does."""
        return [step for step in self.steps if step.act is not None]
