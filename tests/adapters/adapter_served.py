"""What the real servers serve: the small app in each framework, with the kit of the directory in the environment."""

from __future__ import annotations

import os
from typing import Any

from adapter_django import django_handler
from adapter_drivers import LOG
from adapter_stacks import STACKS, Stack

from meterkit import Meter, MeterKit, Webhook

kit = MeterKit(
    meters=[
        Meter("succeeded", path="*"),
        Meter("broke", path="*", status="5xx"),
        Meter("bytes", path="*", value="response_bytes"),
    ],
    identify=lambda exchange: "acme",
    webhook=Webhook("/stripe/webhook", secret="whsec_of_this_endpoint"),
    flush_interval=3600.0,
)


def with_log(stack: Stack) -> Any:
    metered = django_handler(kit, is_async=stack.is_async) if "django" in stack.name else stack.make(kit)
    if not stack.is_async:
        return lambda environ, start_response: metered({**environ, LOG: []}, start_response)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope[LOG] = []
        # Some uvicorns promise 2.4, that send() raises when the client is gone, and do not keep it.
        scope["asgi"] = {**scope["asgi"], "spec_version": "2.3"}
        if scope["type"] == "http" or not ("django" in stack.name or stack.name == "asgi"):
            await metered(scope, receive, send)

    return app


app = with_log(next(stack for stack in STACKS if stack.name == os.environ.get("TEST_STACK", "wsgi")))
