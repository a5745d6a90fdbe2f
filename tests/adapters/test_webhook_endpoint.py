"""The webhook's path, in every stack: answered before the app, without its routes, its views, or CSRF."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from adapter_drivers import Answer
from adapter_stacks import STACKS, Stack

from meterkit import Meter, MeterKit, Webhook

sys.path.insert(0, str(Path(__file__).parents[1] / "webhooks"))
from signed import SECRET, body_of, signature_of, snapshot

PATH = "/stripe/webhook"
EVENT = body_of(snapshot("invoice.paid", {"object": "invoice", "id": "in_1", "number": "Zoë-1"}))


@pytest.fixture
def kit(make_kit: Callable[..., MeterKit]) -> MeterKit:
    """Counts every request, whatever came of it, and takes webhooks."""
    return make_kit(Meter("all", path="*", status="*"), webhook=Webhook(PATH, secret=SECRET))


@pytest.fixture
def post(stack: Stack, kit: MeterKit, clock: Callable[[], float]) -> Callable[..., Answer]:
    """Sends a body to the webhook's path, signed unless told otherwise."""
    app = stack.make(kit)

    def post(payload: bytes = EVENT, signature: str | None = None, method: str = "POST", **options: Any) -> Answer:
        headers = {"Stripe-Signature": signature_of(payload, clock()) if signature is None else signature}
        return stack.call(app, method, options.pop("path", PATH), payload=payload, headers=headers, **options)

    return post


def received(kit: MeterKit) -> list[str]:
    return [event.id for event in kit.webhook_events()]


def test_an_event_is_taken_and_the_app_is_not_asked(post: Callable[..., Answer], kit: MeterKit) -> None:
    """It is in the ledger when Stripe hears 200; nobody is billed for it."""
    answer = post()

    assert (200, b'{"received": true}', None) == (answer.status, answer.body, answer.error)
    assert ["evt_1"] == received(kit)
    kit.flush()
    assert [] == kit.usage()


def test_a_wrong_signature_is_a_400_that_says_nothing(post: Callable[..., Answer], kit: MeterKit) -> None:
    """And a counter in ``kit.health()``."""
    answer = post(signature="t=1,v1=00")

    assert (400, b'{"error": "not an event signed with this endpoint\'s secret"}') == (answer.status, answer.body)
    assert [] == received(kit)
    assert {"received": 0, "refused": 1} == kit.health()["webhook"]


def test_other_paths_are_the_apps(post: Callable[..., Answer], kit: MeterKit) -> None:
    """Also one that begins the same."""
    post(path="/whole", method="GET", payload=b"")
    post(path=PATH + "/", method="GET", payload=b"")
    kit.flush()

    assert 2 == sum(row.quantity for row in kit.usage())
    assert [] == received(kit)


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_other_methods_are_not_allowed(post: Callable[..., Answer], method: str) -> None:
    """Stripe sends a POST."""
    answer = post(method=method)

    assert 405 == answer.status
    assert "POST" in dict(answer.headers).values()


@pytest.mark.parametrize(("kilobytes", "status"), [(250, 200), (257, 413)])
def test_large_bodies(post: Callable[..., Answer], kilobytes: int, status: int) -> None:
    """More than Stripe ever sends is taken; much more is not even kept in memory."""
    padding = "x" * (kilobytes * 2**10)
    answer = post(body_of(snapshot("invoice.paid", {"object": "invoice", "id": "in_1", "description": padding})))

    assert status == answer.status


@pytest.mark.parametrize(
    "signature",
    ["", "t=1", "t=1,v1=\u00e9", f"t=1,v1={'0' * 64},", f"t=1,t=2,v1={'0' * 64}", f"t=1,v1={'0' * 64}" * 99],
)
def test_a_body_is_not_read_if_the_header_cannot_be_stripes(
    post: Callable[..., Answer], stack: Stack, kit: MeterKit, signature: str
) -> None:
    """So nobody fills the memory who has not even seen what a signature looks like."""
    options = {} if stack.is_async else {"environ": {"wsgi.input": Unreadable(AssertionError("it was read"))}}
    answer = post(signature=signature, **options)

    assert (400, None) == (answer.status, answer.error)
    assert {"received": 0, "refused": 1} == kit.health()["webhook"]
    assert "internal_error" not in kit.health()["problems"]


class Unreadable(io.BytesIO):
    """What a server hands over whose client is gone, or sends wrong chunks."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def read(self, *_size: int | None) -> bytes:
        raise self.error


class InPieces(io.BytesIO):
    """Gives no more than a few bytes at once, as a socket does."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(min(size or 0, 100))


WSGI_STACKS = [stack for stack in STACKS if not stack.is_async]


@pytest.mark.parametrize("stack", WSGI_STACKS, ids=lambda stack: stack.name)
def test_chunks_that_the_server_decodes(post: Callable[..., Answer], kit: MeterKit) -> None:
    """There is no length, and an end."""
    chunked = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True, "CONTENT_LENGTH": ""}

    assert 200 == post(environ={**chunked, "wsgi.input": InPieces(EVENT)}).status
    assert ["evt_1"] == received(kit)


@pytest.mark.parametrize("stack", WSGI_STACKS, ids=lambda stack: stack.name)
def test_chunks_that_the_server_does_not_decode(post: Callable[..., Answer], kit: MeterKit) -> None:
    """Stripe hears that a length is wanted, and the operator what to change; not that the secret is wrong."""
    never = Unreadable(AssertionError("it may never end"))
    answer = post(environ={"HTTP_TRANSFER_ENCODING": "chunked", "CONTENT_LENGTH": "", "wsgi.input": never})

    assert (411, None) == (answer.status, answer.error)
    problems = kit.health()["problems"]
    assert ["webhook_unreadable"] == list(problems)
    assert "proxy_request_buffering" in problems["webhook_unreadable"]["message"]


@pytest.mark.parametrize("stack", WSGI_STACKS, ids=lambda stack: stack.name)
@pytest.mark.parametrize("error", [OSError("gone"), ValueError("no chunk")], ids=lambda error: type(error).__name__)
def test_a_body_that_breaks_off(post: Callable[..., Answer], kit: MeterKit, error: Exception) -> None:
    """Is no error of ours."""
    answer = post(environ={"wsgi.input_terminated": True, "CONTENT_LENGTH": "", "wsgi.input": Unreadable(error)})

    assert (400, None) == (answer.status, answer.error)
    assert "internal_error" not in kit.health()["problems"]


@pytest.mark.parametrize("stack", WSGI_STACKS, ids=lambda stack: stack.name)
@pytest.mark.parametrize("length", ["-1", "x", "\u0663", "9" * 5000])
def test_a_length_that_is_none(post: Callable[..., Answer], length: str) -> None:
    """Reads nothing, and raises nothing."""
    answer = post(environ={"CONTENT_LENGTH": length})

    assert (400, None) == (answer.status, answer.error)


def test_a_ledger_that_fails_makes_stripe_try_again(post: Callable[..., Answer], kit: MeterKit, tmp_path: Path) -> None:
    """It hears 503, and sends the event again."""
    post(signature="")
    ledger = Path(str(kit._settings.data_dir)) / "ledger.sqlite"
    ledger.parent.mkdir(exist_ok=True)
    ledger.write_bytes(b"no database at all" * 100)
    down = post().status
    ledger.unlink()

    assert (503, 200) == (down, post().status)
    assert ["evt_1"] == received(kit)
