"""Who is sent an event: webhook endpoints of v1 and event destinations of v2, seen as one kind of thing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from meterkit.sandbox.protocol.errors import invalid
from meterkit.sandbox.state.account import fresh_id

if TYPE_CHECKING:
    from collections.abc import Iterable

    from meterkit.sandbox.state.account import Account, Record

WEBHOOK = "webhook_endpoint"
DESTINATION = "v2.core.event_destination"
_TYPE = re.compile(r"\*|[a-z0-9_]+(\.[a-z0-9_]+)+", re.ASCII)
SELF, ACCOUNTS = "@self", "@accounts"


class Endpoint:
    """
    One endpoint that events are sent to: a view of its record, which the API changes.

    Args:
        record: A `webhook_endpoint`, or an event destination with a webhook endpoint.

    """

    def __init__(self, record: Record) -> None:
        self._record = record

    @property
    def id(self) -> str:
        """Id of the endpoint, ``we_...``, or of the event destination, ``ed_...``."""
        return str(self._record["id"])

    @property
    def url(self) -> str:
        """URL that events are sent to."""
        record = self._record
        return str(record["url"] if record["object"] == WEBHOOK else record["_url"])

    @property
    def events(self) -> tuple[str, ...]:
        """Event types that are sent, or ``*`` for all."""
        return tuple(self._record["enabled_events"])

    @property
    def thin(self) -> bool:
        """Whether thin events are sent, instead of snapshots."""
        return self._record.get("event_payload") == "thin"

    @property
    def version(self) -> str | None:
        """Version of the API that snapshots are labelled with; None for the account's."""
        record = self._record
        version: str | None = record["api_version" if record["object"] == WEBHOOK else "snapshot_api_version"]
        return version

    @property
    def secrets(self) -> list[str]:
        """Secrets that sign each delivery, newest first; two while one is being rolled."""
        secrets: list[str] = self._record["_secrets"]
        return secrets

    @property
    def secret(self) -> str:
        """The newest secret, ``whsec_...``."""
        return self.secrets[0]

    @property
    def open(self) -> bool:
        """Whether anything is sent: it is neither disabled nor deleted."""
        return self._record["status"] == "enabled" and not self._record.get("deleted")

    def roll(self) -> str:
        """Add a new secret, and return it; the old one also signs until `retire`."""
        self.secrets.insert(0, new_secret())
        return self.secret

    def retire(self) -> None:
        """Remove all secrets but the newest."""
        del self.secrets[1:]

    def wants(self, event: Record) -> bool:
        """Return whether the event is sent to this endpoint."""
        addressed = event.get("_only")
        if addressed is not None or not self.open:
            return self.open and addressed == self.id
        kinds = ("*", event["type"])
        return self.thin is (event["object"] == "v2.core.event") and any(kind in self.events for kind in kinds)

    def hears(self, source: str) -> bool:
        """Return whether events from `SELF` or from connected `ACCOUNTS` are sent to this endpoint."""
        return source in self._record["_from"]


def endpoints_of(account: Account) -> list[Endpoint]:
    """Return the endpoints of an account, those of v1 first."""
    return [Endpoint(record) for kind in (WEBHOOK, DESTINATION) for record in account.all(kind)]


def new_secret() -> str:
    """Return a new signing secret."""
    return fresh_id("whsec_", 32)


def check_events(events: Iterable[str], param: str) -> list[str]:
    """
    Return the event types of an endpoint. Which ones Stripe has, the sandbox does not know.

    Raises:
        ApiError: 400 if there are none, or if one is not the name of an event.

    """
    chosen = list(events)
    for place, each in enumerate(chosen):
        if not _TYPE.fullmatch(each):
            raise invalid(f"Invalid {param}[{place}]: {each} is not an event type.", param=f"{param}[{place}]")
    if not chosen:
        raise invalid(f"You must set `{param}`; use `['*']` for all events.", param=param)
    return chosen
