"""
The table: requests as an attacker writes them, byte by byte.

Each of them may reach the protected view, ``/v1/query``, or not, as server and framework like. `hostile_app` says by
itself for whom its view ran. ``/open/*`` is exempt from access control, and belongs to no meter.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product

QUERY = b"/v1/query"

PATHS = [
    QUERY,
    *(b"//v1/query", b"///v1/query", b"/%2fv1/query", b"/%2Fv1/query", b"/v1//query", b"//v1//query", b"/./v1/query"),
    *(b"/v1/query/", b"/v1/query//", b"/v1/query/.", b"/v1/query/..", b"/v1/query/x/..", b"/v1/query%2f"),
    *(b"/v1/query%0a", b"/v1/query%0A%0a", b"/v1/query%0d", b"/v1/query%0d%0a", b"/v1/query%20", b"/v1/query%09"),
    *(b"/v1/query%00", b"/v1/query%00.json", b"/v1/query%0b", b"/v1/query%0c", b"/v1/query%1f", b"/v1/query%7f"),
    *(b"/v1/query?", b"/v1/query?x=/open/", b"/v1/query;x=1", b"/v1;x/query", b"/v1/query#/open/", b"/v1/query%3fx"),
    *(b"/v1/./query", b"/v1/../v1/query", b"/v1/x/../query", b"/open/../v1/query", b"/open/%2e%2e/v1/query"),
    *(
        b"/open/..%2fv1/query",
        b"/open/..;/v1/query",
        b"/open//../v1/query",
        b"/open%2f..%2fv1/query",
        b"/open//v1/query",
    ),
    *(b"/V1/QUERY", b"/v1/Query", b"/v1%2fquery", b"/%76%31/%71uery", b"/v1/%2571uery", b"/v1\\query", b"/%5cv1/query"),
    *(b"/v1/query%ff", b"/v1/query%c0%af", b"/v1/query%e2%80%8b", b"/v1/query%u0020", b"/v1/query%", b"/v1/query%2"),
    *(
        b"/v1/query\xff",
        b"/v1/query\x00",
        b"/v1/query\x0b",
        b"/v1/qu\xc3\xa9ry",
        b"/%ef%bc%8fv1/query",
        b"/\xa0v1/query",
    ),
    *(
        b"http://x/v1/query",
        b"http://x//v1/query",
        b"HTTP://X/v1/query",
        b"https://x/open/../v1/query",
        b"//x/v1/query",
    ),
    *(b"http:/v1/query", b"http:v1/query", b"v1/query", b"*", b"?/v1/query", b"\\v1/query", b"/", b"/open/x"),
    *(b"/v1/query" + b"a" * 3000, b"/" * 500 + b"v1/query", b"/v1/query" + b"/." * 500, b"/v1/query?" + b"a=b&" * 700),
]

METHODS = [
    *(b"GET", b"POST", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"PATCH", b"TRACE", b"QUERY", b"PROPFIND", b"FOO"),
    *(b"get", b"post", b"Post", b"pOST", b"options", b"Options", b"head", b"G-ET", b"POST\x00", b"P%4fST"),
]

HEADERS = {
    "script name, open": b"SCRIPT_NAME: /open",
    "script name, v1": b"SCRIPT_NAME: /v1",
    "script name, x": b"SCRIPT_NAME: /x",
    "script-name": b"Script-Name: /open",
    "x-script-name": b"X-Script-Name: /open",
    "forwarded prefix": b"X-Forwarded-Prefix: /open",
    "path info": b"PATH_INFO: /open/x",
    "original url": b"X-Original-URL: /open/x",
    "rewrite url": b"X-Rewrite-URL: /v1/query",
    "override POST": b"X-HTTP-Method-Override: POST",
    "override post": b"X-HTTP-Method-Override: post",
    "override OPTIONS": b"X-HTTP-Method-Override: OPTIONS",
    "another key": b"X_Api_Key: key-victim",
    "another key, dots": b"X.Api.Key: key-victim",
    "key again": b"X-Api-Key: key-victim",
    "key, empty": b"X-Api-Key:",
    "key, folded": b"X-Pad: a\r\n X-Api-Key: key-victim",
    "key, space": b"X-Api-Key : key-victim",
    "key, hop by hop": b"Connection: X-Api-Key",
    "remote user": b"REMOTE_USER: victim",
    "environ": b"HTTP_X_API_KEY: key-victim",
    "chunked": b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "chunked, extension": b"Transfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nX-Api-Key: key-victim\r\n\r\n",
    "chunked, case": b"Transfer-Encoding: cHuNkEd\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "chunked and length": b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "identity": b"Transfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello",
    "length, zeros": b"Content-Length: 0000000000000000000000005\r\n\r\nhello",
    "length, plus": b"Content-Length: +5\r\n\r\nhello",
    "length, twice": b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "length, digits": b"Content-Length: 99999999999999999999999",
    "preflight": b"Origin: http://evil\r\nAccess-Control-Request-Method: POST",
    "upgrade": b"Upgrade: odd/2",
    "host twice": b"Host: evil",
    "long cookie": b"Cookie: " + b"a=b; " * 500,
    "odd value": b"X-Odd: \xff\xfe\xc3\xa9",
    "many": b"\r\n".join(b"X-H%d: 1" % number for number in range(60)),
}
"""What is added to the headers; one with an empty line has the body, too."""


@dataclass(frozen=True)
class Case:
    """
    One request.

    Attributes:
        number: Its place in the table; company ``c<number>`` sends it.
        method: As it is sent.
        target: As it is sent.
        extra: Lines that follow the other headers; perhaps with the body.
        version: HTTP version, as it is sent.
        name: What `extra` is.
    """

    number: int
    method: bytes
    target: bytes
    extra: bytes = b""
    version: bytes = b"1.1"
    name: str = field(default="", compare=False)

    @property
    def company(self) -> str:
        """Who sends it."""
        return f"c{self.number}"

    def __str__(self) -> str:
        target = self.target if len(self.target) < 60 else self.target[:40] + b"... (%d)" % len(self.target)
        line = self.method + b" " + target + (b"" if self.version == b"1.1" else b" HTTP/" + self.version)
        return f"{line!r:.90}{f' + {self.name}' if self.name else ''}"

    def sent(self, mode: str, *, key: str = "") -> bytes:
        """The bytes, for the app's *mode*, and perhaps with another company's key."""
        lines = [
            self.method + b" " + self.target + b" HTTP/" + self.version,
            *(b"Host: x", b"X-Mode: " + mode.encode(), b"X-Api-Key: key-" + (key or self.company).encode()),
            *([self.extra] if self.extra.startswith((b"Connection:", b"\r\n")) else [b"Connection: close", self.extra]),
        ]
        head = b"\r\n".join(line for line in lines if line)
        return head if b"\r\n\r\n" in head else head + b"\r\n\r\n"


def _combined() -> Iterator[tuple[bytes, bytes, str]]:
    yield from ((b"GET", target, "") for target in PATHS)
    yield from ((method, QUERY, "") for method in METHODS[1:])
    tricky = [
        b"//v1/query",
        b"/%2fv1/query",
        b"/v1/query/",
        b"/v1/query%0a",
        b"/open/../v1/query",
        b"http://x/v1/query",
    ]
    yield from ((method, target, "") for method, target in product([b"POST", b"OPTIONS", b"HEAD", b"post"], tricky))
    yield from ((b"GET", QUERY, name) for name in HEADERS)
    yield from ((b"POST", QUERY, name) for name in HEADERS if "chunked" in name or "length" in name or "key" in name)
    for method in (b"GET", b"OPTIONS", b"HEAD", b"POST"):
        yield from (
            (method, QUERY, name) for name in ("override POST", "override post", "override OPTIONS", "preflight")
        )
    for prefix, name in ((b"/open", "script name, open"), (b"/x", "script name, x")):
        yield from ((method, prefix + QUERY, name) for method in (b"GET", b"POST", b"OPTIONS"))
        yield from ((b"GET", prefix + target, name) for target in tricky if target.startswith(b"/"))
    yield b"GET", b"/query", "script name, v1"
    yield b"GET", b"/v1/query", "path info"
    yield b"GET", b"/open/x", "rewrite url"
    yield b"GET", b"/open/x", "path info"


CASES = [
    Case(number, method, target, HEADERS.get(name, b""), name=name)
    for number, (method, target, name) in enumerate(dict.fromkeys(_combined()))
]
CASES += [
    Case(len(CASES), b"GET", QUERY, version=b"1.0"),
    Case(len(CASES) + 1, b"GET", b"//v1/query", version=b"1.0"),
    Case(len(CASES) + 2, b"GET", QUERY, version=b"2.0"),
    Case(len(CASES) + 3, b"GET ", QUERY),
    Case(len(CASES) + 4, b"\r\nGET", QUERY),
]
