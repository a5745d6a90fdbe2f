"""`kit.grant()`, `kit.revoke()` and `kit.balance()`: once for each key, and never more than there is."""

from __future__ import annotations

from datetime import datetime, timezone
from decimal import Decimal

import pytest
from wallet_kits import CALLS, CREDITS, figures

from meterkit import UsageError, Wallet


def at(moment):
    """The time of a Unix second."""
    return datetime.fromtimestamp(moment, tz=timezone.utc)


def test_a_grant(prepaid, clock):
    """It is there at once, with all that was said of it."""
    kit = prepaid()
    expires = at(clock() + 3600)
    made = kit.grant("acme", CREDITS, "12.5", key="pay-1", priority=3, expires=expires, source="invoice", by="ann")
    (found,) = kit.balance("acme", CREDITS).grants

    assert found == made
    assert (Decimal("12.5"), Decimal("12.5"), 3, int(clock() + 3600), "invoice", "pay-1", "ann") == (
        *(made.amount, made.remaining, made.priority, made.expires_at, made.source, made.key, made.by),
    )
    assert {"granted": "12.5", "left": "12.5"} == figures(kit)
    assert {} == figures(kit, "globex")


def test_one_key_grants_once(prepaid):
    """In whichever process, and however often; of each company and wallet."""
    kit = prepaid()
    made = [each.grant("acme", "credits", 10, key="pay-1") for each in (kit, kit, prepaid())]
    kit.grant("globex", "credits", 10, key="pay-1")
    kit.grant("acme", "money", 10, key="pay-1")

    assert 1 == len(set(made))
    assert {"granted": "10", "left": "10"} == figures(kit)


def test_a_key_with_another_amount(prepaid):
    """It is refused in words, and nothing is granted."""
    kit = prepaid()
    kit.grant("acme", "credits", 10, key="pay-1")
    with pytest.raises(UsageError, match="has already granted 10 credits") as caught:
        kit.grant("acme", "credits", 11, key="pay-1")

    assert "grant_conflict" == caught.value.reason
    assert {"granted": "10", "left": "10"} == figures(kit)


def test_without_a_key_each_call_grants(prepaid):
    """As two payments do."""
    kit = prepaid()
    kit.grant("acme", "credits", 10)
    kit.grant("acme", "credits", "0.000001")

    assert {"granted": "10.000001", "left": "10.000001"} == figures(kit)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"amount": 1.5}, "amount_float"),
        ({"amount": "-1"}, "amount_negative"),
        ({"amount": 0}, "amount_zero"),
        ({"amount": "ten"}, "amount_wrong"),
        ({"amount": None}, "amount_wrong"),
        ({"amount": "0.0000001"}, "amount_too_fine"),
        ({"amount": 10**12}, "amount_too_large"),
        ({"wallet": "credit"}, "wallet_unknown"),
        ({"company": ""}, "company_empty"),
        ({"key": ""}, "key_empty"),
        ({"key": 7}, "key_not_str"),
        ({"priority": 101}, "priority_wrong"),
        ({"priority": "1"}, "priority_wrong"),
        ({"expires": datetime(2027, 1, 1)}, "expires_not_aware"),  # noqa: DTZ001 - that is what is wrong
        ({"expires": datetime(2020, 1, 1, tzinfo=timezone.utc)}, "expires_past"),
        ({"source": ""}, "source_empty"),
        ({"by": ""}, "by_empty"),
        ({"paid": 9.5}, "amount_float"),
        ({"paid": "9.505"}, "amount_too_fine"),
        ({"paid": "1.5", "currency": "jpy"}, "amount_too_fine"),
        ({"paid": "1", "currency": "dollars"}, "currency_wrong"),
    ],
)
def test_what_cannot_be_granted(prepaid, arguments, reason):
    """Each is an error of its own, and grants nothing."""
    kit = prepaid()
    given = {"company": "acme", "wallet": "credits", "amount": 1, **arguments}
    with pytest.raises(UsageError) as caught:
        kit.grant(given.pop("company"), given.pop("wallet"), given.pop("amount"), **given)

    assert reason == caught.value.reason
    assert {} == figures(kit)


