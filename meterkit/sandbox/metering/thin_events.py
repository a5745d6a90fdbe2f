"""Thin events of v2: small and unversioned; the receiver fetches the object, and `data`, from the API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meterkit.sandbox.protocol.errors import no_such
from meterkit.sandbox.protocol.lists import page_v2
from meterkit.sandbox.protocol.params import Array, Integer, Rule, Text, within
from meterkit.sandbox.protocol.routes import Call, Route
from meterkit.sandbox.protocol.timestamps import MomentSpan, rfc3339

if TYPE_CHECKING:
    from meterkit.sandbox.state.account import Account, Record

KIND = "v2.core.event"
LIFETIME = 30 * 24 * 3600
FIELDS: dict[str, Rule] = {
    "created": MomentSpan(),
    "limit": Integer(1, 100),
    "object_id": Text(),
    "page": Text(),
    "types": Array(Text(), 20),
}


def announce(
    account: Account, name: str, data: Record | None, related: Record | None, *, only: str | None = None
) -> Record:
    """
    Store a thin event, deliver it, and return it; `body_of` is the body that is delivered.

    Args:
        account: Account in which it happened.
        name: Type of the event, such as `v1.billing.meter.error_report_triggered`.
        data: Data of the event, which is included only when it is fetched; None if it has none.
        related: `id`, `type` and `url` of the related object, or None.
        only: Id of the one endpoint that it is delivered to, whatever that listens to; None for those that listen.

    """
    event: Record = {
        "id": account.new_id(KIND),
        "object": KIND,
        "changes": None,
        "context": account.context,
        "created": rfc3339(account.now),
        "livemode": account.switches.livemode,
        "reason": None,  # time closes a window, not a request
        "snapshot_event": None,
        "type": name,
        "_created": account.now,
        "_only": only,
    }
    if data is not None:
        event["data"] = data
    if related is not None:
        event["related_object"] = related
    account.add(event)
    if account.on_event is not None:
        account.on_event(event)
    return event


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
    return page_v2(call, records, _query(params))


def _remembered(account: Account, event: Record) -> bool:
    return bool(account.now < event["_created"] + LIFETIME)


def _query(params: dict[str, Any]) -> dict[str, Any]:
    query: dict[str, Any] = {"object_id": params["object_id"]} if "object_id" in params else {}
    query |= {f"types[{index}]": text for index, text in enumerate(params.get("types", ()))}
    return query | {f"created[{bound}]": rfc3339(moment) for bound, moment in params.get("created", {}).items()}


ROUTES = [
    Route("GET", "/v2/core/events/{id}", retrieve),
    Route("GET", "/v2/core/events", list_all, FIELDS),
]
