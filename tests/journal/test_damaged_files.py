"""Files in the journal's directory that nobody could have written: each is set aside, and holds up nothing else."""

from __future__ import annotations

import json
import os
import socket
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_exchange import PlainExchange
from thorough import IS_THOROUGH, first

from meterkit import Governance, Meter, Quota
from meterkit.journal import file_format, recovery
from meterkit.journal.file_format import FIRST_CELL, ForeignFileError, keys_at, room_for_cells
from meterkit.journal.generation import Generation

WINDOW = 1_772_366_400  # 12:00 on 1 March 2026
SIZE = 8192
PLACE = f'[0,"calls","calls",{WINDOW}]'.encode()
ACME = b'[0,"acme"]'
HUGE = b'[0,"calls","calls",' + str(2**70).encode() + b"]"


def journal_of(*keys, counts=(5,), size=SIZE, header=None):
    """The bytes of a generation with these keys, each with a sound checksum, and these counts."""
    data = bytearray(size)
    head = header or file_format.header(os.urandom(16), size)
    data[: len(head)] = head
    for number, count in enumerate(counts):
        struct.pack_into("<Qd", data, 8 * (FIRST_CELL + 2 * number), count, WINDOW + 5)
    at = keys_at(room_for_cells(size))
    for key in keys:
        padded = key + bytes(-len(key) % 8)
        struct.pack_into("<Q", data, 8 * at, zlib.crc32(key) << 32 | len(key))
        data[8 * at + 8 : 8 * at + 8 + len(padded)] = padded
        at += 1 + len(padded) // 8
    return bytes(data)


def header_of(*, magic=b"meterkit", version=4, size=SIZE, cells=None):
    """A header with a sound checksum."""
    room = room_for_cells(SIZE) if cells is None else cells
    head = struct.pack("<8sII16sQQQ", magic, version, 1, os.urandom(16), WINDOW, size, room)
    return head + struct.pack("<I", zlib.crc32(head))


