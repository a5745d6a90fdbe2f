"""
A proxy in front of the sandbox that shows a kit what Stripe shows where the sandbox lacks it.

The kit talks to the proxy, and the sandbox goes on to bill. The proxy changes single fields of the objects in the
answers. It never changes what the kit sends.
"""

from __future__ import annotations

import http.client
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from guard import GUARD

HOP_BY_HOP = ("connection", "content-length", "host", "keep-alive", "transfer-encoding")


class RewritingProxy:
    """
    An HTTP proxy on the loopback; use it as a context manager, and give its `url` to the kit as ``stripe_base``.

    Args:
        sandbox: The sandbox that gets the requests.
    """

    def __init__(self, sandbox):
        self._target = urlsplit(sandbox.url)
        self._rewrites = []
        self._answers = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def url(self):
        """Its base URL."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._thread.join(GUARD)
        self._server.server_close()

    def rewrite(self, kind, change):
        """
        Change the objects of a kind in all answers from now on, inner objects first.

        Args:
            kind: Their ``object``: ``price``, ``subscription``, ``subscription_item``, ``invoice``, ...
            change: A function that changes such an object, a dict, in place; or a dict of fields to set.
        """
        self._rewrites.append((kind, change if callable(change) else lambda found: found.update(change)))

    def answer(self, method, path, status, body):
        """
        Answer the requests to a path from now on, instead of the sandbox.

        Args:
            method: ``GET``, ``POST`` or ``DELETE``.
            path: Its path, without the query.
            status: Status code.
            body: What to answer as JSON.
        """
        self._answers.insert(0, (method, path, status, body))

    def clear(self):
        """Show everything as it is again."""
        self._rewrites.clear()
        self._answers.clear()

    def _handler(proxy):
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, headers, answer = proxy._ask(self.command, self.path, body, dict(self.headers))
                self.send_response(status)
                for name, value in headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_POST = do_DELETE = handle_one

            def log_message(self, *_):
                pass

        return Handler

    def _ask(self, method, path, body, headers):
        for known_method, known_path, status, answer in self._answers:
            if (method, urlsplit(path).path) == (known_method, known_path):
                return status, [("Content-Type", "application/json")], json.dumps(answer).encode()
        connection = http.client.HTTPConnection(self._target.hostname, self._target.port, timeout=GUARD)
        try:
            kept = {name: value for name, value in headers.items() if name.lower() not in HOP_BY_HOP}
            connection.request(method, path, body=body, headers=kept)
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        found = [(name, value) for name, value in response.getheaders() if name.lower() not in HOP_BY_HOP]
        if self._rewrites and response.getheader("Content-Type", "").startswith("application/json"):
            decoded = json.loads(answer)
            self._walk(decoded)
            answer = json.dumps(decoded).encode()
        return response.status, found, answer

    def _walk(self, found):
        if isinstance(found, list):
            for each in found:
                self._walk(each)
        elif isinstance(found, dict):
            for each in list(found.values()):
                self._walk(each)
            for kind, change in self._rewrites:
                if found.get("object") == kind:
                    change(found)
