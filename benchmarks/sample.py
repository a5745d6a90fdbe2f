"""
One process of one variant: reads how many requests to serve, and prints how many nanoseconds that took.

    python -m benchmarks.sample STACK VARIANT COMPANIES
"""

from __future__ import annotations

import logging
import os
import sys
import time

from benchmarks.stacks import STACKS
from benchmarks.variants import VARIANTS


def main(stack: str, variant: str, companies: str) -> None:
    """Serve until there is no more to read."""
    logging.disable(logging.CRITICAL)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # the kernel moves none of them amid a sample
    try:
        drive = STACKS[stack](VARIANTS[variant](), int(companies))
    except ImportError:  # a peer that is not installed
        drive = None
    print("none" if drive is None else "ready", flush=True)
    if drive is None:
        return
    for line in sys.stdin:
        times = int(line)
        begun = time.perf_counter_ns()
        drive(times)
        print(time.perf_counter_ns() - begun, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
