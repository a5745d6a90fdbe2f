"""
What of a request and of a response is passed on: every header, in order and byte for byte, but for those listed here.

Sources: RFC 9110, sections 7.6 (hop-by-hop headers, Via) and 10.1.1 (Expect); RFC 9112, section 6 (framing).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from meterkit.proxy.failures import bad_request

Headers = list[tuple[bytes, bytes]]

COMPANY = b"x-meterkit-company"
"""Header in which the app is told who pays."""

HOP_BY_HOP = frozenset(
    (
        *(b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection"),
        *(b"te", b"trailer", b"transfer-encoding", b"upgrade"),
    )
)

FORWARDED = frozenset((b"forwarded", b"x-real-ip"))
"""Headers besides ``X-Forwarded-*`` by which a front server says who the client is."""

SINGLE = frozenset((b"authorization", b"x-api-key", b"api-key", b"x-auth-token", b"x-access-token"))
"""
Headers that a request may have once. Some apps take the first of two keys, some the last, and ``identify=`` gets both:
a client could be served for a key and not be billed for it.
"""

VIA = b"1.1 meterkit"

_NEVER_NAMED = frozenset((b"host", b"content-length"))
"""Headers that are passed on although ``Connection`` names them."""

_LENGTH = re.compile(rb"[0-9]{1,18}")

_DOTS = re.compile(rb"(?:^|/)(?:\.|%2e){1,2}(?:/|$)", re.IGNORECASE)

_AMBIGUOUS = re.compile(rb"[\\#]|[^\x21-\x7e]")


class RequestHead(NamedTuple):
    """
    What is sent to the app before the body.

    Attributes:
        method: HTTP method.
        target: Path and query, byte for byte.
        headers: Headers.
        has_body: Whether a body follows.
    """

    method: bytes
    target: bytes
    headers: Headers
    has_body: bool


class Rules(NamedTuple):
    """
    What is passed on.

    Attributes:
        authority: ``Host`` header that names the app.
        rewrites_host: Whether the app gets that, and not the client's own.
        trusts_forwarded: Whether a front server that is trusted has set ``X-Forwarded-*``.
        passes_underscores: Whether headers with an underscore in their name are passed on.
        asks_uncompressed: Whether the app is asked not to compress, whatever the client takes.
    """

    authority: bytes
    rewrites_host: bool = False
    trusts_forwarded: bool = False
    passes_underscores: bool = False
    asks_uncompressed: bool = False


def request_head(scope: Any, rules: Rules) -> RequestHead:
    """
    Return what the app gets of the request in *scope*.

    Raises:
        Failure: The request is not one that can be passed on, because servers would understand it differently.
    """
    given: Headers = [(name.lower(), value) for name, value in scope["headers"]]
    method = scope["method"].encode("ascii")
    if method == b"CONNECT":
        raise bad_request("This proxy opens no tunnels.", 501)
    length = body_length(given)
    if length == 0 and scope.get("http_version", "1.1") not in ("1.0", "1.1") and method not in (b"GET", b"HEAD"):
        length = None if not any(name == b"content-length" for name, _ in given) else 0
    headers = request_headers(given, scope, rules)
    if length is None:
        headers.append((b"transfer-encoding", b"chunked"))
    return RequestHead(method, target_of(scope), headers, has_body=length != 0)


def request_headers(given: Headers, scope: Any, rules: Rules) -> Headers:
    """
    Return what the app gets of the headers *given*, whose names are in lower case.

    Raises:
        Failure: A header that may be there once is repeated.
    """
    keys = [name.replace(b"_", b"-") for name, _ in given if name.replace(b"_", b"-") in SINGLE]
    if len(set(keys)) < len(keys):
        raise bad_request("The request has a header with credentials more than once.")
    hosts = [value for name, value in given if name == b"host"]
    if len(hosts) > 1:
        raise bad_request("The request has more than one Host header.")
    headers = [
        (name, value)
        for name, value in passed_on(given)
        if not _is_internal(name) and (rules.passes_underscores or b"_" not in name)
    ]
    if rules.asks_uncompressed:
        headers = [*(each for each in headers if each[0] != b"accept-encoding"), (b"accept-encoding", b"identity")]
    if rules.rewrites_host or not hosts:
        headers = [(b"host", rules.authority), *(each for each in headers if each[0] != b"host")]
    return _with_forwarded(headers, scope, hosts, trusts=rules.trusts_forwarded)


def target_of(scope: Any) -> bytes:
    """
    Return the path and the query of the request in *scope*, byte for byte.

    Raises:
        Failure: Apps would read the path in different ways, so it could lead past a meter or a limit.
    """
    raw: bytes = scope.get("raw_path") or quote(scope["path"]).encode("ascii")
    raw = raw.partition(b"?")[0]
    if raw == b"*" and scope["method"] == "OPTIONS":
        return raw
    if not raw.startswith(b"/"):
        raise bad_request("The request target must be a path that begins with a slash.")
    if _AMBIGUOUS.search(raw) or _DOTS.search(raw):
        raise bad_request("The path contains '.' or '..' as a segment, a backslash, '#', or bytes to be encoded.")
    query: bytes = scope.get("query_string", b"")
    return raw + b"?" + query if query else raw


def body_length(headers: Sequence[tuple[bytes, bytes]]) -> int | None:
    """
    Return the length of a request's body, bytes; None if it is chunked.

    Raises:
        Failure: The headers contradict each other.
    """
    encodings = [value for name, value in headers if name == b"transfer-encoding"]
    lengths = [value.strip() for name, value in headers if name == b"content-length"]
    if encodings and lengths:
        raise bad_request("The request has both Content-Length and Transfer-Encoding.")
    if encodings:
        if b",".join(encodings).strip().lower() != b"chunked":
            raise bad_request("The only transfer encoding that this proxy takes is chunked.", 501)
        return None
    if not lengths:
        return 0
    if len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0]):
        raise bad_request("The request has no single valid Content-Length.")
    return int(lengths[0])


def passed_on(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Return *headers*, whose names are in lower case, without those that concern one connection only."""
    headers = list(headers)
    named = {
        each.strip().lower() for name, value in headers if name == b"connection" for each in value.split(b",")
    } - _NEVER_NAMED
    drops = HOP_BY_HOP | named if named else HOP_BY_HOP
    return [each for each in headers if each[0] not in drops and each[0] != b"expect"]


