"""Who may pass: quotas, caps, subscriptions, and what the user decides; from what the ledger knew at the last flush."""

from __future__ import annotations

import json
import os
from decimal import Decimal

import pytest
from guard import GUARD
from plain_exchange import PlainExchange

import meterkit
from meterkit import (
    ConfigurationError,
    Governance,
    LedgerError,
    Meter,
    MeterKit,
    Price,
    Quota,
    Refusal,
    Tier,
    UsageError,
    unique,
)
from meterkit.ledger import ledger

HOUR, DAY = 3600, 24 * 3600
CALLS = Meter("calls", path="/calls")
EGRESS = Meter("egress", route="/files/{name}", value="response_bytes")


def whose(exchange):
    return exchange.headers.get("x-company")


@pytest.fixture
def govern(make_kit):
    """A function that makes a kit with a `Governance`, which has looked once."""

    def govern(*, identify=whose, prices=(), meters=(CALLS, EGRESS), **rules):
        kit = make_kit(*meters, prices=prices, identify=identify, governance=Governance(**rules))
        return looked_once(kit)

    return govern


def looked_once(kit):
    """Begin, and wait until the thread that this wakes has looked; from then on it flushes when told to."""
    kit.governor.begin()
    assert kit.governor.ready.wait(GUARD)
    kit.flush()
    return kit


def ask(kit, company="acme", path="/calls", method="GET"):
    """Send a request of *company*; its problem if it does not pass, and else it is answered with 200, and counted."""
    whole = path if isinstance(path, str) else "".join(path)
    exchange = PlainExchange(method, whole, headers={"x-company": company} if company else {})
    exchange.publish(kit)
    exchange.target = path
    answer = kit.governor.check(exchange)
    if answer is not None:
        kit.recorder.refuse(exchange)
        return answer.status, json.loads(answer.body)
    exchange.status = 200
    kit.recorder.close(exchange)
    return exchange.warning


def statuses(kit, times, **request):
    """What so many requests are answered with; 200 if they pass."""
    found = [ask(kit, **request) for _ in range(times)]
    return [200 if each is None else each[0] for each in found]


@pytest.mark.parametrize(
    ("per", "passes"), [("day", [HOUR * 15]), ("month", [HOUR * 15, DAY * 31]), ("period", [HOUR * 15, DAY * 31])]
)
def test_a_quota_begins_anew(govern, clock, per, passes):
    """With the day, the month, or the billing period; without one, that is the month."""
    kit = govern(quotas=[Quota(CALLS, 2, per=per)])
    before = statuses(kit, 3)
    kit.flush()
    found = []
    for seconds in passes:
        clock.advance(seconds)
        kit.flush()
        found.append(statuses(kit, 1))

    assert [200, 200, 429] == before
    assert [[429]] * (len(passes) - 1) + [[200]] == found


def test_a_limit_that_depends_on_the_company(govern):
    """The function is asked in the background; until it has answered, and where it fails, a company passes."""
    asked = []

    def limit(company):
        asked.append(company)
        return {"acme": 1, "globex": None}[company]

    kit = govern(quotas=[Quota(CALLS, limit)])
    for company in ("acme", "globex", "initech"):
        assert [200, 200] == statuses(kit, 2, company=company)
    assert [] == asked
    kit.flush()

    assert {"acme", "globex", "initech"} == set(asked)
    assert [429, 200, 200] == [statuses(kit, 1, company=company)[0] for company in ("acme", "globex", "initech")]
    assert "limit_raised" in kit.health()["problems"]


