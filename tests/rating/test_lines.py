"""Usage that is billed by lines: one for each value, on the draft of the period's invoice, once."""

from __future__ import annotations

import random
import sqlite3
from datetime import datetime, timezone
from decimal import ROUND_HALF_UP, Decimal

import pytest
from followed_account import api, stripe  # noqa: F401 - fixtures
from test_amounts import TOKENS, ledger, make_following_kit, use  # noqa: F401 - fixtures
from thorough import first

from meterkit import Meter, Plan, Price
from meterkit.pricing.rates import amounts

HOUR = 3600
DAY = 24 * HOUR
SMALL = {"small": "0.10", "large": "2.50"}

pytestmark = pytest.mark.usefixtures("impatient")


@pytest.fixture
def lines_kit(make_following_kit):
    """A function that makes kits with a fee and a price by lines, to which acme is subscribed."""

    def make(prices=SMALL, *, bill="lines", **options):
        price = Price.by(TOKENS, "model", prices, per=1_000_000, bill=bill)
        plan = Plan("pro", fee="20.00", prices=[price])
        kit = make_following_kit(meters=[TOKENS], plans=[plan], **options)
        kit.provision()
        kit.subscribe("acme", plan="pro")
        kit.sync()
        return kit

    return make


def end_period(kit, clock, api):
    """Let the period end, so that its invoice is a draft that the kit knows of."""
    kit.report()
    (subscription,) = api.subscriptions.list().data
    clock.now = subscription["items"].data[0].current_period_end + 600
    api.invoices.list()
    kit.sync()


def finish(kit, clock, api):
    """Let the draft become final, and return the invoice."""
    clock.advance(2 * HOUR)
    api.invoices.list()
    kit.sync()
    return cycles(api)[0]


def cycles(api):
    """The invoices of periods, newest first."""
    return [each for each in api.invoices.list().data if each.billing_reason == "subscription_cycle"]


def lines(api, invoice):
    """Description and amount of what was used, in cents."""
    found = api.invoices.line_items.list(invoice.id, {"limit": 100}).auto_paging_iter()
    return sorted((each.description, each.amount) for each in found if "tokens," in each.description)


def rounded(amount):
    """An exact amount in cents."""
    return int((amount * 100).quantize(Decimal(1), rounding=ROUND_HALF_UP))


USED = [("1,000,000 tokens, model large", 250), ("3,000,000 tokens, model small", 30)]


def test_a_line_for_each_value(lines_kit, api, clock):
    """Nothing is sent before the period ends; the preview knows the lines."""
    kit = lines_kit()
    use(kit, 1_000_000)
    use(kit, 2_000_000, kind="output")
    use(kit, 1_000_000, "large")
    kit.report()
    (preview,) = kit.preview("acme")
    end_period(kit, clock, api)
    summary = kit.report()
    invoice = finish(kit, clock, api)

    assert Decimal("22.80") == preview.total
    assert 2 == summary.lines
    assert USED == lines(api, invoice)
    assert 2280 == invoice.total
    assert [] == kit.health()["attention"]


def test_five_hundred_models_to_the_cent(lines_kit, api, clock):
    """Those with the largest amounts have lines of their own, and the rest one."""
    chance = random.Random(8)
    prices = {f"model-{number}": f"{chance.randrange(1, 10**6)}e-4" for number in range(500)}
    kit = lines_kit(prices)
    amounts = {}
    for model, price in prices.items():
        quantity = chance.randrange(1, 500_000)
        use(kit, quantity, model)
        amounts[model] = quantity * Decimal(price) / 1_000_000
    kit.flush()
    (preview,) = kit.preview("acme")
    end_period(kit, clock, api)
    kit.report()
    invoice = finish(kit, clock, api)
    ordered = sorted(amounts.values(), reverse=True)
    expected = sum(map(rounded, ordered[:199])) + rounded(sum(ordered[199:]))

    assert 200 == len(lines(api, invoice))
    assert 2000 + expected == invoice.total == int(preview.total * 100)


