"""Which meters an exchange matches."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterkit import Meter, response_json
from meterkit.metering.matching import MAX_REMEMBERED, MeterMatcher
from meterkit.metering.paths import DEEPEST, glob


def names(matcher, method="GET", path="/", route=None, status=200):
    """The names of the meters that match."""
    return [meter.name for meter in matcher.match(method, path, route, status).meters]


def matches(meter, method="GET", path="/", route=None, status=200):
    """Whether this one meter matches."""
    return bool(names(MeterMatcher([meter]), method, path, route, status))


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("/v1/score", "/v1/score", True),
        ("/v1/score", "/v1/score/", True),
        ("/v1/score/", "/v1/score", True),
        ("/v1/score", "/v1/scores", False),
        ("/v1/score", "/V1/score", False),
        ("/v1/*", "/v1/", True),
        ("/v1/*", "/v1", True),
        ("/v1/*", "/v1/a/b", True),
        ("/v1/*", "/v1/a\nb", True),
        ("/v1/*", "/v2", False),
        ("/v1/*", "/x/v1/a", False),
        ("*/score", "/v1/score", True),
        ("/a*a", "/a", False),
        ("/a*a", "/aa", True),
        ("/v1/*/items/*", "/v1/x/items/", True),
        ("/v1/*/items/*", "/v1/items/", False),
        ("/*ab*b*", "/ab", False),
        ("/a.c", "/abc", False),
        ("/a+", "/aa", False),
        ("*", "", True),
    ],
)
def test_path(pattern, path, expected):
    """A path is a glob over the whole path, in which only ``*`` is special, and stands for any characters."""
    assert expected == matches(Meter("calls", path=pattern), path=path)


@pytest.mark.parametrize(
    "path",
    [
        "//v1/score",
        "///v1//score",
        "/v1/score/",
        "/v1/score//",
        "/v1/score\n",
        "/v1/score\r\n",
        "/v1/score\N{REPLACEMENT CHARACTER}",
        "/v1/\N{REPLACEMENT CHARACTER}score\n\N{REPLACEMENT CHARACTER}",
        ("/x", "/v1/score"),
        ("/x/", "//v1/score/"),
        ("x", "/v1/score"),
        ("/v1", "/score"),
        ("/x/v1", "/score"),
        ("/x" * 1000 + "/v1", "/score\n"),
    ],
)
@pytest.mark.parametrize("pattern", ["/v1/score", "/v1/score/", "//v1/score", "/v1/*", "*/score"])
def test_no_spelling_of_a_path_is_free(pattern, path):
    """Frameworks forgive slashes, a line break and bytes that are not UTF-8, and a client may choose a prefix."""
    assert matches(Meter("calls", path=pattern), path=path)


@pytest.mark.parametrize(
    "path", ["/v1/sc//ore", "/v1/s\ncore", "/v1/../v1/scores", ("/v1/score", "/other"), ("/v1", "")]
)
def test_another_path_stays_another(path):
    """What no framework routes alike is not the same."""
    assert not matches(Meter("calls", path="/v1/score"), path=path)


def test_the_mounts_of_a_deep_prefix():
    """What a client puts in front of the application's own mounts changes nothing."""
    mounts = "/m" * DEEPEST
    meter = Meter("calls", path=f"{mounts}/score")

    assert matches(meter, path=("/x" * 50 + mounts, "/score"))


@given(
    pattern=st.lists(st.sampled_from(["*", "a", "b", "/", "ab"]), max_size=7).map("".join),
    path=st.text(alphabet="ab/", max_size=14),
)
def test_path_as_a_naive_matcher(pattern, path):
    """The glob agrees with the naive one, which tries every length for every star."""
    pattern = "/" + re.sub(r"\*+", "*", pattern)

    def naive(pattern, path):
        if not pattern:
            return not path
        if pattern[0] == "*":
            return any(naive(pattern[1:], path[skipped:]) for skipped in range(len(path) + 1))
        return path[:1] == pattern[0] and naive(pattern[1:], path[1:])

    assert naive(pattern, "/" + path) == glob(pattern)("/" + path)


