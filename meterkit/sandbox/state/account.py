"""The Stripe account: every object, the clock and the switches, guarded by one lock."""

from __future__ import annotations

import hashlib
import secrets
import string
import threading
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from meterkit.sandbox.protocol.errors import no_such
from meterkit.sandbox.protocol.frame import API_VERSION
from meterkit.sandbox.state.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from meterkit.sandbox.state.clock import Clock
    from meterkit.sandbox.state.switches import Switches

Record = dict[str, Any]

# object name -> (prefix of its ids, number of characters that follow, name in error messages)
KINDS: dict[str, tuple[str, int, str]] = {
    "customer": ("cus_", 14, "customer"),
    "product": ("prod_", 14, "product"),
    "price": ("price_1", 23, "price"),
    "coupon": ("", 8, "coupon"),
    "promotion_code": ("promo_1", 23, "promotion code"),
    "discount": ("di_1", 23, "discount"),
    "customer_balance_transaction": ("cbtxn_1", 23, "customer balance transaction"),
    "billing.credit_grant": ("credgr_test_61", 30, "credit grant"),
    "billing.credit_balance_transaction": ("cbtxn_test_61", 30, "credit balance transaction"),
    "billing.alert": ("alrt_1", 23, "alert"),
    "billing.meter": ("mtr_test_61", 30, "billing meter"),
    "subscription": ("sub_1", 23, "subscription"),
    "subscription_item": ("si_", 14, "subscription item"),
    "subscription_schedule": ("sub_sched_1", 23, "subscription schedule"),
    "invoice": ("in_1", 23, "invoice"),
    "invoiceitem": ("ii_1", 23, "invoice item"),
    "billing_portal.configuration": ("bpc_1", 23, "billing portal configuration"),
    "billing_portal.session": ("bps_1", 23, "billing portal session"),
    "account": ("acct_1", 15, "account"),
    "test_helpers.test_clock": ("clock_1", 23, "test clock"),
    "checkout.session": ("cs_test_a1", 58, "checkout.session"),
    "invoice_payment": ("inpay_1", 23, "invoice_payment"),
    "payment_intent": ("pi_3", 23, "payment_intent"),
    "payment_method": ("pm_1", 23, "PaymentMethod"),
    "refund": ("re_3", 23, "refund"),
    "dispute": ("du_1", 23, "dispute"),
    "setup_intent": ("seti_1", 23, "setupintent"),
    "event": ("evt_1", 23, "event"),
    "v2.billing.meter_event_adjustment": ("mtr_event_adj_test_61", 30, "meter event adjustment"),
    "v2.billing.meter_event_session": ("mtr_event_ses_test_61", 30, "meter event session"),
    "webhook_endpoint": ("we_1", 23, "webhook endpoint"),
    "v2.core.event_destination": ("ed_test_61", 42, "event destination"),
    "v2.core.event": ("evt_test_65", 42, "event"),
}
# Fields that no event has, because they are shown only on request.
ON_REQUEST = {
    "checkout.session": ("line_items",),
    "coupon": ("applies_to", "currency_options"),
    "invoice": ("payments",),
    "price": ("tiers", "currency_options"),
}
CLOCK = "test_helpers.test_clock"
NO_REQUEST: Record = {"id": None, "idempotency_key": None}  # of events that time causes, not a request
_ALPHABET = string.ascii_letters + string.digits


def fresh_id(prefix: str, length: int = 14) -> str:
    """Return a random id in Stripe's style."""
    return prefix + "".join(secrets.choice(_ALPHABET) for _ in range(length))


