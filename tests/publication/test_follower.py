"""A process that does not flush decides from what the one that flushes has published."""

from __future__ import annotations

import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
from guard import GUARD, tries
from plain_exchange import PlainExchange

from meterkit import Governance, Meter, Plan, Quota
from meterkit.ledger import schema
from meterkit.pages.team import survey
from meterkit.publication import follower

CALLS = Meter("calls", path="/calls")
HOUR, DAY = 3600, 24 * 3600


def whose(exchange):
    return exchange.headers.get("x-company")


def ask(kit, company="acme"):
    """Send a request of *company*: whether it was served, and counted."""
    exchange = PlainExchange("GET", "/calls", headers={"x-company": company})
    exchange.publish(kit)
    refused = kit.governor.check(exchange)
    if refused is None:
        exchange.status = 200
        kit.recorder.close(exchange)
    else:
        kit.recorder.refuse(exchange)
    return None if refused is None else refused.status


def tick(kit):
    """What the background thread does when `flush_interval` is over."""
    kit.process()._tick(is_last=False)


def follows(kit):
    """Whether it has needed no ledger."""
    return kit.process()._database is None and kit.process().figures.source.current is not None


@pytest.fixture
def pair(make_kit):
    """A function that makes two kits: one that flushes for both, and one that follows it."""

    def pair(**options):
        kits = [make_kit(CALLS, identify=whose, **options) for _ in range(2)]
        leader, worker = kits
        leader.governor.begin()
        assert leader.governor.ready.wait(GUARD)
        next(True for _ in tries() if (leader.process()._settings.data_dir / "snapshot").exists())
        worker._supervisor.runtime(counting=True)
        tick(worker)
        assert follows(worker)
        return leader, worker

    return pair


def test_quotas_count_what_both_have_served(pair):
    """What the follower has handed over counts at every moment, and once."""
    leader, worker = pair(governance=Governance(quotas=[Quota(CALLS, 10)]))
    first = [ask(worker) for _ in range(4)]
    tick(worker)
    second = [ask(worker) for _ in range(3)]
    leader.flush()
    tick(worker)
    leader.flush()
    third = [ask(worker) for _ in range(4)]

    assert ([None] * 4, [None] * 3, [None, None, None, 429]) == (first, second, third)
    assert follows(worker)
    assert 429 in [ask(leader) for _ in range(4)]


def test_what_is_in_the_figures_does_not_count_twice(pair):
    """As soon as they are published, without a flush of the follower."""
    leader, worker = pair(governance=Governance(quotas=[Quota(CALLS, 10)]))
    [ask(worker) for _ in range(6)]
    tick(worker)
    next(True for _ in tries() if not worker.process().journal.waiting())
    leader.flush()

    assert [None] * 4 == [ask(worker) for _ in range(4)]
    assert 429 == ask(worker)


def test_what_a_writer_folded_that_was_killed_before_it_published(pair, monkeypatch):
    """The next one does not name it: it counts until a round that began later is done, and no longer."""
    leader, worker = pair(governance=Governance(quotas=[Quota(CALLS, 10)]))
    [ask(worker) for _ in range(6)]
    monkeypatch.setattr(leader.process().flusher, "take_folded", list)
    tick(worker)
    next(True for _ in tries() if not worker.process().journal.waiting())
    leader.flush()
    at_first = worker.process().journal.lately("acme", "calls")
    tick(worker)
    leader.flush()
    tick(worker)

    assert (6, 0) == (at_first, worker.process().journal.lately("acme", "calls"))
    assert [None] * 4 + [429] == [ask(worker) for _ in range(5)]


def test_who_is_blocked_is_blocked_in_both_and_counted(pair):
    """With the page at which to pay; and the ledger learns how many were blocked."""
    leader, worker = pair(governance=Governance(overdue_days=0, subscription=True))
    before = ask(worker)
    with leader.process().database().transaction() as connection:
        connection.execute(schema.accounts.insert().values(company="acme", customer="cus_1", linked_at=1))
        connection.execute(
            schema.customers.insert().values(
                id="cus_1", company="acme", name="", deleted=False, checked_at=int(leader.clock())
            )
        )
    leader.flush()
    after = [ask(worker), ask(worker)]
    tick(worker)
    leader.flush()

    assert (None, [402, 402]) == (before, after)
    assert [("acme", "no_subscription", 2)] == [(x.company, x.reason, x.count) for x in leader.stopped()]
    assert follows(worker)


def test_limits_and_features_of_plans(pair):
    """The default plan's limit, and that of a function, which only the process that flushes calls."""
    asked = []
    free = Plan("free", limits=[Quota(CALLS, lambda company: asked.append(company) or 3)], features={"export"})
    leader, worker = pair(plans=[free], default_plan="free")
    ask(worker)
    tick(worker)
    next(True for _ in tries() if asked)
    leader.flush()

    assert [None, None, 429] == [ask(worker) for _ in range(3)]
    assert (["acme"], free, True) == (asked, worker.plan_of("acme"), worker.can("acme", "export"))
    assert follows(worker)


