"""The ways to tell somebody: against real servers on loopback."""

from __future__ import annotations

import json
import logging
import socket
import ssl
import threading
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
import trustme
from fake_clock import NOON
from guard import GUARD
from smtp_server import Mailbox, SMTPServer
from standardwebhooks import Webhook

from meterkit import ConfigurationError, Meter, Notice, Notify
from meterkit.channels import Email, Log, SignedWebhook, Slack, http_post
from meterkit.channels.http_post import PostError
from meterkit.notices.notice import Callback, channel_of

CALLS = Meter("calls")
SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
NOTICE = Notice(
    key="tier_crossed:Acme & <Sons>:1772323200:calls:usd:2",
    kind="tier_crossed",
    company="Acme & <Sons>",
    title="Acme & <Sons> has reached tier 2 of calls",
    text="Acme & <Sons> has used 101 calls.",
    created_at=NOON,
    fields={"meter": "calls", "used": 101, "tier": 2, "period_start": 1772323200},
)


@pytest.fixture
def mailbox():
    return Mailbox()


@pytest.fixture
def smtp(mailbox):
    """A function that starts an SMTP server; its port."""
    servers = []

    def start(**options):
        server = SMTPServer(mailbox, **options)
        server.start()
        servers.append(server)
        return server.port

    yield start
    for server in servers:
        server.stop()


def mail(port, **options):
    defaults = {"sender": "Billing <billing@us.example>", "to": "ops@us.example", "security": "none", "port": port}
    return Email("127.0.0.1", **{**defaults, **options})


def test_an_email(smtp, mailbox):
    """In text and HTML, with an id by which a repetition is known; whatever a company is called."""
    channel = mail(smtp())
    channel.deliver(NOTICE)
    channel.deliver(NOTICE)

    first, second = mailbox.messages
    text, html = (first.get_body([kind]).get_content() for kind in ("plain", "html"))
    assert ("Acme & <Sons> has reached tier 2 of calls", "ops@us.example", "Billing <billing@us.example>") == (
        first["Subject"], first["To"], first["From"],
    )  # fmt: skip
    assert first["Message-ID"] == second["Message-ID"]
    assert "auto-generated" == first["Auto-Submitted"]
    assert "period start: 2026-03-01 00:00 UTC" in text
    assert "<td>101</td>" in html
    assert "Acme &amp; &lt;Sons&gt;" in html
    assert "<Sons>" not in html


def test_words_of_ones_own(smtp, mailbox):
    """Texts with fields, or functions; to whom a function says."""
    channel = mail(
        smtp(),
        to=lambda notice: ["Ann <ann@acme.example>", "bob@acme.example"],
        subject="{company}\r\nBcc: evil@example.com",
        text=lambda notice: f"dear {notice.company}",
        html="<b>{company} {used} {customer}</b>",
        reply_to="help@us.example",
    )
    channel.deliver(NOTICE)

    (message,) = mailbox.messages
    assert "Acme & <Sons> Bcc: evil@example.com" == message["Subject"]
    assert (["ann@acme.example", "bob@acme.example"], None) == (mailbox.receivers[0], message["Bcc"])
    assert "dear Acme & <Sons>\n" == message.get_body(["plain"]).get_content().replace("\r\n", "\n")
    assert "<b>Acme &amp; &lt;Sons&gt; 101 </b>" == message.get_body(["html"]).get_content().strip()
    assert "help@us.example" == message["Reply-To"]


@pytest.mark.parametrize("of", ["company", "subject"])
def test_no_header_is_made_of_a_name(smtp, mailbox, of):
    """Pythons before 2024 decode such a word, and write the line break in it."""
    word = "=?utf-8?q?=0AReply-To:_evil=40evil.example?="
    notice = replace(NOTICE, company=word, title=f"{word} has reached tier 2")
    options = {"subject": lambda notice: notice.company} if of == "subject" else {}
    mail(smtp(), **options).deliver(notice)

    (message,) = mailbox.messages
    assert (None, True) == (message["Reply-To"], "utf-8?q?=0AReply-To" in message["Subject"])


@pytest.mark.parametrize(
    "to",
    [
        *(
            "a@b.example, x@y.example",
            "Doe, Jane <j@d.example>",
            "a@b.example;x@y.example",
            "g: a@b.example, c@d.example;",
        ),
        *(
            "a@b.example\nBcc: x@y.example",
            "=?utf-8?q?a=2C?= <a@b.example>",
            "a@b.example (x), c@d.example",
            "a@b@c",
            ",",
        ),
    ],
)
def test_an_address_is_one(smtp, mailbox, to):
    """Whoever means two says so, in a list; also where a function says it."""
    with pytest.raises(ConfigurationError, match="an e-mail address"):
        mail(1, to=to)
    with pytest.raises(ConfigurationError, match="an e-mail address"):
        mail(smtp(), to=lambda notice: [to]).deliver(NOTICE)

    assert [] == mailbox.messages