def response_headers(status: int, headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """
    Return what the client gets of the *headers* of a response, in order, as they were written.

    Args:
        status: Status of the response.
        headers: All of them.
    """
    given = list(headers)
    lowered = [name.lower() for name, _ in given]
    named = {
        each.strip().lower()
        for name, (_, value) in zip(lowered, given, strict=True)
        if name == b"connection"
        for each in value.split(b",")
    } - {b"content-length", b"set-cookie"}
    drops = HOP_BY_HOP | named
    if b"transfer-encoding" in lowered or status in (204, 304):
        # Of both, the encoding counts. A 204 has no length; that of a 304 would be the one of a body that is not sent.
        drops |= {b"content-length"}
    return [each for name, each in zip(lowered, given, strict=True) if name not in drops]


def _with_forwarded(headers: Headers, scope: Any, hosts: Sequence[bytes], *, trusts: bool) -> Headers:
    """Return *headers* with who the client is: as this proxy sees it, and after what a trusted front server says."""
    client = scope.get("client")
    address = str(client[0]).encode("ascii", "ignore") if client and client[0] else b""
    scheme = str(scope.get("scheme", "http")).replace("ws", "http").encode("ascii", "ignore")
    chain: list[bytes] = []
    if trusts:
        chain = [value for name, value in headers if name == b"x-forwarded-for"]
        headers = [each for each in headers if each[0] != b"x-forwarded-for"]
    # No front server writes an underscore, and an app may read it as a dash.
    headers = [each for each in headers if not _is_forwarded(each[0]) or (trusts and b"_" not in each[0])]
    has = {name for name, _ in headers}
    if address:
        chain.append(address)
    if chain:
        headers.append((b"x-forwarded-for", b", ".join(chain)))
    if b"x-forwarded-proto" not in has:
        headers.append((b"x-forwarded-proto", scheme))
    if b"x-forwarded-host" not in has and hosts:
        headers.append((b"x-forwarded-host", hosts[0]))
    headers.append((b"via", VIA))
    return headers


def _is_forwarded(name: bytes) -> bool:
    """Return whether an app may take the header *name* for one that a front server has set."""
    dashed = name.replace(b"_", b"-")  # as WSGI, CGI and PHP read them
    return dashed.startswith(b"x-forwarded-") or dashed in FORWARDED


def _is_internal(name: bytes) -> bool:
    """Return whether the header *name* is one of meterkit's own, which a client must not send."""
    return name.replace(b"_", b"-").startswith(b"x-meterkit-")
