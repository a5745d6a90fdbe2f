"""
Which holds cover what is counted: those of the exchange, or without one, of the context.

A generator that streams a response may run each step in another context, but belongs to one exchange.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Protocol

from meterkit.metering.exchange import Exchange, ExchangeHold, current


class ScopedHold(ExchangeHold, Protocol):
    """The part of a hold that is used here."""

    def is_of(self, evaluator: object) -> bool:
        """Return whether *evaluator* is that of the hold's kit."""


_without_exchange: ContextVar[tuple[ScopedHold, ...]] = ContextVar("meterkit.holds", default=())


def enter(hold: ScopedHold, exchange: Exchange | None) -> Exchange | None:
    """
    Make *hold* the innermost one, and return the exchange that it belongs to from now on.

    Args:
        hold: Hold to enter.
        exchange: Exchange that it is for; None for that of the context, if the same kit counts that.
    """
    if exchange is None:
        exchange = current.get()
        if exchange is not None and not hold.is_of(getattr(exchange.owner.recorder, "evaluator", None)):
            exchange = None
    if exchange is None or exchange.closed:
        _without_exchange.set((hold, *_without_exchange.get()))
        return None
    with exchange.touch():
        exchange.holds = (hold, *exchange.holds)
    return exchange


def leave(hold: ScopedHold, exchange: Exchange | None) -> None:
    """Have *hold*, which belongs to *exchange*, cover nothing any more."""
    if exchange is not None:
        with exchange.touch():
            exchange.holds = tuple(each for each in exchange.holds if each is not hold)
    elif hold in _without_exchange.get():  # not so where it is left in another context
        _without_exchange.set(tuple(each for each in _without_exchange.get() if each is not hold))


def cover(evaluator: object, company: str, meter: str, quantity: int) -> None:
    """
    Have the innermost hold of this context cover what has just been counted outside of an exchange.

    Args:
        evaluator: Evaluator of the kit that has counted it.
        company: Id of the company.
        meter: Name of the meter.
        quantity: Units that were counted.
    """
    exchange, counted = current.get(), {meter: quantity}
    if exchange is not None and getattr(exchange.owner.recorder, "evaluator", None) is evaluator:
        for each in exchange.holds:
            each.cover(company, counted)
    for hold in _without_exchange.get():
        if hold.is_of(evaluator):
            hold.cover(company, counted)
