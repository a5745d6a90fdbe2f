"""
A pytest plugin that puts the middleware around every app that another project's own test-suite makes.

Used as ``pytest -p everywhere`` by ``nox -s foreign``, which runs the suites of web frameworks with and without it:
whatever passed has to pass as before. It also imports as a module in Django's own ``runtests.py``.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from typing import Any

from meterkit import Exchange, Meter, MeterKit, response_json

_data_dir = tempfile.mkdtemp(prefix="meterkit-foreign-")
_creator = os.getpid()

met = 0
"""Exchanges that were counted. Not asked of the ledger: under a test runner, each test has one of its own."""


def identify(exchange: Exchange) -> str:
    """The company of *exchange*, which is counted now."""
    global met  # noqa: PLW0603 - a plugin, loaded once
    met += 1
    return exchange.headers.get("host") or "nobody"


kit = MeterKit(
    meters=[
        Meter("exchanges", path="*", status="*"),
        Meter("bytes", path="*", status="*", value="response_bytes"),
        Meter("rows", path="*", value=response_json("meta.rows")),
    ],
    identify=identify,
    data_dir=_data_dir,
)


def after(owner: Any, name: str, then: Callable[..., None]) -> None:
    """Call *then* with the arguments of each call of ``owner.name``, when that is done."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def wrapped(*args: Any, **named: Any) -> Any:
        answer = original(*args, **named)
        then(*args, **named)
        return answer

    setattr(owner, name, wrapped)


def wrap_flask() -> None:
    """Every Flask app, as ``meterkit.flask.init_app`` does it."""
    from flask import Flask

    from meterkit.flask import init_app

    after(Flask, "__init__", lambda app, *_, **__: init_app(app, kit))


def wrap_werkzeug() -> None:
    """Every WSGI app that werkzeug's test client calls."""
    from werkzeug.test import Client

    from meterkit import wsgi

    def wrap(client: Client, /, *_: Any, **__: Any) -> None:
        client.application = wsgi.MeterMiddleware(client.application, kit)

    after(Client, "__init__", wrap)


def wrap_starlette() -> None:
    """Every ASGI app that Starlette's test client calls; FastAPI's is the same."""
    from starlette.testclient import TestClient

    from meterkit import asgi

    def wrap(client: TestClient, /, *_: Any, **__: Any) -> None:
        transport: Any = client._transport
        transport.app = asgi.MeterMiddleware(transport.app, kit)

    after(TestClient, "__init__", wrap)


def wrap_falcon() -> None:
    """Every falcon app that its test client calls, WSGI and ASGI."""
    from falcon.testing import client

    from meterkit import asgi, wsgi

    for name, wrapper in {"simulate_request": wsgi, "_simulate_request_asgi": asgi}.items():
        original = getattr(client, name)

        def simulate(app: Any, *args: Any, _original: Any = original, _wrapper: Any = wrapper, **named: Any) -> Any:
            is_asgi = client._is_asgi_app(app)
            fits = is_asgi == (_wrapper is asgi)
            return _original(_wrapper.MeterMiddleware(app, kit) if fits else app, *args, **named)

        setattr(client, name, functools.wraps(original)(simulate))


def wrap_django() -> None:
    """Every chain of middleware that a Django handler loads, as if ours stood first in MIDDLEWARE."""
    from django.conf import settings
    from django.core.handlers.base import BaseHandler
    from django.core.handlers.exception import convert_exception_to_response

    from meterkit import django

    def wrap(handler: Any, /, *_: Any, **__: Any) -> None:
        settings.METERKIT = kit
        metered = django.MeterMiddleware(handler._middleware_chain)
        handler._middleware_chain = convert_exception_to_response(metered)

    after(BaseHandler, "load_middleware", wrap)


for _framework in os.environ["METERKIT_FOREIGN"].split(","):
    {
        "flask": wrap_flask,
        "werkzeug": wrap_werkzeug,
        "starlette": wrap_starlette,
        "falcon": wrap_falcon,
        "django": wrap_django,
    }[_framework]()


@atexit.register
def _summary() -> None:
    """Prove that the middleware was there: a suite that passes without having met it says nothing."""
    if os.getpid() == _creator:
        print(f"meterkit counted {met} exchanges; problems: {kit.health()['problems']}", file=sys.stderr)
        kit.close()
        shutil.rmtree(_data_dir, ignore_errors=True)
