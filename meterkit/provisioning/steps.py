"""`ProvisioningPlan` and `Step`: what provisioning would do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["create", "adopt", "change", "unchanged", "drift"]


@dataclass(slots=True)
class Step:
    """
    What provisioning does with one object.

    Attributes:
        kind: ``create``; ``adopt``: it exists, and is given the lookup key; ``change``; ``unchanged``; ``drift``:
            Stripe's API cannot make it match the code.
        what: ``meter``, ``product``, ``price`` or ``webhook endpoint``.
        name: Name by which the object is found: event name, product id, lookup key or price id, or URL.
        why: Difference between Stripe and the code, or empty.
        choices: Ways to resolve drift, and consequences of a change.
        act: Function that takes the step; None if there is nothing to do.
    """

    kind: Kind
    what: str
    name: str
    why: str = ""
    choices: tuple[str, ...] = ()
    act: Callable[[], None] | None = field(default=None, repr=False, compare=False)


@dataclass(slots=True)
class ProvisioningPlan:
    """
    All steps, in order.

    Attributes:
        livemode: Whether the Stripe key is for live mode.
        steps: For each meter, its own step, then those of its product and its prices; then the fees of plans, and the
            webhook endpoint.
        webhook_secret: Signing secret of the webhook endpoint, if applying the plan has created one; Stripe shows it
            once.
    """

    livemode: bool
    steps: list[Step]
    webhook_secret: str | None = field(default=None, repr=False)

    @property
    def drift(self) -> list[Step]:
        """Steps that need a decision by a human."""
        return [step for step in self.steps if step.kind == "drift"]

    @property
    def changes(self) -> list[Step]:
        """Steps that applying the plan takes."""
        return [step for step in self.steps if step.act is not None]
