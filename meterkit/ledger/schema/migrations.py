"""
In-place schema migrations, and the id of a ledger whose file has been copied.

The steps are plain SQL, and never change: today's `meterkit.ledger.schema` may differ from the one they lead to.
"""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine.mock import MockConnection

from meterkit.core.filesystem import is_same_file
from meterkit.core.problems import log_event
from meterkit.errors import LedgerError
from meterkit.ledger import schema
from meterkit.ledger.schema import due
from meterkit.ledger.schema.quantities import subtracted, sum_of

TABLES_OF_1 = ("accounts", "counted", "folds", "lease", "meta", "reports", "usage")
"""Table names of version 1, which had no prefix. An application may have some of these names, but hardly all."""

_LOCK = 0x6D65746572  # "meter": key of an advisory lock that no other program takes


def prepare(connection: sa.Connection, name: str, *, home: dict[str, str] | None = None) -> None:
    """
    Create the tables, or upgrade them to this version, and give a ledger that has been copied an id of its own.

    Args:
        connection: Connection in a transaction.
        name: Name of the ledger, for messages.
        home: Identity of the ledger's file, as `meterkit.core.filesystem.identity_of` returns it; None if there is
            none, as on PostgreSQL.

    Raises:
        LedgerError: The ledger was written by a newer meterkit.
    """
    if connection.dialect.name == "postgresql":  # SQLite's transaction is exclusive from its beginning
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    version = version_of(connection)
    if version is None:
        _create(connection)
    else:
        _upgrade(connection, name, version)
    if home is not None:
        _settle_in(connection, name, home)


def script(connection: sa.Connection, name: str) -> list[str]:
    """
    Return the SQL statements that `prepare` would execute; none if the ledger has this version's tables.

    Args:
        connection: Connection that may read the database.
        name: Name of the ledger, for messages.

    Raises:
        LedgerError: The ledger was written by a newer meterkit.
    """
    dialect = connection.dialect
    version = version_of(connection)
    statements: list[Any] = []
    if version is None:
        _create(sa.create_mock_engine(f"{dialect.name}+{dialect.driver}://", lambda sql, *_: statements.append(sql)))
    else:
        statements = _steps(dialect.name, name, version)
    literal = {"literal_binds": True}
    return [
        sql.strip() if isinstance(sql, str) else str(sql.compile(dialect=dialect, compile_kwargs=literal)).strip()
        for sql in statements
    ]


def _upgrade(connection: sa.Connection, name: str, version: int) -> None:
    for statement in _steps(connection.dialect.name, name, version):
        if isinstance(statement, str):
            connection.exec_driver_sql(statement)
        else:
            connection.execute(statement)


def _steps(dialect: str, name: str, version: int) -> list[str | sa.Update]:
    """Return the statements that lead from *version* to this one."""
    if version > schema.VERSION:
        raise LedgerError(
            f"the ledger {name} has schema version {version}, written by a newer meterkit; this one supports "
            f"{schema.VERSION}. Install the newer version again; usage stays in the journal meanwhile"
        )
    statements: list[str | sa.Update] = []
    for step in range(version, schema.VERSION):
        of_step = (*_STEPS[step], *(_STEPS_OF_POSTGRESQL.get(step, ()) if dialect == "postgresql" else ()))
        statements += [_in_words_of(dialect, statement) for statement in of_step]
    if statements:
        statements.append(sa.update(schema.meta).filter_by(key="schema_version").values(value=str(schema.VERSION)))
    return statements


def _in_words_of(dialect: str, statement: str) -> str:
    for placeholder, text in _WORDS[dialect].items():
        statement = statement.replace(f"{{{placeholder}}}", text)
    return statement


def version_of(connection: sa.Connection) -> int | None:
    """Return the schema version of the ledger in the database; None if there is no ledger."""
    inspector = sa.inspect(connection)
    names = set(inspector.get_table_names())
    meta = schema.meta.name
    if meta not in names:
        if not names.issuperset(TABLES_OF_1) or {"key", "value"} != {
            column["name"] for column in inspector.get_columns("meta")
        }:
            return None
        meta = "meta"
    version = sa.text(f"SELECT value FROM {meta} WHERE key = 'schema_version'")  # noqa: S608 - one of two constants
    found = connection.scalar(version)
    return None if found is None else int(found)


