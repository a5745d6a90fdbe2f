"""
Wiring: the kit, which a developer builds once and hands to the middleware.

Building it checks the configuration and does nothing else: no thread, no file, no socket. The first exchange that
counts starts the process's `meterkit.flusher.Flusher`, in a forked child as well.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from meterkit.configuration import (
    FindCustomer,
    check_identify,
    checked_clock,
    checked_meters,
    checked_prices,
    settings_of,
)
from meterkit.counting import Counting, Identify
from meterkit.errors import UsageError
from meterkit.limits import checked_customer, checked_id
from meterkit.meter import Meter
from meterkit.pricing import Price
from meterkit.problems import Problems
from meterkit.processes import Processes
from meterkit.rulebook import Rulebook
from meterkit.webhook import Webhook, checked_webhook
from meterkit.windows import Windows

if TYPE_CHECKING:
    from meterkit.flusher import Flusher
    from meterkit.following import Followed
    from meterkit.inbox import WebhookEvent
    from meterkit.ledger import Usage
    from meterkit.outbox import Summary
    from meterkit.previewing import Preview
    from meterkit.standing import Account


class MeterKit:
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
        report_via: One meter event after the other, or in Stripe's stream, a hundred at once.
        late: Usage that comes when its invoice is final is reported, and named; or is an item of the next invoice.
        webhook: Where Stripe tells what changes: who pays, and who has not paid.
        metadata_key: Under which the metadata of a Stripe customer name the company that it pays for.
        find_customer: Who pays for a company that nobody has linked: called with its id before a report, answers
            ``cus_...``, which is remembered, or None.
        clock: Unix time in seconds.

    Attributes:
        meters: By name.
        prices: In their order.
        counting: What the middleware calls.
        clock: As it was given.
        webhook: As it was given.

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
        webhook: Webhook | None = None,
        metadata_key: str = "company",
        find_customer: FindCustomer | None = None,
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

    def __repr__(self) -> str:
        key = self._settings.stripe_key
        masked = None if key is None else f"{key[:8] if key.startswith(('sk_', 'rk_')) else ''}..."
        return f"MeterKit(meters={list(self.meters)}, stripe_key={masked!r}, data_dir={str(self._settings.data_dir)!r})"

    def record(
        self,
        meter: Meter | str,
        company: str,
        quantity: int = 1,
        *,
        user: str | None = None,
        at: datetime | None = None,
    ) -> None:
        """
        Count work that is no HTTP exchange: a job, a message, a night's storage.

        Args:
            meter: The meter, or its name.
            company: The id of the company that pays.
            quantity: 0 to 999,999,999,999,999, in the meter's unit.
            user: The id of the user within the company.
            at: When it was used, with a time zone, up to 35 days ago; by default now.

        Raises:
            UsageError: An argument cannot be counted; nothing was.
        """
        name = meter.name if isinstance(meter, Meter) else meter
        if not isinstance(name, str) or name not in self.meters:
            raise UsageError(
                f"this kit has no meter {name!r:.120}, only {', '.join(self.meters)}", reason="meter_unknown"
            )
        self.counting.record(self.meters[name], company, quantity, user=user, at=at)

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
        if company.startswith("cus_"):
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

    def preview(self, company: str) -> list[Preview]:
        """
        The next invoice of each subscription that pays for *company*, as it stands, with usage that is not reported.

        From the ledger, as far as Stripe's webhooks or `sync()` have told of subscriptions: no request is made.

        Raises:
            LedgerError: The ledger failed.
            ConfigurationError: A price of Stripe's cannot be computed here.
        """
        from meterkit.previewing import previews

        self.flush()
        return previews(self.process().database(), company, clock=self.clock)

    def webhook_events(self, *, limit: int = 100) -> list[WebhookEvent]:
        """
        The latest webhook events, newest first, and what came of them.

        Raises:
            LedgerError: The ledger cannot be read.
        """
        return self.process().inbox().events(limit=limit)

    def customers(self) -> list[Account]:
        """
        How each company stands: who pays for it, its subscriptions, what is overdue, and what usage waits.

        Raises:
            LedgerError: The ledger cannot be read.
        """
        from meterkit.standing import accounts

        return accounts(self.process().database(), clock=self.clock)

    def sync(self) -> Followed:
        """
        Read all customers, subscriptions and unsettled invoices from Stripe, as after webhooks that were missed.

        Raises:
            LedgerError: The ledger could not keep them.
        """
        return self.process().courier.sync()

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

    def health(self) -> dict[str, Any]:
        """
        Whether all is well, ready for ``json.dumps``. Never raises; reads the journal and the ledger.

        Returns:
            ``ok``: nothing needs attention.
            ``attention``: sentences that say what does, and the cure.
            ``books``: by meter, where its usage is, and whether that is ``balanced``; None if the ledger fails.
            ``problems``: what went wrong in this process, ``{reason: {"count": ..., "message": ...}}``.
        """
        from meterkit.health import health

        return health(self.process(), self._settings, self._problems)

    def process(self) -> Flusher:
        """What belongs to this process, for meterkit's own commands."""
        return self._processes.flusher()

    def close(self) -> None:
        """
        Flush and stop. Never raises, and takes some seconds at worst. A count after that starts the kit again.
        """
        self._processes.close()
