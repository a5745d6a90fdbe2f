"""
Hostile requests to real servers: what the app answers is counted or named, and nobody gets around access control.

``nox -s hostile`` sends the table to all servers and frameworks.
"""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from guard import tries
from hostile_cases import CASES, QUERY, Case
from hostile_servers import ASYNC, COMMANDS, send, serving
from thorough import some

CLIENTS = 4
BLOCKED = ("stopped", "spent")
WSGI, ASGI = ("flask", "django", "wsgi"), ("fastapi", "starlette", "django-asgi", "asgi")
PAIRS = [(server, framework) for server in COMMANDS for framework in (ASGI if server in ASYNC else WSGI)]

NAMED = ("path_differs", "path_unknown", "length_unknown", "exempt_prefix")
"""Problems that name usage which is not counted."""


@pytest.mark.parametrize("pair", some([("gunicorn", "flask"), ("uvicorn", "fastapi")], among=PAIRS), ids="-".join)
def test_hostile_requests(pair: tuple[str, str], tmp_path: Path) -> None:
    """
    The same responses as without meterkit, every success counted, no view run for who is stopped, no flush stopped.
    """
    if pair[0] == "waitress":
        pytest.importorskip("waitress")
    with serving(*pair, tmp_path) as port, ThreadPoolExecutor(CLIENTS) as clients:
        for _ in tries():  # until access control has begun
            if all(send(port, Case(0, b"GET", QUERY).sent(mode, key="first"))[0] >= 400 for mode in BLOCKED):
                break
        statuses = {
            mode: list(clients.map(lambda case, mode=mode: send(port, case.sent(mode))[0], CASES))
            for mode in ("bare", "metered", *BLOCKED)
        }
        report = json.loads(send(port, b"GET / HTTP/1.1\r\nHost: x\r\nX-Mode: report\r\nConnection: close\r\n\r\n")[1])

    wrong = [
        *different(statuses["bare"], statuses["metered"]),
        *uncounted(report, statuses["metered"]),
        *(
            f"ran although it was {mode}: {_case(who)}"
            for mode in BLOCKED
            for who, _, _ in report["ran"][mode]
            if who != "first"
        ),
        *harmed(report),
    ]
    assert len(report["ran"]["metered"]) > 20, "hardly any request reached the view"
    assert not wrong, "\n".join(["", *wrong])


def different(bare: list[int], metered: list[int]) -> list[str]:
    """Where the client sees that there is a meter."""
    return [
        f"{with_} instead of {without}: {case}"
        for case, without, with_ in zip(CASES, bare, metered, strict=True)
        if without != with_
    ]


def uncounted(report: dict[str, Any], statuses: list[int]) -> list[str]:
    """Where the view ran and no meter counted it, or a meter counted what was no success."""
    wrong = []
    named = sum(problem["count"] for reason, problem in report["problems"]["metered"].items() if reason in NAMED)
    for meter in ("by_path", "by_route", "posts"):
        counted = report["counted"]["metered"].get(meter, {})
        if meter == "by_route" and not counted and not _has_routes(report):
            continue
        ran = Counter(who for who, method, _ in report["ran"]["metered"] if meter != "posts" or method == "POST")
        missing = [who for who, times in ran.items() if counted.get(who, 0) < times]
        if len(missing) > named:
            wrong += [f"not counted by {meter}: {_case(who)}" for who in missing]
        too_many = [who for who, times in counted.items() if times > max(ran[who], _successes(who, statuses))]
        wrong += [f"counted too often by {meter}: {_case(who)}" for who in too_many]
    read: Counter[str] = Counter()
    for who, _, size in report["ran"]["metered"]:
        read[who] += size
    counted = report["counted"]["metered"].get("read", {})
    return wrong + [
        f"read {read[who]} bytes, counted {counted.get(who, 0)}: {_case(who)}"
        for who in read.keys() | counted.keys()
        if read[who] != counted.get(who, 0)
    ]


def harmed(report: dict[str, Any]) -> list[str]:
    """Where metering itself failed."""
    return [
        f"{mode}: {reason}: {problem['message']}"
        for mode, problems in report["problems"].items()
        for reason, problem in problems.items()
        if reason in ("internal_error", "flush_failed", "two_kits", "journal_lost", "check_raised")
    ]


def _has_routes(report: dict[str, Any]) -> bool:
    return "by_route" in report["counted"]["metered"]


def _case(company: str) -> Case | str:
    number = company[1:]
    return CASES[int(number)] if company.startswith("c") and number.isdigit() else company


def _successes(company: str, statuses: list[int]) -> int:
    case = _case(company)
    return 1 if isinstance(case, Case) and 200 <= statuses[case.number] < 300 else 0


def test_the_table() -> None:
    """
    About two hundred requests, each of its own.
    """
    sent = [(case.method, case.target, case.extra, case.version) for case in CASES]

    assert 200 <= len(sent) == len(set(sent))
    assert importlib.util.find_spec("hostile_app")
