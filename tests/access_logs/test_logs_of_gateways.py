"""
Real gateways before a real app, and their real logs: what they write, however hostile the client, is counted right.

Skipped where a gateway is not installed; ``METERKIT_GATEWAYS=required``, as in ``nox -s gateways``, fails instead.
"""

from __future__ import annotations

import http.server
import os
import pwd
import shutil
import signal
import socket
import subprocess
import textwrap
import threading
from base64 import b64encode
from contextlib import contextmanager, suppress

import pytest
from guard import GUARD, tries
from log_lines import drained, used
from stripe_account import api

from meterkit import Meter, MeterKit, Price, Tier
from meterkit.sandbox import Sandbox

pytestmark = pytest.mark.long

REQUIRED = os.environ.get("METERKIT_GATEWAYS") == "required"


def program(name, package):
    """The path of a program; the test is skipped, or fails, where it is not."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if found is None:
        message = f"there is no {name} (Debian: apt-get install {package}); see nox -s gateways"
        pytest.fail(message) if REQUIRED else pytest.skip(message)
    return found


class App(http.server.BaseHTTPRequestHandler):
    """Says whom a key belongs to, in a header of the response, as apps do for a gateway that logs."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        company = {"key-of-acme": "acme", "key-of-globex": "globex"}.get(self.headers.get("X-Api-Key"))
        body = b"ok" * 5 if company else b"who?"
        self.send_response(200 if company else 401)
        if company:
            self.send_header("X-Company", company)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_):
        pass


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


