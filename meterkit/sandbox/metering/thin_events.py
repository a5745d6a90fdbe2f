"""Thin events of v2: small and unversioned; the receiver fetches the object, and `data`, from the API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from meterkit.sandbox.protocol.errors import no_such
from meterkit.sandbox.protocol.params import Array, Integer, Rule, Text, within
from meterkit.sandbox.protocol.routes import Call, Route
from meterkit.sandbox.protocol.timestamps import MomentSpan, rfc3339

if TYPE_CHECKING:
    from meterkit.sandbox.state.account import Account, Record

KIND = "v2.core.event"
LIFETIME = 30 * 24 * 3600
DEFAULT_LIMIT = 20
FIELDS: dict[str, Rule] = {
    "created": MomentSpan(),
    "limit": Integer(1, 100),
    "object_id": Text(),
    "page": Text(),
    "types": Array(Text(), 20),
}


def announce(account: Account, name: str, data: Record, related: Record | None) -> None:
    """
    Store a thin event, and deliver it; `body_of` is the body that is delivered.

    Args:
        account: Account in which it happened.
        name: Type of the event, such as `v1.billing.meter.error_report_triggered`.
        data: Data of the event, which is included only when it is fetched.
        related: `id`, `type` and `url` of the related object, or None.

    """
    event: Record = {
        "id": account.new_id(KIND),
        "object": KIND,
        "changes": None,
        "context": None,
        "created": rfc3339(account.now),
        "livemode": account.switches.livemode,
        "reason": None,  # time closes a window, not a request
        "snapshot_event": None,
        "type": name,
        "data": data,
        "_created": account.now,
    }
    if related is not None:
        event["related_object"] = related
    account.add(event)
    if account.on_event is not None:
        account.on_event(event)


def body_of(event: Record) -> Record:
    """Return the body of a thin event as it is delivered, without what the receiver fetches."""
    return {name: item for name, item in event.items() if name not in ("data", "changes") and not name.startswith("_")}


def retrieve(account: Account, call: Call) -> Record:
    """Return one event, if it is at most 30 days old."""
    event = account.get(KIND, call.id)
    if not _remembered(account, event):
        raise no_such("event", call.id)
    return event


def list_all(account: Account, call: Call) -> Record:
    """Return the events of the last 30 days, newest first; `next_page_url` is the next page."""
    params = call.params
    types, about = params.get("types"), params.get("object_id")
    created = {bound: moment.timestamp() for bound, moment in params.get("created", {}).items()}
    records = [
        event
        for event in reversed(account.all(KIND))
        if _remembered(account, event)
        and (types is None or event["type"] in types)
        and (about is None or event.get("related_object", {}).get("id") == about)
        and within(event["_created"], created)
    ]
    limit = params.get("limit", DEFAULT_LIMIT)
    start = _start(records, params.get("page"))
    pages = {"next_page_url": start + limit, "previous_page_url": max(start - limit, 0)}
    exists = {"next_page_url": start + limit < len(records), "previous_page_url": start > 0}
    urls = {name: _url(call, records[place]["id"]) if exists[name] else None for name, place in pages.items()}
    return {"data": records[start : start + limit], **urls}


def _remembered(account: Account, event: Record) -> bool:
    return bool(account.now < event["_created"] + LIFETIME)


def _start(records: list[Record], page: str | None) -> int:
    """Return the index of a page's first event; a page has that event's id, so new events do not shift it."""
    if page is None:
        return 0
    for place, event in enumerate(records):
        if event["id"] == page:
            return place
    raise no_such("page", page, param="page")


def _url(call: Call, page: str) -> str:
    query: dict[str, Any] = {"page": page}
    for name in ("limit", "object_id"):
        if name in call.params:
            query[name] = call.params[name]
    query |= {f"types[{index}]": text for index, text in enumerate(call.params.get("types", ()))}
    query |= {f"created[{bound}]": rfc3339(moment) for bound, moment in call.params.get("created", {}).items()}
    return f"{call.path}?{urlencode(query)}"


ROUTES = [
    Route("GET", "/v2/core/events/{id}", retrieve),
    Route("GET", "/v2/core/events", list_all, FIELDS),
]