def _create(connection: sa.Connection | MockConnection) -> None:
    schema.metadata.create_all(connection, checkfirst=isinstance(connection, sa.Connection))
    if connection.dialect.name == "postgresql":
        for statement in due.COLUMN:
            connection.execute(sa.text(statement))
    about = {"schema_version": str(schema.VERSION), "ledger_id": uuid.uuid4().hex, "change": "0"}
    for key, value in about.items():
        connection.execute(sa.insert(schema.meta).values(key=key, value=value))
    for name in schema.LEASES:
        connection.execute(sa.insert(schema.lease).values(name=name, holder="", token=0, expires_at=0))


def _settle_in(connection: sa.Connection, name: str, home: dict[str, str]) -> None:
    """
    Compare *home* with where the ledger was before. If it is a copy, give it a new id, and keep *home*.

    Two ledgers of one id would give different usage the same identifier, and Stripe would take only the first.
    """
    meta = schema.meta
    found = connection.scalar(sa.select(meta.c.value).filter_by(key="home"))
    before = None if found is None else json.loads(found)
    if before == home:
        return
    if before is not None and not is_same_file(before, home):
        _become_another(connection)
        log_event("ledger_copied", f"the ledger {name} {COPIED}")
    _put_about(connection, "home", json.dumps(home))


COPIED = (
    "has been copied, moved or restored from a backup, and has got a new id, so that its usage is not taken for that "
    "of the original. If both are in use, the usage that was waiting to be reported at that moment is in both; Stripe "
    "takes it once. Do not copy data_dir, and keep it out of images and repositories"
)
"""What happens to a copied ledger."""


def _become_another(connection: sa.Connection) -> None:
    """Give the ledger a new id. Usage that is not in a report yet keeps the former one: see `schema.inherited`."""
    usage, inherited, meta = schema.usage, schema.inherited, schema.meta
    former = connection.scalars(sa.select(meta.c.value).filter_by(key="ledger_id")).one()
    keys = (usage.c.meter, usage.c.event_name, usage.c.company, usage.c.window)
    waiting = sa.select(*keys, sum_of(subtracted(usage.c.quantity, usage.c.reported)), sa.literal(former))
    waiting = waiting.where(usage.c.quantity != usage.c.reported).group_by(*keys)
    names = [column.name for column in inherited.columns]
    # What a copy of a copy has inherited already keeps the first id.
    connection.execute(sqlite.insert(inherited).from_select(names, waiting).on_conflict_do_nothing())
    _put_about(connection, "ledger_id", uuid.uuid4().hex)
    _put_about(connection, "copied_at", str(int(time.time())))


def _put_about(connection: sa.Connection, key: str, value: str) -> None:
    """Store a fact about the ledger of a file."""
    statement = sqlite.insert(schema.meta).values(key=key, value=value)
    connection.execute(statement.on_conflict_do_update(index_elements=["key"], set_={"value": value}))


def copied_at(connection: sa.Connection) -> int | None:
    """Return the Unix second at which the ledger was found to be a copy; None if it is the original."""
    found = connection.scalar(sa.select(schema.meta.c.value).filter_by(key="copied_at"))
    return None if found is None else int(found)


_WORDS = {
    "sqlite": {
        "serial": "INTEGER",
        "quantity": "BIGINT",
        "without_rowid": " WITHOUT ROWID",
        "sum": (  # as `meterkit.ledger.schema.quantities` adds
            "meterkit_total(sum(quantity >> 32), sum(quantity & 4294967295), "
            "meterkit_total_of_large(quantity) FILTER (WHERE typeof(quantity) = 'text'))"
        ),
        "month": "CAST(strftime('%s', day, 'unixepoch', 'start of month') AS INTEGER)",
    },
    "postgresql": {
        "serial": "BIGSERIAL",
        "quantity": "NUMERIC(38, 0)",
        "without_rowid": "",
        "sum": "sum(quantity)",
        "month": (
            "CAST(extract(epoch FROM date_trunc('month', to_timestamp(day) AT TIME ZONE 'UTC') AT TIME ZONE 'UTC') "
            "AS BIGINT)"
        ),
    },
}
"""What stands for the placeholders of the statements in each dialect."""

