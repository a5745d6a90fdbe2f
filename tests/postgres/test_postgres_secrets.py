"""The password of the database: it is in the URL, and nowhere in what meterkit says, whatever goes wrong."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import traceback
from urllib.parse import quote_plus

import pytest
from real_postgres import free_port

from meterkit import LedgerError, MeterKitError

pytestmark = pytest.mark.long

PASSWORD = "hush/hush@night:42?"
SECRETS = [PASSWORD, quote_plus(PASSWORD), "hush"]

URLS = {
    "nothing listens": "postgresql+psycopg://meter:{password}@127.0.0.1:{port}/ledger",
    "refused": "postgresql+psycopg://nobody:{password}@127.0.0.1:{server}/postgres",
    "in the query": "postgresql+psycopg://meter@127.0.0.1:{port}/ledger?password={password}",
    "of a key": "postgresql+psycopg://meter@127.0.0.1:{port}/ledger?sslpassword={password}",
    "an unknown option": "postgresql+psycopg://meter:{password}@127.0.0.1:{port}/ledger?colour=blue",
    "a wrong option": "postgresql+psycopg://meter:{password}@127.0.0.1:{port}/ledger?sslmode=perhaps",
    "a wrong port": "postgresql+psycopg://meter:{password}@127.0.0.1:http/ledger",
    "several hosts": "postgresql+psycopg://meter:{password}@/ledger?host=127.0.0.1:{port}&host=localhost:{port}",
}


@pytest.fixture(params=URLS)
def url(request, postgres_server):
    """A URL with a password that leads to an error."""
    return URLS[request.param].format(password=quote_plus(PASSWORD), port=free_port(), server=postgres_server.port)


def assert_silent(said):
    """None of it, in no spelling."""
    assert [] == [secret for secret in SECRETS if secret in said], said


def test_no_error_tells_it(make_kit, url):
    """Neither the error itself nor the ones behind it, as a log or an error tracker prints them."""
    with pytest.raises(MeterKitError) as caught:
        make_kit(ledger=url).usage()

    assert isinstance(caught.value, LedgerError)
    said = "".join(traceback.format_exception(caught.value)).replace(url, "")  # the line of the test
    assert_silent(said)
    assert_silent(repr(caught.value))


def test_neither_health_nor_log_nor_repr_tells_it(make_kit, url, caplog):
    """Nor what is counted as a problem."""
    caplog.set_level(logging.DEBUG)
    kit = make_kit(ledger=url)
    kit.record("calls", "acme")
    with pytest.raises(LedgerError):
        kit.flush()

    health = kit.health()
    kit.close()

    assert not health["ok"]
    assert_silent(json.dumps(health))
    assert_silent(repr(kit))
    assert_silent(repr(vars(kit)))
    assert_silent(caplog.text)


def test_the_command_line_does_not_tell_it(url, tmp_path):
    """What an operator copies into a ticket."""
    (tmp_path / "billing.py").write_text(
        "from meterkit import Meter, MeterKit\n"
        f"kit = MeterKit(meters=[Meter('calls')], data_dir={str(tmp_path / 'data')!r}, ledger={url!r})\n"
    )
    command = [sys.executable, "-m", "meterkit", "health", "billing:kit"]

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert 1 == done.returncode
    assert "ledger" in done.stdout + done.stderr
    assert_silent(done.stdout + done.stderr)
