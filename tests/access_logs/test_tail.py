"""Logs that are followed: each line counts once, whatever becomes of the files, and whoever is killed."""

from __future__ import annotations

import gzip
import os
import shutil
import time

import pytest
from log_lines import drained, line, used

from meterkit import Meter, maximum, unique
from meterkit.access_logs import tail as tail_module
from meterkit.accounts.accounts import Accounts
from meterkit.errors import LedgerError
from meterkit.ledger.database import UnstorableError


def compress(path):
    """As `gzip` does."""
    packed = path.with_name(path.name + ".gz")
    with gzip.open(packed, "wb") as file:
        file.write(path.read_bytes())
    times = path.stat()
    os.utime(packed, ns=(times.st_atime_ns, times.st_mtime_ns))
    path.unlink()
    return packed


def test_lines_count_as_requests_do(log_kit, follow, write):
    """The same meters, at the time of the line; what they do not match does not count."""
    log = write("acme", "acme", "globex")
    write("acme", path="/v1/other", size=5)
    write("acme", status=404)

    assert 5 == drained(follow(log_kit, log))
    assert {"acme": 2, "globex": 1} == used(log_kit)
    assert {"acme": 25, "globex": 10} == used(log_kit, "egress")


def test_a_line_counts_at_its_own_time(log_kit, follow, write, clock):
    """The last day of a month is billed with that month, however late the log is read."""
    log = write("acme", at=clock() - 12 * 3600 - 700)  # 28 February, 23:58

    drained(follow(log_kit, log))

    assert [clock() - 13 * 3600 - 600] == [row.window for row in log_kit.usage(meter="searches")]


def test_what_has_no_company_is_kept(log_kit, follow, write):
    """As the middleware keeps it."""
    drained(follow(log_kit, write("-")))

    assert {None: 1} == used(log_kit)


def test_a_second_start_counts_nothing_again(log_kit, follow, write):
    """And goes on where the first has ended."""
    log = write("acme", "acme")
    first = follow(log_kit, log)
    drained(first)
    first.close()
    write("acme")
    second = follow(log_kit, log)

    assert 1 == drained(second)
    assert {"acme": 3} == used(log_kit)


def test_half_a_line_waits_for_its_end(log_kit, follow, tmp_path, clock):
    """A writer may be in the middle of it."""
    log = tmp_path / "access.log"
    whole = line(at=clock())
    log.write_text(whole + whole[:60])
    tail = follow(log_kit, log)

    assert 1 == drained(tail)
    with log.open("a") as file:
        file.write(whole[60:])
    assert 1 == drained(tail)
    assert {"acme": 2} == used(log_kit)


@pytest.mark.parametrize("restarts", [False, True])
def test_renamed_and_created(log_kit, follow, write, restarts):
    """What was written to the old file after it was renamed counts, too, and a new file is a new one, even if alike."""
    log = write("acme")
    tail = follow(log_kit, log, follows=True)
    drained(tail)
    if restarts:
        tail.close()
    log.rename(log.with_name("access.log.1"))
    write("acme", name="access.log.1")  # the server has not reopened it yet
    write("acme", "acme")
    tail = follow(log_kit, log, follows=True) if restarts else tail

    assert 3 == drained(tail)
    assert {"acme": 4} == used(log_kit)


def test_moved_out_of_sight(log_kit, follow, write, tmp_path):
    """What is written to it until the server reopens its log counts."""
    log = write("acme")
    tail = follow(log_kit, log, follows=True)
    drained(tail)
    old = log.rename(tmp_path / "elsewhere")
    with old.open("a") as file:
        file.write(log_line := line(at=log_kit.clock()))
    write("acme")

    assert 2 == drained(tail)
    with old.open("a") as file:
        file.write(log_line)
    assert 1 == drained(tail)
    assert {"acme": 4} == used(log_kit)


@pytest.mark.parametrize("restarts", [False, True])
def test_copied_and_truncated(log_kit, follow, write, restarts):
    """What was not counted before the truncation is in the copy."""
    log = write("acme", "acme")
    tail = follow(log_kit, log, follows=True)
    drained(tail)
    write("acme", path="/v1/search?x=last")
    if restarts:
        tail.close()
    shutil.copy(log, log.with_name("access.log.1"))
    os.truncate(log, 0)
    write("acme", path="/v1/search?x=new")
    tail = follow(log_kit, log, follows=True) if restarts else tail

    drained(tail)
    drained(tail)  # a copy that has just appeared may not be complete
    assert {"acme": 4} == used(log_kit)


