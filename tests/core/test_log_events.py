"""Log records for programs: stable events and fields, in the shapes that structlog, Sentry and JSON formatters read."""

from __future__ import annotations

import ast
import json
import logging
import re
from pathlib import Path

import pytest
import sentry_sdk
import structlog
from guard import GUARD
from sentry_sdk.integrations.logging import LoggingIntegration

import meterkit
from meterkit import Meter
from meterkit.core.problems import Problems, log_event
from meterkit.wsgi import MeterMiddleware

PACKAGE = Path(meterkit.__file__).parent
PAGE = PACKAGE.parent / "docs" / "observability.md"

SECRET, WEBHOOK_SECRET, TOKEN = "sk_test_51_unseen", "whsec_unseen", "token-unseen"
"""Not written where they are used: Sentry sends the lines of source around a frame."""


@pytest.fixture
def app():
    """A WSGI app whose responses count."""

    def app(_environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"ok"]

    return app


def call(app, **headers):
    """Send a request."""
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "QUERY_STRING": "", **headers}
    list(app(environ, lambda *_: None))


def test_a_problem_has_fields(caplog):
    """The event is the reason, and the detail is the message alone; the text stays readable."""
    Problems().note("key_reused", "used twice", company="acme", meter="calls", units=3)
    (record,) = caplog.records

    assert "used twice (key_reused, 1 so far)" == record.getMessage()
    assert ("key_reused", "used twice", 1, 3) == (record.event, record.detail, record.occurrences, record.units)
    assert ("acme", "calls") == (record.company, record.meter)


def test_what_is_unknown_is_left_out(caplog):
    """A field without a value is not there."""
    Problems().note("refusal_raised", "it raised", company=None)

    assert not {"company", "units"} & vars(caplog.records[0]).keys()


def test_the_template_says_the_event_and_nothing_else(caplog):
    """So that whatever groups by it has one group for each event."""
    for company in ("acme", "globex"):
        Problems().note("key_reused", f"of {company}", company=company)
    log_event("ledger_copied", "100 % of it")

    assert ["%s (key_reused, %d so far)"] * 2 + ["%s (ledger_copied)"] == [record.msg for record in caplog.records]
    assert "100 % of it (ledger_copied)" == caplog.messages[-1]


def test_a_record_factory_of_the_application(caplog):
    """If it sets a field of the same name, that is kept, and the line is logged all the same."""
    before = logging.getLogRecordFactory()

    def make(*arguments, **options):
        record = before(*arguments, **options)
        record.company = "the application's"
        return record

    logging.setLogRecordFactory(make)
    try:
        Problems().note("key_reused", "used twice", company="acme", meter="calls")
    finally:
        logging.setLogRecordFactory(before)
    (record,) = caplog.records

    assert ("the application's", "calls") == (record.company, record.meter)


def test_structlog(make_kit, app, capsys):
    """``ProcessorFormatter`` with ``ExtraAdder`` writes JSON whose event is ours."""
    shared = [structlog.stdlib.add_log_level, structlog.stdlib.add_logger_name, structlog.stdlib.ExtraAdder()]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, structlog.processors.JSONRenderer()],
    )
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logger = logging.getLogger("meterkit")
    logger.addHandler(handler)
    try:
        call(MeterMiddleware(app, make_kit(stripe_key=SECRET, identify=lambda _: None)))
    finally:
        logger.removeHandler(handler)
    line = json.loads(capsys.readouterr().err)

    assert ("no_company", "warning", "meterkit", 1) == tuple(
        line[name] for name in ("event", "level", "logger", "occurrences")
    )
    assert line["detail"].startswith("GET '/' matched a meter, but no company was identified")


class Transport(sentry_sdk.transport.Transport):
    """Keeps what would be sent to Sentry."""

    def __init__(self, options=None):
        super().__init__(options)
        self.text = []

    def capture_envelope(self, envelope):
        self.text.append(envelope.serialize().decode())

    def events(self):
        """The events so far."""
        found = []
        for envelope in self.text:
            found += [json.loads(line) for line in envelope.splitlines() if '"logentry"' in line]
        return found


