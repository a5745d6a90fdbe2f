"""A customer subscribes on Stripe's page, comes back, settles in the portal; and cannot pay less, or twice."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from adapter_stacks import Stack
from followed_account import api, events, stripe, tell  # noqa: F401 - fixtures
from hosted_browser import Browser as Hosted
from page_browser import Browser
from page_kits import CALLS
from signed import SECRET

from meterkit import ConfigurationError, MeterKit, Pages, Plan, Price, StripeFailedError, UsageError, Webhook
from meterkit.sandbox import Sandbox

PLANS = [
    Plan("pro", fee="49.00", prices=[Price.per_unit(CALLS, "0.10")], trial_days=14),
    Plan("team", fee="99.00", prices=[Price.per_unit(CALLS, "0.05")]),
    Plan("friends", fee="1.00", prices=[Price.per_unit(CALLS, "0.01")]),
]
CARD = "4242424242424242"


@pytest.fixture
def make_shop(make_kit: Callable[..., MeterKit], stripe: Sandbox) -> Callable[..., MeterKit]:
    """Makes kits with plans that the sandbox has, two of them on offer."""

    def make(**options: Any) -> MeterKit:
        defaults: dict[str, Any] = {
            "plans": PLANS,
            "pages": Pages("/billing", plans=["pro", "team"]),
            "stripe_key": stripe.api_key,
            "stripe_base": stripe.url,
            "webhook": Webhook(None, secret=SECRET),
        }
        kit = make_kit(**{**defaults, **options})
        kit.provision()
        return kit

    return make


@pytest.fixture
def shop(make_shop: Callable[..., MeterKit]) -> MeterKit:
    return make_shop()


@pytest.fixture
def hosted() -> Iterator[Hosted]:
    with Hosted() as browser:
        yield browser


@pytest.fixture
def customer(shop: MeterKit, open_page: Callable[..., Browser]) -> Browser:
    """Acme's browser, which says where it is."""
    browser = open_page(shop)
    browser.headers |= {"Origin": "http://testserver", "Referer": "http://testserver/billing"}
    return browser


def pay(hosted: Hosted, url: str, **fields: str) -> str:
    """Fill in Checkout, and return where that leads."""
    hosted.open(url)
    (form,) = hosted.forms
    about = {"email": "ann@acme.example", "name": "Ann", "card_number": CARD}
    hosted.press(form.button, **{name: about[name] for name in about if name in form.fields}, **fields)
    assert 303 == hosted.status, hosted.text
    return hosted.location


def subscriptions(api: Any) -> list[Any]:
    return list(api.subscriptions.list({"status": "all"}).auto_paging_iter())


def test_from_the_button_to_the_subscription(
    stack: Stack,
    shop: MeterKit,
    hosted: Hosted,
    api: Any,
    events: Any,
    tell: Any,
) -> None:
    """In every stack: the plan that was chosen, all of it, for the company that is signed in."""
    browser = Browser(stack, stack.make(shop), {"X-Company": "acme", "Origin": "http://testserver"})
    offered = browser.get("/billing/")
    answer = browser.post("/billing/checkout?plan=pro")
    back = pay(hosted, answer.headers["location"])
    tell(shop, *events())
    (subscription,) = subscriptions(api)

    assert "checkout?plan=pro" in " ".join(offered.links)
    assert "checkout?plan=friends" not in " ".join(offered.links)
    assert 303 == answer.status
    assert set(PLANS[0].lookup_keys()) == {item.price.lookup_key for item in subscription["items"].data}
    assert "acme" == subscription.metadata["company"]
    assert "trialing" == subscription.status
    assert back.startswith("http://testserver/billing/?session=cs_")
    assert ["acme"] == [each.company for each in shop.customers() if each.customer == subscription.customer]
    assert "Subscribe" not in browser.get("/billing/").text


@pytest.mark.long
def test_the_session_names_the_company(customer: Browser, api: Any) -> None:
    """In its metadata and reference, for the webhook; a metered price has no quantity."""
    customer.post("/billing/checkout?plan=team")
    (session,) = api.checkout.sessions.list().data
    items = {
        item.price.recurring.usage_type: item.quantity for item in api.checkout.sessions.line_items.list(session.id)
    }

    assert ("acme", "acme") == (session.client_reference_id, session.metadata["company"])
    assert {"licensed": 1, "metered": None} == items


