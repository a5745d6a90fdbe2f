"""The import path of a kit: what a process of its own imports to have the same kit."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterable
from types import FrameType
from typing import Protocol


class Declared(Protocol):
    """The part of a kit that says what it was built with."""

    @property
    def meters(self) -> Iterable[str]:
        """Its meters, by name."""

    @property
    def plans(self) -> Iterable[str]:
        """Its plans, by name."""

    @property
    def wallets(self) -> Iterable[str]:
        """Its wallets, by name."""


def names_of(kit: Declared) -> list[str]:
    """Return the names by which the kit is compared with what another process has imported in its place."""
    return [*kit.meters, *kit.plans, *kit.wallets]


class Importable:
    """
    A kit, as another process may find it. Made while the kit is built.

    Args:
        kit: The kit.
        names: Result of `names_of`.
        functions: Its arguments that are functions which what flushes calls, by name.

    Attributes:
        names: Result of `names_of`.
        functions: As given.
    """

    def __init__(self, kit: object, *, names: Iterable[str], functions: Iterable[str] = ()) -> None:
        self._kit = weakref.ref(kit)
        self._built_in = _modules_on_stack()
        self.names, self.functions = tuple(names), tuple(functions)

    def path(self) -> str | None:
        """
        Return the path, such as ``billing:kit``, under which another process can import the kit.

        Of several modules that have it, the first is taken that was running when it was built: one that imports it from
        there may bring along the whole application.

        Returns:
            None if no module that can be imported by its name has the kit as a global: it is a local of a function, or
            the module is the program itself, which another may have imported for that.
        """
        kit = self._kit()
        found: dict[str, str] = {}
        # Copies in one step: while a list of items is made, a finaliser or another thread may import something.
        for name, module in sys.modules.copy().items():
            spec = getattr(module, "__spec__", None)
            if name == "__main__" or getattr(spec, "name", None) != name:
                continue  # by that name, it would be imported as another module, or not at all
            if getattr(spec, "_initializing", False):
                continue  # its import has not ended, because it serves, or consumes: another one would, too
            attribute = next((key for key, value in vars(module).copy().items() if value is kit), None)
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
