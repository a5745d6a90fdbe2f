"""
The forms of a path that frameworks route alike: a client must not choose by a slash, or a prefix, whether it pays.

Frameworks route a cleaned path: Werkzeug drops leading slashes and adds a missing one, Litestar drops all repeated
ones, Starlette's patterns match before a last line break, and Bottle ignores bytes that are not UTF-8.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

Target: TypeAlias = "str | tuple[str, str]"
"""
Path of a request; where the app is mounted under a prefix, that prefix and the rest, which is what the app routes.

A client may be able to choose the prefix: gunicorn takes it from a ``SCRIPT_NAME`` header line.
"""

DEEPEST = 8
"""Most segments of a prefix that are told apart. Clients may choose prefixes, so there must be a limit."""

_SLASHES = re.compile("/{2,}")
_CONTROL = "".join(map(chr, (*range(32), 127)))
_UNDECODABLE = "\N{REPLACEMENT CHARACTER}"
_UNUSUAL = re.compile(rf"//|\.\.|[\x00-\x1f\x7f{_UNDECODABLE}]")


def forms(target: Target) -> tuple[str, ...]:
    """
    Return the paths with which a filter must be compared: with the prefix, with its last segments only, and without it.

    Each as it came and in its canonical form, without duplicates.
    """
    if isinstance(target, str):
        found = [target]
    else:
        prefix, rest = target
        if rest and not rest.startswith("/"):
            rest = "/" + rest
        segments = prefix.strip("/").split("/")[-DEEPEST:]
        # What a client invents comes first, and the mounts of the application last.
        found = [prefix + rest, *(f"/{'/'.join(segments[start:])}{rest}" for start in range(len(segments))), rest]
    return tuple(dict.fromkeys([*map(canonical, found), *found]))


def canonical(path: str) -> str:
    """
    Return *path* as frameworks may route it.

    It begins with a slash, and has no repeated ones, no undecodable bytes, and no control characters at its end.
    """
    return _SLASHES.sub("/", "/" + path.replace(_UNDECODABLE, "").rstrip(_CONTROL))


def routed(target: Target) -> str:
    """Return the path that the app routes: without the prefix."""
    return target if isinstance(target, str) else target[1]


def is_unusual(path: str) -> bool:
    """Return whether frameworks may route *path* as another: ``//``, ``..``, control characters, undecodable bytes."""
    return _UNUSUAL.search(path) is not None


def path_filter(pattern: str) -> Callable[[str], bool]:
    """Return a function of a canonical path: whether it matches *pattern*, with or without a slash at its end."""
    matches = glob(_SLASHES.sub("/", pattern))

    def either(path: str) -> bool:
        return matches(path) or matches(path[:-1] if path.endswith("/") else path + "/")

    return either


def glob(pattern: str) -> Callable[[str], bool]:
    """
    Return a function of a path: whether it matches *pattern*, in which ``*`` matches any characters.

    Not a regular expression: clients choose paths, and one that makes ``.*`` backtrack would block the app for seconds.
    """
    if "*" not in pattern:
        return pattern.__eq__
    first, *middle, last = pattern.split("*")

    def matches(path: str) -> bool:
        at, end = len(first), len(path) - len(last)
        if at > end or not path.startswith(first) or not path.endswith(last):
            return False
        for part in middle:
            found = path.find(part, at, end)
            if found < 0:
                return False
            at = found + len(part)
        return True

    return matches
