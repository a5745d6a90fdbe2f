"""
Keep: from no tables, or an older meterkit's, to today's: in place, in one transaction, by one process at a time.

The steps are written out, and never changed: what `meterkit.schema` says today is not what it said then.
"""

from __future__ import annotations

import uuid

import sqlalchemy as sa

from meterkit import schema
from meterkit.errors import LedgerError

TABLES_OF_1 = ("accounts", "counted", "folds", "lease", "meta", "reports", "usage")
"""Without a prefix; the application may have tables of these names, too, but hardly all of them."""

_LOCK = 0x6D65746572  # "meter": a number that nobody else takes an advisory lock on


def prepare(connection: sa.Connection, name: str) -> None:
    """
    See that the tables of this version are there.

    Raises:
        LedgerError: A newer meterkit has written the ledger *name*.
    """
    if connection.dialect.name == "postgresql":  # SQLite's transaction is alone from its beginning
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    version = _version(connection)
    if version is None:
        _create(connection)
        return
    if version > schema.VERSION:
        raise LedgerError(
            f"the ledger {name} has schema version {version}, written by a newer meterkit; this one knows "
            f"{schema.VERSION}. Install that version again; usage stays in the journal meanwhile"
        )
    for step in range(version, schema.VERSION):
        for statement in _STEPS[step]:
            connection.exec_driver_sql(statement)
    if version != schema.VERSION:
        at_today = sa.update(schema.meta).filter_by(key="schema_version")
        connection.execute(at_today.values(value=str(schema.VERSION)))


def _version(connection: sa.Connection) -> int | None:
    """The version of the ledger in the database; None where there is none."""
    inspector = sa.inspect(connection)
    names = set(inspector.get_table_names())
    meta = schema.meta.name
    if meta not in names:
        if not names.issuperset(TABLES_OF_1) or {"key", "value"} != {
            column["name"] for column in inspector.get_columns("meta")
        }:
            return None
        meta = "meta"
    version = sa.text(f"SELECT value FROM {meta} WHERE key = 'schema_version'")  # noqa: S608 - one of two names of ours
    found = connection.scalar(version)
    return None if found is None else int(found)


def _create(connection: sa.Connection) -> None:
    schema.metadata.create_all(connection)
    about = {"schema_version": str(schema.VERSION), "ledger_id": uuid.uuid4().hex}
    connection.execute(sa.insert(schema.meta), [{"key": key, "value": value} for key, value in about.items()])
    connection.execute(sa.insert(schema.lease).values(name="reporter", holder="", token=0, expires_at=0))


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
}
"""What leads from a version to the next."""