def test_a_copy_beside_its_original_counts_nothing(log_kit, follow, write):
    """Before the truncation, there are two of them."""
    log = write("acme", "acme")
    tail = follow(log_kit, log, follows=True)
    drained(tail)
    shutil.copy(log, log.with_name("access.log.1"))

    assert [0, 0, 0] == [drained(tail) for _ in range(3)]
    write("globex")
    assert 1 == drained(tail)


def test_truncated_and_grown_again_between_two_looks(log_kit, follow, write):
    """It is longer than before, and begins with something else."""
    log = write("acme")
    tail = follow(log_kit, log, follows=True)
    drained(tail)
    log.write_text("")
    write("globex", "globex", "globex", path="/v1/search?grown")

    drained(tail)
    assert {"acme": 1, "globex": 3} == used(log_kit)


def test_compressed_history_is_not_counted_again(log_kit, follow, write):
    """Two rotations, the older compressed, while nobody followed; and what was not counted of it is."""
    log = write("acme", "acme")
    tail = follow(log_kit, log)
    drained(tail)
    tail.close()
    write("acme", path="/v1/search?late")
    compress(log.rename(log.with_name("access.log.2")))
    write("globex", name="access.log.1", path="/v1/search?middle")
    write("initech")
    tail = follow(log_kit, log)

    assert 3 == drained(tail)
    assert {"acme": 3, "globex": 1, "initech": 1} == used(log_kit)
    tail.close()
    assert 0 == drained(follow(log_kit, log))


def test_history_from_before_is_left_alone(log_kit, follow, write, clock):
    """Only what was asked for: a pattern asks for all."""
    former = write("acme", name="access.log.1", at=clock() - 3600)
    os.utime(former, (clock() - 3600, clock() - 3600))
    log = write("acme")
    tail = follow(log_kit, log)

    drained(tail)
    assert {"acme": 1} == used(log_kit)
    tail.close()
    drained(follow(log_kit, f"{log}*"))
    assert {"acme": 2} == used(log_kit)


def test_lines_from_before_in_a_file_that_was_written_since(log_kit, follow, write, clock):
    """What was not asked for does not count, only what is beside it."""
    write("globex", name="access.log.1", at=clock() - 1)
    log = write("acme")
    write("globex", name="access.log.1")

    drained(follow(log_kit, log))

    assert {"acme": 1, "globex": 1} == used(log_kit)


def test_dated_names_and_links(log_kit, follow, write):
    """A pattern finds new files; a link to one of them is the same file."""
    write("acme", name="access-2026-02-28.log")
    today = write("acme", name="access-2026-03-01.log")
    current = today.with_name("current")
    current.symlink_to(today)
    tail = follow(log_kit, today.with_name("access-*.log"), current, follows=True)

    assert 2 == drained(tail)
    new = write("globex", name="access-2026-03-02.log")
    current.unlink()
    current.symlink_to(new)
    assert 1 == drained(tail)


def test_two_logs_that_are_alike(log_kit, follow, write):
    """Two hosts of a gateway may have the same line in the same second."""
    one, other = write("acme", name="a.log"), write("acme", name="b.log")

    assert 2 == drained(follow(log_kit, one, other))
    assert 0 == drained(follow(log_kit, one, other))
    assert {"acme": 2} == used(log_kit)


def test_moved_to_another_file_system(log_kit, follow, write):
    """It has another inode, and the same content."""
    log = write("acme", "acme")
    drained(follow(log_kit, log))
    copy = log.with_name("copy")
    shutil.copy(log, copy)
    log.unlink()
    copy.rename(log)
    write("globex")

    assert 1 == drained(follow(log_kit, log))
    assert {"acme": 2, "globex": 1} == used(log_kit)


def test_a_ledger_that_fails_loses_nothing(log_kit, follow, write, monkeypatch):
    """And counts nothing twice, whether the commit was made or not."""
    log = write("acme", "acme")
    tail = follow(log_kit, log)
    drained(tail)
    write("acme")
    fold = tail_module.Ledger.fold
    fails = iter([True, False, True])

    def failing(ledger, *arguments, **options):
        if not next(fails, None):
            fold(ledger, *arguments, **options)
        raise LedgerError("the connection broke")

    with monkeypatch.context() as patched:
        patched.setattr(tail_module.Ledger, "fold", failing)
        for _ in range(2):
            with pytest.raises(LedgerError):
                tail.poll()

    assert 0 == drained(tail)
    assert {"acme": 3} == used(log_kit)


