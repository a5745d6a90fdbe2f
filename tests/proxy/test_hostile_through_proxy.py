"""
The table of hostile requests, sent to an app and to the proxy in front of it: the app sees the same, or nothing.

What differs is listed in docs/proxy.md.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hostile_cases import CASES
from proxy_ends import ask, served

from meterkit import Meter
from meterkit.asgi import MeterMiddleware
from meterkit.proxy import Proxy

pytestmark = [pytest.mark.long, pytest.mark.thorough]

ADDED = ("via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto")
HOP_BY_HOP = ("connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade")


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answer what was asked."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    said = {
        "method": scope["method"],
        "target": (scope["raw_path"] + b"?" + scope["query_string"]).decode("latin-1"),
        "headers": [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]],
        "body": body.decode("latin-1"),
    }
    content = json.dumps(said).encode()
    headers = [(b"content-length", str(len(content)).encode()), (b"x-odd", b"\xff\xfe"), (b"set-cookie", b"a=1")]
    await send({"type": "http.response.start", "status": 200, "headers": [*headers, (b"set-cookie", b"b=2")]})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else content})


def parts(answer: bytes) -> tuple[bytes, list[bytes], dict[str, Any]]:
    """The status, the header lines and what the app saw."""
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    status = first.split()[1] if first else b""
    return status, sorted(lines), json.loads(body) if status == b"200" and body else {}


def seen_directly(said: dict[str, Any]) -> dict[str, Any]:
    """What the app should see of it through the proxy."""
    headers = said.get("headers", [])
    named = [part.strip().lower() for name, value in headers if name == "connection" for part in value.split(",")]
    kept = [
        each
        for each in headers
        if each[0] not in (*HOP_BY_HOP, *named) and "_" not in each[0] and not each[0].startswith("x-forwarded-")
    ]
    return {**said, "headers": kept} if said else {}


def seen_through(said: dict[str, Any]) -> dict[str, Any]:
    """What the app saw, without what the proxy adds."""
    kept = [each for each in said.get("headers", []) if each[0] not in (*ADDED, "transfer-encoding")]
    return {**said, "headers": kept} if said else {}


def may_be_refused(case: Any) -> bool:
    """Whether the request is one that apps read in different ways."""
    path = case.target.partition(b"?")[0]
    segments = path.lower().replace(b"%2e", b".").split(b"/")
    return (
        not path.startswith(b"/")
        or any(sign in path for sign in (b"\\", b"#"))
        or any(segment in (b".", b"..") for segment in segments)
        or any(not 0x20 < byte < 0x7F for byte in path)
        or case.name
        in ("chunked and length", "identity", "length, digits", "host twice", "another key", "key again", "key, empty")
    )


def test_the_app_sees_the_same_or_nothing(make_kit):
    """Of each request, the app sees all that it would see without the proxy, or the client is told that it is wrong."""
    kit = make_kit(Meter("calls"), identify=lambda exchange: "acme")
    wrong = []
    passed = 0
    with served(echo) as direct, served(MeterMiddleware(Proxy(f"http://127.0.0.1:{direct}"), kit)) as through:
        for case in CASES:
            request = case.sent("x")
            expected_status, expected_lines, expected = parts(ask(direct, request))
            status, lines, got = parts(ask(through, request))
            if status != expected_status and not (may_be_refused(case) and status in (b"400", b"501")):
                wrong.append(f"{status!r} instead of {expected_status!r}: {case}")
            elif status == b"200":
                passed += 1
                # The app's answer names the request's headers, so its length differs.
                lines, expected_lines = (
                    [each for each in some if not each.lower().startswith(b"content-length")]
                    for some in (lines, expected_lines)
                )
                if lines != expected_lines or seen_through(got) != seen_directly(expected):
                    wrong.append(f"{seen_through(got)} instead of {seen_directly(expected)}: {case}")
    kit.flush()

    assert not wrong, "\n".join(["", *wrong])
    assert passed > len(CASES) / 3
    assert [passed] == [row.quantity for row in kit.usage()]
