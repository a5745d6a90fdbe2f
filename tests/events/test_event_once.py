"""The same source and id count once, whatever happens between the first time and the second."""

from __future__ import annotations

import json

import pytest
from served_events import Served, event

from meterkit import Meter

DAY = 24 * 3600


def problems(kit):
    """What health says, but for the missing key of Stripe."""
    return {reason: each for reason, each in kit.health()["problems"].items() if reason != "no_stripe_key"}


@pytest.mark.parametrize("between", [lambda kit: None, lambda kit: kit.flush(), lambda kit: kit.close()])
def test_sent_again(serve, make_kit, between):
    """After a lost response: before the fold, after it, after a restart; and to another process."""
    served = serve()
    meters = list(served.kit.meters.values())
    for each in (served, served, Served(make_kit(*meters))):
        assert 202 == each.post([event(1), event(2)]).status_code
        between(each.kit)

    assert [("acme", None, 6)] == served.used()
    books = served.kit.health()["books"]["tokens"]
    assert (6, True) == (books["counted"], books["balanced"])
    assert {} == problems(served.kit)


def test_in_one_batch(serve):
    """Repeated events of a batch count once, and are counted in the response; one that differs is named."""
    served = serve()
    response = served.post([event(1), event(2), event(1)])

    assert {"accepted": 2, "repeated": 1, "unmatched": 0} == response.json()
    assert {} == problems(served.kit)

    served.post([event(3), event(3, tokens=99)])
    assert [("acme", None, 9)] == served.used()
    assert "'e-3' of 'shop'" in problems(served.kit)["key_reused"]["message"]


def test_large_data_and_many_repeats(serve):
    """An event with a long list in its data, and a thousand that repeat its id: one is counted, at once."""
    served = serve()
    large = event(1, data={"tokens": 3, "list": list(range(50_000))})
    response = served.post([large, *[event(1, data={"tokens": 3})] * 1000, large])

    assert {"accepted": 1, "repeated": 1001, "unmatched": 0} == response.json()
    assert [("acme", None, 3)] == served.used()
    assert 1000 == problems(served.kit)["key_reused"]["count"]


def test_the_first_quantity_counts(serve, clock):
    """Another one under the same id is not counted, and named, before the fold and after it."""
    served = serve()
    served.post(event())
    clock.advance(1)
    served.post(event(tokens=40))
    assert [("acme", None, 3)] == served.used()
    served.post(event(tokens=41))
    assert [("acme", None, 3)] == served.used()

    problem = problems(served.kit)["key_reused"]
    assert 2 == problem["count"]
    assert "the event 'e-1' of 'shop' counted 3 for tokens, and was sent again with 41" in problem["message"]


def test_an_event_does_not_move(serve, clock):
    """Sent again for another company, or at another time, it does not count again."""
    served = serve()
    served.post(event(time="2026-03-01T10:00:00Z"))
    served.kit.flush()
    served.post(event(subject="globex"))
    served.post(event(time="2026-03-01T11:00:00Z"))

    assert [("acme", None, 3)] == served.used()


def test_what_is_another_event(serve):
    """Another id, another source, and another meter that counts the same event."""
    served = serve(
        Meter("tokens", event_type="prompt", value="$.tokens"),
        Meter("prompts", event_type="prompt"),
    )
    served.post([event(1), event(2), event(1, source="shop/2"), event("1", source="shop/e-1")])

    assert [("acme", None, 12)] == served.used(meter="tokens")
    assert [("acme", None, 4)] == served.used(meter="prompts")


def test_keys_of_records_are_others(serve):
    """The application's own keys never meet those of events, however they look."""
    served = serve()
    served.post(event())
    for key in ("e-1", "shop e-1", json.dumps(["shop", "e-1"]), "shope-1"):
        served.kit.record("tokens", "acme", 1, key=key)

    assert [("acme", None, 3 + 4)] == served.used()
    served.kit.record("tokens", "acme", 1, key="e-1")
    assert [("acme", None, 3 + 4)] == served.used()


@pytest.mark.parametrize("length", [100, 199, 200, 201, 255, 256, 10_000])
def test_long_ids(serve, length):
    """They count once, too; and two that differ in the last character are two."""
    served = serve()
    for last in "ab":
        for _ in range(2):
            assert 202 == served.post(event(id="ü" * (length - 1) + last)).status_code
            served.kit.close()

    assert [("acme", None, 6)] == served.used()
    with served.kit.process().database().snapshot() as connection:  # a database's index has no room for more
        keys = connection.exec_driver_sql("SELECT key FROM meterkit_record_keys").scalars().all()
    assert (2, True) == (len(keys), max(map(len, keys)) < 255)
    served.post(event(id="ü" * (length - 1) + "a", tokens=4))
    served.kit.flush()
    assert "was sent again with 4" in problems(served.kit)["key_reused"]["message"]


def test_remembered_for_35_days(serve, clock):
    """After that, an event without a time counts anew; one with its time is refused."""
    served = serve()
    sent = event(time="2026-03-01T12:10:00Z")
    served.post(sent)
    served.kit.close()
    clock.advance(35 * DAY)
    assert 202 == served.post(sent).status_code
    served.kit.close()
    assert 3 == sum(each[2] for each in served.used())

    clock.advance(1)
    assert 422 == served.post(sent).status_code
    assert 3 == sum(each[2] for each in served.used())


def test_stripe_is_sent_once(serve, stripe, customer, clock):
    """Twice sent, once billed."""
    served = serve(
        Meter("calls", event_type="call", value="$.n"),
        options={"stripe_key": stripe.api_key, "stripe_base": stripe.url},
    )
    served.kit.link("acme", customer)
    for _ in range(2):
        assert 202 == served.post(event(type="call", data={"n": 37})).status_code
        served.kit.report(include_open=True)
        clock.advance(3600)

    assert 37 == stripe.usage("calls", customer)
    assert 1 == len(stripe.meter_events)


def test_nobody_is_billed_for_nothing(serve):
    """An event of quantity 0 is accepted."""
    served = serve()

    assert 202 == served.post(event(tokens=0)).status_code
    assert [] == served.used()