@pytest.mark.long
def test_who_comes_back_before_the_webhook(
    customer: Browser,
    shop: MeterKit,
    hosted: Hosted,
    api: Any,
) -> None:
    """Is linked by the page itself, and sees the plan."""
    back = urlsplit(pay(hosted, customer.post("/billing/checkout?plan=team").headers["location"]))
    answer = customer.get(f"{back.path}?{back.query}")
    page = customer.get("/billing/")

    assert (303, "./") == (answer.status, answer.headers["location"])
    assert "Plan team" in page.words
    assert "99.00 USD" in page.words
    assert [subscriptions(api)[0].customer] == [each.customer for each in shop.customers()]


@pytest.mark.long
@pytest.mark.parametrize("session", ["cs_test_other", "nonsense", "cs_../../v1/customers", "", "cs_" + "a" * 10_000])
def test_a_session_that_is_none(customer: Browser, session: str) -> None:
    """Changes nothing, and shows the page."""
    assert 303 == customer.get(f"/billing/?session={session}").status


@pytest.mark.long
def test_another_companys_session(
    customer: Browser,
    shop: MeterKit,
    hosted: Hosted,
    open_page: Callable[..., Browser],
    api: Any,
) -> None:
    """Links nobody to the customer who paid in it."""
    back = urlsplit(pay(hosted, customer.post("/billing/checkout?plan=team").headers["location"]))
    other = open_page(shop, "globex")
    other.get(f"{back.path}?{back.query}")

    assert [] == shop.customers()
    assert "Subscribe to team" in other.get("/billing/").words


@pytest.mark.long
def test_two_clicks_are_one_session(customer: Browser) -> None:
    """So it is paid once."""
    answers = [customer.post("/billing/checkout?plan=team") for _ in range(2)]

    assert 1 == len({answer.headers["location"] for answer in answers})


def test_no_second_subscription(
    customer: Browser,
    hosted: Hosted,
    shop: MeterKit,
    api: Any,
    events: Any,
    tell: Any,
) -> None:
    """It goes to the portal, before the webhook has come and after it."""
    pay(hosted, customer.post("/billing/checkout?plan=team").headers["location"])
    before = customer.post("/billing/checkout?plan=team")
    tell(shop, *events())
    after = customer.post("/billing/checkout?plan=pro")

    assert 1 == len(subscriptions(api))
    assert [303, 303] == [before.status, after.status]
    assert ["/p/session/"] * 2 == [
        re.sub("bps.*", "", urlsplit(each.headers["location"]).path) for each in (before, after)
    ]


@pytest.mark.long
def test_after_an_end_one_can_begin_again(
    customer: Browser,
    hosted: Hosted,
    shop: MeterKit,
    api: Any,
    events: Any,
    tell: Any,
) -> None:
    """With the customer that is known, and without a second trial."""
    pay(hosted, customer.post("/billing/checkout?plan=pro").headers["location"])
    tell(shop, *events())
    api.subscriptions.cancel(subscriptions(api)[0].id)
    tell(shop, *events())
    pay(hosted, customer.post("/billing/checkout?plan=pro").headers["location"])
    found = subscriptions(api)

    assert 1 == len({each.customer for each in found})
    assert {"canceled": True, "active": False} == {each.status: each.trial_end is not None for each in found}


@pytest.mark.long
def test_one_trial_for_each_customer(
    make_shop: Callable[..., MeterKit],
    open_page: Callable[..., Browser],
    hosted: Hosted,
    api: Any,
    events: Any,
    tell: Any,
) -> None:
    """Not one for each plan, one after the other."""
    price = Price.per_unit(CALLS, "0.10")
    plans = [Plan(name, fee="9.00", prices=[price], trial_days=14) for name in ("pro", "team")]
    shop = make_shop(plans=plans)
    browser = open_page(shop)
    browser.headers |= {"Origin": "http://testserver", "Referer": "http://testserver/billing"}
    pay(hosted, browser.post("/billing/checkout?plan=pro").headers["location"])
    tell(shop, *events())
    api.subscriptions.cancel(subscriptions(api)[0].id)
    tell(shop, *events())
    pay(hosted, browser.post("/billing/checkout?plan=team").headers["location"])
    tell(shop, *events())
    api.subscriptions.cancel(next(each.id for each in subscriptions(api) if each.status == "active"))
    shop.subscribe("acme", plan="team")

    assert [False, False, True] == [each.trial_end is not None for each in subscriptions(api)]


