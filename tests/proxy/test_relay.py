"""What a client gets through the proxy, what the app gets, and what is billed."""

from __future__ import annotations

import socket
import ssl
import struct
from contextlib import suppress

import pytest
import trustme
from guard import GUARD, tries
from proxy_ends import OK, answering, ask, connect, get
from thorough import first

from meterkit import ConfigurationError, Governance, Meter, Quota, llm, response_json
from meterkit.proxy import Proxy


def lines(request):
    """The header lines of a request."""
    return request.partition(b"\r\n\r\n")[0].split(b"\r\n")


def test_a_request_and_its_response_pass_unchanged(raw_app, proxied):
    """Path, query, header values and body byte for byte; duplicates in order; what each connection has, not."""
    answer = (
        b"HTTP/1.1 201 Made\r\nSet-Cookie: a=1; Path=/\r\nX-Odd: \xff\xfe\r\nSet-Cookie: b=2\r\nServer: theirs\r\n"
        b"Connection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nContent-Length: 5\r\n\r\n\x00\xffabc"
    )
    app = raw_app(answering(answer))
    through = proxied(app)
    request = get(
        b"/a%2Fb//c;d=1/%zz?x=%20&&y=+?/#"[:-2],
        b"X-Twice: 1",
        b"X-Twice: 2",
        b"X-Latin: \xe9",
        b"Content-Length: 4",
        method=b"POST",
        body=b"\x00\x01\r\n",
    )

    got = ask(through.port, request)

    head, _, body = app.requests[0].partition(b"\r\n\r\n")
    assert b"POST /a%2Fb//c;d=1/%zz?x=%20&&y=+? HTTP/1.1" == head.split(b"\r\n")[0]
    assert [b"x-twice: 1", b"x-twice: 2"] == [each for each in lines(head) if each.startswith(b"x-twice")]
    assert b"x-latin: \xe9" in lines(head)
    assert b"host: api.example" in lines(head)
    assert b"content-length: 4" in lines(head)
    assert b"via: 1.1 meterkit" in lines(head)
    assert not any(each.startswith((b"connection", b"transfer-encoding")) for each in lines(head))
    assert b"\x00\x01\r\n" == body
    head, _, body = got.partition(b"\r\n\r\n")
    assert [
        b"HTTP/1.1 201 Created",
        *(b"Set-Cookie: a=1; Path=/", b"X-Odd: \xff\xfe", b"Set-Cookie: b=2", b"Server: theirs"),
        *(b"Content-Length: 5", b"Connection: close"),
    ] == head.split(b"\r\n")
    assert b"\x00\xffabc" == body
    assert {("calls", "acme"): 1} == through.counted()