def test_what_the_ledger_cannot_store_is_one_line(log_kit, follow, write, monkeypatch):
    """The lines around it count."""
    log = write("acme", "acme", "acme", "bad", "acme")
    fold = tail_module.Ledger.fold

    def picky(ledger, generation, counts, **options):
        if any(key[2] == "bad" for key, _, _ in counts):
            raise UnstorableError("it does not fit")
        return fold(ledger, generation, counts, **options)

    monkeypatch.setattr(tail_module.Ledger, "fold", picky)
    drained(follow(log_kit, log))

    assert {"acme": 4} == used(log_kit)
    assert [(5, 1)] == [(each["lines"], each["unreadable"]) for each in log_kit.health()["access_logs"]]


def test_a_billing_period_that_ends_within_an_hour(log_kit, follow, write, clock, monkeypatch):
    """Each line counts in the period of its own time, weeks later, too."""
    edge = clock() - 20 * 24 * 3600
    hour = edge - edge % 3600
    monkeypatch.setattr(Accounts, "boundaries", lambda *_, since: {"acme": (edge,)} if since <= edge else {})
    log = write("acme", "globex", at=edge - 1)
    write("acme", "globex", at=edge)

    drained(follow(log_kit, log))

    rows = {(row.company, row.window): row.quantity for row in log_kit.usage(meter="searches")}
    assert {("acme", hour): 1, ("acme", edge): 1, ("globex", hour): 2} == rows


def test_a_company_that_is_no_text(log_kit, follow, tmp_path, clock):
    """It is nobody's, and said."""
    log = tmp_path / "access.log"
    log.write_bytes(line("\\xFF\\x00", at=clock()).encode())

    drained(follow(log_kit, log))

    assert {None: 1} == used(log_kit)
    assert "company_unprintable" in log_kit.health()["problems"]


def test_a_log_that_does_not_exist_yet(log_kit, follow, write, tmp_path):
    """It is waited for; what it was rotated to meanwhile counts."""
    tail = follow(log_kit, tmp_path / "logs" / "access.log", follows=True)
    assert 0 == drained(tail)
    log = write("acme")
    former = log.rename(log.with_name("access.log.1"))
    os.utime(former, (time.time() - 5, time.time() - 5))
    write("acme", "acme")
    drained(tail)
    drained(tail)

    assert {"acme": 3} == used(log_kit)


def test_two_at_once_count_each_line_once(log_kit, follow, write):
    """The second finds that the first has counted it, and waits."""
    log = write("acme")
    first, second = follow(log_kit, log), follow(log_kit, log)
    assert [1, 0] == [drained(first), drained(second)]
    write("acme", "acme")
    first._look(), second._look()

    assert 2 == drained(first)
    assert 0 == drained(second)
    assert second.is_shared
    assert "log_shared" in log_kit.health()["problems"]
    assert {"acme": 3} == used(log_kit)


def test_new_files_met_by_two_at_once(log_kit, follow, write):
    """Both see a file that nobody has counted yet."""
    log = write("acme")
    first, second = follow(log_kit, log), follow(log_kit, log)
    first._reload(), second._reload()

    drained(first)
    drained(second)

    assert {"acme": 1} == used(log_kit)


def test_values_and_maxima(make_kit, follow, write):
    """What unique() and maximum() look at is in the log."""
    kit = make_kit(
        Meter("people", value=unique(lambda exchange: exchange.query)),
        Meter("largest", value=maximum(lambda exchange: exchange.response_bytes)),
        identify=lambda exchange: exchange.headers.get("x-company"),
    )
    log = write("acme", path="/a?ada", size=7)
    write("acme", path="/a?ada", size=9)
    write("acme", path="/a?grace", size=3)
    drained(follow(kit, log))
    write("acme", path="/a?ada", size=10)
    drained(follow(kit, log))

    assert {"acme": 2} == used(kit, "people")
    assert {"acme": 10} == used(kit, "largest")


JUNK = {
    "binary": os.urandom(2000).replace(b"\n", b"") + b"\n",
    "nuls": b"\0" * 5000 + b"\n",
    "of 10 MB": b"x" * (10 << 20) + b"\n",
    "invalid UTF-8": b'10.0.0.7 - - [\xff\xfe] "GET \xc3( HTTP/1.1" 200 10 "acme"\n',
    "cut": b'10.0.0.7 - - [01/Mar/2026:12:10:00 +0000] "GET /v1/sea\n',
    "no such day": b'10.0.0.7 - - [41/Mar/2026:12:10:00 +0000] "GET /v1/search HTTP/1.1" 200 10 "acme"\n',
    "no such status": b'10.0.0.7 - - [01/Mar/2026:12:10:00 +0000] "GET /v1/search HTTP/1.1" 999 10 "acme"\n',
    "huge": b'10.0.0.7 - - [01/Mar/2026:12:10:00 +0000] "GET /v1/search HTTP/1.1" 200 ' + b"9" * 400 + b' "acme"\n',
}


