"""The adapters are one face in several frameworks: the same names in the same order, the same mistakes refused."""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
import types
from collections.abc import Callable
from typing import Any

import adapter_django
import flask
import pytest
from adapter_django import METER
from adapter_drivers import call_wsgi
from adapter_stacks import bare_wsgi_app
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from meterkit import ConfigurationError, Exchange, Meter, MeterKit

ADAPTERS = {name: importlib.import_module(f"meterkit.{name}") for name in ("wsgi", "asgi", "flask", "django")}


@pytest.mark.parametrize("name", ADAPTERS)
def test_each_adapter_has_an_exchange_and_a_middleware(name: str) -> None:
    """
    Who has read one of them can guess the others.
    """
    module = ADAPTERS[name]
    kinds = [each for each in module.__all__ if each.endswith("Exchange")]

    assert 1 == len(kinds)
    assert issubclass(getattr(module, kinds[0]), Exchange)
    assert inspect.isclass(module.MeterMiddleware)
    assert {"MeterMiddleware", *kinds} == set(module.__all__) - {"init_app", "govern", "agovern", "company_of"}


@pytest.mark.parametrize(
    ("name", "exchange"),
    [("wsgi", []), ("asgi", ["ASGIExchange", "AskingExchange"]), ("django.middleware", ["DjangoExchange"])],
)
def test_they_are_defined_in_the_same_order(name: str, exchange: list[str]) -> None:
    """
    First the exchange, unless it has a module of its own as WSGI's has, then the middleware, then its parts.
    """
    source = ast.parse(inspect.getsource(importlib.import_module(f"meterkit.{name}")))
    classes = [node.name for node in source.body if isinstance(node, ast.ClassDef)]

    assert [*exchange, "MeterMiddleware"] == classes[: len(exchange) + 1]


@pytest.mark.parametrize("name", ["wsgi", "asgi"])
def test_they_take_the_same_arguments(name: str) -> None:
    """
    By position, and by name as Starlette's ``add_middleware`` hands them over.
    """
    assert ["app", "kit"] == list(inspect.signature(ADAPTERS[name].MeterMiddleware).parameters)


@pytest.mark.parametrize("kit", [None, "billing.kit", object()])
@pytest.mark.parametrize("name", ["wsgi", "asgi", "flask"])
def test_what_is_no_kit_is_refused_while_building(name: str, kit: Any) -> None:
    """
    With a sentence that says what to hand over.
    """
    module = ADAPTERS[name]
    with pytest.raises(ConfigurationError, match="needs a MeterKit"):
        module.MeterMiddleware(bare_wsgi_app, kit)
    if name == "flask":
        with pytest.raises(ConfigurationError, match="METERKIT_KIT" if kit is None else "needs a MeterKit"):
            module.init_app(flask.Flask("x"), kit)


def test_what_is_no_flask_app_is_refused(make_kit: Callable[..., MeterKit]) -> None:
    """
    With a pointer to the middleware for all others.
    """
    with pytest.raises(ConfigurationError, match=r"meterkit\.wsgi"):
        ADAPTERS["flask"].init_app(bare_wsgi_app, make_kit(Meter("calls")))


@pytest.mark.parametrize("setting", ["billing.kit", "billing:kit", "object"])
def test_django_finds_the_kit(make_kit: Callable[..., MeterKit], monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    """
    By its dotted path, by the command line's spelling, or as an object.
    """
    kit = make_kit(Meter("calls", path="*"))
    billing = types.ModuleType("billing")
    billing.kit = kit  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "billing", billing)
    call_wsgi(adapter_django.django_handler(kit if setting == "object" else setting), path="/whole")
    kit.flush()

    assert [1] == [row.quantity for row in kit.usage()]


@pytest.mark.parametrize("setting", [None, "", "billing", "no_such_module.kit", "math.kit", "math.pi", 7])
def test_django_refuses_what_is_no_kit(setting: Any) -> None:
    """
    As Django refuses wrong settings: while the project starts, and with the cure.
    """
    with (
        override_settings(METERKIT=setting),
        pytest.raises(ImproperlyConfigured, match=r'METERKIT = "billing\.kit"'),
    ):
        ADAPTERS["django"].MeterMiddleware(lambda request: None)


def test_django_without_the_setting() -> None:
    """
    The same where it is missing altogether.
    """
    with pytest.raises(ImproperlyConfigured, match="METERKIT is missing"):
        adapter_django.django_handler(None, MIDDLEWARE=[METER])
