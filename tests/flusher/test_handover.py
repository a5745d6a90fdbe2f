"""Of the processes that share a data_dir, one flushes; the others hand over to it what they have counted."""

from __future__ import annotations

import threading

import pytest
from guard import GUARD, tries
from plain_exchange import PlainExchange

from meterkit import Governance, LedgerError, Meter, Quota
from meterkit.flusher import handover
from meterkit.flusher.handover import flushes_as, next_moment
from meterkit.flusher.lock import FlusherLock
from meterkit.journal import generation, recovery
from meterkit.ledger import schema
from meterkit.ledger.ledger import Ledger
from meterkit.publication import follower
from meterkit.runtime import process
from meterkit.slices import rows

CALLS = Meter("calls", path="/calls")


def tick(kit):
    """What the background thread does when `flush_interval` is over."""
    kit.process()._tick(is_last=False)


def counted(kit):
    """What is in the ledger, by company."""
    found: dict[str, int] = {}
    for row in kit.usage():
        found[row.company] = found.get(row.company, 0) + row.quantity
    return found


def files(tmp_path):
    """The journals that are handed over: nobody holds their locks."""
    return {path for path in (tmp_path / "meterkit" / "journal").iterdir() if path.suffix == generation.SUFFIX}


@pytest.fixture
def flusher(make_kit):
    """A kit whose thread flushes for all."""
    kit = make_kit()
    kit.record("calls", "first")
    kit.process().wake()
    assert next(True for _ in tries() if kit.process().lock.held and counted(kit))
    return kit


@pytest.fixture
def idle(tmp_path, make_kit, monkeypatch):
    """The lock of a process that is to flush for all, and does not; what it would publish is not waited for."""
    monkeypatch.setattr(follower, "PATIENCE_SECONDS", 0.0)
    lock = FlusherLock(tmp_path / "meterkit", ledger=flushes_as(make_kit().process()._settings, notifies=False))
    assert lock.try_acquire()
    yield lock
    lock.release()


def test_what_is_handed_over_is_soon_in_the_ledger(make_kit, flusher):
    """The one that flushes is asked to look, long before its next flush."""
    worker = make_kit()
    worker.record("calls", "acme", 5)

    tick(worker)

    assert next(True for _ in tries() if counted(flusher) == {"first": 1, "acme": 5})
    assert not worker.process().lock.held


def test_one_of_many_flushes_and_the_next_when_it_ends(make_kit):
    """Whoever comes first; and what is counted meanwhile is not lost."""
    kits = [make_kit() for _ in range(3)]
    for kit in kits:
        kit.record("calls", "acme")
        tick(kit)
    before = [kit.process().lock.held for kit in kits]
    kits[0].close()
    for kit in kits[1:]:
        kit.record("calls", "acme")
        tick(kit)

    assert [True, False, False] == before
    assert [True, False] == [kit.process().lock.held for kit in kits[1:]]
    tick(kits[1])
    assert {"acme": 5} == counted(kits[1])


def test_a_flush_means_what_it_says_wherever_it_is_called(make_kit, idle):
    """When it returns, the ledger has what this process counted; also what it handed over before."""
    kit = make_kit()
    kit.record("calls", "acme")
    tick(kit)
    before = counted(kit)
    kit.record("calls", "acme", 2)

    kit.flush()

    assert ({}, {"acme": 3}) == (before, counted(kit))
    assert idle.held


def test_a_flush_does_not_make_a_process_the_one_that_flushes(make_kit):
    """It may be a command's, and do nothing else."""
    command, worker = make_kit(), make_kit()
    command.record("calls", "acme")
    command.flush()
    worker.record("calls", "acme")

    tick(worker)

    assert (False, True) == (command.process().lock.held, worker.process().lock.held)


@pytest.fixture
def held_fold(monkeypatch):
    """The first fold of an orphan stops before its transaction until it is told to go on."""
    amidst, goes_on = threading.Event(), threading.Event()
    fold = Ledger.fold

    def held(self, generation, counts, **options):
        if not amidst.is_set():
            amidst.set()
            goes_on.wait(GUARD)
        return fold(self, generation, counts, **options)

    yield lambda: monkeypatch.setattr(Ledger, "fold", held), amidst, goes_on
    goes_on.set()


