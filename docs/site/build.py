"""
Build the site into dist/docs/VERSION: ``nox -s docs``.

The pages are copied to a directory of their own, which also gets what is made from the code: the API pages, and the
navigation, which is the map in docs/index.md. Sphinx then builds them, and each warning is an error.
"""

from __future__ import annotations

import argparse
import inspect
import re
import shutil
import sys
import tempfile
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import django
import llms
import navigation
import versions
from django.conf import settings
from navigation import DOCS, Group
from sphinx.cmd.build import build_main

import meterkit

ROOT = DOCS.parent
PACKAGE = Path(meterkit.__file__).parent
OTHERS = ("CHANGELOG.md", "examples")
"""What pages link to, above docs; on the site it is beside them."""

HOMES = {
    "kit": "MeterKit",
    "metering": "Meters and usage",
    "pricing": "Prices and plans",
    "governance": "Access control",
    "notices": "Notices",
    "pages": "Pages",
    "webhooks": "Webhooks",
    "jetstream": "JetStream",
    "ledger": "Tables",
    "errors": "Errors",
}
"""Title of the API page of each package of which `meterkit` itself has names; of others, the package's name."""

TOCTREE = "\n```{toctree}"
LINK = re.compile(r"\[(?P<text>[^\]\n]+)\]\((?P<target>[^)#:\s]+)\)")

DATA = {"metadata": "The ledger's tables as a SQLAlchemy ``MetaData``, which meterkit creates and upgrades itself."}
"""Names that are neither a class nor a function: autodoc would show the docstring of their type."""


def main() -> int:
    """Build one version, and list all versions that there are."""
    parser = argparse.ArgumentParser(description="Build the docs")
    parser.add_argument("--version", default=version("meterkit"), help="directory, and what the switch shows")
    parser.add_argument("--output", type=Path, default=ROOT / "dist" / "docs", help="directory of all versions")
    arguments = parser.parse_args()
    settings.configure(INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"])
    django.setup()  # so that the adapters for Django can be imported
    groups = navigation.read_map((DOCS / "index.md").read_text())
    navigation.check(groups)
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory) / "docs"
        stage(source, groups)
        site = Path(directory) / "site"
        strict = ["-q", "-W", "--keep-going", "-j", "auto"]
        about = ["-c", str(DOCS / "site"), "-D", f"release={arguments.version}"]
        failed = build_main(["-b", "html", *strict, *about, str(source), str(site)])
        if failed:
            return failed
        foreign = loaded_from_elsewhere(site)
        if foreign:
            print(f"These load something from another host: {', '.join(foreign)}", file=sys.stderr)
            return 1
        shutil.copytree(source, site, ignore=shutil.ignore_patterns("*.rst"), dirs_exist_ok=True)  # for llms.txt
        index, *_ = (source / "index.md").read_text().partition(TOCTREE)
        (site / "index.md").write_text(index)
        (site / "llms.txt").write_text(llms.llms_txt(groups))
        (site / "llms-full.txt").write_text(llms.llms_full_txt(groups))
        shutil.rmtree(site / ".doctrees", ignore_errors=True)
        final = arguments.output / arguments.version
        shutil.rmtree(final, ignore_errors=True)
        shutil.copytree(site, final)
    versions.write(arguments.output)
    print(f"Built {final / 'index.html'}")
    return 0


def stage(source: Path, groups: list[Group]) -> None:
    """Copy the pages to *source*, and write what is made from the map and from the code."""
    shutil.copytree(DOCS, source, ignore=shutil.ignore_patterns("site", "__pycache__"))
    for name in OTHERS:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("__pycache__", ".meterkit"))
        else:
            shutil.copy(path, source / name)
    for page in source.rglob("*.md"):
        text = page.read_text()
        depth = len(page.relative_to(source).parents) - 1
        for name in OTHERS:
            text = text.replace(f"]({'../' * (depth + 1)}{name}", f"]({'../' * depth}{name}")
        text = LINK.sub(partial(_without_directory, page.parent), text)
        page.write_text(re.sub(r"\]\(((?:\.\./)*)docs/", r"](\1", text) if page.name == "CHANGELOG.md" else text)
    with (source / "index.md").open("a") as index:
        index.write("".join(_toctree(group) for group in groups))
    _write_api(source / "api")