CONTENTS = {
    "empty": b"",
    "half-a-header": file_format.header(bytes(16), SIZE)[:40],
    "noise": b"\xff" * SIZE,
    "zeros": bytes(SIZE),
    "magic": journal_of(PLACE, ACME, header=header_of(magic=b"metrekit")),
    "version": journal_of(PLACE, ACME, header=header_of(version=99)),
    "checksum-of-the-header": journal_of(PLACE, ACME, header=file_format.header(bytes(16), SIZE)[:-1] + b"\0\0"),
    "size-of-no-words": journal_of(PLACE, ACME, header=header_of(size=SIZE + 1)),
    "size-of-2^63": journal_of(PLACE, ACME, header=header_of(size=2**63)),
    "cells-of-2^64": journal_of(PLACE, ACME, header=header_of(cells=2**64 - 1)),
    "cells-beyond-the-end": journal_of(PLACE, ACME, header=header_of(cells=SIZE)),
    "cut-in-a-key": journal_of(PLACE, ACME)[: 8 * keys_at(room_for_cells(SIZE)) + 20],
    "cut-after-the-keys": journal_of(PLACE, ACME)[:-8],
    "cut-in-a-word": journal_of(PLACE, ACME)[:-3],
    "key-with-a-flipped-bit": journal_of(PLACE, ACME).replace(b"acme", b"acmd"),
    "key-of-no-json": journal_of(PLACE, b"acme"),
    "key-of-no-utf-8": journal_of(PLACE, b'[0,"\xff"]'),
    "key-that-is-an-object": journal_of(PLACE, b'{"0":"acme"}'),
    "key-that-is-a-number": journal_of(PLACE, b"7"),
    "key-that-is-nested": journal_of(PLACE, b'[0,["acme"]]'),
    "key-that-is-nested-deeply": journal_of(PLACE, b"[" * 3000 + b"]" * 3000, size=1 << 16),
    "key-without-fields": journal_of(PLACE, b"[]"),
    "key-of-one-field": journal_of(PLACE, b"[0]"),
    "key-of-five-fields": journal_of(PLACE, b'[0,"a","b","c","d"]'),
    "key-of-an-unknown-place": journal_of(PLACE, b'[7,"acme"]'),
    "key-before-its-place": journal_of(ACME, PLACE),
    "place-that-is-a-text": journal_of(PLACE, b'["0","acme"]'),
    "place-that-is-true": journal_of(b'[1,"calls","calls",0]', b'[true,"acme"]'),
    "place-that-is-a-fraction": journal_of(PLACE, b'[0.0,"acme"]'),
    "company-that-is-null": journal_of(PLACE, b"[0,null]"),
    "company-that-is-a-number": journal_of(PLACE, b"[0,7]"),
    "company-that-is-half-a-pair": journal_of(PLACE, b'[0,"\\ud800"]'),
    "company-with-a-null-byte": journal_of(PLACE, b'[0,"a\\u0000b"]'),
    "company-of-40-KB": journal_of(PLACE, json.dumps([0, "a" * 40_000]).encode(), size=1 << 16),
    "user-that-is-a-list": journal_of(PLACE, b'[0,"acme",[]]'),
    "highest-of-many-digits": journal_of(PLACE, json.dumps([0, "acme", "\x02" + "9" * 5000]).encode(), size=1 << 16),
    "meter-that-is-a-number": journal_of(b'[0,7,"calls",0]', ACME),
    "event-name-with-a-null-byte": journal_of(b'[0,"calls","\\u0000",0]', ACME),
    "window-that-is-a-text": journal_of(b'[0,"calls","calls","0"]', ACME),
    "window-that-is-negative": journal_of(b'[0,"calls","calls",-3600]', ACME),
    "window-that-is-infinite": journal_of(b'[0,"calls","calls",Infinity]', ACME),
    "window-of-2^70": journal_of(HUGE, ACME),
    "window-of-the-year-10000": journal_of(b'[0,"calls","calls",253402300800]', ACME),
    "count-of-2^63": journal_of(PLACE, ACME, counts=[2**63]),
    "count-of-2^64-1": journal_of(PLACE, ACME, counts=[2**64 - 1]),
    "counts-without-keys": journal_of(PLACE, counts=[5]),
}

USUAL = (
    "noise",
    "cells-of-2^64",
    "cut-in-a-word",
    "key-of-no-json",
    "key-that-is-nested-deeply",
    "key-of-an-unknown-place",
    "company-that-is-half-a-pair",
    "highest-of-many-digits",
    "window-of-2^70",
    "count-of-2^63",
    "pipe",
    "directory",
    "link-to-another-journal",
)

READ_BEFORE_THE_DAMAGE = ("size-of-2^63", "cut-after-the-keys", "cut-in-a-word")

OTHERS = {
    "pipe": lambda path, _: os.mkfifo(path),
    "directory": lambda path, _: path.mkdir(),
    "link-to-another-journal": lambda path, elsewhere: path.symlink_to(elsewhere),
    "link-to-nothing": lambda path, _: path.symlink_to(path.with_name("nothing")),
    "socket": lambda path, _: _bind(path),
    "a-terabyte": lambda path, _: _stretch(path),
}


def _bind(path):
    here = os.open(path.parent, os.O_RDONLY)  # the name of a socket has at most 108 bytes
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(f"/proc/self/fd/{here}/{path.name}")
    os.close(here)


def _stretch(path):
    path.write_bytes(journal_of(PLACE, ACME))
    os.truncate(path, 1 << 40)


def make_file(directory, kind, tmp_path):
    """The first file in *directory* that is looked at; it is of this *kind*."""
    path = directory / "0000.journal"
    if kind in CONTENTS:
        path.write_bytes(CONTENTS[kind])
    else:
        OTHERS[kind](path, left_behind(tmp_path / "elsewhere", "victim", 7))
    return path


