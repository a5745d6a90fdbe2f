"""Where the application's functions query through Django, in threads of which it knows nothing, none stays."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from guard import UNHURRIED

pytestmark = pytest.mark.long

SCRIPT = f"""{UNHURRIED}
import asyncio, sys, threading
from pathlib import Path

import django
from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="x", MIDDLEWARE=["meterkit.django.MeterMiddleware"],
    DATABASES={{"default": {{
        "ENGINE": "django.db.backends.sqlite3", "NAME": str(Path(sys.argv[1]) / "django.sqlite"), "CONN_MAX_AGE": None,
    }}}},
)
django.setup()
from django.core.handlers.asgi import ASGIHandler
from django.db import connection
from django.db.backends.signals import connection_created
from django.http import HttpResponse
from django.urls import path

from guard import GUARD, tries
from meterkit import Governance, Meter, MeterKit, Notify, Quota
from meterkit.channels.django import DjangoEmail
from meterkit.sandbox import Sandbox

opened = []
connection_created.connect(lambda connection, **_: opened.append(connection), weak=False)
urlpatterns = [path("others", lambda request: HttpResponse(b"done"))]
called = {{name: threading.Event() for name in ("limit", "exact", "find_customer", "to")}}

def querying(name, answer):
    def function(_argument):
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        called[name].set()
        return answer
    return function

calls, others = Meter("calls", path="/calls"), Meter("others", path="/others")
with Sandbox() as sandbox:
    settings.METERKIT = kit = MeterKit(
        meters=[calls, others], identify=lambda exchange: "acme", data_dir=sys.argv[1], flush_interval=0.05,
        find_customer=querying("find_customer", None), customer_page="/usage",
        stripe_key=sandbox.api_key, stripe_base=sandbox.url,
        governance=Governance(quotas=[
            Quota(calls, querying("limit", 1)), Quota(others, querying("exact", 1), exact=True),
        ]),
        notify=[Notify.calls(calls, to=DjangoEmail(to=querying("to", None)))],
    )
    app = ASGIHandler()

    async def get(path):
        messages = [{{"type": "http.request"}}]

        async def receive():
            return messages.pop() if messages else await asyncio.Event().wait()

        async def send(message):
            statuses.append(message.get("status"))

        statuses = []
        await app({{"type": "http", "method": "GET", "path": path, "headers": [(b"host", b"a")]}}, receive, send)
        return statuses[0]

    kit.record(calls, "acme", 1)
    for name in ("limit", "find_customer"):
        assert called[name].wait(GUARD), name
    for _ in tries():  # notices begin with the usage that follows the first look
        kit.record(calls, "acme", 1)
        kit.flush()
        if called["to"].wait(0.05):
            break
    assert 200 == asyncio.run(get("/others"))
    assert called["exact"].wait(GUARD)
    assert 200 == asyncio.run(get("/usage"))
    assert opened  # how many there were depends on which functions shared a thread
    for _ in tries(lambda: str([each.connection for each in opened])):
        if all(each.connection is None for each in opened):
            break
    kit.close()
    print("none stays")
"""


def test_no_connection_stays(tmp_path: Path) -> None:
    """Of a limit, an exact limit, a customer, a recipient and a page, even where the project keeps its own for ever."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        check=False, capture_output=True, text=True, cwd=Path(__file__).parents[1],
    )  # fmt: skip

    assert ("none stays\n", 0) == (done.stdout, done.returncode), done.stderr
