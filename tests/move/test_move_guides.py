"""The guides that lead from other billers to meterkit run as they stand, with the real packages of the others."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from guard import GUARD

GUIDES = Path(__file__).parents[2] / "docs" / "move"
NEEDS = {
    "moesif.md": ["moesifwsgi", "moesifasgi"],
    "redis-celery.md": ["redis"],
    "usagerail.md": ["usagerail"],
}
"""Packages that the blocks of a guide need that are marked as ``py``; the others run with all docs, too."""

IS_REQUIRED = os.environ.get("METERKIT_GUIDES") == "required"

pytestmark = pytest.mark.long


def missing(why):
    """Skip what this machine does not have, or fail where it has to."""
    if IS_REQUIRED:
        pytest.fail(why)
    pytest.skip(why)


def run(guide, tmp_path, **environment):
    """Run all Python blocks of a guide, one after the other, in a process of their own."""
    for name in NEEDS[guide]:
        if importlib.util.find_spec(name) is None:
            missing(f"pip install {name}")
    blocks = re.findall(r"^```(?:py|python)\n(.*?)^```$", (GUIDES / guide).read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) > 2
    script = tmp_path / "guide.py"
    script.write_text("\n\n".join(blocks))
    done = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=GUARD,
        check=False,
    )
    assert done.returncode == 0, done.stderr


class Collector(BaseHTTPRequestHandler):
    """Takes whatever a vendor's SDK sends to its service, as far as a guide needs it."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        """Nothing is configured there."""
        self._answer({})

    def do_POST(self):
        """Take it."""
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._answer({})

    def _answer(self, said):
        body = json.dumps(said).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def collector():
    """Its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def redis_url(tmp_path):
    """The URL of a real Redis server."""
    program = shutil.which("redis-server")
    if program is None:
        missing("apt-get install redis-server")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [program, "--port", str(port), "--save", "", "--dir", str(tmp_path), "--bind", "127.0.0.1"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
        while "Ready to accept connections" not in (line := server.stdout.readline()):
            assert line, "it has ended"
        yield f"redis://127.0.0.1:{port}"
        server.terminate()
        server.communicate()


def test_from_a_counter_in_redis(tmp_path, redis_url):
    """With a real Redis server."""
    run("redis-celery.md", tmp_path, REDIS_URL=redis_url)


@pytest.mark.parametrize("guide", ["moesif.md", "usagerail.md"])
def test_from_a_vendor(tmp_path, collector, guide):
    """With the vendor's own package, which sends to this machine."""
    run(guide, tmp_path, MOESIF_URL=collector, USAGERAIL_URL=collector)


def test_every_guide_is_tested():
    """Those without other packages run with all pages of the docs."""
    assert {path.name for path in GUIDES.glob("*.md")} == {*NEEDS, "stripe-in-views.md"}
