"""Private directories and files, and network file systems, whose locks do not hold between hosts."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

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
    try:
        lines = MOUNTS.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return None
    resolved = os.path.realpath(path)
    found, deepest = "", -1
    for line in lines:
        before, _, after = line.partition(" - ")
        mounted_at = _unescaped(before.split(" ")[4])
        if len(mounted_at) >= deepest and os.path.commonpath([resolved, mounted_at]) == mounted_at:
            # Of several mounts on one directory, the last is on top.
            found, deepest = after.split(" ")[0], len(mounted_at)
    return found if found.rpartition(".")[2] in NETWORK else None


def _unescaped(mounted_at: str) -> str:
    """Replace the octal escapes for a space, a tab, a line break and a backslash."""
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        mounted_at = mounted_at.replace(code, character)
    return mounted_at
