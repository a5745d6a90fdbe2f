"""The pages below one path: in every stack, for whom they are, under a strict policy, whatever goes wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from adapter_cases import USUAL_FIRST
from adapter_stacks import STACKS, Stack
from page_browser import Browser, tags_of
from page_kits import CALLS, is_staff
from thorough import first

from meterkit import ConfigurationError, Governance, MeterKit, Pages, Quota, Webhook
from meterkit.core.responses import Response
from meterkit.pages.request import PageRequest, Route


@pytest.fixture
def kit(make_kit: Callable[..., MeterKit]) -> MeterKit:
    return make_kit(governance=Governance(quotas=[Quota(CALLS, 1)]), customer_page="/billing/usage.json")


@pytest.fixture
def browser(stack: Stack, kit: MeterKit) -> Browser:
    return Browser(stack, stack.make(kit), {"X-Company": "acme"})


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[PageRequest]]:
    """Gives every kit a page of the team's, and returns who saw it."""
    from meterkit.pages import customer_views

    seen: list[PageRequest] = []
    own = customer_views.CustomerViews.routes

    def show(request: PageRequest) -> Response:
        seen.append(request)
        return request.error(200, "The secret page", "All companies.")

    def routes(views: Any) -> list[Route]:
        return [*own(views), Route("team/secret", show, "team", title="Secret")]

    monkeypatch.setattr(customer_views.CustomerViews, "routes", routes)
    return lambda: seen


@pytest.mark.parametrize("stack", USUAL_FIRST, ids=lambda stack: stack.name)
@pytest.mark.parametrize("mount", first(["/api"], among=["", "/api", "/billing"]))
def test_with_and_without_a_slash(browser: Browser, mount: str) -> None:
    """The same page, behind a prefix as well; its links lead to what there is."""
    browser.mount = mount
    for address in ("/billing", "/billing/"):
        page = browser.get(address)
        files = [browser.follow(address, link) for link in page.links if link.endswith(".css")]

        assert (200, "text/html; charset=utf-8") == (page.status, page.headers["content-type"])
        assert "acme" in page.words
        assert 2 == len(files)
        assert {200} == {file.status for file in files}
        assert {"text/css; charset=utf-8"} == {file.headers["content-type"] for file in files}


@pytest.mark.parametrize("stack", USUAL_FIRST, ids=lambda stack: stack.name)
def test_neither_metered_nor_blocked(browser: Browser, kit: MeterKit) -> None:
    """Also when the quota is used up; and what is not below the path is the app's."""
    calls = [browser.get("/whole").status]
    kit.flush()
    calls.append(browser.get("/whole").status)
    pages = [browser.get("/billing").status for _ in range(2)]
    other = browser.get("/billings").status
    kit.flush()

    assert [201, 429] == calls
    assert [200, 200] == pages
    assert 201 == other
    assert [1] == [row.quantity for row in kit.usage()]


def test_beside_the_json(browser: Browser) -> None:
    """A customer page below the path is served as before."""
    assert "application/json" == browser.get("/billing/usage.json").headers["content-type"]


@pytest.mark.parametrize("stack", USUAL_FIRST, ids=lambda stack: stack.name)
def test_who_is_not_known(browser: Browser) -> None:
    """Sees no company's page, whatever the query says."""
    browser.headers = {}
    page = browser.get("/billing/?company=acme")

    assert 401 == page.status
    assert "acme" not in page.text


def test_the_policy(browser: Browser) -> None:
    """Nothing from elsewhere, nothing inline, in no frame; on error pages, too."""
    for page in (browser.get("/billing"), browser.get("/billing/nothing")):
        policy = page.policy

        assert ["'none'"] == policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"]
        assert ["'self'"] == policy["script-src"] == policy["style-src"] == policy["img-src"]
        assert "unsafe" not in page.headers["content-security-policy"]
        assert ("no-store", "nosniff") == (page.headers["cache-control"], page.headers["x-content-type-options"])
        assert "same-origin" == page.headers["referrer-policy"]
        assert not [tag for tag, _ in tags_of(page.text) if tag in ("script", "style")]
        assert not [name for _, found in tags_of(page.text) for name in found if name == "style" or name[:2] == "on"]


