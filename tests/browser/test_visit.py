"""What the visits of the other tests hear of: a page that does what its policy forbids fails them."""

from __future__ import annotations

import http.server
import threading
from contextlib import contextmanager

import pytest
from guard import GUARD
from visit import Visit

POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'"


@contextmanager
def page_with(body):
    """The URL of a server of one page, under a strict policy."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            found = {"/": body, "/own.js": "window.ran = 1;"}.get(self.path)
            self.send_response(200 if found is not None else 204)
            self.send_header("Content-Security-Policy", POLICY)
            self.send_header("Content-Type", "text/javascript" if self.path == "/own.js" else "text/html")
            self.end_headers()
            self.wfile.write((found or "").encode())

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(GUARD)
        server.server_close()


@pytest.mark.parametrize(
    ("body", "directive"),
    [
        ("<p>Hello</p><script>window.ran = 1;</script>", "script-src"),
        ('<p style="color: red">Hello</p>', "style-src"),
        ("<style>p { color: red }</style><p>Hello</p>", "style-src"),
        ('<p>Hello</p><img src="https://elsewhere.example/pixel.png">', "img-src"),
        ('<p>Hello</p><script src="https://elsewhere.example/chart.js"></script>', "script-src"),
        ('<p>Hello</p><script src="/own.js"></script><iframe src="/"></iframe>', "frame-src"),
    ],
)
def test_what_the_policy_forbids_is_heard(chromium, body, directive):
    with page_with(body) as url, Visit(chromium, url) as visit:
        with visit.page.expect_console_message(lambda message: "the policy forbids" in message.text):
            visit.open("/")
        with pytest.raises(AssertionError, match=directive):
            visit.check()

        assert any("the policy forbids" in error and directive in error for error in visit.errors)


def test_an_error_of_a_script_is_heard(chromium):
    with page_with('<p>Hello</p><script src="/none.js"></script>') as url, Visit(chromium, url) as visit:
        visit.open("/")
        with visit.page.expect_event("pageerror"):
            visit.page.evaluate("setTimeout(() => { throw new Error('of ours') })")
        with pytest.raises(AssertionError, match="of ours"):
            visit.check()


def test_a_page_that_keeps_to_its_policy(chromium):
    with page_with('<p>Hello</p><script src="/own.js"></script>') as url, Visit(chromium, url) as visit:
        assert "Hello" == visit.open("/")
        assert 1 == visit.page.evaluate("window.ran")
        visit.check()