def test_the_lines_of_two_meters_share_an_invoice(make_following_kit, api, clock, monkeypatch):
    """What one has taken, the other cannot have; the preview says the same, line by line."""
    monkeypatch.setattr(amounts, "MOST_LINES", 10)
    images = Meter("images", http=False, by=("model",))
    of_tokens = Price.by(TOKENS, "model", {"*": "1"}, bill="lines")
    of_images = Price.by(images, "model", {"*": "0.01"}, bill="lines")
    plan = Plan("pro", fee="20.00", prices=[of_tokens, of_images])
    kit = make_following_kit(meters=[TOKENS, images], plans=[plan])
    kit.provision()
    kit.subscribe("acme", plan="pro")
    kit.sync()
    for number in range(1, 9):
        use(kit, number, f"model-{number}")
        kit.record(images, "acme", 10 * number, dimensions={"model": f"model-{number}"})
    kit.flush()
    (preview,) = kit.preview("acme")
    end_period(kit, clock, api)
    kit.report()
    invoice = finish(kit, clock, api)
    found = api.invoices.line_items.list(invoice.id, {"limit": 100}).data
    told = [(int(each.amount * 100), each.note) for each in preview.lines if each.note]
    sent = [(each.amount, each.description.split(", ")[-1]) for each in found if ", " in each.description]

    assert 10 == len(sent)
    assert ("280 images, 7 further values", 280) in [(each.description, each.amount) for each in found]
    assert 2000 + 3600 + 360 == invoice.total == int(preview.total * 100)
    assert sorted(told) == sorted(sent)


def test_reports_are_repeated(lines_kit, api, clock):
    """A line is sent once, and what is counted in the meantime is a further one, so that the sum is exact."""
    kit = lines_kit({"small": "4000"})
    use(kit, 1)  # 0.4 cents
    end_period(kit, clock, api)
    kit.report()
    fold(kit, "late", clock, 2)  # 1.2 cents in all
    kit.report()
    kit.report()
    fold(kit, "later", clock, 1)  # 1.6 cents
    kit.report()
    invoice = finish(kit, clock, api)

    assert [("1 tokens, model small", 1), ("2 tokens, model small", 1)] == lines(api, invoice)


def fold(kit, name, clock, quantity, model="small"):
    """Count usage of the period that has ended."""
    from meterkit.core.usage_key import VALUES, encoded_values

    moment = int(clock()) - DAY
    key = ("tokens", "tokens" + VALUES + encoded_values({"model": model, "kind": ""}), "acme", "", moment)
    kit.process().ledger().fold(name, [(key, quantity, moment)])


def test_what_comes_too_late(lines_kit, api, clock):
    """It goes on the next invoice, and is named."""
    kit = lines_kit()
    use(kit, 1_000_000)
    end_period(kit, clock, api)
    kit.report()
    invoice = finish(kit, clock, api)
    fold(kit, "late", clock, 2_000_000)
    kit.report()
    (item,) = [each for each in api.invoice_items.list().data if each.invoice is None]
    named = [each for each in kit.health()["attention"] if "goes on the next one" in each]
    clock.advance(31 * DAY)
    api.invoices.list()

    assert [("1,000,000 tokens, model small", 10)] == lines(api, invoice)
    assert (20, f"2,000,000 tokens, model small, reported after invoice {invoice.number}") == (
        item.amount,
        item.description,
    )
    assert 1 == len(named)
    assert [(item.description, 20)] == lines(api, cycles(api)[0])


