"""
Forks workers, as fast as they can be killed: each serves requests under an exact quota without a pause.

Answers each line that it reads with the pid of the one that it forked. The workers share a directory, so one of them
flushes, or has a child that does, and the others hand over to it. They write ``.`` for each response that is complete
and ``x`` for each that is refused to the descriptor that is the last argument.
"""

from __future__ import annotations

import os
import signal
import sys

from killed_kit import kit
from plain_exchange import PlainExchange

told = int(sys.argv[1])


def serve_for_ever() -> None:
    while True:
        exchange = PlainExchange("GET", "/")
        exchange.publish(kit)
        refusal = kit.governor.check(exchange)
        if refusal is None:
            exchange.status = 200
            kit.recorder.close(exchange)
        else:
            kit.recorder.refuse(exchange)
        os.write(told, b"." if refusal is None else b"x")


signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that are killed
for _ in sys.stdin:
    pid = os.fork()
    if pid == 0:
        serve_for_ever()
    print(pid, flush=True)
