"""A Django project whose ledger is in the project's own database, and a web role that may make no tables."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from real_postgres import PASSWORD, USER

pytestmark = pytest.mark.long

VERSION_1 = Path(__file__).parents[1] / "ledger" / "postgresql-1.sql"
"""A ledger as the first version left it."""

SETTINGS = """
import os
SECRET_KEY = "x"
USE_TZ = True
INSTALLED_APPS = ["meterkit.django"]
DATABASES = {{
    "default": {{
        "ENGINE": "django.db.backends.postgresql",
        "NAME": {name!r},
        "HOST": {host!r},
        "PORT": {port!r},
        "USER": os.environ["ROLE"],
        "PASSWORD": {password!r},
        "OPTIONS": {{"sslmode": "prefer"}},
    }}
}}
METERKIT = {{"KIT": "billing.kit", "LEDGER": "django:default", "DATA_DIR": {data!r}}}
"""

BILLING = """
from meterkit import Meter, MeterKit
kit = MeterKit(meters=[Meter("jobs", http=False)])
"""

COUNT = "import django; django.setup(); from billing import kit; kit.record('jobs', 'acme', 3); kit.close()"


@pytest.fixture
def like():
    """PostgreSQL's own, which is empty: here, the tables are made by command."""
    return "template1"


@pytest.fixture
def run(postgres_url, postgres_server, tmp_path):
    """A function that runs Python in the project, as a role: its exit code, and what it prints."""
    name = postgres_url.rpartition("/")[2]
    about = {"name": name, "port": postgres_server.port, "password": PASSWORD, "data": str(tmp_path / "var")}
    (tmp_path / "billing.py").write_text(BILLING)

    def run(*words, role=USER, host="127.0.0.1"):
        (tmp_path / "project_settings.py").write_text(SETTINGS.format(host=str(host), **about))
        done = subprocess.run(
            [sys.executable, "-W", "error", *words],
            cwd=tmp_path,
            env={**os.environ, "DJANGO_SETTINGS_MODULE": "project_settings", "ROLE": role},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.fixture
def web(postgres_url):
    """A role that may read and write, and may make nothing."""
    with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"CREATE ROLE web LOGIN PASSWORD '{PASSWORD}'")
        connection.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        connection.execute("ALTER DEFAULT PRIVILEGES GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO web")
        connection.execute("ALTER DEFAULT PRIVILEGES GRANT USAGE ON SEQUENCES TO web")
        yield "web"
        connection.execute("DROP OWNED BY web")
        connection.execute("DROP ROLE web")


MANAGE = ("-m", "django")


def test_by_the_socket_too(run, postgres_server):
    """HOST is a name, or the directory of a socket; both lead to the same ledger."""
    assert 0 == run("-c", COUNT)[0]

    code, out, err = run(*MANAGE, "meterkit", "usage", "--json", host=postgres_server._directory)

    assert (0, "") == (code, err)
    assert {"jobs": {"quantity": 3, "reported": 0}} == json.loads(out)["totals"]


def test_a_role_that_may_make_no_tables(run, web, postgres_url):
    """The check says so, and the cure; the SQL that it names makes all that there is to make."""
    code, _out, err = run(*MANAGE, "check", "--database", "default", role=web)
    assert 0 == code
    assert "(meterkit.W010)" in err
    assert PASSWORD not in err
    code, out, err = run(*MANAGE, "meterkit", "tables", role=web)
    assert (1, "") == (code, out)
    assert "permission denied for schema public" in err
    assert "meterkit tables" in err

    code, sql, err = run(*MANAGE, "meterkit", "tables", "--sql", role=web)
    assert (0, "") == (code, err)
    with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(sql)

    assert 0 == run("-c", COUNT, role=web)[0]
    _, out, _ = run(*MANAGE, "meterkit", "usage", "--json", role=web)
    assert 3 == json.loads(out)["totals"]["jobs"]["quantity"]
    assert "(meterkit.W010)" not in run(*MANAGE, "check", "--database", "default", role=web)[2]
    assert (0, "", "") == run(*MANAGE, "meterkit", "tables", "--sql", role=web)


def test_tables_of_an_older_version(run, web, postgres_url):
    """The SQL upgrades them, from the first version on; those of a newer one are left alone."""
    with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(VERSION_1.read_text())
        connection.execute(run(*MANAGE, "meterkit", "tables", "--sql")[1])

        assert (0, "", "") == run(*MANAGE, "meterkit", "tables", "--sql", role=web)
        assert "are there already" in run(*MANAGE, "meterkit", "tables", role=web)[1]
        connection.execute("UPDATE meterkit_meta SET value = '99' WHERE key = 'schema_version'")

    code, _, err = run(*MANAGE, "meterkit", "tables", "--sql")
    assert 1 == code
    assert "written by a newer meterkit" in err


def test_a_database_that_is_down(run, postgres_server):
    """A warning with the cure, without the password; it keeps nobody from a migration of another database."""
    port = postgres_server.port
    code, _, err = run(*MANAGE, "check", "--database", "default", host="127.0.0.2")

    assert 0 == code
    assert "(meterkit.W009)" in err
    assert str(port) in err
    assert PASSWORD not in err
