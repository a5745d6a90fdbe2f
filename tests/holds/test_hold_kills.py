"""
A kill at any instruction of a stream with a hold: nothing stays held, and nothing counts twice.

``METERKIT_TEST_KILLS`` sets at how many instructions, evenly spread (the default is a short run); 0 is at each.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import pytest
from adapter_drivers import call_asgi, call_wsgi
from adapter_usage import looked_once

import meterkit.asgi
import meterkit.wsgi
from meterkit import Governance, InsufficientBalanceError, Meter, Quota

KILLS = int(os.environ.get("METERKIT_TEST_KILLS", "8"))

pytestmark = [
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning"),
]

PACKAGE = Path(meterkit.__file__).parent
TRACED = tuple(str(PACKAGE / each) for each in ("holds", "slices", "metering", "journal", "governance"))

TOKENS = Meter("tokens", path="/settled", value="tokens", status="*")
PIECES, PIECE, LIMIT = 3, 100, 1000


def make(make_kit):
    rules = Governance(quotas=[Quota(TOKENS, LIMIT, exact=True)])
    return make_kit(TOKENS, identify=lambda exchange: exchange.headers.get("x-company"), governance=rules)


def settled(kit, company):
    """It tells what it has used at the end."""
    with kit.hold(company, 500) as hold:
        for _ in range(PIECES):
            yield b"piece"
        hold.more(100)
        hold.settle(PIECES * PIECE)


def recorded(kit, company):
    """It counts each piece."""
    with kit.hold(company, 500):
        for _ in range(PIECES):
            kit.record(TOKENS, company, PIECE)
            yield b"piece"


def added(kit, company):
    """The request counts what its view has added."""
    with kit.hold(company, 500):
        for _ in range(PIECES):
            meterkit.add_usage("tokens", PIECE)
            yield b"piece"


async def async_settled(kit, company):
    async with kit.hold(company, 500) as hold:
        for _ in range(PIECES):
            yield b"piece"
        await hold.amore(100)
        hold.settle(PIECES * PIECE)


def wsgi(stream):
    def serve(kit, company):
        def app(environ, start_response):
            start_response("200 OK", [])
            return stream(kit, company)

        call_wsgi(meterkit.wsgi.MeterMiddleware(app, kit), path="/settled", headers={"X-Company": company})

    return serve


def asgi(kit, company):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        async for piece in async_settled(kit, company):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    call_asgi(meterkit.asgi.MeterMiddleware(app, kit), path="/settled", headers={"X-Company": company})


STREAMS = {
    "settled": (wsgi(settled), {0, PIECES * PIECE}),
    "recorded": (wsgi(recorded), {each * PIECE for each in range(PIECES + 1)}),
    "added": (wsgi(added), {0, PIECES * PIECE}),
    "asgi": (asgi, {0, PIECES * PIECE}),
}


def steps_until(at, work):
    """Do *work*, and kill this process at instruction number *at*; how many instructions of ours there were."""
    seen = 0

    def trace(frame, event, _argument):
        nonlocal seen
        if not frame.f_code.co_filename.startswith(TRACED):
            return None
        frame.f_trace_opcodes = True
        if event in ("opcode", "line"):
            seen += 1
            if seen == at:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    threading.settrace(trace)
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(None)
        threading.settrace(None)
    return seen


def in_child(work):
    """Do *work* in a forked process that ends without a word; what it returned, or None if it was killed."""
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writes, str(work()).encode())
        finally:
            os._exit(0)
    os.close(writes)
    with os.fdopen(reads) as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    assert bool(said) is (status == 0)
    return int(said) if said else None


def fits(kit, company, quantity):
    try:
        with kit.hold(company, quantity):
            return True
    except InsufficientBalanceError:
        return False


@pytest.mark.parametrize("name", STREAMS)
def test_a_kill_at_any_instruction(make_kit, name):
    """What was counted by then is used, and the rest is there for others."""
    serve, allowed = STREAMS[name]
    make(make_kit).flush()  # the ledger is there

    def until(at, company):
        kit = make(make_kit)
        looked_once(kit)
        return steps_until(at, lambda: serve(kit, company))

    steps = in_child(lambda: until(0, "whole"))
    assert steps is not None
    assert steps > 500
    every = range(1, steps, max(1, steps // KILLS) if KILLS else 1)
    killed = [at for at in every if in_child(lambda at=at: until(at, f"c{at}")) is None]

    kit = make(make_kit)
    looked_once(kit)
    kit.flush()
    used = {row.company: row.quantity for row in kit.usage()}
    wrong = []
    for at in killed:
        company = f"c{at}"
        found = used.get(company, 0)
        left = fits(kit, company, LIMIT - found), fits(kit, company, LIMIT - found + 1)
        if found not in allowed or left != (True, False):
            wrong.append((at, found, left))

    print(f"{name}: {len(killed)} of {steps} instructions")
    assert PIECES * PIECE == used["whole"]
    assert len(killed) > len(every) // 2
    assert [] == wrong