def test_static_files(browser: Browser) -> None:
    """Are kept for ever under the hash of their content, and not under another; nothing else is to be had."""
    (address,) = [link for link in browser.get("/billing/").links if link.endswith("pages.css")]
    file = browser.follow("/billing/", address)
    other = browser.follow("/billing/", re.sub("static/[^/]*", "static/0123456789abcdef", address))
    none = [
        "static/x/none.css",
        "static/../config.py",
        "static/x/../../config.py",
        "static/x/%2e%2e/site.py",
        "static/",
    ]

    assert "public, max-age=31536000, immutable" == file.headers["cache-control"]
    assert "nosniff" == file.headers["x-content-type-options"]
    assert (200, "no-store") == (other.status, other.headers["cache-control"])
    assert {404} == {browser.get(f"/billing/{path}").status for path in none}
    assert 405 == browser.get("/billing/" + address.removeprefix("./"), method="POST").status


METHODS = [
    ("HEAD", "", 200, None),
    ("OPTIONS", "", 200, "GET, HEAD, OPTIONS"),
    ("OPTIONS", "/checkout", 200, "POST, OPTIONS"),
    ("POST", "", 405, "GET, HEAD, OPTIONS"),
    ("DELETE", "", 405, "GET, HEAD, OPTIONS"),
    ("GET", "/checkout", 405, "POST, OPTIONS"),
    ("HEAD", "/portal", 405, "POST, OPTIONS"),
]


@pytest.mark.parametrize("stack", USUAL_FIRST, ids=lambda stack: stack.name)
def test_methods(browser: Browser) -> None:
    """A page is read, a button is pressed; HEAD has no body."""
    for method, path, status, allowed in METHODS:
        page = browser.get(f"/billing{path}", method=method, headers={"Sec-Fetch-Site": "same-origin"})

        assert (status, allowed) == (page.status, page.headers.get("allow"))
        assert (page.body == b"") == (method in ("HEAD", "OPTIONS"))


@pytest.mark.parametrize("stack", USUAL_FIRST, ids=lambda stack: stack.name)
def test_the_team_is_let_in(stack: Stack, make_kit: Callable[..., MeterKit], secret: Any) -> None:
    """And finds its pages in the navigation."""
    browser = Browser(stack, stack.make(make_kit()), {"X-Staff": "yes"})
    page = browser.get("/billing/team/secret")

    assert 200 == page.status
    assert "../team/secret" in page.links
    assert 1 == len(secret())


def raises(_exchange: Any) -> bool:
    raise RuntimeError("no session")


async def later(_exchange: Any) -> bool:
    return True


@pytest.mark.parametrize(
    ("team", "problem"),
    [
        (None, None),
        (lambda _: False, None),
        (is_staff, None),
        (raises, "team_raised"),
        (lambda exchange: [later(exchange)][0], "team_not_bool"),
        (lambda _: "yes", "team_not_bool"),
        (lambda _: 1, "team_not_bool"),
    ],
    ids=["none", "false", "not-staff", "raises", "coroutine", "text", "one"],
)
def test_nobody_else_is(
    stack: Stack, make_kit: Callable[..., MeterKit], secret: Any, team: Any, problem: str | None
) -> None:
    """Whoever it is, whatever `team=` returns besides True: the page is not there."""
    kit = make_kit(pages=Pages("/billing", team=team))
    browser = Browser(stack, stack.make(kit), {"X-Company": "acme"})
    for method in ("GET", "POST", "OPTIONS"):
        page = browser.get("/billing/team/secret", method=method)
        nothing = browser.get("/billing/team/nothing", method=method)

        assert (404, nothing.body) == (page.status, page.body)
    assert [] == secret()
    assert ([problem] if problem else []) == list(kit.health()["problems"])


def test_an_async_team(make_kit: Callable[..., MeterKit]) -> None:
    """It is said while building."""

    class Later:
        async def __call__(self, _exchange: Any) -> bool:
            return True

    for team in (later, Later()):
        with pytest.raises(ConfigurationError, match="a plain function, not async"):
            make_kit(pages=Pages("/billing", team=team))  # type: ignore[arg-type]


