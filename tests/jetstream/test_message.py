"""The format of a message: it comes back as it was, and nothing damaged is read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterkit.core.usage_key import keyed
from meterkit.jetstream.message import MessageError, NewerMessageError, Sender, decoded, encoded

ID = "0123456789abcdef" * 2
SENDER = Sender(live=False, account="acct_1")

names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=50)
keys = st.tuples(names, names, names, st.just("") | names.map("u".__add__), st.integers(0, 2**33))
counted = st.tuples(keys, st.integers(1, 2**63 - 1), st.integers(0, 2**40))


@given(st.lists(counted, max_size=50), st.floats(0, 2**40))
def test_what_comes_back(cells, begun):
    """All of it, in the same order."""
    found = decoded(encoded(ID, cells, begun=begun, sender=SENDER))

    assert (ID, begun, cells, SENDER) == (found.id, found.begun, found.cells, found.sender)


def test_observations():
    """What stands in place of a user is taken along."""
    cells = [
        (("m", "m", "acme", user, 3600), 1, 3601) for user in ("\x01value", "\x0217", keyed(3, "user", "key"), "user")
    ]

    assert cells == decoded(encoded(ID, cells, begun=0.0, sender=SENDER)).cells


@given(st.data())
def test_damage(data):
    """No changed byte goes unnoticed."""
    message = bytearray(encoded(ID, [(("m", "m", "acme", "", 3600), 1, 3601)], begun=1.0, sender=SENDER))
    at = data.draw(st.integers(0, len(message) - 1))
    message[at] ^= data.draw(st.integers(1, 255))

    if 5 <= at < 8:
        assert ID == decoded(bytes(message)).id if message[4:8] == b"\x01\0\0\0" else True
        return
    with pytest.raises(MessageError):
        decoded(bytes(message))


@given(st.integers(0, 60))
def test_truncation(length):
    """A part of a message is none."""
    message = encoded(ID, [(("m", "m", "acme", "", 3600), 1, 3601)], begun=1.0, sender=SENDER)

    with pytest.raises(MessageError):
        decoded(message[:length])


@given(st.binary(max_size=200))
def test_something_else(data):
    """What somebody else publishes is refused."""
    with pytest.raises(MessageError):
        decoded(data)


def test_a_newer_version():
    """It is not damaged, and waits for a collector that can read it."""
    message = bytearray(encoded(ID, [], begun=1.0, sender=SENDER))
    message[4] = 2

    with pytest.raises(NewerMessageError, match="it has format version 2; this meterkit reads version 1"):
        decoded(bytes(message))


BAD = {
    "quantity of 0": (("m", "m", "acme", "", 3600), 0, 3601),
    "negative quantity": (("m", "m", "acme", "", 3600), -1, 3601),
    "quantity of a float": (("m", "m", "acme", "", 3600), 1.5, 3601),
    "quantity of a bool": (("m", "m", "acme", "", 3600), True, 3601),
    "window in the future": (("m", "m", "acme", "", 2**60), 1, 3601),
    "time of a text": (("m", "m", "acme", "", 3600), 1, "3601"),
    "company with a zero": (("m", "m", "ac\0me", "", 3600), 1, 3601),
    "company that is a list": (("m", "m", ["acme"], "", 3600), 1, 3601),
    "long company": (("m", "m", "a" * 10_000, "", 3600), 1, 3601),
    "large observation": (("m", "m", "acme", "\x02" + "9" * 30, 3600), 1, 3601),
}


@pytest.mark.parametrize("cell", BAD.values(), ids=BAD)
def test_what_no_host_counts(cell):
    """Whatever the checksum says, no count is read that a journal could not have."""
    with pytest.raises(MessageError, match="it is damaged"):
        decoded(encoded(ID, [cell], begun=1.0, sender=SENDER))


def test_senders():
    """Test and live mode, and accounts, differ; a key that is not known differs from none."""
    live, test, unknown = Sender(True, None), Sender(False, None), Sender(None, None)

    assert live.differs_from(test)
    assert not live.differs_from(unknown)
    assert not unknown.differs_from(test)
    assert live.differs_from(Sender(True, "acct_1"))
    assert ("live mode", "test mode of acct_1") == (str(live), str(SENDER))