def test_a_flush_waits_for_what_another_is_folding(make_kit, flusher, held_fold):
    """It cannot fold that itself, and it is not in the ledger yet."""
    hold, amidst, goes_on = held_fold
    worker = make_kit()
    worker.record("calls", "acme", 5)
    hold()
    tick(worker)
    assert amidst.wait(GUARD)
    seen = []
    flushing = threading.Thread(target=lambda: (worker.flush(), seen.append(counted(worker))))

    flushing.start()
    goes_on.set()
    flushing.join(GUARD)

    assert [{"first": 1, "acme": 5}] == seen


def test_a_flush_does_not_wait_for_ever(make_kit, flusher, held_fold, monkeypatch):
    """It says which process it has waited for, and a later one goes on."""
    monkeypatch.setattr(process, "HANDED_OVER_SECONDS", 0.01)
    hold, amidst, goes_on = held_fold
    worker = make_kit()
    worker.record("calls", "acme", 5)
    hold()
    tick(worker)
    assert amidst.wait(GUARD)

    with pytest.raises(LedgerError, match=r"\(process \d+, since .*\), and that takes too long; flush again"):
        worker.flush()
    goes_on.set()
    monkeypatch.setattr(process, "HANDED_OVER_SECONDS", GUARD)
    worker.flush()

    assert {"first": 1, "acme": 5} == counted(worker)


def test_a_flush_takes_what_another_could_not_fold(make_kit, flusher, monkeypatch):
    """Which has given it back meanwhile."""
    amidst, waits = threading.Event(), threading.Event()
    fold, await_handed_over = Ledger.fold, process.ProcessRuntime._await_handed_over

    def failing(self, generation, counts, **options):
        if not amidst.is_set():
            amidst.set()
            waits.wait(GUARD)
            raise LedgerError("away")
        return fold(self, generation, counts, **options)

    def waiting(self):
        if self is worker.process():
            waits.set()
        await_handed_over(self)

    worker = make_kit()
    monkeypatch.setattr(Ledger, "fold", failing)
    monkeypatch.setattr(process.ProcessRuntime, "_await_handed_over", waiting)
    worker.record("calls", "acme", 5)
    tick(worker)
    assert amidst.wait(GUARD)
    flusher.process().lock.was_asked()  # if it has not noticed yet that it was asked, it would try again

    worker.flush()

    assert {"first": 1, "acme": 5} == counted(worker)


def test_a_close_hands_over_and_waits_for_it(make_kit, flusher):
    """The disk may be gone when the last process has ended."""
    worker = make_kit()
    worker.record("calls", "acme", 5)

    worker.close()

    assert {"first": 1, "acme": 5} == counted(flusher)


def test_processes_that_end_together_leave_nothing_in_the_journal(make_kit, flusher, tmp_path):
    """Who is last takes the lock, and flushes."""
    workers = [make_kit() for _ in range(3)]
    for worker in workers:
        worker.record("calls", "acme", 5)
    closing = [threading.Thread(target=kit.close) for kit in [*workers[:2], flusher, workers[2]]]
    for thread in closing:
        thread.start()
    for thread in closing:
        thread.join(GUARD)

    assert set() == files(tmp_path)
    assert {"first": 1, "acme": 15} == counted(make_kit())


def test_a_close_does_not_rely_on_one_that_does_nothing(make_kit, idle, monkeypatch):
    """It may hang: then the process that ends flushes itself."""
    monkeypatch.setattr(process, "LAST_HAND_OVER_SECONDS", -1)
    worker = make_kit()
    worker.record("calls", "acme", 5)

    worker.close()

    assert {"acme": 5} == counted(make_kit())


def test_a_close_hands_over_all_however_much_waits(make_kit, idle, monkeypatch):
    """The other may catch up at this very moment, and would know nothing of the rest."""
    monkeypatch.setattr(process, "LAST_HAND_OVER_SECONDS", GUARD)
    worker, other = make_kit(), make_kit()
    for _ in range(handover.MOST_WAITING + 1):
        worker.record("calls", "acme")
        tick(worker)
    monkeypatch.setattr(worker.process().lock, "ask", other.flush)

    worker.close()

    assert {"acme": handover.MOST_WAITING + 1} == counted(other)


