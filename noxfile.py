"""More than the README's two commands: every Python, the oldest frameworks, long runs, other projects' tests."""

from __future__ import annotations

import os
import re
import tarfile
import tempfile
from pathlib import Path

import nox

nox.options.sessions = ["lint", "types", "tests", "oldest"]
nox.options.error_on_missing_interpreters = False

PYTHONS = [
    classifier.rpartition(" ")[2]
    for classifier in nox.project.load_toml("pyproject.toml")["project"]["classifiers"]
    if classifier.startswith("Programming Language :: Python :: 3.")
]

OLDEST = [
    "django==4.2",
    "django-ninja==1.5.0",
    "djangorestframework==3.15.0",
    "fastapi==0.140.0",
    "flask==2.3.0",
    "genai-prices==0.1.13",
    "gunicorn==23.0.0",
    "httpx==0.27.0",
    "jinja2==3.1.2",
    "mcp==2.3.0",
    "opentelemetry-sdk==1.28.0",
    "prometheus-client==0.20.0",
    "psycopg[binary]==3.2.2",
    "pyuwsgi==2.0.26",  # the last that has no threads unless told
    "rich==13.0.0",
    "sqlalchemy==2.0.36",
    "starlette==1.7.0",
    "stripe==13.0.0",
    "tenacity==9.0.0",
    "uvicorn==0.46.0",
    "websockets==15.0.1",
    "werkzeug==2.3.3",
]
"""The floors of pyproject.toml, together."""

FOREIGN = {
    # name: frameworks to wrap, version, what its tests need, pytest's arguments
    "flask": ("flask", "3.1.3", ["pytest<9", "asgiref", "python-dotenv"], [
        "tests",
        # Any wrapper that is set as app.wsgi_app, as Flask's own docs say, makes the cycle that this test forbids.
        "--deselect=tests/test_basic.py::test_app_freed_on_zero_refcount",
    ]),
    "werkzeug": ("werkzeug", "3.1.9", ["pytest-timeout", "cryptography", "ephemeral-port-reserve", "watchdog"], [
        "tests", "--ignore=tests/test_serving.py", "--ignore=tests/live_apps",
    ]),
    "starlette": ("starlette", "1.10.0", ["httpx2", "trio", "jinja2", "itsdangerous", "python-multipart"], [
        "tests", "--ignore=tests/middleware/test_opentelemetry.py",
    ]),
    "falcon": ("falcon", "4.4.0", ["testtools", "requests", "pyyaml", "msgpack", "uvicorn", "httpx"], ["tests"]),
}  # fmt: skip
DJANGO = "5.2.19"
DJANGO_TESTS = """
asgi async builtin_server conditional_processing csrf_tests decorators file_uploads flatpages_tests generic_views
handlers httpwrappers i18n logging_tests messages_tests middleware redirects_tests requests_tests responses servers
sessions_tests staticfiles_tests syndication_tests test_client test_client_regress urlpatterns urlpatterns_reverse
view_tests wsgi
"""


@nox.session
def lint(session: nox.Session) -> None:
    """Style, format, and which package may import which."""
    session.install("-e", ".", "ruff>=0.9", "import-linter>=2")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("lint-imports")


@nox.session
def types(session: nox.Session) -> None:
    """Types, strictly."""
    session.install("-e", ".[dev]")
    session.run("mypy")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The tests, with the newest frameworks that this Python takes."""
    session.install("-e", ".[test]")
    session.run("pytest", "-m", "", *session.posargs)


MANY_VARIANTS = [
    f"tests/{of}"
    for of in (
        *("access_logs", "adapters", "cli", "demo", "django_app", "events", "flusher", "holds", "jetstream", "kit"),
        *("llm", "mcp", "pages", "proxy", "sandbox", "service"),
    )
]
"""What is usual there is not long."""

MANY_CASES = [
    *(f"tests/faults/test_faults_{of}.py" for of in ("disk", "journal", "stripe", "wire")),
    "tests/postgres",
    *(
        f"tests/servers/test_servers_{of}.py"
        for of in ("flusher", "gevent", "gunicorn", "trouble", "underway", "uwsgi")
    ),
    "tests/governance/test_plans.py",
    "tests/journal/test_cardinality.py",
    "tests/ledger/test_quantities.py",
    "tests/outbox/test_unbilled.py",
    "tests/rating",
    "tests/reporting/test_credits.py",
]
"""The long tests of both are nox -s reliability's alone: CI is to take less than 20 minutes."""