def test_the_largest_grants_add_up(prepaid):
    """Beyond 64 bits."""
    kit = prepaid()
    for _ in range(20):
        kit.grant("acme", "credits", 10**12 - 1)
    kit.record("calls", "acme", 10**12)
    kit.flush()

    assert {"granted": "19999999999980", "spent": "1000000000000", "left": "18999999999980"} == figures(kit)
    assert [] == kit.health()["attention"][:-1]  # but that there is no Stripe key


def test_what_is_left_is_taken_back(prepaid, clock):
    """All of it, or as much as is asked for, by id or key."""
    kit = prepaid()
    made = kit.grant("acme", "credits", 10, key="pay-1")
    kit.record("calls", "acme", 3)
    kit.flush()
    taken = [kit.revoke("acme", "credits", "pay-1", amount=2), kit.revoke("acme", "credits", made.id)]

    assert [Decimal(2), Decimal(5)] == taken
    assert {"granted": "10", "spent": "3", "revoked": "7"} == figures(kit)
    assert Decimal(0) == kit.revoke("acme", "credits", made.id)


def test_no_more_is_taken_back_than_is_left(prepaid):
    """Not of this grant, even if there is another."""
    kit = prepaid()
    kit.grant("acme", "credits", 10, key="pay-1")
    kit.grant("acme", "credits", 90, key="pay-2")
    kit.record("calls", "acme", 3)
    kit.flush()
    with pytest.raises(UsageError, match="only 7 credits can be taken back") as caught:
        kit.revoke("acme", "credits", "pay-1", amount=8)

    assert "revocation_too_large" == caught.value.reason
    assert {"granted": "100", "spent": "3", "left": "97"} == figures(kit)


def test_one_key_takes_back_once(prepaid):
    """As often as a refund is told."""
    kit = prepaid()
    kit.grant("acme", "credits", 10, key="pay-1")
    taken = [kit.revoke("acme", "credits", "pay-1", amount=4, key="re-1") for _ in range(2)]
    with pytest.raises(UsageError, match="has already taken back 4 credits"):
        kit.revoke("acme", "credits", "pay-1", amount=5, key="re-1")

    assert 2 * [Decimal(4)] == taken
    assert {"granted": "10", "revoked": "4", "left": "6"} == figures(kit)


@pytest.mark.parametrize("grant", ["pay-2", "0" * 32])
def test_what_was_never_granted(prepaid, grant):
    """Nor to another company, nor in another wallet."""
    kit = prepaid()
    kit.grant("acme", "credits", 10, key="pay-1")
    kit.grant("globex", "credits", 10, key="pay-2")
    with pytest.raises(UsageError, match="has no grant") as caught:
        kit.revoke("acme", "credits", grant)

    assert "grant_unknown" == caught.value.reason


def test_who_granted_and_took_back(prepaid):
    """It is in the audit trail."""
    kit = prepaid()
    kit.grant("acme", "money", "12.50", key="pay-1", by="ann")
    kit.revoke("acme", "money", "pay-1", amount=1, by="bob")

    assert [
        ("revoke", "acme", "1.00 USD of money, granted as pay-1", "bob"),
        ("grant", "acme", "12.50 USD to money", "ann"),
    ] == [(each.action, each.subject, each.detail, each.by) for each in kit.actions()]


def test_a_wallet_whose_unit_has_changed(prepaid, make_kit):
    """What was granted in another unit is not worth anything in this one."""
    prepaid().grant("acme", "credits", 10, key="pay-1")
    kit = make_kit(CALLS, wallets=[Wallet("credits", currency="eur", spends={CALLS: 1})])
    kit.grant("acme", "credits", 1)

    assert {"granted": "1", "left": "1"} == figures(kit)
    with pytest.raises(UsageError, match="already granted 10 credits"):
        kit.grant("acme", "credits", 10, key="pay-1")
