"""Servers that are told to stop while Stripe does not answer, or the ledger is locked: they do, and nothing is lost."""

from __future__ import annotations

import pytest
from guard import GUARD
from served_billing import Billing
from served_server import GUNICORN, UVICORN, UWSGI, Server
from thorough import some

pytestmark = [pytest.mark.long, pytest.mark.thorough]

SERVERS = {
    "gunicorn sync": [*GUNICORN, "--workers", "2"],
    "gunicorn gevent": [*GUNICORN, "--workers", "2", "--worker-class", "gevent"],
    "uvicorn": [*UVICORN, "--workers", "2"],
    "uwsgi": [*UWSGI, "--processes", "2", "--enable-threads"],
}
REQUESTS = 12


@pytest.fixture(params=SERVERS)
def name(request):
    return request.param


@pytest.fixture
def billing(tmp_path):
    """Stripe, and a ledger with 7 uses that are due: the first report of any process sends them."""
    with Billing(tmp_path) as billing:
        billing.use_an_hour_ago(7)
        yield billing


@pytest.mark.parametrize("arrives", some(["timeout_after"], among=["timeout_before", "timeout_after"]))
def test_a_stop_while_stripe_does_not_answer(name, arrives, billing, tmp_path):
    """
    A server exits although its report hangs; whether Stripe has got the event or not, it is billed once.

    It also goes on serving and flushing meanwhile.
    """
    hole = billing.stripe.fail(arrives, times=1000)
    with Server(SERVERS[name], billing, tmp_path) as server:
        server.load_until_all_work()
        assert hole.wait(GUARD), "nothing was reported"
        server.ask_times(REQUESTS)
        server.stop(figure=f"{name}, Stripe does not answer")
    billing.stripe.heal()

    assert server.sent == server.complete == billing.settle()
    assert 7 == billing.billed(billing.early)


def test_a_stop_while_the_ledger_is_locked(name, billing, tmp_path):
    """A server answers and exits although nothing can be flushed; what it counted is billed afterwards."""
    with Server(SERVERS[name], billing, tmp_path) as server:
        server.load_until_all_work()
        with billing.locked_ledger():
            server.ask_times(REQUESTS)
            server.stop(figure=f"{name}, the ledger is locked")

    assert server.sent == server.complete == billing.settle()
    assert 7 == billing.billed(billing.early)
