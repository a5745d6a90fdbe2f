"""The versions that are built, side by side: the list for the switch, and the page that leads to the newest."""

from __future__ import annotations

import json
import re
from pathlib import Path


def write(output: Path) -> None:
    """Write the list of versions for the switch, newest first, and a first page that leads to the newest release."""
    versions = sorted((path.parent.name for path in output.glob("*/index.html")), key=_age, reverse=True)
    (output / "versions.js").write_text(f"window.meterkitVersions = {json.dumps(versions)};\n")
    newest = f"{next((name for name in versions if name[0].isdigit()), versions[0])}/index.html"
    (output / "index.html").write_text(
        '<!doctype html><meta charset="utf-8"><title>meterkit</title>'
        f'<meta http-equiv="refresh" content="0; {newest}"><a href="{newest}">The documentation of meterkit</a>\n'
    )


def _age(name: str) -> list[tuple[int, str]]:
    """Order versions by their numbers; what is no number, such as ``dev``, comes before all numbers."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"[.\-+]", name)]
