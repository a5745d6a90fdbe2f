"""The tables of the ledger: made once, upgraded once, refused when they are newer, and apart from the application's."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from postgres_account import billed, make_customers, used

from meterkit import LedgerError
from meterkit.ledger.database import Database

HOUR = 3600
VERSION_1 = Path(__file__).parents[1] / "ledger" / "postgresql-1.sql"
"""A ledger as the first version left it."""

APPLICATION = """
CREATE TABLE usage (id serial PRIMARY KEY, megabytes integer NOT NULL, reported boolean NOT NULL DEFAULT false);
CREATE TABLE accounts (company text PRIMARY KEY, balance numeric NOT NULL);
CREATE TABLE reports (id serial PRIMARY KEY, state text NOT NULL, body text);
CREATE TABLE meta (key text PRIMARY KEY, value text);
CREATE TABLE lease (name text PRIMARY KEY, flat integer);
CREATE TABLE folds (generation integer PRIMARY KEY);
CREATE INDEX usage_unreported ON usage (id) WHERE NOT reported;
CREATE INDEX reports_state ON reports (state);
CREATE INDEX ix_folds_folded_at ON folds (generation);
INSERT INTO usage (megabytes) VALUES (12), (34);
INSERT INTO accounts VALUES ('acme', 99.50);
INSERT INTO reports (state, body) VALUES ('pending', 'quarter');
INSERT INTO meta VALUES ('schema_version', '1'), ('motto', 'ours');
INSERT INTO lease VALUES ('reporter', 4);
INSERT INTO folds VALUES (1);
"""
"""What the user's own application has in the same database, under names that the ledger once had."""

COLUMNS = """
SELECT table_name, column_name, data_type, character_maximum_length, is_nullable
FROM information_schema.columns WHERE table_schema = current_schema() ORDER BY 1, 2
"""
INDEXES = "SELECT tablename, indexdef FROM pg_indexes WHERE schemaname = current_schema() ORDER BY 1, 2"


@pytest.fixture
def like():
    """PostgreSQL's own, which is empty: here, meterkit makes the tables."""
    return "template1"


@pytest.fixture
def connection(postgres_url):
    """To the database itself."""
    with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as connection:
        yield connection


def everything_in(connection, names):
    """All rows of these tables, and all that is defined for them."""
    rows = {name: connection.execute(f"SELECT * FROM {name} ORDER BY 1").fetchall() for name in names}
    defined = [each for query in (COLUMNS, INDEXES) for each in connection.execute(query).fetchall()]
    return rows, [each for each in defined if each[0] in names]


def test_the_tables_of_the_application_are_left_alone(make_reporting_kit, connection, stripe, clock):
    """They have other columns, the same names as ours once had, and even a version of their own."""
    names = ["usage", "accounts", "reports", "meta", "lease", "folds"]
    connection.execute(APPLICATION)
    before = everything_in(connection, names)
    kit = make_reporting_kit()
    customers = make_customers(stripe, ["acme"])
    kit.link("acme", customers["acme"])
    kit.record("calls", "acme", 5)
    clock.advance(HOUR)

    kit.report()

    assert {"acme": 5} == billed(stripe, customers)
    assert before == everything_in(connection, names)


def test_every_table_and_index_bears_our_name(kit, connection):
    """Whatever the application adds later has another."""
    kit.record("calls", "acme", 5)
    kit.flush()

    made = connection.execute("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace").fetchall()

    assert [] == [name for (name,) in made if not name.startswith("meterkit_")]


def test_the_tables_can_be_in_a_schema_of_their_own(make_kit, connection, postgres_url):
    """The URL names it, and the role sees nothing else."""
    connection.execute("CREATE SCHEMA billing")
    kit = make_kit(ledger=f"{postgres_url}?options=-csearch_path%3Dbilling")
    kit.record("calls", "acme", 5)
    kit.flush()
    other = make_kit(ledger=f"{postgres_url}?options=-csearch_path%3Dbilling")
    other.record("calls", "acme", 2)
    other.flush()

    assert [7] == [row.quantity for row in kit.usage()]
    found = connection.execute("SELECT DISTINCT schemaname FROM pg_tables WHERE tablename LIKE 'meterkit%'")
    assert [("billing",)] == found.fetchall()


def test_a_ledger_of_a_newer_meterkit_is_refused(make_kit, connection, tmp_path):
    """The message names the cure, and usage stays in the journal until the newer version is back."""
    kit = make_kit(data_dir=tmp_path / "shared")
    kit.record("calls", "acme", 3)
    kit.flush()
    kit.close()
    (version,) = connection.execute("SELECT value FROM meterkit_meta WHERE key = 'schema_version'").fetchone()
    connection.execute("UPDATE meterkit_meta SET value = '99' WHERE key = 'schema_version'")
    older = make_kit(data_dir=tmp_path / "shared")
    older.record("calls", "acme", 4)

    with pytest.raises(LedgerError, match="newer meterkit"):
        older.flush()
    health = older.health()

    assert (False, None) == (health["ok"], health["books"])
    assert any("newer meterkit" in sentence for sentence in health["attention"])
    connection.execute("UPDATE meterkit_meta SET value = %s WHERE key = 'schema_version'", [version])
    older.flush()
    assert [7] == [row.quantity for row in older.usage()]


