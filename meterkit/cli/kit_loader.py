"""Load the kit that ``billing:kit`` names; the current directory comes first among the places to look."""

from __future__ import annotations

import difflib
import importlib
import sys
import traceback
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

from meterkit.errors import MeterKitError
from meterkit.kit import MeterKit


class CommandError(MeterKitError):
    """The command cannot be done as it was asked for; the message says the cure."""


def load_kit(path: str) -> MeterKit:
    """
    Import the kit at *path*.

    Args:
        path: ``module:attribute``; both may have dots.

    Raises:
        CommandError: There is no kit.
    """
    module_name, _, attribute = path.partition(":")
    if not all(name.isidentifier() for name in (*module_name.split("."), *attribute.split("."))):
        raise CommandError(f"{path!r} names no kit; write module:attribute, such as billing:kit")
    module = _imported(module_name)
    found: Any = module
    for name in attribute.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise CommandError(f"{module_name} has no {attribute!r}{_instead(module, attribute)}") from None
    if not isinstance(found, MeterKit):
        kind = type(found).__name__
        raise CommandError(f"{path} is of type {kind}, and not a MeterKit{_instead(module, attribute)}")
    return found


def _imported(name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        with redirect_stdout(sys.stderr):  # what it prints must not get into the data on stdout
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise CommandError(_broken(name, error)) from error
        raise CommandError(
            f"there is no module {error.name!r} in {here} or among the installed packages; "
            "change to the directory that has it"
        ) from None
    except (Exception, SystemExit) as error:
        raise CommandError(_broken(name, error)) from error


def _broken(name: str, error: BaseException) -> str:
    """One line for what a traceback would say in many."""
    what = str(error) if isinstance(error, MeterKitError) else f"{type(error).__name__}: {error}"
    ours = str(Path(__file__).parents[1])
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "importlib" not in frame.filename and not frame.filename.startswith(ours)
    ]
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return f"{name} cannot be imported: {what}{where}"


def _instead(module: ModuleType, attribute: str) -> str:
    """A cure, if the module has a kit."""
    kits = [name for name, value in vars(module).items() if isinstance(value, MeterKit)]
    if not kits:
        return f"; there is no MeterKit in {module.__name__}, so name the module that makes it"
    best = difflib.get_close_matches(attribute, kits, n=1, cutoff=0)[0]
    return f"; did you mean {module.__name__}:{best}?"
