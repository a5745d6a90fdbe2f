"""A hold sets units of a quota aside for work whose usage is only known at its end."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import threading
from contextlib import suppress
from decimal import Decimal

import pytest
from guard import GUARD
from plain_exchange import PlainExchange, counted

import meterkit
from meterkit import Governance, InsufficientBalanceError, Meter, Quota, Refusal, UsageError, Wallet

TOKENS = Meter("tokens", path="/chat", value="tokens", status="*")
PAGES = Meter("pages", http=False)


def whose(exchange):
    return exchange.headers.get("x-company")


@pytest.fixture
def make(make_kit):
    """A function that makes a kit with exact quotas, which has looked once."""

    def make(*meters, limit=1000, **options):
        meters = meters or (PAGES,)
        rules = {"quotas": [Quota(each, limit, exact=True) for each in meters], **options.pop("rules", {})}
        kit = make_kit(*meters, identify=whose, governance=Governance(**rules), **options)
        kit.governor.begin()
        assert kit.governor.ready.wait(GUARD)
        kit.flush()
        return kit

    return make


def fits(kit, quantity, company="acme", **options):
    """Whether so much can be held now, in any process; what was held is given back."""
    try:
        with kit.hold(company, quantity, **options):
            return True
    except InsufficientBalanceError:
        return False


def used(kit, meter="pages", company="acme"):
    return counted(kit).get((meter, company), 0)


def reason(work):
    """The reason of the mistake that *work* is told of."""
    with pytest.raises(UsageError) as found:
        work()
    return found.value.reason


def test_what_is_settled_counts_and_the_rest_is_given_back(make):
    """Nobody else can use it in between."""
    kit = make()
    with kit.hold("acme", 700) as hold:
        meanwhile = fits(kit, 301), fits(kit, 300)
        hold.settle(450)
        after = hold.quantity, hold.used
    left = fits(kit, 551), fits(kit, 550)

    assert ((False, True), (False, True)) == (meanwhile, left)
    assert ((0, 450), 450) == (after, used(kit))


@pytest.mark.parametrize("before", ["flush", "usage", "health"])
def test_the_first_that_a_process_does(make_kit, before):
    """A hold is as exact after a call that starts the kit, but counts nothing."""
    kit = make_kit(PAGES, identify=whose, governance=Governance(quotas=[Quota(PAGES, 1000, exact=True)]))
    getattr(kit, before)()

    assert (False, True) == (fits(kit, 1001), fits(kit, 1000))
    assert {} == {each: said for each, said in kit.health()["problems"].items() if each == "quota_not_exact"}


def test_no_other_process_can_use_what_is_held(make):
    """They share a ledger only."""
    one, other = make(), make()
    with one.hold("acme", 700):
        meanwhile = fits(other, 301), fits(other, 300)

    assert (False, True) == meanwhile


def test_a_hundred_at_once_never_hold_more_than_there_is(make):
    """Threads of two processes, each of which would use all that it holds."""
    kits = [make(), make()]
    refused = []

    def work(kit):
        for _ in range(10):
            try:
                with kit.hold("acme", 30) as hold:
                    hold.settle(30)
            except InsufficientBalanceError:
                refused.append(1)

    threads = [threading.Thread(target=work, args=(kit,)) for kit in kits for _ in range(5)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    for kit in kits:
        kit.flush()
    total = used(kits[0])

    assert (0, True) == (total % 30, total <= 1000)
    assert 100 == total // 30 + len(refused)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError])
def test_an_exception_gives_all_back(make, error):
    """Whatever ends the block, what was not counted is free, and nothing is billed."""
    kit = make()
    with pytest.raises(error), kit.hold("acme", 1000):
        raise error

    assert (True, 0) == (fits(kit, 1000), used(kit))


def test_what_is_recorded_in_the_block_is_covered(make):
    """It is not taken twice, and a job that dies half-way has paid for what it did."""
    kit = make()
    with suppress(ValueError), kit.hold("acme", 1000) as hold:
        kit.record(PAGES, "acme", 300)
        kit.record(PAGES, "globex", 7)
        kit.flush()
        held = hold.quantity, hold.used, fits(kit, 1)
        raise ValueError
    left = fits(kit, 701), fits(kit, 700)

    assert ((700, 300, False), (False, True)) == (held, left)
    assert {("pages", "acme"): 300, ("pages", "globex"): 7} == counted(kit)


def test_settle_takes_the_total(make):
    """What was recorded in the block is part of it."""
    kit = make()
    with kit.hold("acme", 1000) as hold:
        kit.record(PAGES, "acme", 300)
        too_little = reason(lambda: hold.settle(299))
        hold.settle(450)

    assert ("hold_settled_below", 450) == (too_little, used(kit))


def test_more_in_the_middle(make):
    """Until there is no more; then the work goes on with what it has."""
    kit = make()
    with kit.hold("acme", 400) as hold:
        found = hold.more(600), hold.more(1), hold.quantity
        hold.settle(1000)

    assert ((True, False, 1000), 1000) == (found, used(kit))


def test_more_is_used_than_is_held(make):
    """The rest is taken, too, if there is so much; otherwise it counts all the same, and health names it."""
    kit = make()
    with kit.hold("acme", 100) as hold:
        hold.settle(900)
    before = kit.health()["problems"].get("hold_exceeded"), fits(kit, 101), fits(kit, 100)
    with kit.hold("acme", 50) as hold:
        hold.settle(250)

    assert (None, False, True) == before
    assert (1, 1150) == (kit.health()["problems"]["hold_exceeded"]["count"], used(kit))


def test_too_little_is_left(make):
    """Nothing is held; the error has what a client would be told."""
    kit = make()
    with pytest.raises(InsufficientBalanceError, match="quota of 1000 pages") as found, kit.hold("acme", 1001):
        pass
    block = found.value.block

    assert ("quota", "acme", "pages", 1000) == (block.reason, block.company, block.meter, block.limit)
    assert fits(kit, 1000)


def test_what_is_not_held_counts_no_further(make):
    """Each mistake has a name, and none counts or frees anything twice."""
    kit = make()
    hold = kit.hold("acme", 400)
    found = [reason(lambda: hold.settle(1)), reason(lambda: hold.more(1))]
    with hold:
        found.append(reason(hold.__enter__))
        hold.settle(400)
        found.append(reason(lambda: hold.settle(400)))
        hold.release()
    found += [reason(hold.__enter__), reason(lambda: hold.settle(1)), reason(lambda: hold.more(1))]
    with kit.hold("acme", 400) as other:
        other.release()
        found.append(reason(lambda: other.settle(1)))

    assert ["hold_unused", "hold_unused", "hold_reused", "hold_ended", "hold_reused"] == found[:5]
    assert ["hold_ended"] * 3 == found[5:]
    assert (400, False, True) == (used(kit), fits(kit, 601), fits(kit, 600))


@pytest.mark.parametrize(
    ("arguments", "options", "expected"),
    [
        ((1.5,), {}, "quantity_not_int"),
        ((-1,), {}, "quantity_negative"),
        ((10**15,), {}, "quantity_too_large"),
        ((1,), {"meter": "sheets"}, "meter_unknown"),
        ((1,), {"meter": "free"}, "hold_unlimited"),
        ((1,), {"user": ""}, "user_empty"),
    ],
)
def test_what_cannot_be_held(make_kit, arguments, options, expected):
    """It is said at once, before anything is asked."""
    kit = make_kit(
        PAGES,
        Meter("free", http=False),
        identify=whose,
        governance=Governance(quotas=[Quota(PAGES, 10, exact=True)]),
    )

    assert expected == reason(lambda: kit.hold("acme", *arguments, **options))
    assert "company_empty" == reason(lambda: kit.hold("", 1))


def test_a_kit_without_limits_has_nothing_to_hold(kit):
    """The error names the cure."""
    with pytest.raises(UsageError, match="exact=True"):
        kit.hold("acme", 1)


def test_several_to_choose_from(make):
    """Then the meter has to be named."""
    kit = make(PAGES, TOKENS)

    assert "hold_unlimited" == reason(lambda: kit.hold("acme", 1))
    assert fits(kit, 1000, meter=TOKENS)
    assert fits(kit, 1000, meter="pages")


def test_an_estimate_of_its_own(make):
    """The median of what the company's work has used; of a new company, that of all."""
    kit = make()

    def held(company):
        with kit.hold(company) as hold:
            return hold.quantity

    first = held("acme")
    for quantity in (10, 200, 30):
        with kit.hold("acme", 1) as hold:
            hold.settle(quantity)

    assert (1, 30, 30) == (first, held("acme"), held("globex"))