@pytest.fixture
def app():
    """The port of the app."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), App)
    server.daemon_threads = True
    server.handle_error = lambda *_: None
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


@contextmanager
def running(words, port):
    """A gateway that listens."""
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in tries():
            assert process.poll() is None, words
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", port)).close()
                break
        yield process
    finally:
        process.terminate()
        process.wait(GUARD)


def send(port, *requests):
    """Send raw requests, each on a connection of its own, and return the beginnings of the answers."""
    answers = []
    for request in requests:
        with socket.create_connection(("127.0.0.1", port), timeout=GUARD) as connection:
            connection.sendall(request)
            received = b""
            with suppress(ConnectionResetError):
                while more := connection.recv(65536):
                    received += more
            answers.append(received[:12])
    return answers


def get(path="/v1/search", key="key-of-acme", *, agent=b"curl/8", more=b""):
    return b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Api-Key: %s\r\nUser-Agent: %s\r\n%s\r\n" % (
        path.encode() if isinstance(path, str) else path,
        key.encode(),
        agent,
        more,
    )


FORGED = b'x" "globex" [01/Mar/2026:12:10:00 +0000] "GET /v1/search HTTP/1.1" 200 5 "-" "-" "globex'
HOSTILE = [
    get(agent=FORGED),
    get(agent=b'\\" \\x22 \\'),
    get(agent=b"\xff\xfe\xc3( \x01", key="key-of-acme"),
    get(agent=b'", "X-Company": "globex", "company": "globex'),
    get(more=b"Referer: " + FORGED + b"\r\nX-Company: globex\r\n"),
    get("/v1/search?a=%22%0a%0d&b=%00" + "x" * 3000),
    get(b"/v1/search?a=\\\\'{}[]"),
    get(more=b"Authorization: Basic " + b64encode(FORGED + b":x") + b"\r\n"),
    get("/v1/./search"),
    get("http://elsewhere/v1/search"),
]
"""Requests of acme, some of which a gateway may refuse, and none of which may count for another, or get lost."""

OTHERS = [get(key="key-of-globex"), get(key="unknown"), b"\x16\x03\x01\x00\x05hello\r\n\r\n", b"GET\r\n\r\n"]

NGINX = r"""
daemon off; master_process on; worker_processes 1; error_log {directory}/error.log; pid {directory}/nginx.pid;
user {user};
events {{ worker_connections 64; }}
http {{
    log_format billing {format};
    access_log {directory}/access.log billing;
    client_body_temp_path {directory}/1; proxy_temp_path {directory}/2; fastcgi_temp_path {directory}/3;
    uwsgi_temp_path {directory}/4; scgi_temp_path {directory}/5;
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass http://127.0.0.1:{app}; proxy_hide_header X-Company; }}
    }}
}}
"""
NGINX_TEXT = (
    '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" '
    '"$http_user_agent" "$upstream_http_x_company" $request_time'
)
NGINX_JSON = (
    '{"time": "$time_iso8601", "request": "$request", "status": "$status", "body_bytes_sent": "$body_bytes_sent", '
    '"agent": "$http_user_agent", "referer": "$http_referer", "remote_user": "$remote_user", '
    '"upstream_http_x_company": "$upstream_http_x_company"}'
)


def nginx(directory, port, app, format_):
    path = directory / "nginx.conf"
    user = pwd.getpwuid(os.getuid()).pw_name
    path.write_text(NGINX.format(directory=directory, port=port, app=app, format=format_, user=user))
    return [program("nginx", "nginx-light"), "-c", str(path), "-p", str(directory)]


def apache(directory, port, app, format_):
    modules = "".join(
        f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"
        for name in ("mpm_event", "authz_core", "proxy", "proxy_http", "headers")
    )
    path = directory / "apache.conf"
    path.write_text(
        f"{modules}ServerRoot {directory}\nPidFile {directory}/apache.pid\nListen 127.0.0.1:{port}\nServerName x\n"
        "Mutex pthread\n"
        f"ErrorLog {directory}/error.log\nLogFormat {format_} billing\nCustomLog {directory}/access.log billing\n"
        f"ProxyPass / http://127.0.0.1:{app}/\nHttpProtocolOptions Unsafe\n"
        "User www-data\nGroup www-data\n"
    )
    return [program("apache2", "apache2"), "-D", "FOREGROUND", "-f", str(path)]


APACHE_TEXT = r'"%h %l %u %t \"%r\" %>s %b \"%{Referer}i\" \"%{User-Agent}i\" \"%{X-Company}o\""'
APACHE_JSON = (
    r'"{ \"time\": \"%t\", \"request\": \"%r\", \"status\": \"%>s\", \"body_bytes_sent\": \"%B\", '
    r'\"agent\": \"%{User-Agent}i\", \"referer\": \"%{Referer}i\", \"sent_http_x_company\": \"%{X-Company}o\" }"'
)


def caddy(directory, port, app, _format):
    path = directory / "Caddyfile"
    path.write_text(
        textwrap.dedent(f"""
        {{
            admin off
            storage file_system {directory}/storage
            auto_https off
        }}
        http://:{port} {{
            bind 127.0.0.1
            log {{
                output file {directory}/access.log
            }}
            reverse_proxy 127.0.0.1:{app}
        }}
        """)
    )
    return [program("caddy", "caddy"), "run", "--config", str(path), "--adapter", "caddyfile"]


def haproxy(directory, port, app, _format):
    path = directory / "haproxy.cfg"
    path.write_text(
        textwrap.dedent(f"""
        global
            log stdout format raw local0
        defaults
            mode http
            timeout connect 60s
            timeout client 60s
            timeout server 60s
        frontend in
            bind 127.0.0.1:{port}
            log global
            option httplog
            capture request header User-Agent len 200
            capture response header X-Company len 100
            default_backend apps
        backend apps
            server one 127.0.0.1:{app}
        """)
    )
    return ["/bin/sh", "-c", f'exec "{program("haproxy", "haproxy")}" -db -f {path} > {directory}/access.log 2>&1']


GATEWAYS = {
    "nginx": (nginx, f"'{NGINX_TEXT}'", NGINX_TEXT),
    "nginx-json": (nginx, f"escape=json '{NGINX_JSON}'", "json"),
    "nginx-json-without-escape": (nginx, f"'{NGINX_JSON}'", "json"),
    "apache": (apache, APACHE_TEXT, APACHE_TEXT[1:-1]),
    "apache-json": (apache, APACHE_JSON, "json"),
    "caddy": (caddy, "", "caddy"),
    "haproxy": (haproxy, "", "haproxy"),
}


def company_of(exchange):
    return exchange.response_headers.get("x-company") or exchange.fields.get("response_capture_1")


@pytest.fixture
def now_kit(tmp_path):
    """A kit at the time of the real servers."""
    kit = MeterKit(
        meters=[Meter("searches", path="/v1/search"), Meter("refused", path="*", status=["4xx", "5xx"])],
        identify=company_of,
        data_dir=tmp_path / "meterkit",
        flush_interval=3600,
    )
    yield kit
    kit.close()


@pytest.mark.parametrize("name", GATEWAYS)
def test_hostile_clients(name, tmp_path, app, now_kit, follow):
    """What the app answered with success counts, for whom it said, and for nobody else."""
    make, format_, ours = GATEWAYS[name]
    directory = tmp_path / "gateway"
    directory.mkdir()
    directory.chmod(0o777)
    tmp_path.chmod(0o755)
    port = free_port()
    log = directory / "access.log"
    log.touch(0o666)
    with running(make(directory, port, app, format_), port):
        answers = send(port, *HOSTILE)
        others = send(port, *OTHERS, get("/last"))
        served = sum(answer.startswith(b"HTTP/1.1 200") for answer in answers)
        tail = follow(now_kit, log, formats=[ours])
        for _ in tries(lambda: f"{used(now_kit)} of {served}: {log.read_text(errors='replace')}"):
            drained(tail)
            if b"/last" in log.read_bytes() and used(now_kit).get("acme", 0) >= served:
                break

    assert served >= 7, answers
    assert others[0].startswith(b"HTTP/1.1 200")
    assert {"acme": served, "globex": 1} == used(now_kit), (answers, log.read_text(errors="replace"))
    problems = now_kit.health()["problems"]
    unreadable = problems.get("log_line_unreadable", {"count": 0})["count"]
    if name == "haproxy":  # what it says of its own start is in the same file
        assert unreadable <= 5
    else:
        assert 0 == unreadable, problems


def test_nginx_reopens_its_log(tmp_path, app, now_kit, follow):
    """As logrotate tells it to: it writes to the renamed file until then. No two of the files have the same lines."""
    directory = tmp_path / "gateway"
    directory.mkdir()
    directory.chmod(0o777)
    tmp_path.chmod(0o755)
    port = free_port()
    log = directory / "access.log"
    with running(nginx(directory, port, app, f"'{NGINX_TEXT}'"), port) as master:
        tail = follow(now_kit, log, formats=[NGINX_TEXT], follows=True)
        for number in range(1, 4):
            send(port, get(f"/v1/search?{number}"))
            for _ in tries():
                if log.read_bytes().count(b"GET /v1/search") == 1:
                    break
            log.rename(f"{log}.{number}")
            send(port, get(f"/v1/search?{number}"))
            drained(tail)
            os.kill(master.pid, signal.SIGUSR1)
            for _ in tries():
                send(port, get(f"/reopened?{number}"))
                if log.exists() and log.stat().st_size:
                    break
        for _ in tries(lambda: str(used(now_kit))):
            drained(tail)
            if {"acme": 6} == used(now_kit):
                break


NODE = """
const http = require("http");
const companies = {"key-of-acme": "acme"};
http.createServer((request, response) => {
  const company = companies[request.headers["x-api-key"]];
  response.writeHead(company ? 200 : 401, company ? {"X-Company": company} : {});
  response.end("{}");
}).listen(Number(process.argv[2]), "127.0.0.1");
"""


def test_an_app_in_node_behind_nginx(tmp_path, follow):
    """1,500 queries are in the log, and $4,200.00 on the invoice."""
    node = program("node", "nodejs")
    directory = tmp_path / "gateway"
    directory.mkdir()
    tmp_path.chmod(0o755)
    script = tmp_path / "app.js"
    script.write_text(NODE)
    app, port = free_port(), free_port()
    log = directory / "access.log"
    scores = Meter("credit_scores", path="/RetrieveCreditScore", method="POST")
    tiers = [Tier(up_to=100, unit_price="5.00"), Tier(up_to=1_000, unit_price="3.00"), Tier(unit_price="2.00")]
    gateway = nginx(directory, port, app, f"'{NGINX_TEXT}'")
    with Sandbox() as sandbox, running([node, str(script), str(app)], app), running(gateway, port):
        kit = MeterKit(
            meters=[scores],
            prices=[Price.graduated(scores, *tiers)],
            identify=company_of,
            data_dir=tmp_path / "meterkit",
            stripe_key=sandbox.api_key,
            stripe_base=sandbox.url,
            flush_interval=3600,
        )
        try:
            kit.provision()
            kit.subscribe("acme")
            ask_1500_times(port)
            tail = follow(kit, log, formats=[NGINX_TEXT])
            for _ in tries():
                drained(tail)
                if {"acme": 1500} == used(kit, "credit_scores"):
                    break
            kit.report(include_open=True)
            customer = kit.usage(company="acme")[0].customer
            assert 420_000 == api(sandbox).invoices.create_preview({"customer": customer}).total
        finally:
            kit.close()


def ask_1500_times(port):
    """Ask for 1,500 scores, and wait for all of them."""
    ask = b"POST /RetrieveCreditScore HTTP/1.1\r\nHost: x\r\nX-Api-Key: key-of-acme\r\nContent-Length: 0\r\n\r\n"
    for _ in range(3):  # nginx closes a connection after 1,000 requests
        with socket.create_connection(("127.0.0.1", port), timeout=GUARD) as connection:
            for _ in range(0, 500, 50):
                connection.sendall(ask * 50)
                received = b""
                while received.count(b"HTTP/1.1 200") < 50 or not received.endswith(b"0\r\n\r\n"):
                    more = connection.recv(65536)
                    assert more
                    received += more
