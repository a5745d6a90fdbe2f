"""Decide, before the app runs, whether a request is blocked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from meterkit.core.problems import Problems
from meterkit.core.responses import WARNING, RateLimit, Response, rate_limit_headers
from meterkit.core.threads import Event
from meterkit.core.usage_key import WALLET, both_of
from meterkit.governance.blocked_responses import BlockedResponses, Leave
from meterkit.governance.figures import BLOCKED_BIT, FIRST_QUOTA, CompanyFigures
from meterkit.governance.limits.exact_limits import ExactLimits
from meterkit.governance.limits.limit_cache import LimitCache
from meterkit.governance.matching import RequestScope, ScopeMatcher
from meterkit.governance.policy import Governance, Known, Quota
from meterkit.governance.refusal import Block
from meterkit.metering.exchange import Exchange, Identity
from meterkit.metering.identification import IdentifyInThread
from meterkit.metering.recorder import Recorder
from meterkit.snapshot.file_format import RECORD_WORDS, STATE
from meterkit.snapshot.reader import SnapshotFile, SnapshotSource

if TYPE_CHECKING:
    from meterkit.journal.handed_over import HandedOver
    from meterkit.journal.journal import Journal
    from meterkit.ledger.database import Database
    from meterkit.slices.slices import Slices
    from meterkit.slices.taken import ShortageError

READY_SECONDS = 5.0
"""How long the first requests under an exact quota wait for the first snapshot."""


class Governor:
    """
    Allows or blocks requests, as a `Governance` says.

    Args:
        governance: Rules to apply.
        source: Snapshot that requests are checked against.
        recorder: Recorder of the kit, which identifies the company of an exchange.
        exact: Exact quotas and wallets of the kit.
        limits: Limit caches, in the order of the governance's quotas.
        begin: Function that starts the first flush of this process, and returns its journal.
        problems: Where problems are reported.
        clock: Function that returns Unix seconds.
        in_view: Whether the app's views decide, with `check_again`: nothing is blocked before they run.
        is_shadow: Function that returns whether the kit is in shadow mode: then every request is allowed, as it was
            without governance, and what would have been blocked is only counted.

    Attributes:
        governance: Rules to apply.
        watched: Names of the meters that have a quota.
        exact: Exact quotas and wallets of the kit.
        is_exact: Whether there are any, so that `check` may wait for the ledger.
        blocked: The responses to blocked requests, and how many there were.
        ready: Set once there is a snapshot.
    """

    def __init__(
        self,
        governance: Governance,
        *,
        source: SnapshotSource,
        recorder: Recorder,
        exact: ExactLimits,
        limits: Iterable[LimitCache],
        begin: Callable[[], Journal],
        problems: Problems,
        clock: Callable[[], float],
        in_view: bool = False,
        is_shadow: Callable[[], bool] = lambda: False,
    ) -> None:
        self._is_shadow = is_shadow
        self.governance = governance
        self._in_view = in_view
        self._source = source
        self._quotas = tuple(enumerate(governance.quotas))
        self._recorder = recorder
        self._limits = tuple(limits)
        self._begin = begin
        self._problems = problems
        self._clock = clock
        self.watched = frozenset([*(quota.meter.name for quota in governance.quotas), *exact.meters])
        self._scopes = ScopeMatcher(governance, problems, wallets=exact.spending)
        self.exact, self.is_exact = exact, bool(exact)
        self._has_more = governance.check is not None or governance.unknown == "block" or governance.rate_limit_headers
        self.blocked = BlockedResponses(governance, problems)
        self.ready = Event()
        if exact.estimates.meters:
            recorder.evaluator.learns = exact.estimates.note
        self._journal: Journal | None = None
        self._catch_up: Callable[[], None] = _nothing

    @property
    def is_informed(self) -> bool:
        """Whether the figures of the companies have been read, so that it is known whom to block."""
        return self._source.current is not None

    def begin(self) -> None:
        """Start the first flush of this process, which builds the snapshot."""
        if self._journal is None or not self._journal.is_open:  # kit.flush() does not open it
            self._journal = self._begin()

    def check(self, exchange: Exchange, *, again: bool = False, scope: RequestScope | None = None) -> Response | None:
        """
        Return the response to a blocked request; None allows *exchange*, perhaps with a warning. Never raises.

        Args:
            exchange: Exchange to decide about.
            again: Whether its view asks.
            scope: Rules to apply instead of those for its method and path.
        """
        try:
            scope = self._scopes.of(exchange) if scope is None else scope
            if scope.exempt or (scope.is_options and self._recorder.identity.early(exchange, quiet=True) is None):
                return None
            file = self._source.current
            company = self._recorder.identity.early(exchange, valid=() if file is None else file.places)
            if company is not None and file is not None and self._is_clearly_allowed(exchange, company, file, scope):
                return None
            block, is_hard = self._decide(exchange, company, scope, again=again)
            is_hard = is_hard and self.governance.mode == "enforce"
            if self._is_shadow():
                if block is not None:
                    self.blocked.count(block, is_hard=is_hard, is_shadow=True)
                return None
            if self.governance.rate_limit_headers:
                limits = self._rate_limits(exchange, scope, is_served=not is_hard)
                exchange.added_headers += tuple(rate_limit_headers(limits))
            if block is None:
                return None
            if is_hard:
                return self.refuse(exchange, block)
            self.blocked.count(block, is_hard=False)
            exchange.warning = block.reason
            exchange.added_headers += ((WARNING, block.reason),)
        except Exception as error:
            self._recorder.problems.internal(error)
        return None

    def check_ahead(
        self, exchange: Exchange, *, meters: Collection[str] | None = None, has_path: bool = True
    ) -> Response | None:
        """
        Decide as `check` does about a request that another server serves; never waits for the ledger.

        Nothing is taken of an exact quota or a wallet, so what is allowed at the same time can exceed it, as with other
        quotas. Whether a wallet has anything left is found out in the background, when it is first asked for.

        Args:
            exchange: Exchange to decide about.
            meters: Names of the meters whose quotas apply; None for those that its method and path may count for, and
                those of meters for which no request counts.
            has_path: Whether its path is known; if not, all quotas apply.
        """
        known = self._scopes.of(exchange) if has_path else _ANYWHERE
        if meters is not None:
            found = [number for number, quota in self._quotas if quota.meter.name in meters]
        else:
            found = [number for number, quota in self._quotas if not has_path or not quota.meter.http]
            found += known.quotas
        spent = tuple((name, of_name) for name, of_name in known.wants if name[:1] == WALLET)
        if meters is not None or not has_path:
            spent = self.exact.spent_by(meters)
        scope = replace(known, quotas=tuple(sorted({*found})), exact=False, wants=spent, is_ahead=True)
        return self.check(exchange, scope=scope)

    def check_again(self, exchange: Exchange, who: Identity | None) -> Response | None:
        """
        Decide as `check` does, now that the view has authenticated *who*; if None, ``identify=`` says who it is.

        A decision that was made for the same company stands, with what it has taken of exact quotas.
        """
        known, identity = exchange.identified, self._recorder.identity
        company = identity.early(exchange) if who is None else identity.know(exchange, who)
        if known is not None and both_of(known)[0] == company:
            return None
        return self.check(exchange, again=True)

    def refuse(self, exchange: Exchange, block: Block) -> Response:
        """Return the response that blocks *exchange* because of *block*, and count it."""
        return self.blocked.refuse(exchange, block)

    def exempts(self, exchange: Exchange) -> bool:
        """Return whether *exchange* is always allowed, so that it does not matter whose it is."""
        return self._scopes.of(exchange).exempt

    def waits_for(self, exchange: Exchange) -> bool:
        """Return whether `check` may wait for the ledger, which must not happen in an event loop."""
        if not self.is_exact:
            return False
        scope = self._scopes.of(exchange)
        if not scope.exact or scope.exempt:
            return False
        try:
            company = self._recorder.identity.early(exchange, quiet=True)
        except IdentifyInThread:
            return True
        slices = self.exact.slices
        return slices is None or company is None or not slices.has(company, scope.wants)

    def _is_clearly_allowed(self, exchange: Exchange, company: str, file: SnapshotFile, scope: RequestScope) -> bool:
        """Return True if *company* is certainly allowed, as most are. False decides nothing: `_decide` does."""
        journal = self._journal
        if journal is None or self._has_more:
            return False
        words = file.words
        at = file.places.get(company) if words[STATE] == file.state else 0  # inlined from `SnapshotFile.at`
        if not at:
            at = file.at(company)
        if scope.wants:
            return not scope.is_ahead and self._has_taken(exchange, company, scope, words, at)
        most = journal.most
        if words[at + RECORD_WORDS] > most:  # whatever it counts for, and the largest number without limits
            return True
        if words[at] & BLOCKED_BIT:
            return False
        for number in scope.quotas:
            value = at + RECORD_WORDS + FIRST_QUOTA + 2 * number  # what is used, and then the limit
            if words[value] + most >= words[value + 1]:
                return False
        return True

    def _has_taken(self, exchange: Exchange, company: str, scope: RequestScope, words: Any, at: int) -> bool:
        """Take what *exchange* may count of exact quotas, if it is clearly allowed and the slices have as much."""
        slices, journal = self.exact.slices, self._journal
        if slices is None or journal is None or words[at] & BLOCKED_BIT:
            return False
        for number in scope.quotas:
            value = at + RECORD_WORDS + FIRST_QUOTA + 2 * number
            if not self._quotas[number][1].exact and words[value] + journal.most >= words[value + 1]:
                return False
        return slices.try_take(exchange, company, scope.wants)

    def _decide(
        self, exchange: Exchange, company: str | None, scope: RequestScope, *, again: bool
    ) -> tuple[Block | None, bool]:
        """Return why *exchange* is to be blocked, or None, and whether to block it or only to warn."""
        self.begin()
        if company is None:
            exchange.passed_unidentified = exchange.touched = True  # so that whose it was in the end is looked at
            if self._in_view and not again:
                return None, False
        if not self.ready.is_set() and scope.exact:
            self.ready.wait(READY_SECONDS)  # without a snapshot, nothing can be taken
        self._catch_up()
        known = None if company is None else CompanyFigures.of(self._source, company)
        if self.governance.unknown == "block" and (known is None or not known.is_known):
            return _unknown(company, is_ready=self.is_informed), True
        if company is None or known is None:
            return None, False
        of_company = known.block
        if of_company is not None and not known.is_warned:
            return of_company, True
        quotas = scope.of(self._quotas)
        over = [(quota, block) for number, quota in quotas if (block := self._over(number, quota, company, known))]
        hard = next((block for quota, block in over if quota.hard), None)
        block = (
            hard
            or self._ask_application(exchange, company, known)
            or (self._take(exchange, company, known, scope) if scope.wants else None)
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
        if used < limit:
            return None
        return known.used_up(quota, limit=limit, used=used, now=int(self._clock()))

    def _rate_limits(self, exchange: Exchange, scope: RequestScope, *, is_served: bool) -> Iterator[RateLimit]:
        """
        Yield what the company of *exchange* has left of each quota, from memory.

        Args:
            exchange: Exchange that is decided about.
            scope: Rules that apply to it.
            is_served: Whether the app serves it, so that it will count, too.
        """
        company = None if exchange.identified is None else both_of(exchange.identified)[0]
        known = CompanyFigures.of(self._source, company) if company else None
        if known is None or company is None or self._journal is None:
            return
        now = int(self._clock())
        for number, quota in scope.of(self._quotas):
            limit = known.limit(number)
            if limit is not None:
                period = known.period(quota, now)
                units = known.used(number) + self._journal.lately(company, quota.meter.name)
                units += is_served and quota.meter.value is None
                name = f"{quota.meter.name}-{quota.per}"
                left, reset = max(0, limit - units), max(1, period.end - now)
                yield RateLimit(name, limit, period.end - period.start, left, reset)

    def _take(self, exchange: Exchange, company: str, known: CompanyFigures, scope: RequestScope) -> Block | None:
        shortage = self.exact.take(exchange, company, scope)
        return None if shortage is None else self.exact.block_of(shortage, company, known)

    def wait_for_slices(self) -> Slices | None:
        """Return the slices of this process, once the ledger has been read; None if it cannot be."""
        self.begin()
        if not self.ready.is_set():
            self.ready.wait(READY_SECONDS)
        self._catch_up()
        return self.exact.slices

    def block_of(self, shortage: ShortageError, company: str, *, counts: bool) -> Block | None:
        """
        Return why *company* can hold nothing; None where nobody is blocked, which is only counted.

        Args:
            shortage: What was too little.
            company: Company id.
            counts: Whether to count it; the response to a request does so itself.
        """
        known = CompanyFigures.of(self._source, company)
        assert known is not None  # without figures, nothing limits anybody
        block = self.blocked.linked(self.exact.block_of(shortage, company, known))
        if counts or not self.blocks:
            self.blocked.count(block, is_hard=self.governance.mode == "enforce", is_shadow=self._is_shadow())
        return block if self.blocks else None

    @property
    def blocks(self) -> bool:
        """Whether anybody is blocked: governance does not only warn, and the kit is not in shadow mode."""
        return self.governance.mode == "enforce" and not self._is_shadow()

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
        Write what this process has counted of blocked requests, and give back unused slices. Called after `renew`.

        Args:
            database: Function that opens and returns the ledger's database.
            journal: Journal of this process.
            leave: Function that leaves the counts to the process that flushes; None writes them to the ledger.

        Raises:
            LedgerError: The ledger failed; all of it is written with the next flush.
            OSError: The counts could not be left; they are with the next flush.
        """
        self.exact.renew(database, journal)
        self.ready.set()
        self.blocked.write(database, int(self._clock()), leave=leave)

    def reset(self) -> None:
        """Drop everything that belongs to the parent process or a closed runtime; the last snapshot stays."""
        self._journal = self.exact.slices = None
        self._catch_up = _nothing
        self.ready = Event() if self.is_exact else self.ready
        self.blocked.reset()

    def forget(self) -> None:
        """Forget all limits too: another ledger follows."""
        self.reset()
        self.ready = Event()
        for limit in self._limits:
            limit.forget()


_ANYWHERE = RequestScope(exempt=False, is_options=False, quotas=(), exact=False, has_other=False)
"""Rules for a request of which the path is not known."""


def _nothing() -> None:
    """Do nothing: what this process has counted is in its own figures."""


def _unknown(company: str | None, *, is_ready: bool) -> Block:
    if not is_ready:
        return Block("unknown", company, "Billing accounts are still being loaded; try again.", retry_after=1)
    if company is None:
        return Block("unknown", None, "No company could be identified for this request.")
    return Block("unknown", company, f"Company {company} has no billing account.")
