"""A token shows one company's page in the vendor's own page, for some minutes, and to nobody else."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from typing import Any

import pytest
from adapter_stacks import Stack
from fake_clock import Clock
from page_browser import Browser, tags_of
from page_kits import CALLS

from meterkit import ConfigurationError, MeterKit, Pages, UsageError

SECRET = "s" * 32
OTHER = "o" * 32
APP = "https://app.example.com"


def pages(**options: Any) -> Pages:
    return Pages("/billing", **{"embed_in": [APP], "embed_secret": SECRET, **options})


@pytest.fixture
def kit(make_kit: Callable[..., MeterKit]) -> MeterKit:
    kit = make_kit(pages=pages())
    kit.record(CALLS, "acme", 3)
    kit.record(CALLS, "globex", 777)
    kit.flush()
    return kit


@pytest.fixture
def frame(stack: Stack, kit: MeterKit) -> Browser:
    """An iframe: nobody is signed in."""
    return Browser(stack, stack.make(kit), {})


def embed(frame: Browser, token: str, **headers: str) -> Any:
    return frame.get(f"/billing/embed?token={token}", headers=headers)


def test_one_companys_page(frame: Browser, kit: MeterKit) -> None:
    """Without buttons, in pages of the vendor's alone; the address, which has the token, is told to nobody."""
    page = embed(frame, kit.embed_token("acme"))

    assert 200 == page.status
    assert "3 used in this period" in page.words
    assert "777" not in page.words
    assert [APP] == page.policy["frame-ancestors"]
    assert ["'none'"] == page.policy["form-action"]
    assert "no-referrer" == page.headers["referrer-policy"]
    assert not {tag for tag, _ in tags_of(page.text)} & {"form", "button", "script"}
    assert {200} == {frame.follow("/billing/embed", link).status for link in page.links if "static" in link}


def test_it_opens_nothing_else(frame: Browser, kit: MeterKit) -> None:
    """Not the page itself, nor a button."""
    token = kit.embed_token("acme")

    assert 401 == frame.get(f"/billing/?token={token}").status
    assert 401 == frame.post(f"/billing/portal?token={token}").status
    assert 405 == frame.post(f"/billing/embed?token={token}").status


def test_it_ages(frame: Browser, kit: MeterKit, clock: Clock) -> None:
    """After ten minutes it is over."""
    token = kit.embed_token("acme")
    statuses = []
    for seconds in (599, 1, 10**9):
        clock.advance(seconds)
        statuses.append(embed(frame, token).status)

    assert [200, 403, 403] == statuses


def changed(token: str, **to: Any) -> str:
    """A token whose payload says something else, under the old signature."""
    payload, signature = token.split(".")
    expires, company = urlsafe_b64decode(payload + "==").decode().split(":", 1)
    payload = f"{to.get('expires', expires)}:{to.get('company', company)}"
    return f"{urlsafe_b64encode(payload.encode()).decode().rstrip('=')}.{signature}"


FORGED: dict[str, Callable[[str], str]] = {
    "none": lambda _: "",
    "another company's": lambda token: changed(token, company="globex"),
    "for longer": lambda token: changed(token, expires=10**12),
    "without a signature": lambda token: token.split(".")[0],
    "with an empty one": lambda token: token.split(".")[0] + ".",
    "cut": lambda token: token[:-1],
    "longer": lambda token: token + "A",
    "padded": lambda token: token + "=",
    "three parts": lambda token: token + "." + token,
    "with a blank": lambda token: token.replace(".", "%20."),
    "not Base64": lambda _: "ä.ö",
    "not text": lambda _: "%ff%fe.%00",
    "10,000 characters": lambda token: token + "A" * 10_000,
}


def test_forged(kit: MeterKit, open_page: Callable[..., Browser]) -> None:
    """All are answered alike, as an old one is: nothing can be learned from it."""
    frame = open_page(kit, company=None)
    token = kit.embed_token("acme")
    unsigned = embed(frame, "x")
    answers = {name: embed(frame, forge(token)) for name, forge in FORGED.items()}

    assert "acme" not in unsigned.text
    assert dict.fromkeys(FORGED, (403, unsigned.body, unsigned.headers)) == {
        name: (page.status, page.body, page.headers) for name, page in answers.items()
    }


