"""The shop on a real server, in a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import httpx
import shop
from guard import GUARD

import meterkit

SERVERS = {
    "flask": ["gunicorn", "--threads", "4", "--bind", "fd://{fd}", "shop:flask()"],
    "django": ["gunicorn", "--threads", "4", "--bind", "fd://{fd}", "shop:django()"],
    "fastapi": ["uvicorn", "--fd", "{fd}", "--factory", "shop:fastapi"],
}


def environment_of_shop(stripe, directory):
    """What a process of the shop finds in its environment."""
    paths = [Path(__file__).parent, Path(meterkit.__file__).parent.parent]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "SHOP_SANDBOX": stripe.url,
        "STRIPE_SECRET_KEY": stripe.api_key,
        "METERKIT_DATA_DIR": str(directory / "data"),
        "XDG_RUNTIME_DIR": str(directory),  # gunicorn's control socket
    }


@contextmanager
def shop_on(framework, stripe, directory):
    """Serve the shop on a framework, with meters and prices in the account, and webhooks on their way; its URL."""
    kit = shop.make_kit(base=stripe.url, stripe_key=stripe.api_key, data_dir=directory / "own")
    kit.provision()
    kit.close()
    environment = environment_of_shop(stripe, directory)
    module, *arguments = SERVERS[framework]
    log = directory / "server.log"
    with socket.create_server(("127.0.0.1", 0)) as listener, log.open("wb") as output:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        process = subprocess.Popen(
            [sys.executable, "-m", module, *(word.format(fd=listener.fileno()) for word in arguments)],
            cwd=directory,
            env=environment,
            pass_fds=[listener.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        assert httpx.get(f"{url}/login", timeout=GUARD).status_code == 200
        stripe.webhooks.send_to(f"{url}/stripe/webhook", secret=shop.WEBHOOK_SECRET)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(GUARD)
        finally:
            process.kill()
            print(log.read_text(errors="replace"))  # for the report of a test that fails
