"""The bytes of a response's body, also where another server sends a file in its place."""

from __future__ import annotations

import re
from pathlib import Path
from stat import S_ISREG
from urllib.parse import unquote

from meterkit.errors import UsageError
from meterkit.metering.exchange import Exchange

PLACEHOLDER_BYTES = 64
"""Longest body that is looked at: one that a web server replaces with a file is empty, or says "ok" or "null"."""

_BY_PATH = ("x-sendfile", "x-lighttpd-send-file")
"""Headers that name a file by its path: Apache's mod_xsendfile, lighttpd."""

_BY_ADDRESS = ("x-accel-redirect", "x-reproxy-url")
"""Headers that name it by an address that only the web server can resolve: nginx, Caddy; Perlbal."""

_RANGE = re.compile(r"\s*bytes\s*=\s*(\d{0,15})-(\d{0,15})\s*")


def delivered_bytes(exchange: Exchange) -> int:
    """
    Return the bytes that the client gets: what the app handed over, or the file that another server sends instead.

    The length of such a file is the response's Content-Length, if that is longer than the body, or the size of the file
    that ``X-Sendfile`` names. A single byte range that the client asks for is taken into account.

    Raises:
        UsageError: The length cannot be known here.
    """
    if exchange.is_length_unknown:
        raise _unknown("the server sends a file without a Content-Length")
    if (
        exchange.response_bytes >= PLACEHOLDER_BYTES
        or exchange.method == "HEAD"
        or exchange.status in (204, 304)
    ):  # fmt: skip
        return exchange.response_bytes
    headers = exchange.response_headers
    for name in (*_BY_PATH, *_BY_ADDRESS):
        named = headers.get(name)
        if named:
            declared = exchange.declared_bytes or 0
            is_declared = declared > exchange.response_bytes
            size = declared if is_declared else _named_size(named) if name in _BY_PATH else None
            if size is None:
                raise _unknown(f"another server sends the file that {name} names")
            return size if exchange.status == 206 else _in_range(size, exchange.headers.get("range", ""))
    return exchange.response_bytes


def size_of_file(path: str) -> int | None:
    """Return the size of the regular file at the absolute *path*; None if there is none."""
    try:
        status = Path(path).stat() if Path(path).is_absolute() else None
    except (OSError, ValueError, TypeError):
        return None
    return status.st_size if status is not None and S_ISREG(status.st_mode) else None


def _named_size(path: str) -> int | None:
    size = size_of_file(path)
    return size_of_file(unquote(path)) if size is None else size  # web servers take it percent-encoded, too


def _in_range(size: int, wanted: str) -> int:
    """Return how many of *size* bytes the Range header *wanted* asks for; all, if it has none or several ranges."""
    match = _RANGE.fullmatch(wanted)
    if match is None or match[0].strip().endswith("=-"):
        return size
    first, last = match.groups()
    if not first:
        return min(int(last), size)
    end = min(int(last), size - 1) if last else size - 1
    if last and int(last) < int(first):
        return size  # not a range, so the server ignores it
    return max(0, end - int(first) + 1)


def _unknown(why: str) -> UsageError:
    return UsageError(
        f"{why}, so the length of the response is unknown: in the view, pass the file's size to add_usage(), and name "
        "that usage in the meter's value=",
        reason="length_unknown",
    )
