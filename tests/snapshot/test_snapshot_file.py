"""The file that one process writes and all others read: what requests are checked against."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import thorough
from guard import GUARD
from hypothesis import given, settings
from hypothesis import strategies as st

from meterkit.snapshot import file_format, reader, table
from meterkit.snapshot.file_format import BLOCKED, KNOWN, OTHER_PLAN, SUPERSEDED, WARNED, fingerprint_of
from meterkit.snapshot.reader import ForeignSnapshotError, SnapshotFile, SnapshotSource
from meterkit.snapshot.table import Default
from meterkit.snapshot.writer import SnapshotWriter

OURS = fingerprint_of("the configuration")
NOTHING = Default(0, (0, None))
RECENT = 60.0
NUMBERS = st.one_of(st.none(), st.integers(), st.sampled_from([2**63 - 1, 2**63, 2**64 - 2, 2**64 - 1, 10**40]))
COMPANIES = st.text(max_size=40)


def writer(path: Path | None, *, fingerprint: bytes = OURS, default: Default = NOTHING, **about) -> SnapshotWriter:
    return SnapshotWriter(path, fingerprint, default=default, **about)


def opened(path: Path, *, fingerprint: bytes = OURS) -> SnapshotSource:
    source = SnapshotSource()
    assert source.look(path, fingerprint, within=RECENT)
    return source


def seen(file: SnapshotFile, company: str) -> tuple:
    return tuple(file.record(company))


def test_another_process_reads_what_was_published(tmp_path):
    """Flags, plan, values and details of each company, and of all that are in no record."""
    wrote = writer(tmp_path / "snapshot", default=Default(2, (0, 500)))
    wrote.put("acme", flags=KNOWN | BLOCKED, plan=1, values=[7, 100], detail={"block": {"reason": "overdue"}})
    wrote.put("globex", flags=KNOWN, plan=OTHER_PLAN, values=[8, None])
    wrote.publish(edges={"acme": (3600, 5400)})
    script = (
        "import sys; from pathlib import Path; from meterkit.snapshot.reader import SnapshotSource\n"
        "source = SnapshotSource(); source.look(Path(sys.argv[1]), bytes.fromhex(sys.argv[2]), within=60)\n"
        "file = source.current\n"
        "for each in ('acme', 'globex', 'nobody'):\n"
        "    print(*file.record(each))\n"
        "print(file.edges()); print(sorted({'sqlalchemy', 'stripe', 'httpx'} & sys.modules.keys()))"
    )

    ran = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "snapshot", OURS.hex()],
        capture_output=True,
        text=True,
        check=True,
        timeout=GUARD,
    )

    assert [
        f"{KNOWN | BLOCKED} 1 [7, 100] {{'block': {{'reason': 'overdue'}}}}",
        f"{KNOWN} {OTHER_PLAN} [8, None] {{}}",
        "0 2 [0, 500] {}",
        "{'acme': (3600, 5400)}",
        "[]",
    ] == ran.stdout.splitlines()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(COMPANIES, NUMBERS, NUMBERS), min_size=1), st.lists(COMPANIES))
def test_numbers_of_any_size_and_companies_of_any_name(puts, others):
    """A value that is no word by itself is as exact as the others; the last one counts."""
    wrote = writer(None)
    for company, used, limit in puts:
        wrote.put(company, values=[used, limit], detail={"of": len(company)} if used else None)
    wrote.publish(edges={})
    file = wrote.reader()

    expected = {company: [used, limit] for company, used, limit in puts}

    assert expected == {company: file.record(company).values for company in expected}
    assert all(file.record(each).values == [0, None] for each in others if each not in expected)


def test_a_change_is_seen_at_once_and_a_new_company_once_it_is_published(tmp_path):
    """What a reader has found before, or has not found, is not what it goes on with."""
    wrote = writer(tmp_path / "snapshot")
    wrote.put("acme", values=[1, None])
    wrote.publish(edges={})
    file = opened(tmp_path / "snapshot").current
    before = [seen(file, each) for each in ("acme", "globex")]

    wrote.put("acme", flags=WARNED, plan=3, values=[2, 5], detail={"block": {}})
    wrote.put("globex", values=[9, None])
    wrote.publish(edges={})

    assert [(0, 0, [1, None], {}), (0, 0, [0, None], {})] == before
    assert [(WARNED, 3, [2, 5], {"block": {}}), (0, 0, [9, None], {})] == [seen(file, x) for x in ("acme", "globex")]


@pytest.mark.parametrize("companies", [5_000, pytest.param(1_000_000, marks=[pytest.mark.long, pytest.mark.thorough])])
def test_growth_loses_no_company_and_readers_follow(tmp_path, companies):
    """A file without room is replaced by a larger one, in which everything stands."""
    wrote = writer(tmp_path / "snapshot")
    wrote.put("first", values=[2**70, 1], detail={"edges": [1]}, flags=KNOWN, plan=1)
    wrote.publish(edges={"first": [3600]}, folded=["ab" * 16])
    source = opened(tmp_path / "snapshot")
    before = source.current
    before.at("first")

    for number in range(companies):
        wrote.put(f"company_{number}", values=[number, None])
    wrote.publish(edges={"first": [3600]})
    before.at("first")  # which looks for the file that took its place
    after = source.current

    assert before is not after
    assert (KNOWN, 1, [2**70, 1], {"edges": [1]}) == seen(after, "first")
    assert list(range(companies)) == [after.record(f"company_{each}").values[0] for each in range(companies)]
    assert ({"first": (3600,)}, {"ab" * 16}) == (after.edges(), after.folded_since(0))
    assert ["snapshot"] == [each.name for each in tmp_path.iterdir() if each.name != ".gitignore"]
    assert (tmp_path / "snapshot").stat().st_size < 150_000 + 500 * companies


def test_a_detail_that_changes_for_ever_takes_no_more_room(tmp_path):
    """Details are appended; what nobody points to any more is left behind when the file is full."""
    wrote = writer(tmp_path / "snapshot")
    for number in range(12_000):
        wrote.put("acme", values=[number, None], detail={"number": number})
    wrote.publish(edges={})

    assert (0, 0, [11_999, None], {"number": 11_999}) == seen(opened(tmp_path / "snapshot").current, "acme")
    assert (tmp_path / "snapshot").stat().st_size < 1_000_000


def test_which_generations_are_in_the_figures(tmp_path):
    """A reader asks for those since it looked last; it is told if they were too many to remember."""
    wrote = writer(tmp_path / "snapshot")
    wrote.publish(edges={})
    file = opened(tmp_path / "snapshot").current
    ids = [f"{number:032x}" for number in range(file_format.RING_IDS + 1)]

    wrote.publish(edges={}, folded=ids[:3])
    three = file.folded_since(0)
    wrote.publish(edges={}, folded=ids[3:5])
    two = file.folded_since(3)
    wrote.publish(edges={}, folded=ids[5:])

    assert (set(ids[:3]), set(ids[3:5])) == (three, two)
    assert file.folded_since(0) is None
    assert set(ids[1:]) == file.folded_since(1)
    assert set() == file.folded_since(len(ids))


def test_rounds_tell_what_the_figures_contain(tmp_path):
    """What was in the ledger before a round began is in the figures once it is done."""
    wrote = writer(tmp_path / "snapshot")
    wrote.begin()
    wrote.publish(edges={})
    file = opened(tmp_path / "snapshot").current
    first = file.rounds
    wrote.begin()
    second = file.rounds
    wrote.publish(edges={})

    assert ((1, 1), (1, 2), (2, 2)) == (first, second, file.rounds)


def test_a_file_that_means_something_else_here_is_not_read(tmp_path, monkeypatch):
    """Two versions of the configuration, or of the format, side by side while a deployment is under way."""
    writer(tmp_path / "config", fingerprint=fingerprint_of("another configuration")).publish(edges={})
    with monkeypatch.context() as patch:
        patch.setattr(file_format, "VERSION", file_format.VERSION + 1)
        writer(tmp_path / "version").publish(edges={})
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "short").write_bytes(b"mkitsnap")
    (tmp_path / "text").write_text("usage" * 10_000)
    ours = writer(tmp_path / "ours")
    ours.publish(edges={})
    whole = (tmp_path / "ours").read_bytes()
    (tmp_path / "truncated").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "damaged").write_bytes(whole[:40] + b"\1" + whole[41:])

    found = {each.name: SnapshotSource().look(each, OURS, within=RECENT) for each in sorted(tmp_path.iterdir())}

    assert ["ours"] == [name for name, is_read in found.items() if is_read]


def test_a_snapshot_that_nobody_looks_after_is_not_opened(tmp_path):
    """It may be of yesterday: the process that wrote it was killed, and the app started again a day later."""
    wrote = writer(tmp_path / "snapshot")
    wrote.publish(edges={})
    source = opened(tmp_path / "snapshot")
    wrote._table.seconds[file_format.PUBLISHED] -= RECENT + 1

    assert not SnapshotSource().look(tmp_path / "snapshot", OURS, within=RECENT)
    assert not source.look(tmp_path / "snapshot", OURS, within=RECENT)
    assert source.current is not None, "who has it already goes on with it"


def test_a_writer_that_ends_takes_its_file_with_it(tmp_path):
    """Who starts then waits for fresh figures; who has read it keeps those that it has, until another is there."""
    wrote = writer(tmp_path / "snapshot")
    wrote.put("acme", values=[1, None])
    wrote.publish(edges={})
    source = opened(tmp_path / "snapshot")

    wrote.close()
    kept = seen(source.current, "acme")
    is_found = SnapshotSource().look(tmp_path / "snapshot", OURS, within=RECENT)
    follower = writer(tmp_path / "snapshot")
    follower.put("acme", values=[2, None])
    follower.publish(edges={})
    source.look(tmp_path / "snapshot", OURS, within=RECENT)

    assert ((0, 0, [1, None], {}), False) == (kept, is_found)
    assert (0, 0, [2, None], {}) == seen(source.current, "acme")


def test_a_file_that_was_deleted_is_made_again(tmp_path):
    """Whoever reads it goes on, and whoever starts finds it."""
    wrote = writer(tmp_path / "snapshot")
    wrote.put("acme", values=[1, None])
    wrote.publish(edges={})
    source = opened(tmp_path / "snapshot")
    (tmp_path / "snapshot").unlink()

    wrote.put("acme", values=[2, None])
    wrote.publish(edges={})
    wrote.put("acme", values=[3, None])
    wrote.publish(edges={})

    both = [source, opened(tmp_path / "snapshot")]
    assert [[3, None], [3, None]] == [(each.current.at("acme"), seen(each.current, "acme"))[1][2] for each in both]


def test_two_writers_at_once_where_locks_do_not_work(tmp_path):
    """Each puts its file in the place of the other's; a reader always has one that somebody writes."""
    first, second = writer(tmp_path / "snapshot"), writer(tmp_path / "snapshot2")
    second._path = tmp_path / "snapshot"  # as of another process: its file has another name until then
    first.put("acme", values=[1, None])
    first.publish(edges={})
    source = opened(tmp_path / "snapshot")
    found = []

    for number, each in enumerate([second, first, second, first]):
        each.put("acme", values=[number, None])
        each.publish(edges={})
        source.look(tmp_path / "snapshot", OURS, within=RECENT)
        found.append(seen(source.current, "acme")[2][0])

    assert [0, 1, 2, 3] == found


