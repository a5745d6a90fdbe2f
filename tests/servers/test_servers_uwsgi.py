"""uWSGI, which forks behind Python's back and ends workers as it likes: clients are billed for what they received."""

from __future__ import annotations

import signal

import pytest
from served_billing import Billing
from served_server import UWSGI, Server
from thorough import some

pytestmark = [pytest.mark.long, pytest.mark.thorough]

REQUESTS = 24
STOPS = [signal.SIGTERM, signal.SIGINT]

PREFORK = ["--processes", "2", "--enable-threads"]
LOADED = {
    "prefork": PREFORK,
    "prefork with fork hooks": [*PREFORK, "--py-call-uwsgi-fork-hooks"],
    "lazy": [*PREFORK, "--lazy-apps"],
    "lazy with fork hooks": [*PREFORK, "--lazy-apps", "--py-call-uwsgi-fork-hooks"],
    "prefork without exit hooks": [*PREFORK, "--skip-atexit"],
    "lazy without exit hooks": [*PREFORK, "--lazy-apps", "--skip-atexit"],
}


@pytest.mark.parametrize("number", some([signal.SIGTERM], among=STOPS), ids=lambda number: number.name)
@pytest.mark.parametrize("loaded", LOADED)
def test_a_stop_loses_and_doubles_nothing(loaded, number, tmp_path):
    """
    However the app came into the workers, and whichever hooks run, what clients received is billed, once.

    Where the master loads the app, it counts once before it forks; that is billed, too, and once.
    """
    options = LOADED[loaded]
    prefork = "--lazy-apps" not in options
    with Billing(tmp_path) as billing:
        early = {"SERVED_AT_IMPORT": billing.early} if prefork else {}
        with Server([*UWSGI, *options], billing, tmp_path, **early) as server:
            server.load_until_all_work()
            server.ask_times(REQUESTS)
            server.stop(number, figure=f"uwsgi {loaded}")

        assert server.sent == server.complete == billing.settle()
        assert prefork == billing.billed(billing.early)


@pytest.mark.parametrize("lazy", [[], ["--lazy-apps"]], ids=["prefork", "lazy"])
def test_without_threads_all_is_billed_after_the_next_start(lazy, tmp_path):
    """
    Without --enable-threads, uWSGI lets no thread run between requests: the log and the health name the flag.

    Newer uWSGIs have threads in any case. Then nothing is said.
    """
    with Billing(tmp_path) as billing:
        with Server([*UWSGI, "--processes", "1", *lazy], billing, tmp_path) as server:
            server.ask_times(REQUESTS)
            problem = server.health()["problems"].get("no_threads", {"message": ""})
            server.stop(figure="uwsgi without threads")
        without_threads = "Python threads support is disabled" in server.log
        said = [line for line in server.log.splitlines() if "no_threads" in line]

        assert REQUESTS == server.complete == server.sent == billing.settle()
    assert without_threads == ("enable-threads" in problem["message"])
    assert without_threads == any("enable-threads" in line for line in said)
