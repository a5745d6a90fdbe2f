"""Ask a stack for pages, as a browser does, and read what comes."""

from __future__ import annotations

from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin, urlsplit

from adapter_stacks import Stack

from meterkit import MeterKit


@dataclass
class Page:
    """What came of a request."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def policy(self) -> dict[str, list[str]]:
        """The Content-Security-Policy, by directive."""
        directives = (each.split() for each in self.headers["content-security-policy"].split(";"))
        return {name: values for name, *values in directives}

    @property
    def words(self) -> str:
        """The text that is shown, with single spaces."""
        return " ".join(" ".join(_parsed(self.text).words).split())

    @property
    def links(self) -> list[str]:
        """The addresses of links, forms, styles and images, as they are written."""
        return _parsed(self.text).links


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.links: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        self.links += [found[name] for name in ("href", "src", "action") if name in found]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def _parsed(text: str) -> _Parser:
    parser = _Parser()
    parser.feed(text)
    return parser


def tags_of(text: str) -> list[tuple[str, dict[str, str | None]]]:
    """The tags of a page, with their attributes."""
    return _parsed(text).tags


@dataclass
class Browser:
    """
    Asks an app on one of the stacks.

    Attributes:
        stack: How the app is served.
        app: The app.
        headers: What each request says, such as who it is.
        mount: What the proxy or the mount in front has of the path.
    """

    stack: Stack
    app: Any
    headers: dict[str, str]
    mount: str = ""

    def get(self, address: str, *, method: str = "GET", headers: dict[str, str] | None = None) -> Page:
        parts = urlsplit(address)
        sent = {"Host": "testserver", **self.headers, **(headers or {})}
        sent = {name: value for name, value in sent.items() if value}
        if self.stack.is_async:
            path = self.mount + parts.path
            query = {"query_string": parts.query.encode(), "root_path": self.mount}
            answer = self.stack.call(self.app, method, path, headers=sent, scope=query)
        else:
            query = {"QUERY_STRING": parts.query, "SCRIPT_NAME": self.mount}
            answer = self.stack.call(self.app, method, parts.path, headers=sent, environ=query)
        if answer.error is not None:
            raise answer.error
        assert answer.status is not None
        return Page(answer.status, {name.lower(): value for name, value in answer.headers}, answer.body)

    def post(self, address: str, **headers: str) -> Page:
        """Press a button of the page."""
        return self.get(address, method="POST", headers={"Sec-Fetch-Site": "same-origin", **headers})

    def follow(self, address: str, link: str) -> Page:
        """Follow a link of the page at *address*, as the client sees it."""
        return self.get(urljoin(self.mount + address, link).removeprefix(self.mount))


def open_browser(stack: Stack, kit: MeterKit, **headers: str) -> Browser:
    return Browser(stack, stack.make(kit), headers)