def steps_of(write) -> int:
    """Run *write*, and return how many lines of the writer's code that took."""
    lines = 0

    def count(frame, event, _):
        nonlocal lines
        if frame.f_code.co_filename != table.__file__:
            return None
        lines += event == "line"
        return count

    sys.settrace(count)
    try:
        write()
    finally:
        sys.settrace(None)
    return lines


class Killed(BaseException):
    """Stands for a kill: nothing after it is run."""


def killed_at(step: int, write) -> None:
    """Run *write* up to that line of the writer's code."""

    def kill(frame, event, _):
        nonlocal step
        if frame.f_code.co_filename != table.__file__:
            return None
        step -= event == "line"
        if step < 0:
            raise Killed
        return kill

    sys.settrace(kill)
    try:
        write()
    except Killed:
        pass
    finally:
        sys.settrace(None)


BEFORE = {"flags": KNOWN, "plan": 1, "values": [10, 100], "detail": {"block": None}}
AFTER = {"flags": KNOWN | BLOCKED, "plan": 2, "values": [2**65, 1000], "detail": {"block": {"reason": "overdue"}}}


@pytest.mark.parametrize("company", ["acme", "one that is new"])
def test_a_kill_of_the_writer_at_any_step_leaves_figures_that_were_right(company):
    """Each figure is as it was before or as it is after, and the block is there if the flag says so."""
    default = (0, 0, [0, None], {})
    was = (*list(BEFORE.values())[:3], BEFORE["detail"]) if company == "acme" else default

    def written():
        wrote = writer(None)
        wrote.put("acme", **BEFORE)
        wrote.publish(edges={})
        return wrote, lambda: (wrote.put(company, **AFTER), wrote.publish(edges={"acme": [1]}, folded=["ab" * 16]))

    steps = steps_of(written()[1])
    for step in range(steps):
        wrote, write = written()
        killed_at(step, write)
        for file in (wrote.reader(), SnapshotFile(wrote._buffer, OURS)):
            flags, plan, values, detail = seen(file, company)
            assert (flags, plan, detail) in [(was[0], was[1], was[3]), (*list(AFTER.values())[:2], AFTER["detail"])]
            # Without the detail, an amount beyond a word is at least known to be larger than any limit.
            assert values[0] in (was[2][0], 2**65) or values[0] > 2**63
            assert values[1] in (was[2][1], 1000)
            assert file.edges() in ({}, {"acme": (1,)})
            assert file.folded_since(0) in (set(), {"ab" * 16})
            if file.folded_since(0):
                assert values == AFTER["values"]


