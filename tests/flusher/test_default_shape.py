"""Where a thread flushes though a process could be started, because nobody asked for one."""

from __future__ import annotations

import logging
import sys
import time
from types import ModuleType

import pytest

from meterkit import Governance, Meter, MeterKit, Notify, Plan, Quota
from meterkit.channels import Email, Log, Slack
from meterkit.flusher import default_shape
from meterkit.flusher.default_shape import memory_left, reason_to_stay, resident

CALLS = Meter("calls")
SLACK = Slack("https://hooks.slack.com/services/T0/B0/x")
MIB = 1 << 20


class Pager:
    """A channel of the application's own."""

    name = "pager"

    def deliver(self, _notice):
        """Deliver nothing."""


def email(**options):
    return Email("smtp.example.com", sender="billing@example.com", **{"to": "ops@example.com", **options})


@pytest.fixture(autouse=True)
def cgroups(tmp_path, monkeypatch):
    """A directory in place of /sys/fs/cgroup, in which nothing is limited."""
    monkeypatch.setattr(default_shape, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(default_shape, "OWN_GROUP", tmp_path / "cgroup" / "own")
    (tmp_path / "cgroup" / "memory").mkdir(parents=True)
    return tmp_path / "cgroup"


@pytest.fixture
def reason(tmp_path):
    """A function that returns why a thread of a kit with these options is to flush."""

    def reason(**options):
        defaults = {"meters": [CALLS], "data_dir": tmp_path / "meterkit", "identify": lambda _: None}
        kit = MeterKit(**{**defaults, **options})
        functions = kit._supervisor.importable.functions
        return reason_to_stay(kit.process().settings, functions=functions)

    return reason


def test_a_kit_of_plain_values_has_a_process(reason):
    """What requests alone call is no matter: identify=, and what a meter matches and measures."""
    assert reason(meters=[Meter("calls", when=lambda _: True)]) is None
    assert reason(governance=Governance(quotas=[Quota(CALLS, 10)], check=lambda *_: None)) is None
    assert reason(plans=[Plan("pro", limits=[Quota(CALLS, 10)])], default_plan="pro") is None
    assert reason(notify=[Notify.trouble(to=[SLACK, Log(), email(subject="{title}")])]) is None


def find(_company):
    """Find nobody."""


FUNCTIONS = {
    "find_customer=": {"find_customer": find},
    "limit=": {"governance": Governance(quotas=[Quota(CALLS, lambda _: 10)])},
    "limit= of a plan": {"plans": [Plan("pro", limits=[Quota(CALLS, lambda _: 10)])], "default_plan": "pro"},
    "notify=": {"notify": [Notify.trouble(to=print)]},
    "notify= with a channel of its own": {"notify": [Notify.trouble(to=Pager())]},
    "notify= with a function in an e-mail": {"notify": [Notify.trouble(to=email(to=lambda _: None))]},
}


@pytest.mark.parametrize("case", FUNCTIONS)
def test_a_kit_whose_flusher_calls_functions_has_a_thread(case, reason):
    """They may need a connection, a queue or an app that only the process that serves has set up."""
    found = reason(**FUNCTIONS[case])

    assert f"({case.split(' ')[0]})" in found
    assert "flusher='process' starts one nevertheless" in found


def test_a_clock_of_its_own_is_one_of_this_process(reason):
    """As a test has it."""
    assert "clock=" in reason(clock=lambda: time.time() + 1)


@pytest.mark.parametrize("name", default_shape.SERVERLESS)
def test_nothing_is_started_where_processes_are_frozen(name, reason, monkeypatch):
    """Between two requests, on serverless platforms."""
    monkeypatch.setenv(name, "x")

    assert f"({name} is set)" in reason()


def test_nothing_is_started_beside_a_debugger(reason, monkeypatch):
    """It would follow the process."""
    monkeypatch.setitem(sys.modules, "debugpy", ModuleType("debugpy"))

    assert "being debugged" in reason()


def limit(group, limit, used, cached=0):
    """What the kernel says of a control group, in bytes."""
    (group / "memory.max").write_text(f"{limit}\n")
    (group / "memory.current").write_text(f"{used}\n")
    (group / "memory.stat").write_text(f"anon 1\ninactive_file {cached}\nactive_file 2\n")


def test_nothing_is_started_where_it_does_not_fit(reason, cgroups):
    """A process needs what this one has, at most, and what the flusher imports."""
    needed = resident() + default_shape.NEEDED_BYTES
    limit(cgroups, 100 * needed, 98 * needed)
    assert reason() is None

    limit(cgroups, 64 * MIB, 40 * MIB)
    assert "the container's memory limit leaves 24 MiB" in reason()


def test_a_cache_of_files_is_no_memory_in_use(cgroups):
    """The kernel gives it away first."""
    limit(cgroups, 64 * MIB, 60 * MIB, cached=50 * MIB)

    assert 54 * MIB == memory_left()


def test_without_a_limit_nothing_is_known(cgroups):
    """In the words of either version."""
    assert memory_left() is None
    limit(cgroups, "max", 60 * MIB)
    assert memory_left() is None
    (cgroups / "memory" / "memory.limit_in_bytes").write_text(str(9223372036854771712))
    (cgroups / "memory" / "memory.usage_in_bytes").write_text(str(60 * MIB))
    assert memory_left() is None


def test_a_limit_of_version_1(cgroups):
    """Of the control groups."""
    (cgroups / "memory" / "memory.limit_in_bytes").write_text(f"{64 * MIB}\n")
    (cgroups / "memory" / "memory.usage_in_bytes").write_text(f"{60 * MIB}\n")
    (cgroups / "memory" / "memory.stat").write_text(f"cache 1\ntotal_inactive_file {10 * MIB}\n")

    assert 14 * MIB == memory_left()


def test_a_limit_of_its_own_group(cgroups):
    """As systemd sets it for a service."""
    (cgroups / "own").write_text("0::/system.slice/app.service\n")
    group = cgroups / "system.slice" / "app.service"
    group.mkdir(parents=True)
    limit(group, 64 * MIB, 60 * MIB)

    assert 4 * MIB == memory_left()


def test_who_asks_for_a_process_has_it_whatever_the_kit_calls(reason, tmp_path, monkeypatch):
    """By the argument, or the environment."""
    chosen = MeterKit(meters=[CALLS], data_dir=tmp_path / "chosen", flusher="process")
    monkeypatch.setenv("METERKIT_FLUSHER", "process")
    by_environment = MeterKit(meters=[CALLS], data_dir=tmp_path / "by_environment")

    assert not chosen.process().settings.flusher_is_default
    assert not by_environment.process().settings.flusher_is_default
    assert "process" == chosen.health()["flusher"]["setting"]


@pytest.mark.parametrize(("options", "says"), [({}, False), ({"flusher": "process"}, True)])
def test_a_test_run_has_a_thread(options, says, make_kit, monkeypatch, caplog):
    """Nobody expects a process there, so nothing is said; but to who has asked for one."""
    monkeypatch.delenv("METERKIT_FLUSHER", raising=False)
    with caplog.at_level(logging.INFO):
        kit = make_kit(**options)
        kit.record("calls", "acme")
        kit.process()._tick(is_last=False)

    assert "this is a test run" in kit.health()["flusher"]["in_thread"]
    assert 1 == sum(row.quantity for row in kit.usage(company="acme"))
    assert says == ("flusher_in_thread" in [getattr(record, "event", "") for record in caplog.records])
