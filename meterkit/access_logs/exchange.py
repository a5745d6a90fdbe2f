"""An exchange that a gateway has logged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from meterkit.access_logs.formats.line import Line
from meterkit.errors import UsageError
from meterkit.metering.exchange import Exchange, ExchangeOwner

T = TypeVar("T", int, float)


class LogExchange(Exchange):
    """
    One HTTP request and its response, as a gateway has logged them.

    Attributes:
        query: Query string as the client sent it, without the question mark; empty if there is none.
        fields: All that was logged, by the log's own names; ``native`` is the same.
    """

    query: str
    fields: Mapping[str, Any]

    def __init__(self, line: Line, owner: ExchangeOwner) -> None:
        self.verb = line.method
        self.path = self.target = line.path
        self.query = line.query
        self.native = self.fields = line.fields
        self.headers = line.headers
        self.owner = owner
        self.status = line.status
        self.begun = self.closed = True
        self.touched = False
        self.identified = None
        self.outer = None
        self._route = None
        self._response_headers = line.response_headers
        self._line = line

    @property
    def response_headers(self) -> Mapping[str, str]:
        """Response headers that were logged."""
        headers: Mapping[str, str] = self._response_headers
        return headers

    @property
    def response_bytes(self) -> int:
        """
        Bytes sent to the client.

        Raises:
            UsageError: The log does not say.
        """
        return _logged(self._line.response_bytes, "bytes of the response", "$body_bytes_sent")

    @response_bytes.setter
    def response_bytes(self, _bytes: int) -> None:
        raise AttributeError("response_bytes is what was logged")

    @property
    def request_bytes(self) -> int:
        """
        Bytes received from the client.

        Raises:
            UsageError: The log does not say.
        """
        return _logged(self._line.request_bytes, "bytes of the request", "$request_length")

    @property
    def duration(self) -> float:
        """
        Seconds that the request took.

        Raises:
            UsageError: The log does not say.
        """
        return _logged(self._line.duration, "duration", "$request_time")


def _logged(value: T | None, what: str, variable: str) -> T:
    if value is None:
        raise UsageError(
            f"the access log does not have the {what}: log {variable}, or what the gateway calls it",
            reason="log_lacks_value",
        )
    return value
