"""Several generations in one transaction add what they would add one by one."""

from __future__ import annotations

import tempfile

import sqlalchemy as sa
from hypothesis import example, given, settings
from hypothesis import strategies as st
from thorough import IS_THOROUGH

from meterkit.core.usage_key import UNIQUE, keyed
from meterkit.ledger import schema
from meterkit.ledger.database import Database
from meterkit.ledger.ledger import Ledger

WINDOW = 1_772_366_400
HOUR, DAY = 3600, 24 * 3600
TABLES = ("usage", "totals", "meter_totals", "month_totals", "counted", "record_keys", "peaks", "folds")


def now():
    return WINDOW


COUNT = st.tuples(
    st.tuples(
        st.sampled_from(["calls", "egress"]),
        st.sampled_from(["calls", ""]),
        st.sampled_from(["", "acme", "globex"]),
        st.sampled_from(["", "ann"]),
        st.sampled_from([WINDOW, WINDOW + HOUR, WINDOW + DAY, WINDOW + 40 * DAY]),
    ),
    st.integers(1, 2**63 - 1),
    st.integers(WINDOW, WINDOW + HOUR),
)
OBSERVED = st.builds(
    lambda company, user: (("people", "people", company, UNIQUE + user, WINDOW), 1, WINDOW + 5),
    st.sampled_from(["acme", "globex"]),
    st.sampled_from(["ann", "bob"]),
)
KEYED = st.builds(
    lambda company, key: (("jobs", "jobs", company, keyed(len(key), "", key), WINDOW), 1, WINDOW + 5),
    st.sampled_from(["acme", "globex"]),
    st.sampled_from(["a", "bb", "ccc"]),
)
GENERATION = st.lists(st.one_of(COUNT, OBSERVED, KEYED), max_size=9)


def content(ledger):
    """All that is in the ledger, without the numbers of changes: one transaction is one change."""
    with ledger._database.snapshot() as connection:
        return {
            name: sorted(
                tuple(row)
                for row in connection.execute(
                    sa.select(*(each for each in schema.metadata.tables[f"meterkit_{name}"].c if each.name != "change"))
                )
            )
            for name in TABLES
        }


NOT_BILLABLE = [(("calls", "", "acme", "", WINDOW), 3, WINDOW + 5)]


@example(generations=[NOT_BILLABLE, NOT_BILLABLE], known=0)
@settings(max_examples=200 if IS_THOROUGH else 15, deadline=None)
@given(generations=st.lists(GENERATION, min_size=1, max_size=4), known=st.integers(0, 3))
def test_together_they_add_what_they_add_one_by_one(generations, known):
    """Also if some of them were folded before, with what is counted once and what exceeds 64 bits among them."""
    by_id = {f"g{number}": counts for number, counts in enumerate(generations)}
    with tempfile.TemporaryDirectory() as directory:
        one_by_one, together = (
            Ledger(Database(f"sqlite:///{directory}/{name}.sqlite"), clock=now) for name in ("one", "all")
        )
        for generation, counts in by_id.items():
            assert one_by_one.fold(generation, counts)
        before = dict(list(by_id.items())[:known])
        together.fold_many(before)

        new = together.fold_many(by_id)

        assert set(by_id) - set(before) == new
        assert set() == together.fold_many(by_id)
        assert content(one_by_one) == content(together)


def test_each_conflict_of_keys_is_told(tmp_path):
    """The first record of a key counts, in whichever generation it is."""
    ledger = Ledger(Database(f"sqlite:///{tmp_path}/ledger.sqlite"), clock=now)
    found = []

    ledger.fold_many(
        {
            "g1": [(("jobs", "jobs", "acme", keyed(5, "", "a"), WINDOW), 1, WINDOW + 9)],
            "g2": [(("jobs", "jobs", "acme", keyed(3, "", "a"), WINDOW), 1, WINDOW + 2)],
        },
        conflict=found.append,
    )

    assert [3] == [row.quantity for row in ledger.usage()]
    assert [("a", 3, 5)] == [(each.key, each.counted, each.ignored) for each in found]
