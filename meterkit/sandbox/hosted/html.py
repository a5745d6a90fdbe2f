"""HTML with every value escaped, and the look of the sandbox's pages."""

from __future__ import annotations

from html import escape

from meterkit.sandbox.protocol.frame import Reply


class Safe(str):
    """Text that is HTML already, and is not escaped again."""

    __slots__ = ()


_STYLE = Safe(
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:34rem;margin:3rem auto;padding:0 1rem;color:#1a1f36}"
    "table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.4rem .6rem .4rem 0}"
    "label{display:block;margin:.8rem 0 .2rem}input{font:inherit;padding:.4rem;width:100%;box-sizing:border-box}"
    "button{font:inherit;margin-top:1rem;padding:.5rem 1.2rem;cursor:pointer}"
    ".error{color:#b3093c}.test{color:#6b7280;font-size:.85rem}"
)
_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
<style>{style}</style></head>
<body>
<p class="test">meterkit sandbox: no card is charged. 4242 4242 4242 4242 pays; 4000 0000 0000 0341 fails later.</p>
<h1>{title}</h1>
{body}
</body>
</html>
"""
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'",
    "Content-Type": "text/html; charset=utf-8",
    "Referrer-Policy": "no-referrer",
}


def fill(template: str, **values: object) -> Safe:
    """Return a template with its values, escaped unless they are `Safe`."""
    return Safe(
        template.format_map(
            {name: value if isinstance(value, Safe) else escape(str(value)) for name, value in values.items()}
        )
    )


def joined(parts: list[Safe]) -> Safe:
    """Return pieces of HTML, one after another."""
    return Safe("\n".join(parts))


def error(text: str | None) -> Safe:
    """Return a paragraph with an error; nothing if there is none."""
    return Safe("") if text is None else fill('<p class="error" role="alert">{text}</p>', text=text)


def page(title: str, body: Safe, *, status: int = 200) -> Reply:
    """Return a web page as a response."""
    return Reply(status, fill(_PAGE, title=title, style=_STYLE, body=body).encode(), _HEADERS)


def redirect(url: str) -> Reply:
    """Return a redirection after a form was sent: the browser GETs *url*."""
    return Reply(303, b"", {"Location": url, "Cache-Control": "no-store"})
