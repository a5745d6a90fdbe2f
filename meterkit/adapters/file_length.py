"""The length of a file that the server sends past the middleware, where no Content-Length says it."""

from __future__ import annotations

import os
from stat import S_ISREG
from typing import Any


def rest_of_file(wrapped: Any) -> int | None:
    """Return the bytes from the position of a file, or of what ``wsgi.file_wrapper`` made of it; None if unknown."""
    for file in (getattr(wrapped, "filelike", None), getattr(wrapped, "file", None), wrapped):
        try:
            status = os.fstat(file.fileno())  # type: ignore[union-attr]
            return max(0, status.st_size - file.tell()) if S_ISREG(status.st_mode) else None  # type: ignore[union-attr]
        except (AttributeError, OSError, ValueError, TypeError):
            continue
    return None
