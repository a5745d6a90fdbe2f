"""Decide, before the app runs, whether a request is blocked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from meterkit.core import threads
from meterkit.core.problems import Problems
from meterkit.core.responses import Response
from meterkit.core.text_templates import fill
from meterkit.core.threads import Event
from meterkit.core.usage_key import NOBODY
from meterkit.errors import LedgerError
from meterkit.governance.limits import LimitCache
from meterkit.governance.matching import RequestScope, ScopeMatcher
from meterkit.governance.policy import Governance, Known
from meterkit.governance.refusal import Block, Refusal
from meterkit.metering.exchange import Exchange
from meterkit.metering.meter import Meter
from meterkit.metering.recorder import Recorder
from meterkit.pricing.price import Price

if TYPE_CHECKING:
    from meterkit.accounts.period_usage import UsageByPeriod
    from meterkit.governance.reservations import Reservations
    from meterkit.governance.snapshot import QuotaUsage, Snapshot, SnapshotBuilder
    from meterkit.journal.journal import Journal
    from meterkit.ledger.database import Database

READY_SECONDS = 5.0
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
        limits: Limit caches, in the order of the governance's quotas.
        begin: Starts what looks, in this process, and answers where it counts.
        problems: Where mistakes go.
        clock: Unix time in seconds.

    Attributes:
        watched: Names of the meters that have a quota.
        reservations: What this process took of exact quotas; None if there are none, or before the first look.
        ready: Set when it is known who may pass.
        total: How many requests did not pass in this process, by reason; with ``warn:`` before it, would not.
    """

    def __init__(
        self,
        governance: Governance,
        *,
        meters: Mapping[str, Meter],
        prices: Iterable[Price],
        recorder: Recorder,
        limits: Iterable[LimitCache],
        begin: Callable[[], Journal],
        problems: Problems,
        clock: Callable[[], float],
    ) -> None:
        self._governance = governance
        self._meters = meters
        self._prices = tuple(prices)
        self._recorder = recorder
        self._limits = tuple(limits)
        self._begin = begin
        self._problems = problems
        self._clock = clock
        self.watched = frozenset(quota.meter.name for quota in governance.quotas)
        self._concerns = ScopeMatcher(governance)
        self._is_exact = any(quota.exact for quota in governance.quotas)
        self._has_more = governance.check is not None or governance.unknown == "block"
        self._lock = threads.rlock()
        self._blocked: dict[tuple[str, str], int] = {}
        self.total: dict[str, int] = {}
        self._snapshot: Snapshot | None = None
        self.ready = Event()
        self.reservations: Reservations | None = None
        self._journal: Journal | None = None
        self._builder: SnapshotBuilder | None = None

    def begin(self) -> None:
        """Start what looks, in this process."""
        if self._journal is None:
            self._journal = self._begin()

    def check(self, exchange: Exchange) -> Response | None:
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
                return self._respond(block)
            exchange.warning = block.reason
        except Exception as error:
            self._recorder.problems.internal(error)
        return None

    def waits_for(self, exchange: Exchange) -> bool:
        """Whether `check` may wait for the ledger: an event loop does not wait for that."""
        return self._is_exact and self._concerns.of(exchange.method, exchange.path).exact

    def _passes(self, exchange: Exchange, concern: RequestScope) -> bool:
        """Whether that is plain to see, as it is of most requests; nothing is kept from a request by this."""
        snapshot = self._snapshot
        if snapshot is None or self._journal is None or self._has_more or concern.exact:
            return False
        company = self._recorder.identity.early(exchange)
        if company is None or company in snapshot.blocks:
            return False
        for number in concern.quotas:
            each = snapshot.quotas[number]
            limit = each.limits.known(company)
            if limit is not None and each.used.get((company, each.meter), 0) + self._journal.most >= limit:
                return False
        return True

    def _decide(self, exchange: Exchange, concern: RequestScope) -> tuple[Block | None, bool]:
        """Why *exchange* may not pass, and whether that is meant."""
        self.begin()
        if self._snapshot is None and concern.exact:
            self.ready.wait(READY_SECONDS)  # or what passes before the first look is held by nobody
        snapshot = self._snapshot
        company = self._recorder.identity.early(exchange)
        is_known = company is not None and snapshot is not None and company in snapshot.standings.known
        if self._governance.unknown == "block" and not is_known:
            return _unknown(company, looked=snapshot is not None), True
        if company is None or snapshot is None:
            return None, False
        block = snapshot.blocks.get(company)
        if block is not None:
            return block, True
        quotas = concern.of(snapshot.quotas)
        over = [(each, block) for each in quotas if (block := self._over(each, company))]
        hard = next((block for each, block in over if each.quota.hard), None)
        block = hard or self._ask_application(exchange, company, snapshot) or self._take(exchange, company, quotas)
        if block is not None:
            return block, True
        return (over[0][1] if over else None), False

    def _over(self, each: QuotaUsage, company: str) -> Block | None:
        limit = each.limits.known(company)
        if limit is None:
            return None
        used = each.used.get((company, each.meter), 0)
        if self._journal is not None and not each.quota.exact:
            used += self._journal.lately(company, each.meter)
        return None if used < limit else self._used_up(each, company, limit, used)

    def _take(self, exchange: Exchange, company: str, quotas: Iterable[QuotaUsage]) -> Block | None:
        """Reserve the unit that *exchange* needs of each exact quota; why that failed, or None."""
        exact = [each for each in quotas if each.quota.exact]
        if not exact or self.reservations is None:
            return None
        from meterkit.governance.reservations import ReservationRequest

        now = int(self._clock())
        wanted = {}
        for each in exact:
            limit = each.limits.get(company)
            if limit is not None:
                wanted[ReservationRequest(each.meter, limit, each.period(company, now).start)] = each
        try:
            failed = self.reservations.take(exchange, company, wanted) if wanted else None
        except LedgerError as error:
            self._problems.note("quota_not_exact", f"a request passed without its unit of an exact quota: {error}")
            return None
        if failed is None:
            return None
        which, used = failed
        return self._used_up(wanted[which], company, which.limit, used)

    def _used_up(self, each: QuotaUsage, company: str, limit: int, used: int) -> Block:
        now = int(self._clock())
        per = {"period": "this billing period", "month": "this month", "day": "today"}[each.quota.per]
        return Block(
            "quota",
            company,
            f"The quota of {limit} {each.meter} for {per} is used up.",
            meter=each.meter,
            used=used,
            limit=limit,
            retry_after=max(1, each.period(company, now).end - now),
        )

    def _ask_application(self, exchange: Exchange, company: str, snapshot: Snapshot) -> Block | None:
        if self._governance.check is None:
            return None
        used = {each.meter: each.used.get((company, each.meter), 0) for each in snapshot.quotas}
        try:
            detail = self._governance.check(exchange, Known(company, snapshot.standings.of(company), used))
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

    def _respond(self, block: Block) -> Response:
        refusal = self._governance.refusals.get(block.reason)
        try:
            return (refusal or Refusal()).respond(block)
        except Exception as error:
            self._problems.note("refusal_raised", f"the Refusal of {block.reason!r} raised {error!r:.200}")
            return Refusal().respond(block)

    def _note(self, block: Block, *, is_hard: bool) -> None:
        reason = block.reason if is_hard else f"warn:{block.reason}"
        with self._lock:
            self.total[reason] = self.total.get(reason, 0) + 1
            if is_hard:
                company = block.company or NOBODY
                key = (company if len(self._blocked) < MOST_COMPANIES else NOBODY, reason)
                self._blocked[key] = self._blocked.get(key, 0) + 1

    def refresh(self, database: Database, usage: UsageByPeriod, journal: Journal) -> None:
        """
        Look again; by the thread that flushes, when it has.

        Raises:
            LedgerError: The ledger cannot be read; what was known before goes on to decide.
        """
        from meterkit.governance.blocked_requests import add_blocked
        from meterkit.governance.snapshot import SnapshotBuilder

        if self._builder is None:
            self._builder = SnapshotBuilder(
                database,
                self._governance,
                usage=usage,
                limits=self._limits,
                prices=self._prices,
                meters=self._meters,
            )
        now = int(self._clock())
        self._snapshot = self._builder.build(now)
        self._journal = journal
        journal.seen()
        if self._is_exact:
            if self.reservations is None:
                from meterkit.governance.reservations import Reservations

                self.reservations = Reservations(database, journal, clock=self._clock)
            self.reservations.release_unused()
        self.ready.set()
        with self._lock:
            stopped, self._blocked = self._blocked, {}
        if stopped:
            try:
                add_blocked(database, stopped, now)
            except BaseException:
                with self._lock:
                    for key, count in stopped.items():
                        self._blocked[key] = self._blocked.get(key, 0) + count
                raise

    def reset(self) -> None:
        """What counts has ended, or is the parent's of this forked child; what was seen is good for a moment more."""
        self._lock = threads.rlock()
        self._builder = self._journal = self.reservations = None
        self._snapshot, self.ready = (None, Event()) if self._is_exact else (self._snapshot, self.ready)
        self._blocked, self.total = {}, {}


def _unknown(company: str | None, *, looked: bool) -> Block:
    if not looked:
        return Block("unknown", company, "It is not known yet who may pass; try again.", retry_after=1)
    if company is None:
        return Block("unknown", None, "Nobody has said whose request this is.")
    return Block("unknown", company, "Nobody pays for this.")