_TO_3 = """
INSERT INTO meterkit_lease VALUES ('follower', '', 0, 0) ON CONFLICT (name) DO NOTHING;
ALTER TABLE meterkit_accounts ADD COLUMN source VARCHAR(10) NOT NULL DEFAULT 'link';
CREATE TABLE meterkit_customers (
    id VARCHAR(255) NOT NULL PRIMARY KEY, name TEXT NOT NULL, company TEXT, deleted BOOLEAN NOT NULL,
    checked_at BIGINT NOT NULL
);
CREATE INDEX meterkit_customers_company ON meterkit_customers (company);
CREATE TABLE meterkit_subscriptions (
    id VARCHAR(255) NOT NULL PRIMARY KEY, customer VARCHAR(255) NOT NULL, status VARCHAR(40) NOT NULL,
    created BIGINT NOT NULL, ended_at BIGINT, cancel_at BIGINT, checked_at BIGINT NOT NULL
);
CREATE INDEX meterkit_subscriptions_customer ON meterkit_subscriptions (customer);
CREATE TABLE meterkit_items (
    id VARCHAR(255) NOT NULL PRIMARY KEY, subscription VARCHAR(255) NOT NULL, customer VARCHAR(255) NOT NULL,
    event_name TEXT, quantity BIGINT, period_start BIGINT NOT NULL, period_end BIGINT NOT NULL, price TEXT NOT NULL
);
CREATE INDEX meterkit_items_subscription ON meterkit_items (subscription);
CREATE INDEX meterkit_items_customer ON meterkit_items (customer);
CREATE INDEX meterkit_items_period_end ON meterkit_items (period_end);
CREATE TABLE meterkit_invoices (
    id VARCHAR(255) NOT NULL PRIMARY KEY, customer VARCHAR(255) NOT NULL, subscription VARCHAR(255), number TEXT,
    status VARCHAR(40) NOT NULL, billing_reason VARCHAR(40), collection_method VARCHAR(40) NOT NULL,
    currency VARCHAR(3) NOT NULL, total BIGINT NOT NULL, amount_remaining BIGINT NOT NULL, attempts INTEGER NOT NULL,
    created BIGINT NOT NULL, period_start BIGINT NOT NULL, period_end BIGINT NOT NULL, due_at BIGINT,
    next_attempt_at BIGINT, finalized_at BIGINT, url TEXT, checked_at BIGINT NOT NULL
);
CREATE INDEX meterkit_invoices_customer ON meterkit_invoices (customer, status);
CREATE TABLE meterkit_webhook_events (
    id VARCHAR(255) NOT NULL PRIMARY KEY, type TEXT NOT NULL, created BIGINT NOT NULL, object_type VARCHAR(80),
    object_id VARCHAR(255), received_at BIGINT NOT NULL, state VARCHAR(10) NOT NULL, reason TEXT NOT NULL,
    settled_at BIGINT
);
CREATE INDEX meterkit_webhook_events_waiting ON meterkit_webhook_events (received_at) WHERE state = 'received';
CREATE INDEX meterkit_webhook_events_received_at ON meterkit_webhook_events (received_at);
CREATE TABLE meterkit_corrections (
    id VARCHAR(32) NOT NULL PRIMARY KEY, meter TEXT NOT NULL, event_name TEXT NOT NULL, company TEXT NOT NULL,
    "window" BIGINT NOT NULL, quantity BIGINT NOT NULL, reason TEXT NOT NULL, created_at BIGINT NOT NULL,
    report VARCHAR(100), state VARCHAR(10) NOT NULL, error TEXT NOT NULL
);
CREATE INDEX meterkit_corrections_place ON meterkit_corrections (company, meter, "window");
CREATE INDEX meterkit_corrections_state ON meterkit_corrections (state)
"""

