"""
Wiring: the kit, which a developer builds once and hands to the middleware.

Building it checks the configuration and does nothing else: no thread, no file, no socket. The first exchange that
counts starts the process's `meterkit.runtime.process.Flusher`, in a forked child as well.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Literal

from meterkit.core.problems import Problems
from meterkit.core.validation import checked_customer, checked_id, is_customer_id
from meterkit.core.windows import Windows
from meterkit.errors import UsageError
from meterkit.inquiry import Inquiry
from meterkit.metering.identification import Identify
from meterkit.metering.matching import Rulebook
from meterkit.metering.meter import Meter
from meterkit.metering.recorder import Counting
from meterkit.pricing.price import Price
from meterkit.runtime.settings import (
    FindCustomer,
    check_identify,
    checked_clock,
    checked_meters,
    checked_prices,
    settings_of,
)
from meterkit.runtime.supervisor import Processes
from meterkit.webhooks.config import Webhook, checked_webhook

if TYPE_CHECKING:  # who may pass, who is told, and the page are imported by the kits that have them
    from meterkit.adapters.customer_page import Page
    from meterkit.governance.governor import Governor
    from meterkit.governance.policy import Governance, Quota
    from meterkit.notices.dispatcher import MakeNotifier
    from meterkit.notices.rules import Notify
    from meterkit.outbox.outbox import Summary
    from meterkit.runtime.process import Flusher
    from meterkit.webhooks.account_sync import Followed


class MeterKit(Inquiry):
    """
    Counts usage, keeps it, and reports it to Stripe.

    Args:
        meters: Which exchanges count, and for how much.
        prices: What they cost; each for one of the meters.
        identify: Who pays: ``Exchange -> str | Identity | None``, called once for each exchange that counts, unless
            the view called ``meterkit.identify()``. Answer what you have authenticated: whoever may choose the
            answer by sending a header chooses who pays.
        stripe_key: Stripe's secret key, by default from ``STRIPE_SECRET_KEY``. Without one, usage is counted and
            kept, and not reported.
        stripe_base: Another address for Stripe's API, by default from ``METERKIT_STRIPE_BASE``: the sandbox's.
        data_dir: A directory of this host for the journal and the ledger, by default from ``METERKIT_DATA_DIR``,
            or ``.meterkit``. Processes that share it share the usage in it.
        ledger: SQLAlchemy's URL of the ledger, by default from ``METERKIT_LEDGER``, or SQLite in *data_dir*.
        flush_interval: Seconds between two moves from the journal to the ledger: what a power cut may lose.
        report_interval: Seconds between two reports to Stripe.
        report_via: In a request for each meter event, or in Stripe's stream, a hundred at once.
        late: Usage that comes when its invoice is final is reported, and named; or is an item of the next invoice.
        keep_days: For how long usage is kept whose fate is known, 70 days at least; None keeps it for ever. Sums by day
            stay.
        webhook: Where Stripe tells what changes: who pays, and who has not paid.
        metadata_key: Under which the metadata of a Stripe customer name the company that it pays for.
        find_customer: Who pays for a company that nobody has linked: called with its id before a report, answers
            ``cus_...``, which is remembered, or None.
        governance: Who may pass; decided before the app runs.
        notify: What is told to whom.
        customer_page: A path, such as ``/billing/usage``, at which the middleware answers each company with its own
            usage, tiers, next invoice and standing, as JSON.
        clock: Unix time in seconds.

    Attributes:
        meters: By name.
        prices: In their order.
        counting: What the middleware calls.
        clock: As it was given.
        webhook: As it was given.
        governor: What the middleware asks who may pass; None where everybody may.
        notify: As it was given.
        page: What it asks for a customer's own usage; None where that is not shown.

    Raises:
        ConfigurationError: Something is wrong; the message says how to mend it.
    """

    def __init__(
        self,
        *,
        meters: Iterable[Meter],
        prices: Iterable[Price] = (),
        identify: Identify | None = None,
        stripe_key: str | None = None,
        stripe_base: str | None = None,
        data_dir: str | os.PathLike[str] | None = None,
        ledger: str | None = None,
        flush_interval: float = 5.0,
        report_interval: float = 3600.0,
        report_via: Literal["v1", "stream"] = "v1",
        late: Literal["report", "next_invoice"] = "report",
        keep_days: int | None = None,
        webhook: Webhook | None = None,
        metadata_key: str = "company",
        find_customer: FindCustomer | None = None,
        governance: Governance | None = None,
        notify: Iterable[Notify] = (),
        customer_page: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.meters = checked_meters(meters)
        self.prices = checked_prices(prices, self.meters)
        check_identify(identify)
        self.webhook = checked_webhook(webhook)
        self.clock = checked_clock(clock)
        self._settings = settings_of(
            data_dir=data_dir,
            ledger=ledger,
            stripe_key=stripe_key,
            stripe_base=stripe_base,
            flush_interval=flush_interval,
            report_interval=report_interval,
            report_via=report_via,
            late=late,
            keep_days=keep_days,
            clock=clock,
            webhook=self.webhook,
            metadata_key=metadata_key,
            find_customer=find_customer,
        )
        self._problems = Problems()
        windows = Windows()
        self._processes = Processes(self._settings, self._problems, windows)
        rulebook = Rulebook(self.meters.values())
        self.counting = Counting(
            rulebook=rulebook,
            identify=identify,
            sink=self._processes,
            problems=self._problems,
            clock=clock,
            windows=windows,
        )
        self.governor = None if governance is None else self._governor_of(governance)
        self.notify = () if notify == () else self._told_by(notify, governance)
        quotas = () if governance is None else governance.quotas
        self.page = None if customer_page is None else self._page_of(customer_page, quotas)

    def __repr__(self) -> str:
        key = self._settings.stripe_key
        masked = None if key is None else f"{key[:8] if key.startswith(('sk_', 'rk_')) else ''}..."
        return f"MeterKit(meters={list(self.meters)}, stripe_key={masked!r}, data_dir={str(self._settings.data_dir)!r})"

    def _page_of(self, path: str, quotas: Iterable[Quota]) -> Page:
        from meterkit.adapters.customer_page import Page, check_path

        check_path(path, None if self.webhook is None else self.webhook.path)
        return Page(path, self, counting=self.counting, prices=self.prices, meters=self.meters, quotas=quotas)

    def _told_by(self, notify: Iterable[Notify], governance: Governance | None) -> tuple[Notify, ...]:
        from meterkit.notices.rules import checked_notify

        rules = checked_notify(notify, self.meters, self.prices, governance)
        if rules:
            self._processes.notifier = self._notifier_of(rules, governance)
        return rules

    def _notifier_of(self, rules: tuple[Notify, ...], governance: Governance | None) -> MakeNotifier:
        from meterkit.notices.dispatcher import Notifier

        return partial(
            Notifier,
            rules,
            meters=self.meters,
            prices=self.prices,
            governance=governance,
            problems=self._problems,
            clock=self.clock,
        )

    def _governor_of(self, governance: Governance) -> Governor:
        from meterkit.governance.governor import Governor
        from meterkit.governance.policy import check_governance

        check_governance(governance, self.meters)
        governor = Governor(
            governance,
            meters=self.meters,
            prices=self.prices,
            counting=self.counting,
            begin=lambda: self._processes.flusher(counting=True).begin(),
            problems=self._problems,
            clock=self.clock,
        )
        self._processes.governor = governor
        return governor

    def record(
        self,
        meter: Meter | str,
        company: str,
        quantity: int = 1,
        *,
        user: str | None = None,
        value: str | None = None,
        at: datetime | None = None,
    ) -> None:
        """
        Count work that is no HTTP exchange: a job, a message, a night's storage.

        Args:
            meter: The meter, or its name.
            company: The id of the company that pays.
            quantity: 0 to 999,999,999,999,999, in the meter's unit.
            user: The id of the user within the company.
            value: What a meter with ``value=unique(...)`` counts once, unless that is the user. Of one with
                ``maximum(...)``, *quantity* is the value.
            at: When it was used, with a time zone, up to 35 days ago; by default now.

        Raises:
            UsageError: An argument cannot be counted; nothing was.
        """
        name = meter.name if isinstance(meter, Meter) else meter
        if not isinstance(name, str) or name not in self.meters:
            raise UsageError(
                f"this kit has no meter {name!r:.120}, only {', '.join(self.meters)}", reason="meter_unknown"
            )
        self.counting.measuring.record(self.meters[name], company, quantity, user=user, value=value, at=at)

    def link(self, company: str, customer: str) -> None:
        """
        Say which Stripe customer pays for *company*. What waits for this is sent with the next report.

        A company id that is a Stripe customer id (``cus_...``) needs no link. Talks to the ledger: not for views.

        Args:
            company: As the application knows it.
            customer: ``cus_...``.

        Raises:
            UsageError: One of them is not such an id.
            LedgerError: The ledger could not keep it.
        """
        checked_id(company, "company")
        checked_customer(customer)
        if is_customer_id(company):
            raise UsageError(
                f"{company!r:.60} is a Stripe customer id, and pays for itself", reason="company_is_customer"
            )
        self.process().accounts().link(company, customer)

    def flush(self) -> None:
        """
        Move usage from the journal to the ledger, also what dead processes left. Happens by itself every few seconds.

        Raises:
            LedgerError: The ledger failed; nothing is lost.
        """
        self.process().flush()

    def report(self, *, include_open: bool = False) -> Summary:
        """
        Flush, and send to Stripe the usage of all hours that have ended. Happens by itself every hour.

        Args:
            include_open: The hour that is still open, too; its later usage becomes a further meter event.

        Raises:
            LedgerError: The ledger failed; nothing is lost.
        """
        self.flush()
        return self.process().courier.report(include_open=include_open)

    def receive(self, payload: bytes | str, signature: str | None) -> bool:
        """
        Take a webhook event; for views of one's own, where ``Webhook(path)`` is not answered by the middleware.

        Talks to the ledger: in an async view, call it in a thread.

        Args:
            payload: The request's body, byte for byte.
            signature: Its header ``Stripe-Signature``.

        Returns:
            False if it has come before, which Stripe need not know.

        Raises:
            WebhookError: It is not Stripe's; answer with its ``status``.
            LedgerError: It could not be kept; answer 503, and Stripe sends it again.
        """
        return self._processes.flusher(counting=True).receive(payload, signature)

    def sync(self) -> Followed:
        """
        Read all customers, subscriptions and unsettled invoices from Stripe, as after webhooks that were missed.

        Raises:
            LedgerError: The ledger could not keep them.
        """
        return self.process().courier.sync()

    def process(self) -> Flusher:
        """What belongs to this process, for meterkit's own commands."""
        return self._processes.flusher()

    def close(self) -> None:
        """
        Flush and stop. Never raises, and takes some seconds at worst. A count after that starts the kit again.
        """
        self._processes.close()