def test_a_comma_in_a_name(smtp, mailbox):
    """In quotes, as everywhere."""
    mail(smtp(), to=['"Doe, Jane" <j@d.example>', "Zoë <zoe@d.example>"]).deliver(NOTICE)

    assert ["j@d.example", "zoe@d.example"] == mailbox.receivers[0]


def test_nobody_is_written_to(smtp, mailbox):
    """If the function says so."""
    mail(smtp(), to=lambda notice: None).deliver(NOTICE)

    assert [] == mailbox.messages


def test_starttls_and_a_login(smtp, mailbox, tmp_path):
    """The certificate is checked: an unknown one is an error before any password is sent."""
    authority = trustme.CA()
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(served)
    port = smtp(tls_context=served, require_starttls=True, auth_require_tls=True, auth_required=True)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    options = {"security": "starttls", "username": "us", "password": "right"}

    with pytest.raises(ssl.SSLCertVerificationError):
        mail(port, **options).deliver(NOTICE)
    assert [] == mailbox.logins
    mail(port, tls_context=trusting, **options).deliver(NOTICE)
    assert [(b"us", b"right")] == mailbox.logins
    with pytest.raises(OSError, match="535"):
        mail(port, tls_context=trusting, **{**options, "password": "wrong"}).deliver(NOTICE)
    assert 1 == len(mailbox.messages)
    assert "wrong" not in repr(mail(port, password="wrong"))


def test_a_server_that_does_not_take_it(smtp, mailbox):
    """Each is an error, so that it is tried again."""
    port = smtp()
    mailbox.broken = 1
    with pytest.raises(OSError, match="451"):
        mail(port).deliver(NOTICE)
    mailbox.refused = {"bob@us.example"}
    with pytest.raises(OSError, match=r"bob@us\.example"):
        mail(port, to=["ann@us.example", "bob@us.example"]).deliver(NOTICE)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(OSError, match="timed out"):
        mail(silent.getsockname()[1], timeout=0.05).deliver(NOTICE)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = closed.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        mail(nobody).deliver(NOTICE)


@pytest.mark.parametrize(
    ("name", "options", "subject"),
    [
        ("Acme Ltd", {}, f"{NOTICE.title} (Acme Ltd)"),
        (NOTICE.company, {}, NOTICE.title),
        (None, {}, NOTICE.title),
        ("Acme Ltd", {"subject": "{name}: {company}"}, f"Acme Ltd: {NOTICE.company}"),
        (None, {"subject": "{name} owes"}, f"{NOTICE.company} owes"),
        ("A\r\nBcc: me@evil.example", {}, f"{NOTICE.title} (A Bcc: me@evil.example)"),
    ],
)
def test_the_customers_name(smtp, mailbox, name, options, subject):
    """In the subject, where it is known; and where a text asks for it, or else the company's id."""
    fields = {**NOTICE.fields, **({"name": name} if name else {})}
    mail(smtp(), **options).deliver(replace(NOTICE, fields=fields))
    (message,) = mailbox.messages

    assert subject == message["Subject"]
    assert message["Bcc"] is None


@pytest.fixture
def django_mail(settings_of_django, smtp):
    """Django's settings, for a server that takes mail."""
    import django

    backend, host, port = "django.core.mail.backends.smtp.EmailBackend", "127.0.0.1", smtp()
    if django.VERSION < (6, 1):
        settings_of_django(EMAIL_BACKEND=backend, EMAIL_HOST=host, EMAIL_PORT=port)
    else:
        settings_of_django(MAILERS={"default": {"BACKEND": backend, "OPTIONS": {"host": host, "port": port}}})
    settings_of_django(DEFAULT_FROM_EMAIL="shop@us.example")


@pytest.fixture
def settings_of_django():
    """A function that sets settings, until the end of the test."""
    from django.conf import settings

    before = {}

    def make(**values):
        for name, value in values.items():
            before.setdefault(name, getattr(settings, name, None))
            setattr(settings, name, value)

    if not settings.configured:
        settings.configure()
    yield make
    for name, value in before.items():
        delattr(settings, name) if value is None else setattr(settings, name, value)


def test_djangos_mail(django_mail, mailbox):
    """By the project's settings, with the same words."""
    from meterkit.channels.django import DjangoEmail

    DjangoEmail(to="ops@us.example").deliver(NOTICE)

    (message,) = mailbox.messages
    assert ("shop@us.example", NOTICE.title) == (message["From"], message["Subject"])
    assert "<td>101</td>" in message.get_body(["html"]).get_content()
    assert "auto-generated" == message["Auto-Submitted"]
    assert message["Message-ID"].endswith("@us.example>")