def test_a_limit_that_has_changed(govern, make_kit):
    """Whoever knows of it says so, and each process asks again with its next flush; of nobody else."""
    limits, asked = {"acme": 1, "globex": 1}, []

    def limit(company):
        asked.append(company)
        return limits[company]

    kit = govern(quotas=[Quota(CALLS, limit)])
    for company in limits:
        statuses(kit, 1, company=company)
    kit.flush()
    before = [statuses(kit, 1, company=company) for company in limits]
    limits.update(acme=None, globex=None)
    asked.clear()
    make_kit(CALLS).refresh("acme")
    kit.flush()
    kit.flush()

    assert ([[429], [429]], ["acme"]) == (before, asked)
    assert [[200], [429]] == [statuses(kit, 1, company=company) for company in limits]
    limits["acme"] = 1
    kit.refresh("acme")
    kit.refresh("acme")
    kit.flush()
    assert [429] == statuses(kit, 1)
    assert 1 < asked.count("acme") < 4  # refresh() also wakes the flush in the background, which may come in between


@pytest.mark.parametrize("company", ["", None, "a\nb"])
def test_a_company_that_is_none_is_not_refreshed(govern, company):
    """It says why."""
    with pytest.raises(UsageError, match="company id"):
        govern(quotas=[Quota(CALLS, 1)]).refresh(company)


def test_only_what_may_count_is_stopped(govern):
    """A path that cannot lead to the meter's route is not its business."""
    kit = govern(quotas=[Quota(EGRESS, 0)])
    paths = ("/calls", "/files/x.txt", "/files/x.txt/", "/files", "/v1/files/x.txt", "/files/x/versions", "/files/")

    assert [200, 429, 429, 200, 200, 200, 200] == [statuses(kit, 1, path=path)[0] for path in paths]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/billing/pay", None),
        ("/billing/", None),
        ("/billing", None),
        ("/calls", "check"),
        ("/billing/../calls", "check"),
        ("/billing//calls", "check"),
        ("//billing/pay", "check"),
        ("/billing/calls\n", "check"),
        ("/billing/calls\N{REPLACEMENT CHARACTER}", "check"),
        (("/app", "/billing/pay"), None),
        (("/billing", "/calls"), "check"),
        (("/x/billing", "/calls"), "check"),
    ],
)
def test_what_is_exempt(govern, path, expected):
    """The path that the app routes, as it is: what a framework may route as another, or a prefix, exempts nothing."""
    kit = govern(check=lambda exchange, known: "Not paid for.", exempt=["/billing/*"])
    answer = ask(kit, path=path)

    assert expected == (None if answer is None else answer[1]["reason"])


def test_an_exemption_that_needs_a_prefix(govern):
    """Where exempt= names the prefix of a mount, health says what to write."""
    kit = govern(check=lambda exchange, known: "Not paid for.", exempt=["/app/billing/*"])

    assert 402 <= ask(kit, path=("/app", "/billing/pay"))[0]
    assert "Write exempt= without the prefix" in kit.health()["problems"]["exempt_prefix"]["message"]


@pytest.mark.parametrize("path", ["//calls", "/calls/", "/calls\n", ("/x", "/calls")])
def test_a_quota_holds_however_a_path_is_spelled(govern, path):
    """As a meter counts it."""
    kit = govern(quotas=[Quota(CALLS, 2)])

    assert [200, 200, 429] == [*statuses(kit, 1), *statuses(kit, 1, path=path), *statuses(kit, 1, path=path)]


def test_other_processes_add_what_they_counted_until_the_next_flush(make_kit):
    """That is the bound of a quota that is not exact: what others count between two flushes."""
    governance = Governance(quotas=[Quota(CALLS, 10)])
    kits = [make_kit(CALLS, identify=whose, governance=governance) for _ in range(3)]
    for kit in kits:
        looked_once(kit)
    first = [statuses(kit, 8).count(200) for kit in kits]
    for _ in range(2):
        for kit in kits:
            kit.flush()
    then = [statuses(kit, 8).count(200) for kit in kits]

    assert [8, 8, 8] == first
    assert [0, 0, 0] == then


