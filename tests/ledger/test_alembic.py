"""An application whose tables Alembic manages, in the same database as the ledger."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

import meterkit


@pytest.fixture
def database(kit, tmp_path):
    """The database, with the ledger and one table of the application."""
    kit.record("calls", "acme")
    kit.flush()
    engine = sa.create_engine(f"sqlite:///{tmp_path}/meterkit/ledger.sqlite", poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE orders (id INTEGER NOT NULL PRIMARY KEY)")
    return engine


def differences(database, tables, **options):
    """What Alembic would change, as in ``alembic revision --autogenerate``."""
    with database.connect() as connection:
        return compare_metadata(MigrationContext.configure(connection, opts=options), tables)


def test_the_tables_of_the_ledger_are_left_alone(database):
    """With the helper; without it, Alembic would drop them."""
    application = sa.MetaData()
    sa.Table("orders", application, sa.Column("id", sa.Integer, primary_key=True))
    without = {each[1].name for each in differences(database, application) if each[0] == "remove_table"}

    assert without == set(meterkit.metadata.tables)
    assert [] == differences(database, application, include_name=meterkit.include_name)


def test_the_tables_of_the_application_are_still_compared(database):
    """One that is missing in the models, or in the database, is found as ever."""
    application = sa.MetaData()
    sa.Table("customers", application, sa.Column("id", sa.Integer, primary_key=True))

    found = differences(database, application, include_name=meterkit.include_name)

    assert {("add_table", "customers"), ("remove_table", "orders")} == {(each[0], each[1].name) for each in found}


def test_the_metadata_are_what_is_in_the_database(database):
    """Tools that compare both find no difference."""
    found = differences(database, meterkit.metadata)

    assert {("remove_table", "orders")} == {(each[0], each[1].name) for each in found}