def test_the_team_sees_who_is_near_a_limit_that_another_process_knows(pair, monkeypatch):
    """Where they are too many to call the function of the limit for each."""
    monkeypatch.setattr(survey, "CALLED", 0)
    asked = []
    rules = Governance(quotas=[Quota(CALLS, lambda company: asked.append(company) or 4)])
    leader, worker = pair(governance=rules)
    [ask(worker) for _ in range(4)]
    tick(worker)
    next(True for _ in tries() if not worker.process().journal.waiting())
    leader.flush()
    tick(worker)
    made = []
    views = SimpleNamespace(routes=list)
    monkeypatch.setattr("meterkit.pages.team.routes.TeamViews", lambda sources, margin: made.append(sources) or views)
    worker._assembly._team_routes()
    (sources,) = made

    near = survey.survey(sources).near

    assert [("acme", "quota of calls per period")] == [(each.company, each.limit) for each in near]
    assert ["acme"] == asked


def test_billing_periods_split_hours_in_both(pair, monkeypatch):
    """Boundaries of this hour, and past ones for ``record(at=)``."""
    leader, worker = pair(governance=Governance(quotas=[Quota(CALLS, 10)]))
    now = int(leader.clock())
    hour = now - now % HOUR
    windows = leader.process()._windows
    windows.past = {"acme": (hour - DAY + 60,)}
    monkeypatch.setattr(leader.process(), "_period_edges", Edges(windows, {"acme": (hour + 10,)}))
    leader.flush()
    tick(worker)
    followed = worker.process()._windows

    assert [hour + 10, hour] == [followed.at(hour + 20, "acme"), followed.at(hour + 20, "globex")]
    assert hour - DAY + 60 == followed.of_the_past(hour - DAY + 61, "acme")
    assert hour - DAY == followed.of_the_past(hour - DAY + 61, "globex")
    assert follows(worker)


class Edges:
    """Period edges as a test wants them."""

    def __init__(self, windows, boundaries):
        self._windows, self._boundaries = windows, boundaries

    def read(self, _database):
        self._windows.boundaries = self._boundaries

    def placed(self, counts, *, since):
        return counts


def test_two_configurations_side_by_side_each_go_by_their_own(pair, make_kit):
    """While a deployment is under way, the old workers do not read the figures of the new rules."""
    leader, _ = pair(governance=Governance(quotas=[Quota(CALLS, 10)]))
    older = make_kit(CALLS, identify=whose, governance=Governance(quotas=[Quota(CALLS, 2)]))
    older._supervisor.runtime(counting=True)
    tick(older)

    assert [None, None, 429] == [ask(older) for _ in range(3)]
    assert not follows(older)
    assert leader.process().figures.source.current is not older.process().figures.source.current


def test_what_was_published_for_the_former_rules_comes_to_an_end(pair, make_kit):
    """A deployment: the process that flushed ends, and one with other rules takes its place."""
    leader, worker = pair(governance=Governance(quotas=[Quota(CALLS, 3)]))
    leader.close()
    newer = make_kit(CALLS, identify=whose, governance=Governance(quotas=[Quota(CALLS, 100)]))
    newer.governor.begin()
    assert newer.governor.ready.wait(GUARD)
    next(True for _ in tries() if (newer.process()._settings.data_dir / "snapshot").exists())
    [ask(newer) for _ in range(3)]
    newer.flush()
    tick(worker)

    assert (429, None) == (ask(worker), ask(newer))
    assert not follows(worker)


def test_plans_are_known_throughout_a_takeover(pair, monkeypatch):
    """What was published holds until the ledger has been read."""
    free, pro = Plan("free", features={"a"}), Plan("pro", features={"b"})
    leader, worker = pair(plans=[free, pro], governance=Governance(overdue_days=1))
    plans = leader._company_plans
    plans.names["acme"] = "pro"
    plans._changed.add("acme")
    leader.flush()
    tick(worker)
    before = worker.plan_of("acme")
    seen = []
    refresh = type(worker._company_plans).refresh

    def watched(self, database):
        seen.append(worker._company_plans.of("acme"))
        refresh(self, database)

    monkeypatch.setattr(type(worker._company_plans), "refresh", watched)
    worker.flush()

    assert (pro, [pro]) == (before, seen)


