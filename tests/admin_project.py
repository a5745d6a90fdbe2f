"""A Django project with the admin, and a superuser who reads its pages, for scripts that go on with what they count."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from guard import UNHURRIED

PROJECT = f"""{UNHURRIED}
import html, json, re, sys
from pathlib import Path

import django
from django.conf import settings

home = Path(sys.argv[1])
settings.configure(
    ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="x", DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    USE_TZ=True, STATIC_URL="static/",
    INSTALLED_APPS=[
        "django.contrib.admin", "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.messages",
        "django.contrib.sessions", "django.contrib.staticfiles", "meterkit.django",
    ],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware", "meterkit.django.MeterMiddleware",
    ],
    TEMPLATES=[{{
        "BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True,
        "OPTIONS": {{"context_processors": [
            "django.template.context_processors.request", "django.contrib.auth.context_processors.auth",
            "django.contrib.messages.context_processors.messages",
        ]}},
    }}],
    DATABASES={{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": str(home / "django.sqlite")}}}},
)
django.setup()
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.test import Client
from django.urls import path

from meterkit import Governance, Meter, MeterKit, Notify, Plan, Price, Quota
from meterkit.sandbox import Sandbox

urlpatterns = [path("admin/", admin.site.urls)]
call_command("migrate", verbosity=0)
boss = User.objects.create_superuser("boss", password="x")
client = Client()
client.force_login(boss)

def cells(page):
    text = page.content.decode()
    rows = re.findall("<tr>(.*?)</tr>", text.partition("<tbody>")[2].partition("</tbody>")[0], re.DOTALL)
    return [
        [html.unescape(re.sub("<[^>]+>", "", cell)) for cell in re.findall("<td>(.*?)</td>", row)] for row in rows
    ]

def next_of(page):
    found = re.search('<a href="([^"]*)" rel="next">', page.content.decode())
    return None if found is None else html.unescape(found[1])

def all_pages(address):
    found, page = [], client.get(address)
    while True:
        assert page.status_code == 200, page.status_code
        found.append(cells(page))
        following = next_of(page)
        if following is None:
            return found
        page = client.get(address.partition("?")[0] + following)

def listed(name, query=""):
    return cells(client.get(f"/admin/meterkit/{{name}}/{{query}}"))
"""


def run(tmp_path: Path, script: str, *arguments: str) -> Any:
    """What *script*, as a part of the project, prints as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", PROJECT + script, str(tmp_path), *arguments],
        check=False, capture_output=True, text=True, cwd=Path(__file__).parent,
    )  # fmt: skip
    assert 0 == done.returncode, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
