"""Render the templates, and serve the static files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from meterkit.core.responses import REASONS, Response
from meterkit.pages.colors import stylesheet

if TYPE_CHECKING:
    from jinja2 import Environment

HERE = Path(__file__).parent

MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""Types of the static files that are served; others in their directory, such as licences, are not."""

LONGEST_SHOWN = 120
"""Characters of a name or an id that are shown."""


class StaticFile(NamedTuple):
    """
    A static file.

    Attributes:
        body: Its content.
        media_type: Its type.
        version: Hash of its content, which is part of its address.
    """

    body: bytes
    media_type: str
    version: str


class Renderer:
    """
    Renders templates and serves static files; both are read from the package once.

    Args:
        color: Color of the vendor, ``#rrggbb``; None for meterkit's own.
    """

    def __init__(self, *, color: str | None) -> None:
        self._color = color

    @cached_property
    def environment(self) -> Environment:
        """The environment of Jinja2, which is imported here: only a process that serves a page needs it."""
        import jinja2

        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters |= {
            "cut": _cut,
            "name": _name,
            "number": _number,
            "money": _money,
            "minute": _minute,
            "day": _day,
            "month": _month,
            "is_link": _is_link,
            "is_positive": lambda amount: Decimal(amount) > 0,
        }
        return environment

    @cached_property
    def files(self) -> Mapping[str, StaticFile]:
        """Static files by name."""
        contents = {path.name: path.read_bytes() for path in (HERE / "static").iterdir() if path.suffix in MEDIA_TYPES}
        contents["color.css"] = stylesheet(self._color).encode()
        return {
            name: StaticFile(body, MEDIA_TYPES[Path(name).suffix], hashlib.sha256(body).hexdigest()[:16])
            for name, body in contents.items()
        }

    def html(self, template: str, values: Mapping[str, Any]) -> bytes:
        """Return a template, rendered with *values*."""
        # A lone surrogate, which a path or a name may hold, cannot be sent as UTF-8.
        return self.environment.get_template(template).render(values).encode("utf-8", "replace")

    def address(self, root: str, name: str) -> str:
        """Return the relative address of the static file *name*."""
        return f"{root}static/{self.files[name].version}/{name}"

    def serve(self, path: str) -> Response | None:
        """Return the static file at *path*, ``static/VERSION/NAME``; None if there is none."""
        _, _, rest = path.partition("/")
        version, _, name = rest.partition("/")
        file = self.files.get(name)
        if file is None:
            return None
        # While hosts are updated one by one, a page of one may ask another for a file in another version.
        is_same = version == file.version
        headers = [
            ("Content-Type", file.media_type),
            ("Content-Length", str(len(file.body))),
            ("Cache-Control", "public, max-age=31536000, immutable" if is_same else "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            ("Content-Security-Policy", "default-src 'none'"),
        ]
        return Response(200, REASONS[200], headers, file.body)


def _name(text: object, length: int = LONGEST_SHOWN) -> Any:
    """Return a name or an id, cut, and isolated: text that runs right to left must not reorder what is around it."""
    from markupsafe import Markup

    return Markup("<bdi>{}</bdi>").format(_cut(text, length))


def _cut(text: object, length: int = LONGEST_SHOWN) -> str:
    """Return a name or an id, cut."""
    whole = str(text)
    return whole if len(whole) <= length else whole[: length - 1] + "…"


def _number(number: int | str | Decimal) -> str:
    """Return a number with commas between thousands."""
    return f"{Decimal(number):,f}"


def _money(amount: str | Decimal, currency: str) -> str:
    """Return an amount in whole currency with its code: ``1,234.50 EUR``."""
    from meterkit.pricing.price import decimals_of

    value = Decimal(amount)
    places = max(decimals_of(currency), -int(value.as_tuple().exponent))
    return f"{value:,.{places}f} {currency.upper()}"


def _minute(instant: str) -> str:
    """Return the minute of an ISO 8601 instant: ``3 March 2026, 12:10``."""
    return f"{_day(instant)}, {instant[11:16]}"


def _day(instant: str) -> str:
    """Return the day of an ISO 8601 instant: ``3 March 2026``."""
    moment = datetime.fromisoformat(instant.replace("Z", "+00:00"))
    return f"{moment.day} {moment:%B %Y}"


def _month(month: str) -> str:
    """Return ``2026-03`` as ``Mar 2026``."""
    return datetime.fromisoformat(f"{month}-01").strftime("%b %Y")


def _is_link(url: str | None) -> bool:
    """Return whether a URL from the ledger may be a link: one with another scheme could run a script."""
    return url is not None and url.startswith(("https://", "http://"))
