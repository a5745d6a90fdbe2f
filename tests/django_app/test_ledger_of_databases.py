"""``ledger="django:default"``: the ledger in a database of ``DATABASES``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from django.db import connections

from meterkit import ConfigurationError, Meter, MeterKit

POSTGRES = {"ENGINE": "django.db.backends.postgresql", "NAME": "shop"}


@pytest.fixture
def ledger_of(with_settings, monkeypatch):
    """A function that returns the ledger's URL for a database of ``DATABASES``."""

    def ledger_of(database, alias="billing"):
        known = connections.configure_settings({"default": {}, alias: database})
        monkeypatch.setattr(connections, "settings", known, raising=False)
        try:
            kit = MeterKit(meters=[Meter("calls")], ledger=f"django:{alias}", data_dir="/var/lib/billing")
        finally:
            if hasattr(connections._connections, alias):
                del connections[alias]
        return kit._settings.ledger

    return ledger_of


def connected(url):
    """What psycopg would be given, by way of SQLAlchemy."""
    address = sa.make_url(url)
    return address.get_dialect()().create_connect_args(address)[1]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, {}),
        ({"USER": "me/you@here:5"}, {"user": "me/you@here:5"}),
        ({"PASSWORD": "hu/sh@42:?#%& é"}, {"password": "hu/sh@42:?#%& é"}),
        ({"HOST": "db.example.com", "PORT": 5433}, {"host": "db.example.com", "port": 5433}),
        ({"HOST": "127.0.0.1", "PORT": "5433"}, {"host": "127.0.0.1", "port": 5433}),
        ({"HOST": "/var/run/postgresql"}, {"host": "/var/run/postgresql"}),
        ({"HOST": "/var/run/a b", "PORT": "5433"}, {"host": "/var/run/a b", "port": "5433"}),
        ({"HOST": "::1"}, {"host": "::1"}),
        ({"PORT": "5433"}, {"port": "5433"}),
        ({"NAME": "a/b?c d"}, {"dbname": "a/b?c d"}),
        ({"OPTIONS": {"sslmode": "verify-full"}}, {"sslmode": "verify-full"}),
        ({"OPTIONS": {"sslrootcert": Path("/etc/ca.pem")}}, {"sslrootcert": "/etc/ca.pem"}),
        ({"OPTIONS": {"options": "-c search_path=billing"}}, {"options": "-c search_path=billing"}),
        ({"OPTIONS": {"assume_role": "own er"}}, {"options": "-c role=own\\ er"}),
        ({"OPTIONS": {"assume_role": "owner", "options": "-c x=y"}}, {"options": "-c x=y -c role=owner"}),
        ({"OPTIONS": {"pool": True, "isolation_level": 3, "server_side_binding": True}}, {}),
        ({"NAME": "", "OPTIONS": {"service": "shop"}}, {"dbname": None, "service": "shop"}),
        ({"OPTIONS": {"connect_timeout": 7}, "CONN_MAX_AGE": 60}, {"connect_timeout": "7"}),
    ],
)  # fmt: skip
def test_the_address(ledger_of, more, expected):
    """All that Django itself connects with, escaped; what is Django's alone is left out."""
    found = connected(ledger_of({**POSTGRES, **more}))

    assert {name: value for name, value in {"dbname": "shop", **expected}.items() if value is not None} == found


@pytest.mark.parametrize("name", ["/srv/shop/db.sqlite3", ":memory:"])
def test_sqlite_has_a_file_of_its_own(ledger_of, name):
    """Beside the journal, as without this: two programs that write into one file keep each other out."""
    assert "sqlite:////var/lib/billing/ledger.sqlite" == ledger_of(
        {"ENGINE": "django.db.backends.sqlite3", "NAME": name}
    )


def test_no_such_alias(ledger_of):
    """The error names those that there are."""
    with pytest.raises(ConfigurationError, match="DATABASES has no 'other'; it has 'default'"):
        MeterKit(meters=[Meter("calls")], ledger="django:other")


def test_another_kind_of_database(ledger_of):
    """Is refused, with the way out; Django's dummy stands for any of them."""
    with pytest.raises(ConfigurationError, match=r"can be in PostgreSQL, not in .*; leave ledger= out"):
        ledger_of({"ENGINE": "django.db.backends.dummy", "NAME": "shop"})


def test_a_database_that_django_refuses(ledger_of):
    """Django's own words."""
    with pytest.raises(ConfigurationError, match="Please supply the NAME"):
        ledger_of({**POSTGRES, "NAME": ""})


def test_outside_of_a_project(tmp_path):
    """The error says what is missing, not what Django calls it."""
    program = "from meterkit import *; MeterKit(meters=[Meter('calls')], ledger='django:default')"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env={}, capture_output=True, text=True, check=False
    )

    assert "ledger='django:default': the settings are not configured; set DJANGO_SETTINGS_MODULE" in done.stderr