def test_while_nobody_folds_generations_do_not_pile_up(make_kit, idle, tmp_path):
    """Two may wait; the rest is counted on in the one that is current."""
    worker = make_kit()
    for _ in range(10):
        worker.record("calls", "acme")
        tick(worker)

    assert handover.MOST_WAITING == len(worker.process().journal.waiting())
    assert handover.MOST_WAITING + 2 >= len(files(tmp_path))  # the current one, and a spare
    worker.flush()
    assert {"acme": 10} == counted(worker)


def test_a_process_flushes_itself_when_the_other_is_late(make_kit, idle, monkeypatch):
    """It may hang, or have too much to do; that is said, because nobody else reports to Stripe."""
    monkeypatch.setattr(handover, "LATE_SECONDS", -1)
    worker = make_kit()
    worker.record("calls", "acme", 5)
    tick(worker)
    worker.record("calls", "acme", 2)
    tick(worker)

    assert {"acme": 7} == counted(worker)
    problem = worker.health()["problems"]["flusher_late"]["message"]
    assert "end it if it hangs" in problem
    tick(worker)
    assert "flusher_late" not in worker.health()["problems"]


@pytest.mark.parametrize(
    "other",
    [{"stripe_key": "sk_test_other"}, {"ledger": "other"}, {"find_customer": lambda _: None}],
    ids=["key", "ledger", "function"],
)
def test_processes_that_would_do_something_else_flush_for_themselves(make_kit, tmp_path, flusher, other):
    """Into their own ledger, and to their own account."""
    if "ledger" in other:
        other = {"ledger": f"sqlite:///{tmp_path}/other.sqlite"}
    kit = make_kit(**other)
    kit.record("calls", "acme", 5)

    tick(kit)

    assert 5 == counted(kit)["acme"]
    assert ("ledger" in other) == ("acme" not in counted(flusher))


def test_what_is_handed_over_is_for_one_ledger(make_kit, tmp_path, idle, monkeypatch):
    """A kit with another ledger may share the directory; when there is nobody else any more, the ledger has moved."""
    worker, other = make_kit(), make_kit(ledger=f"sqlite:///{tmp_path}/other.sqlite")
    worker.record("calls", "acme", 5)
    tick(worker)
    found = []
    for _ in range(2):
        other.flush()
        found.append(counted(other))
        monkeypatch.setattr(recovery, "MOVED_SECONDS", -1)
    idle.release()
    other.flush()

    assert [{}, {}] == found
    assert {"acme": 5} == counted(other)


def test_what_cannot_be_renamed_is_folded_where_it_is(make_kit, idle, monkeypatch):
    """As on a disk that has failed."""
    worker = make_kit()
    worker.record("calls", "acme", 5)

    def leave(*_):
        raise OSError("read-only")

    monkeypatch.setattr(generation.Generation, "leave", leave)
    tick(worker)

    assert {"acme": 5} == counted(worker)


def test_what_is_counted_in_memory_is_folded_where_it_is(make_kit, idle, monkeypatch):
    """There is no file that could be handed over."""
    worker = make_kit()

    def create(*_):
        raise OSError("the disk is full")

    monkeypatch.setattr(generation.Generation, "create", create)
    worker.record("calls", "acme", 5)
    monkeypatch.undo()
    tick(worker)

    assert {"acme": 5} == counted(worker)


def test_a_ledger_that_is_away_makes_nobody_late(make_kit, idle, monkeypatch):
    """It is named itself."""
    worker = make_kit()
    worker.record("calls", "acme", 5)
    tick(worker)
    monkeypatch.setattr(handover, "LATE_SECONDS", -1)

    def fold(*_, **__):
        raise LedgerError("away")

    monkeypatch.setattr(Ledger, "fold", fold)
    tick(worker)

    assert {"flush_failed"} == {"flush_failed", "flusher_late"} & set(worker._problems.as_dict())


