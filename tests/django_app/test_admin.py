"""The pages of the ledger in Django's admin: read only, by permission, and as fast with many rows."""

from __future__ import annotations

from pathlib import Path

import pytest
from admin_project import run


@pytest.mark.long
def test_it_shows_what_the_ledger_has(tmp_path: Path) -> None:
    """Usage, companies, meter events, notices and corrections, as Stripe and the kit have them."""
    script = """
calls, pages = Meter("calls", http=False), Meter("pages", http=False)
from datetime import datetime, timezone
with Sandbox() as sandbox:
    settings.METERKIT = kit = MeterKit(
        meters=[calls, pages], data_dir=home / "kit", flush_interval=3600, stripe_key=sandbox.api_key,
        stripe_base=sandbox.url, prices=[Price.per_unit(calls, "1.00"), Price.per_unit(pages, "1.00")],
        notify=[Notify.waiting(to=lambda notice: None)],
    )
    kit.provision()
    customer = kit.subscribe("acme", name="Acme <Inc>").customer
    kit.record(calls, "acme", 5, user="ada")
    kit.record(pages, "acme", 2)
    kit.record(calls, "globex", 3)
    kit.record(calls, "<b>" + "x" * 250, 1)
    kit.report(include_open=True)
    kit.correct(calls, "acme", 1, at=datetime.now(timezone.utc), reason="a test of ours")
    kit.report(include_open=True)
    kit.sync()
    usage = [row[1:] for row in listed("usage")]
    companies = listed("company")
    events = sorted(row[2] for row in listed("meterevent"))
    corrections = [row[2:7] for row in listed("correction")]
    searched = {
        "usage": [row[2] for row in listed("usage", "?q=globex")],
        "meter": sorted(row[1] for row in listed("usage", "?meter=pages")),
        "since": len(listed("usage", "?since=today")),
        "company": [row[0] for row in listed("company", "?q=INC>")],
        "customer": [row[0] for row in listed("company", f"?q={customer}")],
        "events of acme": len(listed("meterevent", "?q=acme")),
        "events of the customer": len(listed("meterevent", f"?q={customer}&meter=calls")),
        "events in a state": len(listed("meterevent", "?state=rejected")),
        "nobody": listed("usage", "?q=nobody"),
        "wrong page": len(listed("usage", "?after=[1,2]")) + len(listed("usage", "?after=x")),
    }
    kit.close()
companies = [[cell if cell != customer else "the customer" for cell in row] for row in companies]
print(json.dumps([usage, companies, events, corrections, searched]))
"""
    usage, companies, events, corrections, searched = run(tmp_path, script)

    assert [
        ["calls", "<b>" + "x" * 197 + "\u2026", "-", "1", "0"],
        ["calls", "acme", "ada", "4", "4"],
        ["calls", "globex", "-", "3", "0"],
        ["pages", "acme", "-", "2", "2"],
    ] == sorted(usage)
    assert [
        ["<b>" + "x" * 197 + "\u2026", "-", "-", "-", "-", "unknown", "-"],
        ["acme", "Acme <Inc>", "the customer", "link", "-", "good", "active"],
        ["globex", "-", "-", "-", "-", "unknown", "-"],
    ] == companies
    assert {"calls", "pages"} == set(events)
    assert [["calls", "acme", "1", "done", "a test of ours"]] == corrections
    assert ["globex"] == searched["usage"]
    assert ["pages"] == searched["meter"]
    assert 4 == searched["since"]
    assert ["acme"] == searched["company"] == searched["customer"]
    assert len(events) == searched["events of acme"]
    assert events.count("calls") == searched["events of the customer"]
    assert (0, [], 8) == (searched["events in a state"], searched["nobody"], searched["wrong page"])


@pytest.mark.long
def test_pages_leave_nothing_out(tmp_path: Path) -> None:
    """Each row of usage and each company is on one page, in an order that usage in the meantime does not change."""
    script = """
kit = settings.METERKIT = MeterKit(
    meters=[Meter("calls", http=False), Meter("pages", http=False)], data_dir=home / "kit", flush_interval=3600,
)
for number in range(250):
    kit.record("calls", f"company {number:03}", number + 1)
    kit.record("pages", f"company {number:03}", 1, user="ada")
kit.flush()
kit.link_all({f"linked {number:03}": f"cus_{number}" for number in range(120)})
with kit.process().database().transaction() as connection:
    connection.exec_driver_sql("UPDATE meterkit_usage SET reported = quantity WHERE company < 'company 100'")
usage, companies = all_pages("/admin/meterkit/usage/"), all_pages("/admin/meterkit/company/")
searched = all_pages("/admin/meterkit/company/?q=linked")
of_one = all_pages("/admin/meterkit/usage/?q=company+007")
print(json.dumps([usage, companies, searched, of_one]))
kit.close()
"""
    usage, companies, searched, of_one = run(tmp_path, script)

    assert [100, 100, 100, 100, 100] == [len(each) for each in usage]
    rows = [(row[1], row[2]) for each in usage for row in each]
    assert sorted(rows) == rows
    assert 500 == len(set(rows))
    assert [100, 100, 100, 70] == [len(each) for each in companies]
    names = [row[0] for each in companies for row in each]
    expected = [f"company {number:03}" for number in range(250)] + [f"linked {number:03}" for number in range(120)]
    assert expected == names
    assert [100, 20] == [len(each) for each in searched]
    assert [["calls", "pages"]] == [[row[1] for row in each] for each in of_one]