def test_lines_that_came_late_leave_fewer_to_the_next_invoice(lines_kit, api, clock, monkeypatch):
    """They are on it, and it takes no more in all; the preview knows."""
    monkeypatch.setattr(amounts, "MOST_LINES", 10)
    kit = lines_kit({"*": "1"})
    use(kit, 1_000_000)
    end_period(kit, clock, api)
    kit.report()
    finish(kit, clock, api)
    for number in range(6):
        fold(kit, f"late-{number}", clock, 1_000_000, f"late-{number}")
    kit.report()
    for number in range(1, 9):
        use(kit, 1_000_000 * number, f"model-{number}")
    kit.flush()
    (preview,) = kit.preview("acme")
    end_period(kit, clock, api)
    kit.report()
    found = [description for description, _ in lines(api, finish(kit, clock, api))]

    assert 6 == sum("reported after invoice" in each for each in found)
    assert ["5 further values", "model model-6", "model model-7", "model model-8"] == sorted(
        each.split(", ")[1] for each in found if "reported after" not in each
    )
    assert ["5 further values", "model model-6", "model model-7", "model model-8"] == sorted(
        each.note for each in preview.lines if each.note
    )


def test_the_draft_became_final_meanwhile(lines_kit, api, clock):
    """The kit believes that it is a draft still; its lines go on the next invoice."""
    kit = lines_kit()
    use(kit, 1_000_000)
    end_period(kit, clock, api)
    clock.advance(2 * HOUR)
    api.invoices.list()
    kit.report()
    (item,) = api.invoice_items.list().data

    assert (None, 10) == (item.invoice, item.amount)


def test_nothing_is_lost_without_a_draft(lines_kit, api, clock):
    """The kit learns of the invoice when it is final."""
    kit = lines_kit()
    use(kit, 1_000_000)
    kit.report()
    clock.advance(32 * DAY)
    api.invoices.list()
    kit.sync()
    kit.report()

    assert [10] == [each.amount for each in api.invoice_items.list().data]


def test_a_correction_after_the_invoice(lines_kit, api, clock):
    """It is a negative item of the next invoice."""
    kit = lines_kit()
    use(kit, 3_000_000)
    at = datetime.fromtimestamp(clock(), timezone.utc)
    end_period(kit, clock, api)
    kit.report()
    finish(kit, clock, api)
    kit.correct("tokens", "acme", 1_000_000, at=at, dimensions={"model": "small", "kind": "input"})
    kit.report()

    assert [-10] == [each.amount for each in api.invoice_items.list().data if each.invoice is None]


def test_a_rerating_after_the_invoice(lines_kit, api, clock):
    """The difference is an item of the next invoice, and taken back by another one."""
    kit = lines_kit()
    use(kit, 3_000_000)
    use(kit, 1_000_000, "large")
    end_period(kit, clock, api)
    kit.report()
    finish(kit, clock, api)
    kit.close()
    kit = lines_kit({"small": "0.30", "large": "2.00"})
    kit.rerate(month="2026-03", apply=True)
    kit.report()
    first = sorted(each.amount for each in api.invoice_items.list().data if each.invoice is None)
    kit.undo_rerate(month="2026-03")
    kit.report()

    assert [-50, 60] == first
    assert [-60, -50, 50, 60] == sorted(each.amount for each in api.invoice_items.list().data if each.invoice is None)


def test_the_way_changes(lines_kit, api, clock):
    """What was reported as an amount gets no line."""
    kit = lines_kit(bill="amount")
    use(kit, 1_000_000, "large")
    kit.report(include_open=True)
    kit.close()
    kit = lines_kit()
    use(kit, 1_000_000)
    end_period(kit, clock, api)
    kit.report()
    invoice = finish(kit, clock, api)

    assert [("1,000,000 tokens, model small", 10)] == lines(api, invoice)
    assert 2000 + 250 + 10 == invoice.total


def test_a_ledger_that_was_restored_makes_no_line_twice(lines_kit, api, clock, tmp_path):
    """Its lines are those that Stripe has already, also when it has forgotten their Idempotency-Keys."""
    kit = lines_kit()
    use(kit, 3_000_000)
    use(kit, 1_000_000, "large")
    end_period(kit, clock, api)
    (draft,) = [each for each in cycles(api) if each.status == "draft"]
    api.invoices.update(draft.id, {"auto_advance": False})
    with sqlite3.connect(tmp_path / "meterkit" / "ledger.sqlite") as source, sqlite3.connect(tmp_path / "copy") as copy:
        source.backup(copy)
    kit.report()
    kit.close()
    clock.advance(25 * HOUR)
    with sqlite3.connect(tmp_path / "copy") as source, sqlite3.connect(tmp_path / "meterkit" / "ledger.sqlite") as old:
        source.backup(old)
    kit = lines_kit()
    kit.report()

    assert USED == lines(api, cycles(api)[0])


