"""Lists: those of v1 with cursors (`starting_after`, `ending_before`, `has_more`), those of v2 with URLs of pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from meterkit.sandbox.protocol.errors import invalid, no_such

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from meterkit.sandbox.protocol.routes import Call
    from meterkit.sandbox.state.account import Record

DEFAULT_LIMIT = 10
DEFAULT_LIMIT_V2 = 20


def page(call: Call, records: Sequence[Record], noun: str) -> Record:
    """
    Return one page of a list.

    Args:
        call: Request, with the cursors among its parameters.
        records: All matching records, in the order in which they are listed.
        noun: Name of the object in the error about an unknown cursor.

    Raises:
        ApiError: 400 if a cursor is not in the list, or if there are two.

    """
    limit = call.params.get("limit", DEFAULT_LIMIT)
    after, before = call.params.get("starting_after"), call.params.get("ending_before")
    if after is not None and before is not None:
        raise invalid("You cannot specify both `starting_after` and `ending_before`.", param="ending_before")
    places = {record["id"]: place for place, record in enumerate(records)}
    if before is not None:
        end = _place(places, before, noun, "ending_before")
        start = max(end - limit, 0)
        return listing(call.path, records[start:end], has_more=start > 0)
    start = 0 if after is None else _place(places, after, noun, "starting_after") + 1
    return listing(call.path, records[start : start + limit], has_more=start + limit < len(records))


def listing(url: str, data: Sequence[Record], *, has_more: bool = False) -> Record:
    """Return a list object."""
    return {"object": "list", "data": list(data), "has_more": has_more, "url": url}


def page_v2(call: Call, records: Sequence[Record], query: Mapping[str, Any]) -> Record:
    """
    Return one page of a list of v2.

    Args:
        call: Request, with the page among its parameters: the id of its first object, so new objects do not shift it.
        records: All matching records, in the order in which they are listed.
        query: Filters of the request, by encoded name, for the URLs of the other pages.

    Raises:
        ApiError: 400 if the page is not in the list.

    """
    limit = call.params.get("limit", DEFAULT_LIMIT_V2)
    first = call.params.get("page")
    start = (
        0 if first is None else _place({record["id"]: at for at, record in enumerate(records)}, first, "page", "page")
    )
    sizes = {"limit": call.params["limit"]} if "limit" in call.params else {}

    def url(place: int) -> str:
        return f"{call.path}?{urlencode({'page': records[place]['id'], **sizes, **query})}"

    return {
        "data": list(records[start : start + limit]),
        "next_page_url": url(start + limit) if start + limit < len(records) else None,
        "previous_page_url": url(max(start - limit, 0)) if start > 0 else None,
    }


def _place(places: dict[str, int], identity: str, noun: str, param: str) -> int:
    if identity not in places:
        raise no_such(noun, identity, param=param)
    return places[identity]
