"""Flask's conventions: an app factory, the app's config, `flask meterkit`, and a before_request function that asks."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from adapter_usage import looked_once, usage_of
from flask import Flask, Response, g, request

import meterkit
import meterkit.flask
from meterkit import ConfigurationError, Governance, Meter, MeterKit, Quota
from meterkit.flask import govern, init_app

Make = Callable[..., MeterKit]

CALLS = Meter("calls", path="*")


@pytest.fixture
def billing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module that builds a kit when it is imported."""
    source = """
        from meterkit import Meter, MeterKit, Webhook

        kit = MeterKit(
            meters=[Meter("calls", path="*")], identify=lambda exchange: "acme", webhook=Webhook("/stripe/webhook")
        )
    """
    (tmp_path / "shop_billing.py").write_text(textwrap.dedent(source))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("STRIPE_WEBHOOK_SECRET", "whsec_of_the_environment")
    monkeypatch.setenv("METERKIT_DATA_DIR", str(tmp_path / "of-the-environment"))
    yield "shop_billing"
    module = sys.modules.pop("shop_billing", None)
    if module is not None:
        module.kit.close()


def create_app(**config: Any) -> Flask:
    """A factory, as Flask's documentation has it."""
    app = Flask("shop")
    app.config.from_mapping(config)
    init_app(app)
    app.get("/")(lambda: "done")
    return app


@pytest.mark.parametrize("path", ["shop_billing.kit", "shop_billing:kit"])
def test_the_kit_and_its_settings_are_in_the_config(billing: str, tmp_path: Path, path: str) -> None:
    """Where the kit is imported, it takes them from there; each app that has the same is metered by it."""
    config = {
        "METERKIT_KIT": path,
        "METERKIT_DATA_DIR": str(tmp_path / "data"),
        "METERKIT_LEDGER": f"sqlite:///{tmp_path}/books.sqlite",
        "METERKIT_STRIPE_KEY": "sk_test_1",
        "METERKIT_WEBHOOK_SECRET": "whsec_1",
    }
    apps = [create_app(**config), create_app(**config)]
    kit = apps[0].extensions["meterkit"]
    for app in apps:
        app.test_client().get("/")

    assert kit is apps[1].extensions["meterkit"] is sys.modules[billing].kit
    assert {"calls": 2} == usage_of(kit)
    assert (tmp_path / "books.sqlite").exists()
    assert (tmp_path / "data").exists()
    assert not (tmp_path / "of-the-environment").exists()
    assert "sk_test_" in repr(kit)
    assert ("whsec_1",) == kit.webhook.secrets


def test_a_kit_in_the_config(make_kit: Make) -> None:
    """The object itself will do."""
    app = create_app(METERKIT_KIT=(kit := make_kit(CALLS)))
    app.test_client().get("/")

    assert {"calls": 1} == usage_of(kit)


@pytest.mark.parametrize(
    ("config", "cure"),
    [
        ({}, "pass it as init_app(app, kit), or set app.config"),
        ({"METERKIT_KIT": "shop_billing.kitt"}, 'such as "billing.kit"'),
        ({"METERKIT_KIT": "no_such_module.kit"}, "No module named 'no_such_module'"),
        ({"METERKIT_KIT": "shop_billing"}, "needs a MeterKit"),
        ({"METERKIT_KIT": 5}, "needs a MeterKit"),
        ({"METERKIT_KIT": "shop_billing.kit", "METERKIT_DATADIR": "x"}, "METERKIT_DATA_DIR"),
        ({"METERKIT_KIT": "shop_billing.kit", "METERKIT_LEDGER": "mysql://x"}, "'sqlite:///path'"),
    ],
)
def test_mistakes_in_the_config(billing: str, config: dict[str, Any], cure: str) -> None:
    """They end the factory, with the cure."""
    with pytest.raises(ConfigurationError) as caught:
        create_app(**config)

    assert cure in str(caught.value)


