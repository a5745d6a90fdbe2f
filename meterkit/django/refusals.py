"""What a response that blocks a request says, for frameworks that shape their own error responses."""

from __future__ import annotations

import json

from django.http import HttpResponse


def problem_of(blocked: HttpResponse) -> tuple[str, str]:
    """
    Return the sentence for the client and the reason, such as ``overdue``, of a response that blocks a request.

    Where the kit has a body of its own for it (``Refusal(body=...)``), the sentence is the status's name, unless that
    body is JSON with a ``detail``; the reason is ``blocked``, unless it has a ``reason``.
    """
    try:
        problem = json.loads(blocked.content)
    except ValueError:
        problem = None
    found = problem if isinstance(problem, dict) else {}
    return str(found.get("detail") or blocked.reason_phrase), str(found.get("reason") or "blocked")
