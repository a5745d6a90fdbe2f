"""The journal: threads count, the flusher takes the counts away, and nothing falls between."""

from __future__ import annotations

import gc
import signal
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meterkit.core.problems import Problems
from meterkit.journal.generation import Generation
from meterkit.journal.journal import ClosedJournalError, Journal, generation
from meterkit.journal.pool import GenerationPool

NOW = 7.0


def cell(company: str, window: int = 0) -> generation.UsageKey:
    return ("m", "m", company, "", window)


class Bench:
    """A journal in a directory, and a ledger that is a dict."""

    def __init__(self, directory, **options):
        self.directory = directory
        self.problems = Problems()
        self.woken = threading.Event()
        self.journal = Journal(directory, problems=self.problems, wake=self.woken.set, **options)
        self.journal.open(now=NOW)
        self.journal.pool.report_trouble()
        self.folded: dict[str, int] = {}
        self.seen: dict[str, int] = {}

    def count(self, company: str, quantity: int = 1, *, window: int = 0) -> None:
        self.journal.count([(cell(company, window), quantity)], NOW)

    def rotate(self) -> None:
        self.journal.rotate(now=NOW)

    def fold(self) -> None:
        self.rotate()
        for retired in self.journal.retired():
            self._add(retired.cells())
            self.journal.forget(retired)

    def hand_over(self) -> None:
        self.rotate()
        self.journal.hand_over(self.journal.retired_ids())

    def read(self) -> None:
        """Read the ledger, as the thread does that flushes."""
        folded = self.journal.folded()
        self.seen = dict(self.folded)
        self.journal.seen(folded)

    def adopt(self) -> None:
        for orphan in self.journal.orphans():
            self._add(orphan.cells)
            orphan.discard()

    def _add(self, cells) -> None:
        for (_meter, _event_name, company, _user, _window), quantity, _last in cells:
            self.folded[company] = self.folded.get(company, 0) + quantity


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path / "journal")
    yield bench
    bench.journal.close()


def test_what_is_counted_is_folded_once(bench):
    """Flushing again finds nothing, and the files are gone."""
    bench.count("acme", 2)
    bench.count("acme", 3)

    bench.fold()
    bench.fold()

    assert {"acme": 5} == bench.folded
    assert {} == {key: total for key, total in bench.journal.totals().items() if total}


def test_what_the_ledger_would_not_take_stays(bench):
    """A generation that was not folded is there at the next flush, with its file."""
    bench.count("acme", 2)
    bench.journal.rotate(now=NOW)
    bench.count("acme", 1)

    (retired,) = bench.journal.retired()

    assert retired.path.exists()
    bench.fold()
    assert {"acme": 3} == bench.folded


def test_a_flush_of_nothing_makes_no_files(bench):
    """An idle process keeps its two generations, and makes no more."""
    bench.fold()
    before = set(bench.directory.iterdir())

    bench.fold()

    assert before == set(bench.directory.iterdir())


def test_two_journals_of_one_directory_leave_each_other_alone(tmp_path):
    """Each live process flushes its own."""
    one, other = Bench(tmp_path), Bench(tmp_path)
    one.count("acme")
    other.count("globex")

    one.fold()
    one.adopt()

    assert {"acme": 1} == one.folded
    other.journal.close()
    one.adopt()
    assert {"acme": 1, "globex": 1} == one.folded
    one.journal.close()


@pytest.mark.usefixtures("_hurried_threads")
@pytest.mark.parametrize("way", ["shortest", "usual"])
def test_many_threads_against_a_busy_flusher_are_exact(tmp_path, way):
    """8 threads count while the flusher swaps without a pause."""
    bench = Bench(tmp_path, size=4096)
    place = ("m", "m", 0)
    done = threading.Event()

    def flush() -> None:
        while not done.is_set():
            bench.fold()

    def count(number: int) -> None:
        for turn in range(2000):
            company = f"company-{(number * 7 + turn) % 50}"
            if way == "usual" or not bench.journal.count_one(place, company, 7):
                bench.count(company)

    flusher = threading.Thread(target=flush)
    threads = [threading.Thread(target=count, args=(number,)) for number in range(8)]
    for thread in [flusher, *threads]:
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    flusher.join()
    bench.fold()

    assert 8 * 2000 == sum(bench.folded.values())
    bench.journal.close()


def test_a_birthmark_that_takes_its_time_loses_nothing(bench):
    """Where the kernel has none, it is a function of Python's, during which others run, and may flush."""

    class Slow:
        def __getitem__(self, _index):
            bench.fold()
            return True

    bench.count("acme")
    bench.journal.fork_marker = Slow()
    is_counted = bench.journal.count_one(("m", "m", 0), "acme", 7)
    bench.fold()

    assert {"acme": 1 + is_counted} == bench.folded


