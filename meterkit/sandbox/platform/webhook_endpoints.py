"""Webhook endpoints of v1, which are sent snapshots."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from meterkit.sandbox.platform.endpoints import ACCOUNTS, SELF, WEBHOOK, check_events, new_secret
from meterkit.sandbox.protocol.errors import malformed
from meterkit.sandbox.protocol.lists import page
from meterkit.sandbox.protocol.params import METADATA, PAGE, Array, Boolean, Rule, Text, Url, merged
from meterkit.sandbox.protocol.routes import Call, Route

if TYPE_CHECKING:
    from meterkit.sandbox.state.account import Account, Record

_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}(\.\w+)?", re.ASCII)


@dataclass(frozen=True)
class Version(Rule):
    """A version of the API."""

    def parse(self, value: object, name: str) -> str:
        """Return the version itself."""
        text = Text().parse(value, name)
        if not _VERSION.fullmatch(text):
            raise malformed(f"Invalid Stripe API version: {text}", param=name)
        return text


CREATE: dict[str, Rule] = {
    "api_version": Version(),
    "connect": Boolean(),
    "description": Text(5000, nullable=True),
    "enabled_events": Array(Text(), longest=1000, required=True),
    "metadata": METADATA,
    "url": Url(required=True),
}
UPDATE: dict[str, Rule] = {
    "description": Text(5000, nullable=True),
    "disabled": Boolean(),
    "enabled_events": Array(Text(), longest=1000),
    "metadata": METADATA,
    "url": Url(),
}


def create(account: Account, call: Call) -> Record:
    """Create an endpoint; only this response has its secret."""
    record = build(account, call.params)
    return {**record, "secret": record["_secrets"][0]}


def build(account: Account, params: dict[str, Any], *, secret: str | None = None) -> Record:
    """Store a new endpoint, and return its record."""
    return account.add(
        {
            "id": account.new_id(WEBHOOK),
            "object": WEBHOOK,
            "api_version": params.get("api_version"),
            "application": None,
            "created": account.now,
            "description": params.get("description"),
            "enabled_events": check_events(params["enabled_events"], "enabled_events"),
            "livemode": account.switches.livemode,
            "metadata": merged({}, params.get("metadata")),
            "status": "enabled",
            "url": params["url"],
            "_from": (ACCOUNTS,) if params.get("connect") else (SELF,),
            "_secrets": [secret or new_secret()],
        }
    )


def retrieve(account: Account, call: Call) -> Record:
    """Return one endpoint."""
    return account.get(WEBHOOK, call.id)


def update(account: Account, call: Call) -> Record:
    """Change the fields that were sent."""
    record, params = account.get(WEBHOOK, call.id), call.params
    values: Record = {name: params[name] for name in ("description", "url") if name in params}
    if "enabled_events" in params:
        values["enabled_events"] = check_events(params["enabled_events"], "enabled_events")
    if "metadata" in params:
        values["metadata"] = merged(record["metadata"], params["metadata"])
    if "disabled" in params:
        values["status"] = "disabled" if params["disabled"] else "enabled"
    record.update(values)
    return record


def delete(account: Account, call: Call) -> Record:
    """Delete an endpoint: nothing more is sent to it."""
    record = account.get(WEBHOOK, call.id)
    record["deleted"] = True
    return {"id": record["id"], "object": WEBHOOK, "deleted": True}


def list_all(account: Account, call: Call) -> Record:
    """Return endpoints, newest first."""
    return page(call, list(reversed(account.all(WEBHOOK))), "webhook endpoint")


ROUTES = [
    Route("POST", "/v1/webhook_endpoints", create, CREATE),
    Route("GET", "/v1/webhook_endpoints", list_all, PAGE),
    Route("GET", "/v1/webhook_endpoints/{id}", retrieve),
    Route("POST", "/v1/webhook_endpoints/{id}", update, UPDATE),
    Route("DELETE", "/v1/webhook_endpoints/{id}", delete),
]