def test_identify_raises(make_kit: Callable[..., MeterKit], open_page: Callable[..., Browser]) -> None:
    """Nobody's page is shown, and health() says why."""
    kit = make_kit(identify=raises)

    assert 401 == open_page(kit).get("/billing").status
    assert "identify_early_raised" in kit.health()["problems"]


def test_a_ledger_that_is_away(stack: Stack, make_kit: Callable[..., MeterKit], tmp_path: Path) -> None:
    """The page says so; the app is not harmed."""
    (tmp_path / "file").touch()
    kit = make_kit(ledger=f"sqlite:///{tmp_path}/file/ledger.sqlite")
    browser = Browser(stack, stack.make(kit), {"X-Company": "acme"})
    page = browser.get("/billing")

    assert (503, "10") == (page.status, page.headers.get("retry-after"))
    assert "temporarily unavailable" in page.words
    assert 201 == browser.get("/whole").status


def test_a_page_that_breaks(
    make_kit: Callable[..., MeterKit], open_page: Callable[..., Browser], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Is an error page, without a word of the error; health() has it. So it is if the templates break."""
    from meterkit.pages.customer_page import CustomerStatements
    from meterkit.pages.rendering import Renderer

    monkeypatch.setattr(CustomerStatements, "of", lambda *_: raises(None))
    kit = make_kit()
    page = open_page(kit).get("/billing")
    monkeypatch.setattr(Renderer, "html", lambda *_: raises(None))
    bare = open_page(kit).get("/billing")

    assert [500, 500] == [page.status, bare.status]
    assert "text/plain; charset=utf-8" == bare.headers["content-type"]
    assert "no session" not in page.text + bare.text
    assert "internal" in " ".join(kit.health()["problems"])


@pytest.mark.parametrize("path", ["/whole", "/what"])
def test_a_route_that_is_hidden(
    make_kit: Callable[..., MeterKit], open_page: Callable[..., Browser], path: str
) -> None:
    """Is a problem, once, where the routes are known."""
    import flask

    import meterkit.flask

    app = flask.Flask("shop")
    app.add_url_rule("/billing/plans", "plans", view_func=lambda: "plans")
    app.add_url_rule("/billings", "billings", view_func=lambda: "other")
    kit = make_kit()
    meterkit.flask.init_app(app, kit)
    browser = Browser(STACKS[0], app, {"X-Company": "acme"})
    for _ in range(2):
        browser.get("/billing/plans")
    problem = kit.health()["problems"]["route_hidden"]

    assert 1 == problem["count"]
    assert "'/billing/plans'" in problem["message"]


def test_a_route_of_fastapi_that_is_hidden(make_kit: Callable[..., MeterKit]) -> None:
    """Is found as well, in routers that are included."""
    import fastapi
    from adapter_drivers import call_asgi

    import meterkit.asgi

    router = fastapi.APIRouter(prefix="/billing")
    router.get("/plans/{name}")(lambda name: name)
    app = fastapi.FastAPI()
    app.include_router(router)
    kit = make_kit()
    app.add_middleware(meterkit.asgi.MeterMiddleware, kit=kit)
    answer = call_asgi(app, path="/billing/plans/pro", headers={"X-Company": "acme"})

    assert 404 == answer.status
    assert "'/billing/plans/{name}'" in kit.health()["problems"]["route_hidden"]["message"]


@pytest.mark.parametrize("path", ["//", "/" * 10_000, "/a" * 10_000, "//checkout", "/%2e%2e/"])
def test_a_path_that_leads_nowhere(open_page: Callable[..., Browser], path: str) -> None:
    """Is not found, and makes no long page."""
    page = open_page().get("/billing" + path)

    assert 404 == page.status
    assert len(page.body) < 10_000


@pytest.mark.parametrize(
    "path",
    [
        "billing",
        "",
        "/",
        "//",
        "/a//b",
        "/a/{company}",
        "/a/<x>",
        "/a?b",
        "/a#b",
        "/a b",
        "/a/../b",
        "/./a",
        "/a\n",
        "/a%2f",
        "/a*",
        5,
        None,
    ],
)
def test_a_path_that_is_none(path: Any) -> None:
    """It is said while building."""
    with pytest.raises(ConfigurationError, match="a plain path such as"):
        Pages(path)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"team": "is_staff"}, "a function that takes an Exchange"),
        ({"name": "x" * 81}, "at most 80 characters"),
        ({"name": None}, "at most 80 characters"),
        ({"logo": "logo.svg"}, "a path such as"),
        ({"logo": "//evil.example/a.svg"}, "a path such as"),
        ({"logo": "javascript:alert(1)"}, "a path such as"),
        ({"logo": "http://plain.example/a.svg"}, "a path such as"),
        ({"logo": "https://a.example/a.svg; script-src *"}, "a path such as"),
        ({"logo": '/a.svg" onerror="x'}, "a path such as"),
        ({"color": "red"}, "must be written as"),
        ({"color": "#fff"}, "must be written as"),
        ({"color": "#ffffff;}body{display:none"}, "must be written as"),
        ({"color": 5}, "must be written as"),
    ],
    ids=str,
)
def test_settings_that_are_none(options: dict[str, Any], match: str) -> None:
    """It is said while building."""
    with pytest.raises(ConfigurationError, match=match):
        Pages("/billing", **options)


@pytest.mark.parametrize(
    "options",
    [{"customer_page": "/billing"}, {"webhook": Webhook("/billing/", secret="whsec_1")}],
    ids=["page", "webhook"],
)
def test_two_at_one_path(make_kit: Callable[..., MeterKit], options: dict[str, Any]) -> None:
    """The other one is named."""
    with pytest.raises(ConfigurationError, match="have the same path"):
        make_kit(**options)


def test_pages_that_are_none(make_kit: Callable[..., MeterKit]) -> None:
    """It is said while building."""
    with pytest.raises(ConfigurationError, match="must be a Pages"):
        make_kit(pages="/billing")


def test_without_jinja2(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names what to install."""
    from meterkit.pages import config

    monkeypatch.setattr(config, "find_spec", lambda _: None)
    with pytest.raises(ConfigurationError, match=r"pip install 'meterkit\[pages\]'"):
        Pages("/billing")


@pytest.mark.parametrize("color", [None, "#000000", "#ffffff", "#ffff00", "#7f7f7f", "#0B7285", "#ff0000", "#14171a"])
def test_colors_can_be_read(make_kit: Callable[..., MeterKit], open_page: Callable[..., Browser], color: Any) -> None:
    """Whatever the vendor's is: as text on the page, and under the text of a button, light and dark."""
    from meterkit.pages.colors import DARK, LIGHT, contrast

    browser = open_page(make_kit(pages=Pages("/billing", color=color)))
    (link,) = [link for link in browser.get("/billing/").links if link.endswith("color.css")]
    style = browser.follow("/billing/", link).text
    accents = re.findall(r"--accent:(#......)", style)
    on_accents = re.findall(r"--on-accent:(#......)", style)

    assert all(contrast(accent, page) >= 4.5 for accent, page in zip(accents, (LIGHT, DARK), strict=True))
    assert all(contrast(*each) >= 4.5 for each in zip(accents, on_accents, strict=True))


def test_the_vendor(make_kit: Callable[..., MeterKit], open_page: Callable[..., Browser]) -> None:
    """Its name is on each page, escaped; its image may come from where it is."""
    pages = Pages("/billing", name="<b>Acme</b> & Söhne", logo="https://cdn.example/logo.svg")
    page = open_page(make_kit(pages=pages)).get("/billing")

    assert "<b>" not in page.text
    assert "<b>Acme</b> & Söhne" in page.words
    assert "https://cdn.example/logo.svg" in page.links
    assert ["'self'", "https://cdn.example"] == page.policy["img-src"]


def test_no_jinja2_without_pages(make_kit: Callable[..., MeterKit]) -> None:
    """Nor with them, until a page is asked for."""
    import subprocess
    import sys

    program = (
        "import sys, meterkit; "
        "meterkit.MeterKit(meters=[meterkit.Meter('a')], pages=meterkit.Pages('/billing')); "
        "assert 'jinja2' not in sys.modules"
    )

    assert 0 == subprocess.run([sys.executable, "-c", program], check=False).returncode
