"""`company_of`: who pays, by the request's user, sync and async, whatever has loaded it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from adapter_django import django_handler
from adapter_drivers import call_asgi, call_wsgi
from adapter_usage import looked_once
from django.core.exceptions import ObjectDoesNotExist
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.asyncio import async_unsafe
from guard import UNHURRIED

from meterkit import ConfigurationError, Governance, Meter, MeterKit, Quota
from meterkit.django import company_of

pytestmark = pytest.mark.long

CALLS = Meter("calls", path="*")
BOTH = pytest.mark.parametrize("is_async", [False, True], ids=["wsgi", "asgi"])


class User:
    """As Django's: a relation queries, and raises where there is none."""

    is_authenticated = True
    pk = 7

    def __init__(self, company: object) -> None:
        self.company = company

    @property
    def membership(self) -> Any:
        return _queried(self.company)

    @property
    def team(self) -> Any:
        raise ObjectDoesNotExist


@async_unsafe
def _queried(company: object) -> Any:
    return None if company is None else SimpleNamespace(organisation_id=company)


ANONYMOUS = SimpleNamespace(is_authenticated=False)


@BOTH
@pytest.mark.parametrize("governed", [False, True])
@pytest.mark.parametrize(
    ("arguments", "user", "counted"),
    [
        (("membership.organisation_id",), User("acme"), ("acme", None)),
        (("membership.organisation_id",), User(41), ("41", None)),
        (("company",), User("acme"), ("acme", None)),
        (("membership.organisation_id", "user", "pk"), User("acme"), ("acme", "7")),
        (("membership.organisation_id",), User(None), (None, None)),
        (("team.pk",), User("acme"), (None, None)),
        (("membership.organisation_id",), ANONYMOUS, (None, None)),
        (("membership.organisation_id",), None, (None, None)),
        (("id", "of", "auth"), None, ("key", None)),
        (("owner.id", "of", "tenant"), None, (None, None)),
    ],
)
def test_who_pays(
    make_kit: Callable[..., MeterKit], is_async: bool, governed: bool, arguments: Any, user: Any, counted: Any
) -> None:
    """By the attributes that it is told; nobody, where there is nobody."""

    def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse(b"done")

    path_, *named = arguments
    governance = {"governance": Governance(quotas=[Quota(CALLS, 9)])} if governed else {}
    read = company_of(path_, **dict(zip(named[::2], named[1::2], strict=True)))

    def identify(exchange: Any) -> Any:
        exchange.native.user = user
        exchange.native.auth = SimpleNamespace(id="key")
        return read(exchange)

    kit = make_kit(CALLS, identify=identify, **governance)
    app = django_handler(kit, is_async=is_async, ROOT_URLCONF=type("P", (), {"urlpatterns": [path("", view)]}))
    if governed:
        looked_once(kit)

    assert 200 == (call_asgi if is_async else call_wsgi)(app).status
    kit.flush()
    assert [counted] == [(row.company, row.user) for row in kit.usage()]
    assert {"no_company", "no_stripe_key"} >= kit.health()["problems"].keys()


@pytest.mark.parametrize("wrong", ["", "user id", "a..b", ".a", None, 3])
def test_what_is_no_path_is_refused(wrong: Any) -> None:
    """While the kit is built, with an example of what is right."""
    with pytest.raises(ConfigurationError, match=r"company_of\(path\) must be a path of attributes such as"):
        company_of(wrong)
    with pytest.raises(ConfigurationError, match=r"company_of\(of=...\)"):
        company_of("pk", of=wrong)


SCRIPT = f"""{UNHURRIED}
import asyncio, sys
from pathlib import Path

import django
from django.conf import settings

home = Path(sys.argv[1])
settings.configure(
    ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="x", DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"],
    MIDDLEWARE=[
        "meterkit.django.MeterMiddleware", "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    DATABASES={{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": str(home / "django.sqlite")}}}},
)
django.setup()
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from django.http import HttpResponse
from django.test import AsyncClient, Client
from django.test.utils import CaptureQueriesContext
from django.urls import path

from meterkit import Governance, Meter, MeterKit, Quota
from meterkit.django import company_of

async def looks(request):
    if hasattr(request, "auser"):
        await request.auser()
    return HttpResponse(b"done")

async def plain(request):
    return HttpResponse(b"done")

def sync(request):
    return HttpResponse(request.user.username)

urlpatterns = [path("looks", looks), path("plain", plain), path("sync", sync)]
call_command("migrate", verbosity=0)
ada = User.objects.create_user("ada", password="x")
client, others = Client(), AsyncClient()
client.force_login(ada)
cookie = client.cookies["sessionid"].value

for governed in (False, True):
    calls = Meter("calls", path="*")
    governance = {{"governance": Governance(quotas=[Quota(calls, 5)])}} if governed else {{}}
    settings.METERKIT = kit = MeterKit(
        meters=[calls], identify=company_of("pk", user="username"), data_dir=home / str(governed),
        flush_interval=3600, **governance,
    )
    if governed:
        kit.governor.begin()
        assert kit.governor.ready.wait(60)
        kit.flush()

    def get(path, signed_in=True):
        async def call():
            asked = AsyncClient()
            if signed_in:
                asked.cookies["sessionid"] = cookie
            return (await asked.get(path)).status_code
        return asyncio.run(call())

    async_statuses = [get(each) for each in ("/looks", "/plain", "/sync", "/looks")]
    client = Client()
    client.cookies["sessionid"] = cookie
    statuses = [client.get("/sync").status_code, client.get("/sync").status_code]
    statuses.append(get("/looks", signed_in=False))
    kit.flush()
    print(async_statuses, statuses, sorted((row.company or "", row.user or "", row.quantity) for row in kit.usage()))
    print(sorted(set(kit.health()["problems"]) - {{"no_stripe_key"}}))
    kit.close()
"""


@pytest.mark.long
def test_a_project_with_sessions(tmp_path: Path) -> None:
    """Django's own users and sessions: what is known of them in an event loop only in a thread, or by `auser()`."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        check=False, capture_output=True, text=True, cwd=Path(__file__).parents[1],
    )  # fmt: skip

    assert 0 == done.returncode, done.stderr
    assert [
        "[200, 200, 200, 200] [200, 200, 200] [('', '', 1), ('1', 'ada', 6)]",
        "['no_company']",
        "[200, 200, 200, 200] [200, 429, 200] [('', '', 1), ('1', 'ada', 5)]",
        "['no_company']",
    ] == done.stdout.splitlines()
