"""Read the body of a WSGI request: by its length, or to its end where the server marks the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meterkit.errors import WebhookError

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


def read_input(environ: WSGIEnvironment, most: int) -> bytes:
    """
    Return the body of a request, or its first *most* bytes.

    A proxy that does not buffer sends the body in chunks, without a Content-Length. PEP 3333 forbids to read it then,
    because the input may not end; servers that end it say so in ``wsgi.input_terminated``.

    Args:
        environ: WSGI environ.
        most: Most bytes to read.

    Raises:
        WebhookError: The body has no length and its end is not marked (status 411), or it broke off (400).
    """
    length = environ.get("CONTENT_LENGTH") or ""
    if not environ.get("wsgi.input_terminated"):
        if not length and environ.get("HTTP_TRANSFER_ENCODING"):
            raise WebhookError(
                "it came in chunks, which this WSGI server does not decode; let the proxy in front of it buffer "
                "requests (nginx: proxy_request_buffering on), or use a server that sets wsgi.input_terminated, such "
                "as gunicorn",
                status=411,
            )
        # No int of thousands of digits, which Python refuses to convert.
        is_size = length.isascii() and length.isdigit() and len(length) < 20
        most = min(most, int(length)) if is_size else 0
    body = bytearray()
    try:
        while len(body) < most:
            part = environ["wsgi.input"].read(most - len(body))
            if not part:
                break
            body += part
    except Exception as error:  # servers raise errors of their own for chunks that are wrong or missing
        raise WebhookError(f"the body broke off: {type(error).__name__}", status=400) from error
    return bytes(body)
