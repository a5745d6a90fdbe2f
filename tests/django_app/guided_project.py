"""A project of ``django-admin startproject``, with exactly what the guide adds to it, served by ``runserver``."""

from __future__ import annotations

import http.cookiejar
import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from guard import GUARD, tries
from real_postgres import free_port

GUIDE = Path(__file__).parents[2] / "docs" / "frameworks" / "django.md"
FILES = ("billing.py", "settings.py", "urls.py")


def of_the_guide():
    """What the guide adds to each file."""
    section = GUIDE.read_text().split("## Set up a project\n")[1].split("\n## ")[0]
    return dict(zip(FILES, re.findall(r"```python\n(.*?)```", section, re.DOTALL), strict=True))


class GuidedProject:
    """
    The project of the guide.

    Args:
        directory: Where it is.
    """

    def __init__(self, directory):
        self.directory = directory
        self.port = free_port()
        self._served = None
        self._jar = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        self._opener = urllib.request.build_opener(self._jar)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("STRIPE", "METERKIT"))}
        self._environment = {**inherited, "DJANGO_SUPERUSER_PASSWORD": "open sesame", "PYTHONUNBUFFERED": "1"}
        self.run("-m", "django", "startproject", "shop", ".")
        for name, text in of_the_guide().items():
            with (directory / "shop" / name).open("a") as file:
                file.write("\n" + text)

    def run(self, *words):
        """Run Python in the project; its exit code, and all that it prints."""
        done = subprocess.run(
            [sys.executable, "-W", "error", *words],
            cwd=self.directory,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout

    def manage(self, *words):
        """Run ``manage.py``."""
        return self.run("manage.py", *words)

    def usage(self):
        """The total of each meter."""
        code, printed = self.manage("meterkit", "usage", "--json")
        assert code == 0, printed
        return {meter: total["quantity"] for meter, total in json.loads(printed)["totals"].items()}

    def serve(self, *options):
        """Start ``runserver``, and wait until it answers."""
        command = [sys.executable, "manage.py", "runserver", f"127.0.0.1:{self.port}", *options]
        with (self.directory / "served.log").open("w") as log:
            self._served = subprocess.Popen(
                command, cwd=self.directory, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )
        for _ in tries((self.directory / "served.log").read_text):
            assert self._served.poll() is None, (self.directory / "served.log").read_text()
            try:
                self.get("/admin/login/")
            except OSError:
                continue
            return

    def stop(self):
        """Interrupt it as Ctrl-C does, which reaches both of its processes, and wait for both."""
        served, self._served = self._served, None
        if served is not None:
            os.killpg(served.pid, signal.SIGINT)
            served.wait(GUARD)
            for _ in tries():
                try:
                    os.killpg(served.pid, 0)
                except ProcessLookupError:
                    return

    def get(self, path, **form):
        """Ask for *path*, or post a form there; the status and the body."""
        data = urllib.parse.urlencode(form).encode() if form else None
        try:
            with self._opener.open(f"http://127.0.0.1:{self.port}{path}", data, timeout=GUARD) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def sign_in(self):
        """At the admin's log-in page, with its token."""
        _, page = self.get("/admin/login/")
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)[1]
        status, page = self.get(
            "/admin/login/?next=/admin/", csrfmiddlewaretoken=token, username="ann", password="open sesame"
        )
        assert status == 200
        assert "Site administration" in page
