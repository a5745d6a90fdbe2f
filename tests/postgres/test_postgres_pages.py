"""The team's pages on PostgreSQL: the same figures, whatever somebody puts into the address."""

from __future__ import annotations

import csv
import io
from urllib.parse import urlencode

import pytest

from meterkit import Governance, Meter, Pages, Price, Quota, Tier
from meterkit.wsgi import MeterMiddleware

CALLS = Meter("calls")
COMPANIES = {f"company-{number:02d}": 10**15 // (number + 2) for number in range(60)}

pytestmark = pytest.mark.long


@pytest.fixture
def ask(make_kit, postgres_url):
    """A function that asks for a page of the team: its status, and the rows of its CSV."""
    kit = make_kit(
        CALLS,
        prices=[Price.graduated(CALLS, Tier(up_to=10, unit_price="5"), Tier(unit_price="3"))],
        governance=Governance(quotas=[Quota(CALLS, 10)], spending_cap="80"),
        pages=Pages("/billing", team=lambda _: True),
        identify=lambda _: None,
        ledger=postgres_url,
    )
    for company, quantity in COMPANIES.items():
        kit.record("calls", company, quantity)
    kit.flush()
    app = MeterMiddleware(lambda *_: [], kit)

    def ask(which, **query):
        path = f"/billing/team/{which}".rstrip("/")
        environ = {"REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": path, "QUERY_STRING": urlencode(query)}
        said = []
        body = b"".join(app(environ, lambda *given: said.append(given)))
        return int(said[0][0][:3]), body.decode()

    return ask


PAGES = [
    ("", {}),
    ("usage", {}),
    ("usage", {"by": "company"}),
    ("usage", {"company": "company-01", "months": "12"}),
    ("companies", {"q": "50%"}),
    ("companies", {"standing": "overdue"}),
    ("companies", {"standing": "unlinked", "sort": "calls"}),
    ("company", {"id": "company-01"}),
    ("hours", {"id": "company-01"}),
    ("hour", {"id": "company-01", "meter": "calls", "window": "9999999999"}),
    ("waiting", {}),
    ("notices", {"state": "given_up"}),
    ("notices", {"state": "delivered", "kind": "overdue", "company": "acme"}),
    ("health", {}),
]


def test_each_page_is_made(ask):
    """No query is of SQLite's kind."""
    assert {200} == {ask(page, **query)[0] for page, query in PAGES}


def test_what_no_database_can_store(ask):
    """A character that no company id has."""
    for page in ("usage", "companies"):
        assert 200 == ask(page, q="\x00", company="\x00", after="\x00")[0]
    assert 404 == ask("company", id="\x00")[0]


def test_the_figures(ask):
    """The companies page by page, and the sum of all usage."""
    first = list(csv.DictReader(io.StringIO(ask("companies", format="csv", sort="calls")[1])))
    second = list(csv.DictReader(io.StringIO(ask("companies", format="csv", sort="calls", page="2")[1])))
    (day,) = csv.DictReader(io.StringIO(ask("usage", format="csv", months="1")[1]))

    assert list(COMPANIES) == [row["company"] for row in (*first, *second)]
    assert sum(COMPANIES.values()) == int(day["calls"])