@nox.session
def long(session: nox.Session) -> None:
    """What the README's command leaves out: what is marked as long."""
    if session.virtualenv.is_sandboxed:  # .ci/run has installed everything, and says --no-venv
        session.install("-e", ".[test]")
    # nox -s reliability, nox -s browser, nox -s gateways
    elsewhere = ["tests/model", *KILLS, *MANY_VARIANTS, *MANY_CASES, "tests/browser", *GATEWAYS]
    session.run("pytest", "-m", "long and not thorough", *(f"--ignore={each}" for each in elsewhere), *session.posargs)


@nox.session
def browser(session: nox.Session) -> None:
    """All pages in a real Chromium, which the machine must have. METERKIT_SCREENSHOTS=docs/images renews the images."""
    if session.virtualenv.is_sandboxed:  # as above
        session.install("-e", ".[browser]")
    required = {"METERKIT_BROWSER": "required"}
    session.run("pytest", "-m", "", "tests/browser", *session.posargs, env=required)


@nox.session
def guides(session: nox.Session) -> None:
    """The guides that lead from other billers, with the packages of these; Debian: apt-get install redis-server."""
    session.install("-e", ".[test]", "moesifasgi>=1.1.8", "moesifwsgi>=1.10.5", "redis>=5", "usagerail>=0.1.1")
    session.run("pytest", "-m", "", "-n", "0", "tests/move", *session.posargs, env={"METERKIT_GUIDES": "required"})


GATEWAYS = ["tests/service/test_gateways.py", "tests/access_logs/test_logs_of_gateways.py"]
"""Tests before which real gateways stand."""


@nox.session
def gateways(session: nox.Session) -> None:
    """
    Real nginx, Caddy, HAProxy and Apache before apps, as the docs say; and -- -m "" for what takes longer.

    The machine must have them: apt-get install nginx-light haproxy caddy apache2 lua-socket.
    """
    if session.virtualenv.is_sandboxed:  # as above
        session.install("-e", ".[test]")
    required = {"METERKIT_GATEWAYS": "required"}
    session.run("pytest", "-m", "not thorough", "-n", "0", *GATEWAYS, *session.posargs, env=required)


@nox.session(python=PYTHONS[0])
def oldest(session: nox.Session) -> None:
    """The tests, with the oldest frameworks and libraries that we say we support."""
    session.install("-e", ".[test]")
    session.install(*OLDEST)
    # Not the sandbox's own tests: it answers with the shapes of Stripe's newest API, which only a new SDK declares.
    # Nor the longest, of the model, of faults, of many servers and hosts, of the shell and the demo; nor those of the
    # journal, of counting, accounts and prices, in which little depends on anybody's version;
    # nox -s oldest -- -m "" tests/servers runs those.
    many_hosts = [
        f"postgres/test_postgres_{each}.py"
        for each in ("clocks", "commits", "hosts", "locks", "outages", "retention", "secrets", "unreachable")
    ]
    longest = [
        "sandbox",
        "model",
        "faults",
        "servers",
        "hostile",
        "journal",
        "metering",
        "accounts",
        "governance",
        "notices",
        "pricing",
        "runtime",
        "access_logs",
        "events",
        "llm",
        "core",
        "flusher",
        "shadow",
        "slices",
        "wallets",
        "holds",
        "rating",
        "margin",
        "forecast",
        "move",
        "browser",
        "cli",
        "demo",
        "kit/test_kit_*",
        *many_hosts,
    ]
    # Nor the pages, whose examples are written for the newest, and what looks at our own code only.
    ours = ["docs", "docs_site", "tutorial", "benchmarks", "public_surface", "architecture", "typing"]
    ignored = [*longest, *(f"test_{each}.py" for each in ours)]
    elsewhere = [] if session.posargs else [f"--ignore-glob=tests/{each}" for each in ignored]
    session.run("pytest", *elsewhere, *session.posargs, env={"TMPDIR": tempfile.gettempdir()})  # on the disk


