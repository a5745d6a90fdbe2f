"""
Kits in a test run: a journal and ledger of their own, and no live Stripe account.

Pytest loads this in every project, so it imports only the standard library.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from meterkit.core import live_key

if TYPE_CHECKING:
    from meterkit.runtime.settings import Settings


class Isolated(Protocol):
    """What has settings, and can be told that they have been replaced."""

    @property
    def settings(self) -> Settings:
        """Settings at the moment, after replacement."""

    def reset(self) -> None:
        """Flush and stop, and forget everything that was learned."""


class _Directories:
    """
    A temporary directory for each directory that kits share.

    Args:
        project: Directory of the project. Kits whose directory is outside of it, in a temporary directory, keep theirs.
        own: Function that returns a further directory, of which each kit may have a part; called if a kit is used.
        by_process: Whether each process has directories of its own, also one that is forked from this one.
    """

    def __init__(self, project: Path, own: Callable[[], Path] | None, *, by_process: bool = False) -> None:
        self._project, self._own = project, own
        self._by_process = by_process
        self._root: str | None = None
        self._by_original: dict[tuple[int, Path, str], Path] = {}

    def replace(self, settings: Settings) -> Settings:
        """Return *settings* with a temporary directory, and a SQLite ledger in it."""
        if self._is_temporary(settings.data_dir):
            return settings
        original = (os.getpid() if self._by_process else 0, settings.data_dir, settings.ledger)
        if original not in self._by_original:
            if self._root is None:
                self._root = tempfile.mkdtemp(prefix="meterkit-test-")
            name = f"{len(self._by_original)}-{original[0]}" if self._by_process else str(len(self._by_original))
            self._by_original[original] = Path(self._root, name)
        directory = self._by_original[original]
        return replace(settings, data_dir=directory, ledger=f"sqlite:///{directory}/ledger.sqlite", jetstream=None)

    def remove(self) -> None:
        """Delete the directories."""
        if self._root is not None:
            shutil.rmtree(self._root, ignore_errors=True)

    def _is_temporary(self, directory: Path) -> bool:
        path = _real(directory)
        if self._own is not None and path.is_relative_to(_real(self._own())):
            return True
        return path.is_relative_to(_real(Path(tempfile.gettempdir()))) and not path.is_relative_to(_real(self._project))


class _Account:
    """
    A Stripe account for kits that would talk to the real one, and for all that exist already.

    Args:
        key: Secret key of the account.
        base: Base URL of its API.
    """

    def __init__(self, key: str, base: str) -> None:
        self._key, self._base = key, base
        self._existing = weakref.WeakSet(_kits)

    def replace(self, kit: Isolated, settings: Settings) -> Settings:
        """Return *settings* with the account's key and base."""
        if settings.stripe_base is not None and kit not in self._existing:
            return settings
        return replace(settings, stripe_key=self._key, stripe_base=self._base)


_kits: weakref.WeakSet[Isolated] = weakref.WeakSet()
_directories: list[_Directories] = []
_accounts: list[_Account] = []


def add(kit: Isolated) -> None:
    """Let the settings of *kit* be replaced in test runs."""
    _kits.add(kit)


def replaced(kit: Isolated, settings: Settings) -> Settings:
    """Return what *kit* uses in place of its *settings*: the same, but for a test run."""
    if not _directories and live_key.is_django_test_run():
        # Django's runner has no hook that is run for each test, so these last until the process ends. With --parallel,
        # it forks, perhaps after a system check has looked at the ledger, and each process runs other tests.
        _directories.append(_Directories(Path.cwd(), None, by_process=True))
        _at_exit(_directories[-1].remove)
    if _directories:
        settings = _directories[-1].replace(settings)
    return _accounts[-1].replace(kit, settings) if _accounts else settings


@contextmanager
def own_directories(*, project: Path | None = None, own: Callable[[], Path] | None = None) -> Iterator[None]:
    """
    Give kits an empty journal and an empty ledger in a temporary directory, and take both away afterwards.

    Args:
        project: Directory of the project; by default the working directory. A kit whose directory is outside of it, in
            a temporary directory, keeps it: a test made it.
        own: Function that returns a further directory, of which each kit may have a part; called if a kit is used.
    """
    mine = _Directories(project or Path.cwd(), own)
    live_key.test_runs += 1
    _change(lambda: _directories.append(mine))
    try:
        yield
    finally:
        _change(lambda: _directories.remove(mine))
        live_key.test_runs -= 1
        mine.remove()


@contextmanager
def own_account(key: str, base: str) -> Iterator[None]:
    """
    Let kits talk to another Stripe account: those that exist, and those that are built without ``stripe_base=``.

    Args:
        key: Secret key of the account.
        base: Base URL of its API.
    """
    mine = _Account(key, base)
    _change(lambda: _accounts.append(mine))
    try:
        yield
    finally:
        _change(lambda: _accounts.remove(mine))


def _at_exit(function: Callable[[], object]) -> None:
    """Call *function* when this process ends; one that multiprocessing has forked does not run what `atexit` has."""
    atexit.register(function)
    if sys.modules.get("multiprocessing.util") is not None:
        from multiprocessing import parent_process, util

        if parent_process() is not None:
            util.Finalize(None, function, exitpriority=0)


def _change(change: Callable[[], object]) -> None:
    before = [(kit, kit.settings) for kit in list(_kits)]
    change()
    for kit, settings in before:
        if kit.settings != settings:
            kit.reset()


@lru_cache(maxsize=1024)  # asked for each kit that exists, before and after each test
def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))