@pytest.mark.parametrize("kind", JUNK)
def test_junk_is_counted_and_shown(log_kit, follow, write, clock, kind):
    """The lines around it count; what it was is in health, in whichever process asks."""
    log = write("acme")
    with log.open("ab") as file:
        file.write(JUNK[kind])
    write("acme")
    tail = follow(log_kit, log)
    drained(tail)

    found = log_kit.health()
    is_blank = kind == "nuls"
    assert {"acme": 2} == used(log_kit)
    assert [(3, 0 if is_blank else 1)] == [(each["lines"], each["unreadable"]) for each in found["access_logs"]]
    assert is_blank is not any("of 3 lines" in each and "byte 82" in each for each in found["attention"])
    assert is_blank is not tail.has_unreadable


def test_marks_and_ends_of_other_systems(log_kit, follow, tmp_path, clock):
    """A byte order mark, carriage returns, and the NULs of a program that goes on after a truncation."""
    log = tmp_path / "access.log"
    text = line(at=clock()).encode()
    log.write_bytes(b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n") + b"\n" + b"\0" * (3 << 20) + text)

    drained(follow(log_kit, log))

    assert {"acme": 2} == used(log_kit)


@pytest.mark.parametrize("seconds", [301, -36 * 24 * 3600])
def test_clocks_that_are_wrong(log_kit, follow, write, clock, seconds):
    """What is in the future, or too old for Stripe, does not count, and is shown."""
    log = write("acme", at=clock() + seconds)
    write("acme", at=clock() + 299)

    drained(follow(log_kit, log))

    found = log_kit.health()
    assert {"acme": 1} == used(log_kit)
    assert clock() >= max(row.window for row in log_kit.usage())
    assert [1] == [each["outdated"] for each in found["access_logs"]]
    assert "log_line_outdated" in found["problems"]


def test_only_from_a_time_on(log_kit, follow, write, clock):
    """At the moment at which another way of counting ends."""
    log = write("acme", at=clock() - 60)
    write("acme")

    drained(follow(log_kit, log, since=clock()))

    assert {"acme": 1} == used(log_kit)
    assert log_kit.health()["ok"] is False  # without a Stripe key
    assert not any("lines of" in each for each in log_kit.health()["attention"])


def test_a_format_is_found_out(make_kit, follow, tmp_path, clock):
    """Even with junk at the beginning; a file without one waits, and the others count."""
    kit = make_kit(Meter("calls", path="/*"))
    log, other = tmp_path / "access.log", tmp_path / "error.log"
    when = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(clock()))
    log.write_text(f'?\n\n1.2.3.4 - acme [{when}] "GET /a HTTP/1.1" 200 5 "-" "curl \\x22x\\x22"\n')
    other.write_text("something failed\n")
    tail = follow(kit, log, other, formats=(), field="remote_user")

    drained(tail)

    assert {"acme": 1} == used(kit, "calls")
    assert "name it with --format" in kit.health()["problems"]["log_file_unreadable"]["message"]


def test_broken_compression(log_kit, follow, write, tmp_path):
    """What is there is counted, and the rest when it is complete."""
    log = write(*["acme"] * 20_000, path=f"/v1/search?{os.urandom(8).hex()}")
    packed = compress(log)
    whole = packed.read_bytes()
    packed.write_bytes(whole[: len(whole) // 2])
    tail = follow(log_kit, packed)
    drained(tail)
    assert tail.has_unreadable
    packed.write_bytes(whole)

    drained(tail)

    assert {"acme": 20_000} == used(log_kit)
    assert 0 == drained(follow(log_kit, packed))


def test_files_come_and_go_unreadable(log_kit, follow, write):
    """A directory, a pipe and a link to nothing are no logs."""
    log = write("acme")
    (log.parent / "access.log.d").mkdir()
    os.mkfifo(log.parent / "access.log.pipe")
    (log.parent / "access.log.link").symlink_to("nowhere")

    assert 1 == drained(follow(log_kit, f"{log}*"))