_TO_4 = """
CREATE INDEX meterkit_invoices_open ON meterkit_invoices (customer) WHERE status = 'open';
CREATE INDEX meterkit_usage_company ON meterkit_usage (company, "window");
CREATE TABLE meterkit_totals (
    company TEXT NOT NULL, meter TEXT NOT NULL, day BIGINT NOT NULL, quantity BIGINT NOT NULL,
    "change" BIGINT NOT NULL, PRIMARY KEY (company, meter, day)
);
CREATE INDEX meterkit_totals_change ON meterkit_totals ("change");
INSERT INTO meterkit_meta VALUES ('change', '0');
INSERT INTO meterkit_totals
    SELECT company, meter, "window" / 86400 * 86400, sum(quantity), 0 FROM meterkit_usage
    WHERE company <> '' GROUP BY company, meter, "window" / 86400 * 86400;
CREATE TABLE meterkit_peaks (
    meter TEXT NOT NULL, company TEXT NOT NULL, value TEXT NOT NULL, "window" BIGINT NOT NULL, quantity BIGINT NOT NULL,
    PRIMARY KEY (meter, company, value, "window")
);
CREATE INDEX meterkit_peaks_window ON meterkit_peaks ("window");
CREATE TABLE meterkit_notices (
    "key" VARCHAR(500) NOT NULL PRIMARY KEY, kind VARCHAR(40) NOT NULL, company TEXT, title TEXT NOT NULL,
    text TEXT NOT NULL, fields TEXT NOT NULL, created_at BIGINT NOT NULL
);
CREATE INDEX meterkit_notices_created_at ON meterkit_notices (created_at);
CREATE TABLE meterkit_deliveries (
    notice VARCHAR(500) NOT NULL, channel VARCHAR(255) NOT NULL, state VARCHAR(10) NOT NULL, attempts INTEGER NOT NULL,
    next_attempt_at BIGINT NOT NULL, error TEXT NOT NULL, settled_at BIGINT, PRIMARY KEY (notice, channel)
);
CREATE INDEX meterkit_deliveries_waiting ON meterkit_deliveries (next_attempt_at) WHERE state = 'waiting';
CREATE TABLE meterkit_blocked (
    company TEXT NOT NULL, reason VARCHAR(40) NOT NULL, day BIGINT NOT NULL, count BIGINT NOT NULL,
    PRIMARY KEY (company, reason, day)
);
CREATE TABLE meterkit_holds (
    generation VARCHAR(32) NOT NULL, company TEXT NOT NULL, meter TEXT NOT NULL, quantity BIGINT NOT NULL,
    held_at BIGINT NOT NULL, PRIMARY KEY (generation, company, meter)
);
CREATE INDEX meterkit_holds_place ON meterkit_holds (company, meter)
"""

_TO_6 = """
CREATE TABLE meterkit_record_keys (
    meter TEXT NOT NULL, company TEXT NOT NULL, "key" TEXT NOT NULL, quantity BIGINT NOT NULL,
    counted_at BIGINT NOT NULL, PRIMARY KEY (meter, company, "key")
);
CREATE INDEX meterkit_record_keys_counted_at ON meterkit_record_keys (counted_at);
CREATE TABLE meterkit_actions (
    id {serial} NOT NULL PRIMARY KEY, at BIGINT NOT NULL, action VARCHAR(20) NOT NULL, subject TEXT NOT NULL,
    detail TEXT NOT NULL, "by" TEXT NOT NULL
);
CREATE INDEX meterkit_actions_at ON meterkit_actions (at)
"""

