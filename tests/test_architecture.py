"""The tree: which package may import which, how many files a package has, and no import cycle, not even of types."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import meterkit

PACKAGE = Path(meterkit.__file__).parent
ROOT = PACKAGE.parent
MODULES = sorted(PACKAGE.rglob("*.py"))
NAMES = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in MODULES}

FRAMEWORKS = {"flask", "django", "starlette", "fastapi", "werkzeug", "gunicorn", "uvicorn"}
FILES_IN_ROOT = 14
FILES_IN_PACKAGE = range(4, 13)
PRESCRIBED = {"django/management", "django/management/commands"}
"""Where Django looks for commands, however few there are."""


def imports_of(path):
    """The modules that *path* imports anywhere, for the type checker or at run time."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            for alias in node.names:  # a submodule, or a name of the module itself
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in NAMES else node.module)
    return found


def lint(directory):
    """Run the contracts of pyproject.toml on the package in *directory*: what is printed, and the exit code."""
    command = Path(sys.executable).with_name("lint-imports")
    found = subprocess.run(
        [command, "--no-cache", "--config", str(ROOT / "pyproject.toml")],
        cwd=directory,
        env={"PYTHONPATH": str(directory), "PATH": "/usr/bin:/bin", "COLUMNS": "500"},
        check=False,
        capture_output=True,
        text=True,
    )
    return found.stdout, found.returncode


@pytest.fixture
def copied(tmp_path):
    """A copy of the package, to break."""
    for name, path in NAMES.items():
        target = tmp_path / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
        assert name.startswith("meterkit")
    return tmp_path


def test_the_contracts_are_kept():
    """Imports run down the flow; no package knows a library or a stage that it should not."""
    printed, code = lint(ROOT)

    assert code == 0, printed


BREAKS = {
    "Imports run down the flow": [
        ("journal/pool.py", "import meterkit.ledger.ledger"),
        ("accounts/standing.py", "import meterkit.governance.refusal"),
        ("core/windows.py", "import meterkit.metering.meter"),
        ("stray.py", ""),
    ],
    "The request path knows no database and no Stripe": [("metering/meter.py", "import sqlalchemy")],
    "The books know no Stripe client": [("accounts/standing.py", "import stripe")],
    "The Stripe client knows no books": [("stripe_api/retry.py", "import sqlalchemy")],
    "No room imports both the database and Stripe": [("webhooks/mapping.py", "import sqlalchemy")],
    "The sandbox shares no code with what it tests": [("sandbox/state/clock.py", "import meterkit.core.windows")],
    "The sandbox has floors of its own": [("sandbox/protocol/frame.py", "import meterkit.sandbox.state.clock")],
}


@pytest.mark.parametrize(
    ("contract", "file", "line"), [(contract, *each) for contract, all_ in BREAKS.items() for each in all_]
)
def test_each_contract_can_fail(copied, contract, file, line):
    """An import that should not be there, or a module without a floor, breaks the contract meant for it."""
    path = copied / "meterkit" / file
    before = path.read_text() if path.exists() else '"""A module that no floor names."""\n'
    path.write_text(f"{before}\n{line}\n")
    printed, code = lint(copied)

    assert code == 1
    assert f"{contract} BROKEN" in printed


def test_no_import_cycle_even_of_types():
    """Also between the files of one package, and for annotations alone."""
    graph = {name: {each for each in imports_of(path) if each in NAMES} - {name} for name, path in NAMES.items()}

    assert len(list(TopologicalSorter(graph).static_order())) == len(NAMES)


def test_a_cycle_is_found():
    """The test above can fail."""
    with pytest.raises(ValueError, match="cycle"):
        list(TopologicalSorter({"one": {"other"}, "other": {"one"}}).static_order())


def test_folders_can_be_taken_in():
    """A dozen files at most in a package, and few in the root."""
    files = Counter(path.parent.relative_to(PACKAGE).as_posix() for path in MODULES)
    in_root = files.pop(".")

    assert in_root <= FILES_IN_ROOT
    assert {} == {
        folder: number
        for folder, number in files.items()
        if number not in FILES_IN_PACKAGE and folder not in PRESCRIBED
    }


@pytest.mark.parametrize("path", [path for path in MODULES if "sandbox" not in path.parts], ids=str)
def test_each_framework_has_one_module(path):
    """A framework is imported only by the module or package that bears its name, and by the demo's examples."""
    libraries = {name.split(".")[0] for name in imports_of(path)}

    assert libraries & FRAMEWORKS <= {path.stem, *path.relative_to(PACKAGE).parts}


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_no_drawers(path):
    """A file is named for what it is."""
    assert path.stem not in ("utils", "util", "common", "helpers", "misc", "base")