def _without_directory(beside: Path, link: re.Match[str]) -> str:
    """Return a link as it is, and its text alone if it leads to a directory, which a site does not show."""
    return link["text"] if (beside / link["target"]).is_dir() else link[0]


def _toctree(group: Group) -> str:
    """Return the group as a hidden toctree; the API pages end the reference."""
    entries = [f"{page.title} <{llms.target(page)}>" for page in group.pages]
    if group.part == "Reference":
        entries.append("API <api/index>")
    caption = f"{group.part}: {group.name}" if group.name else group.part
    return "\n".join([TOCTREE, ":hidden:", f":caption: {caption}", "", *entries, "```", ""])


def _write_api(directory: Path) -> None:
    """Write a page for each package that has public names, and an index of them."""
    directory.mkdir()
    names_by_home: dict[str, list[str]] = {home: [] for home in HOMES}
    for name in meterkit.__all__:
        names_by_home.setdefault(_home(name), []).append(name)
    pages = []
    for home, names in names_by_home.items():
        parts = [_title(HOMES.get(home, home)), *(_directive("meterkit", name) for name in names)]
        (directory / f"{home}.rst").write_text("\n".join(parts))
        pages.append(home)
    described = {id(getattr(meterkit, name)) for name in meterkit.__all__}
    for module in public_modules():
        members = {name: getattr(import_module(module), name) for name in import_module(module).__all__}
        own = [name for name, value in members.items() if id(value) not in described]  # others are on another page
        described.update(map(id, members.values()))
        parts = [_title(module), f".. automodule:: {module}\n", *(_directive(module, name) for name in own)]
        (directory / f"{module}.rst").write_text("\n".join(parts))
        pages.append(module)
    index = f"{_title('API')}\nThe public names, from their docstrings.\n\n.. toctree::\n   :maxdepth: 2\n\n"
    (directory / "index.rst").write_text(index + "".join(f"   {page}\n" for page in pages))


def _home(name: str) -> str:
    """Return the package in which a name of `meterkit` is defined."""
    declared = re.search(rf"^    from meterkit\.(\w+)\S* import .*\b{name}\b", _declarations(), re.MULTILINE)
    if declared is None:
        raise LookupError(f"meterkit/__init__.py does not import {name} for type checkers")
    return declared.group(1)


def _declarations() -> str:
    """What meterkit imports for type checkers, each import on a line."""
    text = (PACKAGE / "__init__.py").read_text()
    return re.sub(r"\(\n(.*?)\n    \)", lambda found: " ".join(found.group(1).split()), text, flags=re.DOTALL)


def _directive(module: str, name: str) -> str:
    """Return what describes a name, by its docstring."""
    value = getattr(import_module(module), name)
    if inspect.isclass(value):
        return f".. autoclass:: {module}.{name}\n   :members:\n"
    if inspect.isroutine(value):
        return f".. autofunction:: {module}.{name}\n"
    if name in DATA:
        return f".. py:data:: {module}.{name}\n\n   {DATA[name]}\n"
    return f".. autodata:: {module}.{name}\n   :no-value:\n"


def _title(text: str) -> str:
    return f"{text}\n{'=' * len(text)}\n"


def public_modules() -> list[str]:
    """Return the modules and packages that users import: those that have ``__all__``."""
    candidates = [*PACKAGE.glob("*.py"), *PACKAGE.glob("*/*.py")]
    public = []
    for path in sorted(candidates):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name != "meterkit" and re.search(r"^__all__ = ", path.read_text(), re.MULTILINE):
            top = import_module(".".join(name.split(".")[:2]))
            if hasattr(top, "__all__"):
                public.append(name)
    return public


def loaded_from_elsewhere(site: Path) -> list[str]:
    """Return what a page would load from another host: the site must work offline."""
    foreign = re.compile(r"""<(?:script|img|iframe)\b[^>]*\bsrc="(?:https?:)?//|<link\b[^>]*stylesheet[^>]*"https?:""")
    pages = [path for path in site.rglob("*.html") if foreign.search(path.read_text())]
    styles = [path for path in site.rglob("*.css") if re.search(r"url\([\"']?https?:|@import", path.read_text())]
    return sorted(str(path.relative_to(site)) for path in [*pages, *styles])


if __name__ == "__main__":
    sys.exit(main())