_TO_7 = """
ALTER TABLE meterkit_customers ADD COLUMN discounts TEXT NOT NULL DEFAULT '[]';
ALTER TABLE meterkit_customers ADD COLUMN subscriptions_read_at BIGINT;
ALTER TABLE meterkit_subscriptions ADD COLUMN currency VARCHAR(3) NOT NULL DEFAULT '';
ALTER TABLE meterkit_subscriptions ADD COLUMN billing_mode VARCHAR(40) NOT NULL DEFAULT '';
ALTER TABLE meterkit_subscriptions ADD COLUMN anchor BIGINT;
ALTER TABLE meterkit_subscriptions ADD COLUMN trial_start BIGINT;
ALTER TABLE meterkit_subscriptions ADD COLUMN trial_end BIGINT;
ALTER TABLE meterkit_subscriptions ADD COLUMN pause VARCHAR(40);
ALTER TABLE meterkit_subscriptions ADD COLUMN resumes_at BIGINT;
ALTER TABLE meterkit_subscriptions ADD COLUMN discounts TEXT NOT NULL DEFAULT '[]';
ALTER TABLE meterkit_subscriptions ADD COLUMN threshold BIGINT;
ALTER TABLE meterkit_subscriptions ADD COLUMN company TEXT;
ALTER TABLE meterkit_subscriptions ADD COLUMN started_at BIGINT;
ALTER TABLE meterkit_subscriptions ADD COLUMN cancel_reason VARCHAR(40);
CREATE TABLE meterkit_subscription_states (
    subscription VARCHAR(255) NOT NULL, since BIGINT NOT NULL, status VARCHAR(40) NOT NULL, pause VARCHAR(40),
    PRIMARY KEY (subscription, since)
);
ALTER TABLE meterkit_items ADD COLUMN meter VARCHAR(255);
ALTER TABLE meterkit_items ADD COLUMN since BIGINT NOT NULL DEFAULT 0;
CREATE TABLE meterkit_former_items (
    id VARCHAR(255) NOT NULL, since BIGINT NOT NULL, until BIGINT NOT NULL, changed_after BIGINT NOT NULL,
    subscription VARCHAR(255) NOT NULL, customer VARCHAR(255) NOT NULL, meter VARCHAR(255), event_name TEXT,
    quantity BIGINT, price TEXT NOT NULL, period_start BIGINT NOT NULL DEFAULT 0, period_end BIGINT NOT NULL DEFAULT 0,
    prorated BOOLEAN, PRIMARY KEY (id, since)
);
CREATE INDEX meterkit_former_items_subscription ON meterkit_former_items (subscription);
CREATE INDEX meterkit_former_items_customer ON meterkit_former_items (customer, until);
CREATE TABLE meterkit_stripe_meters (
    id VARCHAR(255) NOT NULL PRIMARY KEY, event_name TEXT NOT NULL, deactivated_at BIGINT
);
ALTER TABLE meterkit_invoices ADD COLUMN lines TEXT NOT NULL DEFAULT '[]';
ALTER TABLE meterkit_invoices ADD COLUMN failed_at BIGINT;
ALTER TABLE meterkit_webhook_events ADD COLUMN told TEXT NOT NULL DEFAULT '';
CREATE TABLE meterkit_opening_balances (
    customer VARCHAR(255) NOT NULL, event_name TEXT NOT NULL, since BIGINT NOT NULL, until BIGINT NOT NULL,
    quantity BIGINT NOT NULL, PRIMARY KEY (customer, event_name, since)
);
CREATE INDEX meterkit_accounts_customer ON meterkit_accounts (customer);
CREATE INDEX meterkit_blocked_day ON meterkit_blocked (day);
CREATE INDEX meterkit_deliveries_given_up ON meterkit_deliveries (notice) WHERE state = 'given_up';
CREATE INDEX meterkit_notices_company ON meterkit_notices (company, created_at);
CREATE TABLE meterkit_access_logs (
    id VARCHAR(32) NOT NULL PRIMARY KEY, source TEXT NOT NULL, family TEXT NOT NULL, path TEXT NOT NULL,
    inode VARCHAR(60) NOT NULL, head_bytes INTEGER NOT NULL, head VARCHAR(64) NOT NULL, tail_bytes INTEGER NOT NULL,
    tail VARCHAR(64) NOT NULL, read_bytes BIGINT NOT NULL, since BIGINT NOT NULL, lines BIGINT NOT NULL,
    unreadable BIGINT NOT NULL, outdated BIGINT NOT NULL, error TEXT NOT NULL, error_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL, seen_at BIGINT NOT NULL, finished VARCHAR(60) NOT NULL
);
CREATE INDEX meterkit_access_logs_source ON meterkit_access_logs (source);
CREATE INDEX meterkit_access_logs_seen_at ON meterkit_access_logs (seen_at);
CREATE TABLE meterkit_meter_totals (
    meter TEXT NOT NULL, day BIGINT NOT NULL, quantity {quantity} NOT NULL, PRIMARY KEY (meter, day)
);
INSERT INTO meterkit_meter_totals
    SELECT meter, day, {sum} FROM (
        SELECT meter, day, quantity FROM meterkit_totals
        UNION ALL SELECT meter, "window" / 86400 * 86400, quantity FROM meterkit_usage WHERE company = ''
    ) AS used GROUP BY meter, day;
CREATE TABLE meterkit_usage_values (
    company TEXT NOT NULL, meter TEXT NOT NULL, "window" BIGINT NOT NULL, dimensions TEXT NOT NULL,
    event_name TEXT NOT NULL, quantity {quantity} NOT NULL,
    PRIMARY KEY (company, meter, "window", dimensions, event_name)
){without_rowid};
CREATE INDEX meterkit_usage_values_meter ON meterkit_usage_values (meter, "window");
CREATE TABLE meterkit_month_values (
    month BIGINT NOT NULL, meter TEXT NOT NULL, company TEXT NOT NULL, dimensions TEXT NOT NULL,
    quantity {quantity} NOT NULL, PRIMARY KEY (month, meter, company, dimensions)
){without_rowid};
CREATE INDEX meterkit_month_values_company ON meterkit_month_values (company, month);
ALTER TABLE meterkit_corrections ADD COLUMN dimensions TEXT NOT NULL DEFAULT '';
CREATE TABLE meterkit_rated (
    company TEXT NOT NULL, meter TEXT NOT NULL, "window" BIGINT NOT NULL, dimensions TEXT NOT NULL,
    amounts TEXT NOT NULL, rate BIGINT NOT NULL, quantity {quantity} NOT NULL, billed {quantity} NOT NULL,
    PRIMARY KEY (company, meter, "window", dimensions, amounts, rate)
){without_rowid};
CREATE INDEX meterkit_rated_meter ON meterkit_rated (meter, "window");
CREATE INDEX meterkit_rated_unpriced ON meterkit_rated (meter) WHERE rate < 0;
CREATE INDEX meterkit_rated_unbilled ON meterkit_rated (company, "window") WHERE quantity <> billed;
CREATE TABLE meterkit_rated_sums (
    company TEXT NOT NULL, amounts TEXT NOT NULL, amount {quantity} NOT NULL, PRIMARY KEY (company, amounts)
){without_rowid};
CREATE TABLE meterkit_rerates (
    id {serial} NOT NULL PRIMARY KEY, month BIGINT NOT NULL, at BIGINT NOT NULL, "by" TEXT NOT NULL,
    state VARCHAR(10) NOT NULL
);
CREATE INDEX meterkit_rerates_month ON meterkit_rerates (month);
CREATE TABLE meterkit_rerated (
    rerate BIGINT NOT NULL, company TEXT NOT NULL, meter TEXT NOT NULL, "window" BIGINT NOT NULL,
    dimensions TEXT NOT NULL, amounts TEXT NOT NULL, old BIGINT NOT NULL, new BIGINT NOT NULL,
    quantity {quantity} NOT NULL,
    PRIMARY KEY (rerate, company, meter, "window", dimensions, amounts, old, new)
){without_rowid};
CREATE TABLE meterkit_rated_lines (
    id {serial} NOT NULL PRIMARY KEY, identifier VARCHAR(100) NOT NULL UNIQUE, customer VARCHAR(255) NOT NULL,
    subscription VARCHAR(255) NOT NULL, invoice VARCHAR(255) NOT NULL, is_late BOOLEAN NOT NULL, meter TEXT NOT NULL,
    amounts TEXT NOT NULL, dimensions TEXT NOT NULL, period_start BIGINT NOT NULL, period_end BIGINT NOT NULL,
    quantity {quantity} NOT NULL, exact {quantity} NOT NULL, amount BIGINT NOT NULL,
    currency VARCHAR(3) NOT NULL, description TEXT NOT NULL,
    created_at BIGINT NOT NULL, state VARCHAR(10) NOT NULL, attempts INTEGER NOT NULL, refusals INTEGER NOT NULL,
    error TEXT NOT NULL, settled_at BIGINT
);
CREATE INDEX meterkit_rated_lines_state ON meterkit_rated_lines (state);
CREATE INDEX meterkit_rated_lines_place ON meterkit_rated_lines (invoice, amounts);
CREATE TABLE meterkit_month_totals (
    month BIGINT NOT NULL, meter TEXT NOT NULL, company TEXT NOT NULL, quantity {quantity} NOT NULL,
    PRIMARY KEY (month, meter, company)
){without_rowid};
INSERT INTO meterkit_month_totals
    SELECT month, meter, company, {sum} FROM (
        SELECT {month} AS month, meter, company, quantity FROM meterkit_totals
    ) AS used GROUP BY month, meter, company;
CREATE TABLE meterkit_grants (
    id VARCHAR(32) NOT NULL PRIMARY KEY, company TEXT NOT NULL, wallet TEXT NOT NULL, key TEXT NOT NULL,
    unit TEXT NOT NULL, amount {quantity} NOT NULL, remaining {quantity} NOT NULL, priority INTEGER NOT NULL,
    expires_at BIGINT, source TEXT NOT NULL, created_at BIGINT NOT NULL, "by" TEXT NOT NULL,
    paid BIGINT, currency VARCHAR(3),
    UNIQUE (company, wallet, key)
);
CREATE INDEX meterkit_grants_left ON meterkit_grants (company, wallet) WHERE remaining > 0;
CREATE INDEX meterkit_grants_expiring ON meterkit_grants (expires_at) WHERE remaining > 0 AND expires_at IS NOT NULL;
CREATE TABLE meterkit_entries (
    company TEXT NOT NULL, wallet TEXT NOT NULL, unit TEXT NOT NULL, movement TEXT NOT NULL,
    account VARCHAR(20) NOT NULL, grant_id VARCHAR(32) NOT NULL, amount {quantity} NOT NULL,
    quantity {quantity} NOT NULL, cause VARCHAR(20) NOT NULL, meter TEXT NOT NULL, key TEXT NOT NULL,
    "by" TEXT NOT NULL, at BIGINT NOT NULL, PRIMARY KEY (company, wallet, unit, movement, account, grant_id)
);
CREATE INDEX meterkit_entries_at ON meterkit_entries (company, wallet, at);
CREATE INDEX meterkit_entries_settled ON meterkit_entries (company, wallet)
    WHERE account NOT IN ('used', 'available');
CREATE TABLE meterkit_wallet_usage (
    company TEXT NOT NULL, meter TEXT NOT NULL, before {quantity} NOT NULL, quantity {quantity} NOT NULL,
    PRIMARY KEY (company, meter)
);
CREATE TABLE meterkit_top_ups (
    company TEXT NOT NULL, wallet TEXT NOT NULL, unit TEXT NOT NULL, pack TEXT NOT NULL, pack_name TEXT NOT NULL,
    below BIGINT NOT NULL, most_per_month INTEGER NOT NULL, enabled BOOLEAN NOT NULL, failures INTEGER NOT NULL,
    error TEXT NOT NULL, next_at BIGINT NOT NULL, PRIMARY KEY (company, wallet)
);
CREATE TABLE meterkit_top_up_attempts (
    id VARCHAR(32) NOT NULL PRIMARY KEY, company TEXT NOT NULL, wallet TEXT NOT NULL, pack TEXT NOT NULL,
    pack_name TEXT NOT NULL, customer VARCHAR(255) NOT NULL, invoice VARCHAR(255) NOT NULL, state VARCHAR(20) NOT NULL,
    error TEXT NOT NULL, refusals INTEGER NOT NULL, is_tried BOOLEAN NOT NULL, created_at BIGINT NOT NULL,
    look_at BIGINT NOT NULL, ended_at BIGINT
);
CREATE UNIQUE INDEX meterkit_top_up_attempts_open ON meterkit_top_up_attempts (company, wallet) WHERE state = 'open';
CREATE INDEX meterkit_top_up_attempts_ended ON meterkit_top_up_attempts (company, wallet, ended_at);
DROP TABLE meterkit_holds;
CREATE TABLE meterkit_slices (
    lineage VARCHAR(16) NOT NULL, company TEXT NOT NULL, name TEXT NOT NULL, drawn {quantity} NOT NULL,
    folded {quantity} NOT NULL, rates TEXT NOT NULL, drawn_at BIGINT NOT NULL, PRIMARY KEY (lineage, company, name)
);
CREATE INDEX meterkit_slices_place ON meterkit_slices (company, name)
"""

