"""Read JSON whose meaning is certain: no duplicate keys, no NaN, no endless nesting, UTF-8 only."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any


class NotJsonError(Exception):
    """The text is not JSON, or ambiguous; the message says where."""


def parsed(text: bytes) -> Any:
    """
    Return the value of the JSON *text*.

    Raises:
        NotJsonError: It is not JSON in UTF-8, has a key twice in one object, or nests too deeply.
    """
    try:
        return _DECODER.decode(text.decode())
    except UnicodeDecodeError as error:
        raise NotJsonError(f"it is not UTF-8: byte {error.start:,} cannot be decoded") from None
    except RecursionError:
        raise NotJsonError("it nests too deeply") from None
    except json.JSONDecodeError as error:
        raise NotJsonError(f"{error.msg}, in line {error.lineno}, column {error.colno}") from None
    except ValueError as error:  # of the hooks below, or a number of thousands of digits
        raise NotJsonError(str(error).partition(";")[0]) from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        [(twice, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"an object has the key {twice!r:.100} twice")
    return found


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)
