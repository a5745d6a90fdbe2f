"""
Background jobs that talk to Stripe: report, sync accounts, and top up balances.

Each runs in a thread of its own, so that flushes are not delayed if Stripe does not respond, and webhook events are not
delayed by a long report.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from meterkit.core import live_key, threads
from meterkit.core.problems import Problems, shown
from meterkit.core.threads import Event
from meterkit.core.validation import checked_customer
from meterkit.errors import ConfigurationError, LedgerError, WebhookError
from meterkit.flusher.periodic import PeriodicTask
from meterkit.runtime.settings import Settings, is_live, key_of

if TYPE_CHECKING:  # SQLAlchemy and stripe are imported by a thread, or by a call that needs them
    from meterkit.ledger.database import Database
    from meterkit.outbox.outbox import Summary
    from meterkit.reporting.reporter import Reporter
    from meterkit.reporting.top_up_invoices import TopUpInvoices
    from meterkit.webhooks.account_sync import AccountSync, SyncResult

NO_KEY = (
    "no Stripe key: set STRIPE_SECRET_KEY or pass stripe_key=; until then, usage is counted and kept, but not reported"
)

STOP_SECONDS = 0.3
"""How long an exit waits for running jobs. A meter event that was cut off is sent again with the same identifier."""

TOP_UP_SECONDS = 10.0
"""Interval at which balances are looked at for automatic top-ups."""

TOP_UP_AGAIN_SECONDS = 60.0
"""Interval while one is in trouble: what could not be charged goes on then, so the trouble is named throughout."""

_BUSY_SECONDS = 0.05
"""How long the last report waits while another process is reporting."""


class StripeJobs:
    """
    Runs the jobs of one process that talk to Stripe.

    Args:
        settings: Settings of the kit.
        problems: Where problems are reported.
        database: Function that opens and returns the ledger's database.
        stop: Event that is set when the process ends.
        changed: Function that is called when an event or a sync may change which requests are allowed.

    Attributes:
        last_report: Summary of this process's latest report, or None.
        reported_at: Time of this process's latest report that left nothing behind, Unix seconds, or None.
        received_webhooks: Number of webhook events that this process received.
        refused_webhooks: Number of webhook requests that this process refused.
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
        self._ending = Event()  # ends the last report, which begins when `stop` is set
        self._opening = threads.rlock()
        self._reporter: Reporter | None = None
        self._lookup_error = ""  # of find_customer=, in the latest report
        self._account_sync: AccountSync | None = None
        self._reporting = PeriodicTask(self._report_in_background, "meterkit-report", settings.report_interval)
        self._top_ups: TopUpInvoices | None = None
        self._following = PeriodicTask(self._follow_in_background, "meterkit-follow", settings.report_interval)
        self._topping_up = PeriodicTask(self._top_up_in_background, "meterkit-top-up", settings.report_interval)
        self.last_report: Summary | None = None
        self.reported_at: float | None = None
        self.received_webhooks = 0
        self.refused_webhooks = 0

    def report(self, *, include_open: bool = False) -> Summary:
        """
        Send the usage of closed windows to Stripe.

        Args:
            include_open: Also send the usage of open windows.

        Raises:
            LedgerError: The ledger failed. Nothing is lost; report again.
            ConfigurationError: The key is live, and this is a test run; or the ledger belongs to the other mode.
        """
        from meterkit.outbox.outbox import Summary

        if self._settings.stripe_key is None:
            return Summary(error="" if self._settings.is_shadow() else NO_KEY)
        self._lookup_error = ""
        self.last_report = self.reporter().run(include_open=include_open)
        self.last_report.error = self.last_report.error or self._lookup_error
        if not self.last_report.trouble:
            self.reported_at = self._settings.clock()
            self._problems.clear("report_failed")
        return self.last_report

    def receive(self, payload: bytes | str, signature: str | None) -> bool:
        """
        Store a webhook event.

        Args:
            payload: Body of the request, byte for byte.
            signature: Value of the header ``Stripe-Signature``, or None.

        Returns:
            False if the event arrived before.

        Raises:
            WebhookError: The request is not a valid event from Stripe.
            LedgerError: The event could not be stored.
            ConfigurationError: The kit has no webhook.
        """
        from meterkit.accounts.inbox import Inbox
        from meterkit.webhooks.verification import read

        webhook, clock = self._settings.webhook, self._settings.clock
        if webhook is None:
            raise ConfigurationError("this kit has no webhook=: pass Webhook('/stripe/webhook', secret='whsec_...')")
        try:
            livemode, account = is_live(self._settings.stripe_key), self._settings.stripe_account
            event = read(payload, signature, webhook, now=clock(), livemode=livemode, account=account)
        except WebhookError as error:
            self.refused_webhooks += 1
            if not self.received_webhooks:  # after a valid event, the secret is right, and the request is not Stripe's
                self._problems.note("webhook_refused", f"a webhook request was refused: {error}")
            raise
        is_new = Inbox(self._database(), clock=clock).put(event)
        self.received_webhooks += 1
        self._problems.clear("webhook_refused")
        if is_new:
            self._changed()  # to sync the account now
        return is_new

    def follow(self) -> SyncResult:
        """
        Read the objects that waiting webhook events are about.

        Raises:
            LedgerError: The ledger failed; the webhook events wait.
            ConfigurationError: There is no Stripe key.
        """
        found = self._report_ambiguous(self.account_sync().follow())
        if found.closing:
            # By then, every process has flushed what it counted before the period's end.
            self._reporting.hasten(2 * self._settings.flush_interval)
        return found

    def sync(self) -> SyncResult:
        """
        Read all customers, subscriptions and invoices from Stripe.

        Raises:
            LedgerError: The ledger failed.
            ConfigurationError: There is no Stripe key.
        """
        return self._report_ambiguous(self.account_sync().sync())

    def top_up(self) -> str:
        """
        Charge the automatic top-ups that are due.

        Returns:
            Why some have to wait for Stripe; empty if none has to.

        Raises:
            LedgerError: The ledger failed.
            ConfigurationError: There is no Stripe key; or the ledger belongs to the other mode.
        """
        return self._top_up_invoices().run()

    def tick(self, *, starts: bool = True) -> None:
        """
        Start the jobs that are due, and abort calls that take too long. Called by the background thread.

        Args:
            starts: Whether this process is the one that starts them.
        """
        for each in (self._reporter, self._account_sync, self._top_ups):
            if each is not None:
                each.hang_up()
        if self._stop.is_set() or not starts:
            return
        if live_key.refuses(self._settings.stripe_key):
            self._problems.note("live_key_in_tests", live_key.LIVE_REFUSED)
            return
        self._reporting.start_if_due()
        if self._settings.webhook is not None and self._settings.stripe_key is not None:
            self._following.start_if_due()
        if self._settings.wallets and self._settings.stripe_key is not None and not self._settings.is_shadow():
            self._topping_up.start_if_due()

    def close(self) -> None:
        """Wait a moment for running jobs, and close the connections to Stripe."""
        for task, worker in (
            (self._reporting, self._reporter),
            (self._following, self._account_sync),
            (self._topping_up, self._top_ups),
        ):
            if task.join(STOP_SECONDS) and worker is not None:
                worker.close()

    def report_last(self) -> None:
        """
        Send everything to Stripe, including the open hour, until `end_last_report` is called.

        What is left is sent by the next process that has this ledger.
        """
        if self._settings.stripe_key is None:
            return
        try:
            trouble = self._report_all()
        except Exception as error:
            trouble = str(error) or repr(error)
        if trouble:
            self.note_last_report_failed(trouble)

    def _report_all(self) -> str:
        """Return why not everything was reported; "" if all was, or if the books name what was refused."""
        from meterkit.outbox.other_mode import check_mode

        check_mode(self._database())
        reporter = self._make_reporter(self._ending)
        while True:
            summary = reporter.run(include_open=True)
            is_settled = not summary.postponed and (summary.rejected or summary.uncertain)
            if is_settled or not summary.error or self._ending.wait(_BUSY_SECONDS):  # another process may be reporting
                reporter.close()
                return "" if is_settled else summary.error

    def end_last_report(self) -> None:
        """End `report_last` at its next request."""
        self._ending.set()

    def note_last_report_failed(self, why: str) -> None:
        """Note that usage is left which `report_last` should have reported."""
        message = f"the last usage could not be reported to Stripe, and is left in the ledger: {why}"
        self._problems.note("report_failed", message, level=logging.ERROR)

    def reporter(self) -> Reporter:
        """
        Return the reporter of this process.

        Raises:
            LedgerError: The ledger's URL cannot be used.
            ConfigurationError: There is no Stripe key; or the ledger belongs to the other mode.
        """
        from meterkit.outbox.other_mode import check_mode

        check_mode(self._database())
        with self._opening:
            if self._reporter is None:
                self._reporter = self._make_reporter(self._stop)
            return self._reporter

    def _make_reporter(self, stop: Event) -> Reporter:
        from meterkit.reporting.reporter import Reporter

        settings = self._settings
        return Reporter(
            self._database(),
            clock=settings.clock,
            api_key=key_of(settings),
            base=settings.stripe_base,
            account=settings.stripe_account,
            stop=stop,
            via=settings.report_via,
            keys=settings.payload_keys,
            late=settings.late,
            keep_days=settings.keep_days,
            find_payers=self._find_payers,
            is_shadow=settings.is_shadow,
            rates=settings.rates,
        )

    def account_sync(self) -> AccountSync:
        """
        Return the account sync of this process.

        Raises:
            LedgerError: The ledger's URL cannot be used.
            ConfigurationError: There is no Stripe key; or the ledger belongs to the other mode.
        """
        from meterkit.outbox.other_mode import check_mode
        from meterkit.webhooks.account_sync import AccountSync

        key = key_of(self._settings)
        database, settings = self._database(), self._settings
        check_mode(database)
        with self._opening:
            if self._account_sync is None:
                self._account_sync = AccountSync(
                    database,
                    clock=settings.clock,
                    api_key=key,
                    base=settings.stripe_base,
                    account=settings.stripe_account,
                    metadata_key=settings.metadata_key,
                    stop=self._stop,
                    wallets=settings.wallets,
                )
            return self._account_sync

    def _top_up_invoices(self) -> TopUpInvoices:
        from meterkit.outbox.other_mode import check_mode
        from meterkit.reporting.top_up_invoices import TopUpInvoices
        from meterkit.top_ups.attempts import Attempts

        key, settings, database = key_of(self._settings), self._settings, self._database()
        check_mode(database)
        with self._opening:
            if self._top_ups is None:
                self._top_ups = TopUpInvoices(
                    Attempts(database, settings.wallets, clock=settings.clock),
                    api_key=key,
                    base=settings.stripe_base,
                    account=settings.stripe_account,
                    clock=settings.clock,
                    metadata_key=settings.metadata_key,
                    is_shadow=settings.is_shadow,
                    read=lambda invoice: self.account_sync().refresh([("invoice", invoice)]).error,
                    stop=self._stop,
                )
            return self._top_ups

    def _find_payers(self) -> None:
        """Call ``find_customer=`` for unlinked companies with usage, and link those that it finds."""
        from meterkit.accounts.accounts import Accounts

        find_customer = self._settings.find_customer
        if find_customer is None:
            return
        accounts = Accounts(self._database(), clock=self._settings.clock)
        for company in accounts.unlinked(shadowed=True):
            if self._stop.is_set():
                return
            try:
                customer = find_customer(company)
                if customer is not None:
                    accounts.link(company, checked_customer(customer, company), source="resolver")
            except LedgerError:
                raise
            except Exception as error:
                self._lookup_error = f"find_customer({company!r:.100}) failed: {shown(error)}"
                self._problems.note("find_customer_failed", self._lookup_error, error=error, company=company)

    def _report_ambiguous(self, found: SyncResult) -> SyncResult:
        for company in found.ambiguous:
            self._problems.note(
                "company_ambiguous",
                f"the metadata or Checkout sessions of two Stripe customers name the company {company!r:.100}; the "
                "first keeps paying for it. Remove it from one of them, or decide with kit.link()",
                company=company,
            )
        return found

    def _report_in_background(self) -> float:
        # Soon after the hour: once every process has flushed what it counted in it.
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
            self._problems.note("follow_failed", f"accounts could not be synced after a webhook event: {trouble}")
            return self._following.after_failure()
        self._problems.clear("follow_failed")
        self._following.succeeded()
        if found.customers or found.subscriptions or found.invoices:
            self._changed()
        return time.monotonic()

    def _top_up_in_background(self) -> float:
        try:
            trouble = self.top_up()
        except Exception as error:
            trouble = str(error) or repr(error)
        if trouble:
            self._problems.note("top_up_failed", f"a balance could not be topped up: {trouble}", level=logging.ERROR)
            return time.monotonic() + TOP_UP_AGAIN_SECONDS  # not ever later: others may wait for theirs
        self._problems.clear("top_up_failed")
        return time.monotonic() + TOP_UP_SECONDS
