"""Where the app is, and the connections to it."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from dataclasses import dataclass
from urllib.parse import urlsplit

from meterkit.errors import ConfigurationError
from meterkit.proxy.connection import Connection
from meterkit.proxy.failures import Failure, busy, timed_out, unreachable

DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Address:
    """
    Where the app is.

    Attributes:
        text: As it was given.
        host: Host name or IP address; "localhost" for a Unix socket.
        port: TCP port; 0 for a Unix socket.
        is_tls: Whether the connection is encrypted, and the certificate verified.
        socket: Path of a Unix socket; None for TCP.
    """

    text: str
    host: str
    port: int
    is_tls: bool = False
    socket: str | None = None

    @property
    def authority(self) -> bytes:
        """The Host header that names the app."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        is_default = self.socket is not None or self.port == DEFAULT_PORTS["https" if self.is_tls else "http"]
        return (host if is_default else f"{host}:{self.port}").encode("ascii")


def address_of(upstream: str) -> Address:
    """
    Return the address that *upstream* names: ``http://host:port``, ``https://host`` or ``unix:/run/app.sock``.

    Raises:
        ConfigurationError: It names none.
    """
    cure = "write http://127.0.0.1:3000, https://app.example or unix:/run/app.sock"
    if not isinstance(upstream, str):
        raise ConfigurationError(f"the upstream is not a str but {upstream!r:.100}; {cure}")
    if upstream.startswith("unix:"):
        path = upstream.removeprefix("unix:").removeprefix("//")
        if not path.startswith("/"):
            raise ConfigurationError(f"the upstream {upstream!r:.200} names no absolute path of a socket; {cure}")
        return Address(upstream, "localhost", 0, socket=path)
    try:
        parts = urlsplit(upstream)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ConfigurationError(f"the upstream {upstream!r:.200} is not a URL; {cure}") from None
    if parts.scheme not in DEFAULT_PORTS or not host or not host.isascii():
        raise ConfigurationError(f"the upstream {upstream!r:.200} is not a URL with http or https and a host; {cure}")
    if parts.username is not None or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ConfigurationError(
            f"the upstream {upstream!r:.200} has more than a scheme, a host and a port: the path and the query are "
            "passed on as the client sends them, so leave them out"
        )
    port = DEFAULT_PORTS[parts.scheme] if port is None else port
    return Address(upstream, host, port, is_tls=parts.scheme == "https")


class Pool:
    """
    The connections of one process to the app.

    Args:
        address: Where the app is.
        most: Connections at a time; a request for which there is none gets a 503 at once.
        connect_timeout: Seconds until a connection is made, encryption included.
        keep_alive: Seconds for which an idle connection is kept; less than the app keeps it.
        context: What certificates are trusted; the system's by default.
    """

    def __init__(
        self,
        address: Address,
        *,
        most: int,
        connect_timeout: float,
        keep_alive: float,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.address = address
        self.context = (context or ssl.create_default_context()) if address.is_tls else None
        self._most = most
        self.connect_timeout = connect_timeout
        self._keep_alive = keep_alive
        self._idle: deque[Connection] = deque()
        self._in_use = 0

    async def acquire(self, *, fresh: bool = False) -> Connection:
        """
        Return a connection, which the caller has to give back with `release` or `discard`.

        Args:
            fresh: Whether it must not have been used before.

        Raises:
            Failure: There is none, and none can be made.
        """
        while self._idle and not fresh:
            connection = self._idle.pop()
            loop = asyncio.get_running_loop()
            if connection.loop is not loop:  # of a server that has stopped, in tests
                continue
            if connection.is_open and loop.time() - connection.released_at < self._keep_alive:
                connection.is_idle = False
                self._in_use += 1
                return connection
            connection.abort()
        if self._in_use >= self._most:
            raise busy(self._most)
        self._in_use += 1
        try:
            return await self.connect()
        except BaseException:
            self._in_use -= 1
            raise

    async def connect(self) -> Connection:
        """
        Make a connection that the pool does not know.

        Raises:
            Failure: None can be made.
        """
        try:
            return await asyncio.wait_for(self._connect(), self.connect_timeout)
        except (TimeoutError, asyncio.TimeoutError) as error:
            raise _not_connected(self.address, error) from None
        except (OSError, ssl.SSLError, UnicodeError) as error:
            raise _not_connected(self.address, error) from error

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        if self.address.socket is not None:
            _, connection = await loop.create_unix_connection(Connection, self.address.socket)
        else:
            _, connection = await loop.create_connection(
                Connection,
                self.address.host,
                self.address.port,
                ssl=self.context,
                server_hostname=self.address.host if self.context is not None else None,
            )
        return connection

    def release(self, connection: Connection) -> None:
        """Take back *connection*, whose response is complete; it is kept if it can serve another request."""
        self._in_use -= 1
        if not connection.end_of_cycle():
            connection.abort()
            return
        connection.is_idle = True
        connection.released_at = now = connection.loop.time()
        self._idle.append(connection)
        while self._idle and (now - self._idle[0].released_at >= self._keep_alive or not self._idle[0].is_open):
            self._idle.popleft().abort()

    def discard(self, connection: Connection) -> None:
        """Take back *connection*, and close it at once."""
        self._in_use -= 1
        connection.abort()

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().abort()


def _not_connected(address: Address, error: BaseException) -> Failure:
    """Return the failure for *error*, by which a connection to *address* could not be made."""
    if isinstance(error, TimeoutError | asyncio.TimeoutError) and not isinstance(error, ssl.SSLError):
        return timed_out(f"no connection to {address.text} within connect_timeout=", error="connection_timeout")
    if isinstance(error, ssl.SSLCertVerificationError):
        return unreachable(
            f"the certificate of {address.text} is not valid: {error.verify_message}", error="tls_certificate_error"
        )
    kind = "tls_protocol_error" if isinstance(error, ssl.SSLError) else "connection_refused"
    if type(error).__name__ == "gaierror" or isinstance(error, UnicodeError):
        kind = "dns_error"
    return unreachable(f"no connection to {address.text}: {str(error) or type(error).__name__}", error=kind)
