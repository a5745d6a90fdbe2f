"""
A PostgreSQL that cannot be had: refused, full, or silent. The app counts on, and health says what is wrong.

Whatever it is, requests are answered as before, the process can end, and the next one flushes what it counted.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from contextlib import ExitStack, contextmanager

import pytest
from guard import GUARD
from postgres_account import used
from real_postgres import RealPostgres, free_port

pytestmark = [pytest.mark.long, pytest.mark.thorough]

CONNECTIONS = 8
REQUESTS = 200

PRELUDE = f"""
import json, sys
from meterkit import LedgerError, Meter, MeterKit
from meterkit.ledger import database
from meterkit.wsgi import MeterMiddleware

database.PATIENCE = {GUARD}  # any answer is waited for; where none comes, the URL has its own limit

def make_kit(**options):
    return MeterKit(meters=[Meter("calls")], ledger=sys.argv[1], data_dir=sys.argv[2], **options)
"""

COUNTS = """
kit = make_kit(flush_interval=3600)
kit.record("calls", "acme", 5)
try:
    kit.flush()
except LedgerError as caught:
    error = str(caught)
kit.record("calls", "acme", 2)
health = kit.health()
kit.close()
print(json.dumps({"error": error, "health": health}))
"""

SERVES = f"""
def app(environ, start_response):
    start_response("200 OK", [("X-From", "app")])
    return [b"hello"]

middleware = MeterMiddleware(app, make_kit(flush_interval=0.001, identify=lambda _: "acme"))
answers = []
for _ in range({REQUESTS}):
    head = []
    body = middleware({{"REQUEST_METHOD": "GET", "PATH_INFO": "/"}}, lambda *given: head.extend(given))
    answers.append([*head, b"".join(body).decode()])
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def running_small_server():
    """The one for all tests here."""
    with RealPostgres(max_connections=CONNECTIONS, superuser_reserved_connections=0) as server:
        yield server


@pytest.fixture
def small_server(running_small_server):
    """A server with few connections, which may be frozen."""
    yield running_small_server
    running_small_server.drop_databases()


@contextmanager
def nothing_listens(server, database):
    """The server is not there."""
    yield server.url(database, port=free_port())


@contextmanager
def wrong_password(server, database):
    """Somebody changed it."""
    yield server.url(database, password="guessed")


@contextmanager
def no_such_database(server, database):
    """A name that was mistyped."""
    yield server.url(f"{database}_")


@contextmanager
def no_such_host(server, database):
    """A name that no resolver knows: RFC 2606 keeps it free."""
    yield server.url(database).replace("127.0.0.1", "ledger.invalid")


@contextmanager
def no_connection_left(server, database):
    """Others hold them all."""
    with ExitStack() as held:
        for _ in range(CONNECTIONS):
            held.enter_context(server.connect(database))
        yield server.url(database)


@contextmanager
def a_silent_server(server, database):
    """The kernel accepts, and nobody answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"{server.url(database, port=listener.getsockname()[1])}?connect_timeout=2"


@contextmanager
def a_frozen_server(server, database):
    """It hangs: on a disk, say, or because its machine is being moved."""
    server.freeze()
    try:
        yield f"{server.url(database)}?connect_timeout=2"
    finally:
        server.thaw()


TROUBLES = {
    nothing_listens: "refused",
    wrong_password: "password authentication failed",
    no_such_database: "does not exist",
    no_such_host: "Check the host name",
    no_connection_left: "too many clients",
    a_silent_server: "timeout expired",
    a_frozen_server: "timeout expired",
}
"""What happens, and what health says of it: PostgreSQL's own words, or, where those vary, the cure."""


@pytest.fixture(params=TROUBLES, ids=lambda trouble: trouble.__name__)
def trouble(request):
    """One of them."""
    return request.param


@pytest.fixture
def database(small_server):
    """An empty one."""
    return small_server.new_database()


@pytest.fixture
def in_a_process(tmp_path):
    """A function that runs a script with a kit, in a process that ends as usual; answers what it printed as JSON."""

    def run(script, ledger):
        command = [sys.executable, "-c", PRELUDE + script, ledger, str(tmp_path / "host")]
        done = subprocess.run(command, capture_output=True, check=False, timeout=GUARD)
        assert 0 == done.returncode, done.stderr.decode()
        return json.loads(done.stdout)

    return run


@pytest.fixture
def heir(make_kit, small_server, database, tmp_path):
    """A kit of the next process on the same host, when all is well again."""
    return make_kit(ledger=small_server.url(database), data_dir=tmp_path / "host")


def test_usage_is_kept_until_the_ledger_can_be_had(trouble, small_server, database, in_a_process, heir):
    """Counted while it is away, and told by health; the process ends all the same, and the next one flushes."""
    with trouble(small_server, database) as ledger:
        said = in_a_process(COUNTS, ledger)

    health = said["health"]
    assert TROUBLES[trouble] in said["error"]
    assert "meter:***@" in said["error"]
    assert (False, None) == (health["ok"], health["books"])
    assert any(TROUBLES[trouble] in sentence for sentence in health["attention"])
    heir.flush()
    assert {"acme": 7} == used(heir)


def test_requests_are_answered_as_before(trouble, small_server, database, in_a_process, heir):
    """The thread that flushes in the background fails without a pause, and nobody who is served notices."""
    with trouble(small_server, database) as ledger:
        answers = in_a_process(SERVES, ledger)

    assert [["200 OK", [["X-From", "app"]], "hello"]] * REQUESTS == answers
    heir.flush()
    assert {"acme": REQUESTS} == used(heir)
