"""
What a worker tells the flusher's process that it starts, and where it starts none.

The process imports the kit's module as the worker did: from the same ``sys.path``, with the same environment and the
same project settings. It then compares its kit with the worker's, because two kits with different ledgers would each
flush half of the usage.
"""

from __future__ import annotations

import builtins
import hashlib
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meterkit.core import live_key
from meterkit.flusher import role

if TYPE_CHECKING:
    from meterkit.runtime.settings import Settings

ENVIRONMENT = ("PYTHONPATH", "PYTHONSAFEPATH")
"""Variables that the process starts with, so that it finds meterkit, and then sets back."""

_RELOADERS = ("RUN_MAIN", "WERKZEUG_RUN_MAIN")
"""Environment variables that Django's and Werkzeug's reloaders set in the process that serves."""


@dataclass(frozen=True)
class Launch:
    """
    What the flusher's process reads from its standard input, as JSON.

    Attributes:
        sys_path: The worker's ``sys.path``.
        environment: The worker's value of each of `ENVIRONMENT`; None if it is not set.
        settings: Settings of the worker's kit, by the keys of `meterkit.project_settings`, for a kit that takes them
            from its project or from the environment.
        identity: See `identity`.
        is_default: Whether nobody asked for a process, so that it leaves a module to the worker whose import starts
            threads.
    """

    sys_path: list[str]
    environment: dict[str, str | None]
    settings: dict[str, Any]
    identity: dict[str, str]
    is_default: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return all fields, ready for ``json.dumps``."""
        return asdict(self)


def launch(settings: Settings, *, names: Iterable[str]) -> Launch:
    """
    Return what a process that flushes for this one has to know.

    Args:
        settings: Settings of the kit.
        names: Names of its meters, plans and wallets.
    """
    given = {
        "DATA_DIR": str(settings.data_dir),
        "LEDGER": settings.ledger,
        "STRIPE_KEY": settings.stripe_key,
        "STRIPE_BASE": settings.stripe_base,
        "WEBHOOK_SECRET": None if settings.webhook is None else list(settings.webhook.secrets),
    }
    return Launch(
        sys_path=[os.path.abspath(path) for path in sys.path],  # noqa: PTH100 - "" stands for the working directory
        environment={name: os.environ.get(name) for name in ENVIRONMENT},
        settings={key: value for key, value in given.items() if value},
        identity=identity(settings, names=names),
        is_default=settings.flusher_is_default,
    )


def identity(settings: Settings, *, names: Iterable[str]) -> dict[str, str]:
    """
    Return a digest of each argument in which two imports of one kit must not differ, by its name.

    Args:
        settings: Settings of the kit.
        names: Names of its meters, plans and wallets.
    """
    arguments = {
        "data_dir": str(settings.data_dir),
        "ledger": settings.ledger,
        "stripe_key": settings.stripe_key,
        "stripe_base": settings.stripe_base,
        "stripe_account": settings.stripe_account,
        "report_via": settings.report_via,
        "late": settings.late,
        "keep_days": settings.keep_days,
        "customer_ids": settings.customer_ids,
        "metadata_key": settings.metadata_key,
        "webhook": settings.webhook is not None,
        "find_customer": settings.find_customer is not None,
        "shadow": settings.shadow_until,
        "meters, plans or wallets": sorted(names),
    }
    return {name: hashlib.sha256(repr(value).encode()).hexdigest() for name, value in arguments.items()}


def difference(expected: Mapping[str, str], found: Mapping[str, str]) -> str | None:
    """Return the name of an argument in which two results of `identity` differ; None if they are the same."""
    return next((name for name in expected if expected[name] != found.get(name)), None)


def python() -> str | None:
    """Return the path of this Python's interpreter; None where Python is embedded and comes without one."""
    directories = dict.fromkeys(Path(prefix, "bin") for prefix in (sys.exec_prefix, sys.base_exec_prefix))
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    candidates = [Path(sys.executable or ""), *(directory / name for directory in directories)]
    for path in candidates:
        # uWSGI and others that embed Python may be named as its executable.
        if path.name.lower().startswith(("python", "pypy")) and os.access(path, os.X_OK):
            return str(path)
    return None


def reason_against() -> str | None:
    """Return why this process should start no other, as the end of a sentence; None if it may."""
    if role.is_command:
        return "this is a command of meterkit"
    if is_test_run():
        return "this is a test run"
    if _reloads():
        return "this server starts again after each change of the code"
    if hasattr(sys, "ps1") or sys.flags.interactive or hasattr(builtins, "get_ipython") or "ipykernel" in sys.modules:
        return "this is an interactive session"
    return None


def is_test_run() -> bool:
    """Return whether pytest, unittest, Django's test runner or `meterkit.testing.isolated` runs this process."""
    program = getattr(sys.modules.get("__main__"), "__spec__", None)
    is_unittest = getattr(program, "name", None) == "unittest.__main__"
    return live_key.test_runs > 0 or live_key.is_django_test_run() or is_unittest


def _reloads() -> bool:
    words = getattr(sys, "argv", [])  # an embedded Python may have none
    is_fastapi_dev = bool(words) and Path(words[0]).name == "fastapi" and "dev" in words
    is_runserver = "runserver" in words[1:2]
    return (
        any(os.environ.get(name) == "true" for name in _RELOADERS)
        or "--reload" in words
        or is_runserver
        or is_fastapi_dev
    )
