"""A file says that a process lives; once it has ended and all is folded, what it has drawn is given back."""

from __future__ import annotations

import os

import pytest

from meterkit.journal.generation import Generation
from meterkit.journal.lineage import Lineage, ended, lineage_of


@pytest.fixture
def directory(tmp_path):
    """Of a journal."""
    return tmp_path / "meterkit" / "journal"


def found(directory, ledger="one"):
    """Lineages that have ended, and whether all of them is folded."""
    return {each.id: each.is_folded for each in ended(directory, ledger=ledger)}


def test_a_lineage_has_ended_when_its_lock_is_free(directory):
    """However its process ended; and not before."""
    lineage = Lineage(directory, ledger="one")
    lineage.live()
    alive = found(directory)
    lineage.live()
    lineage.abandon()

    assert ({}, {lineage.id: True}) == (alive, found(directory))


def test_a_forked_child_does_not_end_it(directory):
    """The lock belongs to the parent's open file."""
    lineage = Lineage(directory, ledger="one")
    lineage.live()
    pid = os.fork()
    if pid == 0:
        lineage.abandon()
        os._exit(0)
    os.waitpid(pid, 0)

    assert {} == found(directory)
    lineage.abandon()


def test_it_is_folded_when_none_of_its_generations_is_left(directory):
    """Those of others do not matter; of which it is, its name says."""
    lineage, other = Lineage(directory, ledger="one"), Lineage(directory, ledger="one")
    lineage.live()
    generation = Generation.create(directory, 4096, lineage.id)
    Generation.create(directory, 4096, other.id).abandon()
    lineage.abandon()
    before = found(directory)
    generation.discard()

    assert lineage.id == lineage_of(generation.id)
    assert ({lineage.id: False}, {lineage.id: True}) == (before, found(directory))


def test_it_is_given_back_to_the_ledger_it_has_drawn_from(directory):
    """Another kit may share the directory."""
    lineage = Lineage(directory, ledger="one")
    lineage.live()
    lineage.abandon()

    assert {} == found(directory, "other")
    for each in ended(directory, ledger="one"):
        each.remove()
    assert {} == found(directory)


def test_a_process_that_has_drawn_nothing_leaves_no_file(directory):
    """Nor does one that has given back everything."""
    lineage = Lineage(directory, ledger="one")
    lineage.remove()
    assert not directory.exists()
    lineage.live()
    lineage.remove()

    assert [] == list(directory.iterdir())
