"""Wiring: what a kit can be asked: what was used, what it will cost, how customers stand, whether all is well."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from meterkit.core.problems import Problems
from meterkit.metering.meter import Meter
from meterkit.runtime.settings import Settings

if TYPE_CHECKING:
    from meterkit.accounts.inbox import WebhookEvent
    from meterkit.accounts.overview import Account
    from meterkit.governance.blocked_requests import Stopped
    from meterkit.governance.governor import Governor
    from meterkit.ledger.ledger import Usage
    from meterkit.notices.store import Delivery
    from meterkit.pricing.preview import Preview
    from meterkit.runtime.process import Flusher


class Inquiry:
    """The part of a kit that answers, and changes nothing."""

    clock: Callable[[], float]
    governor: Governor | None
    _settings: Settings
    _problems: Problems

    def flush(self) -> None:
        """Move usage from the journal to the ledger."""
        raise NotImplementedError

    def process(self) -> Flusher:
        """What belongs to this process."""
        raise NotImplementedError

    def usage(
        self,
        *,
        company: str | None = None,
        meter: Meter | str | None = None,
        since: int | None = None,
        until: int | None = None,
    ) -> list[Usage]:
        """
        What is in the ledger, by meter, company, user and window.

        Args:
            company: Only of this one.
            meter: Only of this one.
            since: Only windows that begin at this unix second or later.
            until: Only windows that begin before it.

        Raises:
            LedgerError: The ledger cannot be read.
        """
        name = meter.name if isinstance(meter, Meter) else meter
        return self.process().ledger().usage(company=company, meter=name, since=since, until=until)

    def preview(self, company: str) -> list[Preview]:
        """
        The next invoice of each subscription that pays for *company*, as it stands, with usage that is not reported.

        From the ledger, as far as Stripe's webhooks or `sync()` have told of subscriptions: no request is made.

        Raises:
            LedgerError: The ledger failed.
            ConfigurationError: A price of Stripe's cannot be computed here.
        """
        from meterkit.pricing.preview import previews

        self.flush()
        return previews(self.process().database(), company, clock=self.clock)

    def customers(self) -> list[Account]:
        """
        How each company stands: who pays for it, its subscriptions, what is overdue, and what usage waits.

        Raises:
            LedgerError: The ledger cannot be read.
        """
        from meterkit.accounts.overview import accounts

        return accounts(self.process().database(), clock=self.clock)

    def webhook_events(self, *, limit: int = 100) -> list[WebhookEvent]:
        """
        The latest webhook events, newest first, and what came of them.

        Raises:
            LedgerError: The ledger cannot be read.
        """
        return self.process().inbox().events(limit=limit)

    def notices(self, *, limit: int = 100, company: str | None = None) -> list[Delivery]:
        """
        The latest notices and what became of them, newest first, one entry for each channel.

        Raises:
            LedgerError: The ledger cannot be read.
        """
        from meterkit.notices.store import Notices

        return Notices(self.process().database(), clock=self.clock).deliveries(limit=limit, company=company)

    def stopped(self, *, days: int = 31) -> list[Stopped]:
        """
        How many requests did not pass, by company, reason and day, since so many days ago.

        Raises:
            LedgerError: The ledger cannot be read.
        """
        from meterkit.governance.blocked_requests import stopped

        return stopped(self.process().database(), since=int(self.clock()) - days * 24 * 3600)

    def health(self) -> dict[str, Any]:
        """
        Whether all is well, ready for ``json.dumps``. Never raises; reads the journal and the ledger.

        Returns:
            ``ok``: nothing needs attention.
            ``attention``: sentences that say what does, and the cure.
            ``books``: by meter, where its usage is, and whether that is ``balanced``; None if the ledger fails.
            ``problems``: what went wrong in this process, ``{reason: {"count": ..., "message": ...}}``.
            ``stopped``: how many requests did not pass in this process, by reason.
        """
        from meterkit.runtime.health import health

        stopped = {} if self.governor is None else dict(self.governor.total)
        return {**health(self.process(), self._settings, self._problems), "stopped": stopped}