KILLS = [f"tests/servers/test_kills{of}.py" for of in ("", "_of_events", "_of_hosts", "_of_reporters", "_of_workers")]
KILLS += ["tests/proxy/test_kills_of_proxies.py", "tests/access_logs/test_kills_of_tails.py"]
KILLS.append("tests/holds/test_hold_kills.py")


@nox.session
def kills(session: nox.Session) -> None:
    """Many kills of real servers' workers, and of reporters: nox -s kills -- 200 for so many of each."""
    session.install("-e", ".[test]")
    times = session.posargs[0] if session.posargs else "20"
    session.run("pytest", "-m", "", "-n", "0", "-s", *KILLS, env={"METERKIT_TEST_KILLS": times})


@nox.session
def hostile(session: nox.Session) -> None:
    """Hostile requests, journals and webhooks; and all servers: streams that clients leave, stops on a removed disk."""
    session.install("-e", ".[test]", "connexion[flask]>=3", "daphne", "litestar", "waitress")
    tests = ["hostile", "adapters/test_other_frameworks.py", "adapters/test_servers.py"]
    tests += ["webhooks/test_verification.py", "journal/test_damaged_files.py"]
    tests += [f"servers/test_servers_{each}.py" for each in ("streams", "removed_disk")]
    tests.append("proxy/test_hostile_through_proxy.py")
    thorough = {"METERKIT_TEST_THOROUGH": "1"}
    session.run("pytest", "-m", "", *(f"tests/{each}" for each in tests), *session.posargs, env=thorough)


@nox.session
def reliability(session: nox.Session) -> None:
    """The long run: more than 1,000 kills, hundreds of stories, a million companies; writes docs/reliability.md."""
    session.install("-e", ".[test]")
    figures = Path(session.create_tmp()).absolute() / "figures.jsonl"
    figures.unlink(missing_ok=True)
    long = {"METERKIT_TEST_KILLS": "334", "METERKIT_TEST_EXAMPLES": "300", "METERKIT_TEST_COMPANIES": "1000000"}
    env = {**long, "METERKIT_TEST_SEEDS": "5", "METERKIT_TEST_THOROUGH": "1", "METERKIT_TEST_FIGURES": str(figures)}
    session.run("pytest", "-m", "", "-n", "0", "-s", *KILLS, env=env)
    servers = "tests/servers/"  # those follow, alone
    many_cases = ["tests/model", "tests/faults"]
    many_cases += [each for each in MANY_CASES if not each.startswith((servers, "tests/faults/"))]
    session.run("pytest", "-m", "", "-n", "2", *many_cases, env=env)
    session.run("pytest", "-m", "long and not thorough", "-n", "2", *MANY_VARIANTS)
    # Alone, so that an exit does not wait for the other's.
    session.run("pytest", "-m", "", "-n", "0", "tests/servers", *(f"--ignore={path}" for path in KILLS), env=env)
    session.run("python", "tests/figures.py", str(figures), "docs/reliability.md")


@nox.session
def sbom(session: nox.Session) -> None:
    """The software bill of materials of what users install, as CycloneDX: dist/sbom.json."""
    session.install("cyclonedx-bom>=7")
    installed = Path(session.create_tmp()).absolute() / "installed"
    session.run("python", "-m", "venv", "--clear", "--without-pip", str(installed))
    session.run("python", "-m", "pip", "--python", str(installed), "install", "-q", ".[cli,notices,postgres]")
    Path("dist").mkdir(exist_ok=True)
    about = ["--pyproject", "pyproject.toml", "--mc-type", "library", "--output-reproducible"]
    session.run("cyclonedx-py", "environment", *about, "-o", "dist/sbom.json", str(installed))


@nox.session
def docs(session: nox.Session) -> None:
    """The site, in dist/docs/VERSION: nox -s docs -- --version dev. A broken link or any other warning fails it."""
    if session.virtualenv.is_sandboxed:  # as above
        adapters = ["djangorestframework>=3.15", "django-ninja>=1.5"]  # whose docstrings the API pages show
        session.install("-e", ".[docs,demo,jetstream,notices,opentelemetry,pages,postgres,prometheus]", *adapters)
    session.run("python", "docs/site/build.py", *session.posargs)


