"""User-supplied message templates with named fields."""

from __future__ import annotations

import string
from collections.abc import Callable, Collection, Mapping

from meterkit.errors import ConfigurationError


def checked_template(text: str, *, what: str, fields: Collection[str]) -> str:
    """
    A text whose fields are all known.

    Args:
        text: As ``str.format`` reads it, but names alone: neither attributes nor formats.
        what: Names it in the error.
        fields: The names that it may use.

    Raises:
        ConfigurationError: It uses another field, or cannot be read.
    """
    known = f"it may use {', '.join('{' + field + '}' for field in sorted(fields))}, and {{{{ for a brace"
    try:
        parts = list(string.Formatter().parse(text))
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"{what} cannot be read as a text with fields: {error}; {known}") from None
    for _, field, spec, conversion in parts:
        if field is not None and (field not in fields or spec or conversion):
            raise ConfigurationError(f"{what} has the field {{{field}}}, which there is not; {known}")
    return text


def fill(text: str, values: Mapping[str, object], *, escape: Callable[[str], str] = str) -> str:
    """A text that was checked, with its fields filled in; what is not known, or None, is empty."""
    filled = []
    for literal, field, _, _ in string.Formatter().parse(text):
        filled.append(literal)
        value = None if field is None else values.get(field)
        if value is not None:
            filled.append(escape(str(value)))
    return "".join(filled)