def test_it_is_tried_again_when_the_ledger_is_back(make_kit, flusher, tmp_path):
    """The one that flushes says what is wrong; the others keep what they have."""
    worker = make_kit()
    worker.record("calls", "acme", 5)
    aside = tmp_path / "aside.sqlite"
    database = tmp_path / "meterkit" / "ledger.sqlite"
    database.rename(aside)
    database.mkdir()
    tick(worker)
    worker.record("calls", "acme", 2)
    tick(worker)
    assert next(True for _ in tries() if "flush_failed" in flusher._problems.as_dict())
    database.rmdir()
    aside.rename(database)
    tick(worker)

    worker.flush()

    assert {"first": 1, "acme": 7} == counted(flusher)
    tick(worker)
    assert "flush_failed" not in worker.health()["problems"]


@pytest.fixture
def govern(make_kit):
    """A function that makes kits of one `Governance`, each of which has looked once."""

    def make(*quotas):
        rules = Governance(quotas=quotas)
        kit = make_kit(CALLS, identify=lambda exchange: exchange.headers["x-company"], governance=rules)
        kit.governor.begin()
        assert kit.governor.ready.wait(GUARD)
        return kit

    return make


def begin(kit):
    """A request that has just passed, or None."""
    exchange = PlainExchange("GET", "/calls", headers={"x-company": "acme"})
    exchange.publish(kit)
    return exchange if kit.governor.check(exchange) is None else None


def end(kit, exchange, status=200):
    """Answer it."""
    exchange.status = status
    kit.recorder.close(exchange)


def passed(kit, times):
    """How many requests pass, each of which is answered before the next."""
    number = 0
    for _ in range(times):
        exchange = begin(kit)
        if exchange is not None:
            end(kit, exchange)
            number += 1
    return number


def test_what_is_handed_over_counts_until_it_was_read(govern, idle):
    """A quota never forgets what this process has counted, wherever it is on its way to the ledger."""
    kit = govern(Quota(CALLS, 5))
    found = []
    for _ in range(4):
        found.append(passed(kit, 2))
        tick(kit)
    kit.flush()
    found.append(passed(kit, 2))

    assert [2, 2, 1, 0, 0] == found
    assert {"acme": 5} == counted(kit)


def test_what_was_read_does_not_count_twice(govern, idle, make_kit):
    """Once another has folded it, and this process has read the ledger."""
    kit = govern(Quota(CALLS, 5))
    found = [passed(kit, 2)]
    tick(kit)
    make_kit().flush()
    tick(kit)
    found.append(passed(kit, 9))

    assert [2, 3] == found


def test_what_is_folded_while_the_ledger_is_read_still_counts(govern, idle, make_kit, monkeypatch):
    """The reading may have come before the fold."""
    kit = govern(Quota(CALLS, 5))
    first = passed(kit, 2)
    tick(kit)
    build = type(kit.process().figures.publisher.builder).build

    def folded_after(self, now):
        found = build(self, now)
        make_kit().flush()
        return found

    monkeypatch.setattr(type(kit.process().figures.publisher.builder), "build", folded_after)
    tick(kit)
    monkeypatch.undo()

    assert (2, 3, 0) == (first, passed(kit, 3), passed(kit, 3))


def held(kit):
    """What is drawn of exact quotas and not in the ledger, by lineage."""
    with kit.process().database().snapshot() as connection:
        rows = connection.execute(schema.slices.select()).all()
    return {row.lineage: row.drawn - row.folded for row in rows}


def lineage(kit):
    """The key of what this kit holds."""
    return kit.process().journal.lineage.id


def test_an_exact_quota_holds_what_is_under_way_over_a_hand_over(govern, idle, make_kit):
    """Whoever folds the generation settles what it has counted; what is under way stays held."""
    kit, other = govern(Quota(CALLS, 4, exact=True)), govern(Quota(CALLS, 4, exact=True))
    under_way = [begin(kit), begin(kit)]
    assert 1 == passed(kit, 1)
    tick(kit)
    handed_over = held(kit)
    at_once = begin(other)
    refused = begin(other)
    make_kit().flush()

    assert {lineage(kit): 3} == handed_over
    assert (True, None) == (at_once is not None, refused)
    assert {lineage(kit): 2, lineage(other): 1} == held(kit)
    assert (0, 0) == (passed(kit, 1), passed(other, 1))
    end(kit, under_way[0])
    end(kit, under_way[1], status=500)  # counts nothing, and is given back
    end(other, at_once)
    for each in (kit, other):
        tick(each)
    make_kit().flush()
    for each in (kit, other):
        tick(each)
    assert 1 == passed(other, 5)
    for each in (kit, other):
        each.flush()
        each.flush()
    assert ({}, {"acme": 4}) == (held(kit), counted(kit))


