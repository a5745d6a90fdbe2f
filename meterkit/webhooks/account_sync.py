"""
Refresh accounts from Stripe, after a webhook event or all at once.

A webhook event says which object has changed; its current state is then requested from Stripe. So it does not matter in
which order events arrive, how often, or how late: in the end, the ledger has what Stripe has.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import stripe

from meterkit.accounts.accounts import Accounts
from meterkit.accounts.inbox import Inbox
from meterkit.accounts.models import Customer, Invoice, PastSubscription, Proration, StripeObject, Subscription
from meterkit.accounts.subscription_history import changed_since
from meterkit.core import threads
from meterkit.core.threads import Event
from meterkit.ledger.database import Database
from meterkit.ledger.lease import Lease, LeaseLostError, held, hold
from meterkit.ledger.payers import companies_paid_by
from meterkit.outbox.corrections import Corrections
from meterkit.outbox.other_mode import check_account
from meterkit.pricing.opening_balances import Opening, OpeningBalances
from meterkit.stripe_api.catalog import Catalog
from meterkit.stripe_api.event_summaries import Summaries
from meterkit.stripe_api.outcomes import classify
from meterkit.stripe_api.transport import PAGE_SIZE, connect, plain
from meterkit.wallets.balances import Balances
from meterkit.wallets.grants import Grants
from meterkit.wallets.purchases import Purchases
from meterkit.wallets.wallet import Wallet, packs_of
from meterkit.webhooks.mapping import checkout_of, customer_of, invoice_of, meter_of, subscription_of
from meterkit.webhooks.purchases import Bought, Disputed, PurchaseReader, Refunded
from meterkit.webhooks.subscription_events import past_of, prorations_of

METER_ERRORS = "v2.core.event"
"""Object type of thin events about meter errors: the event itself, because its details must be requested."""

REVERSALS = ("refund", "dispute")
"""Types of objects that take back what was paid."""

CLOSING = ("draft", "subscription_cycle")
"""Status and billing reason of an invoice that can still include the last usage of its period."""

RECENT_SECONDS = 40 * 24 * 3600
"""Age of invoices that are synced: usage can be reported for 35 days, and may belong to an invoice of that time."""

DISPUTED_SECONDS = 180 * 24 * 3600
"""Age of disputes that are synced: banks take months to decide."""


@dataclass(slots=True)
class SyncResult:
    """
    What a sync has stored.

    Attributes:
        customers: Number of customers stored.
        subscriptions: Number of subscriptions stored.
        invoices: Number of invoices stored.
        closing: Whether a billing period has ended whose invoice is still a draft.
        ambiguous: Companies of which two customers are named as the payer, in metadata or Checkout sessions.
        error: Why an object could not be read from Stripe; empty if all could.
        refused: What the key may not read, in Stripe's words for permissions; the rest was read.
    """

    customers: int = 0
    subscriptions: int = 0
    invoices: int = 0
    closing: bool = False
    ambiguous: list[str] = field(default_factory=list)
    error: str = ""
    refused: list[str] = field(default_factory=list)


class AccountSync:
    """
    Reads customers, subscriptions and invoices from Stripe, and stores them in the ledger.

    Args:
        database: Database of the ledger.
        clock: Function that returns Unix seconds.
        api_key: Stripe's secret key.
        base: Base URL of Stripe's API; None for the real one.
        account: Connected account to read; None for the key's own.
        metadata_key: Key of a customer's metadata that contains the company id.
        stop: Event that ends the sync before the next object.
        wallets: Wallets of the kit, by name: paid invoices with their packs become grants.
    """

    def __init__(
        self,
        database: Database,
        *,
        clock: Callable[[], float],
        api_key: str,
        base: str | None,
        account: str | None,
        metadata_key: str,
        stop: Event,
        wallets: Mapping[str, Wallet],
    ) -> None:
        self._database = database
        self._clock = clock
        self._metadata_key = metadata_key
        self._stop = stop
        self._accounts = Accounts(database, clock=clock)
        self._inbox = Inbox(database, clock=clock)
        self._corrections = Corrections(database, clock=clock)
        self._openings = OpeningBalances(database)
        self._holder = f"{os.getpid()}-{uuid.uuid4().hex}"
        self._pass = threads.rlock()
        self._stripe, self._http = connect(api_key, base, reads_only=lambda: True, account=account)
        self._catalog = Catalog(self._stripe)
        balances = Balances(wallets, clock=clock)
        self._purchases = Purchases(Grants(database, balances, clock=clock), wallets) if wallets else None
        self._reader = PurchaseReader(self._stripe, packs_of(wallets), metadata_key=metadata_key)
        self._bought: dict[str, Bought] = {}  # of invoices that are read and not stored yet

    def follow(self) -> SyncResult:
        """
        Read the objects that waiting webhook events are about.

        Raises:
            LedgerError: The ledger failed; the events keep waiting.
        """
        found = SyncResult()
        waiting = self._inbox.waiting()
        if waiting and not self._hold_lease(found, lambda lease: self._follow(lease, waiting, found)):
            found.error = ""  # another process is reading them
        return found

    def refresh(self, objects: Iterable[tuple[str, str]]) -> SyncResult:
        """
        Read some objects, given by type and id.

        Raises:
            LedgerError: The ledger failed.
        """
        found = SyncResult()
        self._hold_lease(found, lambda lease: self._follow(lease, {each: [] for each in objects}, found))
        return found

    def sync(self) -> SyncResult:
        """
        Read all customers, all subscriptions, and the invoices that are open or of the last 40 days; with wallets, also
        the refunds of these days and the disputes of the last 180.

        Raises:
            LedgerError: The ledger failed.
            ConfigurationError: The ledger was synced with another account before.
        """
        found = SyncResult()
        try:
            check_account(self._database, self._stripe.v1.accounts.retrieve_current().id)
        except stripe.PermissionError:
            pass  # a restricted key need not be able to tell
        except stripe.StripeError as error:
            found.error = classify(error).error
            return found
        self._hold_lease(found, lambda lease: self._sync(lease, found))
        return found

    def hang_up(self) -> None:
        """Abort a call to Stripe that takes too long. Called by another thread."""
        self._http.hang_up()

    def close(self) -> None:
        """Close the connections to Stripe."""
        self._http.close()

    def _hold_lease(self, found: SyncResult, work: Callable[[Lease], None]) -> bool:
        """Do *work*, unless another process is syncing; return whether it was done."""
        try:
            with self._pass, held(self._database, "follower", self._holder, clock=self._clock) as lease:
                try:
                    work(lease)
                except LeaseLostError as error:
                    found.error = str(error)
                except stripe.StripeError as error:
                    found.error = classify(error).error
        except LeaseLostError as error:
            found.error = str(error)
            return False
        return True

    def _follow(self, lease: Lease, waiting: dict[tuple[str, str], list[str]], found: SyncResult) -> None:
        for (kind, identity), events in waiting.items():
            if self._stop.is_set():
                return
            try:
                if kind == METER_ERRORS:
                    self._reject_dropped(identity, events)
                    continue
                if kind in REVERSALS:
                    self._take_back(lease, kind, identity, events)
                    continue
                current = self._retrieve(kind, identity)
                if isinstance(current, Customer) and not current.deleted:
                    self._complete(lease, current, found)
            except stripe.StripeError as error:
                outcome = classify(error)
                self._inbox.postpone(events, outcome.error)
                found.error = outcome.error
                if outcome.affects_all and not (kind in REVERSALS and isinstance(error, stripe.PermissionError)):
                    return
                continue  # a restricted key may read all that other events are about
            self._store_one(lease, identity, current, found, events=events)

    def _complete(self, lease: Lease, customer: Customer, found: SyncResult) -> None:
        """Read the subscriptions of a customer that is new to the ledger; of later ones, there are events."""
        if not self._accounts.knows_subscriptions(customer.id):
            self._store(lease, [customer], SyncResult())
            self._read_subscriptions(lease, found, customer.checked_at, customer=customer.id)

    def _read_subscriptions(self, lease: Lease, found: SyncResult, begun: int, *, customer: str | None = None) -> None:
        """Read all subscriptions of *customer*, or of the account, also those that have ended; *begun* is a time."""
        if customer is None:
            for meters in _pages(self._stripe.v1.billing.meters.list({"limit": PAGE_SIZE}).auto_paging_iter()):
                self._store(lease, [meter_of(each) for each in meters], found)
        params: Any = {"limit": PAGE_SIZE, "status": "all", **({} if customer is None else {"customer": customer})}
        listed = self._stripe.v1.subscriptions.list(params)
        for subscriptions in _pages(listed.auto_paging_iter()):
            now = int(self._clock())  # a sync takes minutes, and `accounts.news` looks for what is of late
            read = [subscription_of(each, self._catalog, self._metadata_key, now) for each in subscriptions]
            self._store(lease, read, found)
        with self._database.transaction() as connection:
            hold(lease, connection, clock=self._clock)
            self._accounts.mark_subscriptions_read(connection, begun, customer=customer)

    def _reject_dropped(self, identity: str, events: list[str]) -> None:
        """Mark meter events as rejected that Stripe accepted and then dropped, with its reason."""
        found = self._stripe.v2.core.events.retrieve(identity)
        data: Any = plain(found).get("data") or {}
        for kind in (data.get("reason") or {}).get("error_types") or ():
            for sample in kind.get("sample_errors") or ():
                request = sample.get("request") or {}
                sent_as = str(request.get("identifier") or request.get("idempotency_key") or "")
                self._corrections.mark_rejected(sent_as, f"{kind.get('code')}: {sample.get('error_message')}")
        with self._database.transaction() as connection:
            self._inbox.settle(connection, events)

    def _retrieve(self, kind: str, identity: str) -> StripeObject | None:
        """Request the current state of an object; None if Stripe has no such object."""
        v1, now = self._stripe.v1, int(self._clock())
        try:
            if kind == "customer":
                return customer_of(v1.customers.retrieve(identity), self._catalog, self._metadata_key, now)
            if kind == "subscription":
                return subscription_of(v1.subscriptions.retrieve(identity), self._catalog, self._metadata_key, now)
            if kind == "billing.meter":
                return meter_of(v1.billing.meters.retrieve(identity))
            if kind == "checkout.session":
                return checkout_of(v1.checkout.sessions.retrieve(identity), self._metadata_key)
            return self._invoice(v1.invoices.retrieve(identity), now) if kind == "invoice" else None
        except stripe.InvalidRequestError as error:
            if error.http_status == 404:
                return None
            raise

    def _invoice(self, invoice: stripe.Invoice, now: int) -> Invoice:
        """Return *invoice*, and remember what it grants until it is stored."""
        bought = None if self._purchases is None else self._reader.bought(invoice)
        if bought is not None:
            self._bought[str(invoice.id)] = bought
        return invoice_of(invoice, now)

    def _grant(self, connection: Any, invoice: Invoice) -> str:
        """
        Grant what a paid invoice has bought, in this transaction.

        Returns:
            Why nothing can be granted yet; empty if it was, or if there is nothing to grant.
        """
        bought = self._bought.pop(invoice.id, None)
        if bought is None or self._purchases is None:
            return ""
        company = bought.company
        if company is None:
            companies = companies_paid_by(connection, bought.customer)
            if len(companies) != 1:
                payer = f"{bought.customer} pays for {', '.join(sorted(companies)) or 'none'}"
                return (
                    f"invoice {invoice.number or invoice.id} is for a wallet, and it is not known of which company "
                    f"({payer}): use kit.link(), or name it under {self._metadata_key!r} in the metadata of the invoice"
                )
            (company,) = companies
        unknown = {each.promise.wallet for each in bought.purchases if not self._purchases.knows(each)}
        for purchase in bought.purchases:
            if self._purchases.knows(purchase):
                self._purchases.grant(connection, company, purchase)
        return _not_in_code(f"invoice {invoice.number or invoice.id} has paid for", unknown)

    def _take_back(self, lease: Lease, kind: str, identity: str, events: list[str]) -> None:
        """Take back what was granted for a payment that is refunded or disputed; give it back if the dispute is won."""
        found: Refunded | Disputed | None = None
        if self._purchases is not None:
            found = self._reader.refunded(identity) if kind == "refund" else self._reader.disputed(identity)
        with self._database.transaction() as connection:
            hold(lease, connection, clock=self._clock)
            waits = ""
            if found is not None and self._purchases is not None:
                share = (found.amount, found.total)
                unknown = {each.promise.wallet for each in found.bought.purchases if not self._purchases.knows(each)}
                waits = _not_in_code(f"{identity} {kind}s what was paid for", unknown)
                for purchase in found.bought.purchases:
                    if isinstance(found, Refunded):
                        done = self._purchases.take_back(connection, purchase, share, refund=identity)
                    else:
                        done = self._purchases.withhold(
                            connection, purchase, share, dispute=identity, is_withheld=found.is_withheld
                        )
                    if not done:
                        waits = f"what {identity} {kind}s is not granted yet"
            if not waits:
                self._inbox.settle(connection, events)
        if waits:
            self._inbox.postpone(events, waits)

    def _sync(self, lease: Lease, found: SyncResult) -> None:
        refusals: list[stripe.PermissionError] = []
        begun = int(self._clock())
        reads: tuple[Callable[[], None], ...] = (
            lambda: self._sync_customers(lease, found),
            lambda: self._read_subscriptions(lease, found, begun),
            lambda: self._sync_invoices(lease, found),
            lambda: self._sync_refunds(lease),
            lambda: self._sync_disputes(lease),
        )
        for read in reads:
            try:
                read()
            except stripe.PermissionError as error:  # the others may be allowed
                refusals.append(error)
        if refusals:
            found.refused = self._refused()
            found.error = (
                f"this key may not read {', '.join(found.refused) or 'all of the account'}: give it these permissions "
                f"in Stripe, and run sync again. The first refusal was: {classify(refusals[0]).error}"
            )

    def _refused(self) -> list[str]:
        """Return which of the objects that a sync reads the key may not read."""
        v1, one = self._stripe.v1, {"limit": 1}
        kinds: dict[str, Callable[[Any], object]] = {
            "Customers": v1.customers.list,
            "Subscriptions": v1.subscriptions.list,
            "Prices": v1.prices.list,
            "Billing meters": v1.billing.meters.list,
            "Invoices": v1.invoices.list,
        }
        if self._purchases is not None:
            kinds["Charges and Refunds"] = v1.refunds.list
            kinds["Disputes"] = v1.disputes.list
        found = []
        for kind, read in kinds.items():
            try:
                read(one)
            except stripe.PermissionError:
                found.append(kind)
        return found

    def _sync_customers(self, lease: Lease, found: SyncResult) -> None:
        v1, key = self._stripe.v1, self._metadata_key
        for customers in _pages(v1.customers.list({"limit": PAGE_SIZE}).auto_paging_iter()):
            read_at = int(self._clock())  # a sync takes minutes, and `accounts.news` looks for what is of late
            self._store(lease, [customer_of(each, self._catalog, key, read_at) for each in customers], found)

    def _sync_invoices(self, lease: Lease, found: SyncResult) -> None:
        v1, now = self._stripe.v1, int(self._clock())
        unpaid = v1.invoices.list({"limit": PAGE_SIZE, "status": "open"})
        recent = v1.invoices.list({"limit": PAGE_SIZE, "created": {"gte": now - RECENT_SECONDS}})
        for invoices in _pages(chain(unpaid.auto_paging_iter(), recent.auto_paging_iter())):
            self._store(lease, [self._invoice(each, now) for each in invoices], found)
        # Invoices that are unsettled in the ledger only: the webhook events that settled them were missed.
        for identity in self._accounts.unsettled_invoices(checked_before=now):
            self._store_one(lease, identity, self._retrieve("invoice", identity), found)

    def _sync_refunds(self, lease: Lease) -> None:
        """Take back what recent refunds take back, of which the endpoint may not have been told; each does so once."""
        if self._purchases is None:
            return
        since = int(self._clock()) - RECENT_SECONDS
        for refund in self._stripe.v1.refunds.list({"limit": PAGE_SIZE, "created": {"gte": since}}).auto_paging_iter():
            self._take_back(lease, "refund", refund.id, [])

    def _sync_disputes(self, lease: Lease) -> None:
        """Withhold or give back what disputes of late say, of which the endpoint may not have been told."""
        if self._purchases is None:
            return
        since = int(self._clock()) - DISPUTED_SECONDS
        listed = self._stripe.v1.disputes.list({"limit": PAGE_SIZE, "created": {"gte": since}})
        for dispute in listed.auto_paging_iter():
            self._take_back(lease, "dispute", dispute.id, [])

    def _store_one(
        self,
        lease: Lease,
        identity: str,
        current: StripeObject | None,
        found: SyncResult,
        *,
        events: Collection[str] = (),
    ) -> None:
        """Store the *current* state of one object; None if Stripe has it no longer."""
        if current is None:
            self._store(lease, [], found, deleted=identity, events=events)
        else:
            self._store(lease, [current], found, events=events)

    def _store(
        self,
        lease: Lease,
        objects: Collection[StripeObject],
        found: SyncResult,
        *,
        deleted: str = "",
        events: Collection[str] = (),
    ) -> None:
        """Store *objects* in one transaction, remove the invoice *deleted*, and mark *events* as applied."""
        subscriptions = [each for each in objects if isinstance(each, Subscription)]
        openings = self._opening_balances(subscriptions)
        pasts = {each.id: self._past(each, events) for each in subscriptions}
        with self._database.transaction() as connection:
            hold(lease, connection, clock=self._clock)
            changed_at = self._inbox.latest(connection, events)
            for each in objects:
                past, prorations = pasts.get(each.id, ([], None)) if isinstance(each, Subscription) else ([], None)
                ambiguous = self._accounts.put(
                    connection, each, changed_at=changed_at, past=past, prorations=prorations
                )
                if ambiguous:
                    found.ambiguous.append(ambiguous)
            if (failed_at := self._inbox.payment_failed(connection, events)) is not None:
                self._accounts.mark_payment_failed(connection, (each.id for each in _invoices(objects)), failed_at)
            for opening, reported in openings:
                self._openings.put(connection, opening, reported)
            if deleted:
                self._accounts.remove_invoice(connection, deleted)
            waits = " ".join(filter(None, [self._grant(connection, each) for each in _invoices(objects)]))
            if events and not waits:
                self._inbox.settle(connection, events)
        if waits:
            found.error = waits
            if events:
                self._inbox.postpone(events, waits)
        _count(objects, found)

    def _past(
        self, subscription: Subscription, events: Collection[str]
    ) -> tuple[list[PastSubscription], list[Proration] | None]:
        """Return what events say that a subscription was, and what Stripe has made of changes to its items."""
        told = self._inbox.told(events) if events else []
        past = past_of(subscription, told, self._catalog) if told else []
        with self._database.snapshot() as connection:
            since = changed_since(connection, subscription, past)
        if since is None:
            return past, None
        return past, prorations_of(self._stripe, subscription.customer, since)

    def _opening_balances(self, subscriptions: list[Subscription]) -> list[tuple[Opening, int]]:
        """Request what others have reported of running periods that are seen for the first time."""
        running = [each for each in subscriptions if each.ended_at is None]
        periods = [
            (item.customer, item.event_name, item.period_start)
            for each in running
            for item in each.items
            if item.event_name is not None
        ]
        begun, others = self._openings.unseen(periods, int(self._clock()))
        found = [(opening, 0) for opening in others]
        summaries = Summaries(self._stripe)
        for opening in begun:
            start = opening.since - opening.since % 60
            try:
                reported = summaries.used(opening.event_name, opening.customer, start, opening.until)
            except (stripe.InvalidRequestError, stripe.PermissionError):
                continue  # a deleted customer, or a restricted key: it is looked at again with the next change
            found.append((opening, int(reported)))
        return found


def _not_in_code(what: str, wallets: Collection[str]) -> str:
    """Return that *what* is of *wallets* that the code does not have; empty if there are none."""
    if not wallets:
        return ""
    names = ", ".join(repr(name) for name in sorted(wallets))
    return (
        f"{what} {names}, and no wallet of this kit has that name: add it to wallets= again, and it is applied. A "
        "wallet must keep its name"
    )


def _count(objects: Iterable[StripeObject], found: SyncResult) -> None:
    """Add what was stored to *found*."""
    for each in objects:
        if isinstance(each, Customer):
            found.customers += 1
        elif isinstance(each, Subscription):
            found.subscriptions += 1
        elif isinstance(each, Invoice):
            found.invoices += 1
            found.closing |= (each.status, each.billing_reason) == CLOSING


def _invoices(objects: Iterable[StripeObject]) -> Iterator[Invoice]:
    return (each for each in objects if isinstance(each, Invoice))


def _pages(objects: Iterator[Any]) -> Iterator[list[Any]]:
    page: list[Any] = []
    for each in objects:
        page.append(each)
        if len(page) == PAGE_SIZE:
            yield page
            page = []
    if page:
        yield page
