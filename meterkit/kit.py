"""
The kit: what a developer builds once and hands to the middleware.

Building it validates the configuration and does nothing else: no thread, no file, no socket. The first exchange that
counts starts the runtime of its process, in a forked child as well.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from meterkit.core.periods import DAY
from meterkit.core.problems import Problems
from meterkit.core.validation import (
    SubjectId,
    checked_by,
    checked_customer,
    checked_id,
    checked_subject_id,
    is_customer_id,
)
from meterkit.core.windows import Windows
from meterkit.errors import ConfigurationError, UsageError
from meterkit.flusher.default_shape import functions_called
from meterkit.flusher.importable import Importable, names_of
from meterkit.jetstream.config import JetStream
from meterkit.metering.dimensions.declaration import dimensions_named
from meterkit.metering.identification import Identify
from meterkit.metering.matching import MeterMatcher
from meterkit.metering.meter import Meter
from meterkit.metering.recorder import Recorder
from meterkit.pricing.plan import Plan, checked_plans
from meterkit.pricing.price import Price
from meterkit.pricing.rates.of_kit import rates_of, read_once, with_amounts
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
from meterkit.wallets.wallet import Wallet, checked_number, checked_wallets, pack_named, wallet_named
from meterkit.webhooks.config import Webhook, check_webhook_url, checked_webhook

if TYPE_CHECKING:  # imported by the kits and the calls that need them
    from meterkit.accounts.inbox import WebhookEvent
    from meterkit.accounts.overview import AccountOverview, UnlinkedCustomer
    from meterkit.events.counter import EventCounter
    from meterkit.forecast.forecast import Forecast
    from meterkit.governance.blocked_requests import BlockedRequests
    from meterkit.governance.policy import Governance
    from meterkit.holds.decorator import Estimate
    from meterkit.holds.hold import Hold
    from meterkit.holds.source import HoldSource
    from meterkit.holds.terms import Terms
    from meterkit.ledger.actions import Action
    from meterkit.ledger.dimensions.reading import UsageByValues
    from meterkit.ledger.ledger import Usage
    from meterkit.ledger.rating.reading import RatedUsage
    from meterkit.margin.cost import Cost
    from meterkit.margin.report import MarginReport
    from meterkit.notices.rules import Notify
    from meterkit.notices.store import NoticeDelivery
    from meterkit.outbox.corrections import Correction
    from meterkit.outbox.credits import Credit
    from meterkit.outbox.outbox import Summary
    from meterkit.pages.config import Pages
    from meterkit.pages.site import Site
    from meterkit.pricing.preview import Preview
    from meterkit.pricing.simulation import SimulatedBill
    from meterkit.provisioning.move import Move
    from meterkit.provisioning.steps import ProvisioningPlan, Step
    from meterkit.provisioning.subscription import SubscriptionResult
    from meterkit.rating.rerate import Rerated
    from meterkit.reporting.explanation import Explanation
    from meterkit.reporting.reconciliation import Reconciliation
    from meterkit.runtime.backfill import BackfillResult
    from meterkit.runtime.process import ProcessRuntime
    from meterkit.shadow.comparison import Comparison
    from meterkit.top_ups.agreements import TopUp
    from meterkit.wallets.amounts import Amount
    from meterkit.wallets.grants import Grant
    from meterkit.wallets.pack import Pack
    from meterkit.wallets.statement import Balance, Entry
    from meterkit.webhooks.account_sync import SyncResult


class MeterKit:
    """
    Counts usage, keeps it, and reports it to Stripe.

    Args:
        meters: Meters: which exchanges count, and for how much.
        prices: Prices of the meters, for a kit that sells one thing; otherwise, see *plans*.
        plans: Plans that companies subscribe to, instead of *prices*.
        default_plan: Name of the plan of companies without a subscription; None if they have none, and owe nothing.
        wallets: Prepaid balances of companies, and the meters whose usage spends them.
        costs: What units of the meters cost you, for `margin` and the team's page of it; shown to nobody else.
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
            default ``METERKIT_FLUSHER``, or ``process`` where that is certain to do the same as a thread, which
            docs/flusher.md says. Neither does anything as long as ``meterkit run`` does it.
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
        shadow: Whether another program bills, and meterkit only counts, prices and compares beside it: nothing is
            written to Stripe, nobody is blocked or notified, and what is counted is never billed. A time instead, a
            whole hour with a time zone, is the one from which meterkit bills.
        clock: Function that returns Unix seconds.

    Attributes:
        meters: Meters by name.
        prices: Prices in the order given; empty with *plans*.
        plans: Plans by name.
        default_plan: Plan of companies without a subscription, or None.
        wallets: Wallets by name.
        costs: Costs in the order given.
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
        wallets: Iterable[Wallet] = (),
        costs: Iterable[Cost] = (),
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
        shadow: bool | datetime = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        prices, plans = read_once(prices), read_once(plans)
        declared = checked_meters(meters)
        rates = rates_of(prices, plans, declared)
        self.meters = with_amounts(declared, rates)
        self.prices = checked_prices(prices, self.meters)
        self.plans = checked_plans(plans, default_plan, meters=self.meters, prices=self.prices)
        self.default_plan = None if default_plan is None else self.plans[default_plan]
        self.wallets = checked_wallets(
            wallets,
            self.meters,
            rated={name for each in rates.values() for name in (each.meter.name, each.amounts.name)},
        )
        self.costs = self._checked_costs(costs)
        has_limits = any(plan.limits for plan in self.plans.values())
        is_spent = any(self.meters[name].http for wallet in self.wallets.values() for name in wallet.rates)
        check_identify(
            identify, governance=governance, limits=has_limits, wallets=is_spent, customer_page=customer_page
        )
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
            shadow=shadow,
            meters=self.meters.values(),
            is_free=self._is_free if self.plans else None,
            jetstream=jetstream,
            wallets=self.wallets,
            rates=rates,
        )
        self._problems = Problems()
        windows = Windows(self._settings.shadow_until)
        self._supervisor = Supervisor(self._settings, self._problems, windows)
        self._supervisor.meters = self.meters
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
            costs=self.costs,
            in_view=identify == "view",
            is_published=jetstream is not None,
        )
        self._assembly = assembly
        self._company_plans = assembly.company_plans()
        self._hold_source: HoldSource | None = None
        self.governor = assembly.governor()
        self.notify = assembly.notify(notify)
        self._pages = assembly.checked_pages(pages)
        self.page = assembly.pages(self._pages, customer_page=customer_page, webhook=self.webhook)
        self.endpoint = assembly.webhook_endpoint(self.webhook, receive=self.receive)
        if self._settings.flusher == "process":
            quotas = [*(() if governance is None else governance.quotas)]
            quotas += [limit for plan in self.plans.values() for limit in plan.limits]
            functions = functions_called(find_customer, quotas=quotas, notify=self.notify)
            self._supervisor.importable = Importable(self, names=names_of(self), functions=functions)

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
        dimensions: Mapping[str, str | int | None] | None = None,
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
            dimensions: Values of the dimensions in the meter's ``by=``, by their names; a missing one is unknown.

        Raises:
            UsageError: An argument cannot be counted; nothing was.
        """
        found = self._meter(meter)
        about: Any = {"user": user, "value": value, "at": at, "key": key, "dimensions": dimensions}
        self.recorder.evaluator.record(found, company, quantity, **about)
        if self._hold_source is not None and key is None:
            from meterkit.holds.scope import cover

            cover(self.recorder.evaluator, checked_subject_id(company, "company"), found.name, quantity)

    def hold(
        self,
        company: SubjectId,
        estimate: Amount | None = None,
        *,
        meter: Meter | str | None = None,
        wallet: Wallet | str | None = None,
        user: SubjectId | None = None,
    ) -> Hold:
        """
        Return a hold: ``with kit.hold(company, 2_000) as hold:`` sets units aside for work that takes them.

        The block may wait for the ledger when it begins; ``async with`` does so in a thread. See docs/holds.md.

        Args:
            company: Id of the company that pays.
            estimate: Units of the meter to hold, 0 to 999,999,999,999,999; or an amount of the wallet, not a float. By
                default, what the company's work has usually taken in this process.
            meter: Meter that an exact quota or a wallet limits, or its name; by default the only one.
            wallet: Wallet of which to hold an amount for all its meters, or its name, instead of a meter.
            user: Id of the user within the company, for what `Hold.settle` counts; not with *wallet*.

        Raises:
            UsageError: An argument is wrong, or nothing limits the meter.
            InsufficientBalanceError: In the block's beginning: the company has less left.
        """
        from meterkit.holds.hold import Hold

        return Hold(self.hold_terms(company, estimate, meter=meter, wallet=wallet, user=user))

    def held(
        self,
        *,
        company: str = "company",
        estimate: Estimate = None,
        meter: Meter | str | None = None,
        wallet: Wallet | str | None = None,
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """
        Return a decorator that runs each call under a hold, which the function gets as its argument ``hold``.

        For plain and async functions, and for generators of either kind, which hold until they end.

        Args:
            company: Name of the function's argument with the company's id.
            estimate: What to hold, as `hold` takes it; or a function that takes the same arguments, without ``hold``,
                and returns that. By default, what the company's work has usually taken in this process.
            meter: Meter that an exact quota or a wallet limits, or its name; by default the only one.
            wallet: Wallet of which to hold an amount, or its name, instead of a meter.

        Raises:
            UsageError: Nothing limits the meter, or there is no such wallet.
            ConfigurationError: The function has no argument ``hold``, or none of the name *company*.
        """
        from meterkit.holds.decorator import held

        self.hold_terms("any", 0, meter=meter, wallet=wallet)

        def make(payer: SubjectId, units: Amount | None) -> Hold:
            return self.hold(payer, units, meter=meter, wallet=wallet)

        return lambda function: held(function, make, company=company, estimate=estimate)

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
        others memory. If the ledger cannot be read, and in shadow mode, the answer is True.

        Args:
            company: Company id, as ``identify=`` returns it.
            feature: Name of the feature, as in ``Plan(features=...)``.

        Raises:
            UsageError: No plan has such a feature.
        """
        if self._company_plans is None:
            raise UsageError("this kit has no plans=, so it has no features; add a Plan", reason="feature_unknown")
        can = self._company_plans.can(checked_subject_id(company, "company"), feature)
        return can or self._settings.is_shadow()

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

    def grant(
        self,
        company: SubjectId,
        wallet: Wallet | str,
        amount: Amount,
        *,
        key: str | None = None,
        priority: int = 50,
        expires: datetime | None = None,
        source: str = "manual",
        by: str | None = None,
        paid: Amount | None = None,
        currency: str = "usd",
    ) -> Grant:
        """
        Grant an amount to a company ahead of its usage: what it has paid for, or a gift.

        Takes effect at once. Writes to the ledger: not for async views.

        Args:
            company: Company id, as the application knows it.
            wallet: Wallet, or its name.
            amount: More than 0, in the wallet's unit or in whole currency, as a str, `Decimal` or int.
            key: Name of this grant, such as the id of a payment, at most 255 characters. The same key grants once per
                company and wallet, however often it is called. Without one, each call grants.
            priority: From 0 to 100; the lowest is spent first. Among equals, what expires sooner, then what is older.
            expires: Time at which the rest expires, with a time zone; None if it never does.
            source: Where it comes from; shown with the grant.
            by: Who grants it; kept for `actions`.
            paid: What was paid for it, in whole currency, without tax; `margin` takes it for revenue when usage spends
                the grant. None if nothing was, or if that is not known.
            currency: Three-letter code of the currency of *paid*.

        Raises:
            UsageError: An argument is wrong; or the key has granted another amount (reason ``grant_conflict``). Nothing
                was granted.
            LedgerError: The ledger failed. With a key, call again; without one, look at `balance` before.
        """
        from meterkit.wallets.amounts import checked_payment, millionths
        from meterkit.wallets.grants import checked_expiry, checked_key, checked_priority

        found = wallet_named(wallet, self.wallets)
        company = checked_subject_id(company, "company")
        return (
            self.process()
            .grants()
            .grant(
                company,
                found,
                millionths(amount, "amount"),
                key=checked_key(key),
                priority=checked_priority(priority),
                expires_at=checked_expiry(expires),
                source=checked_id(source, "source"),
                by=checked_by(by),
                payment=checked_payment(paid, currency),
            )
        )

    def revoke(
        self,
        company: SubjectId,
        wallet: Wallet | str,
        grant: str,
        *,
        amount: Amount | None = None,
        key: str | None = None,
        by: str | None = None,
    ) -> Decimal:
        """
        Take back what is left of a grant, such as after a refund, and return how much that was.

        What usage has spent is not taken back, nor what processes hold ahead for requests.

        Args:
            company: Company id, as the application knows it.
            wallet: Wallet, or its name.
            grant: Id of the grant, or the key under which it was granted.
            amount: How much to take back, in the wallet's unit or in whole currency; None for all that is left of it.
            key: Name of this revocation, such as the id of a refund. The same key takes back once per company and
                wallet.
            by: Who takes it back; kept for `actions`.

        Raises:
            UsageError: An argument is wrong; there is no such grant; less is left of it than *amount*; or the key has
                taken back another amount. Nothing was taken back.
            LedgerError: The ledger failed. With a key, call again; without one, look at `balance` before.
        """
        from meterkit.wallets.amounts import amount as whole
        from meterkit.wallets.amounts import millionths
        from meterkit.wallets.grants import checked_key

        found = wallet_named(wallet, self.wallets)
        company = checked_subject_id(company, "company")
        micros = None if amount is None else millionths(amount, "amount")
        about: Any = {"micros": micros, "key": checked_key(key), "by": checked_by(by)}
        return whole(self.process().grants().revoke(company, found, checked_id(grant, "grant"), **about))

    def balance(self, company: SubjectId, wallet: Wallet | str) -> Balance:
        """
        Return what a company has in a wallet, as the ledger has it: a few seconds of usage may be in the journal.

        Args:
            company: Company id, as the application knows it.
            wallet: Wallet, or its name.

        Raises:
            UsageError: An argument is wrong.
            LedgerError: The ledger cannot be read.
        """
        from meterkit.wallets.statement import balance_of

        found, company = wallet_named(wallet, self.wallets), checked_subject_id(company, "company")
        return balance_of(self.process().database(), company, found, now=int(self.clock()))

    def wallet_entries(self, company: SubjectId, wallet: Wallet | str, *, limit: int = 100) -> list[Entry]:
        """
        Return the latest movements of a company's balance, newest first; usage is summed up by meter and day.

        Args:
            company: Company id, as the application knows it.
            wallet: Wallet, or its name.
            limit: Number of movements at most.

        Raises:
            UsageError: An argument is wrong.
            LedgerError: The ledger cannot be read.
        """
        from meterkit.wallets.statement import entries_of

        found, company = wallet_named(wallet, self.wallets), checked_subject_id(company, "company")
        return entries_of(self.process().database(), company, found, limit=limit)

    def set_top_up(
        self,
        company: SubjectId,
        wallet: Wallet | str,
        pack: Pack | str,
        *,
        below: Amount,
        most_per_month: int = 10,
        by: str | None = None,
    ) -> TopUp:
        """
        Buy a pack for a company whenever its balance is low, as it has agreed: an automatic top-up.

        The process that flushes charges the company's card in Stripe, and the paid invoice becomes a grant. Replaces
        what the company agreed to before. Writes to the ledger: not for async views.

        Args:
            company: Company id, as the application knows it.
            wallet: Wallet, or its name.
            pack: Pack of the wallet, or its name. It must hold more than *below*.
            below: Balance below which it is bought, in the wallet's unit or in whole currency.
            most_per_month: How often it is bought in a calendar month (UTC), at most, from 1 to 1,000.
            by: Who has agreed; kept for `actions`.

        Raises:
            UsageError: An argument is wrong; or no Stripe customer pays for the company yet (reason
                ``customer_unknown``).
            LedgerError: The ledger failed.
        """
        from meterkit.top_ups.terms import checked_terms

        found, company = wallet_named(wallet, self.wallets), checked_subject_id(company, "company")
        terms = checked_terms(found, pack, below, most_per_month)
        return self.process().top_ups().set(company, found, terms, by=checked_by(by))

    def cancel_top_up(self, company: SubjectId, wallet: Wallet | str, *, by: str | None = None) -> bool:
        """
        End the automatic top-up of a company; return False if there was none.

        What was not charged yet is not charged any more.

        Args:
            company: Company id, as the application knows it.
            wallet: Wallet, or its name.
            by: Who wants it; kept for `actions`.

        Raises:
            UsageError: An argument is wrong.
            LedgerError: The ledger failed.
        """
        found, company = wallet_named(wallet, self.wallets), checked_subject_id(company, "company")
        return self.process().top_ups().cancel(company, found, by=checked_by(by))

    def top_up(self, company: SubjectId, wallet: Wallet | str) -> TopUp | None:
        """
        Return what a company has agreed to with `set_top_up`, and whether it is in force; None if it never has.

        Args:
            company: Company id, as the application knows it.
            wallet: Wallet, or its name.

        Raises:
            UsageError: An argument is wrong.
            LedgerError: The ledger cannot be read.
        """
        found, company = wallet_named(wallet, self.wallets), checked_subject_id(company, "company")
        return self.process().top_ups().of(company, found)

    def audit_wallets(self) -> list[str]:
        """
        Return a sentence about each thing that is wrong in the books of wallets; none unless meterkit has a fault.

        Each movement's entries must add up to 0, those of each grant to what remains of it, and what was spent must be
        for the usage that was counted. Reads all entries, so it takes some seconds where there are many.

        Raises:
            LedgerError: The ledger cannot be read.
        """
        from meterkit.wallets.audit import mistakes

        return mistakes(self.process().database())

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

    @overload
    def usage(
        self,
        *,
        company: str | None = None,
        meter: Meter | str | None = None,
        since: int | None = None,
        until: int | None = None,
    ) -> list[Usage]: ...

    @overload
    def usage(
        self,
        *,
        company: str | None = None,
        meter: Meter | str | None = None,
        since: int | None = None,
        until: int | None = None,
        by: str | Iterable[str],
    ) -> list[UsageByValues]: ...

    def usage(
        self,
        *,
        company: str | None = None,
        meter: Meter | str | None = None,
        since: int | None = None,
        until: int | None = None,
        by: str | Iterable[str] | None = None,
    ) -> list[Usage] | list[UsageByValues]:
        """
        Return the usage in the ledger, by meter, company, user and window; or by the values of dimensions.

        Args:
            company: Only this company.
            meter: Only this meter.
            since: Only windows that start at this Unix second or later.
            until: Only windows that start before this Unix second.
            by: Name of a dimension of the meters' ``by=``, or several: the usage of each combination of their values,
                of all users together. Values that nobody told are empty texts, so the sums are those of the meters.

        Raises:
            UsageError: *by* names no dimension of the kit's meters.
            LedgerError: The ledger cannot be read.
        """
        name = meter.name if isinstance(meter, Meter) else meter
        if by is None:
            return self.process().ledger().usage(company=company, meter=name, since=since, until=until)
        names = dimensions_named(by, self.meters.values())
        span: Any = {"since": since, "until": until, "company": company, "meter": name}
        return self.process().ledger().usage_by(names, **span)

    def rated(
        self, *, month: str | None = None, company: str | None = None, meter: Meter | str | None = None
    ) -> list[RatedUsage]:
        """
        Return a month's usage that has a price by its values (``Price.by``), with the rates that it was rated at.

        Args:
            month: Month in UTC, such as ``2026-03``; by default this month.
            company: Only this company.
            meter: Only this meter.

        Raises:
            UsageError: *month* is not a month.
            LedgerError: The ledger failed.
        """
        from meterkit.core.periods import parse_month
        from meterkit.ledger.rating.reading import rated_usage

        start, end = parse_month(month, self.clock())
        self.flush()
        name = meter.name if isinstance(meter, Meter) else meter
        return rated_usage(self.process().database(), since=start, until=end, company=company, meter=name)

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

    def margin(
        self, *, month: str | None = None, company: SubjectId | None = None, by: str | None = None
    ) -> MarginReport:
        """
        Return what is left of what a month's usage brings in when its cost is paid, the worst first.

        Costs are applied now, so a corrected cost corrects the past, too; usage whose cost is not known is named.
        For you alone: never show it to customers. Takes two seconds for ten thousand companies: not for views.

        Args:
            month: Month in UTC, such as ``2026-03``; by default this month.
            company: Only this company.
            by: What the rows are about: ``company``, ``meter``, or the name of a dimension, such as ``model``; by
                default ``company``, and of one company, ``meter``.

        Raises:
            UsageError: *month* is not a month, *company* not a company id, or *by* nothing to show by.
            ConfigurationError: The kit has no ``costs=``, or their file cannot be read.
            LedgerError: The ledger failed.
        """
        if not self.costs:
            raise ConfigurationError("this kit has no costs=, so it has no margin; add a Cost for what units cost you")
        chosen = None if company is None else checked_subject_id(company, "company")
        self.flush()
        return self._assembly.margin(month, by=by or ("company" if chosen is None else "meter"), company=chosen)

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

    def forecast(self, company: SubjectId) -> Forecast:
        """
        Return what *company* will have used, and owe, when its period ends, if usage goes on as in the last weeks.

        Each with a range, and when its quotas and the spending cap are reached at this pace; ``docs/forecast.md`` says
        how far off it may be. As of the last flush. Reads the ledger: in an async view, call it in a thread.

        Args:
            company: Company id, as ``identify=`` returns it.

        Raises:
            UsageError: It is not such an id.
            LedgerError: The ledger cannot be read.
        """
        return self._assembly.statements(self._company_plans).forecast(checked_subject_id(company, "company"))

    def forecasts(self) -> Iterator[Forecast]:
        """
        Yield the forecasts of all companies with usage in their billing period, by id.

        Raises:
            LedgerError: The ledger cannot be read.
        """
        usage = self.process().usage()["period"]
        usage.refresh(int(self.clock()))
        companies = sorted({company for company, _ in usage.pairs()})
        yield from self._assembly.statements(self._company_plans).forecasts(companies)

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

        The reason begins with ``shadow:`` for those that only shadow mode has allowed.

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

        stopped = {} if self.governor is None else dict(self.governor.blocked.total)
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
        dimensions: Mapping[str, str | int | None] | None = None,
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
            dimensions: Values of the usage, by the names of the dimensions in the meter's ``by=``. They may be left out
                only if no value of that hour is known, or all of it is reversed.

        Raises:
            UsageError: An argument is wrong, or less than *quantity* was used in that hour; nothing was reversed.
            LedgerError: The ledger or Stripe failed, or another process is reporting; try again.
            ConfigurationError: There is no Stripe key.
        """
        found = self._meter(meter)
        self.flush()
        return (
            self.process()
            .commands()
            .correct(found, company, quantity, at=at, reason=reason, by=checked_by(by), dimensions=dimensions)
        )

    def rerate(
        self,
        *,
        month: str | None = None,
        tables: Mapping[str, str | os.PathLike[str]] | None = None,
        apply: bool = False,
        by: str | None = None,
    ) -> list[Rerated]:
        """
        Rate a month's usage again at the prices (``Price.by``) that hold now, and return what that changes.

        With ``apply=True``, the differences become usage of the meters of amounts: the next report tells Stripe, or,
        with ``bill="lines"``, they become lines. What the table lacks keeps its rate. Calling it again changes nothing.

        Args:
            month: Month in UTC, such as ``2026-03``; by default this month.
            tables: Files with the prices to use for this, instead of the kit's, by the name of the meter.
            apply: Whether to bill the differences; by default, nothing is changed.
            by: Who does it; kept for `actions`.

        Raises:
            UsageError: *month* is not a month, or *tables* names a meter without a ``Price.by``.
            ConfigurationError: A file cannot be read, or an entry of it is wrong.
            LedgerError: The ledger failed; call again for what is left.
        """
        rerating = self.process().commands().rerating(month, tables or {})
        self.flush()
        return rerating.apply(by=checked_by(by)) if apply else rerating.differences()

    def undo_rerate(self, *, month: str | None = None, by: str | None = None) -> list[Rerated]:
        """
        Take back the latest `rerate` of a month that was applied, and return what that changes.

        Args:
            month: Month in UTC, such as ``2026-03``; by default this month.
            by: Who does it; kept for `actions`.

        Raises:
            UsageError: *month* is not a month, or nothing of it was rated again.
            LedgerError: The ledger failed; call again for what is left.
        """
        return self.process().commands().rerating(month, {}).undo(by=checked_by(by))

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

    def compare(
        self,
        *,
        month: str | None = None,
        csv: str | os.PathLike[str] | None = None,
        by: Literal["hour", "day", "month"] = "hour",
        event_names: Mapping[str, str] | None = None,
    ) -> list[Comparison]:
        """
        Compare what was counted in a month with what another program has billed, by customer; for shadow mode.

        Only hours that have ended are compared. The costs of both quantities are those of a month at the prices of the
        kit, or of the company's plan; where the kit has none, of the company's subscriptions.

        Args:
            month: Month in UTC, such as ``2026-03``; by default this month.
            csv: File in UTF-8 with the columns ``company`` (or ``customer``), ``meter``, ``start`` and ``quantity``, in
                which the other program's figures are; by default, they are Stripe's own sums.
            by: Interval over which usage is added up before it is compared, in UTC.
            event_names: Event names in Stripe, by the name of the meter, that the other program reports under, where
                they are not the meter's own.

        Returns:
            One for each customer and meter, those first that differ by most money.

        Raises:
            UsageError: *month* is not a month, or has not begun; *by* is no interval; *event_names* names no meter; or
                the file cannot be compared.
            OSError: The file cannot be read.
            LedgerError: The ledger failed.
            ConfigurationError: There is no Stripe key, and no *csv*.
        """
        if by not in ("hour", "day", "month"):
            raise UsageError(f"by= must be 'hour', 'day' or 'month', not {by!r:.50}", reason="interval_wrong")
        names = {name: meter.event_name for name, meter in self.meters.items() if meter.billable}
        for name, event_name in (event_names or {}).items():
            names[self._meter(name).name] = event_name
        self.flush()
        return (
            self.process()
            .commands()
            .compare(
                self.meters,
                month=month,
                path=None if csv is None else Path(csv),
                by=by,
                event_names=names,
                prices_of=self._sold_to if self.plans else lambda _: self.prices,
            )
        )

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
        name = meter.name if isinstance(meter, Meter) else meter
        known = self.meters.get(name)
        return self.process().commands().explain(company, name, month, () if known is None else known.dimensions)

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
        pack: Pack | str | None = None,
        quantity: int = 1,
        email: str | None = None,
    ) -> str:
        """
        Return the URL of a page of Stripe's, Checkout, on which a company subscribes, or buys a pack of a wallet.

        The same call returns the same page until the company has subscribed or paid, or a day has passed. The webhook
        links the company when it has paid; see `webhook`. Asks Stripe, so it takes as long as Stripe does.

        Args:
            company: Company id.
            success_url: Absolute URL to which Stripe sends the browser afterwards.
            cancel_url: Absolute URL to which the browser can go back; None for no link back.
            plan: Name of the plan; required if the kit has plans, unless *prices* are given.
            prices: Lookup keys of the prices, instead of a plan; by default all prices of the kit, which must be of
                different meters.
            currency: Currency of the plan; by default the one that the customer is billed in, or the plan's own.
            pack: Pack of a wallet, or its name, to buy once instead of a subscription. The invoice that Stripe makes
                of it becomes a grant, when the webhook tells of it.
            quantity: How many of the pack, 1 to 1,000.
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
        about: Any = {"email": email, "success_url": success_url, "cancel_url": cancel_url}
        if pack is not None:
            if plan is not None or prices or currency is not None:
                raise UsageError("choose a pack, or a plan or prices, not both", reason="offer_wrong")
            key = pack_named(pack, self.wallets)
            return self.process().commands().pack_url(company, key, quantity=checked_number(quantity), **about)
        offer = offer_of(self.prices, self.plans, plan=plan, keys=prices, currency=currency)
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
            shadow_until=self._settings.shadow_until,
        )

    def process(self, *, counting: bool = False) -> ProcessRuntime:
        """Return the runtime of this process, started if *counting*; for meterkit's own parts."""
        return self._supervisor.runtime(counting=counting)

    def event_counter(self) -> EventCounter:
        """Return what counts usage events; for meterkit's own parts."""
        return self._assembly.event_counter()

    def hold_terms(
        self,
        company: SubjectId,
        estimate: Amount | None,
        *,
        meter: Meter | str | None = None,
        wallet: Wallet | str | None = None,
        user: SubjectId | None = None,
    ) -> Terms:
        """Return the terms of a hold, as `hold` takes them; for meterkit's own parts."""
        from meterkit.holds.source import HoldSource
        from meterkit.holds.terms import terms_of

        if self._hold_source is None:
            self._hold_source = HoldSource(
                self.governor,
                self.recorder.evaluator,
                meters=self.meters.values(),
                wallets=self.wallets,
                problems=self._problems,
            )
        return terms_of(
            self._hold_source,
            company,
            estimate,
            meter=None if meter is None else self._meter(meter),
            wallet=None if wallet is None else wallet_named(wallet, self.wallets),
            user=user,
        )

    def known_plan(self, company: str) -> Plan | None:
        """Return the plan of *company* as far as it is in memory; for meterkit's own parts."""
        return None if self._company_plans is None else self._company_plans.of(company)

    def team_site(self, pages: Pages) -> Site:
        """Return what serves the team's pages alone, as *pages* says; for meterkit's own parts."""
        return self._assembly.team_site(pages)

    def close(self) -> None:
        """Flush and stop. Never raises, and takes some seconds at worst. A later count starts the kit again."""
        self._supervisor.close()

    def _checked_costs(self, costs: Any) -> tuple[Cost, ...]:
        if costs == ():
            return ()
        from meterkit.margin.cost import checked_costs

        return checked_costs(costs, self.meters)

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
