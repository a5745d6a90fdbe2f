"""Routes: which endpoint handles a request."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from meterkit.sandbox.protocol.errors import unrecognized_url
from meterkit.sandbox.protocol.frame import is_v2
from meterkit.sandbox.protocol.params import EXPAND, Object, Rule

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from meterkit.sandbox.state.account import Account, Record


@dataclass(frozen=True)
class Call:
    """
    One request, parsed for an endpoint.

    Attributes:
        path: Path of the request, for the `url` of lists.
        id: Id in the path; "" if there is none.
        params: Parsed parameters that were sent.

    """

    path: str
    id: str
    params: dict[str, Any]


@dataclass(frozen=True)
class Route:
    """
    One endpoint.

    Attributes:
        method: HTTP method: GET, POST or DELETE.
        path: Path, with `{id}` in the place of the id.
        run: Function that carries out the request, under the account's lock.
        fields: Parameters by name; in v1, `expand` is added.

    """

    method: str
    path: str
    run: Callable[[Account, Call], Record]
    fields: Mapping[str, Rule] = field(default_factory=dict)

    def match(self, method: str, path: str) -> str | None:
        """Return the id in the path, or "" if it has none; None if the request does not match."""
        if method != self.method:
            return None
        pattern, parts = self.path.split("/"), path.split("/")
        if len(pattern) != len(parts):
            return None
        identity = ""
        for expected, given in zip(pattern, parts, strict=True):
            if expected == "{id}" and given:
                identity = given
            elif expected != given:
                return None
        return identity

    def read(self, sent: Mapping[str, Any]) -> dict[str, Any]:
        """
        Return the parsed parameters.

        Raises:
            ApiError: 400 for parameters that this endpoint does not accept.

        """
        fields = self.fields if is_v2(self.path) else {**self.fields, "expand": EXPAND}
        parsed: dict[str, Any] = Object(fields).parse(dict(sent), "")
        return parsed


def locate(routes: Sequence[Route], method: str, path: str) -> tuple[Route, str]:
    """
    Return the endpoint of a request, and the id in its path.

    Raises:
        ApiError: 404 if there is no such endpoint; success is never faked.

    """
    # A fixed path wins over one with an id: /v1/invoices/create_preview is not an invoice.
    for route in sorted(routes, key=lambda route: "{id}" in route.path):
        identity = route.match(method, path)
        if identity is not None:
            return route, identity
    raise unrecognized_url(method, path)
