"""The import path of a kit: what a process of its own imports to have the same kit."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterable
from types import FrameType


class Importable:
    """
    A kit, as another process may find it. Made while the kit is built.

    Args:
        kit: The kit.
        names: Names of its meters and plans.

    Attributes:
        names: Names of its meters and plans.
    """

    def __init__(self, kit: object, *, names: Iterable[str]) -> None:
        self._kit = weakref.ref(kit)
        self._built_in = _modules_on_stack()
        self.names = tuple(names)

    def path(self) -> str | None:
        """
        Return the path, such as ``billing:kit``, under which another process can import the kit.

        Of several modules that have it, the first is taken that was running when it was built: one that imports it from
        there may bring along the whole application.

        Returns:
            None if no module that can be imported by its name has the kit as a global: it is a local of a function, or
            the module is the program itself.
        """
        kit = self._kit()
        found: dict[str, str] = {}
        for name, module in list(sys.modules.items()):
            spec = getattr(module, "__spec__", None)
            if name == "__main__" or getattr(spec, "name", None) != name:
                continue  # by that name, it would be imported as another module, or not at all
            attribute = next((key for key, value in list(vars(module).items()) if value is kit), None)
            if attribute is not None and all(part.isidentifier() for part in (*name.split("."), attribute)):
                found[name] = attribute
        module_name = next((name for name in (*self._built_in, *found) if name in found), None)
        return None if kit is None or module_name is None else f"{module_name}:{found[module_name]}"


def _modules_on_stack() -> tuple[str, ...]:
    """Return the names of the modules whose code is running, innermost first."""
    names: dict[str, None] = {}
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - there is no other way, and inspect's is slow
    while frame is not None:
        name = frame.f_globals.get("__name__")
        if isinstance(name, str):
            names[name] = None
        frame = frame.f_back
    return tuple(names)
