"""A success that no meter matched is seen: the app may have free paths, or a ``path=`` may be misspelled."""

from __future__ import annotations

import os

import pytest
from plain_exchange import PlainExchange, serve

import meterkit
from meterkit import Meter, maximum
from meterkit.metering import unmatched
from meterkit.metering.unmatched import MOST_NAMES, OTHERS

SCORES = Meter("scores", path="/v1/scores/*", method="POST")


def ask(kit, method="GET", path="/", **how):
    """Serve one request."""
    serve(kit, PlainExchange(method, path), **how)


def problems(kit):
    """What health says of paths, by reason."""
    found = kit.health()["problems"]
    return {reason: problem["message"] for reason, problem in found.items() if reason.startswith("path_")}


def test_successes_that_no_meter_matched(make_kit):
    """By method, and by the route template or else the path in its canonical form; the most frequent first."""
    kit = make_kit(SCORES, Meter("seats", path="/seats", value=maximum("seats")))
    for _ in range(2):
        ask(kit, path="//docs")
    ask(kit, "PUT", "/v1/scores/7")
    ask(kit, path="/users/1", route="/users/{id}")
    ask(kit, path="/users/2", route="/users/{id}")
    ask(kit, path="/users/2", route="/users/{id}")
    ask(kit, path="/\x1b[31m", headers={"Content-Length": "2"})
    ask(kit, "POST", "/v1/scores/7")
    ask(kit, path="/seats")
    ask(kit, path="/missing", status=404)
    ask(kit, path="/free", view=meterkit.skip)

    expected = {"GET /users/{id}": 3, "GET /docs": 2, "GET /\\x1b[31m": 1, "PUT /v1/scores/7": 1}
    assert list(expected.items()) == list(kit.health()["unmatched"].items())
    assert {} == problems(kit)


def test_the_names_have_an_end(make_kit):
    """Clients choose paths; the rest is counted under one name."""
    kit = make_kit(SCORES)
    for number in range(MOST_NAMES + 10):
        ask(kit, path=f"/{number}")

    found = kit.health()["unmatched"]
    assert (MOST_NAMES + 1, 10) == (len(found), found[OTHERS])


@pytest.mark.parametrize("path", ["/api/v1/scores/7", "/a/b/v1/scores/7", "/V1/Scores/7", "/api/V1/scores/7/"])
def test_a_path_that_is_nearly_a_meters(make_kit, path):
    """That it differs only by a prefix, or in case, needs attention, with what to do."""
    kit = make_kit(SCORES)
    ask(kit, "POST", path)

    assert problems(kit)["path_differs"].startswith(
        f"POST {path} succeeded, and no meter matched; it differs from path="
    )
    assert not kit.health()["ok"]


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/api/v1/scores/7"), ("POST", "/api/v1/score/7"), ("POST", "/v1"), ("POST", "/")]
)
def test_another_path_is_information(make_kit, method, path):
    """An app may have free paths, and free methods."""
    kit = make_kit(SCORES, Meter("all", path="/*/things"))
    ask(kit, method, path)

    assert {} == problems(kit)


def test_a_path_that_matches_nothing(make_kit, monkeypatch):
    """After many successes that no meter matched, a ``path=`` without a match is named; one match ends it."""
    monkeypatch.setattr(unmatched, "PATIENCE", 3)
    kit = make_kit(Meter("typo", path="/itmes"), Meter("rare", path="/rare"), Meter("seen", path="/seen"))
    ask(kit, path="/seen")
    for _ in range(2):
        ask(kit, path="/items")
    patient = problems(kit)
    ask(kit, path="/items")
    found = problems(kit)["path_unknown"]
    ask(kit, path="/rare")
    ask(kit, path="/items")

    assert {} == patient
    said = "path='/itmes' has matched nothing so far, and 3 successes matched no meter; did you mean '/items'?"
    assert f"Meter('typo'): {said}" in found
    assert "Meter('rare')" in found
    assert "Meter('seen')" not in found
    assert "Meter('rare')" not in problems(kit)["path_unknown"]
    ask(kit, path="/itmes")
    ask(kit, path="/items")
    assert {} == problems(kit)


def test_a_forked_child_counts_its_own(make_kit):
    """What the parent served is the parent's."""
    kit = make_kit(SCORES)
    ask(kit, path="/docs")
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        ask(kit, path="/users")
        os.write(write, repr(kit.health()["unmatched"]).encode())
        os._exit(0)
    os.waitpid(child, 0)

    assert repr({"GET /users": 1}) == os.read(read, 1000).decode()
    assert {"GET /docs": 1} == kit.health()["unmatched"]
