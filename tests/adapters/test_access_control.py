"""Who may not pass hears so before the app runs, in every stack, and is not billed for it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import stripe as stripe_python
from adapter_drivers import Answer
from adapter_stacks import CHUNKS, Stack
from adapter_usage import usage_of
from stripe_types import wrong_requests

from meterkit import Governance, Meter, MeterKit, Quota, Webhook
from meterkit.sandbox import Sandbox

sys.path.insert(0, str(Path(__file__).parents[1] / "webhooks"))
from signed import SECRET, body_of, signature_of

pytestmark = pytest.mark.long

DAY = 24 * 3600
STREAMED = Meter("streamed", path="/stream")
WHOLE = Meter("whole", path="/whole")


@pytest.fixture
def sandbox(clock: Callable[[], float]) -> Iterator[Sandbox]:
    """A Stripe account whose clock is the kit's."""
    with Sandbox(now=clock) as sandbox:
        yield sandbox
        assert [] == wrong_requests(sandbox)


@pytest.fixture
def api(sandbox: Sandbox) -> Any:
    return stripe_python.StripeClient(sandbox.api_key, base_addresses={"api": sandbox.url}).v1


@pytest.fixture
def govern(stack: Stack, make_kit: Callable[..., MeterKit]) -> Callable[..., Callable[..., Answer]]:
    """A function that meters the stack's app with a `Governance`, and answers a function that asks it."""

    def govern(**options: Any) -> Callable[..., Answer]:
        kit = make_kit(STREAMED, WHOLE, **{"governance": Governance(quotas=[Quota(STREAMED, 2)]), **options})
        app = stack.make(kit)

        def ask(path: str = "/stream", method: str = "GET", **how: Any) -> Answer:
            return stack.call(app, method, path, **how)

        ask.kit = kit  # type: ignore[attr-defined]
        kit.process().begin()
        kit.flush()
        return ask

    return govern


def header(answer: Answer, name: str) -> str | None:
    return {key.lower(): value for key, value in answer.headers}.get(name)


def ran(answer: Answer) -> bool:
    return ("made", CHUNKS[0]) in answer.log


def test_who_does_not_pay_is_stopped_until_it_is_settled(
    govern: Callable[..., Any], sandbox: Sandbox, api: Any, clock: Any
) -> None:
    """A payment fails: 402 before the view runs. It is paid out of band: the view runs. Nothing stopped is billed."""
    ask = govern(
        governance=Governance(overdue_days=0),
        stripe_key=sandbox.api_key,
        stripe_base=sandbox.url,
        webhook=Webhook("/stripe", secret=SECRET),
    )
    told: set[str] = set()

    def tell() -> None:
        """Stripe's new events come in at the app, and one flush interval passes."""
        for event in reversed(list(api.events.list({"limit": 100}).auto_paging_iter())):
            if event.id not in told:
                told.add(event.id)
                payload = body_of(json.loads(str(event)))
                signed = {"Stripe-Signature": signature_of(payload, clock())}
                assert 200 == ask("/stripe", "POST", payload=payload, headers=signed).status
        ask.kit.process().stripe_jobs.follow()
        ask.kit.flush()

    customer = api.customers.create({"metadata": {"company": "acme"}}).id
    price = api.prices.create(
        {"currency": "usd", "unit_amount": 700, "recurring": {"interval": "month"}, "product_data": {"name": "Base"}}
    ).id
    api.subscriptions.create({"customer": customer, "items": [{"price": price}]})
    tell()
    good = ask()
    sandbox.payments(customer, "fail")
    sandbox.advance(seconds=32 * DAY)
    tell()
    stopped = ask()
    (invoice,) = api.invoices.list({"status": "open"}).data
    api.invoices.pay(invoice.id, {"paid_out_of_band": True})
    tell()
    settled = ask()

    assert (200, True, 402, False, 200, True) == (
        good.status, ran(good), stopped.status, ran(stopped), settled.status, ran(settled),
    )  # fmt: skip
    problem = json.loads(stopped.body)
    assert "application/problem+json" == header(stopped, "content-type")
    assert ("overdue", 402, invoice.hosted_invoice_url) == (
        problem["reason"], problem["status"], problem["settle_url"],
    )  # fmt: skip
    assert f"Invoice {invoice.number} of 7.00 USD has been overdue since" in problem["detail"]
    assert {"streamed": 2} == usage_of(ask.kit)
    assert [("acme", "overdue", 1)] == [(each.company, each.reason, each.count) for each in ask.kit.stopped()]


def test_a_quota_stops_what_would_count_for_it(govern: Callable[..., Any]) -> None:
    """At once in this process, with the time until it may be otherwise; other paths go on."""
    ask = govern()
    answers = [ask() for _ in range(4)]
    other = ask("/whole")

    assert [200, 200, 429, 429] == [answer.status for answer in answers]
    assert [True, True, False, False] == [ran(answer) for answer in answers]
    assert 0 < int(header(answers[3], "retry-after") or 0) <= 31 * DAY
    assert 201 == other.status
    assert {"streamed": 2, "whole": 1} == usage_of(ask.kit)


def test_what_was_counted_before_is_counted(govern: Callable[..., Any]) -> None:
    """Through flushes, the sum is what it is."""
    ask = govern()
    first = ask().status
    ask.kit.flush()
    second = ask().status
    ask.kit.flush()

    assert [200, 200, 429] == [first, second, ask().status]


@pytest.mark.parametrize(
    "governance",
    [Governance(quotas=[Quota(STREAMED, 0)], mode="warn"), Governance(quotas=[Quota(STREAMED, 0, hard=False)])],
    ids=["warn", "soft"],
)
def test_a_warning_is_a_header(govern: Callable[..., Any], governance: Governance) -> None:
    """The app answers as before, and says more."""
    ask = govern(governance=governance)
    answer = ask()

    assert (200, b"".join(CHUNKS), "quota") == (answer.status, answer.body, header(answer, "x-meterkit-warning"))
    assert None is header(ask("/whole"), "x-meterkit-warning")
    assert {"streamed": 1, "whole": 1} == usage_of(ask.kit)
    assert {"warn:quota": 1} == ask.kit.health()["stopped"]


def test_some_always_pass(govern: Callable[..., Any]) -> None:
    """Exempt paths; a HEAD is stopped, without a body."""
    ask = govern(governance=Governance(quotas=[Quota(Meter("streamed", path="/stream"), 0)], exempt=["/str*m"]))

    assert 200 == ask().status
    ask = govern(governance=Governance(check=lambda exchange, known: "no"))
    head = ask("/whole", "HEAD")
    assert (402, b"") == (head.status, head.body)


def test_nobody_passes_who_is_not_known(govern: Callable[..., Any]) -> None:
    """If that is asked for: 403, and nothing is billed."""
    ask = govern(governance=Governance(unknown="block"))
    answer = ask()

    assert (403, False, "unknown") == (answer.status, ran(answer), json.loads(answer.body)["reason"])
    assert {} == usage_of(ask.kit)
