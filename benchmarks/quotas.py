"""
What an exact quota costs a request: beside other quotas, and beside one for which each request asks the ledger.

    python -m benchmarks.quotas [--rounds 15] [--threads 8]

All are in one process, in turn, so the ratios hold on a busy machine, too.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from statistics import median
from typing import Any

from meterkit import Exchange, Governance, Meter, MeterKit, Quota
from meterkit.slices import slice as slice_module

CALLS = Meter("calls", path="/calls")
REQUESTS = 2_000
LARGE = 10**12
MICROSECONDS = 5.0
TIMES = 20.0


class Request(Exchange):
    """A request of no framework."""

    @property
    def response_headers(self) -> dict[str, str]:
        """None."""
        return {}


def make(*, exact: bool) -> MeterKit:
    """A kit that has looked once."""
    kit = MeterKit(
        meters=[CALLS],
        identify=lambda exchange: exchange.headers["x-company"],
        governance=Governance(quotas=[Quota(CALLS, LARGE, exact=exact)]),
        data_dir=tempfile.mkdtemp(prefix="meterkit-benchmark-"),
    )
    assert kit.governor is not None
    kit.governor.begin()
    kit.governor.ready.wait(60)
    kit.record(CALLS, "acme")
    kit.flush()
    return kit


def serve(kit: Any, requests: int) -> float:
    """Serve requests one after the other; return seconds of this thread's own time: others may be busy, too."""
    governor, recorder, headers = kit.governor, kit.recorder, {"x-company": "acme"}
    begun = time.thread_time()
    for _ in range(requests):
        exchange = Request()
        exchange.begin("GET", "/calls", {}, headers, kit)
        if governor.check(exchange) is not None:
            raise AssertionError("it was blocked")
        exchange.status = 200
        recorder.whole(exchange, b"ok")
    return time.thread_time() - begun


def costs(rounds: int) -> dict[str, float]:
    """Microseconds of a request, under a quota and under an exact one, in turn."""
    kits = {"quota": make(exact=False), "exact": make(exact=True)}
    found: dict[str, list[float]] = {name: [] for name in kits}
    for kit in kits.values():
        serve(kit, 10 * REQUESTS)
    for _ in range(rounds):
        for name, kit in kits.items():
            found[name].append(serve(kit, REQUESTS) / REQUESTS * 1e6)
    for kit in kits.values():
        kit.close()
    return {name: median(each) for name, each in found.items()}


def per_second(threads: int, seconds: float, *, share: int) -> float:
    """Requests per second of several threads under an exact quota; *share* is the part that is drawn ahead."""
    before, slice_module.SHARE = slice_module.SHARE, share
    kit, served, end = make(exact=True), [0] * threads, time.perf_counter() + seconds

    def work(number: int) -> None:
        while time.perf_counter() < end:
            serve(kit, 1)
            served[number] += 1

    try:
        running = [threading.Thread(target=work, args=[number]) for number in range(threads)]
        begun = time.perf_counter()
        for each in running:
            each.start()
        for each in running:
            each.join()
        return sum(served) / (time.perf_counter() - begun)
    finally:
        slice_module.SHARE = before
        kit.close()


def main() -> int:
    """Print what was measured; fail if a request costs too much, or too few are served."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quotas", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="samples of each kind")
    parser.add_argument("--threads", type=int, default=8, help="threads that serve at the same time")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long these serve")
    arguments = parser.parse_args()
    cost = costs(arguments.rounds)
    one_by_one = per_second(1, arguments.seconds, share=2 * LARGE)  # all wait for one row, so more are not faster
    ahead = per_second(arguments.threads, arguments.seconds, share=slice_module.SHARE)
    more = cost["exact"] - cost["quota"]
    print(f"a request under a quota: {cost['quota']:.2f} us; exact: {cost['exact']:.2f} us, {more:+.2f} us")
    print(f"{one_by_one:,.0f} requests/s one by one, {ahead:,.0f} with slices: {ahead / one_by_one:.0f} times as many")
    return 0 if more <= MICROSECONDS and ahead >= TIMES * one_by_one else 1


if __name__ == "__main__":
    sys.exit(main())
