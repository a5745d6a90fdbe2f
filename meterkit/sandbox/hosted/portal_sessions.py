"""Sessions of the customer portal: a short-lived URL that needs no password."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meterkit.sandbox.hosted import portal_configurations
from meterkit.sandbox.protocol.errors import invalid, missing_parameter
from meterkit.sandbox.protocol.params import Rule, Text, Url
from meterkit.sandbox.protocol.routes import Call, Route

if TYPE_CHECKING:
    from meterkit.sandbox.state.account import Account, Record

KIND = "billing_portal.session"
UNUSED, IDLE = 5 * 60, 3600
"""Seconds until a session ends that nobody has opened, and after the last time that somebody did."""

CREATE: dict[str, Rule] = {
    "configuration": Text(),
    "customer": Text(),
    "locale": Text(10),
    "return_url": Url(),
}


def create(account: Account, call: Call) -> Record:
    """Create a session; its `url` is a page of this sandbox."""
    params = call.params
    if "customer" not in params:
        raise missing_parameter("customer")
    customer = account.get("customer", params["customer"], param="customer")
    if "configuration" in params:
        configuration = account.get(portal_configurations.KIND, params["configuration"], param="configuration")
        if not configuration["active"]:
            raise invalid("The configuration is inactive.", param="configuration")
    else:
        configuration = portal_configurations.default(account)
    identity = account.new_id(KIND)
    record = account.add(
        {
            "id": identity,
            "object": KIND,
            "after_expiration": None,
            "configuration": configuration["id"],
            "created": account.now,
            "customer": customer["id"],
            "customer_account": None,
            "flow": None,
            "livemode": account.switches.livemode,
            "locale": params.get("locale"),
            "on_behalf_of": None,
            "return_url": params.get("return_url", configuration["default_return_url"]),
            "url": f"{account.url}/p/session/{identity}",
            "_ends": account.now + UNUSED,
        }
    )
    account.announce("billing_portal.session.created", record)
    return record


def touch(account: Account, session: Record) -> bool:
    """Return whether the session is still alive, and prolong it."""
    if account.now >= session["_ends"]:
        return False
    session["_ends"] = account.now + IDLE
    return True


ROUTES = [Route("POST", "/v1/billing_portal/sessions", create, CREATE)]