BODILESS = {
    "204": (b"GET", b"", b"HTTP/1.1 204 No Content\r\nX-A: 1", b""),
    "304": (b"GET", b"", b"HTTP/1.1 304 Not Modified\r\nETag: x", b"\r\nContent-Length: 9"),
    "head": (b"HEAD", b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9", b""),
    "redirect": (b"GET", b"", b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0", b""),
    "early": (b"GET", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 0", b""),
}
"""The method, what comes before the response, the response, and what of it does not pass."""


@pytest.mark.parametrize("name", first(["304"], among=BODILESS))
def test_responses_without_a_body(raw_app, proxied, name):
    """They have none for the client, and the connection to the app serves the next request."""
    method, before, expected, dropped = BODILESS[name]
    app = raw_app(answering(before + expected + dropped + b"\r\n\r\n"))
    through = proxied(app)

    assert expected + b"\r\nConnection: close\r\n\r\n" == ask(through.port, get(method=method))
    ask(through.port, get(method=method))
    assert 1 == app.connections


def test_chunked_bodies_pass_in_both_directions(raw_app, proxied):
    """A chunked request is one for the app; a chunked response arrives whole."""
    app = raw_app(answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"))
    through = proxied(app)

    got = ask(
        through.port, get(b"/", b"Transfer-Encoding: chunked", method=b"POST", body=b"2\r\nxy\r\n1\r\nz\r\n0\r\n\r\n")
    )

    head, _, body = app.requests[0].partition(b"\r\n\r\n")
    assert 1 == lines(head).count(b"transfer-encoding: chunked")
    assert b"xyz" == b"".join(body.split(b"\r\n")[1::2])[:3]
    assert got.endswith(b"\r\n\r\n5\r\nabcde\r\n0\r\n\r\n")


def test_a_response_that_ends_with_its_connection(raw_app, proxied):
    """As from HTTP/1.0: it is whole when the app closes."""

    def answer(app, connection):
        app.read(connection)
        connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nabc")

    through = proxied(raw_app(answer))

    assert ask(through.port, get()).endswith(b"3\r\nabc\r\n0\r\n\r\n")
    assert {("calls", "acme"): 1} == through.counted()


def test_events_arrive_one_by_one(raw_app, proxied):
    """The client has each event before the app sends the next one."""
    received = []

    def answer(app, connection):
        app.read(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number in range(3):
            connection.sendall(b"9\r\ndata: %d\n\n\r\n" % number)
            app.wait(lambda number=number: len(received) > number)
        connection.sendall(b"0\r\n\r\n")

    app = raw_app(answer)
    through = proxied(app)
    with connect(through.port) as client:
        client.sendall(get())
        data = b""
        for number in range(3):
            while b"data: %d" % number not in data:
                data += client.recv(4096)
            with app.more:
                received.append(number)
                app.more.notify_all()
        while not data.endswith(b"0\r\n\r\n"):
            data += client.recv(4096)
    assert {("calls", "acme"): 1} == through.counted()


def test_a_client_that_leaves_ends_the_apps_connection(raw_app, proxied):
    """At once; what was begun counts, as without a proxy."""

    def answer(app, connection):
        app.read(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        assert b"" == connection.recv(1)

    app = raw_app(answer)
    through = proxied(app)
    with connect(through.port) as client:
        client.sendall(get())
        data = b""
        while b"\r\n\r\n1\r\na" not in data:
            data += client.recv(4096)
    app.wait(lambda: app.ended == 1)

    for _ in tries(lambda: str(through.counted())):
        if through.counted():
            break
    assert {("calls", "acme"): 1} == through.counted()


BROKEN = {
    "too short": b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
    "chunk missing": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    "chunk wrong": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nxyz\r\n",
}


@pytest.mark.parametrize("name", first(["chunk missing"], among=BROKEN))
@pytest.mark.parametrize("resets", first([False], among=[False, True]))
def test_a_broken_response_is_broken_for_the_client_and_free(raw_app, proxied, name, resets):
    """It never looks complete, is not billed, and is told."""

    def breaking(app, connection):
        app.read(connection)
        connection.sendall(BROKEN[name])
        if resets:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    through = proxied(raw_app(breaking), Meter("calls"), Meter("errors", status="5xx"))

    got = ask(through.port, get())

    if got.startswith(b"HTTP/1.1 200"):
        body = got.partition(b"\r\n\r\n")[2]
        assert len(body) < 10
        assert not body.endswith(b"0\r\n\r\n")
        assert "upstream_broken" in through.problems()
    else:  # the reset has overtaken the head
        assert got.startswith(b"HTTP/1.1 502")
    assert {("errors", "acme"): 1} == through.counted()


GARBAGE = {
    "nothing": (b"", b"http_response_incomplete"),
    "no http": (b"hello\r\n\r\n", b"http_protocol_error"),
    "half a head": (b"HTTP/1.1 200 OK\r\nX: ", b"http_protocol_error"),
    "wrong status": (b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n", b"http_protocol_error"),
    "two lengths": (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", b"http_protocol_error"),
    "a new line": (b"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 0\r\n\r\n", b"http_protocol_error"),
    "switched": (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", b"http_protocol_error"),
    "endless head": (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000, b"http_protocol_error"),
}


@pytest.mark.parametrize("name", first(["nothing", "endless head"], among=GARBAGE))
def test_an_app_that_answers_nonsense(raw_app, proxied, name):
    """The client gets a 502 that says so, which is free, and the log has it."""
    answer, error = GARBAGE[name]

    def answers(app, connection):
        app.read(connection)
        connection.sendall(answer)

    through = proxied(raw_app(answers))
    got = ask(through.port, get())

    assert got.startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
    assert b"proxy-status: meterkit; error=" + error in got
    assert b'"detail": "The service behind this proxy sent no valid response."' in got
    assert "upstream_invalid" in through.problems()
    assert {} == through.counted()


def test_an_app_that_is_not_there(proxied):
    """A 502, and the next request is served once it is there."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    through = proxied(f"http://127.0.0.1:{port}")

    got = ask(through.port, get())

    assert got.startswith(b"HTTP/1.1 502")
    assert b"error=connection_refused" in got
    assert f"{port}".encode() not in got
    assert "upstream_unreachable" in through.problems()
    assert {} == through.counted()


@pytest.mark.parametrize("sent", first([b""], among=[b"", b"HTTP/1.1 103 Early Hints\r\n\r\n", b"HTTP/1.1 200"]))
def test_an_app_that_does_not_begin(raw_app, proxied, sent):
    """A 504 after ``first_byte_timeout``, also if it sends something that is no response."""

    def hang(app, connection):
        app.read(connection)
        connection.sendall(sent)
        connection.recv(1)

    through = proxied(raw_app(hang), proxy={"first_byte_timeout": 0.05})
    got = ask(through.port, get())

    assert got.startswith(b"HTTP/1.1 504 Gateway Timeout\r\n")
    assert b"error=http_response_timeout" in got
    assert "upstream_timeout" in through.problems()
    assert {} == through.counted()


def test_an_app_that_stops_in_the_middle(raw_app, proxied):
    """The response is broken off after ``idle_timeout``, and free."""

    def hang(app, connection):
        app.read(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        connection.recv(1)

    through = proxied(raw_app(hang), proxy={"idle_timeout": 0.05})
    got = ask(through.port, get())

    assert got.endswith(b"\r\n\r\nabc")
    assert "idle_timeout" in through.problems()["upstream_broken"]["message"]
    assert {} == through.counted()


def test_a_client_that_stops_in_the_middle(raw_app, proxied):
    """It gets a 408, and the app's connection is closed."""
    app = raw_app()
    through = proxied(app, proxy={"idle_timeout": 0.05})

    got = ask(through.port, get(b"/", b"Content-Length: 10", method=b"POST", body=b"abc"))

    assert got.startswith(b"HTTP/1.1 408")
    app.wait(lambda: app.ended == 1)
    assert {} == through.counted()


def test_a_response_may_come_before_the_request_is_complete(raw_app, proxied):
    """The client has it at once, and may stop sending."""

    def refuse(app, connection):
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        while connection.recv(65536):
            pass

    through = proxied(raw_app(refuse))
    with connect(through.port) as client:
        client.sendall(get(b"/", b"Content-Length: 1000000", method=b"POST", body=b"abc"))
        data = b""
        while not data.endswith(b"big"):
            data += client.recv(4096)
    assert data.startswith(b"HTTP/1.1 413")


def test_a_connection_that_the_app_has_closed_is_not_used(raw_app, proxied):
    """Nor one on which it has sent something that nobody asked for."""

    def once(app, connection):
        app.read(connection)
        connection.sendall(OK)

    def chatty(app, connection):
        app.read(connection)
        connection.sendall(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        connection.recv(1)

    for behaviour in (once, chatty):
        app = raw_app(behaviour)
        through = proxied(app)
        for number in range(1, 6):
            assert ask(through.port, get(method=b"POST")).endswith(b"\r\n\r\nok")
            # No proxy can know of what is closed a moment later.
            app.wait(lambda app=app, number=number: app.ended == number)
        assert 5 == app.connections


def test_a_connection_on_which_the_app_speaks_unasked_is_closed(raw_app, proxied):
    """Or what it says would be taken for the next response."""
    go = []

    def chatty(app, connection):
        app.read(connection)
        connection.sendall(OK)
        app.wait(lambda: go)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        connection.recv(1)

    app = raw_app(chatty)
    through = proxied(app)
    assert ask(through.port, get()).endswith(b"ok")
    with app.more:
        go.append(1)
        app.more.notify_all()
    app.wait(lambda: app.ended == 1)
    assert ask(through.port, get()).endswith(b"ok")
    assert 2 == app.connections


@pytest.mark.parametrize(("method", "status", "requests"), [(b"GET", b"200", 3), (b"POST", b"502", 2)])
def test_a_request_is_repeated_only_where_that_is_harmless(raw_app, proxied, method, status, requests):
    """The app closes a kept connection when it is used: what may have been done is not done again."""

    def closing(app, connection):
        app.read(connection)
        connection.sendall(OK)
        if app.connections == 1:
            app.read(connection)
            return
        app.read(connection)

    app = raw_app(closing)
    through = proxied(app)
    assert ask(through.port, get()).endswith(b"ok")

    assert ask(through.port, get(method=method)).startswith(b"HTTP/1.1 " + status)
    assert requests == len(app.requests)


def test_more_requests_than_connections(raw_app, proxied):
    """One beyond gets a 503 that says when to try again."""

    def hold(app, connection):
        app.read(connection)
        app.wait(lambda: len(app.requests) > 1)
        connection.sendall(OK)

    app = raw_app(hold)
    through = proxied(app, proxy={"max_connections": 1})
    with connect(through.port) as first:
        first.sendall(get())
        app.wait(lambda: len(app.requests) == 1)
        got = ask(through.port, get())
        assert got.startswith(b"HTTP/1.1 503")
        assert b"retry-after: 1" in got
        with app.more:
            app.requests.append(b"")
            app.more.notify_all()
        assert first.recv(4096).startswith(b"HTTP/1.1 200")


def test_the_meters_limits_and_headers_of_a_middleware(raw_app, proxied):
    """A quota blocks before the app is asked; a body's field counts; a page of the quota is told."""
    answer = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{"tokens": 7}'
    calls = Meter("calls", path="/v1/*")
    app = raw_app(answering(answer))
    through = proxied(
        app,
        calls,
        Meter("tokens", path="/v1/*", value=response_json("tokens")),
        Meter("sent", path="/v1/*", value="response_bytes"),
        governance=Governance(quotas=[Quota(calls, 2)], rate_limit_headers=True),
        stripe_key="sk_test_x",
    )
    answers = []
    for _ in range(3):
        answers.append(ask(through.port, get(b"/v1/x")))
        through.kit.flush()

    assert [b"200", b"200", b"429"] == [each.split()[1] for each in answers]
    assert b"ratelimit: " in answers[1].lower()
    assert 2 == len(app.requests)
    assert {("calls", "acme"): 2, ("tokens", "acme"): 14, ("sent", "acme"): 26} == through.counted()


def test_the_tokens_of_a_streamed_answer(raw_app, proxied):
    """Are read from the events that pass, which the client gets as they are."""
    body = (
        b'data: {"choices": [1]}\n\ndata: {"usage": {"prompt_tokens": 5, "completion_tokens": 2}}\n\ndata: [DONE]\n\n'
    )
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    pieces = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:40], body[40:]))
    app = raw_app(answering(head + pieces + b"0\r\n\r\n"))
    tokens = [Meter("in", value=llm.tokens(*llm.INPUT)), Meter("out", value=llm.tokens(*llm.OUTPUT))]
    through = proxied(app, *tokens)
    got = ask(through.port, get(b"/v1/chat/completions"))

    assert b"[DONE]" in got
    assert {("in", "acme"): 5, ("out", "acme"): 2} == through.counted()


def test_usage_that_the_app_tells(raw_app, proxied):
    """In headers, which the client does not see, and in trailers; a client's own are nothing to the app."""
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
    app = raw_app(
        answering(
            b"HTTP/1.1 200 OK\r\nX-Meterkit-Usage: tokens=12, rows=3\r\nx-meterkit-usage: tokens=1\r\n"
            b"Content-Length: 2\r\n\r\nok",
            chunked + b"\r\n2\r\nok\r\n0\r\nX-Meterkit-Usage: tokens=100\r\n\r\n",
            chunked + b"X-Meterkit-Usage: tokens=1.5, nonsense, rows=-1\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            b"HTTP/1.1 500 No\r\nX-Meterkit-Usage: tokens=5\r\nContent-Length: 2\r\n\r\nno",
        )
    )
    meters = (Meter("tokens", value="tokens"), Meter("rows", value="rows"))
    through = proxied(app, *meters, proxy={"usage_headers": True, "company_header": True})
    forged = [b"X-Meterkit-Usage: tokens=999", b"X-Meterkit-Company: globex", b"X_Meterkit_Company: globex"]

    answers = [ask(through.port, get(b"/", *forged)) for _ in range(4)]

    assert not any(b"usage" in each.lower() for each in answers)
    assert [[b"x-meterkit-company: acme"]] * 4 == [
        [line for line in lines(each) if b"meterkit" in line and not line.startswith(b"via")] for each in app.requests
    ]
    assert {("tokens", "acme"): 113, ("rows", "acme"): 3} == through.counted()
    assert 3 == through.problems()["usage_header_invalid"]["count"]


def test_values_that_the_app_tells(raw_app, proxied):
    """After the quantity, as many as there are dimensions; a name that the arguments of add_usage() have is unknown."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Meterkit-Usage: "
    values = (
        b"tokens=5;model=small;kind=input, tokens=2; model=small ;kind=output",
        b"tokens=1",
        b"tokens=3;model=large;quantity=7",
        b"tokens=9;model, tokens=9;=small",
    )
    app = raw_app(answering(*[head + value + b"\r\n\r\nok" for value in values]))
    meter = Meter("tokens", value="tokens", by=("model", "kind"))
    through = proxied(app, meter, proxy={"usage_headers": True})
    for _ in values:
        ask(through.port, get(b"/"))
    through.counted()

    found = {tuple(row.values.values()): row.quantity for row in through.kit.usage(by=("model", "kind"))}
    assert {("small", "input"): 5, ("small", "output"): 2, ("", ""): 1, ("large", ""): 3} == found
    assert 2 == through.problems()["usage_header_invalid"]["count"]


def test_without_being_asked_the_app_is_believed_nothing(raw_app, proxied):
    """Its header passes like any other, and counts nothing."""
    app = raw_app(answering(b"HTTP/1.1 200 OK\r\nX-Meterkit-Usage: tokens=12\r\nContent-Length: 2\r\n\r\nok"))
    through = proxied(app, Meter("tokens", value="tokens"))

    assert b"X-Meterkit-Usage: tokens=12" in ask(through.port, get(b"/", b"X-Meterkit-Company: globex"))
    assert {} == through.counted()
    assert b"globex" not in app.requests[0]


FORGED = [
    *(b"X-Forwarded-For: 1.2.3.4", b"X-Forwarded-Proto: https", b"X-Forwarded-Host: evil", b"X_Forwarded_For: 9.9.9.9"),
    *(b"Forwarded: for=1.2.3.4", b"X-Real-IP: 1.2.3.4", b"Via: 1.0 fred"),
]


def test_a_client_cannot_forge_where_it_comes_from(raw_app, proxied):
    """What a client says is replaced; what a trusted front server says is kept, and added to."""
    app = raw_app()
    asked = get(b"/", *FORGED)
    ask(proxied(app).port, asked)
    ask(proxied(app, proxy={"trust_forwarded": True, "rewrite_host": True}).port, asked)

    def said(request):
        return [
            each
            for each in lines(request)
            if each.startswith((b"x-f", b"x_f", b"forwarded", b"x-real", b"via", b"host"))
        ]

    assert [
        *(b"host: api.example", b"via: 1.0 fred", b"x-forwarded-for: 127.0.0.1", b"x-forwarded-proto: http"),
        *(b"x-forwarded-host: api.example", b"via: 1.1 meterkit"),
    ] == said(app.requests[0])
    assert [
        *(b"host: 127.0.0.1:%d" % app.port, b"x-forwarded-proto: https", b"x-forwarded-host: evil"),
        *(b"forwarded: for=1.2.3.4", b"x-real-ip: 1.2.3.4", b"via: 1.0 fred"),
        *(b"x-forwarded-for: 1.2.3.4, 127.0.0.1", b"via: 1.1 meterkit"),
    ] == said(app.requests[1])


def test_an_underscore_cannot_hide_a_key(raw_app, proxied):
    """An app would take ``X_Api_Token`` for the key that meterkit has not seen."""
    app = raw_app()
    request = get(b"/", b"X_Api_Token: globex")
    ask(proxied(app).port, request)
    ask(proxied(app, proxy={"pass_underscores": True}).port, request)

    assert [False, True] == [b"x_api_token: globex" in each for each in app.requests]


AMBIGUOUS = [
    *(b"/v1/../v1/query", b"/v1/./query", b"/v1/%2e%2E/query", b"/v1/query/..", b"/v1\\query", b"/v1/query#x"),
    *(b"http://x/v1/query", b"v1/query", b"*"),
]


@pytest.mark.parametrize("path", first([b"/v1/%2e%2E/query"], among=AMBIGUOUS))
def test_a_path_that_apps_read_differently_is_refused(raw_app, proxied, path):
    """It could lead past a meter or a limit."""
    app = raw_app()
    through = proxied(app)

    assert b"400" == ask(through.port, get(path)).split()[1]
    assert [] == app.requests
    assert {} == through.counted()


SMUGGLED = {
    "length and chunked": b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /evil HTTP/1.1\r\n\r\n",
    "chunked twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "gzip, chunked": b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "identity": b"Transfer-Encoding: identity\r\nContent-Length: 1\r\n\r\nx",
    "lengths": b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
    "length, plus": b"Content-Length: +3\r\n\r\nabc",
    "hosts": b"Host: evil\r\n\r\n",
    "keys": b"X-Api-Key: globex\r\n\r\n",
    "keys, underscores": b"X_Api_Key: globex\r\n\r\n",
    "authorization": b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n",
    "null": b"X-A: a\x00b\r\n\r\n",
    "bare return": b"X-A: a\rX-B: b\r\n\r\n",
}


@pytest.mark.parametrize("name", first(["length and chunked"], among=SMUGGLED))
def test_no_request_is_smuggled(raw_app, proxied, name):
    """What two servers could read differently never reaches the app."""
    app = raw_app()
    through = proxied(app)

    got = ask(through.port, b"POST / HTTP/1.1\r\nHost: x\r\nX-Api-Key: acme\r\nConnection: close\r\n" + SMUGGLED[name])

    assert got.split()[1] in (b"400", b"501")
    assert [] == app.requests
    assert {} == through.counted()


def test_a_folded_header_is_one_line(raw_app, proxied):
    """Two servers could read it differently; the app gets one line."""
    app = raw_app()
    got = ask(proxied(app).port, get(b"/", b"X-A: a\r\n X-Api-Key: globex"))

    assert b"200" == got.split()[1]
    assert b"x-a: a X-Api-Key: globex" in lines(app.requests[0])


@pytest.mark.long
def test_a_large_download_is_never_held(raw_app, proxied):
    """A client that does not read stops the app: only what buffers hold is on the way."""
    size = 64 << 20
    sent, go = [0], []

    def answer(app, connection):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        app.read(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        piece = b"x" * 65536
        connection.settimeout(0.3)
        try:
            while sent[0] < size:
                sent[0] += connection.send(piece)
        except TimeoutError:
            pass
        with app.more:
            go.append(sent[0])
            app.more.notify_all()
        connection.settimeout(GUARD)
        while sent[0] < size:
            sent[0] += connection.send(piece[: size - sent[0]])

    app = raw_app(answer)
    through = proxied(app, Meter("calls"), Meter("bytes", value="response_bytes"))
    with connect(through.port) as client:
        client.sendall(get())
        app.wait(lambda: go)
        received = 0
        while piece := client.recv(1 << 20):
            received += len(piece)

    assert go[0] < size / 2
    assert received > size
    assert {("calls", "acme"): 1, ("bytes", "acme"): size} == through.counted()


@pytest.mark.long
def test_an_app_with_a_certificate(raw_app, proxied):
    """It is verified: by those whom the machine trusts, or by the context that is given."""
    authority = trustme.CA()
    of_server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(of_server)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)

    def secure(app, connection):
        with of_server.wrap_socket(connection, server_side=True) as encrypted:
            answering(OK)(app, encrypted)

    url = raw_app(secure).url.replace("http://127.0.0.1", "https://localhost")

    trusted, strange = proxied(url, proxy={"tls": trusting}), proxied(url)
    assert ask(trusted.port, get()).endswith(b"ok")
    assert b"error=tls_certificate_error" in ask(strange.port, get())
    assert "certificate" in strange.problems()["upstream_unreachable"]["message"]
    assert {("calls", "acme"): 1} == trusted.counted()


def test_no_connection_is_kept_if_none_shall_be(raw_app, proxied):
    """Each request has its own."""
    app = raw_app()
    through = proxied(app, proxy={"keep_alive": 0})
    for _ in range(2):
        assert ask(through.port, get()).endswith(b"ok")
    assert 2 == app.connections


def test_an_app_on_a_unix_socket(raw_app, proxied, tmp_path):
    """Its path is the upstream; the app is asked for the client's host."""
    app = raw_app(path=tmp_path / "app.sock")
    through = proxied(app)

    assert ask(through.port, get()).endswith(b"ok")
    assert b"host: api.example" in lines(app.requests[0])


def test_the_client_is_told_to_go_on(raw_app, proxied):
    """``Expect: 100-continue`` is answered here, and not passed on."""
    app = raw_app()
    through = proxied(app)
    with connect(through.port) as client:
        client.sendall(get(b"/", b"Expect: 100-continue", b"Content-Length: 3", method=b"PUT"))
        assert client.recv(4096).startswith(b"HTTP/1.1 100 ")
        client.sendall(b"abc")
        assert b"200 OK" in client.recv(4096)
    assert b"expect" not in app.requests[0]
    assert app.requests[0].endswith(b"abc")


@pytest.mark.parametrize(
    "upstream",
    [
        "",
        "127.0.0.1:3000",
        "ftp://x",
        "http://",
        "http://x/base",
        "http://u:p@x",
        "http://x?a",
        "http://x:99999",
        "unix:app",
    ],
)
def test_an_upstream_that_is_none(upstream):
    """The message says what to write."""
    with pytest.raises(ConfigurationError, match="upstream"):
        Proxy(upstream)


@pytest.mark.parametrize("option", [{"idle_timeout": 0}, {"connect_timeout": "1"}, {"max_connections": 0}])
def test_a_wrong_option(option):
    """The message names it."""
    with pytest.raises(ConfigurationError, match=next(iter(option))):
        Proxy("http://x", **option)


@pytest.mark.long
def test_a_large_upload_is_never_held(raw_app, proxied):
    """An app that does not read stops the client: only what buffers hold is on the way."""
    size = 64 << 20
    go, received = [], []

    def answer(app, connection):
        head = b""
        while b"\r\n\r\n" not in head:
            head += connection.recv(1024)
        app.wait(lambda: go)
        taken = len(head.partition(b"\r\n\r\n")[2])
        while taken < size:
            taken += len(connection.recv(1 << 20))
        received.append(taken)
        connection.sendall(OK)

    app = raw_app(answer)
    through = proxied(app, Meter("bytes", value="request_bytes"))
    with connect(through.port) as client:
        client.sendall(get(b"/", b"Content-Length: %d" % size, method=b"POST"))
        sent, piece = 0, b"x" * 65536
        client.settimeout(0.3)
        with suppress(TimeoutError):
            while sent < size:
                sent += client.send(piece)
        stopped_at = sent
        client.settimeout(GUARD)
        with app.more:
            go.append(1)
            app.more.notify_all()
        while sent < size:
            sent += client.send(piece[: size - sent])
        assert b"200 OK" in client.recv(4096)

    assert stopped_at < size / 2
    assert [size] == received
    assert {("bytes", "acme"): size} == through.counted()