def test_in_coroutines(make):
    """The same, without keeping the event loop waiting."""
    kit = make()

    async def work():
        async with kit.hold("acme", 400) as hold:
            found = await hold.amore(600), await hold.amore(1)
            hold.settle(900)
        return found

    assert ((True, False), 900) == (asyncio.run(work()), used(kit))


def test_a_task_that_is_cancelled_while_it_takes(make, monkeypatch):
    """What its thread then gets is given back."""
    kit = make()
    asked, goes_on = threading.Event(), threading.Event()
    take = kit.governor.exact.slices.take

    def slowly(*arguments, **options):
        asked.set()
        assert goes_on.wait(GUARD)
        return take(*arguments, **options)

    monkeypatch.setattr(kit.governor.exact.slices, "take", slowly)

    async def work():
        async def holding():
            async with kit.hold("acme", 1000):
                pytest.fail("it was cancelled")

        task = asyncio.ensure_future(holding())
        await asyncio.to_thread(asked.wait, GUARD)
        task.cancel()
        goes_on.set()
        await asyncio.gather(task, return_exceptions=True)
        return task.cancelled()

    cancelled = asyncio.run(work())
    monkeypatch.undo()

    assert (True, True) == (cancelled, fits(kit, 1000))


def test_from_another_thread(make):
    """A hold may be used and settled wherever the work is done in its process."""
    kit = make()
    with kit.hold("acme", 400) as hold:
        thread = threading.Thread(target=hold.settle, args=(300,))
        thread.start()
        thread.join()

    assert (300, False, True) == (used(kit), fits(kit, 701), fits(kit, 700))


