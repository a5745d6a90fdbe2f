"""The hash table of one snapshot file, for the process that writes it."""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from meterkit.core import threads
from meterkit.snapshot.file_format import (
    BEGUN,
    DONE,
    EDGES,
    FIRST_SLOT,
    FLAGS_AT,
    FOLDED,
    IN_DETAIL,
    LARGEST,
    MASK,
    NONE,
    NOWHERE,
    RECORD_WORDS,
    RING,
    RING_IDS,
    bytes_at,
    encoded,
    find,
    hash_of,
    header,
    mark_of,
    words_of,
)


class FullError(Exception):
    """There is no room for the record; nothing of it was written."""


class Default(NamedTuple):
    """
    What is known of companies that have no record.

    Attributes:
        plan: Number of their plan.
        values: Their values.
    """

    plan: int
    values: tuple[int | None, ...]


class Table:
    """
    A hash table in *buffer*, which is all zeros. Not safe for several threads.

    Args:
        buffer: Memory of the file.
        fingerprint: Result of `meterkit.snapshot.file_format.fingerprint_of`.
        slots: Number of slots, a power of two.
        default: What is known of companies that have no record.

    Attributes:
        words: The whole file as 64-bit integers.
        seconds: The whole file as 64-bit floats.
        records: Number of companies.
    """

    def __init__(self, buffer: mmap.mmap, fingerprint: bytes, *, slots: int, default: Default) -> None:
        self._buffer = buffer
        self._slots, self._values = slots, len(default.values)
        whole = memoryview(buffer)
        self.words, self.seconds = whole.cast("Q"), whole.cast("d")
        self.records = 0
        head = header(fingerprint, size=len(self.words), slots=slots, values=self._values)
        self._buffer[: len(head)] = head
        self._tip = FIRST_SLOT + slots
        record = self._append_record(b"")  # the first one: that of companies without one
        self.words[record] = default.plan << 32
        self._set_values(record, [word_of(number) for number in default.values])

    def put(
        self, company: str, *, flags: int, plan: int, values: list[int | None], detail: Mapping[str, Any] | None
    ) -> bool:
        """
        Write all figures of *company*; return whether it is new.

        Raises:
            FullError: There is no room.
        """
        words = [word_of(number) for number in values]
        large = {str(at): number for at, number in enumerate(values) if words[at] == IN_DETAIL}
        text = json.dumps([detail or {}, large], separators=(",", ":")).encode() if detail or large else b""
        key = encoded(company)
        self._check_room(RECORD_WORDS + self._values + words_of(len(key)) + 1 + words_of(len(text)))
        record, slot = find(self.words, self._slots, self._values, company)
        made = record or self._append_record(key)
        info = flags << FLAGS_AT | plan << 32 | self._place_of(self.words[made] & MASK, text)
        if self.words[made] != info:
            threads.barrier()  # what it points to is there before it points to it
            self.words[made] = info
        self._set_values(made, words)
        if not record:
            self._enter(slot, company, made)
        return not record

    def put_edges(self, edges: Mapping[str, list[int]]) -> None:
        """
        Write the boundaries of the current and the next hours.

        Raises:
            FullError: There is no room.
        """
        text = json.dumps(edges, separators=(",", ":"), sort_keys=True).encode() if edges else b""
        self._check_room(1 + words_of(len(text)))
        at = self._place_of(self.words[EDGES], text)
        if at != self.words[EDGES]:
            threads.barrier()
            self.words[EDGES] = at

    def put_folded(self, generation: str) -> None:
        """Note that the figures contain what was counted in *generation*."""
        at = RING + 2 * (self.words[FOLDED] % RING_IDS)
        self.words[at], self.words[at + 1] = int(generation[:16], 16), int(generation[16:], 16)
        threads.barrier()
        self.words[FOLDED] += 1

    def take_over(self, other: Table) -> None:
        """Copy all that is in *other*, in which nothing must change meanwhile; there is room."""
        for record, key, text in threads.yielding(other.live()):
            company = key.decode(errors="surrogatepass")
            made = self._append_record(key)
            begin, end = RECORD_WORDS, RECORD_WORDS + self._values
            self.words[made + begin : made + end] = other.words[record + begin : record + end]
            self.words[made] = other.words[record] >> 32 << 32 | self._append(text)
            self._enter(find(self.words, self._slots, self._values, company)[1], company, made)
        self.words[RING:FIRST_SLOT] = other.words[RING:FIRST_SLOT]
        for at in (FOLDED, BEGUN, DONE):
            self.words[at] = other.words[at]
        if other.words[EDGES]:
            self.words[EDGES] = self._append(bytes_at(other.words, other.words[EDGES]))

    def live(self) -> Iterator[tuple[int, bytes, bytes]]:
        """Yield the position of each record, its company, and its detail or nothing."""
        for slot in range(FIRST_SLOT, FIRST_SLOT + self._slots):
            record = self.words[slot] & MASK
            if record:
                begin = record + RECORD_WORDS + self._values
                length = self.words[record + 1] & MASK
                key = self.words[begin : begin + words_of(length)].tobytes()[:length]
                detail = self.words[record] & MASK
                yield record, key, bytes_at(self.words, detail) if detail else b""

    def words_in_use(self) -> int:
        """Return how many words the records, details and boundaries take that are in use."""
        used = 2 + words_of(self.words[self.words[EDGES]] & MASK) if self.words[EDGES] else 0
        per_record = RECORD_WORDS + self._values + 1
        for _, key, text in threads.yielding(self.live()):
            used += per_record + words_of(len(key)) + words_of(len(text))
        return used

    def _check_room(self, words: int) -> None:
        if self._tip + words > len(self.words) or 2 * (self.records + 1) > self._slots:
            raise FullError

    def _enter(self, slot: int, company: str, record: int) -> None:
        threads.barrier()
        self.words[slot] = hash_of(company) >> 32 << 32 | record
        self.records += 1

    def _append_record(self, key: bytes) -> int:
        record = self._tip
        self._tip += RECORD_WORDS + self._values + words_of(len(key))
        self.words[record], self.words[record + 1] = NOWHERE, mark_of(key)
        self._write(record + RECORD_WORDS + self._values, key)
        return record

    def _set_values(self, record: int, words: list[int]) -> None:
        for at, word in enumerate(words, record + RECORD_WORDS):
            if self.words[at] != word:
                self.words[at] = word

    def _place_of(self, known: int, text: bytes) -> int:
        """Return the position of *text*, which is appended unless it stands at *known* already."""
        if known and self.words[known] == mark_of(text) and bytes_at(self.words, known) == text:
            return known
        return self._append(text)

    def _append(self, text: bytes) -> int:
        if not text:
            return NOWHERE
        at = self._tip
        self._tip += 1 + words_of(len(text))
        self._write(at + 1, text)
        self.words[at] = mark_of(text)
        return at

    def _write(self, at: int, data: bytes) -> None:
        self._buffer[8 * at : 8 * at + len(data)] = data


def word_of(number: int | None) -> int:
    """Return the word of a value."""
    if number is None:
        return NONE
    return number if 0 <= number <= LARGEST else IN_DETAIL