@pytest.mark.parametrize("limit", [10, lambda _: 10], ids=["number", "function"])
def test_an_exact_quota_is_overrun_by_nobody(make_kit, limit):
    """Whichever process counts, before any flush and amid them."""
    governance = Governance(quotas=[Quota(CALLS, limit, exact=True), Quota(CALLS, 100, per="day", exact=True)])
    kits = [make_kit(CALLS, identify=whose, governance=governance) for _ in range(3)]
    for kit in kits:
        looked_once(kit)
    passed = [statuses(kit, 3).count(200) for kit in kits]
    for kit in kits:
        kit.flush()
    passed += [statuses(kit, 3).count(200) for kit in kits]

    assert [3, 3, 3, 1, 0, 0] == passed


def test_an_exact_quota_holds_what_is_under_way(govern):
    """Also over a flush; what is no usage in the end is given back."""
    kit = govern(quotas=[Quota(CALLS, 2, exact=True)])
    under_way = [PlainExchange("GET", "/calls", headers={"x-company": "acme"}) for _ in range(2)]
    before = [kit.governor.check(exchange) for exchange in under_way]
    kit.record(CALLS, "bird")  # so that there is something to fold
    kit.flush()
    meanwhile = statuses(kit, 1)
    for exchange in under_way:
        kit.recorder.broke(exchange)
    kit.flush()

    assert [None, None] == before
    assert ([429], [200, 200, 429]) == (meanwhile, statuses(kit, 3))


@pytest.mark.parametrize(
    "options", [{"governance": Governance(quotas=[Quota(CALLS, 1)])}, {"customer_page": "/usage"}], ids=list
)
def test_nobody_can_be_governed_who_is_not_identified_before(make_kit, options):
    """A kit that would block nobody, and show nobody anything, is a mistake."""
    with pytest.raises(ConfigurationError, match=r"identify=.*before the app runs"):
        make_kit(CALLS, **options)


def view(kit, company, path="/calls"):
    """A request whose view says whose it is."""
    exchange = PlainExchange("GET", path)
    exchange.publish(kit)
    assert kit.governor.check(exchange) is None
    meterkit.identify(company)
    exchange.status = 200
    kit.recorder.close(exchange)
    exchange.retract()


def test_a_company_that_only_the_view_names_is_a_problem(govern):
    """It passes, and is counted; the operator learns that no quota holds for it."""
    kit = govern(identify=lambda exchange: None, quotas=[Quota(CALLS, 1)], exempt=["/login"])
    view(kit, "acme", "/login")
    before = kit.health()["problems"]
    for _ in range(3):
        view(kit, "acme")
    kit.flush()

    problem = kit.health()["problems"]["identified_late"]
    assert "identified_late" not in before
    assert (3, True) == (problem["count"], problem["message"] in kit.health()["attention"])
    assert 3 == sum(row.quantity for row in kit.usage(company="acme"))


