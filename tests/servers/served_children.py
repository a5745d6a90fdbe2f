"""A program whose children, made by multiprocessing in the way that it is told, count and end as usual."""

from __future__ import annotations

import multiprocessing
import sys

from meterkit import Meter, MeterKit

kit = MeterKit(meters=[Meter("calls")], customer_ids=True, flush_interval=0.2)


def work(company: str) -> None:
    for _ in range(20):
        kit.record("calls", company)


if __name__ == "__main__":
    method, company, early = sys.argv[1:]
    kit.record("calls", early)  # so that a fork finds a journal and a thread
    context = multiprocessing.get_context(method)
    children = [context.Process(target=work, args=(company,)) for _ in range(3)]
    for child in children:
        child.start()
    kit.record("calls", early)
    for child in children:
        child.join()
    with context.Pool(2) as pool:
        pool.map(work, [company] * 4)
        pool.close()
        pool.join()
    sys.exit(any(child.exitcode for child in children))