@pytest.mark.long
def test_who_comes_back_in_another_tab(
    customer: Browser,
    hosted: Hosted,
    shop: MeterKit,
    api: Any,
    events: Any,
    tell: Any,
) -> None:
    """A page that was opened before the first subscription makes another customer, who pays from then on."""
    first = customer.post("/billing/checkout?plan=pro").headers["location"]
    other = shop.checkout_url("acme", plan="team", success_url="http://testserver/")
    pay(hosted, first)
    tell(shop, *events())
    api.subscriptions.cancel(subscriptions(api)[0].id)
    tell(shop, *events())
    pay(hosted, other)
    found = tell(shop, *events())
    (running,) = [each for each in subscriptions(api) if each.ended_at is None]

    assert [] == found.ambiguous
    assert [("acme", running.customer)] == [(each.company, each.customer) for each in shop.customers() if each.company]
    assert shop.plan_of("acme") == PLANS[1]


@pytest.mark.long
def test_the_portal(customer: Browser, hosted: Hosted, shop: MeterKit, events: Any, tell: Any) -> None:
    """For the customer who pays for the company, and back to the page."""
    pay(hosted, customer.post("/billing/checkout?plan=team").headers["location"])
    tell(shop, *events())
    page = customer.get("/billing")
    hosted.open(customer.post("/billing/portal").headers["location"])

    assert "./billing/portal" in page.links
    assert 200 == hosted.status
    assert "http://testserver/billing/" in hosted.links.values()


@pytest.mark.long
def test_no_portal_without_a_customer(customer: Browser) -> None:
    """It says what to do first."""
    answer = customer.post("/billing/portal")

    assert 409 == answer.status
    assert "Choose a plan first" in answer.words


def test_a_customer_who_pays_for_others(customer: Browser, shop: MeterKit, api: Any) -> None:
    """One of these cannot cancel what another has."""
    payer = api.customers.create({"name": "Holding"}).id
    shop.link_all({"acme": payer, "globex": payer})
    answer = customer.post("/billing/portal")

    assert 409 == answer.status
    assert "location" not in answer.headers
    assert shop.portal_url("acme").startswith("http")


NOT_ON_OFFER = [
    "?plan=friends",
    "?plan=nothing",
    "",
    "?plan=pro&plan=team",
    "?plan=",
    "?price=meterkit:plan:friends",
    "?plan=%00",
]


def test_what_is_not_on_offer(customer: Browser, api: Any) -> None:
    """No plan that is for others, none at all, or two: nothing is made."""
    assert {404} == {customer.post(f"/billing/checkout{query}").status for query in NOT_ON_OFFER}
    assert [] == api.checkout.sessions.list().data


ELSEWHERE = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "none"},
    {"Sec-Fetch-Site": "", "Origin": "https://evil.example"},
    {"Sec-Fetch-Site": "", "Origin": "null"},
    {"Sec-Fetch-Site": "", "Origin": "http://[evil"},
    {"Sec-Fetch-Site": "", "Origin": ""},
]


@pytest.mark.parametrize("path", ["checkout?plan=pro", "portal"])
def test_a_form_of_another_site(customer: Browser, api: Any, path: str) -> None:
    """Does nothing."""
    answers = [customer.get(f"/billing/{path}", method="POST", headers=headers) for headers in ELSEWHERE]

    assert {403} == {answer.status for answer in answers}
    assert [] == api.checkout.sessions.list().data


@pytest.mark.long
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://testserver"},
        {"Origin": "https://shop.example", "X-Forwarded-Host": "shop.example"},
        {"Origin": "https://shop.example", "Host": "shop.example"},
    ],
    ids=str,
)
def test_an_older_browser(customer: Browser, headers: dict[str, str]) -> None:
    """One that says only where the form is; also behind a proxy."""
    assert 303 == customer.get("/billing/checkout?plan=pro", method="POST", headers=headers).status


@pytest.mark.long
@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (
            {"Origin": "https://shop.example", "Referer": "https://shop.example/x/billing"},
            "https://shop.example/x/billing/",
        ),
        (
            {"Origin": "https://shop.example", "Referer": "https://shop.example/x/billing/"},
            "https://shop.example/x/billing/",
        ),
        ({"Origin": "https://shop.example", "Referer": "https://shop.example/prices"}, "https://shop.example/billing/"),
        ({"Origin": "", "Referer": "https://shop.example/billing"}, "https://shop.example/billing/"),
        ({"Origin": "null", "Referer": ""}, "https://testserver/billing/"),
    ],
    ids=str,
)
def test_the_way_back(customer: Browser, api: Any, headers: dict[str, str], expected: str) -> None:
    """To the page as the browser knows it, whatever a proxy has made of the address."""
    customer.post("/billing/checkout?plan=pro", **headers)
    (session,) = api.checkout.sessions.list().data

    assert expected == session.cancel_url
    assert f"{expected}?session={{CHECKOUT_SESSION_ID}}" == session.success_url


