"""
Deliver notices in the background, one thread per channel.

After each flush, each process evaluates the rules and writes new notices to the ledger, where their keys prevent
duplicates. Each channel has its own thread while there is something to deliver, so one that hangs delays no other.
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
from meterkit.governance.limits.limit_cache import LimitCache
from meterkit.metering.meter import Meter
from meterkit.notices.notice import Channel, Notice
from meterkit.notices.rules import Notify
from meterkit.pricing.price import Price

if TYPE_CHECKING:
    from meterkit.accounts.period_usage import UsageByPeriod
    from meterkit.forecast.forecast import Cap
    from meterkit.ledger.database import Database
    from meterkit.notices.evaluator import RuleEvaluator
    from meterkit.notices.store import NoticeStore

TROUBLE = ("flush_failed", "flusher_late", "report_failed", "follow_failed", "journal_")
"""Prefixes of the problem reasons that `Notify.trouble` sends notices about."""

MOST_REMEMBERED = 100_000
"""Notices that a process remembers to be in the ledger already."""

STOP_SECONDS = 0.3
"""How long an exit waits for deliveries in progress. Another process repeats those that do not finish."""

REPEAT_SECONDS = 3600.0
"""Interval between two notices about the same trouble while the ledger fails."""


MakeDispatcher: TypeAlias = "Callable[..., Dispatcher]"
"""Function that builds the dispatcher of a process, from its ``database``, ``usage`` and ``stop``."""


class Dispatcher:
    """
    Evaluates the rules, and delivers their notices.

    Args:
        rules: Rules of the kit.
        meters: Meters of the kit, by name.
        prices: Prices of the kit.
        limits: Limit caches of the quotas that rules may be about.
        database: Function that opens and returns the ledger's database.
        usage: Function that returns the usage of this process's ledger, by kind of period.
        problems: Problems of this process: the source of trouble notices, and where failures are reported.
        clock: Function that returns Unix seconds.
        stop: Event that is set when the process ends.
        is_free: Function that returns whether a company's usage is free by a rule of the kit; None if nobody's is.
        is_shadow: Function that returns whether the kit is in shadow mode: then nobody is notified.
        cap: Spending cap that rules may be about, or None.
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
        is_free: Callable[[str], bool] | None = None,
        is_shadow: Callable[[], bool] = lambda: False,
        cap: Cap | None = None,
    ) -> None:
        self._cap = cap
        self._is_shadow = is_shadow
        self._rules = tuple(rules)
        self._meters = meters
        self._prices = tuple(prices)
        self._limits = tuple(limits)
        self._database = database
        self._usage = usage
        self._problems = problems
        self._clock = clock
        self._stop = stop
        self._is_free = is_free
        self._evaluating = threads.lock()
        self._evaluator: RuleEvaluator | None = None
        self._channels = {channel.name: channel for rule in self._rules for channel in rule.to}
        self._written: set[tuple[str, ...]] = set()  # keys and channels that the ledger has already
        self._failing: set[str] = set()
        self._workers: dict[str, DaemonThread] = {}
        self._sent_without_ledger: dict[str, float] = {}

    @property
    def has_trouble(self) -> bool:
        """Whether this process has problems of which no other process can notify."""
        return any(reason.startswith(TROUBLE) for reason in self._problems.as_dict())

    def run(self) -> None:
        """
        Evaluate the rules, and start to deliver. For a background thread.

        Raises:
            LedgerError: The ledger failed. A trouble notice about that was sent without it.
        """
        try:
            self.evaluate()
        except LedgerError:
            for notice, channels in self._trouble():
                self._send_without_ledger(notice, channels)
            raise
        for name in self._channels:
            worker = self._workers.get(name)
            if (worker is None or not worker.is_alive) and not self._stop.is_set():
                self._workers[name] = DaemonThread(partial(self.deliver, name), name="meterkit-notify")

    def evaluate(self) -> int:
        """
        Write the notices that are due, and return how many were new: not written before by this or another process.

        Raises:
            LedgerError: The ledger failed; evaluate again.
        """
        if self._is_shadow():
            return 0
        with self._evaluating:
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
        """Deliver everything that is due through the channel *name*, one notice after the other."""
        channel = self._channels[name]
        try:
            while not self._stop.is_set() and not self._is_shadow():
                delivery = self._notices().claim(name)
                if delivery is None:
                    return
                self._notices().settle(delivery, self._attempt(channel, delivery.notice))
        except LedgerError as error:
            self._problems.note("notify_failed", f"notices could not be delivered, and will be retried: {error}")

    def close(self) -> None:
        """Wait a moment for deliveries in progress; those that do not finish are repeated by another process."""
        deadline = time.monotonic() + STOP_SECONDS
        for worker in self._workers.values():
            if not worker.is_current:
                worker.join(max(0.0, deadline - time.monotonic()))

    def _attempt(self, channel: Channel, notice: Notice) -> str | None:
        """Deliver *notice* through *channel*; return the error, or None."""
        try:
            channel.deliver(notice)
        except Exception as error:
            text = f"{type(error).__name__}: {error}"[:500]
            self._failing.add(channel.name)
            self._problems.note(
                "channel_failed",
                f"a notice could not be delivered through {channel.name}, and will be retried: {text}",
                level=logging.ERROR,
                channel=channel.name,
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
                        title=f"meterkit has a problem: {reason}",
                        text=str(problem["message"]),
                        created_at=now,
                        fields={"reason": reason, "count": problem["count"]},
                    ),
                    names,
                )

    def _send_without_ledger(self, notice: Notice, names: Iterable[str]) -> None:
        """Send *notice* from this process: without the ledger, nothing keeps other processes from sending it, too."""
        now = time.monotonic()
        if now - self._sent_without_ledger.get(notice.key, float("-inf")) < REPEAT_SECONDS:
            return
        self._sent_without_ledger[notice.key] = now
        for name in names:
            DaemonThread(partial(self._send, self._channels[name], notice), name="meterkit-notify")

    def _send(self, channel: Channel, notice: Notice) -> None:
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
                is_free=self._is_free,
                cap=self._cap,
            )
        return self._evaluator
