"""Event destinations of v2: webhook endpoints that are sent thin events or snapshots."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meterkit.sandbox.metering import thin_events
from meterkit.sandbox.platform.endpoints import ACCOUNTS, DESTINATION, SELF, check_events, new_secret
from meterkit.sandbox.platform.webhook_endpoints import Version
from meterkit.sandbox.protocol.errors import invalid, missing_parameter
from meterkit.sandbox.protocol.lists import page_v2
from meterkit.sandbox.protocol.params import Array, Choice, Dictionary, Integer, Object, Rule, Text, Url, merged
from meterkit.sandbox.protocol.routes import Call, Route
from meterkit.sandbox.protocol.timestamps import rfc3339

if TYPE_CHECKING:
    from meterkit.sandbox.state.account import Account, Record

SECRET, URL = "webhook_endpoint.signing_secret", "webhook_endpoint.url"
_WEBHOOK = Object({"url": Url(required=True)})
_EVENTS = Array(Text(), longest=1000)
CREATE: dict[str, Rule] = {
    "description": Text(),
    "enabled_events": Array(Text(), longest=1000, required=True),
    "event_payload": Choice(("snapshot", "thin"), required=True),
    "events_from": Array(Choice((SELF, ACCOUNTS))),
    "include": Array(Choice((SECRET, URL))),
    "metadata": Dictionary(),
    "name": Text(required=True),
    "snapshot_api_version": Version(),
    "type": Choice(("webhook_endpoint",), required=True),  # neither Amazon EventBridge nor Azure Event Grid
    "webhook_endpoint": _WEBHOOK,
}
READ: dict[str, Rule] = {"include": Array(Choice((URL,)))}
UPDATE: dict[str, Rule] = {
    **READ,
    "description": Text(),
    "enabled_events": _EVENTS,
    "metadata": Dictionary(nulls=True),
    "name": Text(),
    "webhook_endpoint": _WEBHOOK,
}


def create(account: Account, call: Call) -> Record:
    """Create a destination; the secret is returned here only, and only if `include` names it."""
    return _shown(build(account, call.params), call)


def build(account: Account, params: dict[str, Any], *, secret: str | None = None) -> Record:
    """Store a new destination, and return its record."""
    if "webhook_endpoint" not in params:
        raise missing_parameter("webhook_endpoint")
    thin = params["event_payload"] == "thin"
    if thin and "snapshot_api_version" in params:
        raise invalid("`snapshot_api_version` needs `event_payload=snapshot`.", param="snapshot_api_version")
    if not thin and "snapshot_api_version" not in params:
        raise missing_parameter("snapshot_api_version")
    now = rfc3339(account.now)
    return account.add(
        {
            "id": account.new_id(DESTINATION),
            "object": DESTINATION,
            "amazon_eventbridge": None,
            "azure_event_grid": None,
            "created": now,
            "description": params.get("description", ""),
            "enabled_events": check_events(params["enabled_events"], "enabled_events"),
            "event_payload": params["event_payload"],
            "events_from": params.get("events_from", [SELF]),
            "livemode": account.switches.livemode,
            "metadata": merged({}, params.get("metadata", {})),
            "name": params["name"],
            "snapshot_api_version": params.get("snapshot_api_version"),
            "status": "enabled",
            "status_details": None,
            "type": params["type"],
            "updated": now,
            "_from": tuple(params.get("events_from", [SELF])),
            "_secrets": [secret or new_secret()],
            "_url": params["webhook_endpoint"]["url"],
        }
    )


def retrieve(account: Account, call: Call) -> Record:
    """Return one destination."""
    return _shown(account.get(DESTINATION, call.id), call)


def update(account: Account, call: Call) -> Record:
    """Change the fields that were sent."""
    record, params = account.get(DESTINATION, call.id), call.params
    values: Record = {name: params[name] for name in ("description", "name") if name in params}
    if "enabled_events" in params:
        values["enabled_events"] = check_events(params["enabled_events"], "enabled_events")
    if "metadata" in params:
        values["metadata"] = merged(record["metadata"], params["metadata"])
    if "webhook_endpoint" in params:
        values["_url"] = params["webhook_endpoint"]["url"]
    record.update(values, updated=rfc3339(account.now))
    return _shown(record, call)


def disable(account: Account, call: Call) -> Record:
    """Stop sending to a destination."""
    return _switch(account, call, "disabled", {"disabled": {"reason": "user"}})


def enable(account: Account, call: Call) -> Record:
    """Send to a destination again."""
    return _switch(account, call, "enabled", None)


def ping(account: Account, call: Call) -> Record:
    """Send a test event to a destination, whatever it listens to."""
    record = account.get(DESTINATION, call.id)
    related = {"id": record["id"], "type": DESTINATION, "url": f"/v2/core/event_destinations/{record['id']}"}
    return thin_events.announce(account, "v2.core.event_destination.ping", None, related, only=record["id"])


def delete(account: Account, call: Call) -> Record:
    """Delete a destination: nothing more is sent to it."""
    record = account.get(DESTINATION, call.id)
    record["deleted"] = True
    return {"id": record["id"], "object": DESTINATION}


def list_all(account: Account, call: Call) -> Record:
    """Return destinations, newest first; `next_page_url` is the next page."""
    query = {f"include[{index}]": name for index, name in enumerate(call.params.get("include", ()))}
    listed = page_v2(call, list(reversed(account.all(DESTINATION))), query)
    return {**listed, "data": [_shown(record, call) for record in listed["data"]]}


def _switch(account: Account, call: Call, status: str, details: Record | None) -> Record:
    record = account.get(DESTINATION, call.id)
    record.update(status=status, status_details=details, updated=rfc3339(account.now))
    return _shown(record, call)


def _shown(record: Record, call: Call) -> Record:
    """Return a destination with the fields that `include` names; the others of its kind are null."""
    included = call.params.get("include", ())
    return {
        **record,
        "webhook_endpoint": {
            "signing_secret": record["_secrets"][0] if SECRET in included else None,
            "url": record["_url"] if URL in included else None,
        },
    }


_ALL = "/v2/core/event_destinations"
_ONE = f"{_ALL}/{{id}}"
ROUTES = [
    Route("POST", _ALL, create, CREATE),
    Route("GET", _ALL, list_all, {**READ, "limit": Integer(1, 100), "page": Text()}),
    Route("GET", _ONE, retrieve, READ),
    Route("POST", _ONE, update, UPDATE),
    Route("DELETE", _ONE, delete),
    Route("POST", f"{_ONE}/disable", disable),
    Route("POST", f"{_ONE}/enable", enable),
    Route("POST", f"{_ONE}/ping", ping),
]
