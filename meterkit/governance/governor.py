"""Decide, before the app runs, whether a request is blocked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import quote

from meterkit.core import threads
from meterkit.core.problems import Problems
from meterkit.core.responses import WARNING, RateLimit, Response, rate_limit_headers
from meterkit.core.text_templates import fill
from meterkit.core.threads import Event
from meterkit.core.usage_key import NOBODY, both_of
from meterkit.errors import LedgerError
from meterkit.governance.figures import BLOCKED_BIT, FIRST_QUOTA, CompanyFigures
from meterkit.governance.limits import LimitCache
from meterkit.governance.matching import RequestScope, ScopeMatcher
from meterkit.governance.policy import Governance, Known, Quota
from meterkit.governance.refusal import Block, Refusal
from meterkit.metering.exchange import Exchange, Identity
from meterkit.metering.recorder import Recorder
from meterkit.snapshot.file_format import RECORD_WORDS, STATE
from meterkit.snapshot.reader import SnapshotSource

if TYPE_CHECKING:
    from meterkit.governance.reservations import Reservations
    from meterkit.journal.handed_over import HandedOver
    from meterkit.journal.journal import Journal
    from meterkit.ledger.database import Database

Leave: TypeAlias = "Callable[[Mapping[tuple[str, str], int]], object]"

READY_SECONDS = 5.0
"""How long the first requests under an exact quota wait for the first snapshot."""

MAX_COMPANIES = 10_000
"""Companies whose blocked requests are counted one by one between two flushes; clients may invent company ids."""


class Governor:
    """
    Allows or blocks requests, as a `Governance` says.

    Args:
        governance: Rules to apply.
        source: Snapshot that requests are checked against.
        recorder: Recorder of the kit, which identifies the company of an exchange.
        limits: Limit caches, in the order of the governance's quotas, for exact ones.
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
        source: SnapshotSource,
        recorder: Recorder,
        limits: Iterable[LimitCache],
        begin: Callable[[], Journal],
        problems: Problems,
        clock: Callable[[], float],
        in_view: bool = False,
    ) -> None:
        self.governance = governance
        self._in_view = in_view
        self._source = source
        self._quotas = tuple(enumerate(governance.quotas))
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
        self.ready = Event()
        self.reservations: Reservations | None = None
        self._journal: Journal | None = None
        self._catch_up: Callable[[], None] = _nothing

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
        file, journal = self._source.current, self._journal
        if file is None or journal is None or self._has_more or scope.exact:
            return False
        company = self._recorder.identity.early(exchange)
        if company is None:
            return False
        words = file.words
        at = file.places.get(company) if words[STATE] == file.state else 0  # inlined from `SnapshotFile.at`
        if not at:
            at = file.at(company)
        if words[at + RECORD_WORDS] > journal.most:  # whatever it counts for, and the largest number without limits
            return True
        if words[at] & BLOCKED_BIT:
            return False
        for number in scope.quotas:
            value = at + RECORD_WORDS + FIRST_QUOTA + 2 * number  # what is used, and then the limit
            if words[value] + journal.most >= words[value + 1]:
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
        if not self.ready.is_set() and scope.exact:
            self.ready.wait(READY_SECONDS)  # without a snapshot, no unit could be reserved
        self._catch_up()
        file = self._source.current
        known = None if company is None or file is None else CompanyFigures(file.record(company), company)
        if self.governance.unknown == "block" and (known is None or not known.is_known):
            return _unknown(company, is_ready=file is not None), True
        if company is None or known is None:
            return None, False
        of_company = known.block
        if of_company is not None and not known.is_warned:
            return of_company, True
        quotas = scope.of(self._quotas)
        over = [(quota, block) for number, quota in quotas if (block := self._over(number, quota, company, known))]
        hard = next((block for quota, block in over if quota.hard), None)
        block = (
            hard or self._ask_application(exchange, company, known) or self._reserve(exchange, company, known, quotas)
        )
        if block is not None:
            return block, True
        return (over[0][1] if over else of_company), False

    def _over(self, number: int, quota: Quota, company: str, known: CompanyFigures) -> Block | None:
        limit = known.limit(number)
        if limit is None:
            return None
        used = known.used(number)
        if self._journal is not None and not quota.exact:
            used += self._journal.lately(company, quota.meter.name)
        return None if used < limit else self._used_up(quota, company, known, limit, used)

    def _rate_limits(self, exchange: Exchange, scope: RequestScope, *, is_served: bool) -> Iterator[RateLimit]:
        """
        Yield what the company of *exchange* has left of each quota, from memory.

        Args:
            exchange: Exchange that is decided about.
            scope: Rules that apply to it.
            is_served: Whether the app serves it, so that it will count, too.
        """
        file, company = self._source.current, None if exchange.identified is None else both_of(exchange.identified)[0]
        if file is None or not company or self._journal is None:
            return
        now = int(self._clock())
        known = CompanyFigures(file.record(company), company)
        for number, quota in scope.of(self._quotas):
            limit = known.limit(number)
            if limit is not None:
                period = known.period(quota, now)
                units = known.used(number) + self._journal.lately(company, quota.meter.name)
                units += is_served and quota.meter.value is None
                name = f"{quota.meter.name}-{quota.per}"
                left, reset = max(0, limit - units), max(1, period.end - now)
                yield RateLimit(name, limit, period.end - period.start, left, reset)

    def _reserve(
        self, exchange: Exchange, company: str, known: CompanyFigures, quotas: Iterable[tuple[int, Quota]]
    ) -> Block | None:
        """Reserve the unit that *exchange* needs of each exact quota; return which is used up, or None."""
        exact = [(number, quota) for number, quota in quotas if quota.exact]
        if not exact or self.reservations is None:
            return None
        from meterkit.governance.reservations import ReservationRequest

        now = int(self._clock())
        needed = {}
        for number, quota in exact:
            limit = self._limits[number].get(company)
            if limit is not None:
                since = known.period(quota, now).start
                needed[ReservationRequest(quota.meter.name, limit, since)] = quota
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
        return self._used_up(needed[request], company, known, request.limit, used)

    def _used_up(self, quota: Quota, company: str, known: CompanyFigures, limit: int, used: int) -> Block:
        now, meter = int(self._clock()), quota.meter.name
        per = {"period": "this billing period", "month": "this month", "day": "today"}[quota.per]
        return Block(
            "quota",
            company,
            f"The quota of {limit} {meter} for {per} is used up.",
            meter=meter,
            used=used,
            limit=limit,
            retry_after=max(1, known.period(quota, now).end - now),
        )

    def _ask_application(self, exchange: Exchange, company: str, known: CompanyFigures) -> Block | None:
        if self.governance.check is None:
            return None
        used = {quota.meter.name: known.used(number) for number, quota in self._quotas}
        try:
            detail = self.governance.check(exchange, Known(company, known.standing, used))
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

    def renew(self, journal: Journal, folded: Collection[HandedOver]) -> None:
        """
        Go on with the snapshot that this process has just read from the ledger. Called by the flushing thread.

        Args:
            journal: Journal of this process.
            folded: What it had handed over that was in the ledger before that was read.
        """
        self._catch_up = _nothing
        self._journal = journal
        journal.seen(folded)

    def follow(self, journal: Journal, catch_up: Callable[[], None]) -> None:
        """
        Go on with the snapshot that another process publishes. Called by the flushing thread.

        Args:
            journal: Journal of this process.
            catch_up: Function that tells the journal what the snapshot contains by now of what was handed over.
        """
        self._catch_up = catch_up
        self._journal = journal

    def write(self, database: Callable[[], Database], journal: Journal, *, leave: Leave | None = None) -> None:
        """
        Write what this process has counted of blocked requests, and reserved of exact quotas. Called after `renew`.

        Args:
            database: Function that opens and returns the ledger's database.
            journal: Journal of this process.
            leave: Function that leaves the counts to the process that flushes; None writes them to the ledger.

        Raises:
            LedgerError: The ledger failed; all of it is written with the next flush.
            OSError: The counts could not be left; they are with the next flush.
        """
        if self._is_exact:
            if self.reservations is None:
                from meterkit.governance.reservations import Reservations

                self.reservations = Reservations(database(), journal, clock=self._clock)
            self.reservations.release_unused()
        self.ready.set()
        with self._lock:
            blocked, self._blocked = self._blocked, {}
        if blocked:
            try:
                if leave is not None:
                    leave(blocked)
                else:
                    from meterkit.governance.blocked_requests import add_blocked

                    add_blocked(database(), blocked, int(self._clock()))
            except BaseException:
                self.add_blocked(blocked)
                raise

    def add_blocked(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Add *counts* of blocked requests, by company and reason, to those that are to be written."""
        with self._lock:
            for key, count in counts.items():
                self._blocked[key] = self._blocked.get(key, 0) + count

    def reset(self) -> None:
        """Drop everything that belongs to the parent process or a closed runtime; the last snapshot stays."""
        self._lock = threads.rlock()
        self._journal = self.reservations = None
        self._catch_up = _nothing
        self.ready = Event() if self._is_exact else self.ready
        self._blocked, self.total = {}, {}

    def forget(self) -> None:
        """Forget all limits too: another ledger follows."""
        self.reset()
        self.ready = Event()
        for limit in self._limits:
            limit.forget()


def _nothing() -> None:
    """Do nothing: what this process has counted is in its own figures."""


def _unknown(company: str | None, *, is_ready: bool) -> Block:
    if not is_ready:
        return Block("unknown", company, "Billing accounts are still being loaded; try again.", retry_after=1)
    if company is None:
        return Block("unknown", None, "No company could be identified for this request.")
    return Block("unknown", company, f"Company {company} has no billing account.")
