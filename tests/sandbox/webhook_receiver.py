"""An application's webhook endpoint: it verifies with stripe-python, and answers as it is told to."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import stripe


class Receiver:
    """A server in a thread, which keeps what it received."""

    def __init__(self):
        self.bodies, self.headers, self.answers = [], [], []
        self.came = threading.Event()
        self.on_body = lambda: None
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                receiver.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                receiver.headers.append(self.headers["Stripe-Signature"])
                receiver.on_body()
                self.send_response(receiver.answers.pop(0) if receiver.answers else 200)
                self.end_headers()
                receiver.came.set()

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def events(self, secret):
        """What came, verified."""
        return [
            stripe.Webhook.construct_event(body, header, secret, tolerance=None)
            for body, header in zip(self.bodies, self.headers, strict=True)
        ]
