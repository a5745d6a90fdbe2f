"""User-supplied message templates with named fields."""

from __future__ import annotations

import string
from collections.abc import Callable, Collection, Mapping

from meterkit.errors import ConfigurationError


def is_text(value: object) -> bool:
    """Return whether *value* is a str, or a lazy one, such as ``gettext_lazy()`` of Django: translated when used."""
    return isinstance(value, str) or hasattr(value, "format_map")


def checked_template(text: str, *, what: str, fields: Collection[str]) -> str:
    """
    Return *text* if all of its fields are known; those of a lazy text, which cannot be read yet, are not checked.

    Args:
        text: Template as for ``str.format``, with plain field names only: no attributes, no formats.
        what: Name of the template in error messages.
        fields: Names of the fields that the template may use.

    Raises:
        ConfigurationError: *text* uses an unknown field, or is not a valid template.
    """
    if not isinstance(text, str):
        return text
    available = f"available: {', '.join('{' + field + '}' for field in sorted(fields))}; write {{{{ for a brace"
    try:
        parts = list(string.Formatter().parse(text))
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"{what} is not a valid template: {error}; {available}") from None
    for _, field, spec, conversion in parts:
        if field is not None and (field not in fields or spec or conversion):
            raise ConfigurationError(f"{what} has an unknown field {{{field}}}; {available}")
    return text


def fill(text: str, values: Mapping[str, object], *, escape: Callable[[str], str] = str) -> str:
    """
    Return a checked template with its fields filled in; a value that is missing or None becomes empty.

    Raises:
        ValueError: A lazy *text* is not a valid template.
    """
    filled = []
    for literal, field, _, _ in string.Formatter().parse(str(text)):
        filled.append(literal)
        value = None if field is None else values.get(field)
        if value is not None:
            filled.append(escape(str(value)))
    return "".join(filled)
