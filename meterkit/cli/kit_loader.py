"""Load the kit that ``billing:kit`` names; the current directory is searched first, unless PYTHONSAFEPATH is set."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
import sys
import traceback
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

from meterkit.cli.arguments import FindKit
from meterkit.errors import MeterKitError
from meterkit.kit import MeterKit


class CommandError(MeterKitError):
    """The command is wrong; the message says how to fix it."""


def load_kit(path: str | FindKit, *, search_here: bool = True) -> MeterKit:
    """
    Import the kit at *path*.

    Args:
        path: Import path, ``module:attribute``, of which both parts may be dotted; or the function of a project that
            returns its kit.
        search_here: Whether the current directory is searched first.

    Raises:
        CommandError: The module cannot be imported, or has no such kit.
    """
    if not isinstance(path, str):
        with redirect_stdout(sys.stderr):
            return path()
    module_name, _, attribute = path.partition(":")
    if not all(name.isidentifier() for name in (*module_name.split("."), *attribute.split("."))):
        raise CommandError(f"{path!r} is not an import path; write module:attribute, such as billing:kit")
    module = _imported(module_name, search_here=search_here)
    found: Any = module
    for name in attribute.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise CommandError(f"{module_name} has no {attribute!r}{_suggestion(module, attribute)}") from None
    if not isinstance(found, MeterKit):
        kind = type(found).__name__
        raise CommandError(f"{path} is of type {kind}, not MeterKit{_suggestion(module, attribute)}")
    return found


def _imported(name: str, *, search_here: bool) -> ModuleType:
    here = str(Path.cwd()) if search_here else ""
    # PYTHONSAFEPATH, from Python 3.11 on
    if search_here and here not in sys.path and not getattr(sys.flags, "safe_path", False):
        sys.path.insert(0, here)
    set_up_project()
    try:
        with redirect_stdout(sys.stderr):  # what it prints must not end up in the data on stdout
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise CommandError(_broken(name, error)) from error
        if not search_here:
            raise CommandError(f"no module {error.name!r} in sys.path") from None
        if here not in sys.path:
            raise CommandError(
                f"no module {error.name!r} among the installed packages, and PYTHONSAFEPATH keeps Python from "
                f"searching {here}: install your project, or name its directory in PYTHONPATH"
            ) from None
        raise CommandError(
            f"no module {error.name!r} in {here} or among the installed packages; "
            "run the command in the directory that contains it"
        ) from None
    except (Exception, SystemExit) as error:
        raise CommandError(_broken(name, error)) from error


def set_up_project() -> None:
    """
    Set up the Django project that DJANGO_SETTINGS_MODULE names: the kit's module may import models.

    Without that variable, say so in a directory that has a project.

    Raises:
        CommandError: The project cannot be set up.
    """
    if not os.environ.get("DJANGO_SETTINGS_MODULE"):
        _warn_of_project()
        return
    if importlib.util.find_spec("django") is None:
        return
    try:
        with redirect_stdout(sys.stderr):
            if not importlib.import_module("django.apps").apps.ready:
                importlib.import_module("django").setup()
    except (Exception, SystemExit) as error:
        name = f"the Django project of DJANGO_SETTINGS_MODULE={os.environ['DJANGO_SETTINGS_MODULE']}"
        cure = "name the settings module of this project, or unset the variable if the kit needs no Django"
        raise CommandError(f"{_broken(name, error)}; {cure}") from error


def _warn_of_project() -> None:
    """Say so where a Django project is left aside: its settings may name another ledger."""
    try:
        is_project = "DJANGO_SETTINGS_MODULE" in Path("manage.py").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return
    if is_project:
        print(
            "meterkit: this is a Django project, and its settings are not loaded, so METERKIT is ignored: run python "
            "manage.py meterkit instead, or set DJANGO_SETTINGS_MODULE",
            file=sys.stderr,
        )


def _broken(name: str, error: BaseException) -> str:
    """Return the error, and where it was raised, as one line."""
    message = str(error) if isinstance(error, MeterKitError) else f"{type(error).__name__}: {error}"
    package = str(Path(__file__).parents[1])
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "importlib" not in frame.filename and not frame.filename.startswith(package)
    ]
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return f"{name} cannot be imported: {message}{where}"


def _suggestion(module: ModuleType, attribute: str) -> str:
    """Return what to write instead, as the end of an error message."""
    kits = [name for name, value in vars(module).items() if isinstance(value, MeterKit)]
    if not kits:
        return f"; {module.__name__} contains no MeterKit, so name the module that creates it"
    best = difflib.get_close_matches(attribute, kits, n=1, cutoff=0)[0]
    return f"; did you mean {module.__name__}:{best}?"
