"""Four workers, killed and restarted while a customer reaches the next tier: one e-mail, and exact figures."""

from __future__ import annotations

import os
import random
import signal
import threading
from contextlib import suppress

import pytest
from guard import GUARD
from served_billing import Billing
from served_server import GUNICORN, Server
from smtp_server import Mailbox, SMTPServer

from meterkit import Meter, MeterKit

COMMAND = [*GUNICORN[:-1], "served_telling:wsgi", "--workers", "4"]
KILLS = 8


class Watched(Mailbox):
    """Tells when something has come."""

    def __init__(self):
        super().__init__()
        self.came = threading.Event()

    async def handle_DATA(self, *args):
        answer = await super().handle_DATA(*args)
        self.came.set()
        return answer


@pytest.fixture
def mailbox():
    return Watched()


@pytest.fixture
def smtp(mailbox):
    server = SMTPServer(mailbox)
    server.start()
    yield server.port
    server.stop()


@pytest.mark.long
def test_one_email_and_exact_figures(mailbox, smtp, tmp_path):
    """Whatever happens to the workers: a request without an answer is sent again, so the clients know what was used."""
    chance = random.Random(7)
    users, seats = set(), 0
    with Billing(tmp_path) as billing:
        for until in (50, 120):  # the server is restarted in between
            with Server(COMMAND, billing, tmp_path, SERVED_SMTP=str(smtp)) as server:
                while server.complete < until:
                    user, level = chance.randrange(40), chance.randrange(100)
                    worker = None
                    while worker is None:
                        worker = server.ask(f"user=u{user}&seats={level}")
                    users.add(user)
                    seats = max(seats, level)
                    if chance.random() < KILLS / 170:
                        with suppress(ProcessLookupError):
                            os.kill(worker, signal.SIGKILL)
                # A worker that has answered nothing yet has no thread that flushes, so somebody has to ask.
                for _ in range(GUARD * 20 if until == 120 else 0):
                    if mailbox.came.wait(0.05):
                        break
                    server.ask("user=u0&seats=0")
                    users.add(0)
                server.stop(figure="gunicorn that tells")
        kit = MeterKit(meters=[Meter("calls")], data_dir=billing.data_dir)
        kit.flush()
        found = {}
        for row in kit.usage():
            found[row.meter] = found.get(row.meter, 0) + row.quantity
        told = kit.notices()
        books = kit.health()["books"]
        kit.close()

    assert (len(users), seats) == (found["users"], found["seats"])
    assert all(of_meter["balanced"] for of_meter in books.values())
    assert ["tier_crossed"] == [each.notice.kind for each in told]
    # A worker may be killed between the server's "250 OK" and its own note of it: then it is the same e-mail again.
    assert 1 == len({message["Message-ID"] for message in mailbox.messages})
    assert {("customer@acme.example",)} == {tuple(each) for each in mailbox.receivers}
