"""A generation of the journal: a file of counters that outlives its process."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meterkit.core.problems import Problems
from meterkit.journal import file_format, generation, recovery
from meterkit.journal.file_format import FIRST_CELL, ForeignFileError
from meterkit.journal.generation import FullError, Generation
from meterkit.journal.index import cell_key

CELL = ("credit_scores", "credit_scores", "acme", "", 1_700_000_000 // 3600 * 3600)
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
OTHER = ("egress", "egress_bytes", "globex", "anna", CELL[4])


def counted_in(path: Path) -> dict[generation.UsageKey, int]:
    return {cell: quantity for cell, quantity, _last in file_format.read(path.read_bytes())}


def abandoned(directory: Path, **quantities: int) -> Path:
    """A generation whose owner is gone, with *quantities* by company."""
    owned = Generation.create(directory)
    for company, quantity in quantities.items():
        owned.count((*CELL[:2], company, *CELL[3:]), quantity, CELL[4])
    assert owned.path is not None
    path = owned.path
    owned.abandon()
    return path


def test_what_is_counted_stands_in_the_file_at_once(tmp_path):
    """No flush, no close, no system call is needed for others to see a count."""
    owned = Generation.create(tmp_path)

    owned.count(CELL, 2, CELL[4] + 10)
    owned.count(CELL, 3, CELL[4] + 20)
    owned.count(OTHER, 7, CELL[4] + 30)

    assert [(CELL, 5, CELL[4] + 20), (OTHER, 7, CELL[4] + 30)] == file_format.read(owned.path.read_bytes())
    owned.discard()


def test_a_kill_takes_nothing_that_was_counted(tmp_path):
    """SIGKILL right after a count leaves the count in the file."""
    script = (
        "import os, signal, sys; from pathlib import Path; from meterkit.journal.generation import Generation\n"
        "owned = Generation.create(Path(sys.argv[1]))\n"
        "[owned.count(('m', 'm', 'acme', '', 0), 1, i) for i in range(1234)]\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )

    dead = subprocess.run([sys.executable, "-c", script, tmp_path], check=False)

    (path,) = tmp_path.iterdir()
    orphan = recovery.adopt(path)
    assert -signal.SIGKILL == dead.returncode
    assert [(("m", "m", "acme", "", 0), 1234, 1233)] == orphan.cells
    orphan.discard()


def test_the_space_is_taken_up_front(tmp_path):
    """A sparse file on a full disk would kill the process at a count."""
    owned = Generation.create(tmp_path)

    assert generation.GENERATION_BYTES <= owned.path.stat().st_blocks * 512
    owned.discard()


def test_only_the_owner_may_read_the_file(tmp_path):
    """Company ids are nobody else's business."""
    owned = Generation.create(tmp_path / "journal")

    assert 0o600 == owned.path.stat().st_mode & 0o777
    assert 0o700 == owned.path.parent.stat().st_mode & 0o777
    owned.discard()


def test_a_full_generation_says_so_and_keeps_what_it_has(tmp_path):
    """No cell is stored half; those that exist go on counting."""
    owned = Generation.create(tmp_path, 4096)
    full, stored = False, 0

    try:
        for stored in range(1000):
            owned.count(("m", "m", f"company-{stored}", "", 0), 1, 0)
    except FullError:
        full = True
    owned.count(("m", "m", "company-0", "", 0), 5, 0)

    counted = counted_in(owned.path)
    assert full
    assert stored == len(counted)
    assert 6 == counted["m", "m", "company-0", "", 0]
    owned.discard()


def test_a_cell_never_wraps_around(tmp_path):
    """What the ledger's integers cannot hold goes into the next generation."""
    owned = Generation.create(tmp_path)
    owned.count(CELL, 2**63 - 1, 0)

    with pytest.raises(FullError):
        owned.count(CELL, 1, 0)

    assert 2**63 - 1 == counted_in(owned.path)[CELL]
    owned.discard()


@settings(max_examples=30, deadline=None)
@given(
    st.dictionaries(
        st.tuples(TEXTS, TEXTS, TEXTS, TEXTS, st.integers(0, 2**37)),
        st.lists(st.integers(1, 10**15), min_size=1, max_size=5),
        max_size=20,
    )
)
def test_every_key_comes_back_as_it_was(tmp_path_factory, quantities):
    """Keys are never joined: no two of them can be taken for one, whatever stands in them."""
    owned = Generation.create(tmp_path_factory.mktemp("journal"))

    for cell, amounts in quantities.items():
        for amount in amounts:
            owned.count(cell, amount, 7)

    assert {cell: sum(amounts) for cell, amounts in quantities.items()} == counted_in(owned.path)
    owned.discard()


