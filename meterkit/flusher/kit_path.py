"""Find the import path of a kit: what a process of its own imports to have the same kit."""

from __future__ import annotations

import sys
from types import FrameType


def modules_on_stack() -> tuple[str, ...]:
    """Return the names of the modules whose code is calling this function, innermost first."""
    names: dict[str, None] = {}
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - there is no other way, and inspect's is slow
    while frame is not None:
        name = frame.f_globals.get("__name__")
        if isinstance(name, str):
            names[name] = None
        frame = frame.f_back
    return tuple(names)


def path_of(kit: object, *, built_in: tuple[str, ...] = ()) -> str | None:
    """
    Return the path, such as ``billing:kit``, under which another process can import *kit*.

    Args:
        kit: Kit to find.
        built_in: Modules that were running when it was built, innermost first. The first of these that has the kit is
            preferred: a module that imports it from there may bring the whole application.

    Returns:
        None if no module that can be imported by its name has the kit as a global: it is a local of a function, or the
        module is the program itself.
    """
    found: dict[str, str] = {}
    for name, module in list(sys.modules.items()):
        spec = getattr(module, "__spec__", None)
        if name == "__main__" or getattr(spec, "name", None) != name:
            continue  # by that name, it would be imported as another module, or not at all
        attribute = next((key for key, value in list(vars(module).items()) if value is kit), None)
        if attribute is not None and all(part.isidentifier() for part in (*name.split("."), attribute)):
            found[name] = attribute
    module_name = next((name for name in (*built_in, *found) if name in found), None)
    return None if module_name is None else f"{module_name}:{found[module_name]}"