@pytest.mark.long
def test_a_meter_that_is_seldom_used(tmp_path: Path) -> None:
    """All of its rows, on the days on which there are any, and none of another."""
    script = """
from datetime import datetime, timedelta, timezone

kit = settings.METERKIT = MeterKit(
    meters=[Meter("calls", http=False), Meter("rare", http=False), Meter("never", http=False)],
    data_dir=home / "kit", flush_interval=3600,
)
now = datetime.now(timezone.utc)
for day in range(34):
    for hour in range(4):
        kit.record("rare", f"company {day:02}", 1, at=now - timedelta(days=day, hours=hour))
    kit.record("calls", "acme", 1, at=now - timedelta(days=day))
kit.flush()
print(json.dumps([all_pages("/admin/meterkit/usage/?meter=" + name) for name in ("rare", "calls", "never")]))
kit.close()
"""
    rare, calls, never = run(tmp_path, script)
    rows = [tuple(row) for page in rare for row in page]

    assert 34 * 4 == len(rows) == len(set(rows))
    assert {"rare"} == {row[1] for row in rows}
    assert [f"company {day:02}" for day in range(34)] == list(dict.fromkeys(row[2] for row in rows))
    assert 34 == sum(map(len, calls))
    assert [[]] == never


@pytest.mark.long
def test_who_may_look_and_at_what(tmp_path: Path) -> None:
    """By Django's permissions; nobody changes anything; and Django's own commands find nothing there to break."""
    script = """
kit = settings.METERKIT = MeterKit(meters=[Meter("calls", http=False)], data_dir=home / "kit", flush_interval=3600)
kit.record("calls", "acme")
kit.flush()
clerk = User.objects.create_user("clerk", password="x", is_staff=True)
clerk.user_permissions.add(Permission.objects.get(codename="view_usage"))
client = Client()
anonymous = client.get("/admin/meterkit/usage/").status_code
client.force_login(clerk)
statuses = [client.get(f"/admin/meterkit/{name}/").status_code for name in ("usage", "company", "meterevent")]
changes = [
    client.post("/admin/meterkit/usage/", {"action": "delete_selected"}).status_code,
    *(client.get(f"/admin/meterkit/usage/{each}").status_code for each in ("add/", "1/change/", "1/delete/", "x/")),
]
index = client.get("/admin/").content.decode()
codenames = sorted(Permission.objects.filter(content_type__app_label="meterkit").values_list("codename", flat=True))
import io
out = io.StringIO()
call_command("dumpdata", "meterkit", stdout=out)
call_command("dumpdata", "meterkit", use_base_manager=True, stdout=out)
call_command("check")
call_command("makemigrations", check_changes=True, dry_run=True, verbosity=0)
print(json.dumps([
    anonymous, statuses, changes, ["usage" in index.lower(), "meterevent" in index], codenames, out.getvalue(),
    len(kit.usage()),
]))
kit.close()
"""
    anonymous, statuses, changes, index, codenames, dumped, rows = run(tmp_path, script)

    assert 302 == anonymous
    assert [200, 403, 403] == statuses
    assert [200, 404, 404, 404, 404] == changes
    assert [True, False] == index
    assert ["view_company", "view_correction", "view_meterevent", "view_notice", "view_usage"] == codenames
    assert "[][]" == dumped.replace("\n", "")
    assert 1 == rows


@pytest.mark.long
def test_a_ledger_that_is_away(tmp_path: Path) -> None:
    """It is said on the page, with the cure and without the password."""
    script = """
kit = settings.METERKIT = MeterKit(
    meters=[Meter("calls", http=False)], data_dir=home / "kit", flush_interval=3600,
    ledger="postgresql+psycopg://me:sesame@127.0.0.1:1/none",
)
names = ("usage", "company", "meterevent", "notice", "correction")
pages = [client.get(f"/admin/meterkit/{name}/") for name in names]
print(json.dumps([
    [page.status_code, *(text in page.content.decode() for text in ("The ledger cannot be read", "sesame"))]
    for page in pages
]))
"""
    assert [[200, True, False]] * 5 == run(tmp_path, script)


@pytest.mark.long
def test_no_page_reads_a_whole_table(tmp_path: Path) -> None:
    """Each follows an index, so that ten million rows of usage take no longer."""
    script = """
from sqlalchemy import event

kit = settings.METERKIT = MeterKit(
    meters=[Meter("calls", http=False)], data_dir=home / "kit", flush_interval=3600,
    notify=[Notify.waiting(to=lambda notice: None)],
)
for number in range(150):
    kit.record("calls", f"company {number:03}")
kit.flush()
asked, engine = [], kit.process().database()._open_engine()
event.listen(engine, "before_cursor_execute", lambda _c, _k, statement, given, *_: asked.append((statement, given)))
for address in (
    "usage/", "usage/?meter=calls", "usage/?since=week", "usage/?q=company+007", "usage/?q=company+007&since=month",
    "company/", "meterevent/", "meterevent/?state=rejected", "meterevent/?q=company+007", "notice/",
):
    all_pages("/admin/meterkit/" + address)
with engine.connect() as connection:
    found = [
        (statement, [row[3] for row in connection.exec_driver_sql("EXPLAIN QUERY PLAN " + statement, given)])
        for statement, given in asked if statement.startswith(("SELECT", "WITH"))
    ]
kit.close()
print(json.dumps(found))
"""
    plans = run(tmp_path, script)
    steps = {step for _, plan in plans for step in plan}
    sorts = {
        statement
        for statement, plan in plans
        if any(f"FROM meterkit_{table}" in statement for table in ("usage", "totals", "notices"))
        and plan.count("USE TEMP B-TREE FOR ORDER BY") > 2 * statement.count("UNION")  # of pages, which are short
    }

    assert any("meterkit_usage_unreported" in step for step in steps)
    assert {"SCAN meterkit_reports"} >= {
        step for step in steps if step.startswith("SCAN meterkit") and "USING" not in step
    }  # by its key, as it is ordered
    assert set() == sorts
