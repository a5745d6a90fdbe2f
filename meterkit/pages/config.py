"""`Pages`: where the pages are, who may see the team's, and how they look."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from meterkit.errors import ConfigurationError
from meterkit.metering.exchange import Exchange
from meterkit.pricing.plan import Plan

COLOR = re.compile(r"#[0-9a-fA-F]{6}")

LONGEST_NAME = 80
"""Longest name of the vendor, in characters: it stands in the title and above each page."""

SHORTEST_SECRET = 32
"""Shortest secret for tokens, in characters."""

UNSAFE = set(" \t\r\n\"'<>;,\\`{}|^*")
"""Characters that no URL has, and that would end a value in a header or an attribute."""


@dataclass(frozen=True)
class Pages:
    """
    The pages that the middleware serves below one path.

    Attributes:
        path: Path of the pages in the app, such as ``/billing``; also reached behind a prefix that a proxy or a mount
            adds.
        team: Function ``Exchange -> bool`` that returns whether the request may see the team's pages, which show all
            companies; None shows them to nobody.
        name: Name of the vendor, above each page and in its title.
        logo: Path or ``https://`` URL of an image beside the name; None for none.
        color: Color of links, buttons and bars, ``#rrggbb``. Where it would be hard to read, a darker or lighter shade
            of it is used.
        embed_in: Origins, such as ``https://app.example.com``, whose pages may show the customer's page in an iframe,
            with a token of ``kit.embed_token()``.
        embed_secret: Secret of at least 32 random characters that signs those tokens, the same on all hosts; by default
            from ``METERKIT_EMBED_SECRET``. Several while one replaces another, in a list or separated by commas: the
            first signs.
        plans: Names of the plans that customers may subscribe to by themselves, in the order in which they are shown;
            by default none. A kit without plans offers its prices.

    Raises:
        ConfigurationError: An argument is wrong, or Jinja2 is not installed; the message says how to correct it.
    """

    path: str
    _: KW_ONLY
    team: Callable[[Exchange], bool] | None = None
    name: str = ""
    logo: str | None = None
    color: str | None = None
    embed_in: Iterable[str] = ()
    embed_secret: str | Iterable[str] | None = field(default=None, repr=False)
    plans: Iterable[str] = ()

    def __post_init__(self) -> None:
        _check_path(self.path)
        object.__setattr__(self, "path", self.path.rstrip("/"))
        _check_team(self.team)
        if not isinstance(self.name, str) or len(self.name) > LONGEST_NAME:
            raise ConfigurationError(
                f"Pages(name=...) must be at most {LONGEST_NAME} characters, not {self.name!r:.100}"
            )
        _check_logo(self.logo)
        if self.color is not None and not (isinstance(self.color, str) and COLOR.fullmatch(self.color)):
            raise ConfigurationError(f"Pages(color=...) must be written as '#0b7285', not {self.color!r:.50}")
        object.__setattr__(self, "embed_in", _origins(self.embed_in))
        secret = self.embed_secret or os.environ.get("METERKIT_EMBED_SECRET")
        object.__setattr__(self, "embed_secret", _secrets(secret))
        if self.embed_in and not self.embed_secret:
            raise ConfigurationError(
                "Pages(embed_in=...) needs a secret that signs the tokens: set METERKIT_EMBED_SECRET or pass "
                "Pages(embed_secret=...), such as secrets.token_urlsafe(32) returns once"
            )
        object.__setattr__(self, "plans", _names(self.plans))
        if find_spec("jinja2") is None:
            raise ConfigurationError("Pages needs Jinja2: pip install 'meterkit[pages]'")

    @property
    def embedding_origins(self) -> tuple[str, ...]:
        """Origins whose pages may show the customer's page in an iframe."""
        assert isinstance(self.embed_in, tuple)
        return self.embed_in

    @property
    def embed_secrets(self) -> tuple[str, ...]:
        """Secrets of the tokens; any of them may have signed one."""
        assert isinstance(self.embed_secret, tuple)
        return self.embed_secret

    @property
    def plans_on_offer(self) -> tuple[str, ...]:
        """Names of the plans that customers may subscribe to by themselves."""
        assert isinstance(self.plans, tuple)
        return self.plans


def checked_pages(pages: Any) -> Pages | None:
    """
    Return *pages*, a `Pages` or None.

    Raises:
        ConfigurationError: It is neither.
    """
    if pages is not None and not isinstance(pages, Pages):
        raise ConfigurationError(f"pages= must be a Pages, such as Pages('/billing'), not {pages!r:.200}")
    return pages