def test_in_another_process(make):
    """It cannot be sent there, and one that was forked changes nothing."""
    kit = make()
    hold = kit.hold("acme", 400)
    with pytest.raises(TypeError, match="belongs to its process"):
        pickle.dumps(hold)
    with hold:
        child = os.fork()
        if not child:
            status = 1
            try:
                try:
                    hold.settle(100)
                except UsageError as error:
                    status = 0 if error.reason == "hold_elsewhere" else 2
                hold.__exit__(None, None, None)
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)
        left = hold.quantity
        hold.settle(300)

    assert (0, 400, 300) == (status, left, used(kit))


def test_over_a_close(make):
    """What is settled afterwards counts, once."""
    kit = make()
    with kit.hold("acme", 400) as hold:
        kit.close()
        hold.settle(300)

    assert 300 == used(kit)


def test_over_a_flush(make):
    """What is held stays held, whatever is moved to the ledger meanwhile."""
    one, other = make(), make()
    with one.hold("acme", 400) as hold:
        one.record(PAGES, "globex", 1)
        for _ in range(3):
            one.flush()
        held = fits(other, 601), fits(other, 600)
        hold.settle(400)
    one.flush()

    assert ((False, True), 400) == (held, used(other))


def test_a_generator_that_nobody_closes(make):
    """Its hold ends with it."""
    kit = make()

    def pieces():
        with kit.hold("acme", 1000):
            yield 1

    left = pieces()
    next(left)
    held = fits(kit, 1)
    del left
    gc.collect()

    assert (False, True) == (held, fits(kit, 1000))


