"""
httpx transport for stripe-python, with hard time limits.

stripe-python's own httpx client uses what httpx deprecates, so it fails on every call under ``-W error``; its other
clients have no separate connect and read time-outs. Only this module has to change when httpx gets a successor.
"""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import httpx
import stripe
from stripe import StripeClient

from meterkit.core.http_logging import Unlogged
from meterkit.errors import ConfigurationError

__all__ = ["HTTPXClient", "StripeClient", "connect", "may_have_arrived", "plain"]

TIMEOUT = httpx.Timeout(10.0, connect=3.0)
"""Seconds to connect, and between two parts of a response."""

LONGEST_SECONDS = 30.0
"""Seconds for a whole response, however slowly it arrives; `meterkit.ledger.lease` relies on this limit."""

PAGE_SIZE = 100
"""Objects per page of a list: the most that Stripe returns."""

LARGEST_BYTES = 10_000_000
"""Limit on the size of a response. Stripe's have some thousand bytes."""

STREAM = "/v2/billing/meter_event_stream"
"""Path of the endpoint that takes a session's token instead of the key."""

NOT_SENT = frozenset({"x-stripe-client-telemetry", "x-stripe-client-user-agent"})
"""stripe-python's telemetry headers: an id of the machine, its platform, durations. Stripe works without them."""


SHADOW = (
    "this kit is in shadow mode (shadow=), in which another program bills and nothing is written to Stripe: {request} "
    "was not sent. Do it from a kit without shadow=, such as a module of its own with another data_dir=; or leave "
    "shadow mode, see docs/shadow.md"
)
"""Why a request was not sent, and the cure."""


def connect(
    api_key: str,
    base: str | None,
    *,
    reads_only: Callable[[], bool],
    account: str | None = None,
    tls: ssl.SSLContext | None = None,
) -> tuple[StripeClient, HTTPXClient]:
    """
    Return a client for Stripe's API, and its HTTP client, which the caller must close.

    Args:
        api_key: Secret key of the Stripe account.
        base: Base URL of Stripe's API; None for the real one.
        reads_only: Function that returns whether everything but reading is refused now, with a `ConfigurationError`.
        account: Connected account in which the requests act, ``acct_...``; None for the key's own.
        tls: TLS context to share with other connections; None to create one.
    """
    http = HTTPXClient(tls, account=account, reads_only=reads_only)
    addresses: Any = {"api": base.rstrip("/"), "meter_events": base.rstrip("/")} if base else None
    # No retries by the SDK: it does not record which responses leave the outcome unknown.
    return StripeClient(api_key, http_client=http, max_network_retries=0, base_addresses=addresses), http


class _NoCookies(httpx.Cookies):
    """Stripe's API uses none, and looking for them took a tenth of the time of a call."""

    def extract_cookies(self, response: httpx.Response) -> None:
        """Do nothing."""


class _Client(httpx.Client):
    cookies: Any = _NoCookies()


_url = lru_cache(maxsize=256)(httpx.URL)


class HTTPXClient(stripe.HTTPClient):
    """An HTTP client to hand to ``stripe.StripeClient(http_client=...)``, for one call at a time."""

    name = "httpx"

    def __init__(
        self,
        tls: ssl.SSLContext | None = None,
        *,
        account: str | None = None,
        reads_only: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__()
        self._reads_only = reads_only
        self._account = account
        self._client = _Client(verify=True if tls is None else tls)
        self._socket: socket.socket | None = None
        self._started: float | None = None

    def request(
        self, method: str, url: str, headers: Mapping[str, str] | None, post_data: Any = None, **_: Any
    ) -> tuple[str, int, Mapping[str, str]]:
        """
        Send one request, once.

        Raises:
            stripe.APIConnectionError: There was no complete response; its ``__cause__`` is httpx's error.
            ConfigurationError: The request writes, and the kit is in shadow mode; it was not sent.
        """
        if method.upper() != "GET" and self._reads_only():
            raise ConfigurationError(SHADOW.format(request=f"{method.upper()} {urlsplit(url).path}"))
        sent = {name: value for name, value in (headers or {}).items() if name.lower() not in NOT_SENT}
        request = httpx.Request(  # not client.build_request, which merges settings that are not used here
            method,
            _url(url),
            headers={"Accept-Encoding": "gzip, deflate", **sent, **self._acting(url)},
            content=post_data or None,
            extensions={"timeout": TIMEOUT.as_dict(), "trace": self._trace},
        )
        self._started = monotonic()
        try:
            with Unlogged():
                response = self._client.send(request, stream=True)
            try:
                text = _read(response).decode("utf-8", "replace")
            finally:
                response.close()
        except httpx.HTTPError as error:
            raise _connection_error(error) from error
        finally:
            self._started = None
        # stripe-python turns this header into a warning; under -W error, that would fail an accepted call.
        response.headers.pop("Stripe-Notice", None)
        return text, response.status_code, response.headers

    def _acting(self, url: str) -> dict[str, str]:
        """Return the header that names the connected account; the stream has it in its token instead."""
        if self._account is None or STREAM in url:
            return {}
        return {"Stripe-Context" if "/v2/" in url else "Stripe-Account": self._account}

    def hang_up(self) -> None:
        """
        End a call that takes too long, from another thread; it then fails as if the server had disconnected.

        The socket is shut down, not closed: a closed descriptor could be reused while the call still reads it.
        """
        started, connection = self._started, self._socket
        if started is not None and connection is not None and monotonic() - started > LONGEST_SECONDS:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _trace(self, event: str, info: Mapping[str, Any]) -> None:
        if event in {"connection.connect_tcp.complete", "connection.start_tls.complete"}:
            self._socket = info["return_value"].get_extra_info("socket")


def plain(found: stripe.StripeObject) -> dict[str, Any]:
    """
    Return a Stripe object as JSON, with exact decimals as text.

    Every version of stripe-python prints objects as JSON; their ways to convert them to dicts differ.
    """
    known: dict[str, Any] = json.loads(str(found))
    return known


def _read(response: httpx.Response) -> bytes:
    deadline = monotonic() + LONGEST_SECONDS
    body = bytearray()
    for part in response.iter_bytes():
        body += part
        if monotonic() > deadline or len(body) > LARGEST_BYTES:
            raise httpx.ReadError("the response is too slow or too large", request=response.request)
    return bytes(body)


def _connection_error(error: httpx.HTTPError) -> stripe.APIConnectionError:
    return stripe.APIConnectionError(f"{type(error).__name__}: {error}")  # type: ignore[no-untyped-call]


def may_have_arrived(error: stripe.APIConnectionError) -> bool:
    """Return whether Stripe may have received the request, although there was no response."""
    return not isinstance(error.__cause__, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