def test_one_of_djangos_mailers(settings_of_django, monkeypatch):
    """By its alias, in Django 6.1; before that there are none, which is said at once."""
    import django

    from meterkit.channels.django import DjangoEmail

    if django.VERSION < (6, 1):
        with pytest.raises(ConfigurationError, match=r"using='billing'\) needs Django 6\.1"):
            DjangoEmail(to="ops@us.example", using="billing")
        return
    from django.core import mail

    locmem = "django.core.mail.backends.locmem.EmailBackend"
    mailers = {"default": {"BACKEND": "django.core.mail.backends.dummy.EmailBackend"}, "billing": {"BACKEND": locmem}}
    monkeypatch.setattr(mail, "outbox", [], raising=False)
    settings_of_django(MAILERS=mailers)
    DjangoEmail(to="ops@us.example", sender="us@us.example").deliver(NOTICE)
    DjangoEmail(to="ops@us.example", sender="us@us.example", using="billing").deliver(NOTICE)

    assert [NOTICE.title] == [message.subject for message in mail.outbox]


@pytest.fixture
def http():
    """A server that answers what it is told to, and 200 after that."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            server.requests.append((dict(self.headers.items()), body))
            if server.speaks is not None:
                with suppress(OSError):  # until the client has had enough
                    server.speaks(self)
                return
            status, headers = server.answers.pop(0) if server.answers else (200, {})
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.requests, server.answers, server.speaks = [], [], None
    server.url = f"http://127.0.0.1:{server.server_port}/T1/secret"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def _hasty(monkeypatch):
    monkeypatch.setattr(http_post, "MAX_WAIT", 0.001)


def test_a_signed_webhook(http):
    """The library of whoever gets it finds it in order; the id is the same when it is sent again."""
    http.answers = [(503, {}), (429, {"Retry-After": "1"})]
    channel = SignedWebhook(http.url, secret=[SECRET, "whsec_" + "bmV3ZXIgc2VjcmV0IG9mIG91cnM="])
    channel.deliver(NOTICE)

    headers, body = http.requests[-1]
    told = Webhook(SECRET).verify(body, {name.lower(): value for name, value in headers.items()})
    assert told == Webhook("whsec_bmV3ZXIgc2VjcmV0IG9mIG91cnM=").verify(body, headers)
    data = told["data"]
    assert ("notice.tier_crossed", "Acme & <Sons>", 101) == (told["type"], data["company"], data["used"])
    assert 3 == len(http.requests)
    assert 1 == len({headers["webhook-id"] for headers, _ in http.requests})


@pytest.mark.parametrize(
    ("status", "says", "times"), [(410, "is gone", 1), (302, "302", 1), (400, "400", 1), (500, "500", 4)]
)
def test_a_webhook_that_is_not_taken(http, status, says, times):
    """What may be otherwise in a moment is tried again; the address is in no error."""
    http.answers = [(status, {"Location": http.url})] * 10
    with pytest.raises(PostError, match=says) as caught:
        SignedWebhook(http.url, secret=SECRET).deliver(NOTICE)

    assert times == len(http.requests)
    assert "secret" not in str(caught.value)


def echoes(handler):
    """As Express does, and others that mean well."""
    said = f"Cannot POST {handler.path}: {handler.path.rsplit('/', 1)[1]}".encode()
    handler.wfile.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n%b" % (len(said), said))


def echoes_a_word(handler):
    said = handler.path.rsplit("/", 1)[1].encode()
    handler.wfile.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n%b" % (len(said), said))


@pytest.mark.parametrize("speaks", [echoes, echoes_a_word])
def test_a_receiver_that_repeats_the_address(http, speaks, make_kit, caplog):
    """It is in no error, no notice, no log and no health, whichever level the application logs at."""
    caplog.set_level(logging.DEBUG)
    http.speaks = speaks
    kit = make_kit(notify=[Notify.threshold(to=Slack(http.url), meter=CALLS, units=1)])
    kit.record(CALLS, "acme")
    kit.flush()
    kit.process().dispatcher.evaluate()
    kit.process().dispatcher.deliver(Slack(http.url).name)

    (delivery,) = kit.notices()
    assert "PostError: Slack responded with 404" == delivery.error
    assert [] == [said for said in (caplog.text, repr(kit.notices()), json.dumps(kit.health())) if "secret" in said]


def test_what_slack_says_is_shown(http):
    """One word, which says what to do."""
    http.speaks = lambda handler: handler.wfile.write(b"HTTP/1.1 403 X\r\nContent-Length: 14\r\n\r\naction_refused")
    with pytest.raises(PostError, match=r"403: action_refused$"):
        Slack(http.url).deliver(NOTICE)


def test_requests_of_the_application_are_logged_as_before(http, caplog):
    """Only ours are not: their addresses are secrets."""
    caplog.set_level(logging.INFO)
    Slack(http.url).deliver(NOTICE)
    before = caplog.text
    httpx.post(http.url, content=b"{}")

    assert "" == before
    assert http.url in caplog.text


def trickles(*head):
    """A byte from time to time, for ever."""

    def speak(handler):
        handler.wfile.write(b"".join(head))
        while True:
            handler.wfile.write(b"x")
            threading.Event().wait(0.01)

    return speak


def floods(handler):
    """As fast as it can, for ever."""
    handler.wfile.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 1000000000000\r\n\r\n")
    while True:
        handler.wfile.write(b"x" * 65536)


@pytest.mark.parametrize(
    ("speaks", "error"),
    [
        (trickles(b"HTTP/1.1 200 OK\r\nX: "), "takes too long"),
        (trickles(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 1000000\r\n\r\n"), "400"),
        (floods, "400"),
    ],
)
def test_an_answer_without_end(http, monkeypatch, speaks, error):
    """Ends all the same, and fills no memory."""
    monkeypatch.setattr(http_post, "TRIES", 1)
    http.speaks = speaks
    with pytest.raises(PostError, match=error):
        Slack(http.url, timeout=0.2).deliver(NOTICE)


def test_who_takes_it_need_not_finish_to_speak(http):
    """What follows a 200 is not waited for."""
    http.speaks = trickles(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    Slack(http.url, timeout=GUARD).deliver(NOTICE)

    assert 1 == len(http.requests)


def test_slack(http):
    """In its markup, in which a company's name means nothing."""
    Slack(http.url).deliver(NOTICE)

    assert {
        "text": "*Acme &amp; &lt;Sons&gt; has reached tier 2 of calls*\nAcme &amp; &lt;Sons&gt; has used 101 calls."
    } == (json.loads(http.requests[0][1]))


