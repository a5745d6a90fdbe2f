"""The site's navigation has every page, and so do llms.txt and llms-full.txt."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"
sys.path.append(str(DOCS / "site"))

import llms  # noqa: E402 - after the line above
import navigation  # noqa: E402
import versions  # noqa: E402

GROUPS = navigation.read_map((DOCS / "index.md").read_text())
PATHS = sorted(navigation.pages_on_disk())

MAP = "".join(f"## {part}\n\n- [A page]({part.split()[0].lower()}.md): what it is for\n\n" for part in navigation.PARTS)


def test_the_map_has_each_page_once():
    """A page that nobody finds is an error, and so is an entry without a page."""
    navigation.check(GROUPS)


def test_a_page_that_is_not_on_the_map(tmp_path):
    """The error says where to add it."""
    groups = navigation.read_map(MAP)
    for page in groups:
        (tmp_path / page.pages[0].path).touch()
    navigation.check(groups, tmp_path)
    (tmp_path / "move").mkdir()
    (tmp_path / "move" / "new.md").touch()

    with pytest.raises(navigation.NavigationError, match=r"docs/index.md: add move/new.md to the map"):
        navigation.check(groups, tmp_path)


def test_an_entry_without_a_page(tmp_path):
    """The error names it."""
    with pytest.raises(navigation.NavigationError, match=r"lists explanation.md, .*, and there is no such file"):
        navigation.check(navigation.read_map(MAP), tmp_path)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (MAP.replace("## Explanation", "## Essays"), "it needs"),
        (MAP.replace(": what it is for", "", 1), r"write '- \[A page\]\(tutorial.md\)' as '- \[Title\]\(page.md\): "),
        (MAP.replace("reference.md", "tutorial.md"), "the map lists tutorial.md more than once"),
    ],
)
def test_a_map_that_is_wrong(text, error):
    """The error says what to write."""
    with pytest.raises(navigation.NavigationError, match=error):
        navigation.read_map(text)


@pytest.mark.parametrize("path", PATHS)
def test_each_page_is_in_llms_txt(path):
    """With its address, and what it is for."""
    entries = [line for line in llms.llms_txt(GROUPS).splitlines() if f"]({path}): " in line]

    assert 1 == len(entries)


@pytest.mark.parametrize("path", PATHS)
def test_each_page_is_in_llms_full_txt(path):
    """With all of its text."""
    text = llms.llms_full_txt(GROUPS)

    assert f"<!-- {path} -->\n" in text
    assert (DOCS / path).read_text().strip() in text


def test_llms_txt_has_the_form_that_readers_expect():
    """https://llmstxt.org: a title, a summary as a quotation, and lists of links below headings."""
    title, _, summary, *_ = text = llms.llms_txt(GROUPS).splitlines()

    assert "# meterkit" == title
    assert summary.startswith("> Usage-based billing for Python web APIs")
    headings = [line for line in text if line.startswith("#")]
    assert all(line.startswith("## ") for line in headings[1:])


def test_the_versions_are_listed_newest_first(tmp_path):
    """The switch has all that are built; the first page leads to the newest release, not to what is in development."""
    for name in ("0.9.0", "0.10.0", "dev"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "index.html").touch()
    (tmp_path / "something-else").mkdir()
    versions.write(tmp_path)

    assert 'window.meterkitVersions = ["0.10.0", "0.9.0", "dev"];\n' == (tmp_path / "versions.js").read_text()
    assert 'href="0.10.0/index.html"' in (tmp_path / "index.html").read_text()
