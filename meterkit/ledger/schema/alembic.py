"""What tools for the application's own tables must leave alone."""

from __future__ import annotations

from collections.abc import Mapping

from meterkit.ledger.schema import PREFIX


def include_name(name: str | None, kind: str, parent_names: Mapping[str, str | None]) -> bool:  # noqa: ARG001
    """
    Return whether Alembic should compare something in the database with the application's tables.

    Pass it to ``context.configure(include_name=...)``: otherwise, ``alembic revision --autogenerate`` would drop the
    ledger's tables, which the application does not define.

    Args:
        name: Name of what Alembic has found.
        kind: ``table``, ``column``, ``index`` and so on.
        parent_names: Names of the schema and the table that it belongs to.

    Returns:
        False for a table of the ledger.
    """
    return kind != "table" or not (name or "").startswith(PREFIX)
