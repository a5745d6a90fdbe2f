"""
Background jobs that talk to Stripe: report, and sync accounts.

Each runs in a thread of its own, so that a Stripe that does not answer holds up no flush, nor a long report a webhook.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from meterkit.core import threads
from meterkit.core.problems import Problems
from meterkit.core.threads import Event
from meterkit.core.validation import checked_customer
from meterkit.errors import ConfigurationError, LedgerError, WebhookError
from meterkit.runtime.periodic import PeriodicTask
from meterkit.runtime.settings import Settings, is_live, key_of

if TYPE_CHECKING:  # SQLAlchemy and stripe are imported by a thread, or by a call that needs them
    from meterkit.ledger.database import Database
    from meterkit.outbox.outbox import Summary
    from meterkit.reporting.reporter import Reporter
    from meterkit.webhooks.account_sync import AccountSync, SyncResult

NO_KEY = "there is no stripe_key= and no STRIPE_SECRET_KEY: usage is counted and kept, and not reported to Stripe"

STOP_SECONDS = 0.3
"""How long an exit waits for what is under way. An event is asked about again, under the same identifier."""


class StripeJobs:
    """
    Goes to Stripe and back.

    Args:
        settings: Of the kit.
        problems: Where trouble goes.
        database: Opens the ledger.
        stop: When set, the process ends.
        changed: Called when Stripe has told what may decide who passes.

    Attributes:
        last_report: What the latest report did, in this process.
        received_webhooks: How many events of Stripe's came in, in this process.
        refused_webhooks: How many requests came in that were none.
    """

    def __init__(
        self,
        settings: Settings,
        problems: Problems,
        *,
        database: Callable[[], Database],
        stop: Event,
        changed: Callable[[], None],
    ) -> None:
        self._changed = changed
        self._settings = settings
        self._problems = problems
        self._database = database
        self._stop = stop
        self._opening = threads.rlock()
        self._reporter: Reporter | None = None
        self._account_sync: AccountSync | None = None
        self._reporting = PeriodicTask(self._report_in_background, "meterkit-report", settings.report_interval)
        self._following = PeriodicTask(self._follow_in_background, "meterkit-follow", settings.report_interval)
        self.last_report: Summary | None = None
        self.received_webhooks = 0
        self.refused_webhooks = 0

    def report(self, *, include_open: bool = False) -> Summary:
        """
        Send to Stripe what is due.

        Raises:
            LedgerError: The ledger failed. Nothing is lost; report again.
        """
        from meterkit.outbox.outbox import Summary

        if self._settings.stripe_key is None:
            return Summary(error=NO_KEY)
        self.last_report = self.reporter().run(include_open=include_open)
        if not self.last_report.trouble:
            self._problems.clear("report_failed")
        return self.last_report

    def receive(self, payload: bytes | str, signature: str | None) -> bool:
        """
        Keep a webhook event.

        Returns:
            False if it has come before.

        Raises:
            WebhookError: It is not Stripe's.
            LedgerError: It could not be kept.
            ConfigurationError: The kit has no webhook.
        """
        from meterkit.accounts.inbox import Inbox
        from meterkit.webhooks.verification import read

        webhook, clock = self._settings.webhook, self._settings.clock
        if webhook is None:
            raise ConfigurationError("this kit has no webhook=: give it Webhook('/stripe/webhook', secret='whsec_...')")
        try:
            event = read(payload, signature, webhook, now=clock(), livemode=is_live(self._settings.stripe_key))
        except WebhookError as error:
            self.refused_webhooks += 1
            if not self.received_webhooks:  # or it is somebody else who knocks: the secret is right
                self._problems.note("webhook_refused", f"a webhook was refused: {error}")
            raise
        is_new = Inbox(self._database(), clock=clock).put(event)
        self.received_webhooks += 1
        self._problems.clear("webhook_refused")
        if is_new:
            self._changed()  # to sync the account now
        return is_new

    def follow(self) -> SyncResult:
        """
        Look at what webhooks told of.

        Raises:
            LedgerError: The ledger failed; the webhook events wait.
            ConfigurationError: There is no key.
        """
        found = self._noted(self.account_sync().follow())
        if found.closing:
            # When every process has flushed what it counted before the period's end.
            self._reporting.hasten(2 * self._settings.flush_interval)
        return found

    def sync(self) -> SyncResult:
        """
        Look at all customers, subscriptions and invoices.

        Raises:
            LedgerError: The ledger failed.
            ConfigurationError: There is no key.
        """
        return self._noted(self.account_sync().sync())

    def tick(self) -> None:
        """From time to time, by the thread that flushes: do what is due, and end what takes too long."""
        for each in (self._reporter, self._account_sync):
            if each is not None:
                each.hang_up()
        if self._stop.is_set():
            return
        self._reporting.start_if_due()
        if self._settings.webhook is not None and self._settings.stripe_key is not None:
            self._following.start_if_due()

    def close(self) -> None:
        """Wait a moment for what is under way, and close the connections."""
        for errand, worker in ((self._reporting, self._reporter), (self._following, self._account_sync)):
            if errand.join(STOP_SECONDS) and worker is not None:
                worker.close()

    def reporter(self) -> Reporter:
        """
        What reports and corrects; made by its first use.

        Raises:
            LedgerError: The ledger's URL cannot be used.
            ConfigurationError: There is no key.
        """
        from meterkit.reporting.reporter import Reporter

        key = key_of(self._settings)
        database, settings = self._database(), self._settings
        with self._opening:
            if self._reporter is None:
                self._reporter = Reporter(
                    database,
                    clock=settings.clock,
                    api_key=key,
                    base=settings.stripe_base,
                    stop=self._stop,
                    via=settings.report_via,
                    late=settings.late,
                    keep_days=settings.keep_days,
                    find_payers=self._find_payers,
                )
            return self._reporter

    def account_sync(self) -> AccountSync:
        """
        What asks Stripe for customers, subscriptions and invoices; made by its first use.

        Raises:
            LedgerError: The ledger's URL cannot be used.
            ConfigurationError: There is no key.
        """
        from meterkit.webhooks.account_sync import AccountSync

        key = key_of(self._settings)
        database, settings = self._database(), self._settings
        with self._opening:
            if self._account_sync is None:
                self._account_sync = AccountSync(
                    database,
                    clock=settings.clock,
                    api_key=key,
                    base=settings.stripe_base,
                    metadata_key=settings.metadata_key,
                    stop=self._stop,
                )
            return self._account_sync

    def _find_payers(self) -> None:
        """Ask the application who pays for companies of which nobody has said it, and remember what it answers."""
        from meterkit.accounts.accounts import Accounts

        find_customer = self._settings.find_customer
        if find_customer is None:
            return
        accounts = Accounts(self._database(), clock=self._settings.clock)
        for company in accounts.unlinked():
            if self._stop.is_set():
                return
            try:
                customer = find_customer(company)
                if customer is not None:
                    accounts.link(company, checked_customer(customer), source="resolver")
            except LedgerError:
                raise
            except Exception as error:
                self._problems.note("find_customer_failed", f"find_customer({company!r:.100}) failed: {error!r:.200}")

    def _noted(self, found: SyncResult) -> SyncResult:
        for company in found.ambiguous:
            self._problems.note(
                "company_ambiguous",
                f"the metadata of two Stripe customers name the company {company!r:.100}; the first goes on to pay. "
                "Take it off one of them, or decide with kit.link()",
            )
        return found

    def _report_in_background(self) -> float:
        # Soon after the hour, when every process has flushed what it counted in it.
        grace = 2 * self._settings.flush_interval
        interval = self._settings.report_interval
        due = time.monotonic() + interval - self._settings.clock() % interval + grace
        try:
            trouble = self.report().trouble
        except Exception as error:
            trouble = str(error) or repr(error)
        if trouble:
            self._problems.note(
                "report_failed", f"usage could not be reported to Stripe: {trouble}", level=logging.ERROR
            )
            return min(due, self._reporting.after_failure())
        self._reporting.succeeded()
        return due

    def _follow_in_background(self) -> float:
        try:
            found = self.follow()
            trouble = found.error
        except Exception as error:
            trouble = str(error) or repr(error)
        if trouble:
            self._problems.note("follow_failed", f"Stripe could not be asked for what webhooks told of: {trouble}")
            return self._following.after_failure()
        self._problems.clear("follow_failed")
        self._following.succeeded()
        if found.customers or found.subscriptions or found.invoices:
            self._changed()
        return time.monotonic()