def test_a_collected_generator_waits_for_no_lock(make):
    """The collector may close it in a thread that holds the journal's lock, while another holds that of the slices."""
    kit = make()

    def pieces():
        with kit.hold("acme", 1000) as hold:
            try:
                yield 1
            finally:
                hold.settle(300)

    left = pieces()
    next(left)
    circle = [left]
    circle.append(circle)
    slices, waits, goes_on, went_on = kit.governor.exact.slices, threading.Event(), threading.Event(), []

    def other():
        with slices._lock:
            waits.set()
            went_on.append(goes_on.wait(GUARD))

    thread = threading.Thread(target=other)
    thread.start()
    assert waits.wait(GUARD)
    del left, circle
    gc.collect()
    goes_on.set()
    thread.join()

    assert [True] == went_on
    assert (300, False, True) == (used(kit), fits(kit, 701), fits(kit, 700))


def test_the_ledger_fails(make, tmp_path):
    """The work goes on, as a request under an exact quota does, and health says so."""
    kit = make()
    (tmp_path / "meterkit" / "ledger.sqlite").rename(tmp_path / "elsewhere")
    with kit.hold("acme", 5000) as hold:
        hold.settle(3)

    assert "quota_not_exact" in kit.health()["problems"]


@pytest.mark.parametrize("options", [{"shadow": True}, {"rules": {"mode": "warn"}}], ids=["shadow", "warn"])
def test_nothing_is_refused_where_nothing_is_blocked(make, options):
    """In shadow mode, and where governance only warns."""
    kit = make(limit=10, **options)

    assert fits(kit, 5000)


def test_the_decorator(make):
    """Each call has a hold of its own; the estimate may depend on the arguments."""
    kit = make()

    @kit.held(company="whom", estimate=lambda text, whom: 10 * len(text))
    def convert(text, whom, *, hold):
        """Convert."""
        hold.settle(len(text))
        return text.upper(), hold.company

    assert ("TEXT", "acme") == convert("text", whom="acme")
    assert ("Convert.", ["text", "whom"]) == (convert.__doc__, [*meterkit_signature(convert)])
    with pytest.raises(InsufficientBalanceError):
        convert("x" * 1000, "acme")
    assert 4 == used(kit)


def meterkit_signature(function):
    import inspect

    return inspect.signature(function).parameters


def test_the_decorator_of_what_goes_on(make):
    """Coroutines, and generators of either kind, hold until they end; what their ``finally`` settles counts."""
    kit = make()

    @kit.held(estimate=100)
    async def coroutine(company, hold):
        hold.settle(1)

    @kit.held(estimate=100)
    def generator(company, hold):
        try:
            yield hold.quantity
            yield 0
        finally:
            hold.settle(20)

    @kit.held(estimate=100)
    async def async_generator(company, hold):
        try:
            yield hold.quantity
            yield 0
        finally:
            hold.settle(300)

    async def work():
        await coroutine("acme")
        left = async_generator("acme")
        first = await left.__anext__()
        await left.aclose()
        return first

    left = generator("acme")
    held = next(left), asyncio.run(work())
    left.close()

    assert ((100, 100), 321, True) == (held, used(kit), fits(kit, 679))


def test_what_cannot_be_decorated(make):
    """A function that could not get its hold."""
    kit = make()
    with pytest.raises(meterkit.ConfigurationError, match="'hold'"):
        kit.held()(lambda company: None)
    with pytest.raises(meterkit.ConfigurationError, match="'whom'"):
        kit.held(company="whom")(lambda company, hold: None)