PEERS = [
    "apitally[fastapi,flask,starlette]",
    "moesifasgi",
    "moesifwsgi",
    "opentelemetry-instrumentation-asgi",
    "opentelemetry-instrumentation-flask",
    "opentelemetry-instrumentation-wsgi",
    "opentelemetry-sdk",
]
"""What the benchmark compares with, besides what is written by hand."""


@nox.session
def bench(session: nox.Session) -> None:
    """What metering costs, beside other ways; writes docs/performance.md. Some 20 minutes on an idle machine."""
    session.install("-e", ".[demo,starlette]", "prometheus-client", "uvicorn[standard]", *PEERS)
    session.run("python", "-m", "benchmarks", "--page", "docs/performance.md", *session.posargs)


@nox.session
@nox.parametrize("project", list(FOREIGN))
def foreign(session: nox.Session, project: str) -> None:
    """Another project's own tests, without and with the middleware: what passed has to pass as before."""
    wrapped, version, needs, arguments = FOREIGN[project]
    sources = _sources(session, project, version)
    session.install("-e", ".", "pytest", *needs)
    session.install(str(sources))
    session.chdir(sources)
    command = ["pytest", "-q", "-p", "no:cacheprovider", "-o", "addopts=", *arguments]
    plain = session.run(*command, success_codes=[0, 1], silent=True)
    path = {"METERKIT_FOREIGN": wrapped, "PYTHONPATH": str(Path(__file__).parent / "tests" / "foreign")}
    metered = session.run(*command, "-p", "everywhere", success_codes=[0, 1], silent=True, env=path)
    _compare(session, str(plain), str(metered), "FAILED", "ERROR")


@nox.session
def foreign_django(session: nox.Session) -> None:
    """The parts of Django's own tests that have to do with requests, without and with the middleware."""
    sources = _sources(session, "django", DJANGO)
    session.install("-e", ".", str(sources), "jinja2")
    session.chdir(sources / "tests")
    run = "import runpy, sys; sys.argv[0] = 'runtests.py'; runpy.run_path('runtests.py', run_name='__main__')"
    arguments = ["--parallel", "1", *DJANGO_TESTS.split()]
    plain = session.run("python", "-W", "ignore", "-c", run, *arguments, success_codes=[0, 1], silent=True)
    path = {"METERKIT_FOREIGN": "django", "PYTHONPATH": str(Path(__file__).parent / "tests" / "foreign")}
    command = ["python", "-W", "ignore", "-c", f"import everywhere; {run}", *arguments]
    metered = session.run(*command, success_codes=[0, 1], silent=True, env=path)
    _compare(session, str(plain), str(metered), "FAIL:", "ERROR:")


def _sources(session: nox.Session, project: str, version: str) -> Path:
    """The project's source distribution, which has its tests."""
    directory = Path(session.create_tmp())
    found = f"{project}=={version}"
    session.run(
        "python", "-m", "pip", "download", "-q", "--no-deps", "--no-binary", project, found, "-d", str(directory)
    )
    with tarfile.open(directory / f"{project}-{version}.tar.gz") as archive:
        archive.extractall(directory)  # noqa: S202 - a release from the index that pip trusts
    return (directory / f"{project}-{version}").absolute()


def _compare(session: nox.Session, plain: str, metered: str, *marks: str) -> None:
    def failed(output: str) -> set[str]:
        return {line.split(" - ")[0] for line in output.splitlines() if line.startswith(marks)}

    for name, output in {"without": plain, "with": metered}.items():
        ends = [
            line for line in output.splitlines() if " passed" in line or line.startswith(("Ran ", "meterkit counted"))
        ]
        session.log(f"{name}: {os.linesep.join(ends)[:300]}")
    if not re.search(r"meterkit counted [1-9]", metered):
        session.error("the middleware met no request, so this says nothing")
    if failed(plain) != failed(metered):
        session.error(f"these differ: {sorted(failed(plain) ^ failed(metered))}")
