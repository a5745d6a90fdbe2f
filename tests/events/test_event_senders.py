"""What the key of a sender covers: sources, companies, and types that no meter counts."""

from __future__ import annotations

import pytest
from served_events import PLAIN, event

from meterkit import ConfigurationError
from meterkit.service import Key

SECRET, OTHER = "a-secret-of-the-shop", "a-secret-of-the-api"


def bearer(secret=SECRET):
    """The header with the key of a sender."""
    return {"authorization": f"Bearer {secret}"}


def test_the_name_of_the_key_is_the_source(serve):
    """So a sender cannot use up the ids of another: the same id of both is two events."""
    served = serve(keys={"shop": SECRET, "api": OTHER})
    for source in ("shop", "shop/pod-1"):
        assert 202 == served.post(event(source=source), headers=bearer()).status_code
    refused = served.post(event(source="shop"), headers=bearer(OTHER))
    assert 202 == served.post(event(source="api"), headers=bearer(OTHER)).status_code

    assert (422, "urn:meterkit:problem:source_not_allowed") == (refused.status_code, refused.json()["type"])
    assert "the key of api is for events of api or api/*, not of 'shop'" in refused.json()["detail"]
    assert [("acme", None, 9)] == served.used()


def test_the_source_may_be_left_out(serve):
    """Of plain JSON; then it is the name of the key."""
    served = serve(keys={"shop": SECRET})
    assert 202 == served.post(event(source=None, specversion=None), type=PLAIN, headers=bearer()).status_code
    assert 202 == served.post(event(source="shop"), headers=bearer()).status_code

    assert [("acme", None, 3)] == served.used()


@pytest.mark.parametrize("sources", ["*", ["https://*", "cron"]])
def test_other_sources(serve, sources):
    """A key may cover others."""
    served = serve(keys={"shop": Key(SECRET, sources=sources)})

    assert 202 == served.post(event(source="https://shop.example/pod-1"), headers=bearer()).status_code
    assert [("acme", None, 3)] == served.used()


def test_companies(serve):
    """A key may be limited to some: nobody else is billed for what it sends."""
    served = serve(keys={"shop": Key(SECRET, companies=["globex"])})
    response = served.post([event(1, subject="globex"), event(2)], headers=bearer())
    assert (422, "urn:meterkit:problem:company_not_allowed") == (response.status_code, response.json()["type"])
    assert [] == served.used()

    assert 202 == served.post([event(1, subject="globex")], headers=bearer()).status_code
    assert [("globex", None, 3)] == served.used()


def test_unmatched_may_be_refused(serve):
    """For a sender whose events are all meant to count."""
    served = serve(keys={"shop": Key(SECRET, unmatched="refuse")})
    response = served.post([event(1), event(2, type="promt")], headers=bearer())

    assert (422, "urn:meterkit:problem:event_unmatched") == (response.status_code, response.json()["type"])
    assert "did you mean 'prompt'?" in response.json()["detail"]
    assert [] == served.used()


def test_no_key(serve):
    """It is asked for before the body is looked at."""
    served = serve(keys={"shop": SECRET, "gate": Key(OTHER, scopes=["check"])})

    assert 401 == served.post(b"{").status_code
    assert 403 == served.post(b"{", headers=bearer(OTHER)).status_code


@pytest.mark.parametrize(
    ("options", "cure"),
    [
        ({"sources": []}, "a list of str"),
        ({"sources": [7]}, "a list of str"),
        ({"companies": "acme"}, "a list of str"),
        ({"companies": [""]}, "a list of str"),
        ({"unmatched": "drop"}, "'accept' or 'refuse'"),
    ],
)
def test_a_wrong_key(options, cure):
    """It is refused while it is built."""
    with pytest.raises(ConfigurationError) as caught:
        Key(SECRET, **options)

    assert cure in str(caught.value)