def test_a_signal_handler_may_count_amidst_a_count(bench):
    """Neither a deadlock nor a loss, wherever the signal falls."""
    handled = 0

    def handler(*_: object) -> None:
        nonlocal handled
        handled += 1
        bench.count("handler")

    previous = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
    try:
        counted = 0
        while handled < 200:
            bench.count("acme")
            counted += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    bench.fold()

    assert {"acme": counted, "handler": handled} == bench.folded


def test_a_finaliser_may_count_amidst_a_count(bench):
    """The garbage collector runs whenever it likes, also while the lock is held."""
    finalised = 0

    class Counted:
        def __init__(self) -> None:
            self.cycle = self

        def __del__(self) -> None:
            nonlocal finalised
            finalised += 1
            bench.count("finaliser")

    threshold = gc.get_threshold()
    gc.set_threshold(5, 2, 2)
    try:
        for _ in range(3000):
            Counted()
            bench.count("acme")
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    bench.fold()

    assert finalised == 3000
    assert {"acme": 3000, "finaliser": 3000} == bench.folded


def test_an_inner_count_waits_for_the_outer_one(bench, monkeypatch):
    """A count from within a count is stored by the outer one, before that returns."""
    original = Generation.count

    def count_within(self, key, quantity, now):
        if key[2] == "outer":
            bench.count("inner")
        original(self, key, quantity, now)

    monkeypatch.setattr(Generation, "count", count_within)
    bench.count("outer")

    (totals,) = [total for total in bench.journal.totals().values() if total]
    assert {"m": 2} == totals


def test_a_full_generation_gives_way_to_the_spare_one(tmp_path):
    """No count is lost or put into memory, and the flusher is called."""
    bench = Bench(tmp_path, size=1024)
    bench.journal.prepare()

    for number in range(20):
        bench.count(f"company-{number}")

    assert bench.woken.is_set()
    assert not bench.journal.in_memory
    bench.fold()
    assert {f"company-{number}": 1 for number in range(20)} == bench.folded
    bench.journal.close()


@settings(max_examples=60, deadline=None)
@given(
    size=st.sampled_from([1024, 4096, 1 << 14]),
    steps=st.lists(
        st.one_of(
            st.tuples(st.integers(0, 60), st.integers(1, 9)),  # a company's usage
            st.sampled_from(["fold", "rotate", "prepare", "hand_over", "adopt", "read", "kill"]),
        ),
        max_size=120,
    ),
)
def test_whatever_follows_what_all_is_folded_once(tmp_path_factory, size, steps):
    """
    Companies come again, or do not; generations follow each other, or are full; a process is killed in between.

    What the ledger has, and what the process knows of its own that is not there, is always what was counted.
    """
    directory = tmp_path_factory.mktemp("journal")
    bench = Bench(directory, size=size, watched=frozenset("m"), ledger="one")
    counted: dict[str, int] = {}
    before: dict[str, int] = {}
    for step in steps:
        if isinstance(step, tuple):
            company, quantity = f"company-{step[0]}", step[1]
            if quantity > 1 or not bench.journal.count_one(("m", "m", 0), company, 7):
                bench.count(company, quantity)
            counted[company] = counted.get(company, 0) + quantity
        elif step == "kill":
            bench = after_a_kill(bench, size)
            before = {}
        else:
            {"prepare": bench.journal.prepare}.get(step, getattr(bench, step, None))()
        for company, quantity in counted.items():
            pair = (company, "m")
            lately = bench.journal.lately(*pair)
            if company not in before:  # what is counted from now on, and what may not be in the ledger
                bench.journal.follow(pair)
                before[company] = quantity - bench.journal.counted(pair)
                assert before[company] <= bench.folded.get(company, 0)
            assert quantity - before[company] == bench.journal.counted(pair)
            assert quantity == bench.seen.get(company, 0) + lately
            assert lately <= bench.journal.most
        kept = sum(total.get("m", 0) for total in bench.journal.totals().values())
        assert sum(counted.values()) == sum(bench.folded.values()) + kept
    bench.fold()
    bench.adopt()
    bench.journal.close()

    assert counted == bench.folded


def after_a_kill(bench, size):
    """The next process has adopted what is in files; only what is in memory is taken before, or it would be lost."""
    for each in bench.journal._own():
        if each.path is None:
            bench._add(each.cells())
    bench.journal.abandon()
    successor = Bench(bench.directory, size=size, watched=frozenset("m"), ledger="one")
    successor.folded = bench.folded
    successor.adopt()
    successor.read()
    return successor


@pytest.mark.parametrize("newcomers", [1, 100], ids=["a-few", "too-many"])
def test_newcomers_while_the_next_generation_is_made_ready(tmp_path, monkeypatch, newcomers):
    """Most of that is done while requests go on; a kill afterwards loses none of them, nor mixes them up."""
    bench = Bench(tmp_path, size=4096)
    follow = GenerationPool.follow

    def follow_while_others_come(self, current, coming):
        follows = follow(self, current, coming)
        for number in range(newcomers):
            bench.count(f"company-{number}")
        return follows

    bench.count("acme")
    bench.journal.prepare()
    monkeypatch.setattr(GenerationPool, "follow", follow_while_others_come)
    bench.fold()
    for number in range(newcomers):
        bench.count(f"company-{number}")
    bench.count("acme")
    bench = after_a_kill(bench, 4096)

    assert {"acme": 2} | {f"company-{number}": 2 for number in range(newcomers)} == bench.folded
    bench.journal.close()


