"""What both exporters show, what the page says of it, and what the Grafana board asks for."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry
from stripe_account import api, make_meter

from meterkit import Governance, Meter, Quota, Webhook
from meterkit.accounts.inbox import ParsedEvent
from meterkit.ledger.books import Books
from meterkit.metrics import PrometheusCollector, instrument
from meterkit.metrics.figures import FIGURES
from meterkit.notices.notice import Notice
from meterkit.notices.store import NoticeStore
from meterkit.sandbox import Sandbox
from meterkit.wsgi import MeterMiddleware

DOCS = Path(__file__).parent.parent.parent / "docs"
NAMES = {figure.prometheus_name for figure in FIGURES}


def scraped(kit, **options):
    """What a scrape shows: ``{(name, *values of the labels): figure}``."""
    registry = CollectorRegistry()
    registry.register(PrometheusCollector(kit, **options))
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in registry.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def observed(kit):
    """What OpenTelemetry collects, in the same shape, under its own names."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    instrument(kit, provider, max_age=3600)
    metrics = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
    found = {
        (metric.name, *point.attributes.values()): point.value
        for metric in metrics
        for point in metric.data.data_points
    }
    provider.shutdown()
    return found


@pytest.fixture
def busy_kit(make_kit, stripe, customer):
    """A kit to which nearly everything has happened."""
    calls = Meter("calls", path="/v1/*")
    kit = make_kit(
        calls,
        Meter("unknown", http=False),
        identify=lambda exchange: exchange.headers.get("x-company"),
        governance=Governance(quotas=[Quota(calls, limit=1, per="month")]),
        webhook=Webhook("/hook", secret="whsec_1"),
        stripe_key=stripe.api_key,
        stripe_base=stripe.url,
    )

    def app(_environ, start_response):
        start_response("200 OK", [])
        return [b""]

    metered = MeterMiddleware(app, kit)

    def call(path, **headers):
        list(metered({"REQUEST_METHOD": "GET", "PATH_INFO": path, "QUERY_STRING": "", **headers}, lambda *_: None))

    call("/v1/a", HTTP_X_COMPANY=customer)
    call("/v1/a")
    call("/free")
    kit.flush()
    call("/v1/a", HTTP_X_COMPANY=customer)
    kit.report(include_open=True)
    kit.record("calls", customer, 7)
    kit.record("unknown", customer, 5)
    kit.report(include_open=True)
    kit.record("calls", customer, 20)
    with pytest.raises(Exception, match="Stripe-Signature"):
        kit.receive(b"{}", "t=1,v1=0")
    return kit


def test_the_figures(busy_kit, clock):
    """Usage by meter and place, what was blocked and why, and what went wrong."""
    found = scraped(busy_kit)

    assert {
        ("meterkit_ledger_up",): 1,
        ("meterkit_attention",): len(busy_kit.health()["attention"]),
        ("meterkit_usage_counted", "calls"): 29,
        ("meterkit_usage_units", "calls", "journal"): 20,
        ("meterkit_usage_units", "calls", "sent"): 8,
        ("meterkit_usage_units", "calls", "unattributed"): 1,
        ("meterkit_usage_units", "unknown", "pending"): 5,
        ("meterkit_books_balanced", "calls"): 1,
        ("meterkit_unsent_oldest_timestamp_seconds",): clock(),
        ("meterkit_webhook_events", "received"): 0,
        ("meterkit_problems_total", "no_company"): 1,
        ("meterkit_blocked_requests_total", "quota"): 1,
        ("meterkit_unmatched_requests_total",): 1,
        ("meterkit_webhook_requests_total", "received"): 0,
        ("meterkit_webhook_requests_total", "refused"): 1,
        ("meterkit_journal_in_memory",): 0,
        ("meterkit_report_last_timestamp_seconds",): clock(),
    }.items() <= found.items()


def test_whether_anybody_flushes(make_kit):
    """Who holds the lock of the directory, whichever process it is."""
    kit, other = make_kit(), make_kit()
    assert 0 == scraped(kit)["meterkit_flusher_up",]

    assert other.process().lock.try_acquire()

    assert 1 == scraped(kit)["meterkit_flusher_up",]


def test_the_books_are_complete(busy_kit):
    """The places add up to what was counted, for each meter."""
    found = scraped(busy_kit)

    for meter in busy_kit.meters:
        placed = sum(value for key, value in found.items() if key[:2] == ("meterkit_usage_units", meter))
        assert found["meterkit_usage_counted", meter] == placed


def test_both_exporters_say_the_same(busy_kit):
    """Each figure that one shows, the other does, under the name that follows from it."""
    by_name = {figure.name: figure.prometheus_name for figure in FIGURES}
    theirs = {(by_name[key[0]], *key[1:]): value for key, value in observed(busy_kit).items()}
    ours = scraped(busy_kit)
    read_at = ("meterkit_ledger_read_timestamp_seconds",)

    assert len(ours) > 30
    assert ours.pop(read_at) == pytest.approx(theirs.pop(read_at), abs=3600)
    assert theirs == ours


def test_no_label_is_a_company(busy_kit, customer):
    """Nor a path or a user: a client cannot make series."""
    assert [] == [key for key in scraped(busy_kit) if customer in key or "/free" in str(key)]
    assert {"meter", "place", "reason", "state", "outcome"} == {label for each in FIGURES for label in each.labels}


