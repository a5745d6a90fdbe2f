"""Decide, before the app runs, whether a request is blocked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import quote

from meterkit.core import threads
from meterkit.core.problems import Problems
from meterkit.core.responses import WARNING, RateLimit, Response, rate_limit_headers
from meterkit.core.text_templates import fill
from meterkit.core.threads import Event
from meterkit.core.usage_key import NOBODY, both_of
from meterkit.errors import LedgerError
from meterkit.governance.limits import LimitCache
from meterkit.governance.matching import RequestScope, ScopeMatcher
from meterkit.governance.policy import Governance, Known
from meterkit.governance.refusal import Block, Refusal
from meterkit.metering.exchange import Exchange, Identity
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
"""How long the first requests under an exact quota wait for the first snapshot."""

MAX_COMPANIES = 10_000
"""Companies whose blocked requests are counted one by one between two flushes; clients may invent company ids."""


class Governor:
    """
    Allows or blocks requests, as a `Governance` says.

    Args:
        governance: Rules to apply.
        meters: Meters of the kit, by name.
        prices: Prices of the kit.
        recorder: Recorder of the kit, which identifies the company of an exchange.
        limits: Limit caches, in the order of the governance's quotas.
        begin: Function that starts the first flush of this process, and returns its journal.
        problems: Where problems are reported.
        clock: Function that returns Unix seconds.
        in_view: Whether the app's views decide, with `check_again`: nothing is blocked before they run.

    Attributes:
        governance: Rules to apply.
        watched: Names of the meters that have a quota.
        reservations: Units that this process has reserved; None before the first snapshot, or without an exact quota.
        ready: Set once there is a snapshot.
        total: Number of requests that this process blocked, by reason; the reason begins with ``warn:`` for those that
            were only warned about.
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
        in_view: bool = False,
    ) -> None:
        self.governance = governance
        self._in_view = in_view
        self._meters = meters
        self._prices = tuple(prices)
        self._recorder = recorder
        self._limits = tuple(limits)
        self._begin = begin
        self._problems = problems
        self._clock = clock
        self.watched = frozenset(quota.meter.name for quota in governance.quotas)
        self._scopes = ScopeMatcher(governance, problems)
        self._is_exact = any(quota.exact for quota in governance.quotas)
        self._has_more = governance.check is not None or governance.unknown == "block" or governance.rate_limit_headers
        self._lock = threads.rlock()
        self._blocked: dict[tuple[str, str], int] = {}
        self.total: dict[str, int] = {}
        self._snapshot: Snapshot | None = None
        self.ready = Event()
        self.reservations: Reservations | None = None
        self._journal: Journal | None = None
        self._builder: SnapshotBuilder | None = None

    def begin(self) -> None:
        """Start the first flush of this process, which builds the snapshot."""
        if self._journal is None:
            self._journal = self._begin()

    def check(self, exchange: Exchange, *, again: bool = False) -> Response | None:
        """
        Return the response to a blocked request; None allows *exchange*, perhaps with a warning. Never raises.

        Args:
            exchange: Exchange to decide about.
            again: Whether its view asks.
        """
        try:
            scope = self._scopes.of(exchange)
            if scope.exempt or (scope.is_options and self._recorder.identity.early(exchange, quiet=True) is None):
                return None
            if self._is_clearly_allowed(exchange, scope):
                return None
            block, is_hard = self._decide(exchange, scope, again=again)
            is_hard = is_hard and self.governance.mode == "enforce"
            if self.governance.rate_limit_headers:
                limits = self._rate_limits(exchange, scope, is_served=not is_hard)
                exchange.added_headers += tuple(rate_limit_headers(limits))
            if block is None:
                return None
            if is_hard:
                return self.refuse(exchange, block)
            self._count(block, is_hard=False)
            exchange.warning = block.reason
            exchange.added_headers += ((WARNING, block.reason),)
        except Exception as error:
            self._recorder.problems.internal(error)
        return None

    def check_again(self, exchange: Exchange, who: Identity | None) -> Response | None:
        """
        Decide as `check` does, now that the view has authenticated *who*; if None, ``identify=`` says who it is.

        A decision that was made for the same company stands, with the unit of an exact quota that it reserved.
        """
        known, identity = exchange.identified, self._recorder.identity
        company = identity.early(exchange) if who is None else identity.know(exchange, who)
        if known is not None and both_of(known)[0] == company:
            return None
        return self.check(exchange, again=True)

    def refuse(self, exchange: Exchange, block: Block) -> Response:
        """Return the response that blocks *exchange* because of *block*, and count it."""
        block = self._with_link(block)
        self._count(block, is_hard=True)
        exchange.blocked = self._refusal_of(block).worded(block)
        response = self._respond(block)
        response.headers.extend(exchange.added_headers)
        return response

    def exempts(self, exchange: Exchange) -> bool:
        """Return whether *exchange* is always allowed, so that it does not matter whose it is."""
        return self._scopes.of(exchange).exempt

    def waits_for(self, exchange: Exchange) -> bool:
        """Return whether `check` may wait for the ledger, which must not happen in an event loop."""
        return self._is_exact and self._scopes.of(exchange).exact

    def _is_clearly_allowed(self, exchange: Exchange, scope: RequestScope) -> bool:
        """Return True if *exchange* is certainly allowed, as most are. False decides nothing: `_decide` does."""
        snapshot = self._snapshot
        if snapshot is None or self._journal is None or self._has_more or scope.exact:
            return False
        company = self._recorder.identity.early(exchange)
        if company is None or company in snapshot.blocks:
            return False
        for number in scope.quotas:
            each = snapshot.quotas[number]
            limit = each.limits.known(company)
            if limit is not None and each.used.get((company, each.meter), 0) + self._journal.most >= limit:
                return False
        return True

    def _decide(self, exchange: Exchange, scope: RequestScope, *, again: bool) -> tuple[Block | None, bool]:
        """Return why *exchange* is to be blocked, or None, and whether to block it or only to warn."""
        self.begin()
        company = self._recorder.identity.early(exchange)
        if company is None:
            exchange.passed_unidentified = exchange.touched = True  # so that whose it was in the end is looked at
            if self._in_view and not again:
                return None, False
        if self._snapshot is None and scope.exact:
            self.ready.wait(READY_SECONDS)  # without a snapshot, no unit could be reserved
        snapshot = self._snapshot
        is_known = company is not None and snapshot is not None and company in snapshot.standings.known
        if self.governance.unknown == "block" and not is_known:
            return _unknown(company, is_ready=snapshot is not None), True
        if company is None or snapshot is None:
            return None, False
        of_company = snapshot.blocks.get(company)
        if of_company is not None and company not in snapshot.warned:
            return of_company, True
        quotas = scope.of(snapshot.quotas)
        over = [(each, block) for each in quotas if (block := self._over(each, company))]
        hard = next((block for each, block in over if each.quota.hard), None)
        block = hard or self._ask_application(exchange, company, snapshot) or self._reserve(exchange, company, quotas)
        if block is not None:
            return block, True
        return (over[0][1] if over else of_company), False

    def _over(self, each: QuotaUsage, company: str) -> Block | None:
        limit = each.limits.known(company)
        if limit is None:
            return None
        used = each.used.get((company, each.meter), 0)
        if self._journal is not None and not each.quota.exact:
            used += self._journal.lately(company, each.meter)
        return None if used < limit else self._used_up(each, company, limit, used)

    def _rate_limits(self, exchange: Exchange, scope: RequestScope, *, is_served: bool) -> Iterator[RateLimit]:
        """
        Yield what the company of *exchange* has left of each quota, from memory.

        Args:
            exchange: Exchange that is decided about.
            scope: Rules that apply to it.
            is_served: Whether the app serves it, so that it will count, too.
        """
        snapshot, company = self._snapshot, None if exchange.identified is None else both_of(exchange.identified)[0]
        if snapshot is None or not company or self._journal is None:
            return
        now = int(self._clock())
        for each in scope.of(snapshot.quotas):
            limit = each.limits.known(company)
            if limit is not None:
                period = each.period(company, now)
                units = each.used.get((company, each.meter), 0) + self._journal.lately(company, each.meter)
                units += is_served and each.quota.meter.value is None
                name = f"{each.meter}-{each.quota.per}"
                left, reset = max(0, limit - units), max(1, period.end - now)
                yield RateLimit(name, limit, period.end - period.start, left, reset)

    def _reserve(self, exchange: Exchange, company: str, quotas: Iterable[QuotaUsage]) -> Block | None:
        """Reserve the unit that *exchange* needs of each exact quota; return which is used up, or None."""
        exact = [each for each in quotas if each.quota.exact]
        if not exact or self.reservations is None:
            return None
        from meterkit.governance.reservations import ReservationRequest

        now = int(self._clock())
        needed = {}
        for each in exact:
            limit = each.limits.get(company)
            if limit is not None:
                needed[ReservationRequest(each.meter, limit, each.period(company, now).start)] = each
        try:
            failed = self.reservations.take(exchange, company, needed) if needed else None
        except LedgerError as error:
            self._problems.note(
                "quota_not_exact",
                f"a request was allowed without a reserved unit of an exact quota: {error}",
                company=company,
            )
            return None
        if failed is None:
            return None
        request, used = failed
        return self._used_up(needed[request], company, request.limit, used)

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
        if self.governance.check is None:
            return None
        used = {each.meter: each.used.get((company, each.meter), 0) for each in snapshot.quotas}
        try:
            detail = self.governance.check(exchange, Known(company, snapshot.standings.of(company), used))
        except Exception as error:
            message = f"Governance(check=...) raised {error!r:.200}; the request was allowed"
            self._problems.note("check_raised", message, error=error, company=company)
            return None
        return None if detail is None else Block("check", company, str(detail))

    def _with_link(self, block: Block) -> Block:
        url = self.governance.settle_url
        if block.settle_url is not None or url is None:
            return block
        values = {name: getattr(block, name) for name in block.__dataclass_fields__}
        return replace(block, settle_url=fill(url, values, escape=lambda text: quote(text, safe="", errors="replace")))

    def _respond(self, block: Block) -> Response:
        try:
            return self._refusal_of(block).respond(block)
        except Exception as error:
            message = f"the Refusal of {block.reason!r} raised {error!r:.200}"
            self._problems.note("refusal_raised", message, error=error, company=block.company)
            return Refusal().respond(block)

    def _refusal_of(self, block: Block) -> Refusal:
        return self.governance.refusals.get(block.reason) or Refusal()

    def _count(self, block: Block, *, is_hard: bool) -> None:
        reason = block.reason if is_hard else f"warn:{block.reason}"
        with self._lock:
            self.total[reason] = self.total.get(reason, 0) + 1
            if is_hard:
                company = block.company or NOBODY
                key = (company if len(self._blocked) < MAX_COMPANIES else NOBODY, reason)
                self._blocked[key] = self._blocked.get(key, 0) + 1

    def refresh(self, database: Database, usage: UsageByPeriod, journal: Journal) -> None:
        """
        Rebuild the snapshot, and write the counts of blocked requests. Called by the flushing thread after a flush.

        Raises:
            LedgerError: The ledger cannot be read; requests are still checked against the last snapshot.
        """
        from meterkit.governance.blocked_requests import add_blocked
        from meterkit.governance.snapshot import SnapshotBuilder

        if self._builder is None:
            self._builder = SnapshotBuilder(
                database,
                self.governance,
                usage=usage,
                limits=self._limits,
                prices=self._prices,
                meters=self._meters,
            )
        now = int(self._clock())
        folded = journal.folded()  # first: what is folded while the ledger is read may not be in what was read
        self._snapshot = self._builder.build(now)
        self._journal = journal
        journal.seen(folded)
        if self._is_exact:
            if self.reservations is None:
                from meterkit.governance.reservations import Reservations

                self.reservations = Reservations(database, journal, clock=self._clock)
            self.reservations.release_unused()
        self.ready.set()
        with self._lock:
            blocked, self._blocked = self._blocked, {}
        if blocked:
            try:
                add_blocked(database, blocked, now)
            except BaseException:
                with self._lock:
                    for key, count in blocked.items():
                        self._blocked[key] = self._blocked.get(key, 0) + count
                raise

    def reset(self) -> None:
        """Drop everything that belongs to the parent process or a closed runtime; keep the last snapshot."""
        self._lock = threads.rlock()
        self._builder = self._journal = self.reservations = None
        self._snapshot, self.ready = (None, Event()) if self._is_exact else (self._snapshot, self.ready)
        self._blocked, self.total = {}, {}

    def forget(self) -> None:
        """Forget the snapshot and all limits too: another ledger follows."""
        self.reset()
        self._snapshot, self.ready = None, Event()
        for limit in self._limits:
            limit.forget()


def _unknown(company: str | None, *, is_ready: bool) -> Block:
    if not is_ready:
        return Block("unknown", company, "Billing accounts are still being loaded; try again.", retry_after=1)
    if company is None:
        return Block("unknown", None, "No company could be identified for this request.")
    return Block("unknown", company, f"Company {company} has no billing account.")
