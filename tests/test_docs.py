"""The documentation is true: its examples run, its links lead somewhere, and it leaves nothing out."""

from __future__ import annotations

import ast
import inspect
import json
import re
import shlex
import subprocess
import sys
from configparser import ConfigParser
from itertools import takewhile
from pathlib import Path
from types import ModuleType

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

import meterkit
from meterkit import Meter, MeterKit, Price, Tier
from meterkit.cli import parser

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), ROOT / "README.md"])
TUTORIAL = DOCS / "tutorial.md"  # test_tutorial.py does what it says, in files and a shell
EXAMPLES = [path for path in PAGES if path != TUTORIAL]
PACKAGE = Path(meterkit.__file__).parent
ENGINE = [
    path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts[0] not in ("cli", "demo", "sandbox")
]
SYBIL = Sybil(parsers=[PythonCodeBlockParser(), SkipParser()], pattern="*.md", path=str(ROOT))


def page(name):
    """The text of a page."""
    return (DOCS / name).read_text()


def by_name(paths):
    """Names for pytest to show."""
    return [str(path.relative_to(ROOT)) for path in paths]


@pytest.mark.parametrize("path", EXAMPLES, ids=by_name(EXAMPLES))
def test_the_examples_run(path, tmp_path, monkeypatch):
    """Every Python block of a page runs as it stands, one after the other, in an empty directory."""
    monkeypatch.chdir(tmp_path)
    module = ModuleType("example")
    module.__file__ = str(tmp_path / "example.py")
    monkeypatch.setitem(sys.modules, "example", module)
    document = SYBIL.parse(path)
    document.namespace = vars(module)
    try:
        for example in document.examples():
            example.evaluate()
        for name, value in list(document.namespace.items()):
            if name.startswith("test_") and not inspect.signature(value).parameters:
                value()
    finally:
        for kit in document.namespace.values():
            if isinstance(kit, MeterKit):
                kit.close()


NOT_RUN = {
    "docs/configuration.md": (1, "needs Alembic's env.py: tests/ledger/test_alembic.py runs one"),
    "docs/frameworks/django.md": (9, "need a project: tests/django_app follows the guide in one"),
    "docs/frameworks/others.md": (2, "need Bottle and Litestar: tests/adapters/test_other_frameworks.py"),
    "docs/jobs.md": (2, "need Celery and a Django project: tests/servers and tests/django_app"),
    "docs/sandbox.md": (1, "has no body"),
    "docs/testing.md": (5, "are tests: the test below runs those of pytest; tests/django_app has some of Django"),
}
"""How many blocks of Python of a page are not run, and why."""

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def is_python(text):
    """Whether it can be compiled."""
    try:
        return bool(ast.parse(text).body)
    except SyntaxError:
        return False


@pytest.mark.parametrize("path", PAGES, ids=by_name(PAGES))
def test_what_is_not_run_has_a_reason(path):
    """Each block of Python is run, but for those listed above; none is left out by accident."""
    text = path.read_text()
    disguised = [block for language, block in BLOCK.findall(text) if not language and is_python(block)]
    listed, _ = NOT_RUN.get(path.relative_to(ROOT).as_posix(), (0, ""))

    assert listed == len(disguised) + len(re.findall(r"<!--+ skip: next(?! if)", text))


@pytest.mark.long
def test_the_tests_of_the_page_about_tests_pass(tmp_path):
    """Whoever saves the files of docs/testing.md under the names that they begin with has tests that pass."""
    for name, text in re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```$", page("testing.md"), re.MULTILINE | re.DOTALL):
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:django"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert {"billing.py", "conftest.py", "test_billing.py", "test_month.py"} <= {
        each.name for each in tmp_path.iterdir()
    }
    assert "2 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("path", PAGES, ids=by_name(PAGES))
def test_commands_and_files_are_well_formed(path):
    """The command line takes each command of ours; JSON and INI files can be read."""
    for language, text in BLOCK.findall(path.read_text()):
        if language == "json":
            json.loads(text)
        elif language == "ini":
            ConfigParser(interpolation=None, strict=False).read_string(text)
        elif language == "console":
            prompt = r"\$ " if "$ " in text else ""  # then, what has none is output
            for command in re.findall(rf"^{prompt}meterkit (.+)$", text, re.MULTILINE):
                words = list(takewhile(lambda word: word not in ("|", ">"), shlex.split(command, comments=True)))
                if not {"--help", "--version"} & set(words):
                    parser().parse_args(words)


def test_examples_are_found():
    """The test above can fail: there are examples, and a wrong one raises."""
    assert len(list(SYBIL.parse(DOCS / "index.md").examples())) > 2


@pytest.mark.parametrize("path", PAGES, ids=by_name(PAGES))
def test_links_lead_somewhere(path):
    """A link to another page, or to a heading of one, has a target."""

    def anchors(text):
        headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
        return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}

    broken = []
    for target in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", path.read_text()):
        file, _, anchor = target.partition("#")
        other = (path.parent / file) if file else path
        if not other.exists() or (anchor and anchor not in anchors(other.read_text())):
            broken.append(target)

    assert [] == broken


@pytest.mark.parametrize("name", meterkit.__all__)
def test_the_reference_is_complete(name):
    """Every public name stands in the reference."""
    assert f"`meterkit.{name}" in page("reference.md")


