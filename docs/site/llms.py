"""The docs for language models: llms.txt, a list of all pages, and llms-full.txt, their text (https://llmstxt.org)."""

from __future__ import annotations

from pathlib import Path

from navigation import DOCS, Group, Page

INTRODUCTION = (
    "Each page is Markdown, at the address that is listed. All of them together are in [llms-full.txt](llms-full.txt)."
)


def target(page: Page) -> str:
    """Return the path of a page's Markdown within the site."""
    return page.path.removeprefix("../")


def llms_txt(groups: list[Group], docs: Path = DOCS) -> str:
    """Return ``llms.txt``: the name, the summary, and the pages by part and group, each with what it is for."""
    lines = ["# meterkit", "", *(f"> {line}" for line in _summary(docs)), "", INTRODUCTION]
    for group in groups:
        name = f"{group.part}: {group.name}" if group.name else group.part
        lines += ["", f"## {name}", ""]
        lines += [f"- [{page.title}]({target(page)}): {page.about}" for page in group.pages]
    return "\n".join([*lines, ""])


def llms_full_txt(groups: list[Group], docs: Path = DOCS) -> str:
    """Return ``llms-full.txt``: the text of all pages, in the order of the map, each below its path."""
    pages = [Page("meterkit", "index.md", ""), *(page for group in groups for page in group.pages)]
    return "\n".join(f"<!-- {target(page)} -->\n\n{(docs / page.path).read_text().strip()}\n\n" for page in pages)


def _summary(docs: Path) -> list[str]:
    """The first paragraph of the index."""
    _, first, *_ = (docs / "index.md").read_text().split("\n\n")
    return first.splitlines()
