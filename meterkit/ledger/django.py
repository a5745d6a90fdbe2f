"""The ledger in a database of a Django project: ``ledger="django:default"``."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.utils.connection import ConnectionDoesNotExist

from meterkit.errors import ConfigurationError
from meterkit.project_settings import is_being_loaded

PREFIX = "django:"
"""What stands before the alias of a database in ``ledger=``."""

OF_DJANGO = ("client_encoding", "context", "cursor_factory", "prepare_threshold", "row_factory")
"""Parameters by which Django adapts psycopg to itself; the others are libpq's."""


def url_of_alias(alias: str) -> str | None:
    """
    Return the SQLAlchemy URL of the database that ``DATABASES`` has under *alias*.

    Returns:
        A URL that may have a password; None for SQLite, where the ledger is a file of its own. Django's transactions
        begin as readers, and fail at once with "database is locked" if another process has written meanwhile, as the
        ledger does every few seconds; and who deletes the file of a development database means to delete no usage.

    Raises:
        ConfigurationError: Django has no such database, or it is not one of these two.
    """
    ledger = f"ledger={PREFIX + alias!r}"
    if is_being_loaded():
        raise ConfigurationError(
            f"{ledger}: the settings module imports the kit, before DATABASES is known: name the kit by its dotted "
            'path, METERKIT = "billing.kit", and do not import it there'
        )
    try:
        connection: Any = connections[alias]
    except ConnectionDoesNotExist:
        raise ConfigurationError(
            f"{ledger}: DATABASES has no {alias!r}; it has {', '.join(map(repr, connections))}"
        ) from None
    except ImproperlyConfigured as error:
        why = "the settings are not configured" if not settings.configured else _first_sentence(error)
        raise ConfigurationError(
            f"{ledger}: {why}; set DJANGO_SETTINGS_MODULE, and use the kit where Django has been set up"
        ) from error
    if connection.vendor == "sqlite":
        return None
    if connection.vendor != "postgresql":
        raise ConfigurationError(
            f"{ledger}: the ledger can be in PostgreSQL, not in {connection.vendor}; leave ledger= out, and it is a "
            "SQLite file in data_dir="
        )
    try:
        parameters = connection.get_connection_params()
    except ImproperlyConfigured as error:
        raise ConfigurationError(f"{ledger}: {error}") from error
    return _url({**parameters, **_role(connection.settings_dict.get("OPTIONS") or {}, parameters)})


def _first_sentence(error: Exception) -> str:
    return str(error).partition(". ")[0].rstrip(".")


def _role(options: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, str]:
    """Return libpq's ``options`` with the role that Django assumes once it is connected."""
    role = options.get("assume_role")
    if not role:
        return {}
    escaped = re.sub(r"([\\\s])", r"\\\1", str(role))
    return {"options": f"{parameters.get('options') or ''} -c role={escaped}".strip()}


def _url(parameters: Mapping[str, Any]) -> str:
    given = {
        name: str(value)
        for name, value in parameters.items()
        if name not in OF_DJANGO and isinstance(value, str | int | os.PathLike) and not isinstance(value, bool)
    }
    user, password = given.pop("user", ""), given.pop("password", "")
    who = "" if not (user or password) else quote(user, safe="") + (password and ":" + quote(password, safe="")) + "@"
    where = ""
    if re.fullmatch(r"[\w.-]+", given.get("host", "")) and re.fullmatch(r"\d*", given.get("port", "")):
        port = given.pop("port", "")
        where = given.pop("host") + (port and f":{port}")
    name = given.pop("dbname") if re.fullmatch(r"[\w.-]+", given.get("dbname", ""), re.ASCII) else ""
    options = f"?{urlencode(given)}" if given else ""
    return f"postgresql+psycopg://{who}{where}/{name}{options}"