@pytest.mark.parametrize("seed", thorough.first([0], among=range(3)))
def test_a_real_kill_in_mid_write_while_others_read(tmp_path, monkeypatch, seed):
    """SIGKILL at some moment: a reader of before, and one who comes after, find what was written, and a successor."""
    monkeypatch.setattr(reader, "RETRY_SECONDS", 0.0)  # the kill may come just before a new file is in its place
    script = (
        "import sys; from pathlib import Path\n"
        "from meterkit.snapshot.writer import Default, SnapshotWriter\n"
        "wrote = SnapshotWriter(Path(sys.argv[1]), bytes.fromhex(sys.argv[2]), default=Default(0, (0, None)))\n"
        "number = 0\n"
        "while True:\n"
        "    number += 1\n"
        "    for each in range(50):\n"
        "        wrote.put(f'company_{each}', values=[number, number], detail={'is': [number] * (number % 9)})\n"
        "    wrote.put(f'more_{number}', values=[number, number])\n"
        "    wrote.publish(edges={'company_1': [number]}, folded=[f'{number:032x}'])\n"
        "    if number == 3: print(flush=True)\n"
    )
    path = tmp_path / "snapshot"
    child = subprocess.Popen([sys.executable, "-c", script, path, OURS.hex()], stdout=subprocess.PIPE)
    assert child.stdout.readline()
    source = opened(path)
    chance = random.Random(seed)

    last = [0] * 50
    for _ in range(chance.randrange(200, 2000)):
        each = chance.randrange(50)
        _, _, (used, limit), _ = source.current.record(f"company_{each}")
        detail = source.current.record(f"company_{each}").detail.get("is", [])
        after = source.current.record(f"company_{each}").values[0]
        assert last[each] <= used <= after, "figures never go back"
        assert used - 1 <= limit
        assert not detail or (len(set(detail)) == 1 and used - 1 <= detail[0] <= after + 1), "half of a detail"
        last[each] = used
    child.send_signal(signal.SIGKILL)
    child.wait(GUARD)
    child.stdout.close()

    for file in (source.current, opened(path).current):
        for each in range(50):
            used, limit = file.record(f"company_{each}").values
            assert last[each] <= used
            assert limit in (used, used - 1)
    follower = writer(path)
    follower.put("company_1", values=[1, 1])
    follower.publish(edges={})
    source.current.at("company_1")
    assert [1, 1] == seen(source.current, "company_1")[2]
    assert ["snapshot"] == [each.name for each in tmp_path.iterdir() if each.name != ".gitignore"]