def test_a_view_that_repeats_who_it_is_is_none(govern):
    """What `identify=` has said was known in time."""
    kit = govern(identify=lambda exchange: "acme", quotas=[Quota(CALLS, 2)])
    view(kit, "acme")
    view(kit, "globex")

    assert "identified_late" not in kit.health()["problems"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_exact_quota_while_a_request_ends(govern, monkeypatch, when):
    """In the very moment in which another reads what is counted: it is in one of the two, and perhaps in both."""
    kit = govern(quotas=[Quota(CALLS, 2, exact=True)])
    first = PlainExchange("GET", "/calls", headers={"x-company": "acme"})
    first.publish(kit)
    assert kit.governor.check(first) is None
    assert statuses(kit, 1) == [200]
    journal = kit.process().journal
    counted = journal.counted

    def ends_meanwhile(pair):
        found = counted(pair) if when == "after" else None
        if not first.closed:
            first.status = 200
            kit.recorder.close(first)
        return counted(pair) if found is None else found

    monkeypatch.setattr(journal, "counted", ends_meanwhile)
    found = statuses(kit, 3)
    kit.flush()

    assert [429, 429, 429] == found
    assert 2 == sum(row.quantity for row in kit.usage())


def test_an_exact_quota_goes_on_where_the_ledger_does_not(govern, tmp_path):
    """It lets pass, as one that is not exact would; and says so."""
    kit = govern(quotas=[Quota(CALLS, 2, exact=True)])
    (tmp_path / "meterkit" / "ledger.sqlite").rename(tmp_path / "elsewhere")

    assert [200, 200, 200] == statuses(kit, 3)
    assert "quota_not_exact" in kit.health()["problems"]


def test_a_spending_cap(govern):
    """By the prices of the code, where Stripe has told of none; what costs less passes."""
    price = Price.graduated(CALLS, Tier(up_to=2, unit_price="5.00"), Tier(unit_price="3.00"))
    kit = govern(prices=[price], spending_cap="13.00")
    statuses(kit, 2)
    kit.flush()
    two = statuses(kit, 1)
    kit.flush()
    status, problem = ask(kit)

    assert [200] == two
    assert (402, "spending_cap", "13.00", "usd") == (status, problem["reason"], problem["amount"], problem["currency"])
    assert Decimal(13) == Decimal(problem["amount"])
    assert [402] == statuses(kit, 1, path="/anything")
    assert [200] == statuses(kit, 1, company="globex")


def test_a_subscription_is_needed(govern, api_kit):
    """Of whom Stripe has told; nobody knows of the others."""
    kit = api_kit(Governance(subscription=True), subscribed=["acme"], customers=["acme", "globex"])

    assert [200, 402, 200] == [statuses(kit, 1, company=company)[0] for company in ("acme", "globex", "initech")]
    assert "no_subscription" == ask(kit, company="globex")[1]["reason"]


def test_the_403_says_what_is_missing(govern):
    """A company without an account is named; a request without a company, and accounts still unread, say so."""
    kit = govern(unknown="block")
    problems = [ask(kit, company=company)[1] for company in ("acme", None)]
    problems.append(json.loads(Refusal().respond(block(reason="unknown", retry_after=1)).body))

    assert [
        ("No billing account", "Company acme has no billing account."),
        ("No company identified", "No company could be identified for this request."),
        ("Billing accounts are still being loaded", "x"),
    ] == [(problem["title"], problem["detail"]) for problem in problems]


@pytest.fixture
def api_kit(make_kit, stripe):
    """A function that makes a kit which has read from Stripe's account: some customers, and some who subscribed."""
    import stripe as stripe_python

    api = stripe_python.StripeClient(stripe.api_key, base_addresses={"api": stripe.url}).v1

    def api_kit(governance, *, customers, subscribed=()):
        (meter,) = api.billing.meters.list().data
        recurring = {"interval": "month", "usage_type": "metered", "meter": meter.id}
        price = api.prices.create(
            {"currency": "usd", "unit_amount": 5, "recurring": recurring, "product_data": {"name": "x"}}
        ).id
        for company in customers:
            customer = api.customers.create({"metadata": {"company": company}}).id
            if company in subscribed:
                api.subscriptions.create({"customer": customer, "items": [{"price": price}]})
        kit = make_kit(CALLS, identify=whose, governance=governance, stripe_key=stripe.api_key, stripe_base=stripe.url)
        kit.sync()
        return looked_once(kit)

    return api_kit


def test_what_the_user_decides(govern):
    """With what is known of the company; a mistake of theirs lets pass."""
    seen = []

    def check(exchange, known):
        seen.append((exchange.path, known.company, known.standing, dict(known.used)))
        return {"/no": "Not today.", "/boom": 1 / 0 if exchange.path == "/boom" else None}.get(exchange.path)

    kit = govern(check=check, quotas=[Quota(CALLS, 100)])
    ask(kit)
    kit.flush()
    status, problem = ask(kit, path="/no")
    broken = ask(kit, path="/boom")

    assert [("/calls", "acme", "unknown", {"calls": 0}), ("/no", "acme", "unknown", {"calls": 1})] == seen[:2]
    assert (402, "check", "Not today.") == (status, problem["reason"], problem["detail"])
    assert broken is None
    assert "check_raised" in kit.health()["problems"]


def test_a_refusal_of_ones_own(govern):
    """Its texts are filled in, as what they are."""
    html = Refusal(
        status=403,
        media_type="text/html; charset=utf-8",
        body="<p>{company} has used {used} of {limit}: <a href='{settle_url}'>{title}</a> {{}}</p>",
        headers={"X-Who": "{company}"},
    )
    nasty = "<b>\r\nX-Evil: 1"
    kit = govern(
        identify=lambda exchange: "a<b>",
        quotas=[Quota(CALLS, 0)],
        settle_url="https://example.com/pay?c={company}",
        refusals={"quota": html},
    )
    exchange = PlainExchange("GET", "/calls")
    exchange.publish(kit)
    answer = kit.governor.check(exchange)
    kit.recorder.refuse(exchange)

    assert (403, "text/html; charset=utf-8", "a<b>") == (
        answer.status, dict(answer.headers)["Content-Type"], dict(answer.headers)["X-Who"],
    )  # fmt: skip
    assert answer.body.decode() == (
        "<p>a&lt;b&gt; has used 0 of 0: <a href='https://example.com/pay?c=a%3Cb%3E'>The quota is used up</a> {}</p>"
    )
    assert "\r" not in Refusal(headers={"X-Who": "{detail}"}).respond(block(detail=nasty)).headers[-1][1]


@pytest.mark.parametrize(
    ("company", "query"),
    [("a&b=c#d", "a%26b%3Dc%23d"), ("Zoë & Co/1", "Zo%C3%AB%20%26%20Co%2F1"), ("%0d%0aX: 1", "%250d%250aX%3A%201")],
)
def test_a_link_is_of_one_company(govern, company, query):
    """Whatever is in its name."""
    kit = govern(
        identify=lambda exchange: company,
        quotas=[Quota(CALLS, 0)],
        settle_url="https://example.com/pay?company={company}&why={reason}",
        refusals={"quota": Refusal(headers={"Link": "<{settle_url}>; rel=payment"})},
    )
    exchange = PlainExchange("GET", "/calls")
    exchange.publish(kit)
    answer = kit.governor.check(exchange)

    url = f"https://example.com/pay?company={query}&why=quota"
    assert (url, f"<{url}>; rel=payment") == (json.loads(answer.body)["settle_url"], dict(answer.headers)["Link"])


def block(**about):
    from meterkit import Block

    return Block(**{"reason": "check", "company": "acme", "detail": "x", **about})


def test_a_refusal_that_fails_is_answered_all_the_same(govern):
    """With the problem, and the mistake is named."""
    refusal = Refusal(body=lambda block: {"who": block.nothing})
    kit = govern(quotas=[Quota(CALLS, 0)], refusals={"quota": refusal})

    assert (429, "quota") == (ask(kit)[0], ask(kit)[1]["reason"])
    assert "refusal_raised" in kit.health()["problems"]


def test_identify_that_cannot_tell_yet(govern):
    """Then the request passes, is asked again when it is answered, and the cure is named."""

    def identify(exchange):
        if exchange.status == 0:
            raise AttributeError("no user yet")
        return "acme"

    kit = govern(identify=identify, quotas=[Quota(CALLS, 0)])

    assert [200] == statuses(kit, 1)
    assert "inside the one that authenticates" in kit.health()["problems"]["identify_early_raised"]["message"]
    kit.flush()
    assert ["acme"] == [row.company for row in kit.usage()]


def test_identify_is_asked_once(govern):
    """Where it can tell on the way in."""
    asked = []
    kit = govern(identify=lambda exchange: asked.append(exchange.path) or "acme", quotas=[Quota(CALLS, 5)])
    ask(kit)

    assert ["/calls"] == asked


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_counts_for_itself(govern):
    """What its parent counted and has not flushed is the parent's; what the ledger knew is known there, too."""
    kit = govern(quotas=[Quota(CALLS, 4)])
    statuses(kit, 2)
    kit.flush()
    statuses(kit, 1)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, json.dumps(statuses(kit, 3)).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)

    assert [200, 200, 429] == json.loads(os.read(reading, 1000))


