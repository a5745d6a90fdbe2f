"""One request to the service, as handlers get it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import parse_qs

from meterkit.adapters.asgi_headers import RawHeaders, raw_headers
from meterkit.core.validation import content_length
from meterkit.service.keys import Source
from meterkit.service.problems import RequestError

if TYPE_CHECKING:
    from meterkit.kit import MeterKit

Receive: TypeAlias = "Callable[[], Awaitable[MutableMapping[str, Any]]]"

MOST_PARAMETERS = 100
"""Parameters of a query that are read."""


class ClientLeftError(Exception):
    """The client has disconnected before it had sent the body, so nobody waits for a response."""


class Call:
    """
    A request to the service.

    Args:
        kit: Kit that is served.
        scope: ASGI scope.
        receive: ASGI ``receive``.
        source: Who has sent the request; None for routes that need no key.
        path: Path below the one at which the service is mounted.
        most: Most bytes that `body` reads.

    Attributes:
        kit: Kit that is served.
        scope: ASGI scope.
        source: Who has sent the request; None for routes that need no key.
        path: Path below the one at which the service is mounted, percent-decoded.
        most_bytes: Most bytes that the body may have.
    """

    def __init__(
        self,
        kit: MeterKit,
        *,
        scope: Mapping[str, Any],
        receive: Receive,
        source: Source | None,
        path: str,
        most: int,
    ) -> None:
        self.kit = kit
        self.scope = scope
        self._receive = receive
        self.source = source
        self.path = path
        self.most_bytes = most

    @property
    def method(self) -> str:
        """HTTP method in upper case."""
        return str(self.scope["method"]).upper()

    @cached_property
    def headers(self) -> RawHeaders:
        """Request headers: read-only, case-insensitive names."""
        return raw_headers(self.scope["headers"])

    @cached_property
    def query(self) -> dict[str, list[str]]:
        """
        Parameters of the query string, each with its values.

        Raises:
            RequestError: There are too many (status 400).
        """
        try:
            query = self.scope.get("query_string", b"").decode("latin-1")
            return parse_qs(query, keep_blank_values=True, max_num_fields=MOST_PARAMETERS)
        except ValueError:
            raise RequestError(
                400, f"The query has more than {MOST_PARAMETERS} parameters.", type="query_wrong"
            ) from None

    async def body(self) -> bytes:
        """
        Return the request body.

        Raises:
            RequestError: It has more than `most_bytes` (status 413).
            ClientLeftError: The client left before the end.
        """
        declared = content_length(self.headers.get("content-length", ""))
        found = bytearray()
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientLeftError
            more = message.get("more_body", False)
            # What is too large is read and dropped, up to a limit: most clients read only after they have sent all.
            if len(found) <= self.most_bytes:
                found += message.get("body", b"")
            elif (declared or 0) > DRAINED * self.most_bytes or not more:
                break
        if len(found) > self.most_bytes:
            raise RequestError(
                413, f"The body has more than {self.most_bytes:,} bytes; send it in parts.", type="too_large"
            )
        return bytes(found)


DRAINED = 10
"""How many times the largest body is read and dropped."""
