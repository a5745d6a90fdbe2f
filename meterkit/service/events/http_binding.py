"""
Read the events in an HTTP request. Source: CloudEvents 1.0, "HTTP Protocol Binding" and "JSON Event Format".

Structured (one event in JSON), batched (a list of them) and binary (attributes in headers, data in the body); and plain
``application/json`` with one event or a list, as OpenMeter takes them, too.
"""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote_to_bytes

from meterkit.events.errors import EventsError
from meterkit.events.event import Attributes
from meterkit.service.events.strict_json import NotJsonError, parsed

SINGLE = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
JSON = "application/json"

PREFIX = b"ce-"
"""Beginning of the headers with the attributes of an event in binary mode."""

MOST_EVENTS = 10_000
"""Events in a request, at most."""

MOST_MEMBERS = 10
"""Members of a gzip body, at most: what is left is copied after each, and a million may be empty."""

_ESCAPE = re.compile(r"\\(.)")
_JSON_TYPE = re.compile(r"[^/]+/(json|[^/]+\+json)")


def read(headers: Iterable[tuple[bytes, bytes]], body: bytes, *, most_bytes: int) -> tuple[list[Attributes], bool]:
    """
    Return the events of a request, not checked yet, and whether they are strictly CloudEvents.

    Args:
        headers: Names in lower case, and values.
        body: Body of the request.
        most_bytes: Most bytes that a compressed *body* may have once it is inflated.

    Raises:
        EventsError: The request cannot be read.
    """
    given = list(headers)
    body = _decoded(_one(given, b"content-encoding").strip().lower(), body, most_bytes)
    media_type, charset = _media_type(_one(given, b"content-type"))
    has_attributes = any(name.startswith(PREFIX) for name, _ in given)
    if has_attributes and not media_type.startswith("application/cloudevents"):
        return [_binary(given, media_type, body)], True
    if media_type not in (SINGLE, BATCH, JSON):
        raise EventsError(
            415,
            "content_type_wrong",
            f"Content-Type must be {SINGLE}, {BATCH} or {JSON}, or the attributes must be in ce- headers; it is "
            f"{media_type!r:.100}",
        )
    if charset not in ("", "utf-8", "utf8", "us-ascii"):
        raise EventsError(415, "charset_wrong", f"send JSON in UTF-8, not in {charset!r:.50}")
    try:
        found = parsed(body)
    except NotJsonError as error:
        raise EventsError(400, "body_not_json", f"the body is not valid JSON: {error}") from None
    if media_type == BATCH and type(found) is not list:
        raise EventsError(400, "batch_not_list", f"{BATCH} is a list of events; for one, use {SINGLE}")
    if media_type == SINGLE and type(found) is list:
        raise EventsError(400, "event_is_list", f"{SINGLE} is one event; for a list, use {BATCH}")
    events = found if type(found) is list else [found]
    if len(events) > MOST_EVENTS:
        raise EventsError(
            413, "too_many_events", f"there are {len(events):,} events; send at most {MOST_EVENTS:,} at once"
        )
    return [_structured(each) for each in events], media_type != JSON


def _one(headers: list[tuple[bytes, bytes]], name: bytes) -> str:
    """Return the value of the header *name*; empty if there is none."""
    values = [value for key, value in headers if key == name]
    if len(values) > 1:
        raise EventsError(400, "header_repeated", f"the header {name.decode()} is there {len(values)} times")
    return values[0].decode("latin-1") if values else ""


def _media_type(value: str) -> tuple[str, str]:
    """Return media type and charset of a Content-Type, in lower case; empty if there is none."""
    media_type, _, parameters = value.partition(";")
    charset = ""
    for each in parameters.split(";"):
        name, _, text = each.partition("=")
        if name.strip().lower() == "charset":
            charset = text.strip().strip('"').lower()
    return media_type.strip().lower(), charset


def _decoded(encoding: str, body: bytes, most: int) -> bytes:
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "x-gzip"):
        raise EventsError(415, "encoding_wrong", f"Content-Encoding must be gzip or none, not {encoding!r:.50}")
    found, left = b"", body
    try:
        for _ in range(MOST_MEMBERS):
            member = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
            found += member.decompress(left, most + 1 - len(found))
            if len(found) > most:
                raise EventsError(413, "too_large", f"the body has more than {most:,} bytes inflated; send it in parts")
            left = member.unused_data
            if not member.eof or not left:
                break
    except zlib.error as error:
        raise EventsError(400, "body_not_gzip", f"the body is not valid gzip: {error}") from None
    if left or not member.eof:
        raise EventsError(400, "body_not_gzip", "the body is not valid gzip: it is cut off, or in too many parts")
    return found


def _structured(given: Any) -> Attributes:
    if type(given) is not dict or "data_base64" not in given:
        return Attributes(given, given.pop("data", None) if type(given) is dict else None)
    text = given.pop("data_base64")
    if "data" in given:
        return Attributes(given, None, "it has both data and data_base64; send one of them")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError, ValueError):
        return Attributes(given, None, "data_base64 is not a text in base64")
    media_type = given.get("datacontenttype")
    return _with_data(given, _media_type(media_type)[0] if isinstance(media_type, str) else JSON, data)


def _binary(headers: list[tuple[bytes, bytes]], media_type: str, body: bytes) -> Attributes:
    given: dict[str, Any] = {}
    for name, value in headers:
        if name.startswith(PREFIX):
            attribute = name[len(PREFIX) :].decode("latin-1")
            if attribute in given:
                raise EventsError(400, "header_repeated", f"the header ce-{attribute:.50} is there twice")
            given[attribute] = _header_text(attribute, value)
    return _with_data(given, media_type or JSON, body)


def _with_data(given: dict[str, Any], media_type: str, data: bytes) -> Attributes:
    if not data:
        return Attributes(given, None)
    if not _JSON_TYPE.fullmatch(media_type):
        return Attributes(given, data)
    try:
        return Attributes(given, parsed(data))
    except NotJsonError as error:
        return Attributes(given, None, f"its data are not valid JSON: {error}")


def _header_text(name: str, value: bytes) -> str:
    """Return the value of an attribute's header: quoted or not, and percent-encoded in UTF-8."""
    text = value.strip()
    if len(text) > 1 and text.startswith(b'"') and text.endswith(b'"'):
        text = _ESCAPE.sub(r"\1", text[1:-1].decode("latin-1")).encode("latin-1")
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        detail = f"the header ce-{name:.50} is not percent-encoded UTF-8"
        raise EventsError(400, "header_not_utf8", detail) from None