def test_a_disk_without_room_leaves_what_was_published(tmp_path, monkeypatch):
    """Growth fails; readers go on with the former file, and so does the writer when there is room again."""
    wrote = writer(tmp_path / "snapshot")
    wrote.put("acme", values=[1, None])
    wrote.publish(edges={})
    source = opened(tmp_path / "snapshot")

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        with pytest.raises(OSError, match="No space left"):
            all(wrote.put(f"company_{number}", values=[number, None]) is None for number in range(5_000))
    kept = seen(source.current, "acme")
    wrote.put("acme", values=[2, None])
    wrote.put("globex", values=[3, None], detail={"long": "x" * 500_000})
    wrote.publish(edges={})
    source.current.at("acme")

    assert (0, 0, [1, None], {}) == kept
    assert [[2, None], [3, None]] == [seen(source.current, each)[2] for each in ("acme", "globex")]


def test_a_foreign_buffer_is_refused():
    """A reader in the same process checks as well."""
    with pytest.raises(ForeignSnapshotError):
        SnapshotFile(writer(None)._buffer, fingerprint_of("another"))


def test_what_came_last_before_a_file_was_superseded_is_found(tmp_path):
    """Also if it had been looked for before, and its writer ended."""
    wrote = writer(tmp_path / "snapshot")
    wrote.publish(edges={})
    source = opened(tmp_path / "snapshot")
    before = [seen(source.current, "acme")[2], seen(source.current, "acme")[2]]
    wrote.put("acme", values=[1, None])
    wrote.publish(edges={})
    wrote.close()

    assert [[0, None], [0, None], [1, None]] == [*before, seen(source.current, "acme")[2]]


def test_a_superseded_file_without_a_successor_is_read_on(tmp_path):
    """Its writer was killed between the mark and the new name."""
    wrote = writer(tmp_path / "snapshot")
    wrote.put("acme", values=[1, None])
    wrote.publish(edges={})
    source = opened(tmp_path / "snapshot")
    wrote._table.words[file_format.STATE] = SUPERSEDED

    assert (0, 0, [1, None], {}) == seen(source.current, "acme")
