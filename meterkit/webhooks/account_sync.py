"""
Refresh accounts from Stripe, after a webhook event or all at once.

A webhook event tells which object has changed, and Stripe is asked what it is now. So it does not matter in which order
events come, how often, or how late: what is kept in the end is what Stripe has.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import stripe

from meterkit.accounts.accounts import Accounts
from meterkit.accounts.inbox import Inbox
from meterkit.accounts.models import Invoice, StripeObject
from meterkit.core import threads
from meterkit.core.threads import Event
from meterkit.ledger.database import Database
from meterkit.ledger.lease import Lease, LeaseLostError, held, hold
from meterkit.outbox.corrections import Corrections
from meterkit.stripe_api.catalog import Catalog
from meterkit.stripe_api.outcomes import classify
from meterkit.stripe_api.transport import PAGE_SIZE, connect, plain
from meterkit.webhooks.mapping import customer_of, invoice_of, subscription_of

METER_ERRORS = "v2.core.event"
"""What a thin event about meter errors is about: itself, for it has to be asked for what it tells."""

CLOSING = ("draft", "subscription_cycle")
"""Status and billing reason of an invoice that waits for the last usage of its period."""

LATELY_SECONDS = 40 * 24 * 3600
"""Usage of 35 days ago can still be reported, and may belong to an invoice of that time."""


@dataclass(slots=True)
class SyncResult:
    """
    What was looked up.

    Attributes:
        customers: How many of them are as Stripe has them now.
        subscriptions: The same.
        invoices: The same.
        closing: A billing period has ended, and its invoice is not final yet.
        ambiguous: Companies that the metadata of two customers name.
        error: Why something could not be looked up; empty if all was.
    """

    customers: int = 0
    subscriptions: int = 0
    invoices: int = 0
    closing: bool = False
    ambiguous: list[str] = field(default_factory=list)
    error: str = ""


class AccountSync:
    """
    Keeps up with Stripe.

    Args:
        database: Where the ledger is kept.
        clock: Unix time in seconds.
        api_key: Stripe's secret key.
        base: Stripe's base address; None for the real one.
        metadata_key: Under which a customer's metadata name the company.
        stop: When set, it ends with the next object.
    """

    def __init__(
        self,
        database: Database,
        *,
        clock: Callable[[], float],
        api_key: str,
        base: str | None,
        metadata_key: str,
        stop: Event,
    ) -> None:
        self._database = database
        self._clock = clock
        self._metadata_key = metadata_key
        self._stop = stop
        self._accounts = Accounts(database, clock=clock)
        self._inbox = Inbox(database, clock=clock)
        self._mending = Corrections(database, clock=clock)
        self._holder = f"{os.getpid()}-{uuid.uuid4().hex}"
        self._pass = threads.rlock()
        self._stripe, self._http = connect(api_key, base)
        self._catalog = Catalog(self._stripe)

    def follow(self) -> SyncResult:
        """
        Look at what webhook events were about.

        Raises:
            LedgerError: The ledger failed; the events wait.
        """
        found = SyncResult()
        waiting = self._inbox.waiting()
        if waiting and not self._hold_lease(found, lambda lease: self._follow(lease, waiting, found)):
            found.error = ""  # another process looks at them
        return found

    def refresh(self, objects: Iterable[tuple[str, str]]) -> SyncResult:
        """
        Look at some objects, by type and id.

        Raises:
            LedgerError: The ledger failed.
        """
        found = SyncResult()
        self._hold_lease(found, lambda lease: self._follow(lease, {each: [] for each in objects}, found))
        return found

    def sync(self) -> SyncResult:
        """
        Look at all customers, all subscriptions, and the invoices that are open or of the last 40 days.

        Raises:
            LedgerError: The ledger failed.
        """
        found = SyncResult()
        self._hold_lease(found, lambda lease: self._sync(lease, found))
        return found

    def hang_up(self) -> None:
        """End a call that takes too long; for a thread that looks after the one that follows."""
        self._http.hang_up()

    def close(self) -> None:
        """Close the connections to Stripe."""
        self._http.close()

    def _hold_lease(self, found: SyncResult, work: Callable[[Lease], None]) -> bool:
        """Do *work*, unless another process syncs; return whether it was done."""
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
                    self._take_back_errors(identity, events)
                    continue
                said = self._ask(kind, identity)
            except stripe.StripeError as error:
                verdict = classify(error)
                self._inbox.postpone(events, verdict.error)
                found.error = verdict.error
                if verdict.affects_all:
                    return
                continue
            self._keep(lease, [] if said is None else [said], found, gone=identity if said is None else "", of=events)

    def _take_back_errors(self, identity: str, events: list[str]) -> None:
        """Stripe has dropped meter events that it had taken: their reports are rejected, with its reason."""
        found = self._stripe.v2.core.events.retrieve(identity)
        data: Any = plain(found).get("data") or {}
        for kind in (data.get("reason") or {}).get("error_types") or ():
            for sample in kind.get("sample_errors") or ():
                request = sample.get("request") or {}
                sent_as = str(request.get("identifier") or request.get("idempotency_key") or "")
                self._mending.mark_rejected(sent_as, f"{kind.get('code')}: {sample.get('error_message')}")
        with self._database.transaction() as connection:
            self._inbox.settle(connection, events)

    def _ask(self, kind: str, identity: str) -> StripeObject | None:
        """What Stripe says now; None if it has no such object."""
        v1, now = self._stripe.v1, int(self._clock())
        try:
            if kind == "customer":
                return customer_of(v1.customers.retrieve(identity), self._metadata_key, now)
            if kind == "subscription":
                return subscription_of(v1.subscriptions.retrieve(identity), self._catalog, now)
            return invoice_of(v1.invoices.retrieve(identity), now) if kind == "invoice" else None
        except stripe.InvalidRequestError as error:
            if error.http_status == 404:
                return None
            raise

    def _sync(self, lease: Lease, found: SyncResult) -> None:
        v1, now = self._stripe.v1, int(self._clock())
        for customers in _pages(v1.customers.list({"limit": PAGE_SIZE}).auto_paging_iter()):
            self._keep(lease, [customer_of(each, self._metadata_key, now) for each in customers], found)
        for subscriptions in _pages(v1.subscriptions.list({"limit": PAGE_SIZE, "status": "all"}).auto_paging_iter()):
            self._keep(lease, [subscription_of(each, self._catalog, now) for each in subscriptions], found)
        unpaid = v1.invoices.list({"limit": PAGE_SIZE, "status": "open"})
        lately = v1.invoices.list({"limit": PAGE_SIZE, "created": {"gte": now - LATELY_SECONDS}})
        for invoices in _pages(chain(unpaid.auto_paging_iter(), lately.auto_paging_iter())):
            self._keep(lease, [invoice_of(each, now) for each in invoices], found)
        # What the ledger takes for unsettled, and Stripe does not, has been settled without our hearing of it.
        for identity in self._accounts.unsettled_invoices(checked_before=now):
            said = self._ask("invoice", identity)
            self._keep(lease, [] if said is None else [said], found, gone=identity if said is None else "")

    def _keep(
        self, lease: Lease, said: list[Any], found: SyncResult, *, gone: str = "", of: list[str] | None = None
    ) -> None:
        with self._database.transaction() as connection:
            hold(lease, connection, clock=self._clock)
            for each in said:
                ambiguous = self._accounts.put(connection, each)
                if ambiguous:
                    found.ambiguous.append(ambiguous)
            if gone:
                self._accounts.remove_invoice(connection, gone)
            if of:
                self._inbox.settle(connection, of)
        for each in said:
            found.closing |= isinstance(each, Invoice) and (each.status, each.billing_reason) == CLOSING
            name = f"{type(each).__name__.lower()}s"
            setattr(found, name, getattr(found, name) + 1)


def _pages(objects: Iterator[Any]) -> Iterator[list[Any]]:
    page: list[Any] = []
    for each in objects:
        page.append(each)
        if len(page) == PAGE_SIZE:
            yield page
            page = []
    if page:
        yield page
