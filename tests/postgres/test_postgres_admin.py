"""The pages of Django's admin with a ledger on PostgreSQL, which sorts as people do."""

from __future__ import annotations

from pathlib import Path

import pytest
from admin_project import run


@pytest.mark.long
def test_pages_leave_nothing_out(tmp_path: Path, postgres_url: str) -> None:
    """In the server's order, whatever that is; and each filter and search is understood."""
    script = """
from datetime import datetime, timezone

names = [f"{mark}{number:03}" for number in range(60) for mark in ("a", "B", "-c", "é")]
kit = settings.METERKIT = MeterKit(
    meters=[Meter("calls", http=False), Meter("pages", http=False)], data_dir=home / "kit", flush_interval=3600,
    ledger=sys.argv[2], notify=[Notify.waiting(to=lambda notice: None)],
)
for name in names:
    kit.record("calls", name, 1)
    kit.record("pages", name, 1, user="ada")
kit.flush()
kit.link_all({f"linked {number:03}": f"cus_{number}" for number in range(120)})
kit.process().dispatcher.evaluate()
with kit.process().database().transaction() as connection:
    connection.exec_driver_sql("UPDATE meterkit_usage SET reported = quantity WHERE company LIKE 'a%%'")
addresses = (
    "usage/", "usage/?meter=pages", "usage/?q=B007", "usage/?since=week", "company/", "company/?q=LINKED",
    "meterevent/", "meterevent/?q=a001", "meterevent/?state=sent", "notice/",
    "notice/?q=a001&kind=waiting", "correction/",
)
found = {address: all_pages("/admin/meterkit/" + address) for address in addresses}
print(json.dumps([names, {address: [row for page in pages for row in page] for address, pages in found.items()}]))
kit.close()
"""
    names, found = run(tmp_path, script, postgres_url)
    both = {(meter, name) for meter in ("calls", "pages") for name in names}

    assert (
        both
        == {(row[1], row[2]) for row in found["usage/"]}
        == {(row[1], row[2]) for row in found["usage/?since=week"]}
    )
    assert 480 == len(found["usage/"])
    assert sorted(names) == sorted(row[2] for row in found["usage/?meter=pages"])
    assert [("calls", "B007"), ("pages", "B007")] == [(row[1], row[2]) for row in found["usage/?q=B007"]]
    assert sorted([*names, *(f"linked {number:03}" for number in range(120))]) == sorted(
        row[0] for row in found["company/"]
    )
    assert 120 == len(found["company/?q=LINKED"])
    assert 240 == len(found["notice/"])
    assert ["waiting"] == [row[1] for row in found["notice/?q=a001&kind=waiting"]]