def check_pages(pages: Pages, *, webhook: str | None, customer_page: str | None, plans: Mapping[str, Plan]) -> None:
    """
    Check that *pages* fit the rest of the kit.

    Args:
        pages: Pages to check.
        webhook: Path of the webhook endpoint, or None.
        customer_page: Path of the customer page, or None.
        plans: Plans of the kit, by name.

    Raises:
        ConfigurationError: The webhook endpoint or the customer page has the same path, or nobody can subscribe to a
            plan that is on offer.
    """
    for name in pages.plans_on_offer:
        if name not in plans:
            among = f"only {', '.join(plans)}" if plans else "because plans= is empty"
            raise ConfigurationError(f"Pages(plans=...) names {name!r:.100}, but this kit has no such plan, {among}")
        if not plans[name].lookup_keys():
            raise ConfigurationError(
                f"Pages(plans=...) names {name!r}, which has neither fee= nor prices=, so there is nothing to "
                "subscribe to; remove the name"
            )
    for name, path in (("webhook=", webhook), ("customer_page=", customer_page)):
        if path is not None and path.rstrip("/") == pages.path:
            raise ConfigurationError(f"pages= and {name} have the same path, {path!r}; change one of them")


def _check_path(path: Any) -> None:
    if (
        not isinstance(path, str)
        or not path.startswith("/")
        or path.rstrip("/") == ""
        or "//" in path
        or any(part in (".", "..") for part in path.split("/"))
        or set(path) & (UNSAFE | set("?#%"))
        or not path.isprintable()
    ):
        raise ConfigurationError(f"Pages(path) must be a plain path such as '/billing', not {path!r:.200}")


def _check_team(team: Any) -> None:
    if team is None:
        return
    if not callable(team):
        raise ConfigurationError(
            f"Pages(team=...) must be a function that takes an Exchange and returns True or False, not {team!r:.200}"
        )
    if inspect.iscoroutinefunction(team) or inspect.iscoroutinefunction(getattr(team, "__call__", None)):  # noqa: B004
        raise ConfigurationError("Pages(team=...) must be a plain function, not async: it is called in a thread")


def _check_logo(logo: Any) -> None:
    if logo is None:
        return
    is_path = isinstance(logo, str) and logo.startswith("/") and not logo.startswith("//")
    if not (is_path or _is_origin(logo, whole=False)) or set(logo) & UNSAFE or not logo.isprintable():
        raise ConfigurationError(
            f"Pages(logo=...) must be a path such as '/static/logo.svg', or an https:// URL, not {logo!r:.200}"
        )


def _origins(origins: Any) -> tuple[str, ...]:
    if isinstance(origins, str) or not isinstance(origins, Iterable):
        raise ConfigurationError(
            f"Pages(embed_in=...) must be a list such as ['https://app.example.com'], not {origins!r:.200}"
        )
    found = tuple(origins)
    for origin in found:
        if not _is_origin(origin, whole=True):
            raise ConfigurationError(
                f"Pages(embed_in=...) must list origins such as 'https://app.example.com', not {origin!r:.200}"
            )
    return found


def _is_origin(url: Any, *, whole: bool) -> bool:
    """Return whether *url* has a scheme and a host, and, if *whole*, nothing else; http only for this machine."""
    if not isinstance(url, str) or set(url) & UNSAFE or not url.isascii() or not url.isprintable():
        return False
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    host = parts.hostname or ""
    is_local = parts.scheme == "http" and host in ("localhost", "127.0.0.1")
    if (parts.scheme != "https" and not is_local) or not host or "@" in parts.netloc:
        return False
    return not whole or url == f"{parts.scheme}://{host}" + ("" if port is None else f":{port}")


def _secrets(given: Any) -> tuple[str, ...]:
    secrets = given.split(",") if isinstance(given, str) else list(given or ())
    for secret in secrets:
        if not isinstance(secret, str) or len(secret.strip()) < SHORTEST_SECRET:
            raise ConfigurationError(  # what was given is not shown
                f"Pages(embed_secret=...) must have at least {SHORTEST_SECRET} random characters, such as "
                "secrets.token_urlsafe(32) returns once"
            )
    return tuple(secret.strip() for secret in secrets)


def _names(plans: Any) -> tuple[str, ...]:
    if isinstance(plans, str) or not isinstance(plans, Iterable):
        raise ConfigurationError(f"Pages(plans=...) must be a list of names, such as ['pro'], not {plans!r:.200}")
    return tuple(plans)