def test_who_is_signed_in_as_another(frame: Browser, kit: MeterKit) -> None:
    """Has come by a token that is not meant for it; the company itself may use its own."""
    token = kit.embed_token("acme")

    assert [403, 200] == [embed(frame, token, **{"X-Company": company}).status for company in ("globex", "acme")]


def test_secrets_are_replaced_one_by_one(make_kit: Callable[..., MeterKit], open_page: Callable[..., Browser]) -> None:
    """While both are known, the tokens of both are good; the first signs. Any host can read those of another."""
    old, both, new = (make_kit(pages=pages(embed_secret=each)) for each in (SECRET, [OTHER, SECRET], OTHER))

    def statuses(kit: MeterKit) -> list[int]:
        frame = open_page(kit, company=None)
        return [embed(frame, made.embed_token("acme")).status for made in (old, both, new)]

    assert [[200, 403, 403], [200, 200, 200], [403, 200, 200]] == [statuses(kit) for kit in (old, both, new)]


def test_a_secret_of_the_environment(make_kit: Callable[..., MeterKit], monkeypatch: pytest.MonkeyPatch) -> None:
    """Is taken, and is shown nowhere."""
    monkeypatch.setenv("METERKIT_EMBED_SECRET", SECRET)
    found = Pages("/billing", embed_in=[APP])

    assert SECRET not in repr(found)
    assert "." in make_kit(pages=found).embed_token("acme")


def test_without_tokens(make_kit: Callable[..., MeterKit], open_page: Callable[..., Browser]) -> None:
    """None can be made, and none is taken."""
    for kit in (make_kit(), make_kit(pages=None)):
        with pytest.raises(ConfigurationError, match="embed_in="):
            kit.embed_token("acme")

    assert 403 == embed(open_page(company=None), "MTI6YWNtZQ.MTI6YWNtZQ").status


@pytest.mark.parametrize("expires_in", [0, -1, 86_401, "600", True, float("nan"), None])
def test_a_life_that_is_none(kit: MeterKit, expires_in: Any) -> None:
    """It is said at once, as a company that is none is."""
    with pytest.raises(UsageError, match="1 to 86,400 seconds"):
        kit.embed_token("acme", expires_in=expires_in)
    with pytest.raises(UsageError):
        kit.embed_token("")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"embed_secret": "short"}, "at least 32"),
        ({"embed_secret": [SECRET, 5]}, "at least 32"),
        ({"embed_secret": None}, "needs a secret"),
        ({"embed_in": APP}, "must be a list"),
        ({"embed_in": 5}, "must be a list"),
        ({"embed_in": ["*"]}, "must list origins"),
        ({"embed_in": ["app.example.com"]}, "must list origins"),
        ({"embed_in": ["http://app.example.com"]}, "must list origins"),
        ({"embed_in": [f"{APP}/"]}, "must list origins"),
        ({"embed_in": [f"{APP}; script-src *"]}, "must list origins"),
        ({"embed_in": ["https://*.example.com"]}, "must list origins"),
        ({"embed_in": ["https://a:b@app.example.com"]}, "must list origins"),
        ({"embed_in": ["https://app.example.com:99999"]}, "must list origins"),
        ({"embed_in": [5]}, "must list origins"),
    ],
    ids=str,
)
def test_settings_that_are_none(options: dict[str, Any], match: str) -> None:
    """It is said while building."""
    with pytest.raises(ConfigurationError, match=match):
        pages(**options)


@pytest.mark.parametrize("origin", ["http://localhost:3000", "http://127.0.0.1:8000", "https://app.example.com:8443"])
def test_origins(origin: str) -> None:
    """Of this machine need no TLS."""
    assert (origin,) == pages(embed_in=[origin]).embedding_origins