_STEPS = {
    1: [
        *(f"ALTER TABLE {name} RENAME TO meterkit_{name}" for name in TABLES_OF_1),
        "DROP INDEX usage_unreported",
        "DROP INDEX ix_folds_folded_at",
        "DROP INDEX reports_state",
        "ALTER TABLE meterkit_reports ADD COLUMN revision INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE meterkit_reports ADD COLUMN attempted_at BIGINT",
        "ALTER TABLE meterkit_reports ADD COLUMN compared_at BIGINT",
        'CREATE INDEX meterkit_usage_unreported ON meterkit_usage ("window") WHERE quantity <> reported',
        "CREATE INDEX meterkit_folds_folded_at ON meterkit_folds (folded_at)",
        "CREATE INDEX meterkit_reports_state ON meterkit_reports (state)",
        'CREATE INDEX meterkit_reports_place ON meterkit_reports (customer, event_name, "window")',
        "UPDATE meterkit_reports SET unknown_since = NULL WHERE state IN ('sent', 'rejected')",
        "CREATE INDEX meterkit_reports_unknown ON meterkit_reports (unknown_since) WHERE unknown_since IS NOT NULL",
        "INSERT INTO meterkit_lease VALUES ('reporter', '', 0, 0) ON CONFLICT (name) DO NOTHING",
    ],
    2: _TO_3.split(";\n"),
    3: _TO_4.split(";\n"),
    4: ['CREATE INDEX meterkit_usage_reported ON meterkit_usage ("window") WHERE quantity = reported'],
    5: [
        """CREATE TABLE meterkit_inherited (
            meter TEXT NOT NULL, event_name TEXT NOT NULL, company TEXT NOT NULL, "window" BIGINT NOT NULL,
            quantity BIGINT NOT NULL, ledger_id VARCHAR(32) NOT NULL,
            PRIMARY KEY (meter, event_name, company, "window")
        )""",
        *_TO_6.split(";\n"),
    ],
    6: _TO_7.split(";\n"),
}
"""SQL statements that lead from each version to the next."""

