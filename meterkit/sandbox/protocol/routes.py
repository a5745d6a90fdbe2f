"""The endpoints: what a route is, and the table of all of them."""

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
    One request as an endpoint sees it.

    Attributes:
        path: The path, for the `url` of lists.
        id: The id in the path; "" where it has none.
        params: The parsed parameters that were sent.

    """

    path: str
    id: str
    params: dict[str, Any]


@dataclass(frozen=True)
class Route:
    """
    One endpoint.

    Attributes:
        method: GET, POST or DELETE.
        path: With `{id}` where the id stands.
        run: Does the work, under the account's lock.
        fields: What it takes; in v1, beside `expand`.

    """

    method: str
    path: str
    run: Callable[[Account, Call], Record]
    fields: Mapping[str, Rule] = field(default_factory=dict)

    def match(self, method: str, path: str) -> str | None:
        """The id in the path, "" where there is none; None if this is another endpoint's request."""
        if method != self.method:
            return None
        ours, theirs = self.path.split("/"), path.split("/")
        if len(ours) != len(theirs):
            return None
        identity = ""
        for expected, given in zip(ours, theirs, strict=True):
            if expected == "{id}" and given:
                identity = given
            elif expected != given:
                return None
        return identity

    def read(self, sent: Mapping[str, Any]) -> dict[str, Any]:
        """
        The parameters.

        Raises:
            ApiError: 400 for what this endpoint does not take.

        """
        fields = self.fields if is_v2(self.path) else {**self.fields, "expand": EXPAND}
        parsed: dict[str, Any] = Object(fields).parse(dict(sent), "")
        return parsed


def locate(routes: Sequence[Route], method: str, path: str) -> tuple[Route, str]:
    """
    The endpoint of a request and the id in its path.

    Raises:
        ApiError: 404, never a made-up success.

    """
    # A fixed path wins over one with an id: /v1/invoices/create_preview is no invoice.
    for route in sorted(routes, key=lambda route: "{id}" in route.path):
        identity = route.match(method, path)
        if identity is not None:
            return route, identity
    raise unrecognized_url(method, path)