def whose(exchange):
    return exchange.headers.get("x-company")


def passes(kit, company):
    """Whether a request of *company* passes."""
    exchange = PlainExchange(headers={"x-company": company})
    exchange.publish(kit)
    refused = kit.governor.check(exchange)
    exchange.retract()
    return refused is None


def left_behind(directory, company, quantity):
    """What a process that was killed has left in its journal."""
    owned = Generation.create(directory)
    owned.count(("calls", "calls", company, "", WINDOW), quantity, WINDOW)
    path = owned.path
    owned.abandon()
    return path


@pytest.mark.parametrize("kind", first(USUAL, among=[*CONTENTS, *OTHERS]))
def test_a_file_that_cannot_be_read_holds_up_nothing(make_kit, tmp_path, kind):
    """It is kept under another name, which health() tells; the others are folded, and requests are checked."""
    calls = Meter("calls")
    kit = make_kit(calls, identify=whose, governance=Governance(quotas=[Quota(calls, 4)]))
    directory = tmp_path / "meterkit" / "journal"
    for company, quantity in (("globex", 3), ("initech", 4)):
        left_behind(directory, company, quantity)
    path = make_file(directory, kind, tmp_path)

    kit.flush()
    kit.record("calls", "globex", 1)
    kit.flush()
    health = kit.health()
    passed = {company: passes(kit, company) for company in ("globex", "initech", "umbrella")}

    read = {"acme": 5} if kind in READ_BEFORE_THE_DAMAGE else {}
    assert {"globex": 4, "initech": 4, **read} == {each.company: each.quantity for each in kit.usage()}
    assert not os.path.lexists(path)
    assert ["0000.journal.set-aside"] == [each.name for each in directory.glob("*.set-aside*")]
    assert [] == [each for each in health["attention"] if "could not be moved" in each]
    assert any("0000.journal" in each for each in health["attention"])
    assert {"globex": False, "initech": False, "umbrella": True} == passed
    if kind == "link-to-another-journal":
        (victim,) = (tmp_path / "elsewhere").glob("*.journal")
        assert [7] == [quantity for _, quantity, _ in file_format.read(victim.read_bytes())]


def test_a_bad_count_costs_no_other(make_kit, tmp_path):
    """Counts have no checksum; all but the damaged one are folded."""
    kit = make_kit()
    directory = tmp_path / "meterkit" / "journal"
    directory.mkdir(parents=True)
    keys = [PLACE, ACME, b'[0,"globex"]', b'[0,"initech","anna"]']
    (directory / "0000.journal").write_bytes(journal_of(*keys, counts=[5, 2**63 + 6, 7]))

    kit.flush()

    assert {("acme", None): 5, ("initech", "anna"): 7} == {
        (each.company, each.user): each.quantity for each in kit.usage()
    }
    assert "0000.journal: the count at byte 88 is damaged" in kit.health()["problems"]["journal_torn"]["message"]


def test_a_count_of_a_living_process_that_is_damaged(make_kit, tmp_path):
    """It goes the way of a dead one's file: the others are folded, and the flushes go on."""
    kit = make_kit()
    kit.record("calls", "acme", 5)
    kit.record("calls", "globex", 6)
    (path,) = [each for each in (tmp_path / "meterkit" / "journal").glob("*.journal") if b"acme" in each.read_bytes()]
    with path.open("r+b") as file:
        file.seek(8 * FIRST_CELL + 7)
        file.write(b"\x80")

    kit.flush()
    kit.record("calls", "initech", 7)
    kit.flush()

    assert {"globex": 6, "initech": 7} == {each.company: each.quantity for each in kit.usage()}
    assert path.name in kit.health()["problems"]["journal_torn"]["message"]
    assert "flush_failed" not in kit.health()["problems"]


