"""
Forks workers that take usage events, as fast as they can be killed; all listen on one socket.

Says the port first, and answers each line that it reads with the pid of the worker that it forked. The workers share a
directory, so one of them flushes, and the others hand over to it.
"""

from __future__ import annotations

import os
import signal
import socket
import sys

import uvicorn

from meterkit import Meter, MeterKit
from meterkit.service import Service

data_dir, now = sys.argv[1], float(sys.argv[2])
listening = socket.create_server(("127.0.0.1", 0), backlog=100)


def serve_for_ever() -> None:
    calls = Meter("calls", event_type="call", value="$.n", by="model")
    kit = MeterKit(meters=[calls], data_dir=data_dir, flush_interval=0.05, clock=lambda: now, customer_ids=True)
    app = Service(kit, keys={"shop": "the-secret-of-the-shop"})
    uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listening])


signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that are killed
print(listening.getsockname()[1], flush=True)
for _ in sys.stdin:
    pid = os.fork()
    if pid == 0:
        serve_for_ever()
        os._exit(0)
    print(pid, flush=True)
