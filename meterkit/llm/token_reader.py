"""`TokenReader`: find the usage in a response's body while its bytes pass; `usage_of` does so for one that is there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from meterkit.errors import UsageError
from meterkit.llm.content_decoder import ContentDecoder
from meterkit.llm.event_stream import EventStream
from meterkit.llm.json_scanner import JsonScanner, Path
from meterkit.llm.token_usage import TokenUsage
from meterkit.llm.usage_block import is_partial, usage_in

USAGE_PATHS: tuple[Path, ...] = (
    ("usage",),  # OpenAI, Anthropic
    ("response", "usage"),  # an event of OpenAI's Responses
    ("message", "usage"),  # Anthropic's message_start
    ("usageMetadata",),  # Gemini
    ("usage_metadata",),  # Google's Python client
)
MODEL_PATHS: tuple[Path, ...] = (
    ("model",),
    ("response", "model"),
    ("message", "model"),
    ("modelVersion",),
    ("model_version",),
)

BEGINS_MESSAGE: Path = ("message", "usage")

LONGEST_MODEL = 255
"""Longest name of a model, characters."""

SHORT = 65_536
"""Longest body that is parsed as a whole, bytes, if it comes in one piece."""

_SPACE = b" \t\r\n\xef\xbb\xbf"  # with a byte order mark


class TokenReader:
    """
    Reads the tokens that a response says were used, from its bytes, in chunks of any size.

    Takes JSON and server-sent events, also compressed with gzip or deflate. Nothing of the text is kept: memory is some
    kilobytes, however large the body is. Of several blocks of usage, the last one holds: providers count up.

    Args:
        encoding: The response's Content-Encoding; empty if there is none, or if the client has decoded it.

    Attributes:
        error: Why nothing more can be read, or why a block of usage was left out; None if all is well.
    """

    def __init__(self, encoding: str = "") -> None:
        self.error: UsageError | None = None
        self._decoder = ContentDecoder(encoding)
        self._scanner = JsonScanner([*USAGE_PATHS, *MODEL_PATHS], self._take)
        self._events: EventStream | None = None
        self._is_known = self._is_stuck = self._has_text = False
        self._model = ""
        self._block: dict[str, Any] = {}
        self._usage: TokenUsage | None = None

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the body. Never raises."""
        if self._is_stuck:
            return
        try:
            for piece in self._decoder.decode(chunk):
                self._read(piece)
        except UsageError as error:
            self.error, self._is_stuck = error, True

    @property
    def usage(self) -> TokenUsage | None:
        """The tokens told so far; None if none have been."""
        return None if self._usage is None else replace(self._usage, model=self._model)  # a model may be named last

    def required(self) -> TokenUsage:
        """
        Return the tokens told so far.

        Raises:
            UsageError: None have been told, or none that can be counted.
        """
        usage = self.usage
        if usage is not None:
            return usage
        if self.error is not None:
            raise self.error
        raise _missing(is_stream=self._events is not None, has_text=self._has_text)

    def _read(self, piece: bytes) -> None:
        if not self._is_known:
            piece = piece.lstrip(_SPACE)
            if not piece:
                return
            self._is_known = self._has_text = True
            if piece[:1] not in (b"{", b"["):
                self._events = EventStream(self._scanner)
            elif self._is_whole(piece):
                return
        if self._events is None:
            self._scanner.feed(piece)
        else:
            self._events.feed(piece)

    def _is_whole(self, piece: bytes) -> bool:
        """Return whether *piece* is a whole document, and take it: most bodies are short, and come in one piece."""
        if len(piece) > SHORT or piece.rstrip()[-1:] != b"}":
            return False
        try:
            body = json.loads(piece)
        except (ValueError, RecursionError):
            return False
        if isinstance(body, dict):
            self.take_body(body)
        return True

    def take_body(self, body: Mapping[str, Any]) -> None:
        """Take a whole response that has been parsed."""
        self._has_text = True
        for path in MODEL_PATHS:
            model = _at(body, path)
            if isinstance(model, str):
                self._model = model[:LONGEST_MODEL]
        for path in USAGE_PATHS:
            block = _at(body, path)
            if block is not None:
                self._take_block(block)

    def _take(self, path: Path, value: bytes) -> None:
        try:
            found = json.loads(value)
        except (ValueError, RecursionError):
            found = value
        if path in MODEL_PATHS:
            self._model = found[:LONGEST_MODEL] if isinstance(found, str) else self._model
        elif found is not None:
            self._take_block(found, begins=path == BEGINS_MESSAGE)

    def _take_block(self, block: Any, *, begins: bool = False) -> None:
        """
        Take a block of usage that has been parsed.

        Args:
            block: The block; anything but an object is an error.
            begins: Whether a message begins, so that none of what was told before holds.
        """
        if not isinstance(block, Mapping):
            self.error = UsageError(
                f"the usage in the response is {block!r:.100}, not an object", reason="tokens_not_countable"
            )
            return
        told = {name: value for name, value in block.items() if value is not None}
        if not begins and is_partial(told):
            told = {**self._block, **told}
        try:
            usage = usage_in(told, self._model)
        except UsageError as error:
            self.error = error
            return
        if usage is not None:
            self._block, self._usage, self.error = told, usage, None


def usage_of(body: bytes | str | Mapping[str, Any] | Any, *, encoding: str = "") -> TokenUsage:
    """
    Return the tokens that a response says were used.

    Args:
        body: The response of OpenAI (Chat Completions, Responses, Embeddings), Anthropic (Messages) or Gemini
            (generateContent): its body, JSON or server-sent events, whole or broken off; the dict that its JSON is; or
            the object that the provider's Python client has returned.
        encoding: The body's Content-Encoding, if it is still encoded. gzip is recognised.

    Raises:
        UsageError: *body* has no usage of these shapes (reason ``tokens_missing``), or none that can be counted.
    """
    reader = TokenReader(encoding)
    if isinstance(body, str):
        body = body.encode()
    if isinstance(body, bytes | bytearray | memoryview):
        reader.feed(bytes(body))
        return reader.required()
    dump = getattr(body, "model_dump", None)
    if callable(dump):
        body = dump(mode="json")
    if not isinstance(body, Mapping):
        raise UsageError(
            f"usage_of() needs a response's body, as bytes or as a dict, not {type(body).__name__}",
            reason="tokens_missing",
        )
    reader.take_body(body)
    return reader.required()


def _at(body: Mapping[str, Any], path: Path) -> Any:
    found: Any = body
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _missing(*, is_stream: bool, has_text: bool) -> UsageError:
    if not has_text:
        why = "the response body is empty, or broke off before it began"
    elif is_stream:
        why = (
            "the stream has told no usage. OpenAI's chat completions tell it in their last chunk, and only if the "
            'request has stream_options={"include_usage": true}; a stream that broke off before that has none'
        )
    else:
        why = (
            "the response has no usage in the shape of OpenAI, Anthropic or Gemini: let the meter match only routes "
            "whose responses have one, or count with meterkit.add_usage()"
        )
    return UsageError(why, reason="tokens_missing")
