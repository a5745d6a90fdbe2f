"""``meterkit dashboard``: the team's pages on the loopback interface, for whoever knows the token, and nobody else."""

from __future__ import annotations

import re
import signal
import subprocess
from urllib.parse import urlsplit

import httpx
import pytest
from cli_shell import COMMAND, meterkit
from guard import GUARD

from meterkit import Meter, Plan, Quota
from meterkit.cli.dashboard_command import Dashboard

TOKEN = "t" * 43


@pytest.fixture
def app(make_kit):
    """The dashboard of a kit with some usage."""
    kit = make_kit(Meter("calls"))
    kit.record("calls", "acme", 1_234)
    kit.flush()
    made = Dashboard(kit, TOKEN)
    made.port = 4711
    return made


@pytest.fixture
def ask(app):
    """A function that asks the dashboard, as a browser at its address does."""

    def ask(path="/meterkit/team", *, host="127.0.0.1:4711", cookie=f"meterkit_4711={TOKEN}", query="", method="GET"):
        environ = {"REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": query, "HTTP_HOST": host}
        if cookie is not None:
            environ["HTTP_COOKIE"] = cookie
        said = []
        body = b"".join(app(environ, lambda *given: said.append(given)))
        ((status, headers),) = said
        return int(status[:3]), dict(headers), body.decode()

    return ask


def test_the_first_request_gets_a_cookie(ask):
    """With the token in its address, which it then leaves; scripts and other sites cannot use it."""
    status, headers, _ = ask(cookie=None, query=f"token={TOKEN}")
    cookie, *attributes = headers["Set-Cookie"].split("; ")

    assert (303, "/meterkit/team") == (status, headers["Location"])
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} == set(attributes)
    assert 200 == ask(cookie=cookie)[0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"cookie": None},
        {"cookie": "meterkit_4711="},
        {"cookie": f"meterkit_4711={TOKEN[:-1]}"},
        {"cookie": f"meterkit_4712={TOKEN}"},
        {"cookie": "\x00;=\ud800"},
        {"cookie": None, "query": "token="},
        {"cookie": None, "query": f"token={TOKEN}x"},
        {"host": "evil.example:4711"},
        {"host": "127.0.0.1:4712"},
        {"host": "127.0.0.1.evil.example:4711"},
        {"host": "evil.example", "query": f"token={TOKEN}"},
    ],
    ids=str,
)
@pytest.mark.parametrize("path", ["/meterkit/team", "/meterkit/team/companies", "/", "/meterkit/static/1/pages.css"])
def test_who_is_not_let_in(ask, wrong, path):
    """Without the token, with another, or under another name, to which a site may have let its own lead."""
    status, headers, body = ask(path, **wrong)

    assert 403 == status
    assert "Set-Cookie" not in headers
    assert "acme" not in body
    assert TOKEN not in body


def test_the_pages(ask):
    """Those of the team; nothing can be posted, and there are no others."""
    assert "1,234" in ask("/meterkit/team/companies")[2]
    assert 303 == ask("/")[0]
    assert [404, 404] == [ask(path)[0] for path in ("/meterkit", "/elsewhere")]
    assert 405 == ask(method="POST")[0]
    assert (200, "") == ask(method="HEAD")[::2]
    assert 200 == ask(host="localhost:4711")[0]


def test_it_only_reads(make_kit):
    """No page starts the flushes and reports of a process that counts."""
    calls = Meter("calls")
    kit = make_kit(calls, plans=[Plan("free", limits=[Quota(calls, 2_000)])], default_plan="free", identify=str)
    kit.link("acme", "cus_1")
    app = Dashboard(kit, TOKEN)
    said = []
    pages = ["", "/usage", "/companies", "/company", "/hours", "/waiting", "/notices", "/health"]
    for page in pages:
        environ = {"REQUEST_METHOD": "GET", "PATH_INFO": f"/meterkit/team{page}", "QUERY_STRING": "id=acme"}
        environ |= {"HTTP_HOST": "127.0.0.1:0", "HTTP_COOKIE": f"meterkit_0={TOKEN}"}
        app(environ, lambda status, _: said.append(status))

    assert ["200 OK"] * len(pages) == said
    assert not kit.process().counts


@pytest.mark.long
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_it_is_served_until_it_is_stopped(used, sign):
    """At the address that it prints; the usage of processes that are gone is in it."""
    used.close()
    with subprocess.Popen([*COMMAND, "dashboard", "billing:kit"], stdout=subprocess.PIPE, text=True) as process:
        said = process.stdout.readline()
        address = re.search(r"http://\S+", said)[0]
        with httpx.Client(timeout=GUARD, follow_redirects=True) as browser:
            page = browser.get(address)
            companies = browser.get(page.url.join("team/companies"))
        process.send_signal(sign)
        assert 0 == process.wait(GUARD)

    assert "127.0.0.1" == urlsplit(address).hostname
    assert [200, 200] == [page.status_code, companies.status_code]
    assert "token" not in str(page.url)
    assert "1,500" in companies.text


def test_a_port_that_cannot_be_had(shop):
    """One line, and 2."""
    code, out, err = meterkit("dashboard", "billing:kit", "--port", "70000")

    assert (2, "") == (code, out)
    assert "choose another with --port" in err