def test_a_period_without_an_invoice(make_following_kit, api, clock):
    """Stripe makes none of nothing, so the lines of the first period are on the invoice of the second."""
    price = Price.by(TOKENS, "model", SMALL, per=1_000_000, bill="lines")
    kit = make_following_kit(meters=[TOKENS], prices=[price])
    kit.provision()
    kit.subscribe("acme")
    kit.sync()
    use(kit, 1_000_000)
    end_period(kit, clock, api)
    kit.report()
    clock.advance(2 * HOUR)
    kit.report()
    (item,) = api.invoice_items.list().data
    use(kit, 1_000_000, "large")
    end_period(kit, clock, api)
    kit.report()
    kit.report()
    invoice = finish(kit, clock, api)

    assert [] == kit.health()["attention"]
    assert 10 == item.amount
    assert [("1,000,000 tokens, model large", 250), (item.description, 10)] == lines(api, invoice)
    assert 1 == len(cycles(api))


def test_usage_without_a_subscription_is_named(lines_kit, api, clock):
    """No invoice will have its lines."""
    kit = lines_kit()
    use(kit, 1_000_000, company="bolt")
    use(kit, 1_000_000)
    kit.flush()
    clock.advance(3 * DAY)

    (said,) = kit.health()["attention"]
    assert said.startswith("1,000,000 tokens of one company wait for an invoice, and none will come")


FAULTS = ["500", "500_after", "502", "502_after", "reset_before", "reset_after", "409", "429", "empty", "html"]


@pytest.mark.parametrize("fault", first(["500", "reset_after"], among=FAULTS))
@pytest.mark.parametrize("times", first([1, 9], among=[1, 2, 4, 9]))
def test_faults_at_stripe(lines_kit, api, clock, stripe, fault, times):
    """Each line is sent once, whatever became of the first attempts."""
    kit = lines_kit()
    use(kit, 3_000_000)
    use(kit, 1_000_000, "large")
    end_period(kit, clock, api)
    stripe.fail(fault, path="/v1/invoiceitems", times=times)
    kit.report()
    stripe.heal()
    kit.report()

    assert USED == lines(api, cycles(api)[0])
    assert [] == kit.health()["attention"]


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("moment", first(["create", "settle"], among=["begin", "create", "settle", "make"]))
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("day_later", first([True], among=[False, True]))
def test_a_kill_between_any_two_steps(lines_kit, api, clock, monkeypatch, moment, after, day_later):
    """Each line is sent once, also if Stripe has forgotten the Idempotency-Key when it is sent again."""
    from meterkit.rating.lines import InvoiceLines
    from meterkit.reporting.invoice_lines import LineSender

    kit = lines_kit()
    use(kit, 3_000_000)
    use(kit, 1_000_000, "large")
    end_period(kit, clock, api)
    (draft,) = [each for each in cycles(api) if each.status == "draft"]
    api.invoices.update(draft.id, {"auto_advance": False})
    of, name = {
        "begin": (InvoiceLines, "begin"),
        "create": (LineSender, "_create"),
        "settle": (InvoiceLines, "settle"),
        "make": (InvoiceLines, "make"),
    }[moment]
    before = getattr(of, name)

    def killed(*arguments, **options):
        if after:
            before(*arguments, **options)
        raise Killed

    with monkeypatch.context() as context:
        context.setattr(of, name, killed)
        with pytest.raises(Killed):
            kit.report()
    kit.close()
    if day_later:
        clock.advance(25 * HOUR)
    kit = lines_kit({"small": "77", "large": "77"})  # what was rated stays as it was
    kit.report()
    kit.report()

    assert USED == lines(api, cycles(api)[0])