def served(kit, view, *, company="acme", status=200, path="/chat"):
    """A request whose view is called; whether it was blocked."""
    exchange = PlainExchange("POST", path, headers={"x-company": company})
    exchange.publish(kit)
    exchange.native = {}
    if kit.governor.check(exchange) is not None:
        kit.recorder.refuse(exchange)
        return True
    try:
        view()
    finally:
        exchange.status = status
        kit.recorder.close(exchange)
        exchange.retract()
    return False


def test_what_a_view_adds_is_covered(make):
    """It is held until the request has been counted, and taken once."""
    kit = make(TOKENS)
    seen = []

    def view():
        with kit.hold("acme", 900):
            meterkit.add_usage("tokens", 300)
        seen.append((fits(kit, 701), fits(kit, 700)))

    served(kit, view)
    left = fits(kit, 701), fits(kit, 700)

    assert ([(False, True)], (False, True), 300) == (seen, left, used(kit, "tokens"))


def test_settle_and_add_usage_count_once(make):
    """The total is the total."""
    kit = make(TOKENS)

    def view():
        with kit.hold("acme", 900) as hold:
            meterkit.add_usage("tokens", 300)
            hold.settle(500)

    served(kit, view)
    left = fits(kit, 501), fits(kit, 500)

    assert ((False, True), 500) == (left, used(kit, "tokens"))


def test_two_holds_in_a_request(make):
    """Each covers what was added under it."""
    kit = make(TOKENS)
    seen = []

    def view():
        with kit.hold("acme", 500):
            meterkit.add_usage("tokens", 100)
        with kit.hold("acme", 500):
            meterkit.add_usage("tokens", 200)
        seen.append((fits(kit, 701), fits(kit, 700)))

    served(kit, view)

    assert ([(False, True)], 300, True) == (seen, used(kit, "tokens"), fits(kit, 700))


def test_usage_of_a_request_that_does_not_count(make):
    """A failure is free, and so is what was held for it."""
    kit = make(Meter("tokens", path="/chat", value="tokens"))

    def view():
        with kit.hold("acme", 900):
            meterkit.add_usage("tokens", 300)

    served(kit, view, status=500)

    assert (0, True) == (used(kit, "tokens"), fits(kit, 1000))


def test_a_request_that_is_skipped(make):
    """Likewise."""
    kit = make(TOKENS)

    def view():
        with kit.hold("acme", 900):
            meterkit.add_usage("tokens", 300)
            meterkit.skip()

    served(kit, view)

    assert (0, True) == (used(kit, "tokens"), fits(kit, 1000))


def test_a_request_holds_all_that_is_left(make):
    """What governance took for the request itself does not stand in its way."""
    kit = make(TOKENS)
    for _ in range(3):
        served(kit, lambda: meterkit.add_usage("tokens", 100))
    seen = []

    def view():
        with kit.hold("acme", 700) as hold:
            seen.append(hold.quantity)

    assert (False, [700]) == (served(kit, view), seen)
    assert fits(kit, 700)


PROMPT = Meter("prompt", http=False, billable=False)
COMPLETION = Meter("completion", path="/chat", value="completion", status="*", billable=False)


@pytest.fixture
def prepaid(make_kit):
    """A kit with a wallet, of which acme has 10 credits: a prompt takes 0.001 of them, a completion 0.004."""
    wallet = Wallet("credits", unit="credits", spends={PROMPT: "0.001", COMPLETION: "0.004"})
    kit = make_kit(PROMPT, COMPLETION, identify=whose, wallets=[wallet])
    kit.grant("acme", "credits", 10)
    kit.governor.begin()
    assert kit.governor.ready.wait(GUARD)
    kit.flush()
    return kit


