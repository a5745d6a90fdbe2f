"""What a directory is on, who may read it, and whether a file is still the same one, on the same machine."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

NETWORK = frozenset([
    "9p", "acfs", "afp", "afs", "beegfs", "ceph", "cephfs", "cifs", "coda", "dfs", "fhgfs", "gcsfuse",
    "glusterfs", "gpfs", "juicefs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "panfs", "pvfs2",
    "rclone", "s3fs", "smb", "smb3", "smbfs", "sshfs", "vboxsf", "webdav",
])  # fmt: skip
"""File system types, as mount(8) names them; one that runs on FUSE comes after a dot, as in ``fuse.sshfs``."""

MOUNTS = Path("/proc/self/mountinfo")
"""See proc(5). Without this file, as on macOS, file system types are unknown, and nothing is refused."""


PRIVATE_DIRECTORY, PRIVATE_FILE = 0o700, 0o600
"""Modes for what only this user may read and write."""

_GITIGNORE = "# Written by meterkit: usage belongs to this machine, and a copy of the ledger would bill it again.\n*\n"


def make_private_directory(directory: Path) -> None:
    """
    Create *directory* for this user only, with a ``.gitignore`` for all that is in it; leave an existing one alone.

    Raises:
        OSError: It cannot be created.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    try:
        directory.mkdir(mode=PRIVATE_DIRECTORY)
    except FileExistsError:
        return
    with suppress(OSError):
        (directory / ".gitignore").write_text(_GITIGNORE, encoding="utf-8")


def make_private_file(path: Path) -> None:
    """Create the empty file *path* for this user only, unless it exists, or cannot be created."""
    with suppress(OSError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, PRIVATE_FILE))


def exposure(directory: Path) -> str | None:
    """Return a sentence about who else may read or change *directory*, with the cure; None if nobody, or if unknown."""
    try:
        found = directory.stat()
    except OSError:
        return None
    user = os.geteuid()
    if user not in (found.st_uid, 0) and found.st_uid:  # root may do anything anyway
        return (
            f"{directory} belongs to another user, with the id {found.st_uid}, who can read and replace the usage in "
            f"it: chown {user} {directory}, or set data_dir= to a directory of your own"
        )
    # A group may have been given to somebody else's directory on purpose, as Kubernetes does with fsGroup.
    if found.st_mode & (0o077 if user == found.st_uid else 0o007):
        return f"other users of this machine can read or change the usage in {directory}: chmod 700 {directory}"
    return None


def network_type(path: Path) -> str | None:
    """Return the type of the network file system that *path* is on, or would be on; None for a local one."""
    found = file_system_type(path)
    return found if found.rpartition(".")[2] in NETWORK else None


def file_system_type(path: Path) -> str:
    """Return the type of the file system that *path* is on, or would be on, as mount(8) names it; "" if unknown."""
    return _mount_of(path).type


def ephemeral(directory: Path) -> str | None:
    """Return how *directory* is lost when a container is replaced, as part of a sentence; None if it seems to stay."""
    mount = _mount_of(directory)
    if mount.type.rpartition(".")[2] in EPHEMERAL:
        return f"which is in memory or in the container itself ({mount.type}), and goes with it"
    if "kubernetes.io~empty-dir" in mount.root:
        return "which is an emptyDir, and goes with its pod"
    platform = next((name for name in PLATFORMS if os.environ.get(name)), None)
    if platform is not None and mount.point in ("", "/"):
        return f"on the container's own disk, which goes with it ({platform} is set)"
    return None


EPHEMERAL = frozenset(["aufs", "fuse-overlayfs", "overlay", "ramfs", "tmpfs"])
"""File system types, as mount(8) names them, of what is not kept."""

PLATFORMS = (
    "KUBERNETES_SERVICE_HOST",
    "ECS_CONTAINER_METADATA_URI_V4",
    "ECS_CONTAINER_METADATA_URI",
    "DYNO",
    "RENDER",
    "K_SERVICE",
    "FLY_APP_NAME",
    "RAILWAY_ENVIRONMENT_ID",
    "AWS_LAMBDA_FUNCTION_NAME",
)
"""Environment variables that platforms set on which a container's own disk goes with it."""


class _Mount(NamedTuple):
    type: str
    point: str
    root: str  # the part of the file system that is mounted


def _mount_of(path: Path) -> _Mount:
    """Return the mount that *path* is on, or would be on; all fields are "" if that is unknown."""
    try:
        lines = MOUNTS.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return _Mount("", "", "")
    resolved = os.path.realpath(path)
    found, deepest = _Mount("", "", ""), -1
    for line in lines:
        before, _, after = line.partition(" - ")
        root, mounted_at = (_unescaped(each) for each in before.split(" ")[3:5])
        if len(mounted_at) >= deepest and os.path.commonpath([resolved, mounted_at]) == mounted_at:
            # Of several mounts on one directory, the last is on top.
            found, deepest = _Mount(after.split(" ")[0], mounted_at, root), len(mounted_at)
    return found


def identity_of(path: Path) -> dict[str, str] | None:
    """
    Return what tells the file at *path* from a copy of it; None if it cannot be read.

    Returns:
        ``file``, which every copy changes; ``host``, the name of the machine or container; and ``boot``, the id of the
        kernel's start, which is "" where it is unknown.
    """
    try:
        found = path.stat()
    except OSError:
        return None
    # Containers of one image see the same inode numbers in it, on devices of their own.
    device = f" on {found.st_dev}" if file_system_type(path) == "overlay" else ""
    try:
        boot = _BOOT_ID.read_text().strip()
    except OSError:  # not Linux
        boot = ""
    return {"file": f"{found.st_ino}{device}", "host": socket.gethostname(), "boot": boot}


def is_same_file(before: Mapping[str, str], now: Mapping[str, str]) -> bool:
    """
    Return whether two results of `identity_of` belong to one file.

    A restart of the machine changes ``boot``, and a new name or container ``host``; only a copy of the disk changes
    both, unless a container moves to another machine with its volume.
    """
    return before["file"] == now["file"] and (before["host"] == now["host"] or before["boot"] == now["boot"])


_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def _unescaped(mounted_at: str) -> str:
    """Replace the octal escapes for a space, a tab, a line break and a backslash."""
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        mounted_at = mounted_at.replace(code, character)
    return mounted_at
