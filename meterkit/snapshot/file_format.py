"""
Binary format of a snapshot file: a hash table from a company to its record, in words of eight bytes.

A header, the ids of the generations that were folded last, the slots of the hash table, and then records and details::

    header   magic | version | fingerprint 2 | size, words | slots | values of a record | crc32 of these
             state | published, Unix seconds f64 | edges | number of generations folded
             number of rounds begun | number of rounds done
    slot     upper half of the company's hash << 32 | position of its record; 0 if empty
    record   flags << 48 | plan << 32 | position of its detail, or 0
             crc32 << 32 | length of the company
             values
             company, padded
    detail   crc32 << 32 | length
             JSON: an object, and those of the values that are not words by themselves; padded

Whatever changes is one aligned word, so a reader sees it before or after the change, and so does whoever comes after a
kill. A detail is never changed: another one is appended, and the record's first word then points to it. Records are
never moved. When there is no room left, another file takes the place of this one, whose state says so.
"""

from __future__ import annotations

import json
import struct
import sys
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

VERSION = 1

MAGIC = int.from_bytes(b"mkitsnap", sys.byteorder)

FINGERPRINT, SIZE, SLOTS, VALUES, HEADER_CRC = 2, 4, 5, 6, 7
"""Positions in the header of what never changes."""

STATE, PUBLISHED, EDGES, FOLDED, BEGUN, DONE = 8, 9, 10, 11, 12, 13
"""Positions in the header of what changes."""

SUPERSEDED = 2**64 - 1
"""State of a file that another one takes the place of. Any other state is a number that a new record increases."""

RING = 16
"""Position of the ids of the generations folded last, two words each; the nth is at ``n % RING_IDS``."""

RING_IDS = 1024

FIRST_SLOT = RING + 2 * RING_IDS

RECORD_WORDS = 2
"""Words of a record before its values."""

LARGEST = 2**63 - 1
"""Largest value that is a word by itself."""

NONE = 2**64 - 1
"""Word of a value that there is not."""

IN_DETAIL = 2**64 - 2
"""Word of a value that stands in the detail, because it is negative or larger than `LARGEST`."""

NOWHERE = 0
"""Position of a detail that there is not."""

KNOWN, OVERDUE, BLOCKED, WARNED = 1, 2, 4, 8
"""Flags of a company: its standing, whether its detail has a block, and whether that is only a warning."""

FLAGS_AT = 48
"""Bit of a record's first word at which its flags begin."""

OTHER_PLAN = 0xFFFF
"""Number of a plan that is not in the code; 0 is that of no plan, and 1 that of the first in the code."""

MASK = 2**32 - 1
"""The lower half of a word."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def fingerprint_of(*about: object) -> bytes:
    """
    Return what only a file with the same meaning has in its header.

    Args:
        about: What the figures follow from: texts, numbers, None, and lists and tuples of them.
    """
    try:
        boot = _BOOT_ID.read_text()  # a power cut may leave a file of which only a part was written
    except OSError:  # not Linux
        boot = ""
    return blake2b(json.dumps([boot, *about]).encode(), digest_size=16).digest()


def hash_of(company: str) -> int:
    """Return the hash of *company*, which is the same in every process."""
    return int.from_bytes(blake2b(encoded(company), digest_size=8).digest(), "little")


def encoded(company: str) -> bytes:
    """Return the bytes of *company* in a record."""
    return company.encode(errors="surrogatepass")


def words_of(length: int) -> int:
    """Return how many words *length* bytes take."""
    return (length + 7) // 8


def mark_of(data: bytes) -> int:
    """Return the word that stands before *data*."""
    return crc32(data) << 32 | len(data)


def header(fingerprint: bytes, *, size: int, slots: int, values: int) -> bytes:
    """Return the part of a header that never changes; sizes are in words."""
    head = struct.pack("=QQ16sQQQ", MAGIC, VERSION, fingerprint, size, slots, values)
    return head + struct.pack("=Q", crc32(head))


def shape_of(words: memoryview, fingerprint: bytes) -> tuple[int, int] | None:
    """Return the numbers of slots and values of a file; None if it is not one that can be read here."""
    if len(words) < FIRST_SLOT:
        return None
    slots, values = words[SLOTS], words[VALUES]
    if words[: HEADER_CRC + 1].tobytes() != header(fingerprint, size=len(words), slots=slots, values=values):
        return None
    return slots, values


def bytes_at(words: memoryview, at: int) -> bytes:
    """
    Return the bytes of the detail at *at*.

    Raises:
        ValueError: They are not all there.
    """
    mark = words[at]
    length = mark & MASK
    data = words[at + 1 : at + 1 + words_of(length)].tobytes()[:length]
    if mark_of(data) != mark:
        raise ValueError("a detail of the snapshot is damaged")
    return data


def find(words: memoryview, slots: int, values: int, company: str) -> tuple[int, int]:
    """Return the position of the record of *company*, or 0, and that of its slot, or of the one that it would get."""
    key = encoded(company)
    number, mark = hash_of(company), mark_of(key)
    tag, mask = number >> 32, slots - 1
    for step in range(slots):
        at = FIRST_SLOT + ((number + step) & mask)
        slot = words[at]
        if not slot:
            return 0, at
        record = slot & MASK
        if slot >> 32 == tag and words[record + 1] == mark:
            begin = record + RECORD_WORDS + values
            if words[begin : begin + words_of(len(key))].tobytes()[: len(key)] == key:
                return record, at
    return 0, 0  # never in a file that was written as a whole: half of the slots are empty


class Record(NamedTuple):
    """
    What a snapshot says of one company.

    Attributes:
        flags: Its flags.
        plan: Number of its plan.
        values: Its values.
        detail: What else there is.
    """

    flags: int
    plan: int
    values: list[int | None]
    detail: dict[str, Any]


def detail_of(words: memoryview, info: int) -> tuple[dict[str, Any], dict[str, int]]:
    """
    Return the detail that *info*, the first word of a record, points to, and the values in it, by number.

    Raises:
        ValueError: It is damaged.
    """
    at = info & MASK
    if at == NOWHERE:
        return {}, {}
    detail, values = json.loads(bytes_at(words, at))
    return detail, values
