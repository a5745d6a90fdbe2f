"""Operations on Stripe that the command line asks for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meterkit.core.periods import Period, parse_month
from meterkit.core.usage_key import encoded_values
from meterkit.core.validation import checked_moment
from meterkit.core.windows import HOUR, hour_of
from meterkit.errors import ConfigurationError, StripeFailedError, UsageError
from meterkit.metering.dimensions.capture import checked_values
from meterkit.metering.meter import Meter
from meterkit.pricing.plan import Plan
from meterkit.pricing.price import Price, money
from meterkit.runtime.settings import Settings, is_live, key_of
from meterkit.runtime.stripe_jobs import StripeJobs

if TYPE_CHECKING:
    from meterkit.accounts.accounts import Accounts
    from meterkit.ledger.database import Database
    from meterkit.outbox.corrections import Correction
    from meterkit.provisioning.move import Move, Mover
    from meterkit.provisioning.offer import Offer
    from meterkit.provisioning.steps import ProvisioningPlan, Step
    from meterkit.provisioning.subscription import SubscriptionResult
    from meterkit.rating.rerate import Rerating
    from meterkit.reporting.explanation import Explanation
    from meterkit.reporting.reconciliation import Reconciliation
    from meterkit.shadow.comparison import Comparison, Interval
    from meterkit.stripe_api.transport import StripeClient


class StripeCommands:
    """
    Operations on Stripe that run on demand; `meterkit.MeterKit` documents each.

    Args:
        settings: Settings of the kit.
        database: Function that opens and returns the ledger's database.
        stripe_jobs: Builder of the reporter and the account sync.
    """

    def __init__(self, settings: Settings, *, database: Callable[[], Database], stripe_jobs: StripeJobs) -> None:
        self._settings = settings
        self._database = database
        self._stripe_jobs = stripe_jobs

    def correct(
        self,
        meter: Meter,
        company: str,
        quantity: int,
        *,
        at: datetime,
        reason: str,
        by: str,
        dimensions: Mapping[str, str | int | None] | None = None,
    ) -> Correction:
        """See `meterkit.MeterKit.correct`."""
        if isinstance(quantity, bool) or not isinstance(quantity, int) or quantity < 1:
            raise UsageError(
                f"quantity must be 1 or more units to reverse, not {quantity!r:.50}", reason="quantity_not_positive"
            )
        if self._settings.is_shadow():
            raise ConfigurationError(
                "in shadow mode (shadow=), nothing is reversed: what is counted is not billed by meterkit; what was "
                "billed before is reversed by a kit without shadow="
            )
        values = ""
        if dimensions is not None:
            values = encoded_values(dict(zip(meter.dimensions, checked_values(meter, dimensions), strict=True)))
        return self._stripe_jobs.reporter().correct(
            company=company,
            meter=meter.name,
            event_name=meter.event_name,
            at=checked_moment(at, self._settings.clock()),
            quantity=quantity,
            reason=reason,
            by=by,
            dimensions=values,
        )

    def rerating(self, month: str | None, files: Mapping[str, str | os.PathLike[str]]) -> Rerating:
        """See `meterkit.MeterKit.rerate`."""
        from meterkit.pricing.rates.declaration import with_file
        from meterkit.rating.rerate import Rerating

        tables = dict(self._settings.rates)
        for meter, path in files.items():
            if meter not in tables:
                known = f"only {', '.join(tables)}" if tables else "none has"
                raise UsageError(f"no Price.by rates {meter!r:.120}, {known}", reason="meter_unknown")
            tables[meter] = with_file(tables[meter], path, money)
        clock = self._settings.clock
        return Rerating(self._database(), tables, parse_month(month, clock()), clock=clock)

    def reconcile(self, month: str | None) -> list[Reconciliation]:
        """See `meterkit.MeterKit.reconcile`."""
        from meterkit.outbox.reports import Reports
        from meterkit.reporting.reconciliation import reconcile

        start, end = self._so_far(month)
        with self._client() as client:
            return reconcile(Reports(self._own_database()), client, start=start, end=end)

    def compare(
        self,
        meters: Mapping[str, Meter],
        *,
        month: str | None,
        path: Path | None,
        by: Interval,
        event_names: Mapping[str, str],
        prices_of: Callable[[str], Iterable[Price]],
    ) -> list[Comparison]:
        """See `meterkit.MeterKit.compare`."""
        from meterkit.shadow.comparison import compared, step_of
        from meterkit.shadow.counted import counted, known_prices, payers_of
        from meterkit.shadow.csv_file import csv_sums, names_customers
        from meterkit.shadow.stripe_sums import stripe_sums

        now = int(self._settings.clock())
        span = parse_month(month, now)
        if span.start > now:
            raise UsageError(f"the month {month} has not begun yet", reason="month_wrong")
        start, end, step = span.start, min(span.end, hour_of(now)), step_of(by)
        if path is None and self._settings.stripe_key is None:
            raise ConfigurationError(
                "no Stripe key: set STRIPE_SECRET_KEY or pass stripe_key= to compare with Stripe's sums; or compare "
                "with a file (--csv or csv=)"
            )
        database = self._database() if path is not None else self._own_database()
        payers = payers_of(database)
        by_customer = path is None or names_customers(path)
        ours = counted(database, payers, start=start, end=end, step=step, by_customer=by_customer)
        errors: dict[tuple[str, str], str] = {}
        if path is not None:
            theirs = csv_sums(path, meters, month=span, end=end, step=step)
        else:
            about: Any = {"customers": payers.companies, "event_names": event_names}
            with self._client() as client:
                theirs, errors = stripe_sums(client, ours, **about, start=start, end=end, by=by)
        companies = {payer for payer, _ in ours} | set(payers.customers)
        known = known_prices(database, meters, companies)
        return compared(
            ours,
            theirs,
            payers=payers.named(),
            prices_of=lambda company: (*prices_of(company), *known.get(company, ())),
            errors=errors,
        )

    def explain(self, company: str, meter: str, month: str | None, dimensions: Sequence[str] = ()) -> list[Explanation]:
        """See `meterkit.MeterKit.explain`; without a key, from the ledger alone."""
        from meterkit.reporting.explanation import explain

        start, end = self._so_far(month)
        about: Any = {"company": company, "meter": meter, "start": start, "end": end, "dimensions": dimensions}
        if self._settings.stripe_key is None:
            return explain(self._database(), None, **about)
        with self._client() as client:
            return explain(self._own_database(), client, **about)

    def provision(
        self,
        meters: Mapping[str, Meter],
        prices: Iterable[Price],
        plans: Iterable[Plan],
        *,
        webhook: str | None,
        dry_run: bool,
        on_plan: Callable[[ProvisioningPlan], object] | None,
        on_step: Callable[[Step], object] | None,
    ) -> ProvisioningPlan:
        """See `meterkit.MeterKit.provision`."""
        from meterkit.provisioning.provisioner import Provisioner
        from meterkit.wallets.wallet import packs_of

        with self._client() as client:
            provisioner = Provisioner(client, livemode=bool(is_live(self._settings.stripe_key)))
            sold = [(plan, currency) for plan in plans for currency in plan.sold_in]
            of_plans = [price for plan, currency in sold for price in plan.prices_in(currency)]
            fees = [fee for plan, currency in sold if (fee := plan.fee_in(currency)) is not None]
            packs = packs_of(self._settings.wallets).values()
            reported = [meter for name, meter in meters.items() if name not in self._settings.rates]
            plan = provisioner.plan(reported, [*prices, *of_plans], fees=fees, packs=packs, webhook=webhook)
            if on_plan is not None:
                on_plan(plan)
            if not dry_run:
                provisioner.apply(plan, done=on_step)
            return plan

    def subscribe(
        self, company: str, offer: Offer, *, about: dict[str, str], days_until_due: int | None
    ) -> SubscriptionResult:
        """See `meterkit.MeterKit.subscribe`."""
        from meterkit.provisioning.subscription import subscribe

        accounts = self._accounts()
        with self._client() as client:
            found = subscribe(
                client,
                accounts,
                offer,
                company=company,
                metadata_key=self._settings.metadata_key,
                about=about,
                days_until_due=days_until_due,
            )
        self._stripe_jobs.account_sync().refresh([("customer", found.customer), ("subscription", found.subscription)])
        return found

    def checkout_url(
        self, company: str, offer: Offer, *, email: str | None, success_url: str, cancel_url: str | None
    ) -> str:
        """See `meterkit.MeterKit.checkout_url`."""
        from meterkit.provisioning.checkout import checkout_session, has_subscription

        with self._client() as client:
            session = checkout_session(
                client,
                offer,
                company=company,
                customer=self._accounts().customer_of(company),
                metadata_key=self._settings.metadata_key,
                email=email,
                success_url=success_url,
                cancel_url=cancel_url,
            )
        if session.url:
            return session.url
        # It is paid, and the webhook is on its way.
        self.settle_checkout(company, session.id)
        raise has_subscription(company)

    def pack_url(
        self,
        company: str,
        key: str,
        *,
        quantity: int,
        email: str | None,
        success_url: str,
        cancel_url: str | None,
    ) -> str:
        """See `meterkit.MeterKit.checkout_url`; *key* is the lookup key of a pack's price."""
        from meterkit.provisioning.checkout import pack_session

        with self._client() as client:
            return pack_session(
                client,
                key,
                quantity=quantity,
                company=company,
                customer=self._accounts().customer_of(company),
                metadata_key=self._settings.metadata_key,
                email=email,
                success_url=success_url,
                cancel_url=cancel_url,
            )

    def settle_checkout(self, company: str, session: str) -> None:
        """
        Read a Checkout session of *company* that may be complete, and link who has paid in it.

        Args:
            company: Company id.
            session: Session id, ``cs_...``; another company's is left alone.

        Raises:
            StripeFailedError: Stripe failed or refused.
            LedgerError: The ledger failed.
        """
        from meterkit.provisioning.checkout import names_company
        from meterkit.stripe_api.outcomes import naming_failures

        with self._client() as client, naming_failures(f"checkout of {company}"):
            found = client.v1.checkout.sessions.retrieve(session)
        if names_company(found, company, self._settings.metadata_key) and found.status == "complete":
            objects = {"checkout.session": session, "customer": found.customer, "subscription": found.subscription}
            self._stripe_jobs.account_sync().refresh([(kind, str(each)) for kind, each in objects.items() if each])

    def portal_url(self, company: str, *, return_url: str | None, alone: bool) -> str:
        """
        See `meterkit.MeterKit.portal_url`.

        Args:
            company: Company id.
            return_url: Page to which the portal leads back, or None.
            alone: Whether to refuse a customer that pays for other companies, too: who is in the portal can cancel
                what these have.

        Raises:
            UsageError: No Stripe customer pays for *company*, or not for it alone.
        """
        from meterkit.provisioning.checkout import portal_session

        accounts = self._accounts()
        customer = accounts.customer_of(company)
        if customer is None:
            raise UsageError(
                f"no Stripe customer pays for {company!r:.100} yet: let it subscribe first (kit.checkout_url())",
                reason="customer_unknown",
            )
        if alone and accounts.companies_of(customer) != {company}:
            raise UsageError(
                f"{customer} pays for other companies than {company!r:.100}, too, whose subscriptions the portal shows",
                reason="customer_shared",
            )
        with self._client() as client:
            return portal_session(client, customer, return_url=return_url)

    def _accounts(self) -> Accounts:
        from meterkit.accounts.accounts import Accounts

        return Accounts(self._own_database(), clock=self._settings.clock)

    def move(
        self,
        *,
        old: str,
        new: Plan | str,
        meters: Mapping[str, Meter],
        company: str | None,
        dry_run: bool,
        on_plan: Callable[[list[Move]], object] | None,
        on_move: Callable[[Move], object] | None,
    ) -> list[Move]:
        """
        See `meterkit.MeterKit.move`.

        Args:
            old: Name of a plan if *new* is a plan, else lookup key or id of a price.
            new: Plan, or lookup key or id of a price.
            meters: Meters of the kit, by name.
            company: Only this company; None for all.
            dry_run: Only plan.
            on_plan: Called with what will be done.
            on_move: Called after each subscription that was moved.
        """
        from meterkit.provisioning.move import Mover, route_of_plans, route_of_prices

        with self._client() as client:
            route = route_of_prices(client, old, new) if isinstance(new, str) else route_of_plans(client, old, new)
            accounts = self._accounts()
            used = self._used_last_month(meters)
            mover = Mover(client, route, meters=meters, used=used, companies_of=accounts.companies_of)
            moves = mover.plan(company=company)
            if on_plan is not None:
                on_plan(moves)
            if dry_run or not any(move.state == "planned" for move in moves):
                return moves
            return [self._moved(mover, move, on_move) for move in self._settled(client, moves)]

    def _settled(self, client: StripeClient, moves: list[Move]) -> list[Move]:
        """Report the open hour, and return *moves*, without those of which Stripe has not added up all usage."""
        from dataclasses import replace

        from meterkit.outbox.reports import Reports
        from meterkit.reporting.reconciliation import unsettled
        from meterkit.stripe_api.outcomes import naming_failures

        summary = self._stripe_jobs.report(include_open=True)
        if summary.trouble or summary.error:
            raise StripeFailedError(
                f"the open hour could not be reported, and its usage would be billed at the new price: "
                f"{summary.trouble or summary.error}; nothing was moved, run it again"
            )
        customers = {move.customer for move in moves if move.state == "planned"}
        with naming_failures("move"):
            behind = unsettled(Reports(self._database()), client, customers, now=self._settings.clock())
        cure = "run it again in a minute, or usage of before would be billed at the new price or not at all"
        return [
            replace(move, state="left", why=f"{behind[move.customer]}: {cure}")
            if move.state == "planned" and move.customer in behind
            else move
            for move in moves
        ]

    def _moved(self, mover: Mover, move: Move, on_move: Callable[[Move], object] | None) -> Move:
        if move.state != "planned":
            return move
        done = mover.apply(move)
        self._stripe_jobs.account_sync().refresh([("subscription", move.subscription)])
        if on_move is not None:
            on_move(done)
        return done

    def _used_last_month(self, meters: Mapping[str, Meter]) -> dict[str, dict[str, int]]:
        """Return the usage of each company in the last full month, by meter name."""
        from meterkit.core.periods import month_of
        from meterkit.pricing.simulation import simulate

        last = month_of(month_of(int(self._settings.clock())).start - 1)
        bills = simulate(self._database(), start=last.start, end=last.end, meters=meters, prices=(), former=())
        return {bill.company: bill.used for bill in bills}

    def _own_database(self) -> Database:
        """
        Return the ledger's database.

        Raises:
            ConfigurationError: The ledger belongs to the other mode than the key.
            LedgerError: The ledger failed.
        """
        from meterkit.outbox.other_mode import check_mode

        check_mode(self._database())
        return self._database()

    def _so_far(self, month: str | None) -> Period:
        """Return *month*, at most until the end of the current hour."""
        now = self._settings.clock()
        start, end = parse_month(month, now)
        if start > now:
            raise UsageError(f"the month {month} has not begun yet", reason="month_wrong")
        return Period(start, min(end, hour_of(int(now)) + HOUR))

    @contextmanager
    def _client(self) -> Iterator[StripeClient]:
        from meterkit.stripe_api.transport import connect

        settings = self._settings
        about: Any = {"account": settings.stripe_account, "reads_only": settings.is_shadow}
        client, http = connect(key_of(settings), settings.stripe_base, **about)
        try:
            yield client
        finally:
            http.close()