class Account:
    """
    The state of one Stripe account.

    Args:
        clock: Clock of the sandbox.
        switches: Behaviour of the sandbox.
        platform: Account that this one is connected to; None for the account that the key belongs to.
        key: API key that the id follows from, so that a sandbox that is started again is the same account; empty makes
            a random id.

    Attributes:
        id: Id of the account, ``acct_...``.
        platform: The argument.
        context: Id that events of a connected account name; None for the account that the key belongs to.
        connected: Connected accounts by id, each a world of its own.
        url: Base address of the sandbox, for the pages that it hosts; "" while it has not been started.
        lock: Lock held while anything here is read or written, but never while waiting; connected accounts share it.
        tables: Records by object name and id, in order of creation. Keys that begin with `_` are never shown.
        usage: Meter events.
        outcomes: What becomes of payments, by id of the payment method or customer; see
            `charging/payment_methods.py`.
        blocked: Ids of drafts that are not finalised until an endpoint accepts their event.
        reports: Errors found by asynchronous checks and not reported yet; see `metering/error_reports.py`.
        watched: Checks of alerts that are due after the processing lag; see `metering/alerts.py`.
        forked: Whether this is a fork, in which nothing is paid; see `state/fork.py`.
        on_event: Function called with each new event, snapshot or thin, while the lock is held.

    """

    def __init__(self, clock: Clock, switches: Switches, *, platform: Account | None = None, key: str = "") -> None:
        self.id = f"acct_1{hashlib.sha256(key.encode()).hexdigest()[:15]}" if key else fresh_id("acct_1", 15)
        self.context = None if platform is None else self.id
        self.platform = platform
        self.connected: dict[str, Account] = {}
        self.url: str = "" if platform is None else platform.url
        self.lock: AbstractContextManager[Any] = threading.RLock() if platform is None else platform.lock
        self.clock = clock
        self.switches = switches
        self.tables: dict[str, dict[str, Record]] = {kind: {} for kind in KINDS}
        self.usage = Usage(clock, switches)
        self.adjustments: list[Record] = []
        self.outcomes: dict[str, str] = {}
        self.blocked: set[str] = set()
        self.reports: dict[tuple[str, int], Record] = {}
        self.watched: dict[tuple[int, str, str], Record] = {}
        self.forked = False
        self.on_event: Callable[[Record], None] | None = None if platform is None else platform.on_event
        self.origin = NO_REQUEST  # the current request, which events refer to

    @property
    def worlds(self) -> list[Account]:
        """This account, and those connected to it."""
        return [self, *self.connected.values()]

    @property
    def now(self) -> int:
        """Sandbox time in Unix seconds."""
        return self.clock.now

    @contextmanager
    def at(self, clock: str | None) -> Iterator[None]:
        """Let the time be that of a test clock meanwhile; with None, it stays as it is."""
        record = None if clock is None else self.find(CLOCK, clock)
        if record is None:
            yield
            return
        before = self.clock.pinned
        self.clock.pin(record["frozen_time"])
        try:
            yield
        finally:
            self.clock.pin(before)

    def new_id(self, kind: str) -> str:
        """Return a new id for an object of that kind."""
        prefix, length, _ = KINDS[kind]
        if self.switches.livemode:
            prefix = prefix.replace("test_", "live_" if kind == "checkout.session" else "")
        return fresh_id(prefix, length)

    def add(self, record: Record) -> Record:
        """Store a new object, and return it."""
        self.tables[record["object"]][record["id"]] = record
        return record

    def find(self, kind: str, identity: str) -> Record | None:
        """Return the object, even if it is deleted, or None."""
        return self.tables[kind].get(identity)

    def get(self, kind: str, identity: str, *, param: str = "id") -> Record:
        """
        Return the object with that id.

        Raises:
            ApiError: `resource_missing`; 404 if the id is in the path, 400 if it is in *param*.

        """
        record = self.find(kind, identity)
        if record is None or record.get("deleted") or record.get("_hidden"):
            raise no_such(KINDS[kind][2], identity, param=param)
        return record

    def all(self, kind: str) -> list[Record]:
        """Return all objects of a kind, oldest first, without deleted and hidden ones."""
        return [
            record for record in self.tables[kind].values() if not record.get("deleted") and not record.get("_hidden")
        ]

    def announce(self, name: str, record: Record, previous: Record | None = None) -> None:
        """Append an event (`billing.meter.created`, …) with a snapshot of the object to the event log."""
        data: Record = {"object": _snapshot(record)}
        if previous is not None:
            data["previous_attributes"] = _snapshot(previous)
        event = self.add(
            {
                "id": self.new_id("event"),
                "object": "event",
                "account": self.context,
                "api_version": API_VERSION,
                "context": self.context,
                "created": self.now,
                "data": data,
                "livemode": self.switches.livemode,
                "pending_webhooks": 0,
                "request": dict(self.origin),
                "type": name,
            }
        )
        if self.on_event is not None:
            self.on_event(event)

    def change(self, record: Record, event: str, /, **values: Any) -> None:
        """Set fields, and announce the change with their previous values, unless nothing changes."""
        previous = {key: record[key] for key, value in values.items() if record[key] != value}
        if previous:
            record.update(values)
            self.announce(event, record, previous)


def _snapshot(value: Any) -> Any:
    """Return a copy of a record as the API shows it: without internal fields and those on demand."""
    if isinstance(value, dict):
        hidden = ON_REQUEST.get(str(value.get("object")), ())
        return {key: _snapshot(item) for key, item in value.items() if not key.startswith("_") and key not in hidden}
    if isinstance(value, list):
        return [_snapshot(item) for item in value]
    return value
