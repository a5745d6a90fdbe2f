"""A real SMTP server on loopback, which keeps what it takes."""

from __future__ import annotations

import email
import email.policy

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult


class Mailbox:
    """Keeps messages; refuses whom it is told to."""

    def __init__(self):
        self.messages = []
        self.receivers = []
        self.logins = []
        self.refused = set()
        self.broken = 0

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address in self.refused:
            return "550 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        if self.broken:
            self.broken -= 1
            return "451 try again"
        self.messages.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
        self.receivers.append(envelope.rcpt_tos)
        return "250 OK"

    def authenticate(self, server, session, envelope, mechanism, login):
        self.logins.append((login.login, login.password))
        return AuthResult(success=login.password == b"right", handled=False)


class SMTPServer(Controller):
    """One on a free port."""

    def __init__(self, mailbox, **options):
        super().__init__(mailbox, hostname="127.0.0.1", port=0)
        self._options = options

    def factory(self):
        return SMTP(self.handler, authenticator=self.handler.authenticate, hostname="localhost", **self._options)

    def _trigger_server(self):
        # As the controller does, with the port that the system gave.
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()