def test_an_unreachable_ledger_changes_nothing(govern, monkeypatch, tmp_path):
    """What was known before goes on to decide, and it is said that the flush failed."""
    kit = govern(quotas=[Quota(CALLS, 1)])
    statuses(kit, 1)
    kit.flush()
    (tmp_path / "meterkit" / "ledger.sqlite").rename(tmp_path / "elsewhere")
    with pytest.raises(Exception, match="no longer exists"):
        kit.flush()

    assert [429] == statuses(kit, 1)


@pytest.mark.parametrize(
    ("make", "cure"),
    [
        (lambda: MeterKit(meters=[CALLS], identify=whose, governance=Governance()), "has no rule"),
        (lambda: Governance(overdue_days=-1), "0 to 365 days"),
        (lambda: Governance(quotas=[CALLS]), "list of Quota"),
        (lambda: Governance(quotas=Quota(CALLS, 1)), "list of Quota"),
        (lambda: Governance(spending_cap=1.5), "a float is not exact"),
        (lambda: Governance(subscription=True, exempt=["billing"]), "such as '/billing/\\*'"),
        (lambda: Governance(subscription=True, mode="off"), "'enforce' or 'warn'"),
        (
            lambda: Governance(subscription=True, refusals={"late": Refusal()}),
            "unknown reason 'late'; choose from overdue, no_subscription",
        ),
        (lambda: Governance(subscription=True, settle_url="/pay/{who}"), "unknown field {who}"),
        (lambda: Quota(CALLS, -1), "whole number"),
        (lambda: Quota(CALLS, 1, hard=False, exact=True), "soft quota blocks nothing"),
        (lambda: Quota(Meter("seats", value=unique("user")), 1, exact=True), "known after a flush"),
        (lambda: Quota(CALLS, 1, per="year"), "'period', 'month' or 'day'"),
        (lambda: Quota("calls", 1), "must be a Meter"),
        (lambda: Refusal(body="{company.__class__}"), "available: {amount}, {company}"),
        (lambda: Refusal(detail="{"), "not a valid template"),
        (lambda: Refusal(status=200), "400 to 599"),
        (lambda: Refusal(headers={"X Y": "z"}), "not a valid header name"),
    ],
)
def test_what_is_wrong_is_said_while_building(make, cure):
    """With the cure."""
    with pytest.raises(ConfigurationError, match=cure):
        make()


def test_a_quota_for_a_meter_that_is_not_there(make_kit):
    """It would never stop anybody."""
    with pytest.raises(ConfigurationError, match="not in meters="):
        make_kit(EGRESS, identify=whose, governance=Governance(quotas=[Quota(CALLS, 1)]))


def test_quotas_are_kept_up_to_date_while_the_ledger_takes_no_usage(govern, make_kit, monkeypatch):
    """What requests are checked against does not wait until all usage can be folded."""

    def refuse(*_arguments, **_options):
        raise LedgerError("no")

    kit = govern(quotas=[Quota(CALLS, 2)])
    before = statuses(kit, 1)
    kit.flush()
    other = make_kit(CALLS)
    other.record("calls", "acme", 1)
    other.flush()
    kit.record("calls", "globex", 1)
    with monkeypatch.context() as patch:
        patch.setattr(ledger.Ledger, "fold", refuse)
        with pytest.raises(LedgerError):
            kit.flush()

    assert ([200], [429]) == (before, statuses(kit, 1))
