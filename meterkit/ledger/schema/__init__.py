"""Table definitions."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from meterkit.ledger.schema.quantities import Quantity

VERSION = 7
"""Schema version. A ledger with a higher one is refused; `meterkit.ledger.schema.migrations` upgrades lower ones."""

PREFIX = "meterkit_"
"""Prefix of every table and index, because the application may have its own ``accounts`` in the same database."""

LEASES = ("reporter", "follower")
"""Names of the leases: for reporting, and for syncing accounts."""

metadata = MetaData()
"""
The tables of the ledger, which meterkit creates and upgrades itself.

For tools that compare a database with what it should contain; not to read or write usage.
"""

_UNKNOWN = text("unknown_since IS NOT NULL")
_UNBILLED = text("quantity <> billed")
_UNPRICED = text("rate < 0")
_RECEIVED = text("state = 'received'")
_OPEN = text("status = 'open'")
_WAITING = text("state = 'waiting'")
_GIVEN_UP = text("state = 'given_up'")
_LEFT = text("remaining > 0")
_UNDER_WAY = text("state = 'open'")
_EXPIRING = text("remaining > 0 AND expires_at IS NOT NULL")
SETTLED = text("account NOT IN ('used', 'available')")
"""Entries of which a company has few, so that a balance is told without reading all its usage."""

meta = Table(
    f"{PREFIX}meta",
    metadata,
    Column("key", String(40), primary_key=True),  # see `migrations` and `stripe_mode`
    Column("value", Text, nullable=False),
)

usage = Table(
    f"{PREFIX}usage",
    metadata,
    Column("meter", Text, primary_key=True),
    Column(
        "event_name", Text, primary_key=True
    ),  # stored, so that a meter removed from the code is still reported; "" if not billable
    Column("company", Text, primary_key=True),  # "" if unattributed
    Column("user", Text, primary_key=True),  # "" if not identified
    Column("window", BigInteger, primary_key=True),  # the Unix second at which it begins
    Column("quantity", Quantity, nullable=False),
    # The part of the quantity that is in reports; without an event name, all of it, as nothing is to be reported.
    Column("reported", Quantity, nullable=False),
    Column("last_used", BigInteger, nullable=False),
    # Unreported rows are looked up every hour, among all rows ever written. PostgreSQL's index is in `due.COLUMN`.
    Index(f"{PREFIX}usage_unreported", "window", sqlite_where=text("quantity <> reported")).ddl_if("sqlite"),
    # Rows that may be pruned. Flushes do not touch this index, because they write unreported rows.
    Index(f"{PREFIX}usage_reported", "window", sqlite_where=text("quantity = reported")).ddl_if("sqlite"),
    Index(f"{PREFIX}usage_company", "company", "window"),
)

usage_values = Table(
    f"{PREFIX}usage_values",
    metadata,
    # Of `usage` of meters with dimensions, how much is of which values, written with it; of all users together. What
    # was counted without values is in `usage` alone.
    Column("company", Text, primary_key=True),  # "" if unattributed
    Column("meter", Text, primary_key=True),
    Column("window", BigInteger, primary_key=True),
    Column("dimensions", Text, primary_key=True),  # as JSON: see `meterkit.core.usage_key.encoded_values`
    Column("event_name", Text, primary_key=True),  # as in `usage`
    Column("quantity", Quantity, nullable=False),
    Index(f"{PREFIX}usage_values_meter", "meter", "window"),
    sqlite_with_rowid=False,
)

month_values = Table(
    f"{PREFIX}month_values",
    metadata,
    # Sums of `usage_values` by calendar month, also of what has no company. They stay when usage is deleted.
    Column("month", BigInteger, primary_key=True),  # the Unix second at which the UTC month begins
    Column("meter", Text, primary_key=True),
    Column("company", Text, primary_key=True),
    Column("dimensions", Text, primary_key=True),
    Column("quantity", Quantity, nullable=False),
    Index(f"{PREFIX}month_values_company", "company", "month"),
    sqlite_with_rowid=False,
)

rated = Table(
    f"{PREFIX}rated",
    metadata,
    # Usage that has a price by values, and at which rate it was rated: so a later price changes nothing of it. Written
    # with `usage`, which has the units without an event name, and the amounts as usage of the meter `amounts`.
    Column("company", Text, primary_key=True),  # "" if unattributed
    Column("meter", Text, primary_key=True),
    Column("window", BigInteger, primary_key=True),
    Column("dimensions", Text, primary_key=True),  # as in `usage_values`
    Column("amounts", Text, primary_key=True),  # name of the meter of the amounts
    Column("rate", BigInteger, primary_key=True),  # trillionths of the currency for a unit; -1 if it has no price
    Column("quantity", Quantity, nullable=False),
    # The part of the quantity whose amount is in `usage` to be reported, or on lines of invoices.
    Column("billed", Quantity, nullable=False),
    Index(f"{PREFIX}rated_meter", "meter", "window"),
    Index(f"{PREFIX}rated_unpriced", "meter", sqlite_where=_UNPRICED, postgresql_where=_UNPRICED),
    Index(f"{PREFIX}rated_unbilled", "company", "window", sqlite_where=_UNBILLED, postgresql_where=_UNBILLED),
    sqlite_with_rowid=False,
)

rated_sums = Table(
    f"{PREFIX}rated_sums",
    metadata,
    # Sums of the exact amounts. The usage of the meter `amounts` is their millionths, rounded down.
    Column("company", Text, primary_key=True),
    Column("amounts", Text, primary_key=True),
    Column("amount", Quantity, nullable=False),  # trillionths of the currency
    sqlite_with_rowid=False,
)

rated_lines = Table(
    f"{PREFIX}rated_lines",
    metadata,
    # One row is one invoice item. Columns above the line are written before the first attempt, and never change.
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("identifier", String(100), nullable=False, unique=True),
    Column("customer", String(255), nullable=False),
    Column("subscription", String(255), nullable=False),
    Column("invoice", String(255), nullable=False),  # of the period
    Column("is_late", Boolean, nullable=False),  # whether it goes on the next invoice, because that one is final
    Column("meter", Text, nullable=False),
    Column("amounts", Text, nullable=False),
    Column("dimensions", Text, nullable=False),
    Column("period_start", BigInteger, nullable=False),
    Column("period_end", BigInteger, nullable=False),
    Column("quantity", Quantity, nullable=False),
    Column("exact", Quantity, nullable=False),  # amount in trillionths of the currency
    Column("amount", BigInteger, nullable=False),  # in the currency's minor unit
    Column("currency", String(3), nullable=False),
    Column("description", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    # ---
    Column("state", String(10), nullable=False),  # pending, sent, rejected, replaced
    Column("attempts", Integer, nullable=False),
    Column("refusals", Integer, nullable=False),
    Column("error", Text, nullable=False),
    Column("settled_at", BigInteger),
    Index(f"{PREFIX}rated_lines_state", "state"),
    Index(f"{PREFIX}rated_lines_place", "invoice", "amounts"),
)

rerates = Table(
    f"{PREFIX}rerates",
    metadata,
    # Months that were rated again.
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("month", BigInteger, nullable=False),  # the Unix second at which the UTC month begins
    Column("at", BigInteger, nullable=False),
    Column("by", Text, nullable=False),  # "" if not said
    Column("state", String(10), nullable=False),  # begun, done, undoing, undone
    Index(f"{PREFIX}rerates_month", "month"),
)

rerated = Table(
    f"{PREFIX}rerated",
    metadata,
    # What was moved from one rate to another; deleted when it is moved back.
    Column("rerate", BigInteger, primary_key=True),
    Column("company", Text, primary_key=True),
    Column("meter", Text, primary_key=True),
    Column("window", BigInteger, primary_key=True),
    Column("dimensions", Text, primary_key=True),
    Column("amounts", Text, primary_key=True),
    Column("old", BigInteger, primary_key=True),  # rates, as in `rated`
    Column("new", BigInteger, primary_key=True),
    Column("quantity", Quantity, nullable=False),
    sqlite_with_rowid=False,
)

totals = Table(
    f"{PREFIX}totals",
    metadata,
    # Sums of `usage` by day, written with it: a company's usage in a period is read all the time.
    Column("company", Text, primary_key=True),
    Column("meter", Text, primary_key=True),
    Column("day", BigInteger, primary_key=True),  # the Unix second at which the UTC day begins
    Column("quantity", Quantity, nullable=False),
    Column("change", BigInteger, nullable=False),  # grows with each commit that touches a row
    Index(f"{PREFIX}totals_change", "change"),
)

meter_totals = Table(
    f"{PREFIX}meter_totals",
    metadata,
    # Sums of `usage` by day over all companies, also of what has none: for pages, which must not read every company.
    Column("meter", Text, primary_key=True),
    Column("day", BigInteger, primary_key=True),  # the Unix second at which the UTC day begins
    Column("quantity", Quantity, nullable=False),
)

month_totals = Table(
    f"{PREFIX}month_totals",
    metadata,
    # Sums of `totals` by calendar month: for pages, which list the companies that have used most.
    Column("month", BigInteger, primary_key=True),  # the Unix second at which the UTC month begins
    Column("meter", Text, primary_key=True),
    Column("company", Text, primary_key=True),
    Column("quantity", Quantity, nullable=False),
    sqlite_with_rowid=False,  # one tree instead of two: each flush writes to it, and pages read a month in its order
)

peaks = Table(
    f"{PREFIX}peaks",
    metadata,
    # What a sum does not show: which values unique() has counted, and by how much maximum() has risen.
    Column("meter", Text, primary_key=True),
    Column("company", Text, primary_key=True),
    Column("value", Text, primary_key=True),  # of unique(); "" for maximum()
    Column("window", BigInteger, primary_key=True),  # the one in which it was counted
    Column("quantity", BigInteger, nullable=False),  # 1 for unique(), the increment for maximum()
    Index(f"{PREFIX}peaks_window", "window"),
)

record_keys = Table(
    f"{PREFIX}record_keys",
    metadata,
    # Keys of kit.record(key=), each of which has counted once.
    Column("meter", Text, primary_key=True),
    Column("company", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("quantity", BigInteger, nullable=False),
    Column("counted_at", BigInteger, nullable=False),
    Index(f"{PREFIX}record_keys_counted_at", "counted_at"),
)

actions = Table(
    f"{PREFIX}actions",
    metadata,
    # What operators did, and who; written in the transaction that does it.
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("action", String(20), nullable=False),  # see `meterkit.ledger.actions.Kind`
    Column("subject", Text, nullable=False),  # company id, identifier of a meter event, month, or mode
    Column("detail", Text, nullable=False),
    Column("by", Text, nullable=False),  # "" if not said
    Index(f"{PREFIX}actions_at", "at"),
)

counted = Table(
    f"{PREFIX}counted",
    metadata,
    # The other side of the books: quantity folded by meter, independent of the usage rows.
    Column("meter", Text, primary_key=True),
    Column("quantity", Quantity, nullable=False),
)

folds = Table(
    f"{PREFIX}folds",
    metadata,
    Column("generation", String(32), primary_key=True),  # of the journal; written in the transaction that folds it
    Column("folded_at", BigInteger, nullable=False),
    Index(f"{PREFIX}folds_folded_at", "folded_at"),
)

access_logs = Table(
    f"{PREFIX}access_logs",
    metadata,
    # How far each log file has been counted; written in the transaction with the counts. See `meterkit.access_logs`.
    Column("id", String(32), primary_key=True),
    Column("source", Text, nullable=False),
    Column("family", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("inode", String(60), nullable=False),
    Column("head_bytes", Integer, nullable=False),
    Column("head", String(64), nullable=False),
    Column("tail_bytes", Integer, nullable=False),
    Column("tail", String(64), nullable=False),
    Column("read_bytes", BigInteger, nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("lines", BigInteger, nullable=False),
    Column("unreadable", BigInteger, nullable=False),
    Column("outdated", BigInteger, nullable=False),
    Column("error", Text, nullable=False),
    Column("error_at", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
    Column("finished", String(60), nullable=False),
    Index(f"{PREFIX}access_logs_source", "source"),
    Index(f"{PREFIX}access_logs_seen_at", "seen_at"),
)

accounts = Table(
    f"{PREFIX}accounts",
    metadata,
    Column("company", Text, primary_key=True),
    Column("customer", Text, nullable=False),  # "cus_..."
    Column("linked_at", BigInteger, nullable=False),
    Column("source", String(10), nullable=False, server_default="link"),  # see Accounts
    Index(f"{PREFIX}accounts_customer", "customer"),
)

customers = Table(
    f"{PREFIX}customers",
    metadata,
    # This table and the next three hold what Stripe last returned, by its ids. `checked_at` is when that was.
    Column("id", String(255), primary_key=True),  # "cus_..."
    Column("name", Text, nullable=False),
    Column("company", Text),  # from the metadata
    Column("deleted", Boolean, nullable=False),
    Column("checked_at", BigInteger, nullable=False),
    Column("discounts", Text, nullable=False, server_default="[]"),  # as JSON
    Column("subscriptions_read_at", BigInteger),  # when all of its subscriptions were read; NULL if they never were
    Index(f"{PREFIX}customers_company", "company"),
)

subscriptions = Table(
    f"{PREFIX}subscriptions",
    metadata,
    Column("id", String(255), primary_key=True),
    Column("customer", String(255), nullable=False),
    Column("status", String(40), nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    Column("cancel_at", BigInteger),
    Column("checked_at", BigInteger, nullable=False),
    # Of what a bill depends on; with the defaults until it is read again, after an upgrade.
    Column("currency", String(3), nullable=False, server_default=""),
    Column("billing_mode", String(40), nullable=False, server_default=""),
    Column("anchor", BigInteger),
    Column("trial_start", BigInteger),
    Column("trial_end", BigInteger),
    Column("pause", String(40)),
    Column("resumes_at", BigInteger),
    Column("discounts", Text, nullable=False, server_default="[]"),  # as JSON
    Column("threshold", BigInteger),
    Column("company", Text),  # from the metadata
    Column("started_at", BigInteger),  # before `created` if it was backdated
    Column("cancel_reason", String(40)),  # payment_failed, cancellation_requested, ...
    Index(f"{PREFIX}subscriptions_customer", "customer"),
)

subscription_states = Table(
    f"{PREFIX}subscription_states",
    metadata,
    # Each state that a subscription was found in, and since when.
    Column("subscription", String(255), primary_key=True),
    Column("since", BigInteger, primary_key=True),
    Column("status", String(40), nullable=False),
    Column("pause", String(40)),
)

items = Table(
    f"{PREFIX}items",
    metadata,
    Column("id", String(255), primary_key=True),  # of the subscription item
    Column("subscription", String(255), nullable=False),
    Column("customer", String(255), nullable=False),
    Column("event_name", Text),  # of the meter; NULL for a licensed price
    Column("quantity", BigInteger),  # of a licensed price
    Column("period_start", BigInteger, nullable=False),
    Column("period_end", BigInteger, nullable=False),
    Column("price", Text, nullable=False),  # Stripe's price as JSON
    Column("meter", String(255)),  # NULL for a licensed price
    Column("since", BigInteger, nullable=False, server_default="0"),  # from when it has this price and quantity
    Index(f"{PREFIX}items_subscription", "subscription"),
    Index(f"{PREFIX}items_customer", "customer"),
    Index(f"{PREFIX}items_period_end", "period_end"),
)

former_items = Table(
    f"{PREFIX}former_items",
    metadata,
    # What items were before they were changed or removed.
    Column("id", String(255), primary_key=True),  # of the subscription item
    Column("since", BigInteger, primary_key=True),
    Column("until", BigInteger, nullable=False),
    Column(
        "changed_after", BigInteger, nullable=False
    ),  # it was changed after this moment; `until`, if Stripe told when
    Column("subscription", String(255), nullable=False),
    Column("customer", String(255), nullable=False),
    Column("meter", String(255)),
    Column("event_name", Text),
    Column("quantity", BigInteger),
    Column("price", Text, nullable=False),
    Column("period_start", BigInteger, nullable=False, server_default="0"),  # of the billing period that it ended in
    Column("period_end", BigInteger, nullable=False, server_default="0"),
    Column("prorated", Boolean),  # whether Stripe has made an invoice item of its usage; NULL if that is not known
    Index(f"{PREFIX}former_items_subscription", "subscription"),
    Index(f"{PREFIX}former_items_customer", "customer", "until"),
)

stripe_meters = Table(
    f"{PREFIX}stripe_meters",
    metadata,
    # Meters of the account. A price keeps its meter when that is deactivated and another one takes over the event name.
    Column("id", String(255), primary_key=True),
    Column("event_name", Text, nullable=False),
    Column("deactivated_at", BigInteger),
)

opening_balances = Table(
    f"{PREFIX}opening_balances",
    metadata,
    # What others had reported of a billing period before meterkit first saw its subscription; 0 if nobody had.
    Column("customer", String(255), primary_key=True),
    Column("event_name", Text, primary_key=True),
    Column("since", BigInteger, primary_key=True),  # when the period began
    Column("until", BigInteger, nullable=False),  # when it was read from Stripe
    Column("quantity", Quantity, nullable=False),
)

invoices = Table(
    f"{PREFIX}invoices",
    metadata,
    Column("id", String(255), primary_key=True),
    Column("customer", String(255), nullable=False),
    Column("subscription", String(255)),
    Column("number", Text),
    Column("status", String(40), nullable=False),
    Column("billing_reason", String(40)),
    Column("collection_method", String(40), nullable=False),
    Column("currency", String(3), nullable=False),
    Column("total", BigInteger, nullable=False),  # in the currency's minor unit, as are all of Stripe's amounts
    Column("amount_remaining", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("period_start", BigInteger, nullable=False),
    Column("period_end", BigInteger, nullable=False),
    Column("due_at", BigInteger),
    Column("next_attempt_at", BigInteger),
    Column("finalized_at", BigInteger),
    Column("url", Text),  # at which the customer can pay
    Column("checked_at", BigInteger, nullable=False),
    Column("lines", Text, nullable=False, server_default="[]"),  # as JSON
    Column("failed_at", BigInteger),  # when an event first said that a payment of it has failed
    Index(f"{PREFIX}invoices_customer", "customer", "status"),
    Index(f"{PREFIX}invoices_open", "customer", sqlite_where=_OPEN, postgresql_where=_OPEN),
)

webhook_events = Table(
    f"{PREFIX}webhook_events",
    metadata,
    # The body is not stored: it may be outdated by now, so an event only says which object to read. But Stripe keeps no
    # history: what an event says of the items of a subscription at its time is kept in `told`, as JSON.
    Column("id", String(255), primary_key=True),  # "evt_..."
    Column("type", Text, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("object_type", String(80)),  # "invoice"
    Column("object_id", String(255)),
    Column("received_at", BigInteger, nullable=False),
    Column("state", String(10), nullable=False),  # received, applied, ignored
    Column("reason", Text, nullable=False),  # for ignoring it, or for not applying it yet
    Column("settled_at", BigInteger),
    Column("told", Text, nullable=False, server_default=""),
    Index(f"{PREFIX}webhook_events_waiting", "received_at", sqlite_where=_RECEIVED, postgresql_where=_RECEIVED),
    Index(f"{PREFIX}webhook_events_received_at", "received_at"),
)

reports = Table(
    f"{PREFIX}reports",
    metadata,
    # One row is one meter event. Columns above the line are written before the first attempt, and never change.
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("identifier", String(100), nullable=False, unique=True),
    Column("meter", Text, nullable=False),
    Column("event_name", Text, nullable=False),
    Column("company", Text, nullable=False),
    Column("customer", Text, nullable=False),
    Column("window", BigInteger, nullable=False),
    Column("sequence", Integer, nullable=False),  # from 0: the number of the increment within its window
    Column("quantity", BigInteger, nullable=False),
    Column("timestamp", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    # ---
    # pending, sent, rejected, uncertain, invoiced; returned: its usage is reported again; canceled: it was reversed
    Column("state", String(10), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column(
        "revision", Integer, nullable=False, server_default="0"
    ),  # refusals after which Stripe certainly did not have it
    Column("refusals", Integer, nullable=False),  # responses that the same Idempotency-Key would replay
    Column("attempted_at", BigInteger),  # of the latest attempt
    Column("unknown_since", BigInteger),  # first attempt of unknown outcome; if sent: to be verified
    Column("compared_at", BigInteger),  # when Stripe's summaries were inconclusive
    Column("error", Text, nullable=False),
    Column("settled_at", BigInteger),
    UniqueConstraint("meter", "event_name", "company", "window", "sequence"),
    Index(f"{PREFIX}reports_state", "state"),
    # Rows of unknown outcome are looked up every hour, among all rows ever written.
    Index(f"{PREFIX}reports_unknown", "unknown_since", sqlite_where=_UNKNOWN, postgresql_where=_UNKNOWN),
    Index(f"{PREFIX}reports_place", "customer", "event_name", "window"),
)

corrections = Table(
    f"{PREFIX}corrections",
    metadata,
    # Reversed usage, and why. Once "done", its quantity has been subtracted from `usage` and `counted`.
    Column("id", String(32), primary_key=True),
    Column("meter", Text, nullable=False),
    Column("event_name", Text, nullable=False),
    Column("company", Text, nullable=False),
    Column("window", BigInteger, nullable=False),
    Column("quantity", Quantity, nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("report", String(100)),  # identifier of the meter event to cancel in Stripe
    Column("dimensions", Text, nullable=False, server_default=""),  # values of the usage, as JSON; "" if it has none
    Column("state", String(10), nullable=False),  # canceling, done
    Column("error", Text, nullable=False),
    Index(f"{PREFIX}corrections_place", "company", "meter", "window"),
    Index(f"{PREFIX}corrections_state", "state"),
)

inherited = Table(
    f"{PREFIX}inherited",
    metadata,
    # Unreported usage that was in the ledger when it was copied: the original reports it, too, so it keeps the id of
    # the original in its identifier. Deleted when it is sealed.
    Column("meter", Text, primary_key=True),
    Column("event_name", Text, primary_key=True),
    Column("company", Text, primary_key=True),
    Column("window", BigInteger, primary_key=True),
    Column("quantity", Quantity, nullable=False),
    Column("ledger_id", String(32), nullable=False),
)

notices = Table(
    f"{PREFIX}notices",
    metadata,
    # Written once per event and period, by the first process that detects it.
    Column("key", String(500), primary_key=True),
    Column("kind", String(40), nullable=False),
    Column("company", Text),
    Column("title", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("fields", Text, nullable=False),  # as JSON
    Column("created_at", BigInteger, nullable=False),
    Index(f"{PREFIX}notices_created_at", "created_at"),
    Index(f"{PREFIX}notices_company", "company", "created_at"),
)

deliveries = Table(
    f"{PREFIX}deliveries",
    metadata,
    # One notice through one channel.
    Column("notice", String(500), primary_key=True),
    Column("channel", String(255), primary_key=True),
    Column("state", String(10), nullable=False),  # waiting, delivered, given_up
    Column("attempts", Integer, nullable=False),
    Column("next_attempt_at", BigInteger, nullable=False),
    Column("error", Text, nullable=False),
    Column("settled_at", BigInteger),
    Index(f"{PREFIX}deliveries_waiting", "next_attempt_at", sqlite_where=_WAITING, postgresql_where=_WAITING),
    Index(f"{PREFIX}deliveries_given_up", "notice", sqlite_where=_GIVEN_UP, postgresql_where=_GIVEN_UP),
)

blocked = Table(
    f"{PREFIX}blocked",
    metadata,
    # Number of blocked requests; not usage, and never billed.
    Column("company", Text, primary_key=True),
    Column("reason", String(40), primary_key=True),
    Column("day", BigInteger, primary_key=True),
    Column("count", BigInteger, nullable=False),
    Index(f"{PREFIX}blocked_day", "day"),
)

slices = Table(
    f"{PREFIX}slices",
    metadata,
    # Units of quotas and wallets that processes use without asking. What may still be used is `drawn` less `folded`.
    Column("lineage", String(16), primary_key=True),  # of the journals of one process
    Column("company", Text, primary_key=True),
    Column("name", Text, primary_key=True),  # of the meter of a quota, or of a wallet; see `meterkit.slices`
    Column("drawn", Quantity, nullable=False),  # written by the process: all that it was allowed since the row exists
    Column("folded", Quantity, nullable=False),  # written by whoever folds: what is in the ledger of that
    Column("rates", Text, nullable=False),  # as JSON: what a unit of each meter takes; "" for a quota
    Column("drawn_at", BigInteger, nullable=False),
    Index(f"{PREFIX}slices_place", "company", "name"),
)

grants = Table(
    f"{PREFIX}grants",
    metadata,
    # Prepaid amounts of wallets, in millionths of the wallet's unit, as are all amounts of wallets.
    Column("id", String(32), primary_key=True),
    Column("company", Text, nullable=False),
    Column("wallet", Text, nullable=False),
    Column("key", Text, nullable=False),  # granted once
    Column("unit", Text, nullable=False),  # the unit or currency that the wallet had
    Column("amount", Quantity, nullable=False),
    Column("remaining", Quantity, nullable=False),  # the sum of the grant's entries: what can still be spent or held
    Column("priority", Integer, nullable=False),
    Column("expires_at", BigInteger),
    Column("source", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("by", Text, nullable=False),  # "" if not said
    Column("paid", BigInteger),  # in the minor unit of the currency, before tax; NULL if no payment is known
    Column("currency", String(3)),  # of what was paid
    UniqueConstraint("company", "wallet", "key"),
    Index(f"{PREFIX}grants_left", "company", "wallet", sqlite_where=_LEFT, postgresql_where=_LEFT),
    Index(f"{PREFIX}grants_expiring", "expires_at", sqlite_where=_EXPIRING, postgresql_where=_EXPIRING),
)

entries = Table(
    f"{PREFIX}entries",
    metadata,
    # Double entry: the rows of a movement add up to 0. What flushes spend is summed up by day and meter, so that a
    # company has a few rows a day, however often it is flushed.
    Column("company", Text, primary_key=True),
    Column("wallet", Text, primary_key=True),
    Column("unit", Text, primary_key=True),
    Column("movement", Text, primary_key=True),  # see `meterkit.wallets.entries`
    Column("account", String(20), primary_key=True),  # granted, available, used, uncovered, expired, revoked
    Column("grant_id", String(32), primary_key=True),  # "" for what is of no single grant
    Column("amount", Quantity, nullable=False),
    Column("quantity", Quantity, nullable=False),  # usage in the meter's unit, of the account "used"
    Column("cause", String(20), nullable=False),  # grant, usage, expiry, revocation, reinstatement
    Column("meter", Text, nullable=False),  # "" if it is not usage
    Column("key", Text, nullable=False),
    Column("by", Text, nullable=False),
    Column("at", BigInteger, nullable=False),  # of the latest part
    Index(f"{PREFIX}entries_at", "company", "wallet", "at"),
    Index(f"{PREFIX}entries_settled", "company", "wallet", sqlite_where=SETTLED, postgresql_where=SETTLED),
)

wallet_usage = Table(
    f"{PREFIX}wallet_usage",
    metadata,
    # The other side of the entries: how much of each meter has been spent from a wallet, by the daily totals.
    Column("company", Text, primary_key=True),
    Column("meter", Text, primary_key=True),
    Column("before", Quantity, nullable=False),  # what no wallet has paid for: it was counted before, or in between
    Column("quantity", Quantity, nullable=False),
)

top_ups = Table(
    f"{PREFIX}top_ups",
    metadata,
    # What companies have agreed to: the pack that is bought for them when their balance is low.
    Column("company", Text, primary_key=True),
    Column("wallet", Text, primary_key=True),
    Column("unit", Text, nullable=False),  # the unit or currency that the wallet had
    Column("pack", Text, nullable=False),  # lookup key of its price in Stripe
    Column("pack_name", Text, nullable=False),
    Column("below", BigInteger, nullable=False),  # in millionths
    Column("most_per_month", Integer, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("failures", Integer, nullable=False),  # since the last success
    Column("error", Text, nullable=False),  # of the last failure, or why it is not enabled; "" if there is none
    Column("next_at", BigInteger, nullable=False),  # nothing is bought before
)

top_up_attempts = Table(
    f"{PREFIX}top_up_attempts",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("company", Text, nullable=False),
    Column("wallet", Text, nullable=False),
    Column("pack", Text, nullable=False),
    Column("pack_name", Text, nullable=False),
    Column("customer", String(255), nullable=False),
    Column("invoice", String(255), nullable=False),  # "" until Stripe's answer is known
    Column("state", String(20), nullable=False),  # open, paid, failed, canceled
    Column("error", Text, nullable=False),
    Column("refusals", Integer, nullable=False),  # responses that used up the Idempotency-Keys
    Column("is_tried", Boolean, nullable=False),  # whether Stripe was asked to charge it, and has not refused
    Column("created_at", BigInteger, nullable=False),
    Column("look_at", BigInteger, nullable=False),  # when it goes on, if no process has it until then
    Column("ended_at", BigInteger),
    Index(
        f"{PREFIX}top_up_attempts_open",
        "company",
        "wallet",
        unique=True,
        sqlite_where=_UNDER_WAY,
        postgresql_where=_UNDER_WAY,
    ),
    Index(f"{PREFIX}top_up_attempts_ended", "company", "wallet", "ended_at"),
)

lease = Table(
    f"{PREFIX}lease",
    metadata,
    Column("name", String(40), primary_key=True),  # one of LEASES; the rows are created with the table
    Column("holder", Text, nullable=False),
    Column(
        "token", BigInteger, nullable=False
    ),  # grows with each new holder, so that a former one's writes are refused
    Column("expires_at", BigInteger, nullable=False),
)