def test_a_log_and_a_function(caplog):
    """The simplest."""
    told = []
    with caplog.at_level(logging.INFO):
        Log().deliver(NOTICE)
        channel_of(told.append).deliver(NOTICE)

    assert [NOTICE] == told
    (line,) = caplog.records
    assert f"{NOTICE.title}: {NOTICE.text} (notice, tier_crossed)" == line.getMessage()
    assert ("notice", NOTICE.company) == (line.event, line.company)
    assert (NOTICE.key, NOTICE.kind) == (line.notice_key, line.notice_kind)


def test_names(http):
    """The same after a restart, other for other targets, and no secrets."""
    make = [
        lambda: Slack(http.url),
        lambda: Slack(http.url + "2"),
        lambda: SignedWebhook(http.url, secret=SECRET),
        lambda: mail(1),
        lambda: mail(1, to="other@us.example"),
        lambda: Callback(print),
        Log,
    ]
    names = [each().name for each in make]

    assert names == [each().name for each in make]
    assert len(names) == len(set(names))
    assert not any("secret" in name or "@" in name for name in [*names, repr(Slack(http.url))])


async def awaits(notice):
    pass


@pytest.mark.parametrize(
    ("make", "cure"),
    [
        (lambda: mail(1, to="nobody"), "must be an e-mail address"),
        (lambda: mail(1, sender="a@b\r\nBcc: c@d"), "must be an e-mail address"),
        (lambda: mail(1, security="ssl"), "'starttls', 'tls' or 'none'"),
        (lambda: mail(1, text="{who}"), "unknown field {who}; available: {amount}"),
        (lambda: mail(1, html="{company.__class__}"), "unknown field {company.__class__}"),
        (lambda: mail(1, subject=awaits), "plain function"),
        (lambda: Slack("hooks.slack.com"), "must be a URL that begins with https"),
        (lambda: Slack("https://x", text="{tokens}"), "{tokens}"),
        (lambda: SignedWebhook("https://x", secret="whsec_"), "openssl rand"),
        (lambda: Notify.overdue(to=Slack), "not the class"),
        (lambda: Notify.overdue(to="ops@us.example"), "must be a channel such as"),
        (lambda: Notify.overdue(to=awaits), "plain function"),
        (lambda: Notify.overdue(to=[]), "nobody would be notified"),
    ],
)
def test_what_is_wrong_is_said_while_building(make, cure):
    """With the cure."""
    with pytest.raises(ConfigurationError, match=cure):
        make()
