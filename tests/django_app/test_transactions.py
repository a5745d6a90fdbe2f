"""What counts in a transaction: with `ATOMIC_REQUESTS`, `on_commit` and `record()`, as the table of the guide says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from guard import UNHURRIED

PROJECT = f"""{UNHURRIED}
import json, sys
from pathlib import Path

import django
from django.conf import settings

home = Path(sys.argv[1])
settings.configure(
    ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="x", MIDDLEWARE=["meterkit.django.MeterMiddleware"],
    DATABASES={{"default": {{
        "ENGINE": "django.db.backends.sqlite3", "NAME": str(home / "django.sqlite"),
        "ATOMIC_REQUESTS": sys.argv[2] == "atomic",
    }}}},
)
django.setup()
from django.db import connection, transaction
from django.http import HttpResponse
from django.test import Client
from django.urls import path

import meterkit
from meterkit import Meter, MeterKit

requests = Meter("requests", path="/*")
added, recorded = Meter("added", path="/*", value="added"), Meter("recorded", http=False)
settings.METERKIT = kit = MeterKit(
    meters=[requests, added, recorded], identify=lambda exchange: exchange.path[1:], data_dir=home / "kit",
    flush_interval=3600,
)
with connection.cursor() as cursor:
    cursor.execute("CREATE TABLE job (company TEXT)")

def insert(company):
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO job VALUES (%s)", [company])

def count(request):
    company = request.path[1:]
    insert(company)
    meterkit.add_usage("added", 10)
    kit.record(recorded, company, 100)
    transaction.on_commit(lambda: kit.record(recorded, company, 1000))
    return company

def fine(request):
    count(request)
    return HttpResponse("done")

def raises(request):
    count(request)
    raise ValueError("no")

def caught(request):
    try:
        with transaction.atomic():
            count(request)
            raise ValueError("no")
    except ValueError:
        return HttpResponse("it did not work")

def on_commit(request):
    insert("on_commit")
    with transaction.atomic():
        transaction.on_commit(lambda: meterkit.add_usage("added", 10))
    return HttpResponse("done")

views = (fine, raises, caught, on_commit)
urlpatterns = [path(view.__name__, view) for view in views]
client = Client(raise_request_exception=False)
statuses = [client.get("/" + view.__name__).status_code for view in views]
kit.flush()
usage = {{}}
for row in kit.usage():
    usage.setdefault(row.company, {{}})[row.meter] = row.quantity
with connection.cursor() as cursor:
    rows = [each[0] for each in cursor.execute("SELECT company FROM job ORDER BY company")]
kit.close()
print(json.dumps([statuses, usage, rows]))
"""


@pytest.mark.long
@pytest.mark.parametrize("atomic", ["atomic", "not atomic"])
def test_what_counts(tmp_path: Path, atomic: str) -> None:
    """The response decides about the request, and only `on_commit` knows of the transaction."""
    done = subprocess.run(
        [sys.executable, "-c", PROJECT, str(tmp_path), atomic],
        check=False, capture_output=True, text=True, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    assert 0 == done.returncode, done.stderr
    statuses, usage, rows = json.loads(done.stdout)

    # Without ATOMIC_REQUESTS, what the view that raises has written stays, and its on_commit ran at once.
    stays = atomic != "atomic"
    assert [200, 500, 200, 200] == statuses
    assert {
        "fine": {"requests": 1, "added": 10, "recorded": 1100},
        "raises": {"recorded": 1100 if stays else 100},
        "caught": {"requests": 1, "added": 10, "recorded": 100},
        "on_commit": {"requests": 1, "added": 10},
    } == usage
    assert ["fine", "on_commit", *(["raises"] if stays else [])] == rows
