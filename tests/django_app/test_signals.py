"""Signals: sent for a notice of the ledger, in the background, at least once, whatever a receiver does."""

from __future__ import annotations

import asyncio

import pytest
from django.conf import settings

if not settings.configured:
    settings.configure(DATABASES={}, LOGGING_CONFIG=None)

from meterkit import Meter, Notice, Notify
from meterkit.django import signals
from meterkit.django.signals import SignalChannel

CALLS = Meter("calls", http=False)


@pytest.fixture
def heard():
    """What the receivers of each signal have got, and a way to let one raise."""
    found = []
    raising = []
    receivers = []

    def receiver_of(name):
        def receiver(sender, *, company, notice, **named):
            found.append((name, sender, company, notice.kind, notice.key))
            if name in raising:
                raise OSError("the line is dead")

        receivers.append(receiver)
        return receiver

    for name in ("notice_sent", "company_overdue", "company_recovered", "invoice_paid"):
        getattr(signals, name).connect(receiver_of(name))
    found_and = type("Heard", (), {"all": found, "raising": raising, "names": lambda self: [each[0] for each in found]})
    yield found_and()
    for name, receiver in zip(
        ("notice_sent", "company_overdue", "company_recovered", "invoice_paid"), receivers, strict=True
    ):
        getattr(signals, name).disconnect(receiver)


def notice_of(kind, key="a"):
    return Notice(key=key, kind=kind, company="acme", title="title", text="text", created_at=1)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("overdue", ["company_overdue", "notice_sent"]),
        ("recovered", ["company_recovered", "notice_sent"]),
        ("invoice_paid", ["invoice_paid", "notice_sent"]),
        ("tier_crossed", ["notice_sent"]),
    ],
)
def test_which_are_sent(heard, kind, names):
    """That of the kind, and that of all notices."""
    SignalChannel().deliver(notice_of(kind))

    assert [(name, Notice, "acme", kind, "a") for name in names] == heard.all


def test_an_async_receiver():
    """As Django calls it, since 5.0."""
    heard = []

    async def receiver(sender, *, notice, **named):
        await asyncio.sleep(0)
        heard.append(notice.kind)

    django = pytest.importorskip("django", "5.0")
    signals.notice_sent.connect(receiver)
    SignalChannel().deliver(notice_of("overdue"))
    signals.notice_sent.disconnect(receiver)

    assert ["overdue"] == heard, django


def test_a_receiver_that_raises_is_called_again(heard, make_kit, clock):
    """The others are called all the same; health names it, until it has worked."""
    kit = make_kit(CALLS, notify=[Notify.calls(CALLS, to=SignalChannel())])

    def look():
        kit.flush()
        kit.process().dispatcher.evaluate()
        kit.process().dispatcher.deliver("django-signals")

    heard.raising.append("notice_sent")
    others = []
    signals.notice_sent.connect(other := lambda **named: others.append(named["notice"].key))
    kit.record("calls", "acme")
    kit.flush()
    kit.record("calls", "acme")
    look()
    problem = kit.health()["problems"]["channel_failed"]["message"]
    keys = [each[4] for each in heard.all]
    heard.raising.clear()
    clock.advance(31)
    look()
    clock.advance(31)
    look()
    signals.notice_sent.disconnect(other)

    assert "raised OSError: the line is dead" in problem
    assert keys
    assert keys * 2 == [each[4] for each in heard.all] == others
    assert {"delivered"} == {each.state for each in kit.notices()}
    assert "channel_failed" not in kit.health()["problems"]


def test_several_rules_have_one_channel(make_kit):
    """Each may be given one of its own; the ledger records one delivery."""
    kit = make_kit(CALLS, notify=[Notify.overdue(to=SignalChannel()), Notify.calls(CALLS, to=SignalChannel())])

    assert 2 == len(kit.notify)
