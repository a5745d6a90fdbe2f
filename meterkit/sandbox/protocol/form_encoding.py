"""The form encoding of v1: `items[0][price]=…` and `expand[]=…` as nested dictionaries and as plain values."""

from __future__ import annotations

from typing import Any, Union
from urllib.parse import parse_qsl

from meterkit.sandbox.protocol.errors import malformed

# A list is a dictionary with the keys "0", "1", …: only the endpoint's parameter table can tell a list from a
# dictionary whose keys look like numbers (metadata).
Node = Union[str, "dict[str, Node]"]


def decode(text: str) -> dict[str, Node]:
    """
    Return the parameters of a query string or a form body.

    Raises:
        ApiError: 400 if a name is used both for a value and for an object, or if brackets do not match.

    """
    tree: dict[str, Node] = {}
    for name, value in parse_qsl(text, keep_blank_values=True, encoding="utf-8"):
        _put(tree, _path(name), value, name)
    return tree


def plain(node: Node) -> Any:
    """Return the parameters with lists as lists, for the request log."""
    if isinstance(node, str):
        return node
    values = {key: plain(value) for key, value in node.items()}
    if values and list(values) == [str(index) for index in range(len(values))]:
        return list(values.values())
    return values


def _path(name: str) -> list[str]:
    head, bracket, rest = name.partition("[")
    if not bracket:
        return [name]
    if not head or not rest.endswith("]"):
        raise malformed(f"Invalid request: the parameter name '{name}' cannot be parsed.", param=name)
    return [head, *rest[:-1].split("][")]


def _put(tree: dict[str, Node], path: list[str], value: str, name: str) -> None:
    here = tree
    for index, segment in enumerate(path):
        following = path[index + 1] if index + 1 < len(path) else None
        key = segment if segment or index == 0 else _element(here, following)
        if following is None:
            here[key] = value
            return
        child = here.setdefault(key, {})
        if isinstance(child, str):
            raise malformed(f"Invalid object: '{name}' is both a value and an object.", param=name)
        here = child


def _element(items: dict[str, Node], following: str | None) -> str:
    """Return the key of the list element for `[]`: the last one if it lacks the next field, else a new one."""
    if items and following is not None:
        key = str(len(items) - 1)
        last = items.get(key)
        if isinstance(last, dict) and following not in last:
            return key
    return str(len(items))
