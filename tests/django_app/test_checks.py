"""What ``manage.py check`` says, by its ids; and that it says nothing of a project in order."""

from __future__ import annotations

import logging
import sys
from types import ModuleType

import pytest
from django.core.checks import run_checks
from django.http import HttpResponse
from django.urls import path, re_path

from meterkit import Governance, Meter, MeterKit, Pages, Quota, Webhook, response_json
from meterkit.django import MeterMiddleware

OURS = "meterkit.django.MeterMiddleware"
AUTH = "django.contrib.auth.middleware.AuthenticationMiddleware"
GZIP = "django.middleware.gzip.GZipMiddleware"
CALLS = Meter("calls", path="/v1/*")


class Ours:
    """Not a MeterMiddleware, for all its name."""


class Derived(MeterMiddleware):
    """A project's own."""


def view(request, **_):
    """Any."""
    return HttpResponse()


@pytest.fixture
def ids(with_settings, monkeypatch, tmp_path):
    """A function that returns the ids of the messages about a project."""

    def ids(kit=None, *, urls=(), deploy=False, databases=None, **changed):
        urlconf = ModuleType("urlconf")
        urlconf.urlpatterns = list(urls)
        monkeypatch.setitem(sys.modules, "urlconf", urlconf)
        with_settings(**{"METERKIT": kit, "MIDDLEWARE": [OURS], "ROOT_URLCONF": "urlconf", "DEBUG": False, **changed})
        found = run_checks(
            tags=["database"] if databases else ["meterkit"], include_deployment_checks=deploy, databases=databases
        )
        found = [each for each in found if each.id.startswith("meterkit.")]
        ids.messages = found
        assert all(each.msg.endswith(".") for each in found)
        return [each.id.removeprefix("meterkit.") for each in found]

    return ids


@pytest.fixture
def make(tmp_path):
    """A function that builds a kit in a directory of the test's own."""
    return lambda *meters, **options: MeterKit(**{"meters": meters or [CALLS], "data_dir": tmp_path, **options})


def test_a_project_in_order(ids, make):
    """Nothing."""
    kit = make(
        Meter("docs", route="/docs/<int:pk>/"), Meter("jobs", http=False), webhook=Webhook("/s", secret="whsec_")
    )

    assert [] == ids(kit, urls=[path("docs/<int:pk>/", view)])


def test_no_setting(ids):
    """With the line to add."""
    assert ["E001"] == ids(None)
    assert 'METERKIT = "billing.kit"' in ids.messages[0].hint


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (None, "No module named 'shop_billing'; set it to the dotted path of your kit"),
        ("kit = 5", "the middleware needs a MeterKit, such as billing.kit, not 5"),
        ("from meterkit import *\nkit = MeterKit(meters=[])", "meters= is empty"),
        ("from meterkit import *\nWebhook('/stripe')", "the whsec_... that Stripe shows when you create the endpoint."),
        ("1 / 0", "The kit cannot be imported: ZeroDivisionError: division by zero ("),
        ("raise SystemError", "shop_billing.py, line 1)"),
    ],
)
def test_a_kit_that_cannot_be_imported(ids, tmp_path, monkeypatch, source, said):
    """Whatever its module raises: the other checks of the project are still made."""
    monkeypatch.syspath_prepend(tmp_path)
    # What is imported here goes with the test: others, in the same process, have a module of that name.
    monkeypatch.setitem(sys.modules, "shop_billing", None)
    del sys.modules["shop_billing"]
    monkeypatch.delenv("STRIPE_WEBHOOK_SECRET", raising=False)
    if source is not None:
        (tmp_path / "shop_billing.py").write_text(source)

    assert ["E002"] == ids("shop_billing.kit", deploy=True)
    assert said in ids.messages[0].msg
    assert [] == ids("shop_billing.kit", databases=["default"])


def test_an_unknown_key(ids):
    """Of the dictionary."""
    assert ["E002"] == ids({"KIT": "billing.kit", "DATADIR": "var"})


def test_a_key_without_effect(ids, make):
    """The kit says otherwise."""
    assert ["E003"] == ids({"KIT": make(), "DATA_DIR": "/elsewhere"})