OWN_USE = {"event_counter", "hold_terms", "known_plan", "process", "team_site"}
"""Methods of the kit that its own parts call."""


@pytest.mark.parametrize("name", [name for name in vars(MeterKit) if name not in OWN_USE and not name.startswith("_")])
def test_every_verb_of_the_kit_is_in_the_reference(name):
    """Every method of the kit, but those for its own parts."""
    assert f"`{name}(" in page("reference.md")


def rows(text):
    """The tables of a page: the first cell of each row, and the second."""
    return dict(re.findall(r"^\| `(\w+)`[^|]* \| ([^|]*) \|", text, re.MULTILINE))


@pytest.mark.parametrize("what", [MeterKit, Meter, Tier])
def test_every_argument_is_in_the_configuration(what):
    """Every argument is listed."""
    assert set() == inspect.signature(what).parameters.keys() - rows(page("configuration.md")).keys()


def test_the_prices_arguments_are_in_the_configuration():
    """So are those of the functions that make prices, but for what they price, which comes first."""
    makers = (Price.per_unit, Price.graduated, Price.volume, Price.package)
    arguments = {name for maker in makers for name in inspect.signature(maker).parameters}

    assert set() == arguments - {"meter", "tiers", "price"} - set(re.findall(r"`(\w+)`", page("configuration.md")))


@pytest.mark.parametrize("what", [MeterKit, Meter])
def test_the_defaults_are_in_the_configuration(what):
    """A default that is a number or a word stands there as it stands in the code."""
    documented = rows(page("configuration.md"))

    assert {} == {
        name: documented[name]
        for name, option in inspect.signature(what).parameters.items()
        if isinstance(option.default, float | str)
        and option.default
        and repr(option.default) not in documented[name].replace('"', "'")
    }


def test_every_variable_is_in_the_configuration():
    """Every environment variable that the package asks for is listed."""
    asked = {name for path in ENGINE for name in re.findall(r"os\.environ(?:\.get\(|\[)\"(\w+)\"", path.read_text())}

    assert asked
    assert {"STRIPE_SECRET_KEY"} <= asked
    assert [] == [name for name in asked if f"`{name}`" not in page("configuration.md")]


def test_every_problem_is_in_the_reference():
    """Every reason under which a problem is counted or raised is listed."""
    reasons = set()
    for path in ENGINE:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            if isinstance(node.func, ast.Attribute) and node.func.attr in ("note", "_warn") and node.args:
                reasons.update([node.args[0]])
            reasons.update(keyword.value for keyword in node.keywords if keyword.arg == "reason")
    literals = {node.value for node in reasons if isinstance(node, ast.Constant)}
    derived = {
        f"{what}{node.values[-1].value}"
        for node in reasons
        if isinstance(node, ast.JoinedStr)
        for what in ("company", "user")
    }

    assert len(literals) > 20
    assert len(derived) == 8
    assert [] == sorted(reason for reason in literals | derived if f"`{reason}`" not in page("reference.md"))


def test_every_place_in_the_books_is_told():
    """What can be lost names every place where usage can be."""
    from meterkit.ledger.books import Books

    assert [] == [name for name in Books.__slots__ if name not in page("what-can-be-lost.md")]


def test_the_list_of_reliability_names_tests_that_there_are():
    """Forty lines, and whatever looks like a test in them is one."""
    text = page("reliability.md").split("## The list")[1]
    named = set(re.findall(r"`(test_\w+)`", text))
    there = {
        name
        for path in ROOT.glob("tests/**/test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
    }

    assert set() == named - there
    assert [str(number) for number in range(1, 41)] == re.findall(r"^\| (\d+) \|", text, re.MULTILINE)


def test_the_readmes_kills_are_those_of_the_figures():
    """The README's number is the sum of the table, in which what was billed lies within its bounds."""
    kills = re.findall(
        r"^\| \w+ \| (\d+) \| \d+ \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|$", page("reliability.md"), re.MULTILINE
    )

    assert f"{sum(int(number) for number, *_ in kills):,} `kill -9`" in (ROOT / "README.md").read_text()
    for _, *bounds in kills:
        lower, billed, upper = (int(each.replace(",", "")) for each in bounds)
        assert lower <= billed <= upper