_STEPS_OF_POSTGRESQL = {
    5: [
        "SET LOCAL statement_timeout = 0",  # all rows are written anew
        "DROP INDEX meterkit_usage_unreported",  # its condition would get a cast, and not fit the queries any more
        "DROP INDEX meterkit_usage_reported",
        "ALTER TABLE meterkit_usage ALTER quantity TYPE NUMERIC(38, 0), ALTER reported TYPE NUMERIC(38, 0)",
        'CREATE INDEX meterkit_usage_unreported ON meterkit_usage ("window") WHERE quantity <> reported',
        'CREATE INDEX meterkit_usage_reported ON meterkit_usage ("window") WHERE quantity = reported',
        *(
            f"ALTER TABLE meterkit_{name} ALTER COLUMN quantity TYPE NUMERIC(38, 0)"
            for name in ("totals", "counted", "corrections", "holds", "inherited")
        ),
    ],
    6: [
        "ALTER TABLE meterkit_opening_balances ALTER COLUMN quantity TYPE NUMERIC(38, 0)",
        "SET LOCAL statement_timeout = 0",  # all rows are written anew
        "DROP INDEX meterkit_usage_unreported",
        "DROP INDEX meterkit_usage_reported",
        "ALTER TABLE meterkit_usage ADD COLUMN due BOOLEAN NOT NULL GENERATED ALWAYS AS (quantity <> reported) STORED",
        'CREATE INDEX meterkit_usage_unreported ON meterkit_usage ("window") WHERE due',
        'CREATE INDEX meterkit_usage_reported ON meterkit_usage ("window") WHERE NOT due',
        # Rows that are updated stay in their page. Afterwards, so that what there is already needs no more space.
        "ALTER TABLE meterkit_usage SET (fillfactor = 80)",
        "ALTER TABLE meterkit_month_totals SET (fillfactor = 80)",
    ],
}
"""Further statements for PostgreSQL. SQLite's integer columns take what `meterkit.ledger.schema.quantities` stores."""
