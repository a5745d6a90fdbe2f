"""
Deliver notices in the background, one thread per channel.

What is to be told is looked for after each flush, by each process, and becomes rows of the ledger, whose keys keep
them apart; each channel then has a thread of its own, for as long as there is something to deliver. One that hangs
keeps nobody.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from meterkit.core import threads
from meterkit.core.periods import DAY
from meterkit.core.problems import Problems
from meterkit.core.threads import DaemonThread, Event
from meterkit.errors import LedgerError
from meterkit.governance.limits import LimitCache
from meterkit.metering.meter import Meter
from meterkit.notices.notice import Channel, Notice
from meterkit.notices.rules import Notify
from meterkit.pricing.price import Price

if TYPE_CHECKING:
    from meterkit.accounts.period_usage import UsageByPeriod
    from meterkit.ledger.database import Database
    from meterkit.notices.evaluator import RuleEvaluator
    from meterkit.notices.store import NoticeStore

TROUBLE = ("flush_failed", "report_failed", "follow_failed", "journal_")
"""What the reasons of problems begin with that are told as trouble."""

MOST_REMEMBERED = 100_000
"""Notices of which a process knows that they are written."""

STOP_SECONDS = 0.3
"""How long an exit waits for what is being delivered. What it does not see delivered is tried again by another."""

AGAIN_SECONDS = 3600.0
"""Between two notices of the same trouble that no ledger keeps apart."""


MakeDispatcher: TypeAlias = "Callable[..., Dispatcher]"
"""What makes one for a process, from its ``database``, ``usage`` and ``stop``."""


class Dispatcher:
    """
    Looks for what is to be told, and tells it.

    Args:
        rules: What is to be told, and where.
        meters: Of the kit, by name.
        prices: Of the kit.
        limits: Limit caches of the quotas that rules may be about.
        database: Opens the ledger.
        usage: Returns the usage of this process's ledger, by kind of period.
        problems: What is in trouble, and where failures go.
        clock: Unix time in seconds.
        stop: When set, the process ends.
    """

    def __init__(
        self,
        rules: Iterable[Notify],
        *,
        meters: Mapping[str, Meter],
        prices: Iterable[Price],
        limits: Iterable[LimitCache],
        database: Callable[[], Database],
        usage: Callable[[], UsageByPeriod],
        problems: Problems,
        clock: Callable[[], float],
        stop: Event,
    ) -> None:
        self._rules = tuple(rules)
        self._meters = meters
        self._prices = tuple(prices)
        self._limits = tuple(limits)
        self._database = database
        self._usage = usage
        self._problems = problems
        self._clock = clock
        self._stop = stop
        self._looking = threads.lock()
        self._evaluator: RuleEvaluator | None = None
        self._channels = {channel.name: channel for rule in self._rules for channel in rule.to}
        self._written: set[tuple[str, ...]] = set()  # keys and channels, which the ledger need not be asked about
        self._failing: set[str] = set()
        self._workers: dict[str, DaemonThread] = {}
        self._told_without_ledger: dict[str, float] = {}

    def run(self) -> None:
        """
        Look, and begin to deliver; by a thread that may take its time.

        Raises:
            LedgerError: The ledger failed. That itself is told, without it.
        """
        try:
            self.evaluate()
        except LedgerError:
            for notice, channels in self._trouble():
                self._tell_without_ledger(notice, channels)
            raise
        for name in self._channels:
            worker = self._workers.get(name)
            if (worker is None or not worker.is_alive) and not self._stop.is_set():
                self._workers[name] = DaemonThread(partial(self.deliver, name), name="meterkit-notify")

    def evaluate(self) -> int:
        """
        Write down what is to be told; how much of it is new. What another process has written is told by its key.

        Raises:
            LedgerError: The ledger failed; look again.
        """
        with self._looking:
            evaluator = self._rule_evaluator()
            found = list(self._trouble())
            found += [(notice, self._names(rule)) for rule, notice in evaluator.evaluate(int(self._clock()))]
            fresh = [each for each in found if (each[0].key, *each[1]) not in self._written]
            new = self._notices().put(fresh) if fresh else 0
            evaluator.settle()
            if len(self._written) > MOST_REMEMBERED:
                self._written.clear()
            self._written.update((notice.key, *names) for notice, names in fresh)
            return new

    def deliver(self, name: str) -> None:
        """Tell all that is due through a channel; one after the other, for as long as there is something."""
        channel = self._channels[name]
        try:
            while not self._stop.is_set():
                delivery = self._notices().claim(name)
                if delivery is None:
                    return
                self._notices().settle(delivery, self._attempt(channel, delivery.notice))
        except LedgerError as error:
            self._problems.note("notify_failed", f"notices could not be delivered, and wait: {error}")

    def close(self) -> None:
        """Wait a moment for what is being delivered, or it would be delivered again."""
        deadline = time.monotonic() + STOP_SECONDS
        for worker in self._workers.values():
            if not worker.is_current:
                worker.join(max(0.0, deadline - time.monotonic()))

    def _attempt(self, channel: Channel, notice: Notice) -> str | None:
        """Why *notice* was not delivered; None if it was."""
        try:
            channel.deliver(notice)
        except Exception as error:
            text = f"{type(error).__name__}: {error}"[:500]
            self._failing.add(channel.name)
            self._problems.note(
                "channel_failed",
                f"a notice could not be delivered by {channel.name}, and is tried again: {text}",
                level=logging.ERROR,
            )
            return text
        self._failing.discard(channel.name)
        if not self._failing:
            self._problems.clear("channel_failed")
        return None

    def _trouble(self) -> Iterator[tuple[Notice, list[str]]]:
        names = sorted({name for rule in self._rules if "trouble" in rule.kinds for name in self._names(rule)})
        if not names:
            return
        now = int(self._clock())
        for reason, problem in self._problems.as_dict().items():
            if reason.startswith(TROUBLE):
                yield (
                    Notice(
                        key=f"trouble:{reason}:{now - now % DAY}",
                        kind="trouble",
                        company=None,
                        title=f"meterkit is in trouble: {reason}",
                        text=str(problem["message"]),
                        created_at=now,
                        fields={"reason": reason, "count": problem["count"]},
                    ),
                    names,
                )

    def _tell_without_ledger(self, notice: Notice, names: Iterable[str]) -> None:
        """The rows that keep notices apart cannot be had: tell it from here, once in a while."""
        now = time.monotonic()
        if now - self._told_without_ledger.get(notice.key, float("-inf")) < AGAIN_SECONDS:
            return
        self._told_without_ledger[notice.key] = now
        for name in names:
            DaemonThread(partial(self._tell, self._channels[name], notice), name="meterkit-notify")

    def _tell(self, channel: Channel, notice: Notice) -> None:
        self._attempt(channel, notice)

    def _names(self, rule: Notify) -> list[str]:
        return [channel.name for channel in rule.to]

    def _notices(self) -> NoticeStore:
        from meterkit.notices.store import NoticeStore

        return NoticeStore(self._database(), clock=self._clock)

    def _rule_evaluator(self) -> RuleEvaluator:
        from meterkit.notices.evaluator import RuleEvaluator

        if self._evaluator is None:
            self._evaluator = RuleEvaluator(
                self._database(),
                self._rules,
                usage=self._usage(),
                limits=self._limits,
                meters=self._meters,
                prices=self._prices,
                notices=self._notices(),
            )
        return self._evaluator
