"""
Settings of the project around the kit.

In Django, ``METERKIT = {"KIT": "billing.kit", "DATA_DIR": ...}``; in Flask, ``app.config["METERKIT_DATA_DIR"]``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from meterkit.errors import ConfigurationError

NAME = "METERKIT"

KEYS = ("KIT", "LEDGER", "DATA_DIR", "STRIPE_KEY", "STRIPE_BASE", "WEBHOOK_SECRET")
"""Keys of the dictionary: the kit, and what it takes from the environment elsewhere."""


def project_setting(key: str) -> Any:
    """
    Return what the project says under *key*, one of `KEYS`; None without a project, and where it says nothing.

    Raises:
        ConfigurationError: ``METERKIT`` has an unknown key.
    """
    given = _of_app.get() or _metered()
    return None if given is None else given.get(key) or None


@contextmanager
def settings_of_app(given: Mapping[str, Any]) -> Iterator[None]:
    """Have `project_setting` return what is *given*, while the kit of an app is imported."""
    token = _of_app.set(given)
    try:
        yield
    finally:
        _of_app.reset(token)


_of_app: ContextVar[Mapping[str, Any] | None] = ContextVar("meterkit.settings_of_app", default=None)


def _metered() -> Mapping[str, Any] | None:
    """Return the setting, if it is a dictionary. Outside of Django, nothing of it is imported."""
    conf = sys.modules.get("django.conf")
    settings = getattr(conf, "settings", None)
    if settings is None or is_being_loaded():
        return None
    if not settings.configured and not os.environ.get("DJANGO_SETTINGS_MODULE"):
        return None
    given = getattr(settings, NAME, None)  # loads the settings, as any other code of a project does
    if not isinstance(given, Mapping):
        return None
    check_keys(given)
    return given


def check_keys(given: Mapping[str, Any]) -> None:
    """
    Check the keys of the dictionary.

    Raises:
        ConfigurationError: One is unknown.
    """
    unknown = [key for key in given if key not in KEYS]
    if unknown:
        raise ConfigurationError(
            f"{NAME} has no key {unknown[0]!r:.100}; the keys are {', '.join(KEYS)}, and what else a kit takes is an "
            "argument of MeterKit()"
        )


def is_being_loaded() -> bool:
    """Return whether Django's settings are just being imported, so that what follows in their module is unknown."""
    module = sys.modules.get(os.environ.get("DJANGO_SETTINGS_MODULE") or "")
    return bool(getattr(getattr(module, "__spec__", None), "_initializing", False))
