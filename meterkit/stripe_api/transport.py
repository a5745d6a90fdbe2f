"""
httpx transport for stripe-python, with hard time limits.

stripe-python's own httpx client sends what httpx deprecates, and under ``-W error`` fails on every call; its others
take no separate connect and read time-outs. Here is the one line to change when httpx gets its successor.
"""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from time import monotonic
from typing import Any

import httpx
import stripe
from stripe import StripeClient

__all__ = ["HTTPXClient", "StripeClient", "connect", "may_have_arrived", "plain"]

TIMEOUT = httpx.Timeout(10.0, connect=3.0)
"""Seconds to connect, and between two parts of an answer."""

LONGEST_SECONDS = 30.0
"""For a whole answer, however it trickles in; `meterkit.ledger.lease` relies on an end."""

PAGE_SIZE = 100
"""Objects per page of a list; the most that Stripe returns."""

LARGEST_BYTES = 10_000_000
"""Of an answer. Stripe's have some thousand."""

NOT_SENT = frozenset({"x-stripe-client-telemetry", "x-stripe-client-user-agent"})
"""stripe-python's telemetry: an id of the machine, its platform, the time that calls took. Stripe works without it."""


def connect(api_key: str, base: str | None, *, tls: ssl.SSLContext | None = None) -> tuple[StripeClient, HTTPXClient]:
    """
    A client for Stripe's API, and the connection under it, which is the caller's to close.

    Args:
        api_key: Stripe's secret key.
        base: Stripe's base address; None for the real one.
        tls: To share with other connections; None for one of its own.
    """
    http = HTTPXClient(tls)
    addresses: Any = {"api": base.rstrip("/"), "meter_events": base.rstrip("/")} if base else None
    # Not the SDK's own retries: it does not know which answers leave the outcome open.
    return StripeClient(api_key, http_client=http, max_network_retries=0, base_addresses=addresses), http


class _NoCookies(httpx.Cookies):
    """Stripe's API needs none, and to look for them took a tenth of the time of a call."""

    def extract_cookies(self, response: httpx.Response) -> None:
        """There are none that matter."""


class _Client(httpx.Client):
    cookies: Any = _NoCookies()


_url = lru_cache(maxsize=256)(httpx.URL)


class HTTPXClient(stripe.HTTPClient):
    """An HTTP client to hand to ``stripe.StripeClient(http_client=...)``, for one call at a time."""

    name = "httpx"

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__()
        self._client = _Client(verify=True if tls is None else tls)
        self._socket: socket.socket | None = None
        self._since: float | None = None

    def request(
        self, method: str, url: str, headers: Mapping[str, str] | None, post_data: Any = None, **_: Any
    ) -> tuple[str, int, Mapping[str, str]]:
        """
        Send one request, once.

        Raises:
            stripe.APIConnectionError: There is no answer; its ``__cause__`` is httpx's error.
        """
        sent = {name: value for name, value in (headers or {}).items() if name.lower() not in NOT_SENT}
        request = httpx.Request(  # not the client's, which merges it with settings that it does not have
            method,
            _url(url),
            headers={"Accept-Encoding": "gzip, deflate", **sent},
            content=post_data or None,
            extensions={"timeout": TIMEOUT.as_dict(), "trace": self._trace},
        )
        self._since = monotonic()
        try:
            response = self._client.send(request, stream=True)
            try:
                text = _read(response).decode("utf-8", "replace")
            finally:
                response.close()
        except httpx.HTTPError as error:
            raise _no_answer(error) from error
        finally:
            self._since = None
        # stripe-python turns this header into a warning, which under -W error fails a call that Stripe has accepted.
        response.headers.pop("Stripe-Notice", None)
        return text, response.status_code, response.headers

    def hang_up(self) -> None:
        """
        End a call that takes too long, from another thread; it fails then as if the other side had hung up.

        Not by closing the socket: its number could be another's by the time that the calling thread looks.
        """
        since, line = self._since, self._socket
        if since is not None and line is not None and monotonic() - since > LONGEST_SECONDS:
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _trace(self, event: str, about: Mapping[str, Any]) -> None:
        if event in {"connection.connect_tcp.complete", "connection.start_tls.complete"}:
            self._socket = about["return_value"].get_extra_info("socket")


def plain(found: stripe.StripeObject) -> dict[str, Any]:
    """
    An object of Stripe's as JSON has it, with exact decimals as text.

    By its text: every version of stripe-python shows objects as JSON, and most have another way to make dicts of them.
    """
    known: dict[str, Any] = json.loads(str(found))
    return known


def _read(response: httpx.Response) -> bytes:
    deadline = monotonic() + LONGEST_SECONDS
    body = bytearray()
    for part in response.iter_bytes():
        body += part
        if monotonic() > deadline or len(body) > LARGEST_BYTES:
            raise httpx.ReadError("the answer does not end", request=response.request)
    return bytes(body)


def _no_answer(error: httpx.HTTPError) -> stripe.APIConnectionError:
    return stripe.APIConnectionError(f"{type(error).__name__}: {error}")  # type: ignore[no-untyped-call]


def may_have_arrived(error: stripe.APIConnectionError) -> bool:
    """Stripe may have got the request, although no answer came back."""
    return not isinstance(error.__cause__, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
