"""`JetStream`: where hosts publish what they have counted."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from meterkit.errors import ConfigurationError

if TYPE_CHECKING:
    import ssl

SCHEMES = ("nats", "tls", "ws", "wss")


@dataclass(frozen=True)
class JetStream:
    """
    The NATS JetStream that takes usage to the collectors.

    Attributes:
        servers: URL of a NATS server, such as ``nats://nats-1:4222``, or several of one cluster, in a list or separated
            by commas. User and password, or a token, may be in it, as in ``nats://user:password@nats-1:4222``.
        stream: Name of the stream, which belongs to one ledger alone.
        subject: Subject that hosts publish to.
        replicas: Copies of each message, 1 to 5. Usage leaves a host once a majority of them has it. A single server
            has one.
        credentials: Path of a credentials file, ``.creds``, or None.
        tls: Context for TLS, with a client certificate for example; by default, that of Python where the URL asks for
            TLS.

    Raises:
        ConfigurationError: An argument is wrong; the message says how to correct it.
    """

    servers: str | Iterable[str] = field(repr=False)  # may hold a password
    _: KW_ONLY
    stream: str = "METERKIT"
    subject: str = "meterkit.generations"
    replicas: int = 3
    credentials: str | os.PathLike[str] | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "servers", _checked_servers(self.servers))
        if not isinstance(self.stream, str) or not re.fullmatch(r"[\w-]{1,100}", self.stream, re.ASCII):
            raise ConfigurationError(
                f"JetStream(stream=...) must be a name of letters, digits, _ and -, not {self.stream!r:.200}"
            )
        if not isinstance(self.subject, str) or not re.fullmatch(r"[\w-]+(\.[\w-]+)*", self.subject, re.ASCII):
            raise ConfigurationError(
                "JetStream(subject=...) must be one subject such as 'meterkit.generations', without wildcards, not "
                f"{self.subject!r:.200}"
            )
        if type(self.replicas) is not int or not 1 <= self.replicas <= 5:
            raise ConfigurationError(f"JetStream(replicas=...) must be 1 to 5, not {self.replicas!r:.100}")
        if self.credentials is not None:
            try:
                path = Path(self.credentials).absolute()
            except TypeError:
                raise ConfigurationError("JetStream(credentials=...) must be the path of a .creds file") from None
            object.__setattr__(self, "credentials", str(path))
        if self.tls is not None:
            import ssl

            if not isinstance(self.tls, ssl.SSLContext):
                raise ConfigurationError(f"JetStream(tls=...) must be an ssl.SSLContext, not {type(self.tls).__name__}")

    def __str__(self) -> str:
        return f"JetStream at {self.address}"

    @property
    def urls(self) -> tuple[str, ...]:
        """URLs of the servers, with their passwords."""
        assert isinstance(self.servers, tuple)
        return self.servers

    @property
    def address(self) -> str:
        """URLs of the servers, without user, password and token."""
        return ",".join(_without_secrets(url) for url in self.urls)

    @property
    def consumer(self) -> str:
        """Name of the consumer that all collectors share."""
        return "meterkit-collect"

    @property
    def refused_stream(self) -> str:
        """Name of the stream that keeps what no collector could fold."""
        return f"{self.stream}_REFUSED"

    @property
    def refused_subject(self) -> str:
        """Subject of `refused_stream`."""
        return f"{self.subject}.refused"


def checked_jetstream(jetstream: Any) -> JetStream | None:
    """
    Return *jetstream*, a `JetStream` or None.

    Raises:
        ConfigurationError: It is something else, or nats-py is not installed.
    """
    if jetstream is None:
        return None
    if not isinstance(jetstream, JetStream):
        raise ConfigurationError(
            f"jetstream= must be a JetStream, such as JetStream('nats://127.0.0.1:4222'), not "
            f"{type(jetstream).__name__}"
        )
    import importlib.util

    if importlib.util.find_spec("nats") is None:
        raise ConfigurationError("jetstream= needs nats-py: pip install 'meterkit[jetstream]'")
    return jetstream


def _checked_servers(servers: Any) -> tuple[str, ...]:
    given = servers.split(",") if isinstance(servers, str) else servers
    if not isinstance(given, Iterable):
        raise ConfigurationError("JetStream(servers) must be a URL such as 'nats://127.0.0.1:4222', or a list of them")
    urls = tuple(each.strip() if isinstance(each, str) else each for each in given)
    for url in urls:
        # Nothing of it is shown: where it cannot be parsed, the password may be anywhere.
        try:
            parts = urlsplit(url)
            is_url = isinstance(url, str) and parts.scheme in SCHEMES and bool(parts.hostname) and (parts.port or 1) > 0
        except (ValueError, AttributeError, TypeError):
            is_url = False
        if not is_url:
            raise ConfigurationError(
                "JetStream(servers) must be a URL that begins with nats://, tls://, ws:// or wss://, such as "
                "'nats://127.0.0.1:4222'; write characters such as / and @ in a password as %2F and %40"
            )
    if not urls:
        raise ConfigurationError("JetStream(servers) is empty; name at least one, such as 'nats://127.0.0.1:4222'")
    if len({urlsplit(url).scheme in ("ws", "wss") for url in urls}) > 1:
        raise ConfigurationError("JetStream(servers) must be either all WebSockets or none")
    return urls


def _without_secrets(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