def test_what_is_discarded_is_empty_even_if_it_stays(tmp_path):
    """A file that cannot be removed, or comes back, is not counted again, however late."""
    owned = Generation.create(tmp_path)
    owned.count(CELL, 5, 0)
    (tmp_path / "own").hardlink_to(owned.path)
    orphan = recovery.adopt(abandoned(tmp_path, acme=7))
    (tmp_path / "orphan").hardlink_to(orphan.path)

    owned.discard()
    orphan.discard()

    assert [{}, {}] == [counted_in(tmp_path / name) for name in ("own", "orphan")]


def test_in_memory_it_counts_as_well():
    """Where no file can be had, the same code counts in memory."""
    owned = Generation.in_memory()

    owned.count(CELL, 2, 1)

    assert owned.path is None
    assert [(CELL, 2, 1)] == list(owned.cells())
    owned.discard()


def test_nobody_adopts_what_a_living_process_owns(tmp_path):
    """The lock decides, also within one process."""
    owned = Generation.create(tmp_path)

    assert recovery.adopt(owned.path) is None
    owned.discard()


def test_nobody_adopts_twice(tmp_path):
    """While one process folds a generation, no other does."""
    path = abandoned(tmp_path, acme=3)
    orphan = recovery.adopt(path)

    assert recovery.adopt(path) is None

    orphan.release()
    again = recovery.adopt(path)
    assert [3] == [quantity for _cell, quantity, _last in again.cells]
    again.discard()


def test_a_forked_child_does_not_hold_the_lock_for_its_dead_parent(tmp_path):
    """What a child inherits is dropped, so that the parent's generation can be adopted while the child lives."""
    owned = Generation.create(tmp_path)
    owned.count(CELL, 1, 0)
    child_is_ready, child_may_end = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        owned.abandon()
        os.write(child_is_ready[1], b".")
        os.read(child_may_end[0], 1)
        os._exit(0)
    os.read(child_is_ready[0], 1)
    path = owned.path
    assert recovery.adopt(path) is None, "the parent lives"

    owned.abandon()
    orphan = recovery.adopt(path)

    assert orphan is not None
    orphan.discard()
    os.write(child_may_end[1], b".")
    os.waitpid(child, 0)
    for fd in (*child_is_ready, *child_may_end):
        os.close(fd)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "too few"),
        (b"x" * 63, "too few"),
        (b"SQLite format 3\0" * 100, "not written by meterkit"),
        (b"\0" * 4096, "not written by meterkit"),
    ],
)
def test_a_foreign_file_is_told(tmp_path, content, why):
    """Nothing is guessed from a file that is not ours."""
    path = tmp_path / "foreign.journal"
    path.write_bytes(content)

    with pytest.raises(ForeignFileError, match=why):
        recovery.adopt(path)


def test_a_newer_format_is_told(tmp_path):
    """An older meterkit leaves a newer one's journal alone."""
    path = abandoned(tmp_path, acme=1)
    with path.open("r+b") as file:
        file.seek(8)
        file.write(struct.pack("<I", 99))

    with pytest.raises(ForeignFileError, match="format version 99"):
        recovery.adopt(path)


def test_a_damaged_header_is_told(tmp_path):
    """The header has a checksum of its own."""
    path = abandoned(tmp_path, acme=1)
    with path.open("r+b") as file:
        file.seek(20)
        file.write(b"\xff")

    with pytest.raises(ForeignFileError, match="header is damaged"):
        recovery.adopt(path)


def test_of_a_torn_file_the_sound_part_is_kept(tmp_path):
    """One damaged record does not take the others along, and is not guessed at."""
    path = abandoned(tmp_path, acme=1, globex=2, initech=3)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"globex", b"glob\xff\xff"))

    orphan = recovery.adopt(path)

    assert [("acme", 1)] == [(cell[2], quantity) for cell, quantity, _last in orphan.cells]
    assert "damaged" in orphan.torn
    problems = Problems()
    orphan.keep(orphan.torn, problems)
    assert [f"{path.name}.set-aside"] == [each.name for each in tmp_path.iterdir()]
    assert "access log" in problems.as_dict()["journal_torn"]["message"]