def test_a_hand_over_needs_no_ledger_for_what_is_held(govern, idle, make_kit, monkeypatch):
    """It belongs to the process, and not to what it hands over."""
    kit = govern(Quota(CALLS, 4, exact=True))
    under_way = begin(kit)
    assert 1 == passed(kit, 1)

    def unreachable():
        raise LedgerError("away")

    with monkeypatch.context() as patch:
        patch.setattr(kit.process().database(), "transaction", unreachable)
        tick(kit)
    assert 1 == len(kit.process().journal.waiting())
    make_kit().flush()

    assert {lineage(kit): 1} == held(kit)
    end(kit, under_way)
    kit.flush()
    kit.flush()
    assert ({}, {"acme": 2}) == (held(kit), counted(kit))


@pytest.mark.parametrize("is_first", [True, False])
def test_a_unit_that_is_taken_amidst_a_hand_over_is_held(govern, idle, make_kit, monkeypatch, is_first):
    """The generation is retired and handed over while the transaction that draws the unit is open."""
    kit = govern(Quota(CALLS, 4, exact=True))
    kit.record(CALLS, "acme")
    if not is_first:
        assert 1 == passed(kit, 1)
    write = rows.write

    def handed_over_meanwhile(*what, **more):
        kit.process()._hand_over.run()
        return write(*what, **more)

    monkeypatch.setattr(rows, "write", handed_over_meanwhile)
    under_way = begin(kit)
    monkeypatch.undo()
    make_kit().flush()

    assert {lineage(kit): 1} == held(kit)
    end(kit, under_way)
    kit.flush()
    kit.flush()
    assert ({}, {"acme": 3 - is_first}) == (held(kit), counted(kit))
    assert 1 + is_first == passed(kit, 5)


def test_a_unit_is_counted_once_if_the_first_is_drawn_after_a_hand_over(govern, idle, make_kit):
    """What was handed over before is in the ledger, or on its way there, when the process begins to draw."""
    kit, other = govern(Quota(CALLS, 6, exact=True)), govern(Quota(CALLS, 6, exact=True))
    kit.record(CALLS, "acme", 2)
    tick(kit)  # on its way
    assert 1 == passed(kit, 1)
    waiting = held(kit)
    make_kit().flush()
    kit.record(CALLS, "acme")
    assert 2 == passed(kit, 2)
    kit.flush()
    kit.flush()

    assert {lineage(kit): 3} == waiting
    assert ({}, {"acme": 6}) == (held(kit), counted(kit))
    assert (0, 0) == (passed(kit, 1), passed(other, 1))


def test_what_is_held_at_the_end_is_given_back(govern, make_kit, tmp_path):
    """A request that is under way when the kit is closed holds its unit until the next who flushes."""
    kit = govern(Quota(CALLS, 4, exact=True))
    assert 1 == passed(kit, 1)
    assert begin(kit) is not None
    kit.close()
    heir = make_kit()
    heir.flush()

    assert ({}, {"acme": 1}) == (held(heir), counted(heir))
    assert [] == list((tmp_path / "meterkit" / "journal").glob("*.lineage"))


def test_orphans_that_have_nothing_are_removed(make_kit, idle, tmp_path):
    """As a worker leaves it that is killed before it has counted."""
    made = generation.Generation.create(tmp_path / "meterkit" / "journal")
    made.abandon()

    make_kit().flush()

    assert set() == files(tmp_path)


@pytest.mark.parametrize("begun", [0.0, 0.4, 2.5, 4.999, 5.0, 7.0, 7.6])
def test_all_processes_of_a_machine_hand_over_at_the_same_moments(begun):
    """Whenever they began: what they counted is added in one transaction."""
    moments = [begun]
    for _ in range(3):
        moments.append(next_moment(5.0, now=moments[-1]))

    _, first, *following = moments
    assert begun + 2.5 <= first <= begun + 7.5
    assert [0] * 3 == [moment % 5 for moment in (first, *following)]
    assert [5, 10] == [moment - first for moment in following]
