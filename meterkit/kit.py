"""
The kit: what a developer builds once and hands to the middleware.

Building it validates the configuration and does nothing else: no thread, no file, no socket. The first exchange that
counts starts the runtime of its process, in a forked child as well.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from meterkit.core.periods import DAY
from meterkit.core.problems import Problems
from meterkit.core.validation import SubjectId, checked_by, checked_customer, checked_subject_id, is_customer_id
from meterkit.core.windows import Windows
from meterkit.errors import UsageError
from meterkit.flusher.importable import Importable
from meterkit.jetstream.config import JetStream
from meterkit.metering.identification import Identify
from meterkit.metering.matching import MeterMatcher
from meterkit.metering.meter import Meter
from meterkit.metering.recorder import Recorder
from meterkit.pages.config import Pages, checked_pages
from meterkit.pricing.plan import Plan, checked_plans
from meterkit.pricing.price import Price
from meterkit.runtime.assembly import Assembly
from meterkit.runtime.settings import (
    FindCustomer,
    check_identify,
    checked_clock,
    checked_meters,
    checked_prices,
    settings_of,
)
from meterkit.runtime.supervisor import Supervisor
from meterkit.webhooks.config import Webhook, check_webhook_url, checked_webhook

if TYPE_CHECKING:  # imported by the kits and the calls that need them
    from meterkit.accounts.inbox import WebhookEvent
    from meterkit.accounts.overview import AccountOverview, UnlinkedCustomer
    from meterkit.governance.blocked_requests import BlockedRequests
    from meterkit.governance.policy import Governance
    from meterkit.ledger.actions import Action
    from meterkit.ledger.ledger import Usage
    from meterkit.notices.rules import Notify
    from meterkit.notices.store import NoticeDelivery
    from meterkit.outbox.corrections import Correction
    from meterkit.outbox.credits import Credit
    from meterkit.outbox.outbox import Summary
    from meterkit.pages.site import Site
    from meterkit.pricing.preview import Preview
    from meterkit.pricing.simulation import SimulatedBill
    from meterkit.provisioning.move import Move
    from meterkit.provisioning.steps import ProvisioningPlan, Step
    from meterkit.provisioning.subscription import SubscriptionResult
    from meterkit.reporting.explanation import Explanation
    from meterkit.reporting.reconciliation import Reconciliation
    from meterkit.runtime.backfill import BackfillResult
    from meterkit.runtime.process import ProcessRuntime
    from meterkit.webhooks.account_sync import SyncResult


class MeterKit:
    """
    Counts usage, keeps it, and reports it to Stripe.

    Args:
        meters: Meters: which exchanges count, and for how much.
        prices: Prices of the meters, for a kit that sells one thing; otherwise, see *plans*.
        plans: Plans that companies subscribe to, instead of *prices*.
        default_plan: Name of the plan of companies without a subscription; None if they have none, and owe nothing.
        identify: Function ``Exchange -> str | Identity | None``, plain or async, that returns the company that pays,
            and optionally its user. Called once for each exchange that counts, unless the view called
            ``meterkit.identify()``. Required with *governance* and *customer_page*, which call it before the app runs,
            as *pages* do. Return only what you have authenticated: whoever can choose the result by sending a header
            chooses who pays. ``"view"`` leaves it to the views, which ask governance themselves, with
            `meterkit.fastapi.Billing`, `meterkit.starlette.govern`, `meterkit.django.govern` or
            `meterkit.flask.govern`.
        stripe_key: Stripe's secret key; by default ``STRIPE_SECRET_KEY``. Without one, usage is counted and kept, but
            not reported.
        stripe_base: Base URL of Stripe's API, such as the sandbox's; by default ``METERKIT_STRIPE_BASE``.
        stripe_account: Connected account, ``acct_...``, whose customers the kit bills with the key of its platform; by
            default the key's own account. One kit for each, with a ledger of its own.
        data_dir: Directory on this host for the journal and the ledger; by default ``METERKIT_DATA_DIR``, or
            ``.meterkit``. Processes that share it share the usage in it.
        ledger: SQLAlchemy URL of the ledger; by default ``METERKIT_LEDGER``, or SQLite in *data_dir*.
        flush_interval: Seconds between two moves from the journal to the ledger: what a power cut may lose.
        report_interval: Seconds between two reports to Stripe.
        flusher: Where the usage of this host is flushed and reported: ``process`` starts one for it that ends with the
            worker that started it, and all workers only count; ``thread`` is a thread of one of the workers. By
            default ``METERKIT_FLUSHER``, or ``thread``. Neither does anything as long as ``meterkit run`` does it.
        report_via: ``v1`` sends a request for each meter event; ``stream`` sends a hundred at once to Stripe's meter
            event stream.
        report_on_close: Whether `close` also reports the open hour, for at most five seconds; for containers whose disk
            goes with them.
        late: ``report`` reports and names usage that arrives after its invoice was finalized; ``next_invoice`` makes it
            an item of the next invoice.
        keep_days: Days for which settled usage is kept, at least 70; None keeps it for ever. Daily totals are always
            kept.
        jetstream: NATS JetStream to which hosts publish what they have counted, for ``meterkit collect`` to fold into
            the ledger; by default, each host does that itself.
        webhook: Endpoint at which Stripe tells of customers, subscriptions and invoices.
        metadata_key: Key under which the metadata of a Stripe customer name the company that it pays for.
        find_customer: Function that returns the ``cus_...`` that pays for a company, or None; called before a report
            for companies that are not linked. The result is remembered.
        customer_ids: Whether a company id of the form ``cus_...`` is the Stripe customer that pays. Only where nobody
            can choose an id of their own: a tenant who signs up as another's customer id would have that one pay.
        governance: Rules for which requests are allowed; decided before the app runs.
        notify: Rules for who is notified of what.
        customer_page: Path, such as ``/billing/usage``, at which the middleware shows each company its own usage,
            tiers, next invoice and standing, as JSON.
        pages: Pages that the middleware shows to customers and the team.
        clock: Function that returns Unix seconds.

    Attributes:
        meters: Meters by name.
        prices: Prices in the order given; empty with *plans*.
        plans: Plans by name.
        default_plan: Plan of companies without a subscription, or None.
        recorder: Recorder that the middleware calls.
        clock: Function that returns Unix seconds.
        webhook: Endpoint configuration, or None.
        endpoint: Responds to Stripe's webhook requests; None if no path of the middleware does.
        governor: Decides whether a request is allowed; None if all are.
        notify: Rules for who is notified of what.
        page: Serves the pages and the customer page; None if there are none.

    Raises:
        ConfigurationError: An argument is wrong; the message says how to correct it.
    """

    def __init__(
        self,
        *,
        meters: Iterable[Meter],
        prices: Iterable[Price] = (),
        plans: Iterable[Plan] = (),
        default_plan: str | None = None,
        identify: Identify | Literal["view"] | None = None,
        stripe_key: str | None = None,
        stripe_base: str | None = None,
        stripe_account: str | None = None,
        data_dir: str | os.PathLike[str] | None = None,
        ledger: str | None = None,
        flush_interval: float = 5.0,
        report_interval: float = 3600.0,
        flusher: Literal["process", "thread"] | None = None,
        report_via: Literal["v1", "stream"] = "v1",
        report_on_close: bool = False,
        late: Literal["report", "next_invoice"] = "report",
        keep_days: int | None = None,
        jetstream: JetStream | None = None,
        webhook: Webhook | None = None,
        metadata_key: str = "company",
        find_customer: FindCustomer | None = None,
        customer_ids: bool = False,
        governance: Governance | None = None,
        notify: Iterable[Notify] = (),
        customer_page: str | None = None,
        pages: Pages | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.meters = checked_meters(meters)
        self.prices = checked_prices(prices, self.meters)
        self.plans = checked_plans(plans, default_plan, meters=self.meters, prices=self.prices)
        self.default_plan = None if default_plan is None else self.plans[default_plan]
        has_limits = any(plan.limits for plan in self.plans.values())
        check_identify(identify, governance=governance, limits=has_limits, customer_page=customer_page)
        self.webhook = checked_webhook(webhook)
        self.clock = checked_clock(clock)
        self._settings = settings_of(
            data_dir=data_dir,
            ledger=ledger,
            stripe_key=stripe_key,
            stripe_base=stripe_base,
            stripe_account=stripe_account,
            flush_interval=flush_interval,
            report_interval=report_interval,
            report_via=report_via,
            report_on_close=report_on_close,
            late=late,
            keep_days=keep_days,
            clock=clock,
            webhook=self.webhook,
            metadata_key=metadata_key,
            find_customer=find_customer,
            customer_ids=customer_ids,
            flusher=flusher,
            meters=self.meters.values(),
            is_free=self._is_free if self.plans else None,
            jetstream=jetstream,
        )
        self._problems = Problems()
        windows = Windows()
        self._supervisor = Supervisor(self._settings, self._problems, windows)
        self._supervisor.meters = self.meters
        if self._settings.flusher == "process":
            self._supervisor.importable = Importable(self, names=[*self.meters, *self.plans])
        self.recorder = Recorder(
            matcher=MeterMatcher(self.meters.values()),
            identify=None if identify == "view" else identify,
            sink=self._supervisor,
            problems=self._problems,
            clock=clock,
            windows=windows,
        )
        self._supervisor.unmatched = self.recorder.evaluator.unmatched
        assembly = Assembly(
            supervisor=self._supervisor,
            recorder=self.recorder,
            meters=self.meters,
            prices=self.prices,
            plans=self.plans,
            default_plan=self.default_plan,
            governance=governance,
            problems=self._problems,
            health=self.health,
            clock=clock,
            in_view=identify == "view",
            is_published=jetstream is not None,
        )
        self._assembly = assembly
        self._company_plans = assembly.company_plans()
        self.governor = assembly.governor()
        self.notify = assembly.notify(notify)
        self._pages = checked_pages(pages)
        self.page = assembly.pages(self._pages, customer_page=customer_page, webhook=self.webhook)
        self.endpoint = assembly.webhook_endpoint(self.webhook, receive=self.receive)

    def __repr__(self) -> str:
        key = self._settings.stripe_key
        masked = None if key is None else f"{key[:8] if key.startswith(('sk_', 'rk_')) else ''}..."
        return f"MeterKit(meters={list(self.meters)}, stripe_key={masked!r}, data_dir={str(self._settings.data_dir)!r})"

    def record(
        self,
        meter: Meter | str,
        company: SubjectId,
        quantity: int = 1,
        *,
        user: SubjectId | None = None,
        value: str | None = None,
        at: datetime | None = None,
        key: str | None = None,
    ) -> None:
        """
        Count work that is not an HTTP exchange: a job, a message, a night's storage.

        Args:
            meter: Meter, or its name.
            company: Id of the company that pays; an int or a UUID stands for its text.
            quantity: 0 to 999,999,999,999,999, in the meter's unit.
            user: Id of the user within the company.
            value: Value that a ``value=unique(...)`` meter counts once, unless that is the user. For a ``maximum(...)``
                meter, *quantity* is the value.
            at: Time of the usage, with a time zone, up to 35 days ago; by default now.
            key: Name of this piece of work, such as the id of a task, at most 255 characters. For 35 days, the same key
                counts once per meter and company, in whichever process; the first quantity counts. Not for meters with
                ``unique(...)`` or ``maximum(...)``.

        Raises:
            UsageError: An argument cannot be counted; nothing was.
        """
        self.recorder.evaluator.record(self._meter(meter), company, quantity, user=user, value=value, at=at, key=key)

    def link(self, company: SubjectId, customer: str, *, by: str | None = None) -> None:
        """
        Set the Stripe customer that pays for *company*. Usage that waits for this goes out with the next report.

        With ``customer_ids=True``, a company id that is a Stripe customer id (``cus_...``) needs no link, and can have
        none. Writes to the ledger: not for views.

        Args:
            company: Company id, as the application knows it.
            customer: Stripe customer id: ``cus_...``, one that was chosen, or ``acct_...`` of API v2.
            by: Who links them; kept for `actions`.

        Raises:
            UsageError: One of them is not such an id, or *company* pays for itself.
            LedgerError: The ledger failed.
        """
        self.process().accounts().link(*self._checked_link(company, customer), by=checked_by(by))

    def link_all(self, links: Mapping[str, str], *, by: str | None = None) -> int:
        """
        Link many companies to the Stripe customers that pay for them: all, or none if one is wrong.

        Args:
            links: Stripe customer id of each company id; as for `link`.
            by: Who links them; kept for `actions`.

        Returns:
            Number of links that are new or have changed.

        Raises:
            UsageError: An id is wrong, or a company pays for itself; nothing was linked.
            LedgerError: The ledger failed; nothing was linked.
        """
        checked = dict(self._checked_link(company, customer) for company, customer in links.items())
        return self.process().accounts().link_all(checked, by=checked_by(by))

    def _checked_link(self, company: SubjectId, customer: str) -> tuple[str, str]:
        company = checked_subject_id(company, "company")
        if self._settings.customer_ids and is_customer_id(company):
            raise UsageError(
                f"{company!r:.60} is a Stripe customer id, and pays for itself because of customer_ids=True; without "
                "that, it can be linked",
                reason="company_is_customer",
            )
        return company, checked_customer(customer, company)

    def can(self, company: SubjectId, feature: str) -> bool:
        """
        Return whether the plan of *company* has *feature*; for views. Never waits for Stripe.

        Follows what webhooks or `sync()` have told, with each flush. The first call in a process reads the ledger, the
        others memory. If the ledger cannot be read, the answer is True.

        Args:
            company: Company id, as ``identify=`` returns it.
            feature: Name of the feature, as in ``Plan(features=...)``.

        Raises:
            UsageError: No plan has such a feature.
        """
        if self._company_plans is None:
            raise UsageError("this kit has no plans=, so it has no features; add a Plan", reason="feature_unknown")
        return self._company_plans.can(checked_subject_id(company, "company"), feature)

    def plan_of(self, company: SubjectId) -> Plan | None:
        """
        Return the plan of *company*: that of its newest running subscription to one, or the default plan, or None.

        Args:
            company: Company id, as ``identify=`` returns it.

        Raises:
            LedgerError: It is the first call in this process, and the ledger cannot be read.
        """
        if self._company_plans is None:
            return None
        return self._company_plans.looked_up(checked_subject_id(company, "company"))

    def refresh(self, company: SubjectId) -> None:
        """
        Have governance look at *company* anew: ask each ``limit=`` function again, and add up what it has spent.

        For the code that changes a plan, which meterkit cannot know of; what Stripe tells of a customer or subscription
        does the same. Takes effect with a flush that follows at once; on other hosts, with their next one. Writes to
        the ledger: not for async views.

        Args:
            company: Company id, as ``identify=`` returns it.

        Raises:
            UsageError: It is not such an id.
            LedgerError: The ledger failed.
        """
        from meterkit.accounts.news import ask_again

        ask_again(self.process().database(), checked_subject_id(company, "company"), int(self.clock()))
        self.process().wake()

    def flush(self) -> None:
        """
        Move usage from the journal to the ledger, including that of dead processes. Runs by itself every few seconds.

        When it returns, the ledger has all that this process has counted, whichever process flushes otherwise.
        With ``jetstream=``, JetStream has it, and the ledger when a collector has come to it.

        Raises:
            LedgerError: The ledger failed, or another process takes too long to move what this one has handed over to
                it; nothing is lost.
        """
        self.process().flush()

    def report(self, *, include_open: bool = False) -> Summary:
        """
        Flush, and send the usage of all hours that have ended to Stripe. Runs by itself every hour.

        Args:
            include_open: Also send the hour that is still open; its later usage becomes a further meter event.

        Raises:
            LedgerError: The ledger failed; nothing is lost.
            ConfigurationError: The Stripe key is live, and this is a test run.
        """
        self.flush()
        return self.process().stripe_jobs.report(include_open=include_open)

    def receive(self, payload: bytes | str, signature: str | None) -> bool:
        """
        Take a webhook event, in a view of your own, where ``Webhook(None)`` leaves the path to the application.

        Writes to the ledger: in an async view, call it in a thread.

        Args:
            payload: Body of the request, byte for byte.
            signature: Its ``Stripe-Signature`` header.

        Returns:
            False if the event has arrived before, which Stripe need not know.

        Raises:
            WebhookError: The request is not Stripe's; respond with its ``status``.
            LedgerError: The event could not be kept; respond with 503, and Stripe sends it again.
        """
        return self._supervisor.runtime(counting=True).stripe_jobs.receive(payload, signature)

    def sync(self) -> SyncResult:
        """
        Read all customers, subscriptions and open invoices from Stripe, as after missed webhooks.

        Raises:
            LedgerError: The ledger failed.
        """
        return self.process().stripe_jobs.sync()

    def usage(
        self,
        *,
        company: str | None = None,
        meter: Meter | str | None = None,
        since: int | None = None,
        until: int | None = None,
    ) -> list[Usage]:
        """
        Return the usage in the ledger, by meter, company, user and window.

        Args:
            company: Only this company.
            meter: Only this meter.
            since: Only windows that start at this Unix second or later.
            until: Only windows that start before this Unix second.

        Raises:
            LedgerError: The ledger cannot be read.
        """
        name = meter.name if isinstance(meter, Meter) else meter
        return self.process().ledger().usage(company=company, meter=name, since=since, until=until)

    def preview(self, company: str) -> list[Preview]:
        """
        Return the next invoice of each subscription that pays for *company*, including usage that is not reported yet.

        Computed from the ledger, as far as webhooks or `sync()` have described the subscriptions; makes no request.

        Raises:
            LedgerError: The ledger failed.
            ConfigurationError: A price cannot be computed here; or the ledger belongs to the other mode than the key.
        """
        from meterkit.outbox.other_mode import refuse_other_mode
        from meterkit.pricing.preview import previews

        refuse_other_mode(self.process().database())
        self.flush()
        return previews(self.process().database(), company, clock=self.clock)

    def simulate(self, *, month: str | None = None, former: Iterable[Price] | None = None) -> list[SimulatedBill]:
        """
        Price a month's usage by the kit's prices, or those of each company's plan, beside what it cost.

        Args:
            month: Month in UTC, such as ``2026-03``; by default this month.
            former: Prices to compare with; by default those that Stripe has.

        Raises:
            UsageError: *month* is not a month.
            LedgerError: The ledger failed.
        """
        from meterkit.core.periods import parse_month
        from meterkit.pricing.simulation import simulate

        start, end = parse_month(month, self.clock())
        self.flush()
        database = self.process().database()
        about: Any = {"former": former, "prices_of": self._sold_to if self.plans else None}
        return simulate(database, start=start, end=end, meters=self.meters, prices=self.prices, **about)

    def statement(self, company: SubjectId) -> dict[str, Any]:
        """
        Return what *company* may see of its account, as the customer page shows it: for templates of your own.

        Usage, tiers and quotas, the next invoice, standing and twelve months; ``docs/customer-page.md`` describes it.
        As of the last flush. Reads the ledger: in an async view, call it in a thread.

        Args:
            company: Company id, as ``identify=`` returns it.

        Raises:
            UsageError: It is not such an id.
            LedgerError: The ledger cannot be read.
        """
        return self._assembly.statements(self._company_plans).of(checked_subject_id(company, "company"))

    def customers(self) -> list[AccountOverview]:
        """
        Return each company's billing state: its Stripe customer, subscriptions, standing, and usage that waits.

        Also names the usage that no price bills, see ``unbilled``.

        Raises:
            LedgerError: The ledger cannot be read.
        """
        from meterkit.accounts.overview import accounts
        from meterkit.outbox.unbilled import by_company, unbilled

        database = self.process().database()
        named = unbilled(database, now=int(self.clock()), is_free=self._settings.is_free)
        found = accounts(database, clock=self.clock, unbilled=by_company(named))
        if self._company_plans is None:
            return found
        plans = {each.company: self._company_plans.read(each.company) for each in found}
        return [replace(each, plan=None if (plan := plans[each.company]) is None else plan.name) for each in found]

    def unlinked_customers(self) -> list[UnlinkedCustomer]:
        """
        Return the Stripe customers that pay for no company, as far as webhooks or `sync()` have described them.

        Raises:
            LedgerError: The ledger cannot be read.
        """
        from meterkit.accounts.overview import unlinked_customers

        return unlinked_customers(self.process().database())

    def webhook_events(self, *, limit: int = 100) -> list[WebhookEvent]:
        """
        Return the latest *limit* webhook events and what became of them, newest first.

        Raises:
            LedgerError: The ledger cannot be read.
        """
        return self.process().inbox().events(limit=limit)

    def notices(self, *, limit: int = 100, company: str | None = None) -> list[NoticeDelivery]:
        """
        Return the latest *limit* deliveries of notices, newest first, one for each notice and channel.

        Raises:
            LedgerError: The ledger cannot be read.
        """
        from meterkit.notices.store import NoticeStore

        return NoticeStore(self.process().database(), clock=self.clock).deliveries(limit=limit, company=company)

    def stopped(self, *, days: int = 31) -> list[BlockedRequests]:
        """
        Return how many requests were blocked in the last *days*, by company, reason and day.

        Raises:
            LedgerError: The ledger cannot be read.
        """
        from meterkit.governance.blocked_requests import stopped

        return stopped(self.process().database(), since=int(self.clock()) - days * DAY)

    def health(self) -> dict[str, Any]:
        """
        Return whether all is well, ready for ``json.dumps``. Never raises; reads the journal and the ledger.

        Returns:
            ``ok``: Nothing needs attention.
            ``attention``: Sentences that say what needs attention, and the cure.
            ``books``: By meter, where its usage is, and whether that is ``balanced``; None if the ledger fails.
            ``free``: Late usage that is billed nowhere because it was free, and why.
            ``problems``: What went wrong in this process, ``{reason: {"count": ..., "message": ...}}``.
            ``flusher``: Who flushes: the ``setting``, the ``holder`` of the lock, the ``child`` of this process, and
            why this one flushes ``in_thread`` in spite of the setting; each but the first may be None.
            ``unmatched``: How many successes of this process no meter matched, ``{"GET /docs": 3}``: by method, and by
            route template where one is known, otherwise by path.
            ``stopped``: How many requests this process blocked, by reason.
        """
        from meterkit.runtime.health import health

        stopped = {} if self.governor is None else dict(self.governor.total)
        unmatched = self.recorder.evaluator.unmatched.as_dict()
        found = health(self.process(), self._supervisor.settings, self._problems)
        return {**found, "unmatched": unmatched, "stopped": stopped}

    def correct(
        self,
        meter: Meter | str,
        company: str,
        quantity: int,
        *,
        at: datetime,
        reason: str = "",
        by: str | None = None,
    ) -> Correction:
        """
        Reverse usage that was counted by mistake. Units that Stripe already has are canceled or offset there.

        A final invoice does not change: `credits_due` and `health` name what is then to be credited.

        Args:
            meter: Meter, or its name.
            company: Id of the company that was charged.
            quantity: Units to reverse, 1 or more.
            at: A time in the hour of the usage, with a time zone, up to 35 days ago.
            reason: Why; kept in the ledger.
            by: Who corrects it; kept for `actions`.

        Raises:
            UsageError: An argument is wrong, or less than *quantity* was used in that hour; nothing was reversed.
            LedgerError: The ledger or Stripe failed, or another process is reporting; try again.
            ConfigurationError: There is no Stripe key.
        """
        found = self._meter(meter)
        self.flush()
        return self.process().commands().correct(found, company, quantity, at=at, reason=reason, by=checked_by(by))

    def corrections(self) -> list[Correction]:
        """
        Return all corrections, oldest first.

        Raises:
            LedgerError: The ledger cannot be read.
        """
        from meterkit.outbox.corrections import Corrections

        return Corrections(self.process().database(), clock=self.clock).corrections()

    def credits_due(self, *, days: int = 100) -> list[Credit]:
        """
        Return what is to be credited in Stripe: usage that was reversed after its invoice was final.

        From the report on that follows the correction, and whether or not it has been credited.

        Args:
            days: Days back to the report.

        Raises:
            LedgerError: The ledger cannot be read.
        """
        from meterkit.outbox.credits import credits_due

        return credits_due(self.process().database(), since=int(self.clock()) - days * DAY)

    def retry(self, identifier: str | None = None, *, by: str | None = None) -> int:
        """
        Queue rejected meter events again, for the next report. Returns how many.

        Args:
            identifier: Identifier of one event; None retries all rejected ones.
            by: Who retries them; kept for `actions`.

        Raises:
            LedgerError: The ledger failed, or another process is reporting; try again.
            ConfigurationError: There is no Stripe key.
        """
        return self.process().stripe_jobs.reporter().retry(identifier=identifier, by=checked_by(by))

    def decide(self, identifier: str, *, arrived: bool, by: str | None = None) -> bool:
        """
        Settle a meter event of unknown outcome, after a look at Stripe's dashboard.

        Args:
            identifier: Identifier of the uncertain event.
            arrived: True if Stripe has the event. If not, its usage is reported again, as another event.
            by: Who decides it; kept for `actions`.

        Returns:
            False if no event of that identifier is uncertain.

        Raises:
            LedgerError: The ledger failed, or another process is reporting; try again.
            ConfigurationError: There is no Stripe key.
        """
        return self.process().stripe_jobs.reporter().decide(identifier, arrived=arrived, by=checked_by(by))

    def forget_user(self, company: SubjectId, user: SubjectId, *, by: str | None = None) -> int:
        """
        Remove a user's id from the ledger. What is counted and billed stays the same, without the user.

        Counts that other processes have not flushed yet are not included: call it when their flush interval has passed.

        Args:
            company: Company id.
            user: Id of the user within the company.
            by: Who asks for it; kept for `actions`, which do not name the user.

        Returns:
            Number of rows that named the user.

        Raises:
            UsageError: One of them is not such an id; nothing was changed.
            LedgerError: The ledger failed, or another process is reporting; nothing was changed, try again.
        """
        from meterkit.outbox.erasure import forget_user

        company, user = checked_subject_id(company, "company"), checked_subject_id(user, "user")
        self.flush()
        return forget_user(self.process().database(), company, user, by=checked_by(by), clock=self.clock)

    def forget_mode(self, *, by: str | None = None) -> str | None:
        """
        Delete what the one of Stripe's modes told that the ledger belongs to, so that it can belong to the other.

        That is customers, subscriptions, invoices, and the links to these customers. Usage stays: what is not reported
        yet is reported in the mode of the next key.

        Args:
            by: Who asks for it; kept for `actions`.

        Returns:
            Mode that the ledger belonged to: ``live`` or ``test``, or ``live of acct_...`` for a connected account;
            None if it belonged to none.

        Raises:
            LedgerError: The ledger failed, or another process is reporting or syncing; nothing was changed, try again.
        """
        from meterkit.outbox.other_mode import forget_mode

        return forget_mode(self.process().database(), by=checked_by(by), clock=self.clock)

    def actions(self, *, limit: int = 100) -> list[Action]:
        """
        Return the latest *limit* links, corrections, retries, decisions and deletions, and who made them, newest first.

        Raises:
            LedgerError: The ledger cannot be read.
        """
        from meterkit.ledger.actions import latest

        return latest(self.process().database(), limit=limit)

    def reconcile(self, *, month: str | None = None) -> list[Reconciliation]:
        """
        Compare the ledger with what Stripe has added up, for each customer and meter of a month.

        Args:
            month: Month in UTC, such as ``2026-03``; by default this month.

        Raises:
            UsageError: *month* is not a month, or has not begun.
            LedgerError: The ledger cannot be read.
            ConfigurationError: There is no Stripe key.
        """
        return self.process().commands().reconcile(month)

    def explain(self, company: str, meter: Meter | str, *, month: str | None = None) -> list[Explanation]:
        """
        Trace a company's invoice lines to meter events, and those to usage, for each billing period of a month.

        Args:
            company: Company id.
            meter: Meter, or the name of one that has left the code.
            month: Month in UTC, such as ``2026-03``; by default this month.

        Raises:
            UsageError: *month* is not a month, or has not begun.
            LedgerError: The ledger failed.
        """
        self.flush()
        return self.process().commands().explain(company, meter.name if isinstance(meter, Meter) else meter, month)

    def provision(
        self,
        *,
        webhook: str | None = None,
        dry_run: bool = False,
        on_plan: Callable[[ProvisioningPlan], object] | None = None,
        on_step: Callable[[Step], object] | None = None,
    ) -> ProvisioningPlan:
        """
        Make Stripe's meters, products and prices match the code. Can be repeated.

        What Stripe cannot change is drift: the plan names it, with the choices that are left, and it is not touched.

        Args:
            webhook: URL of the webhook endpoint to make, as Stripe reaches it, such as
                ``https://api.example.com/stripe/webhook``; None leaves the account's endpoints alone. The plan then has
                the `webhook_secret`, once.
            dry_run: Only plan; change nothing.
            on_plan: Called with the plan before its first step.
            on_step: Called after each step.

        Returns:
            The plan, with its steps.

        Raises:
            UsageError: *webhook* is not such a URL.
            StripeFailedError: Stripe failed or refused; completed steps stay, and another run continues.
            ConfigurationError: There is no Stripe key, or two prices have the same lookup key.
        """
        if webhook is not None:
            check_webhook_url(webhook, self.webhook)
        commands = self.process().commands()
        about: Any = {"dry_run": dry_run, "on_plan": on_plan, "on_step": on_step}
        return commands.provision(self.meters, self.prices, self.plans.values(), webhook=webhook, **about)

    def subscribe(
        self,
        company: SubjectId,
        *,
        plan: str | None = None,
        prices: Iterable[str] = (),
        currency: str | None = None,
        name: str | None = None,
        email: str | None = None,
        days_until_due: int | None = None,
    ) -> SubscriptionResult:
        """
        Create the Stripe customer and the subscription if they do not exist, and link the company. Can be repeated.

        A customer that is linked already is taken, and what is missing is added to a subscription of it that runs in
        the same currency and interval.

        Args:
            company: Company id.
            plan: Name of the plan; required if the kit has plans, unless *prices* are given.
            prices: Lookup keys of the prices, instead of a plan; by default all prices of the kit, which must be of
                different meters.
            currency: Currency of the plan; by default the one that the customer is billed in, or the plan's own.
            name: Name of a new customer.
            email: E-mail address of a new customer.
            days_until_due: Send invoices due after this many days; None charges automatically. For a new subscription.

        Raises:
            UsageError: *company* is not a company id; the choice is wrong; the company pays for the same meters by
                other prices; or another customer has the e-mail address. Nothing was changed.
            StripeFailedError: Stripe failed or refused.
            ConfigurationError: There is no Stripe key, or a price does not exist in Stripe yet.
            LedgerError: The ledger failed.
        """
        from meterkit.provisioning.offer import offer_of

        about = {key: given for key, given in {"name": name, "email": email}.items() if given}
        company = checked_subject_id(company, "company")
        offer = offer_of(self.prices, self.plans, plan=plan, keys=prices, currency=currency)
        return self.process().commands().subscribe(company, offer, about=about, days_until_due=days_until_due)

    def checkout_url(
        self,
        company: SubjectId,
        *,
        success_url: str,
        cancel_url: str | None = None,
        plan: str | None = None,
        prices: Iterable[str] = (),
        currency: str | None = None,
        email: str | None = None,
    ) -> str:
        """
        Return the URL of a page of Stripe's, Checkout, on which a company subscribes and enters how it pays.

        The same call returns the same page until the company has subscribed, or a day has passed. The webhook links
        the company when it has paid; see `webhook`. Asks Stripe, so it takes as long as Stripe does.

        Args:
            company: Company id.
            success_url: Absolute URL to which Stripe sends the browser afterwards.
            cancel_url: Absolute URL to which the browser can go back; None for no link back.
            plan: Name of the plan; required if the kit has plans, unless *prices* are given.
            prices: Lookup keys of the prices, instead of a plan; by default all prices of the kit, which must be of
                different meters.
            currency: Currency of the plan; by default the one that the customer is billed in, or the plan's own.
            email: E-mail address that a new customer finds filled in.

        Raises:
            UsageError: *company* is not a company id; the choice is wrong; or the company has a subscription (reason
                ``subscription_exists``).
            StripeFailedError: Stripe failed or refused.
            ConfigurationError: There is no Stripe key, or a price does not exist in Stripe yet.
            LedgerError: The ledger failed.
        """
        from meterkit.provisioning.offer import offer_of

        company = checked_subject_id(company, "company")
        offer = offer_of(self.prices, self.plans, plan=plan, keys=prices, currency=currency)
        about: Any = {"email": email, "success_url": success_url, "cancel_url": cancel_url}
        return self.process().commands().checkout_url(company, offer, **about)

    def portal_url(self, company: SubjectId, *, return_url: str | None = None) -> str:
        """
        Return the URL of Stripe's customer portal for who pays for *company*: to pay, change cards, and cancel.

        Whoever has the URL can, for some minutes, and for all that this Stripe customer pays for: hand it to nobody
        else. Configure the portal in Stripe's dashboard once. Asks Stripe, so it takes as long as Stripe does.

        Args:
            company: Company id.
            return_url: Absolute URL to which the portal leads back; None for the one in the portal's settings.

        Raises:
            UsageError: *company* is not a company id, or no Stripe customer pays for it yet.
            StripeFailedError: Stripe failed or refused.
            ConfigurationError: There is no Stripe key.
            LedgerError: The ledger failed.
        """
        company = checked_subject_id(company, "company")
        return self.process().commands().portal_url(company, return_url=return_url, alone=False)

    def embed_token(self, company: SubjectId, *, expires_in: float = 600.0) -> str:
        """
        Return a token that shows the page of *company* in an iframe: ``<iframe src="/billing/embed?token=...">``.

        Whoever has the token sees the usage and the invoices of that company, and can change nothing. Make one for
        each view of the page with the iframe. Asks nobody.

        Args:
            company: Company id; make certain that the viewer belongs to it.
            expires_in: Seconds for which the token can be used, 1 to 86,400.

        Raises:
            UsageError: *company* is not a company id, or *expires_in* out of bounds.
            ConfigurationError: ``Pages(embed_in=...)`` lets nobody embed the page.
        """
        from meterkit.pages.embed_tokens import embed_tokens_of

        return embed_tokens_of(self._pages, clock=self.clock).make(company, expires_in)

    def move(
        self,
        *,
        to: str,
        plan: str | None = None,
        price: str | None = None,
        company: SubjectId | None = None,
        dry_run: bool = False,
        on_plan: Callable[[list[Move]], object] | None = None,
        on_move: Callable[[Move], object] | None = None,
    ) -> list[Move]:
        """
        Move subscriptions to another plan or price, or to the present version of a plan. Can be repeated.

        First reports the open hour: in flexible billing mode, Stripe bills what was used before at the old price. One
        request moves one subscription; a run that was broken off is continued by the next.

        Args:
            to: Name of the plan to move to, which may be the same; with *price*, lookup key or id of the new price.
            plan: Name of the plan to move from, in any version.
            price: Lookup key or id of the price to move from; the same as *to* for what that has replaced.
            company: Only the subscriptions that pay for this company.
            dry_run: Only plan; change nothing.
            on_plan: Called with what will be done, before it is.
            on_move: Called after each subscription that was moved.

        Returns:
            What became of each subscription, with what the last full month cost and would have cost.

        Raises:
            UsageError: The choice is wrong, or there is no such plan or price.
            StripeFailedError: Stripe failed or refused; what was moved stays, and another run continues.
            ConfigurationError: There is no Stripe key, or a price of the plan does not exist in Stripe yet.
            LedgerError: The ledger failed.
        """
        from meterkit.provisioning.offer import plan_named

        if (plan is None) is (price is None):
            raise UsageError("choose what to move from: a plan or a price (plan= or price=)", reason="move_wrong")
        new = to if plan is None else plan_named(to, self.plans)
        self.flush()
        return (
            self.process()
            .commands()
            .move(
                old=str(price if plan is None else plan),
                new=new,
                meters=self.meters,
                company=None if company is None else checked_subject_id(company, "company"),
                dry_run=dry_run,
                on_plan=on_plan,
                on_move=on_move,
            )
        )

    def backfill(
        self,
        path: str | os.PathLike[str],
        *,
        already_reported: bool = False,
        track: Callable[[Iterable[int], int], Iterable[int]] = lambda portions, _: portions,
    ) -> BackfillResult:
        """
        Import past usage from a CSV file; the same file counts once, however often it is imported.

        Args:
            path: File in UTF-8 with the columns ``meter,company,quantity,at`` and optionally ``user``.
            already_reported: Whether another program has reported all of it to Stripe. Then it counts in tiers, quotas,
                caps, previews and on pages, and is never sent. Its companies must be linked.
            track: Wraps the portions and their number, to show progress.

        Raises:
            UsageError: Something in the file cannot be counted; nothing was. Or a company of usage that was reported
                is not linked.
            OSError: The file cannot be read.
            LedgerError: The ledger failed; import again.
        """
        from meterkit.runtime.backfill import backfill

        return backfill(
            self.process(),
            self.meters,
            Path(path),
            now=self.clock(),
            track=track,
            already_reported=already_reported,
        )

    def process(self) -> ProcessRuntime:
        """Return the runtime of this process; for meterkit's own parts."""
        return self._supervisor.runtime()

    def team_site(self, pages: Pages) -> Site:
        """Return what serves the team's pages alone, as *pages* says; for meterkit's own parts."""
        return self._assembly.team_site(pages)

    def close(self) -> None:
        """Flush and stop. Never raises, and takes some seconds at worst. A later count starts the kit again."""
        self._supervisor.close()

    def _sold_to(self, company: str) -> list[Price]:
        """Return the prices of the plan of *company* in all currencies; none without a plan."""
        plan = None if self._company_plans is None else self._company_plans.read(company)
        return [] if plan is None else [price for currency in plan.sold_in for price in plan.prices_in(currency)]

    def _is_free(self, company: str) -> bool:
        return self._company_plans is not None and self._company_plans.is_free(company)

    def _meter(self, meter: Meter | str) -> Meter:
        name = meter.name if isinstance(meter, Meter) else meter
        if not isinstance(name, str) or name not in self.meters:
            raise UsageError(
                f"this kit has no meter {name!r:.120}, only {', '.join(self.meters)}", reason="meter_unknown"
            )
        return self.meters[name]
