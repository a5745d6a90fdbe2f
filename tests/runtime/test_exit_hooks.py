"""How a process ends whose server takes the signals: as it would have without us, once what was counted is flushed."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from guard import GUARD, UNHURRIED

SCRIPT = f"""{UNHURRIED}
import asyncio, os, signal, sys, threading
import uvicorn
from meterkit import Meter, MeterKit
from meterkit.runtime import exit_hooks

exit_hooks.LAST_SECONDS = 300
before = sys.argv[2]
if before == "handled":
    signal.signal(signal.SIGTERM, lambda *_: (print("the app's own", flush=True), os._exit(7)))
kits = [
    MeterKit(meters=[Meter("calls")], data_dir=f"{{sys.argv[1]}}/{{number}}", flush_interval=3600) for number in (0, 1)
]

async def app(scope, receive, send):
    for kit in kits:
        kit.record("calls", "acme", 1)
    if before == "closed":
        for kit in kits:
            kit.close()
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": b""}})

class Server(uvicorn.Server):
    async def startup(self, sockets=None):
        await super().startup(sockets)
        port = self.servers[0].sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n")
        await reader.read()
        writer.close()
        os.kill(os.getpid(), getattr(signal, sys.argv[3]))

Server(uvicorn.Config(app, port=0, lifespan="off", log_level="critical")).run()
print("and on", flush=True)
threading.Event().wait()
"""


@pytest.mark.parametrize(
    ("before", "number", "ended"),
    [
        ("default", "SIGTERM", (-signal.SIGTERM, "")),
        ("closed", "SIGTERM", (-signal.SIGTERM, "")),
        ("handled", "SIGTERM", (7, "the app's own\n")),
    ],
)
def test_uvicorn_ends_as_ever(before: str, number: str, ended: tuple[int, str], tmp_path: Path) -> None:
    """By the signal that stopped it, or by the handler that the app had installed; all kits have flushed."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), before, number],
        check=False, capture_output=True, text=True, timeout=GUARD,
    )  # fmt: skip

    returned, printed = ended
    assert returned == done.returncode, done.stderr
    assert printed in ("", done.stdout.removeprefix("and on\n"))
    assert [] == [path for path in tmp_path.glob("*/journal/*") if path.suffix != ".lock"]
