"""
Binary format of a journal file.

A header, room for a fixed number of cells, and then the keys of the cells, each on an 8-byte boundary::

    header   magic 8 | version u32 | pid u32 | id 16 | created u64 | size u64 | cells u64 | crc32 of these u32 | zeros
    cell     quantity                  u64
             last used, Unix seconds   f64
    key      crc32 << 32 | length      u64      stored last: without it, the key does not exist yet
             canonical JSON, padded to 8

A key is either that of a place, ``[number,meter,event name,window]``, or that of a cell in a place,
``[number,company]`` or ``[number,company,user]``. The nth cell key belongs to the nth cell. So the keys can be copied
unchanged into the next generation, in which all cells are zero.
"""

from __future__ import annotations

import json
import os
import struct
import time
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

from meterkit.core.usage_key import Counted, MeterWindow, is_observation, usage_key_of

_MAGIC = b"meterkit"
_VERSION = 3
_HEADER = struct.Struct("<8sII16sQQQ")
_HEADER_BYTES = 64
ID_BYTES = 16

FIRST_CELL = _HEADER_BYTES // 8
"""Position of the first cell, in words of eight bytes."""

CELL_WORDS = 2

_KEY_BYTES = 40
"""Estimated average size of a key, bytes. If keys are shorter, some room is left over."""


class ForeignFileError(Exception):
    """The file is not a generation that this version of meterkit can read."""


def generation_id(data: bytes) -> str:
    """
    Return the id in a generation's header.

    Raises:
        ForeignFileError: *data* is not a generation of this version.
    """
    if len(data) < _HEADER_BYTES:
        raise ForeignFileError(f"it has {len(data)} bytes, too few for a header")
    magic, version, _pid, raw_id, _created, size, _cells = _HEADER.unpack_from(data)
    (crc,) = struct.unpack_from("<I", data, _HEADER.size)
    if magic != _MAGIC:
        raise ForeignFileError("it was not written by meterkit")
    if version != _VERSION:
        raise ForeignFileError(f"it has format version {version}; this meterkit reads version {_VERSION}")
    if crc != zlib.crc32(data[: _HEADER.size]):
        raise ForeignFileError("its header is damaged")
    if size % 8:
        raise ForeignFileError("its size is not a whole number of words")
    return bytes(raw_id).hex()


def owner(data: bytes) -> int:
    """Return the pid of the process that created the generation."""
    return int(_HEADER.unpack_from(data)[2])


def read(data: bytes) -> list[Counted]:
    """
    Return the counts in a generation, to which its owner may still be writing.

    Raises:
        ForeignFileError: *data* is not a generation, or is torn.
    """
    generation_id(data)
    return list(records(data))


def records(data: bytes) -> Iterator[Counted]:
    """
    Yield the counts in *data*, whose header is valid.

    Raises:
        ForeignFileError: *data* is torn after the last count that was yielded.
    """
    declared, cells = _HEADER.unpack_from(data)[5:]
    whole = memoryview(data)[: len(data) // 8 * 8]
    words, seconds = whole.cast("Q"), whole.cast("d")
    places: dict[int, MeterWindow] = {}
    at, key_at = FIRST_CELL, keys_at(cells)
    while key_at < len(words) and words[key_at]:
        found, key_at = _key(data, words[key_at], key_at)
        if len(found) == _PLACE_FIELDS:
            number, meter, event_name, window = found
            places[number] = (meter, event_name, window)
            continue
        if words[at]:
            number, company, *user = found
            place, last = places[number], seconds[at + 1]
            # A count is kept even if its time is damaged: its window is known.
            when = int(last) if 0 <= last <= _LATEST else place[2]
            yield usage_key_of(place, (company, *user) if user else company), words[at], when
        at += CELL_WORDS
    if len(data) < declared:
        raise ForeignFileError(f"it was truncated from {declared} to {len(data)} bytes")
    if places and any(words[at : keys_at(cells)]):  # a power failure before everything was on the disk
        raise ForeignFileError("it has counts whose keys are missing")


_PLACE_FIELDS = 4

_LATEST = 2**53  # above this, a float cannot represent every second


def _key(data: bytes, mark: int, at: int) -> tuple[list[Any], int]:
    """Return the key at the word *at*, whose first word is *mark*, and the position of the next key."""
    crc, length = mark >> 32, mark & 0xFFFFFFFF
    start = (at + 1) * 8
    key = data[start : start + length]
    if len(key) != length or zlib.crc32(key) != crc:
        raise ForeignFileError(f"the key at byte {at * 8} is damaged")
    return json.loads(key), at + 1 + -(-length // 8)


def room_for_cells(size: int) -> int:
    """Return for how many cells a generation of *size* bytes has room."""
    return (size - _HEADER_BYTES) // (8 * CELL_WORDS + _KEY_BYTES)


def keys_at(cells: int) -> int:
    """Return the position, in words, of the first key in a generation with room for *cells* cells."""
    return FIRST_CELL + CELL_WORDS * cells


def clear(fd: int) -> None:
    """Empty the generation in *fd*, in case the file cannot be removed, or is restored."""
    cells = int(_HEADER.unpack(os.pread(fd, _HEADER.size, 0))[6])
    os.pwrite(fd, bytes(8), 8 * keys_at(cells))


def header(generation_id: bytes, size: int) -> bytes:
    """Return the header of a new generation of *size* bytes that belongs to this process."""
    head = _HEADER.pack(_MAGIC, _VERSION, os.getpid(), generation_id, int(time.time()), size, room_for_cells(size))
    return head + struct.pack("<I", zlib.crc32(head))


def by_meter(cells: Iterable[Counted]) -> dict[str, int]:
    """Return the total of *cells* by meter, without observations."""
    totals: dict[str, int] = {}
    for (meter, _, _, user, _), quantity, _last in cells:
        if not is_observation(user):  # how much those add is not known yet
            totals[meter] = totals.get(meter, 0) + quantity
    return totals
