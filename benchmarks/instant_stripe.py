"""
A Stripe that responds at once and checks nothing, in a process of its own, so that only the reporter is measured.

    python -m benchmarks.instant_stripe      prints its port, and serves until its standard input ends
    python -m benchmarks.instant_stripe 0.1  responds after this many seconds, as if it were far away
"""

from __future__ import annotations

import asyncio
import json
import sys
from urllib.parse import parse_qs

DELAY = float(sys.argv[1]) if len(sys.argv) > 1 else 0.0

SESSION = {"authentication_token": "token", "expires_at": "2999-01-01T00:00:00Z", "object": "v2.billing.session"}


class Answers(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It begins."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._read = b""

    def data_received(self, data: bytes) -> None:
        """Answer each request that is complete."""
        self._read += data
        while b"\r\n\r\n" in self._read:
            head, _, rest = self._read.partition(b"\r\n\r\n")
            lines = head.lower().split(b"\r\n")
            length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
            if len(rest) < length:
                return
            payload, self._read = rest[:length], rest[length:]
            body = json.dumps(_answer(lines[0].split(b" ")[1], payload)).encode()
            answer = (
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nRequest-Id: req_1\r\n"
                + b"Content-Length: %d\r\n\r\n" % len(body)
                + body
            )
            if DELAY:
                asyncio.get_running_loop().call_later(DELAY, self._transport.write, answer)
            else:
                self._transport.write(answer)


def _answer(path: bytes, payload: bytes) -> dict[str, object]:
    if b"session" in path:
        return SESSION
    if b"stream" in path:
        return {}
    identifier = parse_qs(payload.decode("utf-8", "replace")).get("identifier", [""])[0]
    return {"object": "billing.meter_event", "created": 0, "identifier": identifier, "livemode": False}


async def main() -> None:
    """Serve until there is no more to read."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Answers, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
