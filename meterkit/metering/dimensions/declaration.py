"""What ``Meter(by=...)`` takes: names of dimensions, and where their values come from."""

from __future__ import annotations

import inspect
import keyword
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

from meterkit.errors import ConfigurationError, UsageError

MOST_DIMENSIONS = 4
"""Dimensions of a meter. Each combination of their values is counted by itself."""

LONGEST_NAME = 40
"""Characters in the name of a dimension."""

DEFAULT_LIMIT = 1000
"""Combinations of values by default; see ``Meter.by_limit``."""

HIGHEST_LIMIT = 100_000
"""Combinations of values at most: each takes room in the journal and in the ledger, for each company."""

TOLD_BY_MODELS = ("kind", "model", "provider")
"""Dimensions that the responses of language models tell, in their order; see `meterkit.llm`."""

_TAKEN = ("name", "quantity", "meter", "company", "user", "window", "hour", "month", "at", "title")
"""Names of the other columns and arguments beside which a dimension stands."""


class Dimension(NamedTuple):
    """
    By what a meter's usage is told apart.

    Attributes:
        name: Name of the dimension, such as ``model``.
        source: Where its value comes from: a function of the exchange or the event, or what `response_json` returns; in
            meters of events, a path such as ``$.model``. None if what tells the quantity tells the value, too: the
            view, ``kit.record()``, or ``meterkit.llm``.
    """

    name: str
    source: Any = None


def dimensions_of(by: Any, meter: object) -> tuple[Dimension, ...]:
    """
    Return the dimensions that *by*, an argument of *meter*, declares.

    Raises:
        ConfigurationError: It declares none, or a name cannot be used.
    """
    if by is None or by == ():  # as a meter without dimensions has it, of which a copy is made
        return ()
    given: Iterable[Any]
    if isinstance(by, str):
        given = [by]
    elif isinstance(by, Mapping):
        given = [Dimension(name, source) for name, source in by.items()]
    elif isinstance(by, Iterable):
        given = by
    else:
        given = ()
    found = tuple(each if isinstance(each, Dimension) else Dimension(each) for each in given)
    if not found:
        raise ConfigurationError(
            f"{meter}: by= must name dimensions, such as by=('model', 'kind'), or map their names to functions, such "
            f"as by={{'model': lambda exchange: ...}}, not {by!r:.200}; without dimensions, leave by= out"
        )
    for each in found:
        _check_name(each.name, meter)
        if inspect.iscoroutinefunction(each.source):
            raise ConfigurationError(f"{meter}: by={{{each.name!r}: ...}} must be a plain function, not an async one")
    names = [each.name for each in found]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ConfigurationError(f"{meter}: by= names {twice[0]!r} twice")
    if len(found) > MOST_DIMENSIONS:
        raise ConfigurationError(
            f"{meter}: by= may name {MOST_DIMENSIONS} dimensions, not {len(found)}: each combination of values is "
            "counted by itself"
        )
    return found


def _check_name(name: Any, meter: object) -> None:
    if not isinstance(name, str) or not name.isascii() or not name.isidentifier() or len(name) > LONGEST_NAME:
        raise ConfigurationError(
            f"{meter}: the name of a dimension must be a Python name in ASCII of at most {LONGEST_NAME} characters, "
            f"such as 'model', because views pass it as an argument, not {name!r:.100}"
        )
    if keyword.iskeyword(name) or name in _TAKEN or name.startswith("_"):
        raise ConfigurationError(
            f"{meter}: a dimension cannot be called {name!r}, which means something else beside it; "
            f"call it, for example, {name.strip('_')}_name"
        )


def checked_limit(limit: Any, meter: object) -> None:
    """
    Check the argument ``by_limit=`` of *meter*.

    Raises:
        ConfigurationError: It is not a number of combinations from 1 to `HIGHEST_LIMIT`.
    """
    if type(limit) is not int or not 1 <= limit <= HIGHEST_LIMIT:
        raise ConfigurationError(
            f"{meter}: by_limit= must be a number of combinations of values from 1 to {HIGHEST_LIMIT:,}, not "
            f"{limit!r:.50}"
        )


def functions_of(dimensions: Iterable[Dimension]) -> list[Callable[..., Any]]:
    """Return the functions of the application that tell values."""
    return [each.source for each in dimensions if callable(each.source)]


class HasDimensions(Protocol):
    """The part of a meter that `dimensions_named` reads."""

    @property
    def dimensions(self) -> tuple[str, ...]:
        """Names of the dimensions."""


def dimensions_named(by: Any, meters: Iterable[HasDimensions]) -> tuple[str, ...]:
    """
    Return the names of dimensions in *by*, which somebody asks for.

    Raises:
        UsageError: *by* names none, or one that none of *meters* has.
    """
    names = (by,) if isinstance(by, str) else tuple(by)
    known = list(dict.fromkeys(name for meter in meters for name in meter.dimensions))
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        what = f"no meter has the dimension {unknown[0]!r:.100}" if unknown else "by= names no dimension"
        cure = f"choose from {', '.join(known)}" if known else "declare it with Meter(by=...)"
        raise UsageError(f"{what}; {cure}", reason="dimension_unknown")
    return tuple(dict.fromkeys(names))