def test_path_chosen_by_an_attacker():
    """A path that is made to match in many ways is answered at all; a regular expression would try them for hours."""
    meter = Meter("calls", path="/*a*a*a*a*a*a*a*a*b")

    assert not matches(meter, path="/" + "a" * 100_000)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (None, ["GET", "POST", "HEAD", "OPTIONS", "PURGE"]),
        ("POST", ["POST"]),
        ("post", ["POST"]),
        ("GET", ["GET", "HEAD"]),
        ("HEAD", ["HEAD"]),
        (["GET", "OPTIONS"], ["GET", "HEAD", "OPTIONS"]),
    ],
)
def test_method(method, expected):
    """One method, several, or all; in capitals or not, as declared and as sent; a HEAD is a GET without a body."""
    meter = Meter("calls", method=method)
    methods = ("GET", "POST", "HEAD", "OPTIONS", "PURGE")

    assert expected == [each for each in methods if matches(meter, method=each)]
    assert expected == [each for each in methods if matches(meter, method=each.lower())]


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("2xx", [200, 204, 299]),
        (200, [200]),
        ("*", [100, 200, 204, 299, 302, 404, 500, 599]),
        ([200, "4xx"], [200, 404]),
        (["5xx", 302], [302, 500, 599]),
    ],
)
def test_status(status, expected):
    """A code, a class, all of them, or several."""
    meter = Meter("calls", status=status)

    assert expected == [
        code for code in (0, 100, 200, 204, 299, 302, 404, 500, 599, 600) if matches(meter, status=code)
    ]


def test_failures_are_free_by_default():
    """Without a word on the status, only successes count."""
    assert [200] == [code for code in (200, 301, 404, 500) if matches(Meter("calls"), status=code)]


@pytest.mark.parametrize(("route", "expected"), [("/items/{id}", True), ("/items", False), (None, False)])
def test_route(route, expected):
    """A template is compared as it is, and what has none does not match."""
    assert expected == matches(Meter("calls", route="items/{id}"), path="/items/1", route=route)


def test_every_filter_has_to_match():
    """Method, path, route and status each have a veto."""
    meter = Meter("calls", method="POST", path="/a*", route="/a/{b}", status=201)

    assert [True, False, False, False, False] == [
        matches(meter, "POST", "/a/1", "/a/{b}", 201),
        matches(meter, "PUT", "/a/1", "/a/{b}", 201),
        matches(meter, "POST", "/b/1", "/a/{b}", 201),
        matches(meter, "POST", "/a/1", "/a", 201),
        matches(meter, "POST", "/a/1", "/a/{b}", 200),
    ]


def test_every_matching_meter_counts():
    """All meters that match are found, in the order of their declaration."""
    matcher = MeterMatcher([Meter("z"), Meter("a", path="/a"), Meter("m", path="*")])

    assert [["z", "a", "m"], ["z", "m"]] == [names(matcher, path="/a"), names(matcher, path="/b")]


def test_a_body_is_read_only_for_a_meter_that_matches():
    """The largest cap of the matching meters says how much of a body they see; without such meters, nothing."""
    matcher = MeterMatcher(
        [
            Meter("rows", path="/query", value=response_json("rows", max_bytes=100)),
            Meter("cells", path="/q*", value=response_json("cells", max_bytes=300)),
            Meter("calls"),
        ]
    )

    assert [300, 0] == [matcher.match("GET", path, None, 200).body_bytes for path in ("/query", "/other")]


def test_memory_has_an_end():
    """However many paths clients make up, the answers are right, and only so many are kept."""
    matcher = MeterMatcher([Meter("calls", path="/even/*0")])
    paths = [f"/even/{number}" for number in range(MAX_REMEMBERED * 2)]

    found = [path for path in paths if names(matcher, path=path)]

    assert [path for path in paths if path.endswith("0")] == found
    assert len(matcher.remembered) <= MAX_REMEMBERED
