"""
Ask OpenAI's chat completions for the usage of a stream, which they tell only to who wants to know.

The chunk that tells it is hidden from a caller who has not asked for it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from meterkit.metering.context import outside

MARK = "x-meterkit-asked"
"""Header that says, between two of the client's own hooks, that the usage was asked for here. It is never sent."""

EXTENSION = "meterkit.asked"
"""The same, in the request that is sent."""

_HOOKS = ("_prepare_options", "_prepare_request")

_ENDPOINTS = ("/chat/completions", "/completions")


LONGEST_EVENT = 1_000_000
"""Longest event that is looked at, bytes: the chunk with the usage has some hundred."""

_END_OF_EVENT = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_NO_CHOICES = re.compile(rb'"choices"\s*:\s*\[\s*\]')


def ask_for_usage(client: Any, *, wanted: bool) -> None:
    """
    Have *client* add ``stream_options`` to the streams that lack them, if *wanted*.

    Source: openai's ``_base_client``: ``_prepare_options`` and ``_prepare_request`` are hooks, "for mutating the given
    options" and "the Request object after it is constructed", called in this order for each try.
    """
    for name in _HOOKS:
        if getattr(vars(client).get(name), MARK, False):
            delattr(client, name)
    if not wanted:
        return
    prepare_options, prepare_request = (getattr(client, name) for name in _HOOKS)
    options_of: Any
    request_of: Any
    if hasattr(client._client, "aclose"):  # noqa: SLF001 - likewise

        async def options_of(options: Any) -> Any:
            return _asking(await prepare_options(options))

        async def request_of(request: Any) -> None:
            await prepare_request(request)
            _mark(request)

    else:

        def options_of(options: Any) -> Any:
            return _asking(prepare_options(options))

        def request_of(request: Any) -> None:
            prepare_request(request)
            _mark(request)

    for name, hook in zip(_HOOKS, (options_of, request_of), strict=True):
        setattr(hook, MARK, True)
        setattr(client, name, hook)


def was_asked(request: Any) -> bool:
    """Return whether the usage was asked for here, so that the caller does not expect the chunk that tells it."""
    return EXTENSION in request.extensions


def _asking(options: Any) -> Any:
    """Return *options*, with the option if it is missing. Never raises."""
    try:
        return _with_usage(options)
    except Exception as error:
        outside.internal(error)
        return options


def _with_usage(options: Any) -> Any:
    body = options.json_data
    if not str(options.url).partition("?")[0].endswith(_ENDPOINTS) or not isinstance(body, Mapping):
        return options
    given = body.get("stream_options")
    if body.get("stream") is not True or (isinstance(given, Mapping) and "include_usage" in given):
        return options
    if given is not None and not isinstance(given, Mapping):
        return options
    options.json_data = {**body, "stream_options": {**(given or {}), "include_usage": True}}
    headers = options.headers if isinstance(options.headers, Mapping) else {}
    options.headers = {**headers, MARK: "1"}
    return options


def _mark(request: Any) -> None:
    """Turn the header into an extension of the request, which stays here."""
    if MARK in request.headers:
        del request.headers[MARK]
        request.headers["accept-encoding"] = "identity"  # the chunk is looked for in plain text
        request.extensions = {**request.extensions, EXTENSION: True}


class UsageChunkFilter:
    """
    Passes a stream of server-sent events on, event by event, without the one that has usage and no choices.

    Code that was written without it takes ``chunk.choices[0]`` of each chunk, and would raise.
    """

    def __init__(self) -> None:
        self._held = b""

    def passed(self, data: bytes) -> bytes:
        """Take the next bytes of the stream; return what is passed on."""
        held = self._held + data
        at, passed = 0, []
        for match in _END_OF_EVENT.finditer(held):
            event = held[at : match.end()]
            at = match.end()
            if not _tells_usage(event):
                passed.append(event)
        self._held = held[at:]
        if len(self._held) > LONGEST_EVENT:
            passed.append(self.rest())
        return b"".join(passed)

    def rest(self) -> bytes:
        """Return what is left at the end of the stream."""
        rest, self._held = self._held, b""
        return rest


def _tells_usage(event: bytes) -> bool:
    if _NO_CHOICES.search(event) is None or len(event) > LONGEST_EVENT:
        return False
    lines = [line[5:] for line in event.splitlines() if line.startswith(b"data:")]
    try:
        chunk = json.loads(b"\n".join(lines))
    except (ValueError, RecursionError):
        return False
    return isinstance(chunk, dict) and chunk.get("choices") == [] and isinstance(chunk.get("usage"), dict)
