"""Keep: the tables of the ledger, and what each row stands for. All times are unix seconds."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, String, Table, Text, UniqueConstraint, text

VERSION = 2
"""Of the schema. A ledger with a higher one is refused; a lower one is upgraded in place, by `meterkit.upgrades`."""

PREFIX = "meterkit_"
"""Of every table and index, because the application may have an ``accounts`` of its own in the same database."""

metadata = MetaData()

_UNREPORTED = text("quantity <> reported")
_UNKNOWN = text("unknown_since IS NOT NULL")

meta = Table(
    f"{PREFIX}meta",
    metadata,
    Column("key", String(40), primary_key=True),  # "schema_version", "ledger_id"
    Column("value", Text, nullable=False),
)

usage = Table(
    f"{PREFIX}usage",
    metadata,
    Column("meter", Text, primary_key=True),
    Column("event_name", Text, primary_key=True),  # kept, so that a meter that has left the code is still reported
    Column("company", Text, primary_key=True),  # "" where nobody said who pays
    Column("user", Text, primary_key=True),  # "" where nobody said who
    Column("window", BigInteger, primary_key=True),  # the second in which it begins
    Column("quantity", BigInteger, nullable=False),
    Column("reported", BigInteger, nullable=False),  # how much of the quantity stands in reports
    Column("last_used", BigInteger, nullable=False),
    # What waits to be reported is looked for every hour, among all there ever was.
    Index(f"{PREFIX}usage_unreported", "window", sqlite_where=_UNREPORTED, postgresql_where=_UNREPORTED),
)

counted = Table(
    f"{PREFIX}counted",
    metadata,
    # The other side of the books: what was folded in, by meter, independent of the usage rows.
    Column("meter", Text, primary_key=True),
    Column("quantity", BigInteger, nullable=False),
)

folds = Table(
    f"{PREFIX}folds",
    metadata,
    Column("generation", String(32), primary_key=True),  # of the journal; written in the transaction that folds it
    Column("folded_at", BigInteger, nullable=False),
    Index(f"{PREFIX}folds_folded_at", "folded_at"),
)

accounts = Table(
    f"{PREFIX}accounts",
    metadata,
    Column("company", Text, primary_key=True),
    Column("customer", Text, nullable=False),  # "cus_..."
    Column("linked_at", BigInteger, nullable=False),
)

reports = Table(
    f"{PREFIX}reports",
    metadata,
    # One row is one meter event. All above the line is immutable once written, and written before the first attempt.
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("identifier", String(100), nullable=False, unique=True),
    Column("meter", Text, nullable=False),
    Column("event_name", Text, nullable=False),
    Column("company", Text, nullable=False),
    Column("customer", Text, nullable=False),
    Column("window", BigInteger, nullable=False),
    Column("sequence", Integer, nullable=False),  # 0, and one more for each further delta of the same window
    Column("quantity", BigInteger, nullable=False),
    Column("timestamp", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    # ---
    Column("state", String(10), nullable=False),  # pending, sent, rejected, uncertain
    Column("attempts", Integer, nullable=False),
    Column("revision", Integer, nullable=False, server_default="0"),  # refusals after which Stripe surely had it not
    Column("refusals", Integer, nullable=False),  # answers that a repetition with the same Idempotency-Key would replay
    Column("attempted_at", BigInteger),  # the latest attempt
    Column("unknown_since", BigInteger),  # the first attempt of unknown outcome; of one that is sent: to be verified
    Column("compared_at", BigInteger),  # when Stripe's summaries could not tell either
    Column("error", Text, nullable=False),
    Column("settled_at", BigInteger),
    UniqueConstraint("meter", "event_name", "company", "window", "sequence"),
    Index(f"{PREFIX}reports_state", "state"),
    # What has to be looked into is looked for every hour, among all there ever was.
    Index(f"{PREFIX}reports_unknown", "unknown_since", sqlite_where=_UNKNOWN, postgresql_where=_UNKNOWN),
    Index(f"{PREFIX}reports_place", "customer", "event_name", "window"),
)

lease = Table(
    f"{PREFIX}lease",
    metadata,
    Column("name", String(40), primary_key=True),  # "reporter"; the row is there from the beginning
    Column("holder", Text, nullable=False),
    Column("token", BigInteger, nullable=False),  # grows with each new holder: an old one's writes are refused by it
    Column("expires_at", BigInteger, nullable=False),
)