@pytest.fixture
def sentry():
    """Sentry as its users set it up, for warnings too, and the transport of its events."""
    transport = Transport()
    integration = LoggingIntegration(event_level=logging.WARNING)
    with sentry_sdk.isolation_scope():
        sentry_sdk.init(
            dsn="https://public@sentry.invalid/1",
            transport=transport,
            integrations=[integration],
            default_integrations=False,
            auto_enabling_integrations=False,
            shutdown_timeout=0,
        )
        yield transport
        sentry_sdk.get_client().close(timeout=GUARD)
        # From now on, nothing is sent, and nothing looked at.
        sentry_sdk.init(default_integrations=False, auto_enabling_integrations=False)


def test_sentry_groups_by_event(sentry):
    """One group for each event, whatever the companies and counts; the fields are in the event's extra data."""
    for company in ("acme", "globex"):
        Problems().note("key_reused", f"used twice by {company}", company=company)
    Problems().note("flush_failed", "the ledger is locked", level=logging.ERROR)
    events = sentry.events()

    assert ["%s (key_reused, %d so far)"] * 2 + ["%s (flush_failed, %d so far)"] == [
        event["logentry"]["message"] for event in events
    ]
    assert [("key_reused", "acme"), ("key_reused", "globex"), ("flush_failed", None)] == [
        (event["extra"]["event"], event["extra"].get("company")) for event in events
    ]
    assert ["warning", "warning", "error"] == [event["level"] for event in events]


def test_sentry_gets_no_secret(sentry, make_kit, app):
    """The traceback of a function of the application goes there with the local variables of its frames, ours too."""

    def identify(exchange):
        raise KeyError(exchange.path)

    kit = make_kit(stripe_key=SECRET, identify=identify, webhook=meterkit.Webhook("/hook", secret=WEBHOOK_SECRET))
    call(MeterMiddleware(app, kit), HTTP_AUTHORIZATION=f"Bearer {TOKEN}", HTTP_COOKIE=f"session={TOKEN}")
    (event,) = sentry.events()
    frames = [frame["function"] for frame in event["exception"]["values"][-1]["stacktrace"]["frames"]]

    assert "identify" in frames
    assert "vars" in event["exception"]["values"][-1]["stacktrace"]["frames"][-1]
    assert [] == [word for word in (SECRET, WEBHOOK_SECRET, TOKEN) if word in sentry.text[0]]


ALWAYS = {"level", "error", "units", "template", "arguments", "logger"}
"""Arguments of `Problems.note` and `log_event` that are not fields of their own."""


def written():
    """Each event that the code writes by a literal name, and the names of its fields."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        if "sandbox" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in ("note", "log_event", "_warn") and node.args and isinstance(node.args[0], ast.Constant):
                fields = {keyword.arg for keyword in node.keywords if keyword.arg} - ALWAYS
                found.setdefault(node.args[0].value, set()).update(fields)
    return {event: fields for event, fields in found.items() if isinstance(event, str)}


def test_the_fields_are_documented():
    """The page lists the fields of each event that has some besides those of all, and none that there is not."""
    rows = re.findall(r"^\| (`[^|]+`) \| ([^|]*) \|", PAGE.read_text().partition("## Fields by event")[2], re.MULTILINE)
    documented = {
        event: set(re.findall(r"`(\w+)`", fields))
        for events, fields in rows
        for event in re.findall(r"`(\w+)`", events)
    }
    # Whose reason is not a literal: it is that of the error.
    checked = {
        **{f"user_{each}": {"company"} for each in ("not_str", "empty", "too_long", "unprintable")},
        **{f"value_{each}": {"meter"} for each in ("not_str", "empty", "too_long", "unprintable")},
        **{f"quantity_{each}": {"meter"} for each in ("not_int", "negative", "too_large")},
    }
    found = {event: fields for event, fields in written().items() if fields}

    assert len(found) > 10
    assert {**found, **checked} == documented


def test_nothing_else_is_logged():
    """Each line is an event: no module but this one takes a logger, except to filter another library's."""
    asks = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if "getLogger(" in path.read_text()}
    # They show lines, filter, and look whether something is disabled.
    no_line = {"cli/run_command.py", "core/http_logging.py", "django/checks.py", "service/uvicorn.py"}

    assert {"core/problems.py"} == {path for path in asks if not path.startswith("sandbox/")} - no_line


def test_the_events_of_the_kit(make_kit, caplog):
    """What is logged without being a problem has an event, too."""
    make_kit(Meter("all"), Meter("calls", path="/v1/*"))
    (record,) = caplog.records

    assert ("meter_unfiltered", "%s (meter_unfiltered)") == (record.event, record.msg)
    assert record.detail.startswith("Meter('all')")