def test_a_process_whose_figures_nobody_looks_after_reads_the_ledger(pair, monkeypatch):
    """The one that flushes hangs; and when it goes on, it is followed again."""
    leader, worker = pair(governance=Governance(quotas=[Quota(CALLS, 4)]))
    monkeypatch.setattr(follower, "PATIENCE_SECONDS", 0.0)
    mine = worker.process().figures.follower
    with monkeypatch.context() as patch:
        patch.setattr(mine, "_within", -1.0)
        tick(worker)
    alone = (worker.process().figures.publisher is not None, [ask(worker) for _ in range(2)])
    tick(worker)
    leader.flush()

    assert (True, [None, None]) == alone
    assert worker.process().figures.publisher is None
    assert [None, None, 429] == [ask(worker) for _ in range(3)]


def test_a_successor_is_followed(pair, make_kit):
    """The one that flushed ends, and another takes its place; what was read stays until then."""
    rules = Governance(quotas=[Quota(CALLS, 4)])
    leader, worker = pair(governance=rules)
    [ask(worker) for _ in range(4)]
    tick(worker)
    leader.flush()
    leader.close()
    between = ask(worker)
    successor = make_kit(CALLS, identify=whose, governance=rules)
    successor._supervisor.runtime(counting=True)
    successor.governor.begin()
    assert successor.governor.ready.wait(GUARD)
    next(True for _ in tries() if (successor.process()._settings.data_dir / "snapshot").exists())
    tick(worker)

    assert (429, 429) == (between, ask(worker))
    assert follows(worker)


APP = """
import gc, resource, sys
from meterkit import Governance, Meter, MeterKit, Notify, Plan, Price, Quota
CALLS = Meter("calls", path="/calls")

def app(environ, start):
    start("200 OK", [("Content-Length", "2")])
    return [b"ok"]

def made(directory):
    from meterkit.wsgi import MeterMiddleware
    free = Plan("free", limits=[Quota(CALLS, 1_000_000)], features={"export"})
    pro = Plan("pro", prices=[Price.per_unit(CALLS, "0.01")], limits=[Quota(CALLS, lambda company: 5, per="day")])
    kit = MeterKit(
        meters=[CALLS], identify=lambda exchange: exchange.headers["x-company"], data_dir=directory,
        plans=[free, pro], default_plan="free", flush_interval=0.1, notify=[Notify.quota(to=print)],
        governance=Governance(overdue_days=5, quotas=[Quota(CALLS, 3, per="day")], rate_limit_headers=True),
    )
    return kit, MeterMiddleware(app, kit)

def serve(wrapped, company):
    said = []
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/calls", "SCRIPT_NAME": "", "HTTP_X_COMPANY": company}
    body = wrapped(environ, lambda status, headers, error=None: said.append(status))
    list(body)
    getattr(body, "close", list)()
    return said[0][:3]
"""


@pytest.mark.long
def test_a_worker_that_serves_imports_no_database_and_no_stripe(tmp_path):
    """With plans, quotas, a limit function, blocked requests and notices; and it takes little memory."""
    (tmp_path / "billing.py").write_text(APP)
    leads = (
        "import sys, billing\n"
        "kit, wrapped = billing.made('data')\n"
        "billing.serve(wrapped, 'first')\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "kit.close()\n"
    )
    serves = (
        "import sys, time, billing\n"
        "kit, wrapped = billing.made('data') if sys.argv[1] == 'metered' else (None, billing.app)\n"
        "found = set()\n"
        "for number in range(10_000):\n"
        "    found.add(billing.serve(wrapped, f'company_{number}'))\n"
        "if kit is not None:\n"
        f"    end = time.monotonic() + {GUARD}\n"
        "    while time.monotonic() < end and not kit.process().figures.source.current: time.sleep(0.01)\n"
        "    for number in range(10):\n"
        "        found.add(billing.serve(wrapped, 'company_0'))\n"
        "    waiting = kit.process().journal\n"
        "    while time.monotonic() < end and (waiting.waiting() or waiting._current.total): time.sleep(0.01)\n"
        "    print(sorted(found), kit.process().figures.source.current is not None, kit.can('acme', 'export'))\n"
        "    print(sorted({'sqlalchemy', 'stripe', 'httpx'} & sys.modules.keys()))\n"
        "print(int(open('/proc/self/statm').read().split()[1]) * 4, 'KiB')\n"
    )
    leader = subprocess.Popen(
        [sys.executable, "-c", leads], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert leader.stdout.readline() == "ready\n"
        next(True for _ in tries() if (tmp_path / "data" / "snapshot").exists())
        said = {}
        for which in ("metered", "bare"):
            said[which] = subprocess.run(
                [sys.executable, "-c", serves, which],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                check=True,
                timeout=GUARD,
            ).stdout.splitlines()
    finally:
        leader.communicate("\n", timeout=GUARD)

    print({which: lines[-1] for which, lines in said.items()})
    assert ["['200', '429'] True True", "[]"] == said["metered"][:2]
    assert all(re.fullmatch(r"\d+ KiB", lines[-1]) for lines in said.values())
