"""Sums beyond 64 bits, of which `test_quantities` tells, on PostgreSQL; and ledgers from before they were possible."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from test_quantities import (
    check_arithmetic,
    test_a_company_with_more_than_64_bits_stops_nobody,
    test_a_correction_of_what_exceeds_64_bits,
)

__all__ = ["test_a_company_with_more_than_64_bits_stops_nobody", "test_a_correction_of_what_exceeds_64_bits"]

LEDGERS = Path(__file__).parents[1] / "ledger"
COLUMNS = """
SELECT table_name, column_name, data_type, numeric_precision, is_nullable
FROM information_schema.columns WHERE table_schema = current_schema() ORDER BY 1, 2
"""
INDEXES = "SELECT tablename, indexdef FROM pg_indexes WHERE indexdef LIKE 'CREATE INDEX%' ORDER BY 1, 2"


def test_postgresql_computes_as_python_does(postgres_url):
    """Sums, differences and sums of differences, of whatever size."""
    engine = sa.create_engine(postgres_url, poolclass=sa.NullPool)
    for rows in ([], [(1, 2)], [(2**62, 5), (7, 2**63 + 9), (10**30, 3)], [(-5, 10**20), (2**63 - 1, 1)] * 3):
        check_arithmetic(engine, rows)


@pytest.mark.parametrize("version", [1, 2])
def test_an_older_ledger_becomes_like_a_new_one(make_kit, postgres_url, like, tmp_path, version):
    """The same columns and indexes; what it held is there, and can grow."""
    with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as connection:
        new = [connection.execute(query).fetchall() for query in (COLUMNS, INDEXES)]
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
        connection.execute((LEDGERS / f"postgresql-{version}.sql").read_text())
    kit = make_kit()
    for _ in range(9_300):
        kit.record("calls", "evil", 10**15 - 1)

    before = kit.usage(company="acme")
    kit.flush()

    with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as connection:
        upgraded = [connection.execute(query).fetchall() for query in (COLUMNS, INDEXES)]
    assert before
    assert before == kit.usage(company="acme")
    assert 9_300 * (10**15 - 1) == sum(each.quantity for each in kit.usage(company="evil"))
    assert set(new[1]) ^ set(upgraded[1]) == set()
    assert set(new[0]) ^ set(upgraded[0]) == set()