def test_a_cut_file_is_torn(tmp_path):
    """A file shorter than its header says has lost something; what stands before the cut is kept."""
    path = abandoned(tmp_path, acme=1, globex=2, initech=4)
    os.truncate(path, path.read_bytes().index(b"initech"))

    orphan = recovery.adopt(path)

    assert 3 == sum(quantity for _cell, quantity, _last in orphan.cells)
    assert "damaged" in orphan.torn
    os.truncate(path, 4096)
    assert "truncated" in recovery.Orphan(path, -1, path.read_bytes()).torn
    orphan.release()


def test_counts_whose_keys_are_missing_are_told(tmp_path):
    """After a power cut, some pages of a file may be as they were made: what cannot be counted is not passed over."""
    path = abandoned(tmp_path, acme=1, globex=2, initech=4)
    content = path.read_bytes()
    second = content.index(b'[0,"globex"]') - 8
    path.write_bytes(content[:second] + bytes(len(content) - second))

    orphan = recovery.adopt(path)

    assert [1] == [quantity for _cell, quantity, _last in orphan.cells]
    assert "keys are missing" in orphan.torn
    orphan.release()


@pytest.mark.parametrize("time", [float("nan"), float("inf"), -1.0, 1e300])
def test_a_damaged_time_costs_nobody_the_count(tmp_path, time):
    """It was some time in the window."""
    path = abandoned(tmp_path, acme=1)
    with path.open("r+b") as file:
        file.seek(8 * FIRST_CELL + 8)
        file.write(struct.pack("<d", time))

    orphan = recovery.adopt(path)

    ((cell, quantity, last),) = orphan.cells
    assert (1, cell[4], None) == (quantity, last, orphan.torn)
    orphan.release()


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, 400), flips=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4))
def test_no_damage_makes_it_fail_in_another_way(tmp_path_factory, cut, flips):
    """Whatever stands in a file, it is read, torn or foreign; never an unexpected exception."""
    path = abandoned(tmp_path_factory.mktemp("journal"), acme=1, globex=2, initech=3)
    content = bytearray(path.read_bytes()[: 4096 - cut])
    for at, value in flips:
        content[at] = value
    path.write_bytes(content)

    try:
        orphan = recovery.adopt(path)
    except ForeignFileError:
        return
    orphan.release()


def test_a_record_that_was_being_written_at_the_kill_is_not_there_yet(tmp_path):
    """A key without its first word was never counted in: the file is sound."""
    path = abandoned(tmp_path, acme=1)
    with path.open("r+b") as file:
        content = file.read()
        end = content.rindex(b"]") + 8 - (content.rindex(b"]") % 8)
        file.seek(end + 8)
        file.write(b'[0,"globex"')

    orphan = recovery.adopt(path)

    assert [1] == [quantity for _cell, quantity, _last in orphan.cells]
    assert orphan.torn is None
    orphan.discard()


def test_a_key_that_was_interrupted_is_written_over(tmp_path):
    """A signal handler may raise after a key is written, and before there is a cell for it."""
    owned = Generation.create(tmp_path)
    owned.count(CELL, 1, 0)
    owned._append(cell_key("[0,", "a much longer name than the next one's"), owned.index.tip[0])

    owned.count((*CELL[:2], "x", "", CELL[4]), 2, 0)

    assert {CELL: 1, (*CELL[:2], "x", "", CELL[4]): 2} == counted_in(owned.path)
    owned.discard()


def followed(one, size=generation.GENERATION_BYTES):
    """The generation that goes on with the layout of *one*."""
    other = Generation.create(one.path.parent, size)
    assert other.copy_keys(one)
    other.follow(one)
    return other


def test_one_that_follows_has_the_same_cells_at_zero(tmp_path):
    """What is known is found again, also in the file; what was counted before is not."""
    one = Generation.create(tmp_path)
    one.count(CELL, 5, 0)
    one.count(OTHER, 7, 0)
    other = followed(one)
    assert (True, [], {}) == (other.empty, list(other.cells()), counted_in(other.path))

    other.count(OTHER, 2, 1)
    other.count(("m", "m", "initech", "", 0), 3, 1)

    assert {CELL: 5, OTHER: 7} == counted_in(one.path) == {cell: quantity for cell, quantity, _ in one.cells()}
    assert {OTHER: 2, ("m", "m", "initech", "", 0): 3} == counted_in(other.path)
    assert [(OTHER, 2, 1), (("m", "m", "initech", "", 0), 3, 1)] == list(other.cells())
    one.discard()
    other.discard()


