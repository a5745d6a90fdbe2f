"""Detect network file systems, whose locks do not hold between hosts."""

from __future__ import annotations

import os
from pathlib import Path

NETWORK = frozenset([
    "9p", "acfs", "afp", "afs", "beegfs", "ceph", "cephfs", "cifs", "coda", "dfs", "fhgfs", "gcsfuse",
    "glusterfs", "gpfs", "juicefs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "panfs", "pvfs2",
    "rclone", "s3fs", "smb", "smb3", "smbfs", "sshfs", "vboxsf", "webdav",
])  # fmt: skip
"""File system types, as mount(8) names them; one that runs on FUSE comes after a dot, as in ``fuse.sshfs``."""

MOUNTS = Path("/proc/self/mountinfo")
"""See proc(5). Without this file, as on macOS, file system types are unknown, and nothing is refused."""


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
