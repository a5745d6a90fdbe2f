"""Wiring: decides on the way in whether a request may pass, from what was looked at after the last flush."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from meterkit.core import threads
from meterkit.core.problems import Problems
from meterkit.core.responses import Answer
from meterkit.core.text_templates import fill
from meterkit.core.threads import Flag
from meterkit.core.usage_key import NOBODY
from meterkit.errors import LedgerError
from meterkit.governance.matching import Concern, Concerns
from meterkit.governance.policy import Governance, Known
from meterkit.governance.refusal import Block, Refusal
from meterkit.metering.exchange import Exchange
from meterkit.metering.meter import Meter
from meterkit.metering.recorder import Counting
from meterkit.pricing.price import Price

if TYPE_CHECKING:
    from meterkit.governance.reservations import Holds
    from meterkit.governance.snapshot import Limits, Oversight, View
    from meterkit.journal.journal import Journal
    from meterkit.ledger.database import Database

LOOK_SECONDS = 5.0
"""For how long the first requests of an exact quota wait until it is known what is used of it."""

MOST_COMPANIES = 10_000
"""So many companies are counted one by one whose requests did not pass; clients may invent them."""


class Governor:
    """
    Decides by a `Governance`.

    Args:
        governance: It.
        meters: Of the kit, by name.
        prices: Of the kit.
        counting: Knows whose an exchange is.
        begin: Starts what looks, in this process, and answers where it counts.
        problems: Where mistakes go.
        clock: Unix time in seconds.

    Attributes:
        watched: Names of the meters that have a quota.
        holds: What this process took of exact quotas; None if there are none, or before the first look.
        looked: Set when it is known who may pass.
        total: How many requests did not pass in this process, by reason; with ``warn:`` before it, would not.
    """

    def __init__(
        self,
        governance: Governance,
        *,
        meters: Mapping[str, Meter],
        prices: Iterable[Price],
        counting: Counting,
        begin: Callable[[], Journal],
        problems: Problems,
        clock: Callable[[], float],
    ) -> None:
        self._governance = governance
        self._meters = meters
        self._prices = tuple(prices)
        self._counting = counting
        self._begin = begin
        self._problems = problems
        self._clock = clock
        self.watched = frozenset(quota.meter.name for quota in governance.quotas)
        self._concerns = Concerns(governance)
        self._is_exact = any(quota.exact for quota in governance.quotas)
        self._has_more = governance.check is not None or governance.unknown == "block"
        self._lock = threads.rlock()
        self._stopped: dict[tuple[str, str], int] = {}
        self.total: dict[str, int] = {}
        self._view: View | None = None
        self.looked = Flag()
        self.holds: Holds | None = None
        self._journal: Journal | None = None
        self._oversight: Oversight | None = None

    def begin(self) -> None:
        """Start what looks, in this process."""
        if self._journal is None:
            self._journal = self._begin()

    def stop(self, exchange: Exchange) -> Answer | None:
        """
        What to answer instead of the app; None lets *exchange* pass, perhaps with a warning. Never raises.
        """
        try:
            concern = self._concerns.of(exchange.method, exchange.path)
            if concern.exempt or self._passes(exchange, concern):
                return None
            block, is_hard = self._decide(exchange, concern)
            if block is None:
                return None
            block = self._with_link(block)
            is_hard = is_hard and self._governance.mode == "enforce"
            self._note(block, is_hard=is_hard)
            if is_hard:
                return self._answer(block)
            exchange.warning = block.reason
        except Exception as error:
            self._counting.problems.internal(error)
        return None

    def waits_for(self, exchange: Exchange) -> bool:
        """Whether `stop` may wait for the ledger: an event loop does not wait for that."""
        return self._is_exact and self._concerns.of(exchange.method, exchange.path).exact

    def _passes(self, exchange: Exchange, concern: Concern) -> bool:
        """Whether that is plain to see, as it is of most requests; nothing is kept from a request by this."""
        view = self._view
        if view is None or self._journal is None or self._has_more or concern.exact:
            return False
        company = self._counting.identifying.early(exchange)
        if company is None or company in view.blocks:
            return False
        for number in concern.quotas:
            limits = view.limits[number]
            limit = limits.limit(company)
            if (
                limit is not None
                and limits.used.get((company, limits.quota.meter.name), 0) + self._journal.most < limit
            ):
                continue
            if limit is not None:
                return False
        return True

    def _decide(self, exchange: Exchange, concern: Concern) -> tuple[Block | None, bool]:
        """Why *exchange* may not pass, and whether that is meant."""
        self.begin()
        if self._view is None and concern.exact:
            self.looked.wait(LOOK_SECONDS)  # or what passes before the first look is held by nobody
        view = self._view
        company = self._counting.identifying.early(exchange)
        if self._governance.unknown == "block" and (
            company is None or view is None or company not in view.standings.known
        ):
            return _unknown(company, looked=view is not None), True
        if company is None or view is None:
            return None, False
        block = view.blocks.get(company)
        if block is not None:
            return block, True
        over = [(limits, block) for limits in concern.of(view.limits) if (block := self._over(limits, company))]
        hard = next((block for limits, block in over if limits.quota.hard), None)
        block = hard or self._check(exchange, company, view) or self._take(exchange, company, concern.of(view.limits))
        if block is not None:
            return block, True
        return (over[0][1] if over else None), False

    def _over(self, limits: Limits, company: str) -> Block | None:
        limit = limits.limit(company)
        if limit is None:
            return None
        meter = limits.quota.meter.name
        used = limits.used.get((company, meter), 0)
        if self._journal is not None and not limits.quota.exact:
            used += self._journal.lately(company, meter)
        return None if used < limit else self._used_up(limits, company, limit, used)

    def _take(self, exchange: Exchange, company: str, concerned: Iterable[Limits]) -> Block | None:
        """Take what *exchange* needs of exact quotas."""
        exact = [limits for limits in concerned if limits.quota.exact]
        if not exact or self.holds is None:
            return None
        from meterkit.governance.reservations import Wanted

        now = int(self._clock())
        wanted = {}
        for limits in exact:
            limit = limits.limit(company) if company in limits.of else self._ask(limits, company)
            if limit is not None:
                wanted[Wanted(limits.quota.meter.name, limit, limits.period(company, now).start)] = limits
        try:
            failed = self.holds.take(exchange, company, wanted) if wanted else None
        except LedgerError as error:
            self._problems.note("quota_not_exact", f"a request passed without its unit of an exact quota: {error}")
            return None
        if failed is None:
            return None
        which, used = failed
        return self._used_up(wanted[which], company, which.limit, used)

    def _ask(self, limits: Limits, company: str) -> int | None:
        """What the function of the user's says of a company that it was not asked about; with no limit, not again."""
        if callable(limits.quota.limit):
            try:
                limits.of[company] = limits.quota.limit(company)
            except Exception as error:
                self._problems.note("limit_raised", f"{limits.quota}: the limit of {company!r:.100} raised {error!r}")
        return limits.limit(company)

    def _used_up(self, limits: Limits, company: str, limit: int, used: int) -> Block:
        meter = limits.quota.meter.name
        now = int(self._clock())
        return Block(
            "quota",
            company,
            f"{limit} of {meter} may be used in this {limits.quota.per}, and {used} are.",
            meter=meter,
            used=used,
            limit=limit,
            retry_after=max(1, limits.period(company, now).end - now),
        )

    def _check(self, exchange: Exchange, company: str, view: View) -> Block | None:
        if self._governance.check is None:
            return None
        used = {
            limits.quota.meter.name: limits.used.get((company, limits.quota.meter.name), 0) for limits in view.limits
        }
        try:
            detail = self._governance.check(exchange, Known(company, view.standings.of(company), used))
        except Exception as error:
            self._problems.note("check_raised", f"Governance(check=...) raised {error!r:.200}; the request passed")
            return None
        return None if detail is None else Block("check", company, str(detail))

    def _with_link(self, block: Block) -> Block:
        url = self._governance.settle_url
        if block.settle_url is not None or url is None:
            return block
        values = {name: getattr(block, name) for name in block.__dataclass_fields__}
        return replace(block, settle_url=fill(url, values))

    def _answer(self, block: Block) -> Answer:
        refusal = self._governance.refusals.get(block.reason)
        try:
            return (refusal or Refusal()).answer(block)
        except Exception as error:
            self._problems.note("refusal_raised", f"the Refusal of {block.reason!r} raised {error!r:.200}")
            return Refusal().answer(block)

    def _note(self, block: Block, *, is_hard: bool) -> None:
        reason = block.reason if is_hard else f"warn:{block.reason}"
        with self._lock:
            self.total[reason] = self.total.get(reason, 0) + 1
            if is_hard:
                company = block.company or NOBODY
                key = (company if len(self._stopped) < MOST_COMPANIES else NOBODY, reason)
                self._stopped[key] = self._stopped.get(key, 0) + 1

    def refresh(self, database: Database, journal: Journal) -> None:
        """
        Look again; by the thread that flushes, when it has.

        Raises:
            LedgerError: The ledger cannot be read; what was known before goes on to decide.
        """
        from meterkit.governance.blocked_requests import add_stopped
        from meterkit.governance.snapshot import Oversight

        if self._oversight is None:
            self._oversight = Oversight(
                database,
                self._governance,
                prices=self._prices,
                meters=self._meters,
                note=lambda reason, message: self._problems.note(reason, message, level=logging.ERROR),
            )
        now = int(self._clock())
        self._view = self._oversight.look(now)
        self._journal = journal
        journal.seen()
        if self._is_exact:
            if self.holds is None:
                from meterkit.governance.reservations import Holds

                self.holds = Holds(database, journal, clock=self._clock)
            self.holds.give_back()
        self.looked.set()
        with self._lock:
            stopped, self._stopped = self._stopped, {}
        if stopped:
            try:
                add_stopped(database, stopped, now)
            except BaseException:
                with self._lock:
                    for key, count in stopped.items():
                        self._stopped[key] = self._stopped.get(key, 0) + count
                raise

    def leave(self) -> None:
        """What counts has ended, or is the parent's of this forked child; what was seen is good for a moment more."""
        self._lock = threads.rlock()
        self._oversight = self._journal = self.holds = None
        self._view, self.looked = (None, Flag()) if self._is_exact else (self._view, self.looked)
        self._stopped, self.total = {}, {}


def _unknown(company: str | None, *, looked: bool) -> Block:
    if not looked:
        return Block("unknown", company, "It is not known yet who may pass; try again.", retry_after=1)
    if company is None:
        return Block("unknown", None, "Nobody has said whose request this is.")
    return Block("unknown", company, "Nobody pays for this.")
