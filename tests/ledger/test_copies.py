"""A ledger that comes with an image, a repository or a snapshot: a copy becomes a ledger of its own."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3

import pytest

from meterkit import Meter
from meterkit.core import filesystem

pytestmark = pytest.mark.long

HOUR = 3600


@pytest.fixture
def make_host(make_kit, stripe, tmp_path):
    """A function that makes a kit of a host, which reports to the sandbox; its directory has the host's name."""
    return lambda name: make_kit(data_dir=tmp_path / name, stripe_key=stripe.api_key, stripe_base=stripe.url)


def copy(tmp_path, one, *others):
    for other in others:
        shutil.copytree(tmp_path / one, tmp_path / other)


def said(kit):
    """What health() says of copies."""
    return [each for each in kit.health()["attention"] if "copied" in each]


def sent(kit):
    return kit.health()["books"]["calls"]["sent"]


@pytest.mark.parametrize(("first", "second"), [(60, 60), (100, 20)])
def test_replicas_of_one_image(make_host, stripe, customer, clock, tmp_path, first, second):
    """Both of them bill all that they count, hour by hour, whether the figures are equal or not."""
    image = make_host("image")
    image.record("calls", "test", 1)
    image.close()
    copy(tmp_path, "image", "one", "other")
    kits = {make_host("one"): first, make_host("other"): second}

    for _ in range(3):
        for kit, quantity in kits.items():
            kit.record("calls", customer, quantity)
        clock.advance(HOUR)
        for kit in kits:
            kit.report()

    assert 3 * (first + second) == stripe.usage("calls", customer)
    for kit, quantity in kits.items():
        assert 3 * quantity == sent(kit)
        assert kit.health()["books"]["calls"]["balanced"]
        assert 1 == len(said(kit))


def test_what_is_in_both_is_billed_once(make_host, stripe, customer, clock, tmp_path):
    """What was waiting when the copy was made: events that were written, and hours that were not sealed."""
    original = make_host("original")
    original.record("calls", customer, 10)
    original.close()
    copy(tmp_path, "original", "copy")
    original, other = make_host("original"), make_host("copy")
    clock.advance(HOUR)
    other.record("calls", customer, 3)
    original.record("calls", customer, 5)

    for kit in (other, original):
        kit.report()
    after_one_hour = stripe.usage("calls", customer)
    clock.advance(HOUR)
    for kit in (other, original):
        kit.report()

    assert (10, 18) == (after_one_hour, stripe.usage("calls", customer))
    assert ([], 1) == (said(original), len(said(other)))


def test_what_is_added_within_the_hour_has_an_identifier_of_its_own(make_host, stripe, customer, clock, tmp_path):
    """The copy reports the part that it has inherited as the original does, and its own part apart."""
    original = make_host("original")
    original.record("calls", customer, 10)
    original.close()
    copy(tmp_path, "original", "copy")
    original, other = make_host("original"), make_host("copy")
    other.record("calls", customer, 3)
    clock.advance(HOUR)

    for kit in (other, original):
        kit.report()

    assert 13 == stripe.usage("calls", customer)
    assert {10, 3} == {report.quantity for report in _reports(tmp_path / "copy")}


def test_figures_that_differ_are_named(make_host, stripe, customer, clock, tmp_path):
    """Where original and copy both count on in the hour of the copy, Stripe takes one of the two figures."""
    original = make_host("original")
    original.record("calls", customer, 10)
    original.close()
    copy(tmp_path, "original", "copy")
    original, other = make_host("original"), make_host("copy")
    original.record("calls", customer, 5)
    other.record("calls", customer, 3)
    clock.advance(HOUR)

    for kit in (original, other):
        kit.report()

    assert 18 == stripe.usage("calls", customer)
    assert any("was data_dir copied?" in each for each in other.health()["attention"])


def test_the_only_one_that_is_left_bills_all(make_host, stripe, customer, clock, tmp_path):
    """A ledger that is restored from a backup, or moved to another disk, is a copy without an original."""
    original = make_host("original")
    original.record("calls", customer, 10)
    original.close()
    copy(tmp_path, "original", "backup")
    original = make_host("original")
    clock.advance(HOUR)
    original.report()
    original.close()
    shutil.rmtree(tmp_path / "original")
    copy(tmp_path, "backup", "original")

    restored = make_host("original")
    restored.record("calls", customer, 4)
    clock.advance(HOUR)
    restored.report()

    assert 14 == stripe.usage("calls", customer)


@pytest.mark.parametrize(
    ("host", "boot", "is_copy"),
    [(None, None, False), ("renamed", None, False), (None, "rebooted", False), ("cloned", "cloned", True)],
)
def test_which_changes_make_a_copy(make_host, tmp_path, monkeypatch, host, boot, is_copy):
    """Neither a reboot, nor a new name, nor a new container on the same volume; a clone of the disk does."""
    kit = make_host("one")
    kit.record("calls", "acme", 1)
    kit.close()
    before = _about(tmp_path / "one")
    if host is not None:
        monkeypatch.setattr(socket, "gethostname", lambda: host)
    if boot is not None:
        (tmp_path / "boot_id").write_text(boot)
        monkeypatch.setattr(filesystem, "_BOOT_ID", tmp_path / "boot_id")

    for _ in range(2):  # a second kit finds what the first one has stored
        kit = make_host("one")
        kit.record("calls", "acme", 1)
        kit.close()
    after = _about(tmp_path / "one")

    assert is_copy is (before["ledger_id"] != after["ledger_id"])
    assert is_copy is bool(said(kit))
    assert (host or socket.gethostname()) == json.loads(after["home"])["host"]


def test_a_file_that_is_moved_within_its_disk(make_host, tmp_path):
    """It is the same file."""
    kit = make_host("one")
    kit.record("calls", "acme", 1)
    kit.close()
    (tmp_path / "one").rename(tmp_path / "other")

    assert [] == said(make_host("other"))


def test_a_file_in_the_layers_of_an_image(tmp_path, monkeypatch):
    """Containers of one image see one inode number; the device is their own."""
    path = tmp_path / "ledger.sqlite"
    path.touch()
    monkeypatch.setattr(filesystem, "file_system_type", lambda _path: "overlay")
    one = filesystem.identity_of(path)
    found = os.stat_result([*path.stat()[:2], 12345, *path.stat()[3:]])
    monkeypatch.setattr(filesystem.Path, "stat", lambda _path: found)

    assert not filesystem.is_same_file(one, filesystem.identity_of(path))


def test_the_log_tells_it_once(make_kit, tmp_path, caplog):
    """With what to do about it."""
    kit = make_kit(Meter("calls"), data_dir=tmp_path / "one")
    kit.record("calls", "acme", 1)
    kit.close()
    copy(tmp_path, "one", "other")
    for _ in range(2):
        make_kit(Meter("calls"), data_dir=tmp_path / "other").usage()

    assert 1 == sum("keep it out of images and repositories" in each.getMessage() for each in caplog.records)


def _about(directory):
    with sqlite3.connect(directory / "ledger.sqlite") as connection:
        found = dict(connection.execute("SELECT key, value FROM meterkit_meta").fetchall())
    connection.close()
    return found


def _reports(directory):
    from meterkit.ledger.database import Database
    from meterkit.outbox.outbox import Outbox

    return Outbox(Database(f"sqlite:///{directory}/ledger.sqlite"), clock=lambda: 0).reports(state="sent", limit=9)