def test_units_of_a_meter_that_a_wallet_pays_for(prepaid):
    """They take its rate."""
    with prepaid.hold("acme", 2000, meter=COMPLETION) as hold:
        meanwhile = fits(prepaid, 501, meter=COMPLETION), fits(prepaid, 500, meter=COMPLETION)
        hold.settle(1500)
    prepaid.flush()

    assert (False, True) == meanwhile
    assert {("completion", "acme"): 1500} == counted(prepaid)
    assert Decimal(4) == prepaid.balance("acme", "credits").left
    assert (False, True) == (fits(prepaid, "4.000001", wallet="credits"), fits(prepaid, 4, wallet="credits"))


def test_an_amount_of_a_wallet(prepaid):
    """For all its meters, whether they are recorded or the view adds to them."""
    seen = []

    def view():
        with prepaid.hold("acme", "8.5", wallet="credits") as hold:
            prepaid.record(PROMPT, "acme", 1000)
            meterkit.add_usage("completion", 500)
            seen.append((hold.quantity, hold.used))
        seen.append((fits(prepaid, "7.000001", wallet="credits"), fits(prepaid, 7, wallet="credits")))

    served(prepaid, view)
    prepaid.flush()

    assert [(Decimal("7.5"), Decimal(1)), (False, True)] == seen
    assert Decimal(7) == prepaid.balance("acme", "credits").left
    assert fits(prepaid, 7, wallet="credits")


def test_too_little_is_left_of_a_wallet(prepaid):
    """The block says so; a client would get a 402."""
    with pytest.raises(InsufficientBalanceError) as found, prepaid.hold("acme", 11, wallet="credits"):
        pass
    block = found.value.block

    assert ("balance", "acme", 402) == (block.reason, block.company, Refusal().respond(block).status)


def test_what_cannot_be_held_of_a_wallet(prepaid):
    """Each mistake has a name."""
    found = [
        reason(lambda: prepaid.hold("acme", 1.5, wallet="credits")),
        reason(lambda: prepaid.hold("acme", -1, wallet="credits")),
        reason(lambda: prepaid.hold("acme", 1, wallet="debts")),
        reason(lambda: prepaid.hold("acme", 1, wallet="credits", meter=PROMPT)),
        reason(lambda: prepaid.hold("acme", 1, wallet="credits", user="ann")),
        reason(lambda: prepaid.hold("acme", 1)),
    ]
    with prepaid.hold("acme", 1, wallet="credits") as hold:
        found.append(reason(lambda: hold.settle(1)))
        grown = hold.more("9.5"), hold.more("9")

    assert ["amount_float", "amount_negative", "wallet_unknown", "hold_of_wallet", "hold_of_wallet"] == found[:5]
    assert ["hold_unlimited", "hold_of_wallet", (False, True)] == [*found[5:], grown]


SPOKEN = Meter("spoken", http=False, by=("model", "kind"))


def by_values(kit):
    return {(row.values["model"], row.values["kind"]): row.quantity for row in kit.usage(by=("model", "kind"))}


def test_what_is_settled_has_values(make):
    """What was counted before keeps its own."""
    kit = make(SPOKEN)
    with kit.hold("acme", 500) as hold:
        kit.record(SPOKEN, "acme", 40, dimensions={"model": "small", "kind": "input"})
        hold.settle(140, dimensions={"model": "small", "kind": "output"})
    kit.flush()

    assert {("small", "input"): 40, ("small", "output"): 100} == by_values(kit)
    assert fits(kit, 860)
    assert not fits(kit, 861)


@pytest.mark.parametrize(
    ("meter", "said"), [(SPOKEN, {"size": "big"}), (SPOKEN, {"model": 4.5}), (PAGES, {"model": "s"})]
)
def test_values_that_the_meter_does_not_take(make, meter, said):
    """Nothing is counted, and the hold can still be settled."""
    kit = make(meter)
    with kit.hold("acme", 500) as hold:
        with pytest.raises(UsageError):
            hold.settle(100, dimensions=said)
        hold.settle(90)
    kit.flush()

    assert [90] == [row.quantity for row in kit.usage()]
