"""The navigation of the site: the map in docs/index.md, of which each item is a page."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent

PARTS = ("Tutorial", "How-to guides", "Explanation", "Reference")
"""The headings of the map, in order; https://diataxis.fr says why these four are kept apart."""

ITEM = re.compile(r"^- \[(?P<title>[^\]]+)\]\((?P<path>[^)#]+\.md)\): (?P<about>.+)$")


class NavigationError(Exception):
    """The map is wrong; the message says what to change in docs/index.md."""


@dataclass(frozen=True)
class Page:
    """
    A page, as the map lists it.

    Attributes:
        title: Text of the link.
        path: Path below ``docs``, such as ``frameworks/flask.md``; above it for a file such as ``../CHANGELOG.md``.
        about: What the page is for, in a few words.
    """

    title: str
    path: str
    about: str


@dataclass(frozen=True)
class Group:
    """
    Pages under one heading of the map.

    Attributes:
        part: One of `PARTS`.
        name: The heading within the part; empty for pages directly below the part's own heading.
        pages: Its pages, in order.
    """

    part: str
    name: str
    pages: list[Page]


def read_map(text: str) -> list[Group]:
    """
    Return the groups of the map in *text*, the Markdown of docs/index.md.

    Raises:
        NavigationError: A part is missing or out of order, an item has another form than
            ``- [Title](page.md): what it is for``, or a page is listed twice.
    """
    groups: list[Group] = []
    part = ""
    for line in text.splitlines():
        if line.startswith("## "):
            part = line[3:] if line[3:] in PARTS else ""
            if part:
                groups.append(Group(part, "", []))
        elif part and line.startswith("### "):
            groups.append(Group(part, line[4:], []))
        elif part and line.startswith("- "):
            found = ITEM.match(line)
            if found is None:
                raise NavigationError(f"docs/index.md: write {line!r} as '- [Title](page.md): what it is for'")
            groups[-1].pages.append(Page(**found.groupdict()))
    parts = list(dict.fromkeys(group.part for group in groups))
    if parts != list(PARTS):
        raise NavigationError(f"docs/index.md: the map has the headings {parts}; it needs {list(PARTS)}")
    paths = [page.path for group in groups for page in group.pages]
    twice = sorted({path for path in paths if paths.count(path) > 1})
    if twice:
        raise NavigationError(f"docs/index.md: the map lists {', '.join(twice)} more than once")
    return [group for group in groups if group.pages]


def pages_on_disk(docs: Path = DOCS) -> set[str]:
    """Return the paths of all pages below *docs*, but for the index."""
    return {path.relative_to(docs).as_posix() for path in docs.rglob("*.md")} - {"index.md"}


def check(groups: list[Group], docs: Path = DOCS) -> None:
    """
    Check that the map lists each page, and that each page is there.

    Raises:
        NavigationError: A page is missing on either side; the message names it.
    """
    listed = {page.path for group in groups for page in group.pages}
    unlisted = sorted(pages_on_disk(docs) - listed)
    if unlisted:
        raise NavigationError(f"docs/index.md: add {', '.join(unlisted)} to the map, as '- [Title](page.md): ...'")
    missing = sorted(path for path in listed if not (docs / path).is_file())
    if missing:
        raise NavigationError(f"docs/index.md: the map lists {', '.join(missing)}, and there is no such file")
