"""What the team's pages show is what the kit says: usage, companies, what waits, notices, health."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from guard import GUARD
from page_browser import Browser, tags_of
from page_kits import CALLS
from team_tables import of_team, rows_of, sum_of

from meterkit import Governance, Meter, MeterKit, Notify, Price, Quota, Tier
from meterkit.core.periods import DAY
from meterkit.core.threads import Event
from meterkit.ledger import schema
from meterkit.pages.team import kept
from meterkit.pages.team.kept import Answer, Kept, KeptByKey, all_within_patience

EGRESS = Meter("egress", path="/none")
PRICE = Price.graduated(CALLS, Tier(up_to=10, unit_price="5.00"), Tier(unit_price="3.00"))
COMPANIES = {"acme": 9, "globex": 4, "initech": 20}


@pytest.fixture
def kit(make_kit: Callable[..., MeterKit], clock: Any) -> MeterKit:
    kit = make_kit(
        CALLS,
        EGRESS,
        prices=[PRICE],
        governance=Governance(quotas=[Quota(CALLS, 21, per="month")], spending_cap="80"),
    )
    for days_ago, times in ((0, 1), (1, 2)):
        at = datetime.fromtimestamp(clock() - days_ago * DAY, timezone.utc)
        for company, quantity in COMPANIES.items():
            kit.record("calls", company, quantity * times, at=at)
            kit.record("egress", company, 1000, at=at)
    kit.flush()
    return kit


@pytest.fixture
def browser(open_page: Callable[..., Browser], kit: MeterKit) -> Browser:
    return open_page(kit)


def by_day(rows: list[dict[str, str]], name: str) -> int:
    return sum(int(row[name]) for row in rows)


def test_usage_by_meter(browser: Browser, kit: MeterKit) -> None:
    """Of all companies, of one, and of one meter; by day, and by month."""
    rows = rows_of(browser, "usage", months="3")
    of_acme = rows_of(browser, "usage", months="3", company="acme")
    by_month = rows_of(browser, "usage", months="12")

    assert sum_of(kit, meter="calls") == by_day(rows, "calls") == by_day(by_month, "calls")
    assert sum_of(kit, meter="egress") == by_day(rows, "egress")
    assert sum_of(kit, meter="calls", company="acme") == by_day(of_acme, "calls")
    assert ["day", "egress"] == list(rows_of(browser, "usage", meter="egress")[0])
    assert ["2026-02", "2026-03"] == [row["month"] for row in by_month][-2:]


def test_usage_by_company(browser: Browser, kit: MeterKit) -> None:
    """Those that have used most in the month come first."""
    rows = rows_of(browser, "usage", by="company", meter="calls", months="3")

    assert ["day", "initech", "acme", "globex"] == list(rows[0])
    for company in COMPANIES:
        assert sum_of(kit, meter="calls", company=company) == by_day(rows, company)


@pytest.mark.parametrize("query", [{"month": "0001-01"}, {"month": "2999-01"}, {"months": "-1", "by": "x"}])
def test_parameters_that_are_none(browser: Browser, query: dict[str, str]) -> None:
    """The page shows what it shows without them."""
    assert of_team(browser, "usage").words == of_team(browser, "usage", **query).words


def test_what_is_owed(browser: Browser) -> None:
    """So far; who has used it for less than a week is expected to use no more, which the page says."""
    words = of_team(browser).words
    so_far = 9 * 5 + 4 * 5 + 10 * 5 + 10 * 3

    assert f"Cost of usage so far {so_far}.00 USD" in words
    assert f"Expected when the periods end {so_far}.00 USD" in words
    assert "For 3 companies with less than a week of usage" in words


def test_what_is_expected(make_kit: Callable[..., MeterKit], open_page: Callable[..., Browser], clock: Any) -> None:
    """Of all companies, and of one: what it costs, how much is used, and when a quota is reached."""
    quotas = [Quota(CALLS, 2000), Quota(CALLS, 500, per="day")]
    kit = make_kit(CALLS, prices=[Price.per_unit(CALLS, "0.10")], governance=Governance(quotas=quotas))
    for _ in range(14):
        kit.record("calls", "acme", 100)
        kit.record("calls", "globex", 10)
        clock.advance(DAY)
    kit.record("calls", "initech", 5)
    kit.flush()
    browser = open_page(kit)
    everybody, acme = of_team(browser).words, of_team(browser, "company", id="acme").words
    (usage,) = rows_of(browser, "company", "forecast", id="acme")

    assert "Expected when the periods end 335.90 USD" in everybody
    assert "For 1 companies with less than a week of usage" in everybody
    assert "Cost so far 140.00 USD Expected for the period 304.90 USD" in acme
    assert ("calls", "1400", "3049") == tuple(usage[name] for name in ("meter", "used so far", "expected"))
    assert int(usage["at least"]) < 3049 < int(usage["at most"])
    assert ["2026-03-21", ""] == [
        row["reached at this pace"][:10] for row in rows_of(browser, "company", "quotas", id="acme")
    ]
    assert "Expected for the period unknown" in of_team(browser, "company", id="initech").words


def test_who_is_near_a_limit(browser: Browser) -> None:
    """A tier, a quota or the cap, from 80 percent on."""
    near = [(row["company"], row["limit"], row["used"]) for row in rows_of(browser, "", "near")]

    assert [
        ("initech", "spending cap in USD", "100%"),
        ("initech", "quota of calls per month", "95%"),
        ("acme", "tier 2 of calls", "90%"),
    ] == near


def test_the_companies(browser: Browser) -> None:
    """By id, by name or part of it, and by what they have used."""
    most = [row["company"] for row in rows_of(browser, "companies", sort="calls")]

    assert sorted(COMPANIES) == [row["company"] for row in rows_of(browser, "companies")]
    assert ["initech", "acme", "globex"] == most
    assert ["initech"] == [row["company"] for row in rows_of(browser, "companies", q="NIT")]
    assert ["9", "4", "20"] == [row["calls this month"] for row in rows_of(browser, "companies")]
    assert [] == rows_of(browser, "companies", q="%")
    assert sorted(COMPANIES) == [row["company"] for row in rows_of(browser, "companies", standing="unlinked")]


def test_companies_by_use_among_those_of_a_standing(browser: Browser, kit: MeterKit) -> None:
    """Those that have used none of the meter come last, by id."""
    for company in ("vandelay", "hooli"):
        kit.record("egress", company, 1)
    kit.flush()
    found = [row["company"] for row in rows_of(browser, "companies", standing="unlinked", sort="calls")]

    assert ["initech", "acme", "globex", "hooli", "vandelay"] == found


def test_many_companies_page_by_page(browser: Browser, kit: MeterKit) -> None:
    """Each on one page, in either order."""
    for number in range(120):
        kit.record("calls", f"company-{number:03d}", number + 1)
    kit.flush()
    for order in ("", "calls"):
        found, address = [], f"/billing/team/companies?sort={order}"
        while address:
            page = browser.get(address, headers={"X-Staff": "yes"})
            tags = tags_of(page.text)
            found += [tag["href"] for _, tag in tags if "company?id=" in (tag.get("href") or "")]
            following = [tag["href"] for _, tag in tags if tag.get("rel") == "next"]
            address = f"/billing/{following[0].removeprefix('../')}" if following else ""

        assert 123 == len(found) == len(set(found))


def test_a_company(browser: Browser, kit: MeterKit) -> None:
    """What it has used, its place in the tiers and its quota."""
    (calls, _) = rows_of(browser, "company", "meters", id="acme")
    (quota,) = rows_of(browser, "company", "quotas", id="acme")

    assert ("9", "5.00", "usd", "1 of 2", "1") == tuple(
        calls[name] for name in ("used", "price", "price currency", "tier", "left in the tier")
    )
    assert ("9", "21", "42%") == (quota["used"], quota["limit"], quota["share"])
    assert sum_of(kit, company="acme", meter="calls") == by_day(
        rows_of(browser, "company", "usage", id="acme"), "calls"
    )
    assert {404} == {of_team(browser, "company", id=each).status for each in ("", "nobody", "acme ")}


def test_what_waits(browser: Browser, kit: MeterKit) -> None:
    """Companies without a customer, until they are linked."""
    before = [row["company"] for row in rows_of(browser, "waiting", "unlinked")]
    kit.link("acme", "cus_1")

    assert sorted(COMPANIES) == before
    assert ["globex", "initech"] == [row["company"] for row in rows_of(browser, "waiting", "unlinked")]


def test_the_health_and_the_books(browser: Browser, kit: MeterKit) -> None:
    """As the kit says them."""
    found = kit.health()
    books = {row.pop("meter"): row for row in rows_of(browser, "health", "books")}
    words = of_team(browser, "health").words

    for meter, of_meter in found["books"].items():
        expected = {name: str(value) for name, value in of_meter.items()} | {"balanced": "yes"}
        assert expected == books[meter]
    assert found["attention"]
    for sentence in found["attention"]:
        assert " ".join(sentence.split()) in words


def test_the_notices(make_kit: Callable[..., MeterKit], open_page: Callable[..., Browser], clock: Any) -> None:
    """With their channels, by kind, state and company."""
    told: list[Any] = []
    kit = make_kit(prices=[PRICE], notify=[Notify.tier_crossed(to=told.append)])
    browser = open_page(kit)
    kit.record("calls", "acme", 11)
    kit.flush()
    dispatcher = kit.process().dispatcher
    assert dispatcher is not None
    dispatcher.evaluate()
    waiting = rows_of(browser, "notices", state="waiting")
    dispatcher.deliver(kit.notices()[0].channel)
    (stored,) = kit.notices()
    (row,) = rows_of(browser, "notices", kind="tier_crossed", company="acme")

    assert [stored.notice.title] == [each["title"] for each in waiting] == [each.title for each in told]
    assert (stored.notice.title, stored.channel, "delivered") == (row["title"], row["channel"], row["state"])
    assert [stored.notice.title] == [each["title"] for each in rows_of(browser, "company", "notices", id="acme")]
    for nothing in ({"kind": "overdue"}, {"state": "waiting"}, {"state": "given_up"}, {"company": "globex"}):
        assert "There are no such notices." in of_team(browser, "notices", **nothing).words


def test_names_are_text(browser: Browser, kit: MeterKit) -> None:
    """Markup, right-to-left marks and 10,000 characters, in what others choose: shown, isolated and cut."""
    company, name = "<script>alert(1)</script>", "\u202e<img src=x onerror=alert(1)>" + "x" * 10_000
    kit.record("calls", company, 1)
    kit.flush()
    kit.link(company, "cus_1")
    customer = {"id": "cus_1", "name": name, "deleted": False, "checked_at": 1}
    with kit.process().database().transaction() as connection:
        connection.execute(sa.insert(schema.customers).values(customer))
    pages = [of_team(browser, page) for page in ("", "companies", "waiting", "health")]
    pages += [of_team(browser, "company", id=company), of_team(browser, "usage", by="company")]
    pages += [of_team(browser, "companies", q='"><script>'), of_team(browser, "usage", company="<b>")]

    assert {200} == {page.status for page in pages}
    for page in pages:
        tags = tags_of(page.text)
        assert not [
            tag for tag in tags if tag[0] == "img" or "style" in tag[1] or any(each.startswith("on") for each in tag[1])
        ]
        assert {True} >= {"src" in attributes for tag, attributes in tags if tag == "script"}
        assert "x" * 200 not in page.text
    assert "<bdi>\u202e&lt;img" in pages[1].text
    assert company in [row["company"] for row in rows_of(browser, "companies")]


@pytest.mark.parametrize("sign", "=+-@")
def test_a_cell_is_no_formula(browser: Browser, kit: MeterKit, sign: str) -> None:
    """Also where a company is called like one."""
    company = f"{sign}1+cmd|' /C calc'!A0"
    kit.record("calls", company, 1)
    kit.flush()

    assert f"'{company}" in [row["company"] for row in rows_of(browser, "companies")]


def test_without_a_script_there_is_the_table(browser: Browser) -> None:
    """The script finds the days, and their quantities, in it."""
    page = of_team(browser, "usage", months="1")
    tags = tags_of(page.text)
    scripts = [attributes["src"] for tag, attributes in tags if tag == "script"]
    files = [browser.follow("/billing/team/usage", str(src)) for src in scripts]

    assert [200, 200] == [file.status for file in files]
    assert ["2026-03-01"] == [attributes["datetime"] for tag, attributes in tags if tag == "time"]
    assert b"uPlot" in files[0].body


def test_the_ledger_is_away(browser: Browser, kit: MeterKit) -> None:
    """Each page says so."""
    database = kit.process().database()
    database._engine.dispose()
    for path in kit.process()._settings.data_dir.glob("ledger*"):
        path.unlink()
    answers = [of_team(browser, page) for page in ("", "usage", "companies", "waiting", "notices")]

    assert {503} == {page.status for page in answers}
    assert {"10"} == {page.headers["retry-after"] for page in answers}
    assert 200 == of_team(browser, "health").status


def test_figures_that_take_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page does not wait for them: it shows the last ones, and computes them once for all who ask meanwhile."""
    may_end, calls = Event(), []

    def compute() -> Decimal:
        calls.append(1)
        assert may_end.wait(GUARD)
        return Decimal(len(calls))

    monkeypatch.setattr(kept, "PATIENCE", 0)
    figures = Kept(compute, clock=lambda: 7)
    first, second = figures.get(), figures.get()
    thread = figures._thread
    may_end.set()
    assert thread is not None
    assert thread.join(GUARD)

    assert [Answer(None, 0, is_old=True)] * 2 == [first, second]
    assert 1 == len(calls)
    assert Answer(Decimal(1), 7, is_old=True) == figures.wait(None, 0)


