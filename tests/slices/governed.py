"""Kits under exact quotas, whose processes share a directory, or only a ledger."""

from __future__ import annotations

from guard import GUARD, tries
from plain_exchange import PlainExchange

from meterkit import Meter
from meterkit.ledger import schema

CALLS = Meter("calls", path="/calls")


class Governed:
    """A kit as one process has it, and its requests."""

    def __init__(self, kit) -> None:
        self.kit = kit
        kit.governor.begin()
        assert kit.governor.ready.wait(GUARD)

    @property
    def slices(self):
        """What it has drawn."""
        return self.kit.governor.exact.slices

    @property
    def lineage(self):
        """The key of what it has drawn."""
        return self.kit.process().journal.lineage.id

    def begin(self, company="acme"):
        """A request that has just passed, or None."""
        exchange = PlainExchange("GET", "/calls", headers={"x-company": company})
        exchange.publish(self.kit)
        self.refusal = self.kit.governor.check(exchange)
        if self.refusal is not None:
            self.kit.recorder.refuse(exchange)
            return None
        return exchange

    def end(self, exchange, *, status=200, tokens=0):
        """Answer it."""
        if tokens:
            exchange.say("tokens", tokens)
        exchange.status = status
        self.kit.recorder.close(exchange)
        exchange.retract()

    def passed(self, times, company="acme", **answer):
        """How many requests pass, each of which is answered before the next."""
        number = 0
        for _ in range(times):
            exchange = self.begin(company)
            if exchange is not None:
                self.end(exchange, **answer)
                number += 1
        return number

    def free(self, company="acme", name="calls"):
        """What it may use without asking the ledger."""
        return self.slices.free(company, name)


def held(governed):
    """What is drawn and not in the ledger, by lineage."""
    with governed.kit.process().database().snapshot() as connection:
        rows = connection.execute(schema.slices.select()).all()
    return {row.lineage: row.drawn - row.folded for row in rows}


def rest(kit):
    """Wait until no thread draws for *kit*: what it holds stays as it is, until its next request."""
    slices = kit.governor.exact.slices
    assert slices is None or next(True for _ in tries(lambda: str(vars(slices))) if not slices._is_refilling)


def counted(governed):
    """What is in the ledger."""
    return sum(row.quantity for row in governed.kit.usage())
