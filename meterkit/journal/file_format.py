"""
Binary format of a journal file.

A header, room for a fixed number of cells, and then the keys of the cells, each on an 8-byte boundary::

    header   magic 8 | version u32 | pid u32 | id 16 | created u64 | size u64 | cells u64 | crc32 of these u32
             published                 u8       1 if it may have been published to JetStream; and zeros
             begun, Unix seconds       f64      nothing in the file was counted before; 0 if that is not known
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
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from meterkit.core.threads import yielding
from meterkit.core.usage_key import KEYED, Counted, MeterWindow, is_highest, is_observation, usage_key_of
from meterkit.core.validation import MAX_ID_BYTES, MAX_QUANTITY

_MAGIC = b"meterkit"
VERSION = 4
_HEADER = struct.Struct("<8sII16sQQQ")
_HEADER_BYTES = 72
ID_BYTES = 16

BEGUN = 8
"""Position of the time before which nothing was counted, in words of eight bytes."""

_PUBLISHED = 60
"""Position, in bytes, of a mark that the generation may have been published; see `meterkit.jetstream`."""

FIRST_CELL = _HEADER_BYTES // 8
"""Position of the first cell, in words of eight bytes."""

CELL_WORDS = 2

_KEY_BYTES = 40
"""Estimated average size of a key, bytes. If keys are shorter, some room is left over."""

MAX_COUNT = 2**63 - 1
"""Largest count in a cell. A larger one has been damaged: a fuller cell is continued in the next generation."""

MAX_BYTES = 64 << 20
"""Largest file that is read, bytes: several times the size of a generation that has grown to its limit."""

_LATEST_WINDOW = 253_402_300_799  # the last second of the year 9999, which is as far as dates go

_MAX_TEXT_BYTES = MAX_ID_BYTES + 1  # of an id after the mark of an observation; names are shorter

_MAX_KEYED_BYTES = 4 * MAX_ID_BYTES + 64  # of quantity, user and key as JSON, where a quotation mark takes two


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
    magic, version, _pid, raw_id, _created, size, cells = _HEADER.unpack_from(data)
    (crc,) = struct.unpack_from("<I", data, _HEADER.size)
    if magic != _MAGIC:
        raise ForeignFileError("it was not written by meterkit")
    if version != VERSION:
        raise ForeignFileError(f"it has format version {version}; this meterkit reads version {VERSION}")
    if crc != zlib.crc32(data[: _HEADER.size]):
        raise ForeignFileError("its header is damaged")
    if size % 8:
        raise ForeignFileError("its size is not a whole number of words")
    if 8 * keys_at(cells) > size:
        raise ForeignFileError(f"its header is damaged: there is no room for {cells} cells in {size} bytes")
    return bytes(raw_id).hex()


def owner(data: bytes) -> int:
    """Return the pid of the process that created the generation."""
    return int(_HEADER.unpack_from(data)[2])


def begun(data: bytes) -> float:
    """Return the Unix time before which nothing in the generation *data* was counted; 0 if that is not known."""
    (found,) = struct.unpack_from("<d", data, 8 * BEGUN)
    return float(found) if 0 < found <= _LATEST else 0.0


def was_published(data: bytes) -> bool:
    """Return whether the generation *data* may have been published, so that a collector may fold it at any time."""
    return data[_PUBLISHED] != 0


def mark_published(fd: int) -> None:
    """
    Note in the generation in *fd* that it may have been published.

    Raises:
        OSError: The file cannot be written.
    """
    os.pwrite(fd, b"\1", _PUBLISHED)


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

    A damaged count is left out. After a damaged key, no count is certain.

    Raises:
        ForeignFileError: *data* is damaged. All counts that can be read have been yielded.
    """
    declared, cells = _HEADER.unpack_from(data)[5:]
    whole = memoryview(data)[: len(data) // 8 * 8]
    words, seconds = whole.cast("Q"), whole.cast("d")
    places: dict[int, MeterWindow] = {}
    at, damage = FIRST_CELL, ""
    for key_at, text in yielding(_keys(data, words, keys_at(cells))):
        if text.endswith(_CELLS_END) and not words[at]:  # most of them: the keys of the generation before are copied
            at += CELL_WORDS
            continue
        key = _decoded(text, key_at)
        if not is_sound(key, places):
            raise _damaged_key(key_at)
        if len(key) == _PLACE_FIELDS:
            number, meter, event_name, window = key
            places[number] = (meter, event_name, window)
            continue
        number, company, *user = key
        if words[at] > MAX_COUNT:
            damage = damage or f"the count at byte {at * 8} is damaged"
        elif words[at]:
            place, last = places[number], seconds[at + 1]
            # A count is kept even if its time is damaged: its window is known.
            when = int(last) if 0 <= last <= _LATEST else place[2]
            yield usage_key_of(place, (company, *user) if user else company), words[at], when
        at += CELL_WORDS
    if damage:
        raise ForeignFileError(damage)
    if len(data) < declared:
        raise ForeignFileError(f"it was truncated from {declared} to {len(data)} bytes")
    if places and any(words[at : keys_at(cells)]):  # a power failure before everything was on the disk
        raise ForeignFileError("it has counts whose keys are missing")


_PLACE_FIELDS = 4

_LATEST = 2**53  # above this, a float cannot represent every second

_HIGHEST_LENGTH = 1 + len(str(MAX_QUANTITY))


_CELLS_END = b'"]'
"""End of the key of a cell, which is a string's; that of a place ends in a number."""


def _keys(data: bytes, words: memoryview, at: int) -> Iterator[tuple[int, bytes]]:
    """Yield the position, in words, and the text of each key, beginning with the one at the word *at*."""
    while at < len(words) and words[at]:
        crc, length = words[at] >> 32, words[at] & 0xFFFFFFFF
        start = (at + 1) * 8
        key = data[start : start + length]
        if len(key) != length or zlib.crc32(key) != crc:
            raise _damaged_key(at)
        yield at, key
        at += 1 - (-length // 8)


def _decoded(key: bytes, at: int) -> list[Any]:
    """Return the fields of *key*, which is at the word *at*."""
    try:
        found = json.loads(key)
    except (ValueError, RecursionError):
        raise _damaged_key(at) from None
    if type(found) is not list:
        raise _damaged_key(at)
    return found


def is_sound(key: list[Any], places: Collection[int]) -> bool:
    """Return whether *key* has fields that `Generation` writes; *places* are the numbers of those before it."""
    if len(key) == _PLACE_FIELDS:
        number, meter, event_name, window = key
        return _is_number(number) and _is_text(meter, event_name) and _is_number(window, _LATEST_WINDOW)
    if not 2 <= len(key) < _PLACE_FIELDS:
        return False
    number, *subject = key
    if not _is_number(number) or number not in places or not _is_text(*subject):
        return False
    value = subject[-1]
    return not is_highest(value) or (len(value) <= _HIGHEST_LENGTH and int(value[1:]) <= MAX_QUANTITY)


def sound_time(value: object) -> bool:
    """Return whether *value* is a time of the last usage that can be written, Unix seconds."""
    return _is_number(value, _LATEST)


def _is_number(value: object, most: int = 2**32) -> bool:
    return type(value) is int and 0 <= value <= most


def _is_text(*values: object) -> bool:
    """Return whether all *values* are texts that either database can store."""
    for value in values:
        if type(value) is not str or "\0" in value:
            return False
        try:
            if len(value.encode()) > (_MAX_KEYED_BYTES if value[:1] == KEYED else _MAX_TEXT_BYTES):
                return False
        except UnicodeEncodeError:  # half of a surrogate pair
            return False
    return True


def _damaged_key(at: int) -> ForeignFileError:
    return ForeignFileError(f"the key at byte {at * 8} is damaged")


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


def is_cleared(fd: int) -> bool:
    """Return whether the generation in *fd* was emptied with `clear`, or has never had a key."""
    head = os.pread(fd, _HEADER.size, 0)
    return len(head) == _HEADER.size and os.pread(fd, 8, 8 * keys_at(_HEADER.unpack(head)[6])) == bytes(8)


def header(generation_id: bytes, size: int) -> bytes:
    """Return the header of a new generation of *size* bytes that belongs to this process."""
    head = _HEADER.pack(_MAGIC, VERSION, os.getpid(), generation_id, int(time.time()), size, room_for_cells(size))
    return head + struct.pack("<I", zlib.crc32(head))


def intact(cells: Iterable[Counted]) -> Iterator[Counted]:
    """
    Yield *cells* of a generation in use, whose memory may have been damaged.

    Raises:
        ForeignFileError: A count is larger than any that is written.
    """
    for each in cells:
        if each[1] > MAX_COUNT:
            raise ForeignFileError("a count is damaged")
        yield each


def by_meter(cells: Iterable[Counted]) -> dict[str, int]:
    """Return the total of *cells* by meter, without observations."""
    totals: dict[str, int] = {}
    for (meter, _, _, user, _), quantity, _last in cells:
        if not is_observation(user):  # how much those add is not known yet
            totals[meter] = totals.get(meter, 0) + quantity
    return totals
