"""`Part`: what a hold has of one quota or wallet."""

from __future__ import annotations

from dataclasses import dataclass

from meterkit.metering.context import is_collected
from meterkit.slices.taken import Taken


@dataclass(frozen=True, slots=True)
class Part:
    """
    What a hold has of one quota or wallet.

    The garbage collector may end a hold, by closing a generator, in a thread that holds the lock of the journal, which
    others wait for with that of the slices. So it gives up nothing here: that is free with the owner.

    Attributes:
        taken: What was taken from the slice.
        rate: What one unit of the hold takes of it.
    """

    taken: Taken
    rate: int

    def more(self, quantity: int) -> bool:
        """Take so many units of the hold more; return whether there was enough."""
        return self.taken.more(quantity * self.rate)

    def reduce(self, quantity: int) -> None:
        """Give up so many units of the hold, which have been counted or are not needed."""
        if not is_collected():
            self.taken.reduce(quantity * self.rate)

    def release(self) -> None:
        """Give up all that is left."""
        if not is_collected():
            self.taken.release()