def test_two_files_of_one_name_are_both_kept(tmp_path):
    """What has been set aside before is not overwritten."""
    path = tmp_path / "0000.journal"
    for content in ("first", "second"):
        path.write_text(content)
        recovery.set_aside(path)

    assert {"0000.journal.set-aside": "first", "0000.journal.set-aside-2": "second"} == {
        each.name: each.read_text() for each in tmp_path.iterdir()
    }


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user(make_kit, tmp_path):
    """It is set aside; that of the directory's owner is folded, when root flushes for the application's user."""
    kit = make_kit()
    directory = tmp_path / "meterkit" / "journal"
    owners = {"globex": 65534, "initech": 1000, "acme": 0}
    for company, owner in owners.items():
        os.chown(left_behind(directory, company, 3), owner, -1)
    os.chown(directory, 1000, -1)

    kit.flush()

    assert {"initech": 3, "acme": 3} == {each.company: each.quantity for each in kit.usage()}
    assert "another user, with the id 65534" in kit.health()["problems"]["journal_foreign"]["message"]


def test_what_the_ledger_cannot_store(make_kit, tmp_path, monkeypatch):
    """Should the check of a file let something through, it is set aside, too."""
    monkeypatch.setattr(file_format, "_LATEST_WINDOW", 2**80)
    kit = make_kit()
    directory = tmp_path / "meterkit" / "journal"
    left_behind(directory, "globex", 3)
    (directory / "0000.journal").write_bytes(journal_of(HUGE, ACME))

    kit.flush()

    assert {"globex": 3} == {each.company: each.quantity for each in kit.usage()}
    assert "0000.journal: the ledger cannot store" in kit.health()["problems"]["journal_refused"]["message"]


def test_what_cannot_be_renamed_or_removed(make_kit, tmp_path, monkeypatch):
    """It is named, and holds up nothing, nor is it folded twice."""

    def fail(*_arguments, **_options):
        raise PermissionError("no")

    kit = make_kit()
    directory = tmp_path / "meterkit" / "journal"
    for company in ("globex", "initech"):
        left_behind(directory, company, 3)
    (directory / "0000.journal").write_bytes(journal_of(PLACE, ACME, counts=[2**63]))
    with monkeypatch.context() as patch:
        patch.setattr(recovery.Path, "unlink", fail)
        patch.setattr(recovery.Path, "rename", fail)
        for _ in range(2):
            kit.flush()

    problems = kit.health()["problems"]
    assert {"globex": 3, "initech": 3} == {each.company: each.quantity for each in kit.usage()}
    assert "cannot be renamed" in problems["journal_torn"]["message"]
    assert "cannot be removed" in problems["journal_unreadable"]["message"]


TRIED = 3000 if IS_THOROUGH else 150
FIELD = st.one_of(st.integers(), st.text(max_size=9), st.none(), st.booleans(), st.floats(), st.just([]))
KEYS = st.lists(
    st.one_of(st.binary(max_size=20), st.lists(FIELD, max_size=5).map(lambda key: json.dumps(key).encode()))
)


@settings(max_examples=TRIED)
@given(
    keys=KEYS,
    counts=st.lists(st.integers(0, 2**64 - 1), max_size=8),
    flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=4),
    cut=st.integers(0, 200),
)
def test_whatever_a_file_holds_it_is_read_or_refused(keys, counts, flips, cut):
    """A count that is read fits into the ledger; there is no other error than that of a foreign file."""
    size = 1 << 16
    data = bytearray(journal_of(PLACE, ACME, *keys, counts=counts, size=size)[: size - cut])
    for at, value in flips:
        data[at % len(data)] = value
    found = []

    try:
        file_format.generation_id(bytes(data))
        found.extend(file_format.records(bytes(data)))
    except ForeignFileError:
        pass

    for (meter, event_name, company, user, window), quantity, last_used in found:
        assert all(type(each) is str and len(each.encode()) < 800 for each in (meter, event_name, company, user))
        assert 0 <= window < 2**38
        assert 0 < quantity < 2**63
        assert 0 <= last_used <= 2**53