def test_figures_of_many_choices() -> None:
    """Are each computed when they are asked for; of too many choices, those that were asked for last are kept."""
    computed: list[int] = []

    def compute(key: int) -> int:
        computed.append(key)
        return key * 2

    figures = KeptByKey(compute, clock=lambda: 7)
    found = [figures.get(key).value for key in (*range(kept.MOST_KEPT), 0, -1)]

    assert [*range(0, kept.MOST_KEPT * 2, 2), 0, -2] == found
    assert [*range(kept.MOST_KEPT), 0, -1] == computed
    assert {0, -1, *range(2, kept.MOST_KEPT)} == set(figures._kept)


def test_a_page_waits_once_for_all_its_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many take long; those that do not are there."""
    may_end = Event()
    slow = [Kept(lambda: may_end.wait(GUARD), clock=lambda: 7) for _ in range(3)]
    fast = Kept(lambda: 5, clock=lambda: 7)
    assert fast.get().value == 5
    waited: list[float] = []
    monkeypatch.setattr(kept.DaemonThread, "join", lambda _, seconds: waited.append(seconds) or False)
    monkeypatch.setattr(kept, "PATIENCE", 0.5)
    found = all_within_patience(*slow, fast)
    may_end.set()

    assert [None, None, None, 5] == [each.value for each in found]
    assert 0.5 >= max(waited)
    assert sorted(waited, reverse=True) == waited


def test_figures_that_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks is told; the next one computes them anew."""
    outcomes: list[Any] = [ValueError("no"), 5]

    def compute() -> int:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return int(outcome)

    figures = Kept(compute, clock=lambda: 7)
    with pytest.raises(ValueError, match="no"):
        figures.get()

    assert Answer(5, 7, is_old=False) == figures.get()