def test_what_comes_while_one_follows_is_there_too(tmp_path):
    """The keys are copied while requests go on, and the last of them in the end."""
    one, other = Generation.create(tmp_path), Generation.create(tmp_path)
    one.count(CELL, 1, 0)
    assert other.copy_keys(one)
    one.count(OTHER, 1, 0)
    assert other.copy_keys(one)
    one.count(("m", "m", "initech", "", 0), 1, 0)

    other.follow(one)
    other.count(("m", "m", "initech", "", 0), 4, 0)

    assert {("m", "m", "initech", "", 0): 4} == counted_in(other.path)
    one.discard()
    other.discard()


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_what_becomes_too_much_amidst_that_is_not_followed(tmp_path, kind):
    """It begins with no cells, and nothing is left in it of those that it had."""
    one = Generation.create(tmp_path)
    other = Generation.create(tmp_path, 4096) if kind == "file" else Generation.in_memory(4096)
    one.count(CELL, 1, 0)
    assert other.copy_keys(one)
    for number in range(100):
        one.count((*CELL[:2], f"company-{number}", "", 0), 1, 0)

    other.follow(one)
    other.count((*CELL[:2], "x", "", 0), 3, 0)
    found = list(other.cells()) if kind == "memory" else file_format.read(other.path.read_bytes())

    assert [((*CELL[:2], "x", "", 0), 3, 0)] == found
    one.discard()
    other.discard()


def test_a_smaller_one_is_read_while_a_larger_one_that_follows_gets_more(tmp_path):
    """They share a layout, which goes on where the first one's cells end."""
    one = Generation.create(tmp_path, 4096)
    one.watched = frozenset(["m"])
    for number in range(30):
        one.count(("m", "m", f"company-{number}", "", 0), 1, 0)
    other = followed(one, 1 << 16)
    other.watched = one.watched

    for number in range(500):
        other.count(("m", "m", f"company-{number}", "", 0), 2, 0)

    assert 30 == sum(quantity for _cell, quantity, _last in one.cells())
    assert (1, 0) == (one.used_by(("company-29", "m")), one.used_by(("company-499", "m")))
    assert (2, 2) == (other.used_by(("company-29", "m")), other.used_by(("company-499", "m")))
    assert 1000 == sum(counted_in(other.path).values())
    one.discard()
    other.discard()


@pytest.mark.parametrize("limit", [64, 4096, 400_000], ids=["of-nothing", "of-a-page", "amidst-the-keys"])
def test_a_limit_to_the_size_of_files_costs_no_key(tmp_path, limit):
    """The room has been taken before, and what may not be written, or only in part, can be stored."""
    script = (
        "import resource, sys; from pathlib import Path; from meterkit.journal.generation import Generation\n"
        "from meterkit.journal.file_format import read\n"
        "cells = [('m', 'm', f'company-{number}', '', 0) for number in range(9000)]\n"
        "one, other = (Generation.create(Path(sys.argv[1])) for _ in range(2))\n"
        "for cell in cells: one.count(cell, 1, 0)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)\n"
        "other.follow(one)\n"
        "for cell in cells: other.count(cell, 2, 0)\n"
        "assert other.index is one.index\n"
        "assert {cell: 2 for cell in cells} == {cell: n for cell, n, _ in read(other.path.read_bytes())}"
    )

    found = subprocess.run([sys.executable, "-c", script, tmp_path, str(limit)], check=False, capture_output=True)

    assert (0, b"") == (found.returncode, found.stderr)


@pytest.mark.parametrize("killed_at", [0, 1])
def test_a_kill_while_keys_are_copied_leaves_none_of_them(tmp_path, monkeypatch, killed_at):
    """The first word is written last, so a file that is adopted then is sound, and empty."""
    one, other = Generation.create(tmp_path), Generation.create(tmp_path)
    one.count(CELL, 1, 0)
    puts = []
    put = Generation._put

    def put_half(self, at, words):
        puts.append(len(words))
        written = {False: len(words), True: len(words) // 2}[len(puts) - 1 == killed_at]
        if len(puts) - 1 <= killed_at:
            put(self, at, words[:written])

    monkeypatch.setattr(Generation, "_put", put_half)
    other.copy_keys(one)
    path = other.path
    other.abandon()

    orphan = recovery.adopt(path)

    assert len(puts) > killed_at
    assert ([], None) == (orphan.cells, orphan.torn)
    orphan.discard()
    one.discard()
