"""
Whether a path may lead to a route, before the app has run.

Flask and Starlette match a request to its route inside the app, so its template is compared with the path here.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_PARAMETER = re.compile(
    r"\{(?P<starlette>[^{}:]*)(?::(?P<starlette_type>[^{}]*))?\}"
    r"|<(?:(?P<flask_type>[^<>:()]*)(?P<arguments>\([^<>]*\))?:)?(?P<flask>[^<>:]*)>"
)

_CONVERTERS = {
    "str": "[^/]+",
    "string": "[^/]+",
    "int": r"-?\d+",
    "float": r"-?[\d.]+",
    "uuid": "[0-9A-Fa-f-]+",
}
"""What the converters of Flask and Starlette match at most. Any other may match slashes, as ``path`` does."""


def may_lead_to(route: str) -> Callable[[str], bool]:
    """
    Return a function of a path, without the prefix of mounts: whether a request for it may be for *route*.

    It is exact, except that a slash at the end makes no difference, because routers may be told to ignore it, and that
    an app may have a more specific route for the same path. A regular expression, which only Django has as a route,
    leads to no path: Django resolves the URL before it is asked.
    """
    pattern, at = "", 0
    for parameter in _PARAMETER.finditer(route):
        kind = parameter["starlette_type"] if parameter["flask"] is None else parameter["flask_type"]
        pattern += re.escape(route[at : parameter.start()]) + _CONVERTERS.get(kind or "str", ".*")
        at = parameter.end()
    pattern += re.escape(route[at:].rstrip("/")) if at < len(route) else ""
    matches = re.compile(pattern + "/?", re.DOTALL).fullmatch
    return lambda path: len(path) > MAX_PATH_LENGTH or matches(path) is not None


MAX_PATH_LENGTH = 2048
"""Characters of a path that is compared: clients choose paths, and several ``path`` parameters make it slow."""
