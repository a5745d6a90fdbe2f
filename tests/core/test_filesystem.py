"""Network file systems: a ledger there is refused, and a journal is not kept there, with the cure in the message."""

from __future__ import annotations

import pytest

from meterkit import LedgerError
from meterkit.core import filesystem

LINE = "36 25 0:31 / {place} rw,relatime shared:20 - {kind} server:/export rw,vers=4.2"
ROOT = "25 1 8:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw"


@pytest.fixture
def mount(tmp_path, monkeypatch):
    """A function that puts lines into what the kernel says is mounted."""
    table = tmp_path / "mountinfo"
    monkeypatch.setattr(filesystem, "MOUNTS", table)

    def mount(*mounts):
        lines = [LINE.format(place=str(place).replace(" ", "\\040"), kind=kind) for place, kind in mounts]
        table.write_text("\n".join([ROOT, *lines, ""]))

    return mount


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "fuse.sshfs", "fuse.glusterfs"])
def test_a_network_file_system_is_known_by_its_type(mount, tmp_path, kind):
    """Also below its mount, and where the directory is not there yet."""
    mount((tmp_path / "shared", kind))

    assert kind == filesystem.network_type(tmp_path / "shared" / "meterkit" / "ledger.sqlite")


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "fuse.fuse-overlayfs", "fuseblk"])
def test_a_local_one_is_not_taken_for_one(mount, tmp_path, kind):
    """Containers run on overlays, some of them through FUSE."""
    mount((tmp_path / "local", kind))

    assert filesystem.network_type(tmp_path / "local") is None


def test_the_deepest_mount_counts(mount, tmp_path):
    """A local disk within a network file system is local; of two mounts on one place the last is seen."""
    shared = tmp_path / "with space"
    mount((shared, "ext4"), (shared, "nfs4"), (shared / "local", "xfs"))

    assert "nfs4" == filesystem.network_type(shared / "data")
    assert filesystem.network_type(shared / "local" / "data") is None
    assert filesystem.network_type(tmp_path / "with space and more") is None


def test_a_link_is_followed(mount, tmp_path):
    """What counts is where the file would be."""
    mount((tmp_path / "shared", "nfs4"))
    (tmp_path / "link").symlink_to(tmp_path / "shared")

    assert "nfs4" == filesystem.network_type(tmp_path / "link" / "ledger.sqlite")


def test_where_the_kernel_does_not_tell_nothing_is_refused(monkeypatch, tmp_path):
    """As on macOS."""
    monkeypatch.setattr(filesystem, "MOUNTS", tmp_path / "nothing")

    assert filesystem.network_type(tmp_path) is None


def test_a_ledger_on_a_network_file_system_is_refused(make_kit, mount, tmp_path):
    """Usage stays in the journal; the message says where a ledger of many hosts belongs."""
    mount((tmp_path / "shared", "nfs4"))
    kit = make_kit(ledger=f"sqlite:///{tmp_path}/shared/ledger.sqlite")
    kit.record("calls", "acme", 3)

    with pytest.raises(LedgerError, match=r"network file system \(nfs4\).*PostgreSQL"):
        kit.flush()

    assert not (tmp_path / "shared").exists()
    mount()
    kit.flush()
    assert [3] == [row.quantity for row in kit.usage()]


def test_a_journal_is_not_kept_on_one(make_kit, mount, tmp_path):
    """Two hosts could both hold the lock of one file, and both bill it; so usage is counted in memory, loudly."""
    mount((tmp_path / "shared", "fuse.sshfs"))
    kit = make_kit(data_dir=tmp_path / "shared", ledger=f"sqlite:///{tmp_path}/local/ledger.sqlite")
    kit.record("calls", "acme", 3)
    kit.flush()

    health = kit.health()

    assert [3] == [row.quantity for row in kit.usage()]
    assert health["journal"]["in_memory"]
    assert "network file system, fuse.sshfs" in health["problems"]["journal_in_memory"]["message"]
    assert "local disk" in health["problems"]["journal_in_memory"]["message"]
    assert not (tmp_path / "shared").exists()