def test_many_customers_get_larger_generations_and_few_smaller_ones_again(tmp_path):
    """What does not fit is counted in memory until the next flush; so it is seen to that the next time it does.

    Who came in one hour is remembered no longer than into the next.
    """
    bench = Bench(tmp_path / "journal", size=4096)

    def sizes():
        return {path.stat().st_size for path in bench.directory.iterdir()}

    for _ in range(12):
        for number in range(200):
            bench.count(f"company {number}")
        bench.fold()
    grown, in_memory = sizes(), bench.journal.in_memory
    for _ in range(12):
        bench.count("acme", window=3600)
        bench.fold()

    assert (True, False) == (min(grown) > 200 * 64, in_memory)
    assert {4096} == sizes()
    assert {f"company {number}": 12 for number in range(200)} | {"acme": 12} == bench.folded
    bench.journal.close()


def test_without_a_spare_it_goes_on_in_memory_and_says_so(tmp_path):
    """A disk call on the request path is worse than some milliseconds in memory, but they are named."""
    bench = Bench(tmp_path, size=1024)

    for number in range(100):
        bench.count(f"company-{number}")

    assert "journal_full" in bench.problems.as_dict()
    bench.fold()
    assert 100 == sum(bench.folded.values())
    assert not bench.journal.in_memory
    bench.journal.close()


def test_where_no_file_can_be_had_it_counts_in_memory(tmp_path):
    """The app goes on, the usage reaches the ledger, and the log says what to do."""
    (tmp_path / "file").write_text("")
    bench = Bench(tmp_path / "file" / "journal")

    bench.count("acme", 3)

    assert "data_dir=" in bench.problems.as_dict()["journal_in_memory"]["message"]
    bench.fold()
    assert {"acme": 3} == bench.folded
    bench.journal.close()


def test_as_soon_as_files_can_be_had_it_leaves_memory(tmp_path):
    """The problem is gone with its cause."""
    obstacle = tmp_path / "data"
    obstacle.write_text("")
    bench = Bench(obstacle / "journal")
    bench.count("acme")

    obstacle.unlink()
    bench.fold()
    bench.count("acme")

    assert not bench.journal.in_memory
    assert {} == bench.problems.as_dict()
    bench.fold()
    assert {"acme": 2} == bench.folded
    bench.journal.close()


def test_a_file_is_not_given_up_for_memory(tmp_path):
    """When the disk fills up, what is counted stays where a kill cannot take it."""
    bench = Bench(tmp_path / "journal")
    bench.count("acme")
    (tmp_path / "journal").rename(tmp_path / "moved")
    (tmp_path / "journal").write_text("")

    bench.fold()
    bench.count("acme")

    assert not bench.journal.in_memory
    assert {} == bench.folded
    (tmp_path / "journal").unlink()
    (tmp_path / "moved").rename(tmp_path / "journal")
    bench.fold()
    assert {"acme": 2} == bench.folded
    bench.journal.close()


def test_a_foreign_file_is_set_aside_and_stops_nothing(bench):
    """It is kept under another name, the message says why, and the sound ones are folded."""
    bench.directory.joinpath("0000.journal").write_text("not a journal")
    left = Bench(bench.directory)
    left.count("acme", 4)
    left.journal.close()

    bench.adopt()
    bench.adopt()

    assert {"acme": 4} == bench.folded
    assert "not a journal" == bench.directory.joinpath("0000.journal.set-aside").read_text()
    assert 1 == bench.problems.as_dict()["journal_foreign"]["count"]


def test_after_its_close_a_journal_takes_nothing(bench):
    """The count is refused, so that the caller counts it in the next journal."""
    bench.count("acme")
    bench.journal.close()

    with pytest.raises(ClosedJournalError):
        bench.count("acme")


def test_a_close_amidst_counts_neither_loses_nor_doubles(tmp_path):
    """Each count is either in the closed journal's files, or was refused."""
    bench = Bench(tmp_path)
    refused = []
    started = threading.Barrier(5)

    def count() -> None:
        started.wait()
        for _ in range(3000):
            try:
                bench.count("acme")
            except ClosedJournalError:
                refused.append(1)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    started.wait()
    bench.journal.close()
    for thread in threads:
        thread.join()
    bench.adopt()

    assert 4 * 3000 == bench.folded.get("acme", 0) + len(refused)


def test_usage_that_neither_file_nor_ledger_took_is_named_at_the_close(tmp_path):
    """Where a loss cannot be helped, it is said how much."""
    (tmp_path / "file").write_text("")
    bench = Bench(tmp_path / "file" / "journal")
    bench.count("acme", 3)

    bench.journal.close()

    assert "{'m': 3}" in bench.problems.as_dict()["journal_lost"]["message"]
