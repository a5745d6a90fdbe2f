"""A collector folds many generations at once, and no generation holds up the others."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from fake_clock import NOON
from real_nats import ask, used, wait_until_settled

from meterkit import LedgerError, Meter, maximum, unique
from meterkit.jetstream import collector as collector_module
from meterkit.jetstream.message import Sender, encoded
from meterkit.ledger import schema
from meterkit.ledger.ledger import Ledger

DAY = 24 * 3600


def publish(jetstream, *messages):
    """Publish what no host would."""

    async def published(context):
        for message in messages:
            await context.publish(jetstream.subject, message)

    ask(jetstream, published)


def message(number, *cells, begun=NOON + 0.0, live=None):
    """A generation, of which each of *cells* is a company and a quantity."""
    counted = [(("calls", "calls", company, "", NOON), quantity, NOON + 1) for company, quantity in cells]
    return encoded(f"{number:032x}", counted, begun=begun, sender=Sender(live, None))


def refused(jetstream):
    """Why messages were refused."""

    async def found(context):
        state = (await context.stream_info(jetstream.refused_stream)).state
        messages = [await context.get_msg(jetstream.refused_stream, seq) for seq in range(1, state.messages + 1)]
        return [each.headers["Meterkit-Refused"] for each in messages]

    return ask(jetstream, found)


def test_many_at_once(kit, collector, jetstream):
    """All of them in one transaction, whoever published them."""
    transactions = []

    def note(connection):
        transactions.append(connection)

    sa.event.listen(sa.Engine, "commit", note)
    publish(jetstream, *(message(number, ("acme", 1), (f"company-{number}", 2)) for number in range(40)))
    collector.collect()
    sa.event.remove(sa.Engine, "commit", note)

    assert {"acme": 40} | {f"company-{number}": 2 for number in range(40)} == used(kit)
    assert 1 == len([each for each in transactions if not each.get_execution_options().get("only_reads")])
    assert kit.health()["books"]["calls"]["balanced"]


def test_large_generations(kit, collector, jetstream, monkeypatch):
    """A transaction has only so many rows, which others wait for; a generation is never divided."""
    monkeypatch.setattr(collector_module, "MOST_ROWS", 10)
    folded = []
    fold_many = Ledger.fold_many

    def note(ledger, generations, **options):
        folded.append([len(list(cells)) for cells in generations.values()])
        return fold_many(ledger, generations, **options)

    monkeypatch.setattr(Ledger, "fold_many", note)
    sizes = [4, 6, 1, 25, 3]
    for number, size in enumerate(sizes):
        publish(jetstream, message(number, *((f"company-{each}", 1) for each in range(size))))
    found = collector.collect()

    assert (5, 5) == (found.messages, found.new)
    assert [[4, 6, 1], [25], [3]] == folded
    assert sum(sizes) == sum(used(kit).values())


def test_all_kinds_of_usage(make_kit, make_collector, jetstream):
    """Observations and keyed records of many hosts count as if one host had folded them."""
    meters = [
        Meter("users", value=unique("user"), http=False),
        Meter("seats", value=maximum("seats"), http=False),
        Meter("jobs"),
    ]
    hosts = [make_kit(*meters, jetstream=jetstream) for _ in range(3)]
    collector = make_collector()
    for number, host in enumerate(hosts):
        host.record("users", "acme", user="ann")
        host.record("users", "acme", user=f"user-{number}")
        host.record("seats", "acme", 10 + number)
        host.record("jobs", "acme", 5, key="job-1")
        host.record("jobs", "acme", 1, key=f"job-{number}-b")
        host.flush()
    found = collector.collect()

    assert (3, 3) == (found.messages, found.new)
    sums = {}
    for each in hosts[0].usage():
        sums[each.meter] = sums.get(each.meter, 0) + each.quantity
    assert {"users": 4, "seats": 12, "jobs": 8} == sums


def test_a_generation_twice_in_one_batch(kit, collector, jetstream):
    """It counts once, and both messages are settled."""
    publish(jetstream, message(1, ("acme", 3)), message(1, ("acme", 3)), message(2, ("acme", 4)))
    found = collector.collect()

    assert (3, 2) == (found.messages, found.new)
    assert {"acme": 7} == used(kit)
    wait_until_settled(jetstream)


def test_two_collectors(kit, make_collector, jetstream):
    """They share what waits, and each generation counts once."""
    one, other = make_collector(batch=3), make_collector(batch=3)
    publish(jetstream, *(message(number, ("acme", 1)) for number in range(10)))
    found = [one.collect().new, other.collect().new, one.collect().new, other.collect().new]

    assert [3, 3, 3, 1] == found
    assert {"acme": 10} == used(kit)


def test_killed_before_the_acknowledgement(kit, make_collector, jetstream, monkeypatch):
    """What a killed collector had folded is delivered again, and does not count again."""
    killed = make_collector()
    publish(jetstream, message(1, ("acme", 3)))

    def kill(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(killed._client, "settle", kill)
    with pytest.raises(KeyboardInterrupt):
        killed.collect()
    assert {"acme": 3} == used(kit)

    async def hurry(context):
        info = await context.consumer_info(jetstream.stream, jetstream.consumer)
        await context.add_consumer(jetstream.stream, info.config.evolve(ack_wait=0.1))

    survivor = make_collector()
    ask(jetstream, hurry)
    found = survivor.collect()
    while not found.messages:
        found = survivor.collect()

    assert (1, 0) == (found.messages, found.new)
    assert {"acme": 3} == used(kit)


BROKEN_KEY = ("calls", "calls", "acme", "\x03[1", NOON)

POISON = {
    "garbage": (b"garbage", "it was not published by meterkit"),
    "damaged": (message(1, ("acme", 1))[:-1] + b"x", "it is damaged"),
    "live": (message(1, ("acme", 1), live=True), "it is for live mode, and this collector's ledger for test mode"),
    "old": (message(1, ("acme", 1), begun=NOON - 60.0), "39 days old, so it is not certain whether the ledger had it"),
    "keyed": (
        encoded("1" * 32, [(BROKEN_KEY, 1, NOON)], begun=NOON + 0.0, sender=Sender(None, None)),
        "JSONDecodeError",
    ),
}


@pytest.mark.parametrize("name", POISON)
def test_one_that_cannot_be_folded(make_kit, make_collector, jetstream, clock, name):
    """It is kept in a stream of its own, with the reason, and the others in its batch are folded."""
    poison, why = POISON[name]
    kit = make_kit(stripe_key="sk_test_1", jetstream=jetstream)
    collector = make_collector(stripe_key="sk_test_1")
    if name == "old":
        clock.now = NOON + 39 * DAY + 2
    others = [message(number, ("acme", 1), begun=clock.now - 60) for number in (2, 3)]
    publish(jetstream, others[0], poison, others[1])
    found = collector.collect()

    assert 2 == found.new
    assert {"acme": 2} == used(kit)
    (reason,) = refused(jetstream)
    assert why in reason
    wait_until_settled(jetstream)
    assert {"waiting": 0, "refused": 1} == kit.health()["jetstream"]
    assert any(f"are in the stream {jetstream.refused_stream}" in each for each in kit.health()["attention"])


def test_one_that_the_database_refuses(kit, make_collector, jetstream, monkeypatch):
    """A value that the database cannot store is found among the others, which are folded."""
    collector = make_collector()
    publish(jetstream, message(1, ("acme", 1)), message(2, ("acme", 2), ("huge", 1)), message(3, ("acme", 4)))
    table = schema.usage

    def refuse(_connection, _cursor, statement, parameters, *_):
        if str(table) in statement and "huge" in repr(parameters):
            raise OverflowError("this number is too large")

    sa.event.listen(sa.Engine, "before_cursor_execute", refuse)
    try:
        found = collector.collect()
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", refuse)

    assert 2 == found.new
    assert {"acme": 5} == used(kit)
    assert ["cannot store a value" in each for each in refused(jetstream)] == [True]


def test_a_newer_version(kit, collector, jetstream):
    """It stays in the stream, for a collector that can read it, and the others are folded."""
    newer = bytearray(message(1, ("acme", 1)))
    newer[4] = 2
    publish(jetstream, bytes(newer), message(2, ("acme", 2)))
    found = collector.collect()

    assert (2, 1) == (found.messages, found.new)
    assert {"acme": 2} == used(kit)
    assert [] == refused(jetstream)


def test_the_ledger_is_away(kit, make_collector, jetstream, tmp_path, monkeypatch):
    """Nothing is acknowledged, so what was delivered comes again, and is folded then."""
    collector = make_collector()
    publish(jetstream, message(1, ("acme", 3)))
    with monkeypatch.context() as broken:

        def fail(*_, **__):
            raise LedgerError("the ledger failed")

        broken.setattr(collector._ledger, "fold_many", fail)
        with pytest.raises(LedgerError, match="the ledger failed"):
            collector.collect()
    found = collector.collect()
    while not found.messages:
        found = collector.collect()

    assert (1, 1) == (found.messages, found.new)
    assert {"acme": 3} == used(kit)


def test_periods(make_kit, make_collector, jetstream, tmp_path, clock):
    """However late a collector comes, what was counted after a period's end belongs to the next period."""
    edge = NOON + 1800
    kit = make_kit()
    with kit.process().database().transaction() as connection:
        row = {"id": "si_1", "subscription": "sub_1", "customer": "cus_1", "period_start": edge - 30 * DAY}
        connection.execute(sa.insert(schema.items).values(**row, period_end=edge, price="{}"))
    before = encoded("1" * 32, [(CUS_1, 1, edge - 5)], begun=edge - 10.0, sender=Sender(None, None))
    after = encoded("2" * 32, [(CUS_1, 2, edge + 5)], begun=edge + 1.0, sender=Sender(None, None))
    make_collector()
    publish(jetstream, after, before)
    clock.advance(5 * DAY)
    make_collector().collect()

    assert {NOON: 1, edge: 2} == {each.window: each.quantity for each in kit.usage()}


CUS_1 = ("calls", "calls", "cus_1", "", NOON)
