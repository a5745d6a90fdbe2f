"""Undo a response's Content-Encoding while its bytes pass."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from meterkit.errors import UsageError

PIECE = 65_536
"""Most bytes that come out at once: some megabytes of zeros fit into a few compressed bytes."""

GZIP_MAGIC = 0x1F
"""First byte of gzip."""

_GZIP, _ZLIB, _RAW = zlib.MAX_WBITS | 16, zlib.MAX_WBITS, -zlib.MAX_WBITS


class ContentDecoder:
    """
    Decodes gzip and deflate, and passes on what is not encoded. gzip is recognised without a header, too.

    Args:
        encoding: The response's Content-Encoding; empty if there is none.
    """

    def __init__(self, encoding: str = "") -> None:
        self._encoding = encoding.strip().lower().replace("x-gzip", "gzip")
        self._inflate: zlib._Decompress | None = None
        self._has_begun = self._is_over = False

    def decode(self, data: bytes) -> Iterator[bytes]:
        """
        Yield what *data* decodes to, in pieces of at most `PIECE` bytes.

        Raises:
            UsageError: The encoding is another one, or the bytes are not what it says.
        """
        if not data or self._is_over:
            return
        if not self._has_begun:
            self._begin(data)
        if self._inflate is None:
            yield data
            return
        try:
            yield from self._inflated(data)
        except zlib.error:
            raise UsageError(
                f"the response body is not {self._encoding or 'gzip'}, as it says", reason="body_encoded"
            ) from None

    def _begin(self, data: bytes) -> None:
        self._has_begun = True
        if data[0] == GZIP_MAGIC:  # no JSON and no event begins with that
            self._inflate = zlib.decompressobj(_GZIP)
        elif self._encoding == "deflate":  # with a header of zlib, as it should be, or without
            self._inflate = zlib.decompressobj(_ZLIB if data[0] & 0x0F == 8 else _RAW)
        elif self._encoding not in ("", "identity", "gzip"):
            raise UsageError(
                f"the response body is {self._encoding}-encoded, and only gzip and deflate can be read: send the model "
                "Accept-Encoding: gzip, or install this middleware inside the one that compresses",
                reason="body_encoded",
            )

    def _inflated(self, data: bytes) -> Iterator[bytes]:
        inflate = self._inflate
        assert inflate is not None
        while True:
            if inflate.eof:  # gzip may have several members, one after the other
                if not data:
                    return
                if data[0] != GZIP_MAGIC:
                    self._is_over = True
                    return
                inflate = self._inflate = zlib.decompressobj(_GZIP)
            piece = inflate.decompress(data, PIECE)
            if piece:
                yield piece
            data = inflate.unused_data if inflate.eof else inflate.unconsumed_tail
            if not data and len(piece) < PIECE:
                return
