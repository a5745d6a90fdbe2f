"""A double of the providers: a real HTTP server on loopback that answers with bodies made by us."""

from __future__ import annotations

import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from guard import GUARD
from provider_bodies import (
    CHAT,
    CHAT_STREAM,
    CHAT_STREAM_WITHOUT_USAGE,
    EMBEDDINGS,
    GEMINI,
    GEMINI_STREAM,
    MESSAGE,
    MESSAGE_STREAM,
    RESPONSE,
    RESPONSE_STREAM,
)

JSON, EVENTS = "application/json", "text/event-stream"


class ProviderServer:
    """
    Answers as the providers do, as far as their clients look.

    Attributes:
        requests: Path, headers and body of each request.
        failing: Statuses with which the next requests are answered.
        breaks: Text before which a streamed body breaks off; None for none.
        compresses: Whether bodies that are no streams are compressed.
    """

    def __init__(self):  # noqa: C901 - the handler is in here
        self.reset()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                """Nothing is written to stderr."""

            def do_GET(self):
                self._send(200, JSON, json.dumps(RESPONSE).encode())

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or b"{}")
                outer.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
                if outer.failing:
                    self._send(
                        outer.failing.pop(0), JSON, b'{"error": {"message": "busy"}, "usage": {"prompt_tokens": 7}}'
                    )
                    return
                status, kind, answer = outer.answer(self.path.partition("?")[0], body)
                if kind == EVENTS:
                    self._stream(answer)
                else:
                    self._send(status, kind, answer)

            def _send(self, status, kind, body):
                self.send_response(status)
                self.send_header("content-type", kind)
                if outer.compresses:
                    body = gzip.compress(body)
                    self.send_header("content-encoding", "gzip")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def _stream(self, body):
                self.send_response(200)
                self.send_header("content-type", EVENTS)
                self.send_header("transfer-encoding", "chunked")
                self.end_headers()
                if outer.breaks is not None:
                    body = body[: body.index(outer.breaks)]
                try:
                    for at in range(0, len(body), 50):
                        part = body[at : at + 50]
                        self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
                    if outer.breaks is None:
                        self.wfile.write(b"0\r\n\r\n")
                except OSError:
                    pass
                self.close_connection = outer.breaks is not None

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def reset(self):
        """Forget what a test has seen and set."""
        self.requests = []
        self.failing = []
        self.breaks = None
        self.compresses = False

    def answer(self, path, body):
        streams = body.get("stream") is True
        if path.endswith("/chat/completions"):
            if streams:
                told = (body.get("stream_options") or {}).get("include_usage")
                return 200, EVENTS, CHAT_STREAM if told else CHAT_STREAM_WITHOUT_USAGE
            return 200, JSON, json.dumps(CHAT).encode()
        if path.endswith("/responses"):
            return (200, EVENTS, RESPONSE_STREAM) if streams else (200, JSON, json.dumps(RESPONSE).encode())
        if path.endswith("/messages"):
            return (200, EVENTS, MESSAGE_STREAM) if streams else (200, JSON, json.dumps(MESSAGE).encode())
        if path.endswith(":generateContent"):
            return 200, JSON, json.dumps(GEMINI).encode()
        if path.endswith(":streamGenerateContent"):
            return 200, EVENTS, GEMINI_STREAM
        if path.endswith("/embeddings"):
            return 200, JSON, json.dumps(EMBEDDINGS).encode()
        return 200, JSON, b"{}"

    def close(self):
        self.server.shutdown()
        self.thread.join(GUARD)
        self.server.server_close()
