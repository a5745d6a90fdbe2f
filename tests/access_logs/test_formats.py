"""Formats of access logs: what each gateway writes, and what clients write into it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterkit.access_logs.formats.line import UnreadableError
from meterkit.access_logs.formats.named import BY_NAME, format_named, recognized
from meterkit.errors import ConfigurationError

AT = 1772367000  # 1 March 2026, 12:10 UTC
CLF = "01/Mar/2026:13:10:00 +0100"
ISO = "2026-03-01T12:10:00.123Z"

KONG = {
    "request": {
        "method": "POST",
        "uri": "/v1/items",
        "url": "http://localhost:8000/v1/items?a=1",
        "size": 138,
        "headers": {"x-company": "acme"},
    },
    "response": {"status": 201, "size": 827, "headers": {"content-length": "503"}},
    "consumer": {"username": "acme-user", "custom_id": "acme"},
    "latencies": {"request": 250, "kong": 5, "proxy": 245},
    "started_at": AT * 1000 + 123,
}
CADDY = {
    "level": "info",
    "ts": AT + 0.123,
    "logger": "http.log.access.log0",
    "msg": "handled request",
    "request": {
        "remote_ip": "::1",
        "proto": "HTTP/2.0",
        "method": "POST",
        "host": "localhost",
        "uri": "/v1/items?a=1",
        "headers": {"X-Company": ["acme"], "User-Agent": ['a"b']},
    },
    "bytes_read": 138,
    "user_id": "acme",
    "duration": 0.25,
    "size": 503,
    "status": 201,
    "resp_headers": {"Content-Type": ["text/plain"]},
}
TRAEFIK = {
    "ClientHost": "10.0.0.7",
    "ClientUsername": "acme",
    "DownstreamContentSize": 503,
    "DownstreamStatus": 201,
    "Duration": 250000000,
    "OriginStatus": 200,
    "RequestContentSize": 138,
    "RequestHost": "localhost",
    "RequestMethod": "POST",
    "RequestPath": "/v1/items?a=1",
    "request_X-Company": "acme",
    "time": ISO,
}
ENVOY = {
    "start_time": ISO,
    "method": "POST",
    "path": "/v1/items?a=1",
    "response_code": 201,
    "bytes_received": 138,
    "bytes_sent": 503,
    "duration": 250,
    "authority": "localhost",
}
NGINX_JSON = {
    "time_iso8601": "2026-03-01T13:10:00+01:00",
    "request": "POST /v1/items?a=1 HTTP/1.1",
    "status": "201",
    "body_bytes_sent": "503",
    "request_length": "138",
    "request_time": "0.250",
    "http_x_company": "acme",
    "remote_user": "acme",
}

LINES = {
    "common": f'10.0.0.7 - acme [{CLF}] "POST /v1/items?a=1 HTTP/1.1" 201 503',
    "combined": f'::1 - acme [{CLF}] "POST /v1/items?a=1 HTTP/1.1" 201 503 "-" "curl/8 \\x22x\\x22"',
    "vhost-combined": f'api.example:80 ::1 - acme [{CLF}] "POST /v1/items?a=1 HTTP/1.1" 201 503 "-" "a \\"b\\""',
    "kong": f'10.0.0.7 - acme [{CLF}] "POST /v1/items?a=1 HTTP/1.1" 201 503 "-" "curl" kong_request_id: "1a2b"',
    "traefik": f'10.0.0.7 - acme [{CLF}] "POST /v1/items?a=1 HTTP/1.1" 201 503 "-" "a "b"" 1 "items" "http://x" 250ms',
    "envoy": f'[{ISO}] "POST /v1/items?a=1 HTTP/1.1" 201 - 138 503 250 249 "-" "a "b"" "id" "localhost" "10.0.0.8:80"',
    "alb": (
        f"https {ISO} app/lb/50dc6c495c0c9188 10.0.0.7:2817 10.0.0.1:80 0.100 0.100 0.050 201 200 138 503 "
        '"POST https://www.example.com:443/v1/items?a=1 HTTP/1.1" "curl/7.46.0" ECDHE TLSv1.2 arn:aws:x/y '
        '"Root=1-58337281" "acme.example.com" "session-reused" 0 2026-03-01T12:09:59.000Z "forward" "-" "-" '
        '"10.0.0.1:80" "200" "-" "-"'
    ),
    "elb": (
        f"{ISO} my-loadbalancer 10.0.0.7:2817 10.0.0.1:80 0.100 0.100 0.050 201 200 138 503 "
        '"POST http://www.example.com:80/v1/items?a=1 HTTP/1.1" "curl/7.38.0" - -'
    ),
    "kong-json": json.dumps(KONG),
    "caddy": json.dumps(CADDY),
    "traefik-json": json.dumps(TRAEFIK),
    "envoy-json": json.dumps(ENVOY),
    "json": json.dumps(NGINX_JSON),
}


@pytest.mark.parametrize("name", LINES)
def test_what_a_gateway_writes(name):
    """Time, request, status, bytes and duration; and the format is recognized."""
    text = LINES[name].encode()
    line = BY_NAME[name].read(text)

    assert (AT, "POST", "/v1/items", "a=1", 201) == (int(line.at), line.method, line.path, line.query, line.status)
    assert (827 if name == "kong-json" else 503) == line.response_bytes
    assert line.request_bytes in (138, None)
    assert line.duration is None or 0.25 == round(line.duration, 6)
    assert name == recognized([text]).name


def test_what_names_a_company():
    """Headers in any case, the user, and fields with dots."""
    assert "acme" == BY_NAME["caddy"].read(LINES["caddy"].encode()).headers["X-Company"]
    assert "acme" == BY_NAME["json"].read(LINES["json"].encode()).headers["x-company"]
    assert "acme" == BY_NAME["traefik-json"].read(LINES["traefik-json"].encode()).headers["X-Company"]
    assert "acme.example.com" == BY_NAME["alb"].read(LINES["alb"].encode()).headers["host"]
    assert "acme" == BY_NAME["combined"].read(LINES["combined"].encode()).fields["remote_user"]


def test_haproxy():
    """The time is that of the host, when the request was accepted, and how long it took."""
    text = (
        b"Mar  1 12:10:00 localhost haproxy[14389]: 10.0.1.2:33317 [01/Mar/2026:12:10:00.655] http-in static/srv1 "
        b'10/0/30/69/109 200 2750 - - ---- 1/1/1/1/0 0/0 {acme|x#7Dy} {} "GET /v1/items?a=#22 HTTP/1.1"'
    )
    line = BY_NAME["haproxy"].read(text)

    assert ("/v1/items", 'a="', 200, 2750, 0.109) == (
        line.path,
        line.query,
        line.status,
        line.response_bytes,
        line.duration,
    )
    assert ("acme", "x}y") == (line.fields["request_capture_1"], line.fields["request_capture_2"])
    assert "haproxy" == recognized([text]).name


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/v1/a%20b", "/v1/a b"),
        ("/x/../v1/./search", "/v1/search"),
        ("/%2e%2e/v1/search", "/v1/search"),
        ("/v1/search#hidden", "/v1/search"),
        ("http://host/v1/search?x", "/v1/search"),
        ("http://host", "/"),
        ("/v1/%ff", "/v1/\N{REPLACEMENT CHARACTER}"),
        ("/v1/..", "/"),
        ("*", "*"),
    ],
)
def test_paths_are_what_apps_route(target, path):
    """Nobody hides a path with a dot or a fragment."""
    line = BY_NAME["common"].read(f'1.1.1.1 - - [{CLF}] "GET {target} HTTP/1.1" 200 5'.encode())

    assert path == line.path


@pytest.mark.parametrize("request_", ["-", "", "\\x16\\x03\\x01", "GET", "- - -"])
def test_what_is_no_request(request_):
    """A handshake in the clear, or a scan: the line can be read, and has no method."""
    assert "" == BY_NAME["common"].read(f'1.1.1.1 - - [{CLF}] "{request_}" 400 0'.encode()).method


OWN = (
    '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_user_agent" "$http_x_company"'
)
APACHE = r"%h %l %u %t \"%r\" %>s %b \"%{User-Agent}i\" \"%{X-Company}i\""


def nginx_writes(text):
    """A value as nginx escapes it."""
    return "".join(chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\x{byte:02X}" for byte in text.encode())


def apache_writes(text):
    """A value as Apache escapes it."""
    known = {0x22: '\\"', 0x5C: "\\\\", 0x0A: "\\n", 0x0D: "\\r", 0x09: "\\t", 0x08: "\\b", 0x0B: "\\v"}
    return "".join(known.get(byte, chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}") for byte in text.encode())


HOSTILE = [
    '" 200 5 "x" "globex',
    '\n10.0.0.7 - - [01/Mar/2026:12:10:00 +0000] "GET /v1/search HTTP/1.1" 200 5 "x" "globex"',
    'x [01/Mar/2026:12:10:00 +0000] "GET /v1/search HTTP/1.1" 200 5 "x" "globex',
    "\\",
    '\\"',
    "\\x22",
    "\x00\x7f\r\t",
    "é\N{SNOWMAN}",
    '", "http_x_company": "globex',
]


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize(("own", "writes"), [(OWN, nginx_writes), (APACHE, apache_writes)], ids=["nginx", "apache"])
def test_clients_cannot_write_into_the_line(hostile, own, writes):
    """Whatever is in the request, the agent and the user: it stays there, and the line is read."""
    said = writes(hostile)
    text = f'1.1.1.1 - {said} [{CLF}] "GET /v1/search?{said} HTTP/1.1" 200 7 "{said}" "acme"'
    line = format_named(own).read(text.encode())

    assert ("GET", 200, 7, "acme") == (line.method, line.status, line.response_bytes, line.headers["x-company"])
    assert hostile == line.headers["user-agent"]
    assert hostile == line.fields["remote_user"]


@given(st.text(max_size=60), st.text(max_size=60).filter(lambda text: text not in ("", "-")))
def test_any_agent_and_company(agent, company):
    """Read back as they were."""
    encodable = [text.encode("utf-8", "ignore").decode() for text in (agent, company)]
    for own, writes in ((OWN, nginx_writes), (APACHE, apache_writes)):
        said = [writes(text) for text in encodable]
        line = format_named(own).read(f'1.1.1.1 - - [{CLF}] "GET / HTTP/1.1" 200 7 "{said[0]}" "{said[1]}"'.encode())

        assert encodable == [line.fields["http_user_agent"], line.fields["http_x_company"]]


@pytest.mark.parametrize("writes", [nginx_writes, apache_writes])
@pytest.mark.parametrize("hostile", HOSTILE)
def test_json_with_escapes_of_text(hostile, writes):
    """In nginx without escape=json, and Apache: what a client chose stays where it is."""
    parts = [
        '"request": "GET / HTTP/1.1"',
        '"status": 200',
        f'"agent": "{writes(hostile)}"',
        '"http_x_company": "acme"',
    ]
    text = f'{{"time": "{CLF}", {", ".join(parts)}}}'

    try:
        line = BY_NAME["json"].read(text.encode())
    except UnreadableError:
        assert "\\v" in writes(hostile)
    else:
        assert ("acme", hostile) == (
            line.headers["x-company"],
            line.headers["user-agent"].encode("latin-1").decode()
            if not hostile.isascii()
            else line.headers["user-agent"],
        )


def test_a_key_that_is_there_twice():
    """A client has written into JSON that is not escaped: nobody is billed for it."""
    with pytest.raises(UnreadableError, match="twice"):
        BY_NAME["json"].read(b'{"time": 1, "request": "GET / HTTP/1.1", "status": 200, "c": "acme", "c": "globex"}')


@pytest.mark.parametrize(
    "text",
    [
        b"", b"{", b"{}", b"[]", b"null", b'{"a":' * 5000, b'{"status": NaN}', b'{"ts": 1e400, "status": 200}',
        b'{"request": {"uri": 5}, "status": {}}', b'{"RequestPath": 5, "Duration": "x"}', b'{"response_code": []}',
        b'{"request": {}, "response": {}, "started_at": 1}', b"\xff\xfe\x00", b'{"ts": "soon", "status": 200}',
        b'{"status": ' + b"9" * 5000 + b"}", b'{"request": {"uri": "/", "headers": 5}, "status": 200, "ts": -1}',
    ],
)  # fmt: skip
def test_what_is_nothing(text):
    """It is unreadable, for every format, and nothing else happens."""
    for format_ in BY_NAME.values():
        with pytest.raises(UnreadableError):
            format_.read(text)


@given(st.binary(max_size=300))
def test_any_bytes(data):
    """They are read, or unreadable."""
    for text in (data, b"{" + data + b"}", LINES["combined"].encode()[:40] + data, data.join([b'"', b'"'])):
        recognized([text])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("$remote_addr $status $http_x_company", "in quotes of its own"),
        ('"$http_a $http_b" $status', "in quotes of its own"),
        ("%h %>s %{X-Company}i", "in quotes of its own"),
        ("%h %{foo}^ti", "not understood"),
        ("caddyy", "choose from auto"),
        ("100%", "not understood|no log format|choose from"),
    ],
)
def test_formats_that_cannot_be_read_back(text, said):
    """The error says what to write."""
    with pytest.raises(ConfigurationError, match=said):
        format_named(text)


def test_a_format_of_nginx_with_parts_of_a_request():
    """Each part that clients choose is in quotes; those of the server need none."""
    own = format_named(
        '[$time_iso8601] $request_method "$request_uri" $status $request_time "$upstream_http_x_company"'
    )
    line = own.read(b'[2026-03-01T12:10:00+00:00] GET "/a b?c" 200 0.125 "acme"')

    assert ("/a b", "c", 0.125, "acme") == (line.path, line.query, line.duration, line.response_headers["X-Company"])