def test_the_middleware_is_missing(ids, make):
    """A kit that only records, or only meters tools, does without."""
    assert ["W001"] == ids(make(), MIDDLEWARE=[f"{__name__}.Ours", "nothing.of.the.kind"])
    assert [] == ids(make(Meter("jobs", http=False)), MIDDLEWARE=[])
    assert [] == ids(make(Meter("searches", tool="search")), MIDDLEWARE=[])


def test_the_middleware_stands_there_twice(ids, make):
    """By whichever of its names."""
    assert ["E004"] == ids(make(), MIDDLEWARE=[OURS, "meterkit.django.middleware.MeterMiddleware"])
    assert ["E004"] == ids(make(), MIDDLEWARE=[OURS, f"{__name__}.Derived"])


def of_user(exchange):
    """As the guide has it."""
    user = exchange.native.user
    return str(user.pk) if user.is_authenticated else None


def of_header(exchange):
    """A key of an API."""
    return exchange.headers.get("x-api-key")


class OfAny:
    """A function that nobody can look into."""

    def __call__(self, exchange):
        """Return a company."""


@pytest.mark.parametrize(
    ("identify", "middleware", "expected"),
    [
        (of_user, [OURS, AUTH], ["W002"]),
        (of_user, [OURS], ["W002"]),
        (OfAny(), [OURS, AUTH], ["W002"]),
        (of_user, [AUTH, OURS], []),
        (of_header, [OURS, AUTH], []),
    ],
)
def test_a_page_for_users_of_whom_nobody_is_known_yet(ids, make, identify, middleware, expected):
    """It would show nobody anything. Governance is asked before the view, wherever the middleware stands."""
    kit = make(identify=identify, customer_page="/billing")
    governed = make(identify=identify, governance=Governance(quotas=[Quota(CALLS, 5)]))

    assert expected == ids(kit, MIDDLEWARE=middleware)
    assert [] == ids(governed, MIDDLEWARE=middleware)


@pytest.mark.parametrize("customer_page", [None, "/usage"])
def test_pages_for_a_team_of_whom_nobody_is_known_yet(ids, make, customer_page):
    """They are shown to who is of the staff, which request.user tells."""
    pages = Pages("/billing", team=lambda exchange: exchange.native.user.is_staff)
    kit = make(identify=of_header, pages=pages, customer_page=customer_page)

    assert ["W002"] == ids(kit, MIDDLEWARE=[OURS, AUTH])
    assert [] == ids(kit, MIDDLEWARE=[AUTH, OURS])


@pytest.mark.parametrize(("middleware", "expected"), [([OURS, GZIP], ["W003"]), ([GZIP, OURS], []), ([OURS], [])])
def test_a_body_that_is_compressed_already(ids, make, middleware, expected):
    """A meter that reads it must stand inside."""
    kit = make(Meter("rows", path="/v1/*", value=response_json("rows")))

    assert expected == ids(kit, MIDDLEWARE=middleware)
    assert [] == ids(make(), MIDDLEWARE=middleware)


def test_a_route_that_there_is_not(ids, make):
    """With the one that may be meant; a URLconf that depends on the language, or is broken, says nothing."""
    kit = make(Meter("docs", route="/docs/<int:pk>"), Meter("other", path="/v1/*"))

    assert ["E005"] == ids(kit, urls=[path("docs/<int:pk>/", view)])
    assert "did you mean '/docs/<int:pk>/'?" in ids.messages[0].msg
    assert [] == ids(kit, ROOT_URLCONF="no.such.module")


@pytest.mark.parametrize("served", ["STATIC_ROOT", "MEDIA_ROOT"])
def test_usage_that_the_web_server_gives_away(ids, make, tmp_path, served):
    """Its directory must not be among the files that are served."""
    kit = make(data_dir=tmp_path / "files" / "var")

    assert ["E006"] == ids(kit, **{served: str(tmp_path / "files")})
    assert [] == ids(kit, **{served: str(tmp_path / "fil")})
    assert [] == ids(kit, **{served: ""})


