"""The options of ``meterkit proxy``, as the command line and its workers have them."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

VARIABLE = "METERKIT_PROXY"
"""Environment variable in which the command hands its options to the workers that it starts."""

PASSED_ON = (
    *("rewrite_host", "trust_forwarded", "pass_underscores", "usage_headers", "company_header", "uncompressed"),
    *("connect_timeout", "first_byte_timeout", "idle_timeout", "max_connections"),
)
"""Options that are arguments of `Proxy`."""


@dataclass(frozen=True)
class Options:
    """
    What the command was given.

    Attributes:
        kit: Import path of the kit.
        upstream: Where the app is.
        arguments: Arguments of `Proxy`.
        ready_path: Path that answers whether the app can be reached; None if there is none.
    """

    kit: str
    upstream: str
    arguments: dict[str, Any]
    ready_path: str | None

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> Self:
        """Return the options in *arguments*."""
        return cls(
            kit=str(arguments.kit),
            upstream=arguments.upstream,
            arguments={name: getattr(arguments, name) for name in PASSED_ON},
            ready_path=arguments.ready_path,
        )

    @classmethod
    def of_worker(cls) -> Self:
        """Return the options of the command that started this process."""
        return cls(**json.loads(os.environ[VARIABLE]))

    def hand_over(self) -> None:
        """Leave the options to the workers that this process starts."""
        os.environ[VARIABLE] = json.dumps(asdict(self))


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments of ``meterkit proxy`` besides the kit."""
    add = command.add_argument
    add("--upstream", required=True, metavar="URL", help="the app: http://127.0.0.1:3000 or unix:/run/app.sock")
    add("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    add("--port", type=int, default=8080, metavar="N", help="port to listen on; 0 for any (default: 8080)")
    add("--uds", metavar="PATH", help="listen on a Unix socket instead")
    add("--fd", type=int, metavar="N", help="listen on an inherited socket instead, as systemd passes")
    add("--workers", type=int, default=1, metavar="N", help="processes (default: 1)")
    add("--rewrite-host", action="store_true", help="send a Host header that names the upstream")
    add("--trust-forwarded", action="store_true", help="keep X-Forwarded-* headers, which a front server has set")
    add("--pass-underscores", action="store_true", help="pass on headers with an underscore in their name")
    add("--usage-headers", action="store_true", help="count the usage in the app's X-Meterkit-Usage headers")
    add("--company-header", action="store_true", help="tell the app who pays, in X-Meterkit-Company")
    add("--uncompressed", action="store_true", help="ask the app not to compress; always so with response_json()")
    add("--connect-timeout", type=float, default=10.0, metavar="S", help="until a connection is made (default: 10)")
    add("--first-byte-timeout", type=float, default=600.0, metavar="S", help="until a response begins (default: 600)")
    add("--idle-timeout", type=float, default=300.0, metavar="S", help="between two pieces of a body (default: 300)")
    add("--max-connections", type=int, default=1000, metavar="N", help="to the app, per worker (default: 1000)")
    add("--drain-timeout", type=int, default=30, metavar="S", help="for open requests after SIGTERM (default: 30)")
    add("--ready-path", metavar="PATH", help="path that answers 200 if the app can be reached, else 503; not metered")
    add("--access-log", action="store_true", help="log each request")
