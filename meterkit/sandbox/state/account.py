"""The Stripe account: every object, the clock and the switches, guarded by one lock."""

from __future__ import annotations

import secrets
import string
import threading
from typing import TYPE_CHECKING, Any

from meterkit.sandbox.protocol.errors import no_such
from meterkit.sandbox.protocol.frame import API_VERSION
from meterkit.sandbox.state.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Callable

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
    "invoice": ("in_1", 23, "invoice"),
    "invoiceitem": ("ii_1", 23, "invoice item"),
    "event": ("evt_1", 23, "event"),
    "v2.billing.meter_event_adjustment": ("mtr_event_adj_test_61", 30, "meter event adjustment"),
    "v2.billing.meter_event_session": ("mtr_event_ses_test_61", 30, "meter event session"),
    "v2.core.event": ("evt_test_65", 42, "event"),
}
# Fields that no event has, because they are shown only on request.
ON_REQUEST = {"price": ("tiers", "currency_options"), "coupon": ("applies_to", "currency_options")}
NO_REQUEST: Record = {"id": None, "idempotency_key": None}  # of events that time causes, not a request
_ALPHABET = string.ascii_letters + string.digits


def fresh_id(prefix: str, length: int = 14) -> str:
    """Return a random id in Stripe's style."""
    return prefix + "".join(secrets.choice(_ALPHABET) for _ in range(length))


class Account:
    """
    The state of one sandbox.

    Attributes:
        lock: Lock held while anything here is read or written, but never while waiting.
        tables: Records by object name and id, in order of creation. Keys that begin with `_` are never shown.
        usage: Meter events.
        outcomes: Whether payments succeed, fail or have no method, by customer.
        blocked: Ids of drafts that are not finalised until an endpoint accepts their event.
        reports: Errors found by asynchronous checks and not reported yet; see `metering/error_reports.py`.
        watched: Checks of alerts that are due after the processing lag; see `metering/alerts.py`.
        forked: Whether this is a fork, in which nothing is paid; see `state/fork.py`.
        on_event: Function called with each new event, snapshot or thin, while the lock is held.

    """

    def __init__(self, clock: Clock, switches: Switches) -> None:
        self.lock = threading.RLock()
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
        self.on_event: Callable[[Record], None] | None = None
        self.origin = NO_REQUEST  # the current request, which events refer to

    @property
    def now(self) -> int:
        """Sandbox time in Unix seconds."""
        return self.clock.now

    def new_id(self, kind: str) -> str:
        """Return a new id for an object of that kind."""
        prefix, length, _ = KINDS[kind]
        if self.switches.livemode:
            prefix = prefix.replace("test_", "")
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
                "account": None,
                "api_version": API_VERSION,
                "context": None,
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
    """Return a copy of a record as the API shows it: without internal fields and expandable tiers."""
    if isinstance(value, dict):
        hidden = ON_REQUEST.get(str(value.get("object")), ())
        return {key: _snapshot(item) for key, item in value.items() if not key.startswith("_") and key not in hidden}
    if isinstance(value, list):
        return [_snapshot(item) for item in value]
    return value