@pytest.mark.parametrize("path", ["checkout?plan=pro", "portal"])
def test_stripe_is_away(customer: Browser, stripe: Sandbox, shop: MeterKit, api: Any, path: str) -> None:
    """The page says so, and health() says why."""
    shop.link("acme", api.customers.create({"name": "Acme"}).id)
    stripe.stop()
    answer = customer.post(f"/billing/{path}")

    assert (503, "10") == (answer.status, answer.headers["retry-after"])
    assert "Nothing was changed" in answer.words
    assert "sign_up_failed" in shop.health()["problems"]


@pytest.mark.long
def test_stripe_is_away_when_one_comes_back(customer: Browser, stripe: Sandbox, hosted: Hosted) -> None:
    """The page is shown; the webhook will link the company."""
    back = urlsplit(pay(hosted, customer.post("/billing/checkout?plan=team").headers["location"]))
    stripe.stop()

    assert 303 == customer.get(f"{back.path}?{back.query}").status


@pytest.mark.long
def test_a_price_that_is_not_there_yet(
    make_kit: Callable[..., MeterKit],
    stripe: Sandbox,
    open_page: Callable[..., Browser],
) -> None:
    """The customer is asked to come back; health() says what to run."""
    options: dict[str, Any] = {"stripe_key": stripe.api_key, "stripe_base": stripe.url}
    kit = make_kit(plans=PLANS, pages=Pages("/billing", plans=["pro"]), **options)
    answer = open_page(kit).post("/billing/checkout?plan=pro")

    assert 503 == answer.status
    assert "meterkit provision" in kit.health()["problems"]["sign_up_failed"]["message"]


def test_without_a_key(make_kit: Callable[..., MeterKit], open_page: Callable[..., Browser]) -> None:
    """Nothing is offered."""
    browser = open_page(make_kit(plans=PLANS, pages=Pages("/billing", plans=["pro"])))

    assert "Subscribe" not in browser.get("/billing").text
    assert 404 == browser.post("/billing/checkout?plan=pro").status


@pytest.mark.long
def test_a_kit_without_plans(make_shop: Callable[..., MeterKit], open_page: Callable[..., Browser], api: Any) -> None:
    """Sells all of its prices, and no part of them."""
    kit = make_shop(plans=[], prices=[Price.per_unit(CALLS, "0.10")], pages=Pages("/billing"))
    browser = open_page(kit)
    answers = [browser.post(f"/billing/checkout{query}", Origin="http://testserver") for query in ("", "?plan=pro")]

    assert "Subscribe" in browser.get("/billing").words
    assert [303, 404] == [answer.status for answer in answers]
    assert 1 == len(api.checkout.sessions.list().data)


@pytest.mark.long
def test_in_code(shop: MeterKit, api: Any) -> None:
    """Any plan, with an address that is filled in; the errors are those of subscribe()."""
    url = shop.checkout_url("acme", plan="friends", success_url="https://a.example/ok", email="ann@acme.example")
    (session,) = api.checkout.sessions.list().data

    assert session.url == url
    assert "ann@acme.example" == session.customer_email
    for error, wrong in (
        (UsageError, lambda: shop.checkout_url("acme", plan="none", success_url="https://a.example")),
        (UsageError, lambda: shop.checkout_url("", plan="pro", success_url="https://a.example")),
        (StripeFailedError, lambda: shop.checkout_url("acme", plan="pro", success_url="nowhere")),
        (UsageError, lambda: shop.portal_url("acme")),
    ):
        with pytest.raises(error):
            wrong()


@pytest.mark.long
def test_a_long_company_id(shop: MeterKit, api: Any) -> None:
    """Is in the metadata alone: a reference has at most 200 characters."""
    shop.checkout_url("a" * 255, plan="pro", success_url="https://a.example/ok")
    (session,) = api.checkout.sessions.list().data

    assert (None, "a" * 255) == (session.client_reference_id, session.metadata["company"])


@pytest.mark.parametrize(
    ("plans", "match"),
    [
        (["none"], "no such plan"),
        ("pro", "a list of names"),
        (["free"], "nothing to subscribe to"),
        (5, "a list of names"),
    ],
)
def test_plans_that_cannot_be_offered(make_kit: Callable[..., MeterKit], plans: Any, match: str) -> None:
    """It is said while building."""
    with pytest.raises(ConfigurationError, match=match):
        make_kit(plans=[*PLANS, Plan("free")], pages=Pages("/billing", plans=plans))


def test_forms_lead_to_stripe_alone(customer: Browser) -> None:
    """Browsers apply the policy of forms to redirects as well."""
    assert customer.get("/billing").policy["form-action"][:3] == [
        "'self'",
        "https://checkout.stripe.com",
        "https://billing.stripe.com",
    ]
