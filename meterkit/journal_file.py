"""
Aggregate: the file of a generation, byte by byte.

It is a header and then records, each on an 8-byte boundary::

    header   magic 8 | version u32 | pid u32 | id 16 | created u64 | size u64 | crc32 of these u32 | zeros to 64
    record   crc32 << 32 | key length  u64      stored last: a record without it is not there yet
             quantity                  u64
             last used, unix seconds   u64
             key, padded to 8                   the cell, as canonical JSON
"""

from __future__ import annotations

import json
import os
import struct
import time
import zlib
from collections.abc import Iterator
from typing import TypeAlias

from meterkit.peak import is_sighting
from meterkit.sink import Cell

_MAGIC = b"meterkit"
_VERSION = 1
_HEADER = struct.Struct("<8sII16sQQ")
HEADER_BYTES = 64
ID_BYTES = 16
RECORD_WORDS = 3

Counted: TypeAlias = "tuple[Cell, int, int]"
"""A cell, its quantity, and the unix second of its last usage."""


class ForeignFileError(Exception):
    """The file is not a generation that this version of meterkit can read."""


def generation_id(data: bytes) -> str:
    """
    The id in a generation's header.

    Raises:
        ForeignFileError: *data* is not a generation of this version.
    """
    if len(data) < HEADER_BYTES:
        raise ForeignFileError(f"it has {len(data)} bytes, too few for a header")
    magic, version, _pid, raw_id, _created, size = _HEADER.unpack_from(data)
    (crc,) = struct.unpack_from("<I", data, _HEADER.size)
    if magic != _MAGIC:
        raise ForeignFileError("it was not written by meterkit")
    if version != _VERSION:
        raise ForeignFileError(f"it has format version {version}, and this meterkit reads {_VERSION}")
    if crc != zlib.crc32(data[: _HEADER.size]):
        raise ForeignFileError("its header is damaged")
    if size % 8:
        raise ForeignFileError("its size is not a whole number of words")
    return bytes(raw_id).hex()


def owner(data: bytes) -> int:
    """The pid of the process that made the generation."""
    return int(_HEADER.unpack_from(data)[2])


def read(data: bytes) -> list[Counted]:
    """
    What a generation holds, which its owner may still be writing.

    Raises:
        ForeignFileError: *data* is not a generation, or torn.
    """
    generation_id(data)
    return list(records(data))


def records(data: bytes) -> Iterator[Counted]:
    """
    The cells in *data*, whose header is sound, one by one.

    Raises:
        ForeignFileError: From here on it is torn.
    """
    declared = int(_HEADER.unpack_from(data)[5])
    words = memoryview(data)[: len(data) // 8 * 8].cast("Q")
    at = HEADER_BYTES // 8
    while at < len(words) and words[at]:
        crc, length = words[at] >> 32, words[at] & 0xFFFFFFFF
        start = (at + RECORD_WORDS) * 8
        key = data[start : start + length]
        if len(key) != length or zlib.crc32(key) != crc:
            raise ForeignFileError(f"the record at byte {at * 8} is damaged")
        meter, event_name, company, user, window = json.loads(key)
        yield (meter, event_name, company, user, window), words[at + 1], words[at + 2]
        at += RECORD_WORDS + -(-length // 8)
    if len(data) < declared:
        raise ForeignFileError(f"it was cut from {declared} to {len(data)} bytes")


def header(generation_id: bytes, size: int) -> bytes:
    """The first bytes of a new one, which belongs to this process."""
    head = _HEADER.pack(_MAGIC, _VERSION, os.getpid(), generation_id, int(time.time()), size)
    return head + struct.pack("<I", zlib.crc32(head))


def by_meter(cells: list[Counted]) -> dict[str, int]:
    """What *cells* come to, by meter."""
    totals: dict[str, int] = {}
    for (meter, _, _, user, _), quantity, _last in cells:
        if not is_sighting(user):  # it is not known yet what that adds
            totals[meter] = totals.get(meter, 0) + quantity
    return totals
