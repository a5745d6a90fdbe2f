"""Journal files that are cut, damaged, empty or no journals: what is sound is billed, the rest is kept and named."""

from __future__ import annotations

import re

import pytest
from thorough import first

pytestmark = [pytest.mark.long, pytest.mark.thorough]

TORN = r"The rest of its usage is lost"
COMPANIES = ["anna", "bert", "carl", "dora"]


@pytest.fixture
def left_behind(start, account, data_dir):
    """What a killed process left in the journal: its file, one record for each company, and the app that made it."""
    app = start(FAULTY_FLUSH_INTERVAL=3600)
    for rounds, company in enumerate(COMPANIES, 1):
        app.serve(company, rounds=rounds)
    app.kill()
    (path,) = [path for path in journals(data_dir) if b"anna" in path.read_bytes()]
    return path, app


def journals(data_dir):
    """The files of the journal."""
    return sorted((data_dir / "journal").glob("*.journal"))


def flip(data, at):
    """*data* in which one bit of the byte *at* is another."""
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


DAMAGES = {
    "cut-in-the-key": lambda data, key: data[: key + 2],
    "cut-in-the-checksum": lambda data, key: data[: data.rindex(b"[", 0, key) - 2],
    "cut-before-the-record": lambda data, key: data[: data.rindex(b"[", 0, key) - 8],
    "flipped-in-the-key": flip,
    "flipped-in-the-checksum": lambda data, key: flip(data, data.rindex(b"[", 0, key) - 2),
    "flipped-in-the-length": lambda data, key: flip(data, data.rindex(b"[", 0, key) - 8),
}


@pytest.mark.parametrize("victim", first([0, 3], among=range(len(COMPANIES))), ids=COMPANIES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_torn_journal(start, left_behind, data_dir, damage, victim):
    """What stands before the damage is in the ledger, the file is kept, and the log says what to compare."""
    path, _ = left_behind
    data = path.read_bytes()
    path.write_bytes(DAMAGES[damage](data, data.index(COMPANIES[victim].encode())))

    app = start()
    app.serve("emil")
    app.wait_for(lambda health: any(reason.startswith("journal_") for reason in health["problems"]))
    app.wait_until_flushed()
    problems = app.ask("health")["problems"]
    sound = 3 * sum(range(1, victim + 1))

    assert {"counted": sound + app.counted, "unlinked": sound + app.counted} == app.books()
    assert [f"{path.name}.set-aside"] == [each.name for each in (data_dir / "journal").glob("*.set-aside")]
    assert re.search(TORN, problems["journal_torn"]["message"])
    assert re.search(TORN, app.said_of("journal_torn"))


@pytest.mark.parametrize(
    ("reason", "make"),
    [
        ("journal_foreign", lambda path: path.write_bytes(b"")),
        ("journal_foreign", lambda path: path.write_bytes(b"meterkit")),
        ("journal_foreign", lambda path: path.write_bytes(b"a letter to my aunt\n" * 99)),
        ("journal_foreign", lambda path: path.write_bytes(b"\xff" * 4096)),
        ("journal_foreign", lambda path: path.write_bytes(bytes(1 << 20))),
        ("journal_foreign", lambda path: path.mkdir()),
    ],
    ids=["zero-length", "too-short", "text", "noise", "zeros", "directory"],
)
def test_a_file_that_is_no_journal(start, account, settle, left_behind, data_dir, reason, make):
    """It is set aside, or left alone if it cannot be, and holds up no other file."""
    _, former = left_behind
    make(data_dir / "journal" / "0000.journal")  # the first to be looked at

    app = start()
    app.serve(account.customer)
    message = app.wait_for_trouble(reason)
    app.wait_until_flushed()
    app.serve(account.customer)
    app.wait_until_flushed()
    books = app.books()

    assert former.counted + app.counted == books["counted"]
    assert {"unreported": app.counted, "unlinked": former.counted} == {
        place: books[place] for place in ("unreported", "unlinked")
    }
    assert "0000.journal" in message
    assert "0000.journal" in app.said_of(reason)


def test_a_journal_of_a_newer_meterkit(start, account, left_behind, data_dir):
    """It is kept for the version that can read it, and the log says how."""
    path, former = left_behind
    data = path.read_bytes()
    path.write_bytes(data[:8] + b"\x63" + data[9:])

    app = start()
    app.serve(account.customer)
    message = app.wait_for_trouble("journal_foreign")
    app.wait_until_flushed()
    aside = path.with_name(f"{path.name}.set-aside")
    aside.write_bytes(data)  # as if that version had been installed
    aside.rename(path)
    app.wait_for(lambda health: former.counted + app.counted == health["books"]["calls"]["unlinked"] + app.counted)
    app.wait_until_flushed()

    assert former.counted + app.counted == app.books()["counted"]
    assert "install that version" in message
    assert "install that version" in app.said_of("journal_foreign")