def test_among_the_files_of_the_project(ids, make, tmp_path):
    """With a prefix, too."""
    assert ["E006"] == ids(make(), STATICFILES_DIRS=[("assets", tmp_path)])


@pytest.mark.parametrize(
    ("urls", "expected"),
    [
        ([path("stripe/webhook", view)], ["W004"]),
        ([path("stripe/webhook/", view)], []),
        ([re_path("^stripe/webhook$", view)], ["W004"]),
        ([path("billing/usage", view)], ["W004"]),
        ([path("billing/usage/more", view)], []),
        ([path("account", view), path("account/<int:pk>/", view), path("accounts/", view)], ["W004", "W004"]),
        ([path("", view), path("<path:rest>", view)], []),
        ([re_path("^.*$", view)], []),
    ],
)
def test_a_view_that_is_never_called(ids, make, urls, expected):
    """The middleware answers there; a catch-all, as of a page that is one script, is no mistake."""
    kit = make(
        webhook=Webhook("/stripe/webhook", secret="whsec_"),
        customer_page="/billing/usage",
        pages=Pages("/account"),
        identify=of_header,
    )

    assert expected == ids(kit, urls=urls)


def test_a_directory_that_depends_on_where_one_is(ids, make, tmp_path, monkeypatch):
    """Two directories are two ledgers; the default is one of those."""
    monkeypatch.chdir(tmp_path)

    assert ["W005"] == ids(make(data_dir="var"))
    assert ["W005"] == ids(make(data_dir=None))
    assert [] == ids(make(data_dir=tmp_path / "var"))


def test_a_directory_that_cannot_be_written(ids, make, tmp_path):
    """Nothing would be counted. The directory itself need not be there yet."""
    (tmp_path / "file").touch()

    assert ["W014"] == ids(make(data_dir=tmp_path / "file" / "var"))
    assert f"may not write to {tmp_path / 'file'}, so" in ids.messages[0].msg


def test_a_live_key_of_a_developer(ids, make):
    """Where DEBUG is on."""
    assert ["W006"] == ids(make(stripe_key="sk_live_1"), DEBUG=True)
    assert [] == ids(make(stripe_key="sk_live_1"))
    assert [] == ids(make(stripe_key="sk_test_1"), DEBUG=True)


def test_a_meter_that_counts_everything(ids, make):
    """Beside others that do not: one for jobs, most likely."""
    assert ["W007"] == ids(make(CALLS, Meter("jobs")))
    assert "add http=False" in ids.messages[0].msg
    assert [] == ids(make(Meter("calls")))


def test_logs_that_vanish(ids, make, monkeypatch):
    """The logger was there before LOGGING disabled what was there."""
    monkeypatch.setattr(logging.getLogger("meterkit"), "disabled", True)

    assert ["W008"] == ids(make())


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["W011"]),
        ({"stripe_key": "sk_test_1"}, ["W012", "W013"]),
        ({"stripe_key": "sk_live_1", "stripe_base": "https://stripe.example"}, ["W012", "W013"]),
        ({"stripe_key": "sk_live_1"}, ["W013"]),
        ({"stripe_key": "sk_live_1", "webhook": Webhook(None, secret="whsec_")}, []),
        ({"stripe_key": "sk_org_1", "webhook": Webhook(None, secret="whsec_")}, []),
    ],
)
def test_what_only_production_needs(ids, make, options, expected):
    """With ``check --deploy``."""
    assert expected == ids(make(**options), deploy=True)
    assert [] == ids(make(**options))


def test_the_ledger_is_asked_only_on_request(ids, make, tmp_path):
    """With ``check --database``; and a check makes nothing."""
    broken = make(ledger="postgresql://me:hush@127.0.0.1:1/db")

    assert [] == ids(broken)
    assert ["W009"] == ids(broken, databases=["default"])
    assert "hush" not in str(ids.messages)
    assert [] == ids(make(), databases=["default"])
    assert not (tmp_path / "ledger.sqlite").exists()
    (tmp_path / "ledger.sqlite").write_text("This is no database at all, but it is where the ledger should be.")
    assert ["W009"] == ids(make(), databases=["default"])
