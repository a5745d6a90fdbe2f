"""What is public, and what an import costs."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
import textwrap
from importlib import import_module
from pathlib import Path

import pytest

import meterkit

PACKAGE = Path(meterkit.__file__).parent

FRAMEWORKS = {"flask", "django", "starlette", "fastapi", "werkzeug", "gunicorn", "uvicorn"}

HEAVY = {"sqlalchemy", "stripe", "httpx", "tenacity"}
"""Libraries that only a background thread needs."""


def run(script):
    """Run *script* in a fresh interpreter; what it prints."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script)], check=True, capture_output=True, text=True
    ).stdout.split()


def test_all_is_sorted_and_complete():
    """``__all__`` lists, in order, what type checkers are told that there is; each is that, and at home there."""
    homes = {
        alias.name: node.module
        for node in ast.walk(ast.parse((PACKAGE / "__init__.py").read_text()))
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("meterkit.")
        for alias in node.names
    }

    assert sorted(homes) == meterkit.__all__
    for name, home in homes.items():
        assert getattr(meterkit, name) is getattr(import_module(home), name)


@pytest.mark.parametrize("name", meterkit.__all__)
def test_every_public_name_is_documented(name):
    """Each public name, and each public method and property of it, says what it is."""
    public = getattr(meterkit, name)
    members = [
        member
        for key, member in (vars(public).items() if inspect.isclass(public) else ())
        if not key.startswith("_") and (inspect.isroutine(member) or isinstance(member, property | classmethod))
    ]

    assert [] == [each for each in (public, *members) if not inspect.getdoc(each)]


@pytest.mark.parametrize("name", ["Identity", "Meter", "MeterKit", "Price", "Tier"])
def test_every_option_is_documented(name):
    """The docstring of a class that users build names each argument that it takes."""
    public = getattr(meterkit, name)
    text = inspect.getdoc(public)

    assert [] == [option for option in inspect.signature(public).parameters if f"{option}: " not in text]


def test_the_version():
    """The version is that of the installed package."""
    from importlib.metadata import version

    assert version("meterkit") == meterkit.__version__


def test_what_there_is_not():
    """A misspelt name is an ordinary error."""
    with pytest.raises(AttributeError, match="module 'meterkit' has no attribute 'Metre'"):
        meterkit.Metre  # noqa: B018


def test_an_import_is_light():
    """``import meterkit``, and a kit, load no framework and nothing that talks to a database or to Stripe."""
    loaded = run(
        """
        import sys
        from meterkit import Meter, MeterKit, Price, Tier

        meter = Meter("calls", path="/v1/*")
        kit = MeterKit(meters=[meter], prices=[Price.per_unit(meter, "0.01")], stripe_key="sk_test_1")
        print(*{name.split(".")[0] for name in sys.modules})
        """
    )

    assert set() == set(loaded) & {*FRAMEWORKS, *HEAVY, "sqlite3", "requests", "rich", "asyncio"}


def test_nothing_is_imported_before_it_is_asked_for():
    """``import meterkit`` brings none of its modules; a kit brings only what it is told to do."""
    none, few = run(
        """
        import sys

        def ours():
            return ",".join(name for name in sys.modules if name.startswith("meterkit."))

        import meterkit
        print(ours() or "none")
        meterkit.MeterKit(meters=[meterkit.Meter("calls")])
        print(ours())
        """
    )

    assert none == "none"
    optional = {"governance", "notices", "adapters", "channels"}
    loaded = {name.split(".")[1] for name in few.split(",")}
    assert "metering" in loaded
    assert set() == optional & loaded


def test_names_can_be_completed():
    """``dir()`` has all public names, also those that nobody has asked for."""
    assert set(meterkit.__all__) <= set(run("import meterkit; print(*dir(meterkit))"))


def test_a_kit_starts_nothing(tmp_path):
    """Importing and building, with middleware and all, opens no file or socket and starts no thread or process."""
    events = run(
        f"""
        import sys, threading
        import meterkit.kit, meterkit.wsgi, meterkit.asgi

        outside = {{"open", "os", "socket", "subprocess", "shutil", "sqlite3", "_thread"}}
        events = []
        armed = [True]

        def audit(event, arguments):
            if armed[0] and event.split(".")[0] in outside:
                events.append(event)

        sys.addaudithook(audit)
        from meterkit import Meter, MeterKit
        kit = MeterKit(meters=[Meter("calls")], data_dir={str(tmp_path / "data")!r}, stripe_key="sk_test_1")
        app = meterkit.wsgi.MeterMiddleware(lambda environ, start_response: [], kit)
        app = meterkit.asgi.MeterMiddleware(lambda scope, receive, send: None, kit)
        repr(kit)
        armed[0] = False
        print(*events, *[thread.name for thread in threading.enumerate()])
        """
    )

    assert ["MainThread"] == events
    assert not (tmp_path / "data").exists()


def test_the_audit_hears_of_files(tmp_path):
    """The test above can fail: the first count does open files."""
    events = run(
        f"""
        import sys
        from meterkit import Meter, MeterKit

        events = []
        sys.addaudithook(lambda event, arguments: events.append(event))
        kit = MeterKit(meters=[Meter("calls")], data_dir={str(tmp_path / "data")!r}, stripe_key="sk_test_1")
        kit.record("calls", "acme")
        print(*events)
        """
    )

    assert {"open", "os.mkdir"} <= set(events)


def test_the_request_path_touches_no_disk(tmp_path):
    """Once a process counts, an exchange opens, reads and writes nothing, and starts nothing."""
    events = run(
        f"""
        import sys, threading
        from meterkit import Meter, MeterKit
        from meterkit.wsgi import MeterMiddleware

        def app(environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
            return [b"ok"]

        kit = MeterKit(
            meters=[Meter("calls"), Meter("egress", value="response_bytes")],
            identify=lambda exchange: exchange.headers["x-company"],
            data_dir={str(tmp_path / "data")!r},
            flush_interval=3600,
            stripe_key="sk_test_1",
        )
        metered = MeterMiddleware(app, kit)

        def request(company):
            environ = {{"REQUEST_METHOD": "GET", "PATH_INFO": "/", "HTTP_X_COMPANY": company}}
            return metered(environ, lambda status, headers, exc_info=None: None)

        request("acme")
        events, armed = [], [True]
        sys.addaudithook(lambda event, arguments: events.append(event) if armed[0] else None)
        for number in range(100):
            request(f"company {{number}}")
        armed[0] = False
        print(*{{event for event in events if not event.startswith("object.")}})
        """
    )

    assert [] == events