@pytest.mark.long
def test_a_ledger_of_the_first_version_is_upgraded_by_many_hosts_at_once(
    make_kit_now, connection, postgres_url, hosts, chance
):
    """They start at the same moment; what is in it stays, and what they count is added."""
    connection.execute(VERSION_1.read_text())
    for _ in range(4):
        hosts.add(postgres_url, ["acme", "globex"], chance=chance)
    hosts.go()
    hosts.wait_for(500)
    hosts.stop()
    for host in hosts.all:
        make_kit_now(data_dir=host.data_dir).flush()

    books = make_kit_now().health()["books"]

    new = hosts.counted.total()
    assert [] == hosts.trouble
    assert {
        "counted": 70 + new,
        "journal": 0,
        "unreported": 19 + hosts.counted["acme"],
        "unlinked": 11 + hosts.counted["globex"],
        "unattributed": 13,
        "capped": 0,
        "nonbillable": 0,
        "pending": 0,
        "uncertain": 17,
        "sent": 7,
        "invoiced": 0,
        "rejected": 3,
        "balanced": True,
    } == books["calls"]
    assert (700, 700, True) == (books["egress"]["counted"], books["egress"]["pending"], books["egress"]["balanced"])


def indexes(connection):
    """What is indexed, by table. Those of keys have kept their names, which mean nothing."""
    found = connection.execute(INDEXES).fetchall()
    return sorted((table, re.sub("INDEX .* ON", "INDEX ON", definition)) for table, definition in found)


def test_an_upgraded_ledger_is_like_a_new_one(make_kit, connection, postgres_server):
    """The same tables with the same columns, keys and indexes, so that all that works on one works on the other."""
    connection.execute(VERSION_1.read_text())
    make_kit().usage()
    database = postgres_server.new_database()
    make_kit(ledger=postgres_server.url(database)).usage()

    with postgres_server.connect(database) as fresh:
        assert fresh.execute(COLUMNS).fetchall() == connection.execute(COLUMNS).fetchall()
        assert indexes(fresh) == indexes(connection)


def test_a_ledger_made_by_the_script_is_like_a_new_one(make_kit, connection, postgres_url, postgres_server):
    """What ``meterkit tables --sql`` prints leads to the same tables, rows included, whoever executes it."""
    for statement in Database(postgres_url).script():
        connection.execute(statement)
    database = postgres_server.new_database()
    make_kit(ledger=postgres_server.url(database)).usage()

    with postgres_server.connect(database) as fresh:
        assert fresh.execute(COLUMNS).fetchall() == connection.execute(COLUMNS).fetchall()
        assert indexes(fresh) == indexes(connection)
        for rows in ("SELECT key FROM meterkit_meta ORDER BY 1", "SELECT * FROM meterkit_lease ORDER BY 1"):
            assert fresh.execute(rows).fetchall() == connection.execute(rows).fetchall()
    assert [] == Database(postgres_url).script()


@pytest.mark.long
def test_hosts_that_start_with_an_empty_database_make_its_tables_once(make_kit_now, postgres_url, hosts, chance):
    """All at the same moment, none of them with an error, and there is one ledger with one id."""
    for _ in range(4):
        hosts.add(postgres_url, ["acme"], chance=chance)
    hosts.go()
    hosts.wait_for(100)
    hosts.stop()

    assert [] == hosts.trouble
    for host in hosts.all:
        make_kit_now(data_dir=host.data_dir).flush()
    assert hosts.counted == used(make_kit_now())


def test_a_role_that_may_not_create_tables(make_kit, connection, postgres_url):
    """The message names the cure; with tables and grants as the hardening guide has them, all works."""
    connection.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    connection.execute("DROP ROLE IF EXISTS billing_app")
    connection.execute("CREATE ROLE billing_app LOGIN PASSWORD 'of-the-app'")
    url = sa.make_url(postgres_url).set(username="billing_app", password="of-the-app")
    app = make_kit(ledger=url.render_as_string(hide_password=False))
    app.record("calls", "acme", 5)
    try:
        with pytest.raises(LedgerError, match=r"permission denied .* run meterkit tables .* stays in the journal"):
            app.flush()

        make_kit().flush()  # the owner's
        with pytest.raises(LedgerError, match=r"permission denied .* Grant this role SELECT, INSERT"):
            app.flush()

        guide = (Path(__file__).parents[2] / "docs" / "hardening.md").read_text()
        for grant in re.findall(r"GRANT .* TO billing_app", guide):
            connection.execute(grant)
        app.flush()
        app.link("acme", "cus_1", by="ann")
        app.forget_user("acme", "ann")
        assert [5] == [row.quantity for row in app.usage()]
        assert app.health()["books"]["calls"]["balanced"]
        app.close()
    finally:
        connection.execute("DROP OWNED BY billing_app")
        connection.execute("DROP ROLE billing_app")
