"""A program with greenlets and real threads that count; gevent patches it when the first argument says."""

from __future__ import annotations

import sys

import gevent
import gevent.monkey
from guard import GUARD

PATCHED, COMPANY = sys.argv[1:]


def patch_if_now(moment: str) -> None:
    if moment == PATCHED:
        gevent.monkey.patch_all()


patch_if_now("before the import")
from meterkit import Meter, MeterKit  # noqa: E402 - that is what is tested
from meterkit.core import filesystem  # noqa: E402
from meterkit.runtime import process  # noqa: E402

process.STOP_SECONDS = GUARD  # a slow machine is no reason to say that the last flush takes too long
filesystem.EPHEMERAL = frozenset()  # the test's directory may be in memory, which a kit warns of

patch_if_now("after the import")
kit = MeterKit(meters=[Meter("calls")], customer_ids=True, flush_interval=0.01)
kit.record("calls", COMPANY)


def in_a_greenlet() -> None:
    for _ in range(40):
        kit.record("calls", COMPANY)
        gevent.sleep(0)


def in_a_thread() -> None:
    for _ in range(500):
        kit.record("calls", COMPANY)


threads = [gevent.get_hub().threadpool.spawn(in_a_thread) for _ in range(4)]
gevent.joinall([gevent.spawn(in_a_greenlet) for _ in range(50)] + threads, raise_error=True)
