"""
Format of a message: one generation of a journal.

A header, and then JSON, compressed by zlib::

    header   magic 4 | version u8 | zeros 3 | id 16 | begun, Unix seconds f64 | crc32 of all else u32 | length u32
    JSON     {"live": true, false or null, "account": "acct_..." or null,
              "places": [[meter, event name, window], ...],
              "cells": [[number of the place, company, user, quantity, Unix second of the last usage], ...]}

``length`` is that of the JSON before compression, bytes.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from meterkit.core.usage_key import Counted, MeterWindow
from meterkit.journal.file_format import MAX_COUNT, is_sound, sound_time

_MAGIC = b"mkgn"
VERSION = 1
_HEADER = struct.Struct("<4sB3x16sdII")
_CRC_AT = 32

LARGEST_BYTES = 256 << 20
"""Largest JSON that is read, bytes: more than the largest journal file makes."""


class MessageError(Exception):
    """The message cannot be read; the text says why."""


class NewerMessageError(MessageError):
    """The message was written by a newer version of meterkit."""


@dataclass(frozen=True, slots=True)
class Sender:
    """
    Which Stripe account the usage is for: that of another account, or of test mode, belongs to another ledger.

    Attributes:
        live: Whether the Stripe key is live; None if that is not known.
        account: Connected account that the kit bills for; None for the key's own.
    """

    live: bool | None
    account: str | None

    def differs_from(self, other: Sender) -> bool:
        """Return whether *other* bills another account, as far as both are known."""
        return self.account != other.account or (None not in (self.live, other.live) and self.live != other.live)

    def __str__(self) -> str:
        mode = {None: "an unknown mode", True: "live mode", False: "test mode"}[self.live]
        return mode if self.account is None else f"{mode} of {self.account}"


@dataclass(frozen=True, slots=True)
class PublishedGeneration:
    """
    What a message contains.

    Attributes:
        id: Id of the generation.
        begun: Unix time before which nothing in it was counted; 0 if that is not known.
        cells: Its counts.
        sender: Stripe account that it is for.
    """

    id: str
    begun: float
    cells: list[Counted]
    sender: Sender

    @property
    def latest(self) -> float:
        """Unix time until which something in it was counted, as far as that is known."""
        return max([self.begun, *(last for _, _, last in self.cells)])


def encoded(generation: str, cells: Iterable[Counted], *, begun: float, sender: Sender) -> bytes:
    """Return the message for the generation with the id *generation*."""
    numbers: dict[MeterWindow, int] = {}
    rows: list[list[Any]] = []
    for (meter, event_name, company, user, window), quantity, last in cells:
        number = numbers.setdefault((meter, event_name, window), len(numbers))
        rows.append([number, company, user, quantity, last])
    content = {"live": sender.live, "account": sender.account, "places": list(numbers), "cells": rows}
    data = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    body = zlib.compress(data, 1)
    head = _HEADER.pack(_MAGIC, VERSION, bytes.fromhex(generation), begun, 0, len(data))
    return _HEADER.pack(_MAGIC, VERSION, bytes.fromhex(generation), begun, _crc(head, body), len(data)) + body


def decoded(message: bytes) -> PublishedGeneration:
    """
    Return what is in *message*.

    Raises:
        NewerMessageError: A newer version wrote it.
        MessageError: It is damaged, or something else.
    """
    if len(message) < _HEADER.size or message[:4] != _MAGIC:
        raise MessageError("it was not published by meterkit")
    _, version, raw_id, begun, crc, length = _HEADER.unpack_from(message)
    if version > VERSION:
        raise NewerMessageError(f"it has format version {version}; this meterkit reads version {VERSION}")
    head, body = message[: _HEADER.size], message[_HEADER.size :]
    if version < 1 or crc != _crc(head, body) or length > LARGEST_BYTES or not math.isfinite(begun):
        raise MessageError("it is damaged")
    try:
        unpacked = zlib.decompressobj()
        content = json.loads(unpacked.decompress(body, length))
        sender = Sender(content["live"], content["account"])
        places = [tuple(each) for each in content["places"]]
        cells = [_cell(places, row) for row in content["cells"]]
    except (ValueError, KeyError, TypeError, IndexError, RecursionError, zlib.error) as error:
        raise MessageError(f"it is damaged: {type(error).__name__}") from None
    return PublishedGeneration(bytes(raw_id).hex(), max(begun, 0.0), cells, sender)


def _cell(places: list[Any], row: list[Any]) -> Counted:
    number, company, user, quantity, last = row
    meter, event_name, window = places[number]
    subject = (company, user) if user else (company,)
    if not is_sound([number, meter, event_name, window], ()) or not is_sound([number, *subject], (number,)):
        raise ValueError("a key is damaged")
    if type(quantity) is not int or not 0 < quantity <= MAX_COUNT or not sound_time(last):
        raise ValueError("a count is damaged")
    return (meter, event_name, company, user, window), quantity, last


def _crc(head: bytes, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(head[:_CRC_AT] + bytes(4) + head[_CRC_AT + 4 :]))
