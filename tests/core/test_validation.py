"""What can be counted, and for whom."""

from __future__ import annotations

import enum
import math
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterkit import UsageError
from meterkit.core.validation import MAX_ID_LENGTH, MAX_QUANTITY, checked_id, checked_quantity


class Index:
    """Counts as an int, as those of numpy do."""

    def __init__(self, answer):
        self.answer = answer

    def __index__(self):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Size(enum.IntEnum):
    """An int of another type."""

    BIG = 7


class Company(str, enum.Enum):
    """A str of another type."""

    ACME = "acme"


@given(st.integers(0, MAX_QUANTITY))
def test_every_int_of_15_digits(quantity):
    """Every int from 0 to fifteen nines is a quantity."""
    assert quantity == checked_quantity(quantity)


@pytest.mark.parametrize("value", [Size.BIG, Index(7)])
def test_other_ints(value):
    """Ints of other types become plain ones."""
    assert (7, int) == (checked_quantity(value), type(checked_quantity(value)))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (1.0, "quantity_not_int"),
        (math.nan, "quantity_not_int"),
        (math.inf, "quantity_not_int"),
        (True, "quantity_not_int"),
        ("5", "quantity_not_int"),
        (None, "quantity_not_int"),
        (Decimal(5), "quantity_not_int"),
        (Fraction(5), "quantity_not_int"),
        ([5], "quantity_not_int"),
        (Index(OSError("no")), "quantity_not_int"),
        (-1, "quantity_negative"),
        (Index(-1), "quantity_negative"),
        (MAX_QUANTITY + 1, "quantity_too_large"),
        pytest.param(10**5000, "quantity_too_large", id="of 5001 digits"),
    ],
)
def test_what_is_no_quantity(value, reason):
    """Everything else is a usage error, whose reason says what kind."""
    with pytest.raises(UsageError) as caught:
        checked_quantity(value)

    assert reason == caught.value.reason


@pytest.mark.parametrize(
    "value", ["a", "acme inc.", "cus_123", "../../etc/passwd", "'; DROP TABLE usage; --", "{0}%s", "é" * 255]
)
def test_every_printable_id(value):
    """An id is any printable text; nothing in it has a meaning."""
    assert value == checked_id(value, "company")


def test_a_str_of_another_type():
    """A str of another type, such as an enum's, becomes a plain one."""
    assert ("acme", str) == (checked_id(Company.ACME, "company"), type(checked_id(Company.ACME, "company")))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (5, "company_not_str"),
        (None, "company_not_str"),
        (b"acme", "company_not_str"),
        (["acme"], "company_not_str"),
        ("", "company_empty"),
        (" \t", "company_empty"),
        ("x" * (MAX_ID_LENGTH + 1), "company_too_long"),
        ("x" * 10_000, "company_too_long"),
        ("acme\n", "company_unprintable"),
        ("ac\x00me", "company_unprintable"),
        ("\udc80", "company_unprintable"),
    ],
)
def test_what_is_no_id(value, reason):
    """Everything else is a usage error, whose reason says of what, and what kind."""
    with pytest.raises(UsageError) as caught:
        checked_id(value, "company")

    assert reason == caught.value.reason


def test_the_message_does_not_repeat_a_long_id():
    """What is wrong with 10,000 characters is said without them."""
    with pytest.raises(UsageError) as caught:
        checked_id("x" * 10_000, "user")

    assert "user id must have at most 255 characters, not 10000" == str(caught.value)
