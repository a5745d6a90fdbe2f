"""Security headers of the pages, and the check that a POST comes from one of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

STRIPE_PAGES = ("https://checkout.stripe.com", "https://billing.stripe.com")
"""Stripe's pages, to which a form of ours may lead: browsers apply ``form-action`` to redirects as well."""


def headers_of_page(
    *,
    images: Iterable[str] = (),
    forms_lead_to: Iterable[str] = (),
    framed_by: Iterable[str] = (),
    is_embedded: bool = False,
) -> list[tuple[str, str]]:
    """
    Return the headers of an HTML page.

    Args:
        images: Origins of images besides the page's own.
        forms_lead_to: Origins to which forms lead besides the page's own.
        framed_by: Origins whose pages may show this one in an iframe.
        is_embedded: Whether the address has a token: such a page has no forms, and tells nobody its address.
    """
    policy = {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", *images],
        "font-src": ["'self'"],
        "connect-src": ["'self'"],
        "form-action": ["'none'"] if is_embedded else ["'self'", *forms_lead_to],
        "base-uri": ["'none'"],
        "frame-ancestors": list(framed_by) or ["'none'"],
    }
    return [
        ("Content-Security-Policy", "; ".join(f"{name} {' '.join(values)}" for name, values in policy.items())),
        ("Referrer-Policy", "no-referrer" if is_embedded else "same-origin"),
    ]


def origin_of(url: str) -> str:
    """Return the origin of an absolute *url*."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def is_from_elsewhere(headers: Mapping[str, str]) -> bool:
    """
    Return whether a browser sent the request from a page of another site, or cannot say that it did not.

    ``Sec-Fetch-Site`` is the browser's own word; older browsers, and all without TLS, send only ``Origin``.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site != "same-origin"
    try:
        origin = urlsplit(headers.get("origin", "")).netloc.lower()
    except ValueError:
        return True
    # A proxy may rewrite Host. Neither header can be set by a form or a script of another site.
    hosts = {headers.get(name, "").strip().lower() for name in ("host", "x-forwarded-host")}
    return not origin or origin not in hosts
