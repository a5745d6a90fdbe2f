"""The kit's directory: for its user only, and not for a repository."""

from __future__ import annotations

import os
import stat
import subprocess

import pytest


@pytest.fixture(params=[0o000, 0o002, 0o022, 0o077])
def _umask(request):
    before = os.umask(request.param)
    yield
    os.umask(before)


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("_umask")
@pytest.mark.parametrize("first", ["record", "usage"])
def test_nobody_else_may_read(make_kit, tmp_path, first):
    """The directory, the journal and the ledger, whatever the umask is, and whichever of them is made first."""
    kit = make_kit()
    if first == "record":
        kit.record("calls", "acme")
    kit.usage()
    kit.record("calls", "acme")
    kit.flush()

    directory = tmp_path / "meterkit"
    assert (0o700, 0o700, 0o600) == (
        mode_of(directory),
        mode_of(directory / "journal"),
        mode_of(directory / "ledger.sqlite"),
    )
    assert {0o600} == {mode_of(path) for path in (directory / "journal").iterdir()}
    assert not [each for each in kit.health()["attention"] if "chmod" in each]


def test_git_takes_none_of_it(make_kit, tmp_path):
    """A ledger in a repository would be copied with it."""
    kit = make_kit()
    kit.record("calls", "acme")
    kit.flush()
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    status = ["git", "-C", tmp_path, "status", "--porcelain", "--untracked-files=all"]

    assert "" == subprocess.run(status, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize(("mode", "named"), [(0o755, True), (0o770, True), (0o702, True), (0o700, False)])
def test_a_directory_that_others_may_use_is_named(make_kit, tmp_path, mode, named):
    """It is the user's own, and left as it is."""
    directory = tmp_path / "meterkit"
    directory.mkdir()
    directory.chmod(mode)
    kit = make_kit()
    kit.record("calls", "acme")
    kit.flush()

    assert named is any(f"chmod 700 {directory}" in each for each in kit.health()["attention"])
    assert mode == mode_of(directory)
    assert not (directory / ".gitignore").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_directory_of_somebody_else_is_named(make_kit, tmp_path, monkeypatch):
    """Its owner can replace the ledger, whatever the mode is."""
    directory = tmp_path / "meterkit"
    directory.mkdir(mode=0o700)
    os.chown(directory, 1000, -1)
    kit = make_kit()
    as_root = kit.health()["attention"]
    monkeypatch.setattr(os, "geteuid", lambda: 65534)

    assert not any("1000" in each for each in as_root)
    assert any("belongs to another user, with the id 1000" in each for each in kit.health()["attention"])