def test_a_setting_without_effect(billing: str, make_kit: Make, tmp_path: Path) -> None:
    """A kit that is there already cannot take it: nothing is ignored in silence."""
    __import__(billing)
    with pytest.raises(ConfigurationError, match=r"METERKIT_DATA_DIR.*after init_app"):
        create_app(METERKIT_KIT="shop_billing.kit", METERKIT_DATA_DIR=str(tmp_path / "other"))


def test_the_commands(make_kit: Make) -> None:
    """``flask meterkit`` has those of ``meterkit``, without the path of the kit, and their exit codes."""
    kit = make_kit(CALLS)
    app = create_app(METERKIT_KIT=kit)
    app.test_client().get("/")
    kit.flush()
    runner = app.test_cli_runner()
    shown = runner.invoke(args=["meterkit", "usage", "--json"])

    assert (0, True) == (shown.exit_code, '"acme"' in shown.output), shown.output
    assert "flask meterkit" in runner.invoke(args=["meterkit", "--help"]).output
    assert 1 == runner.invoke(args=["meterkit", "health"]).exit_code  # there is no Stripe key
    assert 2 == runner.invoke(args=["meterkit", "usage", "--nothing"]).exit_code
    wrong = runner.invoke(args=["meterkit", "usage", "--month", "soon"])
    assert 2 == wrong.exit_code
    assert "meterkit" in runner.invoke(args=["--help"]).output


def asking_app(kit: MeterKit, ran: list[str]) -> Flask:
    """Authenticates and asks in a before_request function."""
    app = Flask("shop")
    init_app(app, kit)

    @app.before_request
    def authenticate() -> Response | None:
        g.company = request.headers.get("X-Company")
        return govern(g.company) or govern(g.company)

    @app.after_request
    def allow_browsers(response: Response) -> Response:
        response.headers["Access-Control-Allow-Origin"] = "*"
        return response

    @app.get("/docs/<name>")
    def docs(name: str) -> str:
        ran.append(g.company)
        return name

    app.get("/docs/new")(lambda: "new")
    return app


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("identify", ["view", lambda exchange: "acme"])
def test_a_before_request_function_asks(make_kit: Make, exact: bool, identify: Any) -> None:
    """What is blocked is not billed; a unit is reserved once; the route is known; CORS headers are added."""
    docs = Meter("docs", route="/docs/<name>")
    kit = make_kit(docs, identify=identify, governance=Governance(quotas=[Quota(docs, 2, exact=exact)]))
    looked_once(kit)
    ran: list[str] = []
    client = asking_app(kit, ran).test_client()
    answers = [client.get("/docs/old", headers={"X-Company": "acme"}) for _ in range(3)]

    assert [200, 200, 429] == [each.status_code for each in answers]
    assert ["acme", "acme"] == ran
    assert "quota" == answers[2].get_json()["reason"]
    assert "*" == answers[2].headers["Access-Control-Allow-Origin"]
    assert {"docs": 2} == usage_of(kit)
    assert [("acme", 1)] == [(each.company, each.count) for each in kit.stopped()]
    if identify == "view":  # before the view, the path alone may lead to either route
        assert 200 == client.get("/docs/new", headers={"X-Company": "acme"}).status_code


def test_a_warning(make_kit: Make) -> None:
    """A soft quota adds its header once."""
    kit = make_kit(CALLS, identify="view", governance=Governance(quotas=[Quota(CALLS, 0, hard=False)]))
    looked_once(kit)
    answer = asking_app(kit, []).test_client().get("/docs/old", headers={"X-Company": "acme"})

    assert ["quota"] == answer.headers.getlist("X-Meterkit-Warning")


def test_an_app_without_the_middleware() -> None:
    """Nothing is decided."""
    app = Flask("shop")
    app.get("/")(lambda: str(govern("acme")))

    assert b"None" == app.test_client().get("/").data
    assert meterkit.flask.__all__