def test_a_counter_does_not_shrink(kit):
    """A problem that is solved leaves ``health()``, and stays in its counter."""
    kit.recorder.problems.note("flush_failed", "locked", units=3)
    kit.recorder.problems.clear("flush_failed")
    kit.recorder.problems.note("flush_failed", "locked", units=4)
    found = scraped(kit)

    assert (2, 7) == tuple(
        found[name, "flush_failed"] for name in ("meterkit_problems_total", "meterkit_uncounted_units_total")
    )


def test_notices_and_webhooks(kit, clock):
    """Those that wait, and what became of the others in the last seven days."""
    store = NoticeStore(kit.process().database(), clock=clock)
    for number in range(3):
        at = int(clock()) - (9 * 24 * 3600 if number == 2 else 0)
        about = {"kind": "trouble", "company": None, "title": "t", "text": "t", "created_at": at, "fields": {}}
        store.put([(Notice(key=str(number), **about), ["log"])])
    for _ in range(2):  # the oldest first
        store.settle(store.claim("log"), None)
    inbox = kit.process().inbox()
    inbox.put(ParsedEvent("evt_1", "invoice.paid", int(clock()), "invoice", "in_1", ""))
    inbox.put(ParsedEvent("evt_2", "charge.updated", int(clock()), "charge", "ch_1", "not followed"))
    found = scraped(kit)

    assert {"waiting": 1, "delivered": 1, "given_up": 0} == {
        state: found["meterkit_notices", state] for state in ("waiting", "delivered", "given_up")
    }
    assert {"received": 1, "applied": 0, "ignored": 1} == {
        state: found["meterkit_webhook_events", state] for state in ("received", "applied", "ignored")
    }


def test_the_page_lists_every_metric():
    """With its names, labels and description."""
    rows = re.findall(r"^\| `(meterkit_\w+)` \| `([\w.]+)` \| ([^|]*) \| (\w+) \| ([^|]*) \|$", page(), re.MULTILINE)

    assert rows == [
        (
            each.prometheus_name,
            each.name,
            ", ".join(f"`{label}`" for label in each.labels) or "-",
            "ledger" if each.of_ledger else "process",
            each.description,
        )
        for each in FIGURES
    ]


def page():
    """The page about all this."""
    return (DOCS / "observability.md").read_text()


def queries():
    """The queries of the Grafana board."""
    board = json.loads((DOCS / "grafana.json").read_text())
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    return asked + [each["query"] for each in board["templating"]["list"] if each["type"] == "query"]


LABELS = {figure.prometheus_name: set(figure.labels) for figure in FIGURES}
PLACES = {"journal", "unreported", "unlinked", "unattributed", "capped", "nonbillable"}
PLACES |= {"pending", "uncertain", "sent", "invoiced", "rejected"}


@pytest.mark.parametrize("source", [queries, lambda: re.findall(r"^ +expr: (.*)$", page(), re.MULTILINE)])
def test_queries_ask_for_what_there_is(source):
    """Of the board and of the alerts: the metrics exist, with these labels and places."""
    asked = source()

    assert len(asked) > 9
    for query in asked:
        names = re.findall(r"meterkit_\w+", query)
        assert names, query
        assert set() == set(names) - NAMES, query
        labels = {each.strip() for group in re.findall(r"by \(([^)]*)\)", query) for each in group.split(",")}
        labels |= set(re.findall(r"(\w+)=~?\"", query)) - {"job"}
        assert all(labels <= LABELS[name] for name in names), query
        for places in re.findall(r"place=~?\"([^\"]*)\"", query):
            assert set(places.split("|")) <= PLACES


def test_the_board_shows_every_metric():
    """None is left out of it."""
    assert set() == NAMES - {name for query in queries() for name in re.findall(r"meterkit_\w+", query)}


def test_the_places_are_those_of_the_books():
    """The places in the queries above are all that there are."""
    assert set(Books.__slots__) - {"counted"} == PLACES


def test_several_kits(make_kit, tmp_path):
    """By name, where there is a kit for each connected account."""
    eu, us = make_kit(data_dir=tmp_path / "eu"), make_kit(data_dir=tmp_path / "us")
    eu.record("calls", "cus_1", 3)
    us.record("calls", "cus_1", 4)
    kits = {"eu": eu, "us": us}

    assert [3, 4] == [scraped(kits)["meterkit_usage_counted", name, "calls"] for name in kits]
    assert [3, 4] == [observed(kits)["meterkit.usage.counted", name, "calls"] for name in kits]


def test_stripe_that_fails(make_kit, clock):
    """What Stripe does not take shows up as pending, with its age, and no report counts as the last."""
    with Sandbox(now=clock) as sandbox:
        company = api(sandbox).customers.create({}).id
        kit = make_kit(stripe_key=sandbox.api_key, stripe_base=sandbox.url)
        kit.record("calls", company, 5)
        kit.report(include_open=True)
        before = scraped(kit)
        make_meter(sandbox, "calls")
        clock.advance(7200)
        kit.report()
        after = scraped(kit)

    assert 5 == before["meterkit_usage_units", "calls", "pending"]
    assert clock() - 7200 == before["meterkit_unsent_oldest_timestamp_seconds",]
    assert ("meterkit_report_last_timestamp_seconds",) not in before
    assert 5 == after["meterkit_usage_units", "calls", "sent"]
    assert ("meterkit_unsent_oldest_timestamp_seconds",) not in after
    assert clock() == after["meterkit_report_last_timestamp_seconds",]
